"""The ball certificate and the classical theorem: reference numbers, sharpness, limits, and reasons why not."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.networks import MLP, sample
from widthwise.theory.lazy import (
    BallBounds,
    LazyProblem,
    Smoothness,
    certify,
    certify_drift,
    certify_theorem,
    compare,
    estimate_smoothness,
    follow,
    model_problem,
)
from widthwise.theory.lazy.certificates import _least_alpha
from widthwise.theory.lazy.comparison import probe_gradients
from widthwise.theory.lazy.examples import extremal, network, random_quadratic


def bounds(h, sigma=1.0, r0=1.0, alpha=1.0, **other):
    return BallBounds(sigma, h * alpha * sigma**2 / (2 * r0), r0, alpha, **other)


@pytest.mark.parametrize(
    ("sigma", "beta", "r0", "alpha", "h", "rho", "D", "D_end", "least", "t", "residual"),
    [
        (1.0, 0.3, 1.0, 1.0, 0.6, 1.2251482266, 0.5271512198, 0.3766928880, 0.4, 1.0, 0.4485186394),
        (2.0, 3.0, 0.8, 1.5, 0.8, 0.3685242697, 0.2698126375, 0.1964277600, 0.8, 0.5, 0.0964085925),
    ],
)
def test_reference_numbers(sigma, beta, r0, alpha, h, rho, D, D_end, least, t, residual):
    """Computed to 30 digits from the formulas and cut to ten decimals."""
    it = BallBounds(sigma, beta, r0, alpha)
    found = (
        it.h,
        it.path(np.inf),
        it.gap(np.inf),
        it.final_gap,
        it.smallest_singular_value(np.inf) ** 2,
        it.residual(t),
    )
    assert np.allclose(found, (h, rho, D, D_end, least, residual), rtol=0, atol=5.1e-11)


@pytest.mark.parametrize(
    ("h", "rho", "D", "D_end"),
    [
        (0.1, 1.02633, 1.07210, 0.75821),
        (0.25, 1.07180, 1.20583, 0.85360),
        (0.5, 1.17157, 1.54518, 1.09940),
        (0.75, 1.33333, 2.26238, 1.63603),
        (0.9, 1.51949, 3.46317, 2.58128),
        (0.99, 1.81818, 7.37715, 5.95811),
    ],
)
def test_dimensionless_table(h, rho, D, D_end):
    """In units of r0/(alpha sigma) and of beta r0^2/(alpha sigma^3), here 1 and h/2; printed to five decimals."""
    it = bounds(h)
    found = (it.path(np.inf), it.gap(np.inf) / it.beta, it.final_gap / it.beta)
    assert np.allclose(found, (rho, D, D_end), rtol=0, atol=5.1e-6)


@pytest.mark.parametrize("h", [1e-14, 1e-9, 1e-4, 3e-3, 0.09, 0.0975, 0.1, 0.5, 1 - 1e-9])
def test_no_digit_is_lost_for_small_h(h):
    it = bounds(h)
    with mpmath.workdps(60):
        exact_h = 2 * mpmath.mpf(it.beta)
        q = 1 - mpmath.sqrt(1 - exact_h)
        log = -q - mpmath.log(1 - q)
        rho, D, end = q / it.beta, (log + q**2 / 2) / it.beta, mpmath.hypot(log, q**2 / 2) / it.beta
        # 1 - h is off by half an ulp of h at most, and the logarithm of 1 - q = sqrt(1 - h) with it.
        rounding = 1e-15 * max(1, float(exact_h / (1 - exact_h)))
        for mine, exact in ((it.path(np.inf), rho), (it.gap(np.inf), D), (it.final_gap, end)):
            assert abs(float(mine) - exact) <= 20 * rounding * exact


def test_at_h_one():
    """The residual falls like 1/t, the last singular value may vanish, the gap has no bound."""
    it = bounds(1.0)
    t = np.array([0.0, 1.0, 1e6, np.inf])
    assert np.allclose(it.residual(t), [1.0, 0.5, 1 / (1 + 1e6), 0.0], rtol=1e-15)
    assert it.path(np.inf) == 2.0
    assert it.smallest_singular_value(np.inf) == 0.0
    assert it.gap(np.inf) == np.inf
    near = bounds(1.0 - 1e-12)
    assert np.allclose(near.residual(t), it.residual(t), rtol=1e-5, atol=1e-6)


def test_time_zero_and_the_far_future():
    it = bounds(0.7, sigma_max=3.0)
    assert it.residual(0.0) == 1.0
    assert it.path(0.0) == it.gap(0.0) == 0.0
    assert it.residual(1e9) == 0.0
    assert it.path_to_go(0.0) == pytest.approx(float(it.path(np.inf)), rel=1e-15)
    times = np.geomspace(1e-3, 1e2, 40)
    assert np.all(np.diff(it.path(times)) >= 0)
    assert np.all(it.path(times) + it.path_to_go(times) >= it.path(np.inf) * (1 - 1e-15))


def test_nothing_to_learn():
    """With a zero residual everything stands still, and every bound is zero."""
    problem = extremal(y=0.0)
    certificate = certify(problem)
    assert certificate.certified
    assert certificate.h == 0.0
    assert certificate.bounds.path(np.inf) == certificate.bounds.gap(np.inf) == certificate.bounds.residual(1.0) == 0.0
    assert not follow(problem).path.any()
    assert check("LAZY-C1", problem).status is Status.HOLDS


def test_a_linear_map_is_certified_for_every_alpha():
    problem = LazyProblem(lambda w: 2.0 * w, np.zeros(1), np.ones(1), 1e-6, Smoothness(0.0, certified=True))
    certificate = certify(problem)
    assert certificate.threshold == 0.0
    assert certificate.bounds.gap(np.inf) == 0.0
    assert certificate.bounds.path(np.inf) == pytest.approx(1 / (2.0 * 1e-6), rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "beta", "y", "alpha"), [(1.0, 1.0, 0.3, 1.0), (2.0, 3.0, 0.8, 1.5), (1.0, 1.0, 0.4999, 1.0)]
)
def test_the_bounds_are_attained(sigma, beta, y, alpha):
    """Residual and path to go are equalities for sigma w - beta/2 w^2; 1e-10 is the margin on the constant."""
    problem = extremal(sigma, beta, y, alpha)
    it, seen = certify(problem).bounds, follow(problem)
    slack = 1e-9 / (1 - it.h)
    assert np.allclose(seen.residual, it.residual(seen.seconds), rtol=slack, atol=2 * alpha * sigma * seen.error)
    to_go = it.path_to_go(seen.seconds[-1]) + seen.path[-1]
    assert np.allclose(seen.path, to_go - it.path_to_go(seen.seconds), rtol=slack, atol=2 * seen.error)


def test_beyond_the_threshold_it_fails():
    """The parabola cannot reach y above sigma^2/(2 beta): the factor 2 in h cannot be improved."""
    stuck = extremal(y=0.51)
    assert not certify(stuck).certified
    far = replace(stuck, times=(10.0, 1e4))
    assert follow(far).residual[-1] == pytest.approx(0.01, abs=1e-4)


def test_the_classical_theorem_is_the_one_with_the_cube():
    """Reference: alpha >= 14.4, and at alpha = 20 a distance of at most 0.6."""
    beta = Smoothness(0.3, certified=True)
    problem = LazyProblem(lambda w: w * jnp.array([1.0, 2.0]), np.zeros(2), np.array([0.6, 0.8]), 20.0, beta)
    certificate = certify_theorem(problem)
    assert certificate.threshold == pytest.approx(14.4, rel=1e-12)
    assert certificate.bounds.path(1.0) == pytest.approx(0.6, rel=1e-12)
    assert certify_theorem(problem, 288.0).threshold == pytest.approx(7.2, rel=1e-12)
    assert not certify_theorem(problem.at(14.3)).certified


@pytest.mark.parametrize("c", [1.0, 0.1, 0.01, 0.001])
def test_the_counterexample_to_the_square(c):
    """The right side of the correct condition is 120 for every c; the misprinted one falls to 0.12."""
    problem = extremal(c, c * c, 5.0, others=1.0)
    assert certify_theorem(problem).threshold == pytest.approx(120.0, rel=1e-9)
    assert not certify(problem).certified


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_thresholds_decide(factor):
    problem = network()
    for theorem in (certify, certify_theorem):
        found = theorem(problem.at(factor * theorem(problem).threshold))
        assert found.certified == (factor > 1)
        assert found.threshold == pytest.approx(theorem(problem).threshold, rel=1e-12)


def test_an_output_that_starts_away_from_zero():
    """h tends to 2 beta |f0|/sigma^2: alpha helps only below, and where f0 and y agree only up to a largest alpha."""
    base = random_quadratic(7, 3.0, 0.5)
    never = base.moved(0.3 * np.ones(7))
    certificate = certify(never)
    assert certificate.threshold == np.inf
    assert "a larger alpha does not help" in certificate.reason
    assert certify(never.centred().at(1e6)).certified
    assert certify(never.mirrored().at(1e6)).certified
    lucky = LazyProblem(lambda w: w - 0.05 * w**2 + 1, np.zeros(1), np.array([2.0]), 2.0, Smoothness(1.0, True))
    assert certify(lucky).certified
    assert certify(lucky).threshold == pytest.approx(1 / 0.75, rel=1e-12)
    assert not certify(lucky.at(5.0)).certified


def test_a_growing_constant_needs_a_ball_that_holds_itself():
    """beta(rho) = 1 + rho: with the constant at the start alone the answer would be wrong."""

    def beta(radius):
        return Smoothness(0.3 * (1 + radius), True, radius)

    problem = LazyProblem(lambda w: w - 0.15 * w**2, np.zeros(1), np.ones(1), 2.0, beta)
    found = certify(problem)
    ball = float(found.bounds.path(np.inf))
    assert found.certified
    assert found.smoothness.value >= 0.3 * (1 + ball)
    assert not certify(problem.at(0.99 * found.threshold)).certified
    assert certify(problem.at(1.05 * found.threshold)).certified  # thresholds of profiles are found in steps of 4 %
    drift = certify_drift(problem)
    assert drift.bounds.path(np.inf) < ball
    short = certify(replace(problem, smoothness=Smoothness(0.3, True, radius=0.1)))
    assert "known within 0.1" in short.reason


def test_the_law_of_drift_contains_the_constant_case():
    """Upper sums over 4,000 cells are above the exact radius by less than their number suggests."""
    for problem in (extremal(), extremal(2.0, 3.0, 0.8, 1.5)):
        exact, summed = certify(problem).bounds, certify_drift(problem).bounds
        assert 1 <= summed.path(np.inf) / exact.path(np.inf) < 1.005
        assert 1 <= summed.gap(np.inf) / exact.gap(np.inf) < 1.005
        assert np.all(follow(problem).path <= summed.path(0.0) + follow(problem).error)
    law = certify_drift(extremal(), drift=lambda radius: radius)
    assert law.bounds.path(np.inf) == pytest.approx(1 - np.sqrt(0.4), rel=5e-3)
    assert "before the residual" in certify_drift(extremal(y=0.6)).reason


def test_predictions_on_other_inputs():
    """The bound holds for the network's test inputs, and needs both of its parts."""
    problem = network(1.2 * certify(network()).threshold)
    certificate = certify(problem)
    seen, bound = follow(problem), certificate.test_gap(follow(problem).seconds, probe_gradients(problem))
    assert seen.test_gap.shape == bound.shape == (59, 4)
    assert np.all(seen.test_gap <= bound)
    assert {one.quantity: one.ratio for one in compare(certificate)}["test gap"] <= 1
    with pytest.raises(ValueError, match="without test outputs"):
        certify(extremal()).test_gap(1.0, np.ones(1))


