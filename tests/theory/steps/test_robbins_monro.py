"""Schedules whose sums are known, the exact variance, and the numbers of its limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from widthwise.theory.steps import check_schedule, late_variance, stationary_variance, variances

TIME = np.arange(100_000) + 1.0


def last(rates, start=1.0):
    return variances(rates, np.array([1.0]), 1.0, start)[-1, 0]


def test_the_variance_of_constant_rates():
    for rate, wanted in ((0.1, 0.0526316), (0.5, 1 / 3), (1.0, 1.0)):
        assert stationary_variance(rate, 1.0, 1.0) == pytest.approx(wanted, abs=5e-8)
        assert last(np.full(1000, rate)) == pytest.approx(stationary_variance(rate, 1.0, 1.0), rel=1e-12)
    assert stationary_variance(2.0, 1.0, 1.0) == math.inf
    # Langevin's noise at temperature 1/4.
    assert stationary_variance(0.1, 1.0, math.sqrt(2 / 0.4)) == pytest.approx(0.2631578947, abs=5e-11)


def test_the_variance_of_schedules():
    T = len(TIME)
    assert T * last(1 / TIME) == pytest.approx(1.0, rel=1e-9)
    # For 2/t the recursion is solved: T v = (2/3)(2T - 1)/(T - 1).
    assert T * last(2 / TIME) == pytest.approx(2 / 3 * (2 * T - 1) / (T - 1), rel=1e-12)
    assert T**0.6 * last(0.3 / TIME) == pytest.approx(0.8970, abs=5e-5)
    assert T**0.75 * last(TIME**-0.75) == pytest.approx(0.51089, abs=5e-6)
    assert last(0.9 * TIME**-2) == pytest.approx(0.2726, abs=5e-5)
    assert T * late_variance(2.0, 1.0, 1.0, 1.0, T) == pytest.approx(4 / 3)
    assert T**0.75 * late_variance(1.0, 0.75, 1.0, 1.0, T) == pytest.approx(0.5)
    assert math.isnan(late_variance(0.3, 1.0, 1.0, 1.0, T))


def logarithm(t):
    return math.log(t + 3)


@pytest.mark.parametrize(
    ("schedule", "diverges", "vanishes", "squares", "exponent"),
    [
        (lambda t: 0.1, True, False, False, 0.0),
        (lambda t: 1 / (t + 1), True, True, True, 1.0),
        (lambda t: 2 / (t + 50), True, True, True, 1.0),
        (lambda t: (t + 1.0) ** -0.75, True, True, True, 0.75),
        (lambda t: (t + 1.0) ** -0.5, True, True, False, 0.5),
        (lambda t: (t + 1.0) ** -0.3, True, True, False, 0.3),
        (lambda t: (t + 1.0) ** -1.05, False, True, True, 1.05),
        (lambda t: 0.9 * (t + 1.0) ** -2, False, True, True, 2.0),
        (lambda t: 0.5 * math.exp(-t / 3000), False, True, True, math.nan),
        (lambda t: 0.1 if t < 900 else 0.0, False, True, True, math.nan),
        (lambda t: min((t + 1) / 1000, 1000 / (t + 1)), True, True, True, 1.0),
        # Both sums with a logarithm look alike, and one of them diverges.
        (lambda t: 1 / ((t + 3) * logarithm(t)), None, True, True, math.nan),
        (lambda t: 1 / ((t + 3) * logarithm(t) ** 2), None, True, True, math.nan),
        (lambda t: 1 / logarithm(t), True, None, False, math.nan),
        (lambda t: 0.1 * 0.1 ** (t // 20_000), None, None, None, math.nan),
    ],
    ids=range(15),
)
def test_the_conditions(schedule, diverges, vanishes, squares, exponent):
    found = check_schedule(schedule, 1.0, 1.0)
    assert (found.sum_diverges, found.vanishes, found.squares_converge) == (diverges, vanishes, squares)
    assert found.exponent == pytest.approx(exponent, abs=1e-4, nan_ok=True)
    assert found.variance.shape == (65_537, 1)
    known = None not in (diverges, vanishes)
    assert found.mean_square == (False if diverges is False else (diverges and vanishes) if known else None)
    assert "mean_square: " in str(found)


def test_a_rate_that_is_too_large_at_the_end_and_several_modes():
    found = check_schedule(lambda t: 0.3, [1.0, 8.0], 1.0, steps=1000)
    assert not found.stable
    assert found.mean_square is False
    assert found.variance.shape == (1001, 2)
    assert found.variance[-1, 0] == pytest.approx(stationary_variance(0.3, 1.0, 1.0), rel=1e-12)
    # Without noise a constant rate converges.
    assert check_schedule(lambda t: 0.3, 1.0, 0.0).mean_square is True


def test_schedules_of_optax_and_of_jax():
    with jax.numpy_dtype_promotion("standard"):
        found = check_schedule(optax.cosine_decay_schedule(0.1, 1000), 1.0, 1.0)
        falling = check_schedule(optax.exponential_decay(0.1, 1000, 0.9), 1.0, 1.0)
    assert (found.sum_diverges, found.squares_converge, falling.sum_diverges) == (False, True, False)
    traced = check_schedule(lambda t: 1.0 / (1.0 + jnp.asarray(t, float)), 1.0, 1.0)
    np.testing.assert_allclose(traced.rates, 1 / (1.0 + np.arange(65_536)), rtol=1e-15)


def test_a_number_is_a_constant_rate_and_what_diverges_becomes_infinite():
    assert check_schedule(0.1, 1.0, 1.0, steps=1000).mean_square is False
    assert check_schedule(3.0, 1.0, 1.0, steps=2000).variance[-1, 0] == math.inf


@pytest.mark.parametrize(
    ("schedule", "options", "said"),
    [
        (lambda t: np.array([0.1]), {}, "one number"),
        (lambda t: "fast", {}, "one number"),
        (lambda t: math.nan, {}, "returned nan at step 0"),
        (lambda t: 0.1 if t < 70 else -0.1, {}, "returned -0.1 at step 70"),
        (lambda t: jnp.where(t < 70, 0.1, jnp.inf), {}, "returned inf at step 70"),
        (lambda t: 0.1, {"steps": 63}, "after at least 64 steps"),
        (lambda t: 0.1, {"curvature": 0.0}, "above 0"),
        (lambda t: 0.1, {"curvature": [1.0, math.nan]}, "above 0"),
        (lambda t: 0.1, {"noise": -1.0}, "noise is a finite number"),
        (lambda t: 0.1, {"start": math.inf}, "start is a finite number"),
        (lambda t: 1 / t, {}, "divided by zero at step 0"),
        (-0.1, {}, "returned -0.1 at step 0"),
    ],
    ids=range(12),
)
def test_bad_input_is_refused(schedule, options, said):
    with pytest.raises(ValueError, match=said):
        check_schedule(schedule, **{"curvature": 1.0, "noise": 1.0, "steps": 1000, **options})
