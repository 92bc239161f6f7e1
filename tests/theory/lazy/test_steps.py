"""Certified gradient descent: reference numbers, sharpness at both ends of the steps, limits, and reasons why not."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy import (
    DescentBounds,
    LazyProblem,
    Smoothness,
    certify,
    certify_descent,
    certify_sgd,
    descended,
    largest_step,
    reference_problem,
)
from widthwise.theory.lazy.examples import extremal, network, random_quadratic
from widthwise.theory.lazy.steps_claims import CLAIMS, Descent


def linear(slopes, y, alpha=1.0):
    slopes = jnp.array(slopes)
    return LazyProblem(lambda w: slopes * w, np.zeros(len(slopes)), np.array(y), alpha, Smoothness(0.0, True))


@pytest.mark.parametrize(
    ("part", "h", "rate", "radius", "digits"),
    [(0.05, 0.50657, 0.99904297, 1.74319, 8), (0.5, 0.61874, 0.99391229, 2.23528, 8)],
)
def test_reference_numbers(part, h, rate, radius, digits):
    """Digits at alpha = 10.2, with the step in units of 1/(alpha sigma_max + alpha sigma)^2."""
    problem = reference_problem(10.2)
    seen = problem.tangency
    found = certify_descent(problem, part / (10.2 * (seen.sigma_max + seen.sigma_min)) ** 2)
    assert found.certified
    assert round(found.h, 5) == h
    assert round(found.demand().rate, digits) == rate
    assert round(found.demand().radius, 5) == radius


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "count", "worst", "path"), [(0.05, 3000, 0.99797311, 0.71314), (0.5, 1200, 0.98025235, 0.72156)]
)
def test_reference_measurements(part, count, worst, path):
    """Residuals are wrong by some 1e-15, so that ratios are by some 1e-5 where they are smallest."""
    problem = reference_problem(10.2)
    seen = problem.tangency
    step = part / (10.2 * (seen.sigma_max + seen.sigma_min)) ** 2
    run = descended(problem, step, count, spectra=False)
    visible = run.residual[1:] > 1e-10
    ratios = run.residual[1:] / run.residual[:-1]
    assert ratios[visible].max() == pytest.approx(worst, abs=2e-5)
    assert round(float(run.path[-1]), 5) == path


@pytest.mark.parametrize("product", [0.1, 0.5, 1.0, 1.5, 1.9, 1.99])
def test_attained_by_a_linear_map_for_large_steps(product):
    """The path is sum eta sigma |1 - x|^k r0 with x = eta sigma^2, and x/2 of its bound for x >= 1."""
    bounds = certify_descent(linear([2.0], [3.0]), product / 4.0).demand()
    path = product * 1.5 / (1 - abs(1 - product))
    assert path <= bounds.radius
    if product >= 1:
        assert path / bounds.radius == pytest.approx(product / 2, rel=1e-12)
    assert abs(1 - product) <= bounds.rate


@pytest.mark.parametrize("h", [0.0, 1e-6, 0.3, 0.9])
def test_small_steps_are_the_flow(h):
    problem = random_quadratic(3, 3.0, h) if h else extremal(y=0.0)
    tiny = certify_descent(problem, 1e-9 / problem.tangency.sigma_max**2).demand()
    flow = certify(problem).demand()
    assert tiny.radius == pytest.approx(float(flow.path(math.inf)), rel=1e-6)
    assert tiny.rate == pytest.approx(1 - tiny.step * tiny.least_sigma**2, rel=1e-12)


def test_alpha_is_absorbed():
    """alpha f is a map like any other."""
    one, other = extremal(2.0, 3.0, 0.2, 1.5), extremal(3.0, 4.5, 0.2, 1.0)
    first, second = certify_descent(one, 0.03), certify_descent(other, 0.03)
    assert first.demand().rate == pytest.approx(second.demand().rate, rel=1e-9)
    assert first.demand().radius == pytest.approx(second.demand().radius, rel=1e-9)
    assert first.largest_step == pytest.approx(second.largest_step, rel=1e-9)


def test_the_largest_step_decides():
    problem = random_quadratic(4, 3.0, 0.5)
    largest = certify_descent(problem).largest_step
    assert certify_descent(problem, largest).certified
    above = certify_descent(problem, largest * (1 + 1e-9))
    assert not above.certified
    assert "above the largest certified one" in above.reason
    assert above.largest_step == pytest.approx(largest, rel=1e-9)
    assert 0 < certify_descent(problem).step <= largest


def test_the_best_step_is_the_best_of_those_near_it():
    problem = random_quadratic(5, 2.0, 0.2)
    best = certify_descent(problem)
    for factor in (0.9, 1.1):
        other = certify_descent(problem, factor * best.step)
        assert not other.certified or other.demand().rate >= best.demand().rate


def test_a_growing_constant_is_taken_on_a_ball_that_holds_the_path():
    def beta(radius):
        return Smoothness(0.3 * (1 + radius), True, radius)

    found = certify_descent(LazyProblem(lambda w: w - 0.15 * w**2, np.zeros(1), np.ones(1), 3.0, beta), 0.02)
    assert found.certified
    assert found.smoothness.radius > found.demand().radius


def test_steps_to_a_part_of_the_residual():
    bounds = DescentBounds(0.1, 1.0, 0.3, 1.0, 1.5)
    k = bounds.steps_to(0.01)
    assert bounds.residual(k) <= 0.01 < bounds.residual(k - 1)
    assert bounds.steps_to(1.0) == 0
    for part in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="lies in"):
            bounds.steps_to(part)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_steps_that_are_none(step):
    with pytest.raises(ValueError, match="finite number above 0"):
        certify_descent(extremal(), step)


def test_reasons_why_not():
    below = certify_descent(extremal(y=0.6))
    assert "below the threshold" in below.reason
    estimated = certify_descent(replace(extremal(y=0.1), smoothness=Smoothness(1.0, certified=False, method="pairs")))
    assert "is an estimate" in estimated.reason
    assert not estimated.certified
    flat = certify_descent(linear([1.0, 0.0], [1.0, 1.0]))
    assert "rank 1 of 2" in flat.reason
    for one in (below, estimated, flat):
        assert str(one).startswith("LAZY-C5: no certificate")
        with pytest.raises(ValueError, match="come with a certificate"):
            one.demand()
    assert check("LAZY-C5", extremal(y=0.6)).status is Status.NOT_APPLICABLE
    with pytest.raises(ValueError, match="LazyProblem"):
        check("LAZY-C5", "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1e150, 1e-150])
def test_alpha_beyond_the_floating_point_numbers(alpha):
    problem = extremal(y=0.1).at(alpha)
    for found in (certify_descent(problem), certify_sgd(problem)):
        assert "too far from 1" in found.reason or "is below the threshold" in found.reason
    assert largest_step(problem, Smoothness(0.0, True)) == 0.0


def test_a_network_holds_too():
    problem = network(2 * certify(network()).threshold)
    assert check(CLAIMS[0], (Descent(problem),)).status is Status.HOLDS