def reasons(problem):
    return [theorem(problem).reason for theorem in (certify, certify_theorem, certify_drift)]


def test_dependent_rows_are_named():

    def f(w):
        return jnp.stack([w[0], w[1], w[0] + w[1], w[2]]) + 0.1 * jnp.sum(w**2)

    problem = LazyProblem(f, np.zeros(5), np.ones(4), smoothness=Smoothness(0.4, True))
    for reason in reasons(problem):
        assert "rank 3 of 4" in reason
        assert "rows 0, 1, 2 are" in reason
    verdict = check("LAZY-C1", problem)
    assert verdict.status is Status.NOT_APPLICABLE
    assert "linearly dependent" in verdict.reasons[0]


def test_more_outputs_than_parameters():
    problem = LazyProblem(
        lambda w: jnp.stack([w[0], 2 * w[0]]), np.zeros(1), np.ones(2), smoothness=Smoothness(0.0, True)
    )
    for reason in reasons(problem):
        assert reason.startswith("2 outputs cannot all be moved by 1 parameters")


def test_an_ill_conditioned_jacobian_keeps_its_digits():
    """sigma_min = 1e-9 sigma_max is found by the SVD; its square is below the rounding of the kernel's eigenvalues."""
    problem = LazyProblem(
        lambda w: w * jnp.array([1.0, 1e-9]), np.zeros(2), np.ones(2), smoothness=Smoothness(0.0, True)
    )
    seen = problem.tangency
    assert seen.sigma_min == pytest.approx(1e-9, rel=1e-6)
    assert seen.sigma < seen.sigma_min
    assert certify(problem).certified
    hopeless = LazyProblem(
        lambda w: w * jnp.array([1.0, 3e-15]), np.zeros(2), np.ones(2), smoothness=Smoothness(0.0, True)
    )
    assert "below its rounding error" in certify(hopeless).reason


