"""Thresholds of the rate against runs on both of their sides, and the spectral radius against eigenvalues."""

import itertools
import math

import numpy as np
import pytest

from widthwise.numerics import UpdateRule, best_momentum, best_rate, demand_rate, largest_curvature, largest_rate

RULES = [
    UpdateRule(momentum, nesterov, decay, decoupled, averaged)
    for momentum, nesterov, (decay, decoupled), averaged in itertools.product(
        (0.0, 0.3, 0.9), (False, True), ((0.0, False), (0.2, False), (0.2, True)), (False, True)
    )
]
CURVATURES = np.array([1e-3, 0.1, 1.0, 7.0])


def run(rule: UpdateRule, rate: float, curvature: float, steps: int) -> float:
    """The size of (w, m) after so many steps of the loop that an optimiser makes."""
    w, m, beta = 1.0, 0.0, rule.momentum
    gain = 1 - beta if rule.averaged else 1.0
    for _ in range(steps):
        g = curvature * w + (0.0 if rule.decoupled else rule.weight_decay * w)
        m = beta * m + gain * g
        u = gain * g + beta * m if rule.nesterov else m
        w = w - rate * u - (rate * rule.weight_decay * w if rule.decoupled else 0.0)
    return math.hypot(w, m)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("curvature", [0.1, 7.0])
def test_a_run_shrinks_below_the_threshold_and_grows_above(rule, curvature):
    threshold = rule.largest_rate(curvature)
    for factor, grows in ((0.999, False), (1.001, True)):
        early, late = (run(rule, factor * threshold, curvature, steps) for steps in (1000, 1400))
        assert (late > early) == grows, (factor, early, late)
        assert (rule.spectral_radius(factor * threshold, curvature) > 1) == grows


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_radius_is_that_of_the_companion_matrix(rule):
    rates = np.geomspace(1e-3, 3.0, 40)[:, None]
    found = rule.spectral_radius(rates, CURVATURES)
    dense = np.abs(np.linalg.eigvals(rule.companion(rates, CURVATURES))).max(axis=-1)
    # A double root moves by the square root of the rounding.
    np.testing.assert_allclose(found, dense, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(rule.gap(rates, CURVATURES), 1 - found, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_radius_at_the_threshold_is_one_and_the_curvature_inverts_the_rate(rule):
    rates = rule.largest_rate(CURVATURES)
    np.testing.assert_allclose(rule.spectral_radius(rates, CURVATURES), 1.0, rtol=1e-12)
    np.testing.assert_allclose(rule.largest_curvature(rates), CURVATURES, rtol=1e-11)


def test_the_thresholds_of_the_textbooks():
    assert largest_rate(4.0) == 0.5
    assert largest_rate(4.0, momentum=0.9) == pytest.approx(2 * 1.9 / 4, rel=1e-15)
    assert largest_rate(4.0, momentum=0.9, nesterov=True) == pytest.approx(2 * 1.9 / 2.8 / 4, rel=1e-15)
    # The largest preconditioned sharpness of Adam with b1 = 0.9 is 38/rate.
    assert largest_curvature(1.0, momentum=0.9, averaged=True) == pytest.approx(38.0, rel=1e-14)
    assert largest_rate(4.0, weight_decay=1.0) == 0.4
    assert largest_rate(4.0, weight_decay=1.0, decoupled=True) == 0.4
    assert largest_rate(4.0, momentum=0.5, weight_decay=1.0, decoupled=True) == pytest.approx(3 / 5.5, rel=1e-15)


def test_modes_on_which_nothing_acts_or_no_rate_is_stable():
    assert largest_rate(0.0) == math.inf
    assert largest_rate(-1.0, momentum=0.9) == 0.0
    assert largest_rate(-1.0, weight_decay=3.0) == 1.0
    assert UpdateRule(0.9).spectral_radius(0.1, 0.0) == 1.0
    assert UpdateRule(0.9).decay_rate(0.1, 0.0) == 0.0
    assert UpdateRule().spectral_radius(0.1, -1.0) == pytest.approx(1.1)
    assert UpdateRule().decay_rate(1.0, 1.0) == math.inf


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_gap_of_a_slow_mode_keeps_its_digits(nesterov):
    # To first order a slow mode shrinks by rate*curvature/(1 - momentum).
    assert UpdateRule(0.9, nesterov).gap(1e-3, 1e-20) == pytest.approx(1e-22, rel=1e-12)


def test_the_best_rate_of_gradient_descent():
    rates = [1.0, 20 / 11, 1.9, 2.0, 2.05]
    slowest = [UpdateRule().spectral_radius(rate, [1.0, 0.1]).max() for rate in rates]
    np.testing.assert_allclose(slowest, [0.9, 9 / 11, 0.9, 1.0, 1.05], rtol=1e-12)
    assert best_rate(0.1, 1.0) == pytest.approx(20 / 11, rel=1e-15)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_other_rate_is_faster(rule):
    ends, modes = (0.05, 1.0), np.linspace(0.05, 1.0, 30)
    best = best_rate(*ends, rule)
    slowest = rule.spectral_radius(best, modes).max()
    others = np.linspace(1e-3, 1.0, 2001)[:, None] * rule.largest_rate(1.0)
    assert np.all(rule.spectral_radius(others, modes).max(axis=1) >= slowest - 1e-9)
    assert slowest < 1


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3}, {"averaged": True}], ids=str)
def test_no_other_momentum_is_faster(nesterov, options):
    modes = np.geomspace(0.02, 1.0, 40)
    rate, rule = best_momentum(0.02, 1.0, nesterov, **options)
    slowest = rule.spectral_radius(rate, modes).max()
    kappa = (1.0 + rule.weight_decay) / (0.02 + rule.weight_decay)
    root = math.sqrt(3 * kappa + 1)
    expected = 1 - 2 / root if nesterov else (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    assert slowest == pytest.approx(expected, rel=1e-6)
    for momentum in np.linspace(0.0, 0.98, 50):
        other = UpdateRule(momentum, nesterov, **options)
        rates = np.linspace(0.01, 1.0, 200)[:, None] * other.largest_rate(1.0)
        assert np.all(other.spectral_radius(rates, modes).max(axis=1) >= slowest - 1e-6)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan, math.inf])
def test_a_momentum_outside_the_unit_interval_is_refused(momentum):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        UpdateRule(momentum)


@pytest.mark.parametrize("decay", [-1e-9, math.inf, math.nan])
def test_a_decay_that_is_negative_or_not_finite_is_refused(decay):
    with pytest.raises(ValueError, match="weight decay is at least 0"):
        UpdateRule(weight_decay=decay)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="finite number above 0"):
        UpdateRule().spectral_radius(rate, 1.0)
    with pytest.raises(ValueError, match="finite number above 0"):
        largest_curvature([0.1, rate])
    with pytest.raises(ValueError, match="finite number above 0"):
        demand_rate(rate)


def test_a_curvature_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="eigenvalue of the Hessian"):
        largest_rate([1.0, math.nan])
    with pytest.raises(ValueError, match="not below it"):
        best_rate(2.0, 1.0)
    with pytest.raises(ValueError, match="modes at zero"):
        best_momentum(0.0, 1.0)
