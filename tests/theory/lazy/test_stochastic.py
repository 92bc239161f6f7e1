"""Certified stochastic gradient descent: reference numbers, sharpness, batches, and reasons why not."""

import math
from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy import LazyProblem, Smoothness, StochasticBounds, certify_descent, certify_sgd, walk
from widthwise.theory.lazy.examples import extremal, quadratic_problem, random_quadratic


def reference():
    """The problem of the reference numbers (n = 4, p = 9, delta = 0.1), its constants on the ball sigma/(4 beta)."""
    rng, n, p, delta = np.random.default_rng(5), 4, 9, 0.1
    U, V = np.linalg.qr(rng.normal(size=(n, n)))[0], np.linalg.qr(rng.normal(size=(p, n)))[0]
    s = np.linspace(1.3, 0.9, n)
    J0, B = U @ np.diag(s) @ V.T, rng.normal(size=(n, p, p))
    B = (B + B.transpose(0, 2, 1)) / 2
    beta = np.linalg.norm(B.transpose(1, 0, 2).reshape(p, n * p), 2)
    R, sigma = s[-1] / (4 * beta), 0.75 * s[-1]
    gradient = np.linalg.norm(J0, axis=1).max() + max(np.linalg.norm(one, 2) for one in B) * R
    M = s[0] + beta * R
    r0 = delta * sigma**2 * R / (2 * math.sqrt(n) * gradient)
    H = M * M + beta * (r0 + M * R)
    step = sigma**2 / (H * n * gradient**2)
    y = rng.normal(size=n)
    return quadratic_problem(J0, B, y * r0 / np.linalg.norm(y)), StochasticBounds(
        step, sigma, gradient, M, H, r0, n, 1, R
    )


def test_reference_numbers():
    _, bounds = reference()
    assert np.allclose(bounds.risk(np.array([100, 200, 400])) / bounds.risk(0), [0.334, 0.1116, 0.01245], rtol=5e-3)
    assert bounds.exit_probability == pytest.approx(0.1, rel=1e-12)
    assert bounds.largest_step == pytest.approx(bounds.step, rel=1e-12)


def test_reference_measurements():
    """400 runs gave no exit and 1.56e-2, 3.1e-4 and 1.3e-7 of the risk; other draws agree to sampling error."""
    problem, bounds = reference()
    seen = walk(problem, bounds, jr.key(3), chains=400, count=400)
    part = seen.risk[[100, 200, 400]] / seen.risk[0]
    assert seen.exits == 0.0
    assert np.allclose(np.log(part), np.log([1.56e-2, 3.1e-4, 1.3e-7]), atol=0.35)
    assert np.all(part <= bounds.risk(np.array([100, 200, 400])) / bounds.risk(0))


def test_the_certificate_agrees_with_the_reference_constants():
    """It finds a smaller ball, and is stricter there as its beta bounds all examples and its ball has one more step."""
    problem, bounds = reference()
    found = certify_sgd(problem)
    assert not found.certified
    half = certify_sgd(replace(problem, y=0.8 * problem.y)).demand()
    assert half.radius <= bounds.radius
    assert half.exit_probability <= 0.1 * (1 + 1e-9)
    assert 0.3 * bounds.step < half.step < 2 * bounds.step


def test_the_risk_is_attained_by_orthogonal_gradients():
    """With x = eta n s^2 a risk falls by 1 - (2x - x^2)/n in expectation: at x = 1 that is the bound, 1 - eta s^2."""
    slopes = 2.0 * jnp.eye(3)
    problem = LazyProblem(lambda w: slopes @ w, np.zeros(3), np.array([1.0, 0.5, -1.0]), 1.0, Smoothness(0.0, True))
    bounds = certify_sgd(problem).demand()
    assert bounds.largest_step == pytest.approx(1 / (3 * 4.0), rel=1e-9)
    assert bounds.rate == pytest.approx(1 - 1 / 3, rel=1e-9)
    seen = walk(problem, bounds, jr.key(0), chains=20_000, count=3)
    expected = bounds.risk(np.arange(4))
    # The spread of a risk of three parts that vanish one by one is below the first risk.
    assert np.all(np.abs(seen.risk - expected) <= 5 * expected[0] / math.sqrt(20_000))


def test_the_full_batch_is_descent():
    """Ever larger batches may take ever larger steps, up to 1/H."""
    problem = random_quadratic(1, 1.5, 0.001)
    found = [certify_sgd(problem, batch=batch).demand() for batch in (1, 2, 8, 10**6)]
    steps = [one.step for one in found]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1 / found[-1].smoothness, rel=1e-4)
    assert steps[-1] < certify_descent(problem).largest_step
    seen = walk(problem, found[1], jr.key(1), chains=100, count=50)
    assert np.all(seen.risk[1:] <= found[1].risk(np.arange(1, 51)))


def test_smaller_steps_are_certified_and_larger_ones_are_not():
    problem = extremal(y=0.002)
    found = certify_sgd(problem)
    assert certify_sgd(problem, found.largest_step).certified
    assert certify_sgd(problem, 0.5 * found.largest_step).demand().rate > found.demand().rate
    above = certify_sgd(problem, 1.001 * found.largest_step)
    assert "above the largest certified one" in above.reason
    strict = certify_sgd(problem, delta=0.09)
    assert "probability to leave" in strict.reason or strict.demand().radius > found.demand().radius


def test_nothing_to_learn():
    bounds = certify_sgd(extremal(y=0.0)).demand()
    assert bounds.path == bounds.exit_probability == 0.0


def test_bad_arguments():
    for step in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number above 0"):
            certify_sgd(extremal(), step)
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            certify_sgd(extremal(), delta=delta)
    with pytest.raises(ValueError, match="batch=0"):
        certify_sgd(extremal(), batch=0)


def test_a_small_probability_is_not_rounded_away():
    found = certify_sgd(extremal(y=1e-7), delta=1e-5)
    assert "with probability at most 1e-05" in str(found)
    told = float(str(found).split("probability at most ")[1].split(";")[0])
    assert found.demand().exit_probability <= told <= 1.01e-5


def test_reasons_why_not():
    far = certify_sgd(extremal(y=0.1))
    assert "probability to leave" in far.reason
    estimated = certify_sgd(replace(extremal(y=0.002), smoothness=Smoothness(1.0, certified=False, method="pairs")))
    assert "is an estimate" in estimated.reason
    for one in (far, estimated):
        assert str(one).startswith("LAZY-C6: no certificate")
        with pytest.raises(ValueError, match="come with a certificate"):
            one.demand()
    assert check("LAZY-C6", extremal(y=0.1)).status is Status.NOT_APPLICABLE
