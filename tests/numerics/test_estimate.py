"""Estimates print what they hold in a few words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.numerics import Estimate


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(jnp.array(1.5), np.float64(0.25)), "Estimate(value=1.5, error=0.25)"),
        (Estimate(np.array([1.0, np.nan])), "Estimate(value=[1.0, nan], error=0.0)"),
        (Estimate(np.full((3, 4), np.nan)), "Estimate(value=<shape (3, 4), none finite>, error=0.0)"),
        (Estimate(np.linspace(-1.0, 1.0, 12).reshape(3, 4)), "Estimate(value=<shape (3, 4), -1 to 1>, error=0.0)"),
        (Estimate(None, None), "Estimate(value=None, error=None)"),
    ],
    ids=range(5),
)
def test_what_is_printed(estimate, text):
    assert repr(estimate) == text


def test_a_traced_value_prints_too():
    seen = []
    jax.make_jaxpr(lambda x: (seen.append(repr(Estimate(x))), x)[1])(1.0)
    assert seen[0].startswith("Estimate(value=")
