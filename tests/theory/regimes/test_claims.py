"""The bound behind the claim that certified training is measured lazy."""

import math

import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy.examples import network
from widthwise.theory.regimes import kernel_change_bound


def test_the_bound_is_attained_to_first_order_by_the_extremal_map():
    """For f = w - w^2/2 the kernel falls by h of its size, which is 2q - q^2 where the bound is 2q + q^2."""
    for h in (1e-6, 1e-3, 0.5, 1.0):
        q = 1.0 - math.sqrt(1.0 - h)
        assert kernel_change_bound(h, 1.0) == pytest.approx(h + 2 * q**2, rel=1e-9)


def test_it_grows_with_h_falls_with_kappa_and_ends_at_one():
    values = [kernel_change_bound(h, 3.0) for h in np.linspace(0.0, 1.0, 11)]
    assert np.all(np.diff(values) > 0)
    assert values[-1] == pytest.approx(2 / 3 + 1 / 9)
    assert kernel_change_bound(0.5, 30.0) < kernel_change_bound(0.5, 3.0)
    assert math.isnan(kernel_change_bound(1.01, 3.0))


@pytest.mark.slow
def test_the_claims_take_problems_of_a_user_or_say_why_not():
    assert check("LAZY-3b", network()).status is Status.HOLDS
    refused = check("LAZY-3c", network())
    assert refused.status is Status.NOT_APPLICABLE
    assert "lazy_phase_diagram" in refused.reasons[0]