def test_kinks_get_an_honest_answer():
    """No certificate for ReLU, but an estimate along the path that says it is none."""
    model = sample(MLP(width=16, depth=1, activation="relu").network(), jax.random.key(0), 3)
    X = np.random.default_rng(0).normal(size=(3, 3))
    problem = model_problem(model, X, np.array([1.0, -1.0, 1.0]))
    assert not problem.smooth
    for reason in reasons(problem):
        assert "relu has a kink at 0" in reason
    assert check("LAZY-C1", problem).status is Status.NOT_APPLICABLE
    estimate = estimate_smoothness(problem)
    assert not estimate.certified
    assert estimate.value > 0
    again = certify(replace(problem, smoothness=estimate, alpha=1.0))
    assert not again.certified
    assert "is an estimate; it would give h =" in again.reason or "known within" in again.reason


def test_an_estimate_certifies_nothing():
    guess = Smoothness(1e-3, certified=False, method="random pairs")
    certificate = certify(replace(extremal(), smoothness=guess))
    assert "0.001 (random pairs) is an estimate; it would give h = 0.0006" in certificate.reason
    with pytest.raises(ValueError, match="no certificate"):
        compare(certificate)


def test_an_infinite_constant_certifies_nothing():
    """Even where it claims to be certified and says nothing of itself."""
    problem = LazyProblem(lambda w: w, np.zeros(1), np.ones(1), smoothness=Smoothness(np.inf, True))
    assert certify(problem).reason == "no bound on the Lipschitz constant is known"


