"""Matrix Bernstein against exact tails, its inverse, and what it refuses."""

import numpy as np
import pytest
from scipy.stats import binom

from widthwise.claims import Status, check
from widthwise.theory.concentration import bernstein
from widthwise.theory.concentration.bernstein_claims import CLAIMS, one_dimension, printed_tail

CLAIM = {claim.id: claim for claim in CLAIMS}


def test_the_printed_bound_is_false_in_one_dimension():
    """400 signs are beyond 40 exactly where there are more than 220 of one kind, or fewer than 180."""
    exact = 2.0 * binom.sf(220, 400, 0.5)
    assert exact == pytest.approx(0.0402307, abs=0.5e-7)
    assert printed_tail(one_dimension()).value == pytest.approx(0.0208382, abs=0.5e-7)
    assert one_dimension().bound().tail(40.0) == pytest.approx(0.2887, abs=0.5e-4)
    assert printed_tail(one_dimension()).value < exact < one_dimension().bound().tail(40.0)


@pytest.mark.parametrize("repeats", [1, 7, 50, 400])
def test_the_bound_is_above_every_exact_tail_of_signs(repeats):
    bound, t = bernstein(float(repeats), 1.0), np.arange(repeats + 1.0)
    beyond = binom.sf(np.ceil((repeats + t) / 2) - 1, repeats, 0.5)
    assert np.all(np.minimum(2.0 * beyond, 1.0) <= bound.tail(t) * (1 + 1e-12))


@pytest.mark.parametrize("shape", [(1, 1), (15, 15), (3, 1000)])
@pytest.mark.parametrize("delta", [0.5, 0.05, 1e-12])
@pytest.mark.parametrize(("variance", "largest"), [(1.0, 0.0), (0.0, 2.0), (3.0, 0.5)])
def test_the_radius_inverts_the_tail(shape, delta, variance, largest):
    bound = bernstein(variance, largest, shape)
    # The exponent, at most 40, is right to some ulps of itself.
    np.testing.assert_allclose(bound.tail(bound.radius(delta)), delta, rtol=1e-13)


def test_without_a_bound_nothing_is_said():
    nothing = bernstein(1.0, np.inf, (2, 2))
    assert nothing.radius(0.1) == nothing.mean == np.inf
    assert nothing.tail(1e9) == 1.0


def test_without_spread_there_is_no_deviation():
    zero = bernstein(0.0, 0.0, (2, 2))
    np.testing.assert_array_equal(zero.tail([0.0, 1e-9, np.inf]), [1.0, 0.0, 0.0])
    assert zero.radius(0.1) == 0.0


def test_the_tail_falls_and_is_a_probability():
    tail = bernstein(2.0, 1.0, (4, 5)).tail(np.linspace(0.0, 30.0, 301))
    assert tail[0] == 1.0
    assert np.all(np.diff(tail) <= 0)
    assert np.all((tail >= 0) & (tail <= 1))


@pytest.mark.parametrize(("variance", "largest"), [(-1.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.nan)])
def test_variances_and_bounds_are_at_least_zero(variance, largest):
    with pytest.raises(ValueError, match=r"Both are at least 0\. Give the norm"):
        bernstein(variance, largest)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, np.nan])
def test_a_probability_lies_between_zero_and_one(delta):
    with pytest.raises(ValueError, match=r"lies between 0 and 1\. Give for example delta=0.05"):
        bernstein(1.0, 1.0).radius(delta)


@pytest.mark.parametrize("t", [-1.0, np.nan, [1.0, -2.0]])
def test_a_distance_is_at_least_zero(t):
    with pytest.raises(ValueError, match="A distance is at least 0"):
        bernstein(1.0, 1.0).tail(t)


@pytest.mark.parametrize("shape", [(0, 1), (1, -1), (1.5, 2)])
def test_a_shape_is_of_whole_numbers(shape):
    with pytest.raises((ValueError, TypeError)):
        bernstein(1.0, 1.0, shape)


def test_the_claims_hold_in_one_dimension():
    assert check(CLAIM["LAZY-35"], one_dimension()).status is Status.HOLDS
    assert check(CLAIM["LAZY-35b"], one_dimension()).status is Status.HOLDS
