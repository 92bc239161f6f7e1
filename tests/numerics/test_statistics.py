"""Means, intervals, exponents and Gaussian rules."""

import math

import numpy as np
import pytest

from widthwise.numerics import (
    binomial_interval,
    bootstrap_interval,
    exponent,
    exponent_estimate,
    hermite_rule,
    mean_and_sem,
)


def test_the_standard_error_is_that_of_the_mean():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=10_000)
    result = mean_and_sem(draws)
    assert result.error == pytest.approx(2.0 / 100, rel=0.05)
    assert abs(result.value - 3.0) < 5 * result.error


def test_one_draw_has_no_finite_error():
    assert math.isinf(mean_and_sem([2.0]).error)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="no draws"):
        mean_and_sem([])


def test_wilson_interval_covers_at_its_level():
    rng, hits = np.random.default_rng(1), 0
    for successes in rng.binomial(40, 0.9, size=2000):
        low, high = binomial_interval(int(successes), 40)
        hits += low <= 0.9 <= high
    # Wilson's interval is nominal on average over p; at one p its coverage is within a few percent.
    assert 0.92 < hits / 2000 < 0.99


def test_extreme_counts_stay_inside_the_unit_interval():
    assert binomial_interval(0, 5)[0] == 0.0
    assert binomial_interval(5, 5)[1] == 1.0
    with pytest.raises(ValueError, match="6 successes in 5"):
        binomial_interval(6, 5)


def test_bootstrap_is_deterministic_for_a_seed():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, np.mean) == bootstrap_interval(values, np.mean)


def test_exponents_need_four_positive_sizes():
    with pytest.raises(ValueError, match=r"[Aa]t least 4 sizes"):
        exponent([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="positive"):
        exponent([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.0, 4.0])


def test_the_error_of_an_exponent_covers_it():
    sizes, rng = np.array([16.0, 32, 64, 128, 256]), np.random.default_rng(2)
    draws = sizes**-1.0 * (1 + 2 / sizes) * (1 + 0.2 * rng.normal(size=(100, 5)))
    fitted = exponent_estimate(sizes, draws)
    assert abs(fitted.value + 1.0) < 5 * fitted.error
    assert 0.01 < fitted.error < 0.2


@pytest.mark.parametrize("degree", [3, 40, 300, 2000])
def test_hermite_coefficients_of_a_wave(degree):
    """E[(cos aX + sin aX) h_k(X)] = exp(-a^2/2) a^k / sqrt(k!) with signs + + - - repeating."""
    nodes, transform = hermite_rule(degree)
    k = np.arange(degree)
    size = np.exp(-4.5 + k * np.log(3.0) - 0.5 * np.array([math.lgamma(j + 1.0) for j in k]))
    wanted = size * np.where(k % 4 < 2, 1.0, -1.0)
    np.testing.assert_allclose(transform @ (np.cos(3 * nodes) + np.sin(3 * nodes)), wanted, atol=1e-13)