def test_a_threshold_of_nothing_is_infinite():
    """An infinite constant allows no residual at all."""
    problem = LazyProblem(lambda w: w, np.zeros(1), np.ones(1), smoothness=Smoothness(np.inf, True))
    assert _least_alpha(problem, 1.0, lambda h: 2.0) == np.inf


def test_a_model_is_no_problem():
    with pytest.raises(ValueError, match=r"certify of a function\. .*model_problem.*CertificateMonitor"):
        certify(lambda w: w)


def test_alpha_below_the_threshold_says_by_how_much():
    certificate = certify(network())
    assert f"alpha = 1 is below the threshold {certificate.threshold:.4g}" in certificate.reason
    verdict = check("sharp-ball-certificate", network())
    assert verdict.status is Status.NOT_APPLICABLE
    assert "below the threshold" in str(verdict)


def test_a_users_problem_is_checked():
    problem = random_quadratic(11, 2.0, 0.05)
    for claim in ("LAZY-18", "LAZY-21", "LAZY-C1", "LAZY-C2", "LAZY-C3", "LAZY-C4"):
        verdict = check(claim, problem)
        assert verdict.status is Status.HOLDS, str(verdict)
    assert check("LAZY-22", random_quadratic(11, 2.0, 0.03)).status is Status.HOLDS
    assert check("LAZY-C7", problem).status is Status.NOT_APPLICABLE
    wrong = replace(problem, smoothness=Smoothness(0.2 * problem.smoothness(0.0).value, True))
    assert check("LAZY-C3", wrong).status is Status.VIOLATED


def test_a_setup_of_another_kind():
    with pytest.raises(ValueError, match="are about a LazyProblem"):
        check("LAZY-C1", 3.0)


def test_a_wrong_constant_is_seen_in_every_unit():
    """Rescaling weights, outputs and targets changes no verdict and no h."""
    plain = extremal(1.0, 1.0, 0.3)
    scaled = extremal(100.0, 1e6, 0.3 / 100.0)
    assert certify(scaled).h == pytest.approx(certify(plain).h, rel=1e-12)
    assert activation("tanh").curvature_bound == pytest.approx(0.7698003589, abs=5e-11)


def test_the_constant_of_the_theorem():
    problem = extremal(1.0, 1.0, 0.6)
    assert certify_theorem(problem, constant=288.0).threshold == certify_theorem(problem).threshold / 2
    with pytest.raises(ValueError, match=r"constant=1\.0.*at least 288"):
        certify_theorem(problem, constant=1.0)
