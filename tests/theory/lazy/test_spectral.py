"""The spectral certificate: its integrals by quadrature, its reference numbers, and when it beats the ball."""

from dataclasses import replace
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.datasets import load_iris

from widthwise.activations import activation
from widthwise.theory.lazy import (
    LazyProblem,
    Shallow,
    Smoothness,
    certify,
    certify_spectrum,
    certify_theorem,
    compare,
    shallow_problem,
)
from widthwise.theory.lazy.examples import aligned_quadratic, extremal
from widthwise.theory.lazy.lipschitz import shallow_local
from widthwise.theory.lazy.reference import reference_problem
from widthwise.theory.lazy.spectral import constants, decay, integrals


@pytest.mark.parametrize("kappa", [1.0, 4.0, 143.0])
def test_the_two_constants_are_integrals_of_envelopes(kappa):
    """c1 = int sup_s s exp(-s^2 x), c2 = int sup_s s^2 exp(-s^2 x), the supremum over [1, kappa]."""

    def envelope(power, x):
        peak = np.clip(np.sqrt(power / (2 * x)), 1.0, kappa)
        return max(s**power * np.exp(-s * s * x) for s in (1.0, kappa, peak))

    breaks = [np.log(power / 2 / s**2) for power in (1, 2) for s in (1.0, kappa)]
    for power, expected in zip((1, 2), constants(kappa), strict=True):
        found = quad(
            lambda u, power=power: envelope(power, np.exp(u)) * np.exp(u),
            -36 - 2 * np.log(kappa),
            np.log(60),
            limit=3000,
            points=breaks,
        )[0]
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("power", [0, 1])
@pytest.mark.parametrize("spread", [1.0, 1e2, 1e8])
def test_the_decay_integral_is_an_upper_bound_and_tight(power, spread):
    rng = np.random.default_rng(0)
    rates, c = np.geomspace(1.0, 1 / spread, 5), rng.normal(size=5)
    found = decay(rates, c, power)

    def integrand(u):
        return np.linalg.norm(rates ** (power / 2) * np.exp(-rates * np.exp(u)) * c) * np.exp(u)

    parts = np.linspace(-60, np.log(800 * spread), 40)
    exact = sum(quad(integrand, a, b, epsabs=0, epsrel=1e-12, limit=500)[0] for a, b in pairwise(parts))
    assert exact * (1 - 1e-11) <= found <= exact * (1 + 1e-10)


def test_one_component_is_known_exactly():
    """For one output A = r0/sigma and P = N = r0/sigma."""
    found = integrals(extremal(2.0, 3.0, 0.8))
    assert pytest.approx((0.4, 0.4, 0.4), rel=1e-9) == (found.N, found.A, found.P)


@pytest.mark.parametrize(
    ("alpha", "radius", "gap"), [(10.2, 0.90764, None), (20.0, 0.3451749544, 0.0398981), (100.0, 0.0623330204, None)]
)
def test_digits(alpha, radius, gap):
    """The published radii are the first on a grid of b with step 1e-5, so at most one step above the smallest."""
    problem = reference_problem().at(alpha)
    bounds = certify_spectrum(problem).bounds
    step = 1e-5 * problem.tangency.sigma / problem.smoothness(0.0).value
    assert -1e-9 <= radius - bounds.radius <= step
    if gap is not None:
        assert 0 <= gap / bounds.gap(0.0) - 1 <= 2 * step / radius
    ball = certify(problem).bounds
    assert bounds.radius < ball.path(np.inf)
    assert ball.least_final_distance < problem.tangency.distance < bounds.radius


def test_digits_thresholds():
    """Printed: alpha >= 9.74, h <= 0.5207."""
    certificate = certify_spectrum(reference_problem())
    assert certificate.threshold == pytest.approx(9.74, abs=5e-3)
    assert reference_problem().at(certificate.threshold).h == pytest.approx(0.5207, abs=1e-4)
    assert "below the threshold 9.74" in certificate.reason


@pytest.fixture(scope="module")
def iris():
    """Nineteen irises with a bias column: a condition number of 143."""
    data = load_iris()
    Z = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    rows = np.arange(0, 150, 8)
    X = np.column_stack([Z[rows], np.ones(len(rows))])
    half = np.random.default_rng(0).normal(size=(256, 5))
    net = Shallow(
        jnp.asarray(np.concatenate([half, half])),
        jnp.repeat(jnp.array([1.0, -1.0]), 256),
        activation("tanh"),
        512**-0.5,
    )
    return shallow_problem(
        net, X / np.linalg.norm(X, axis=1, keepdims=True), np.where(data.target[rows] == 1, 1.0, -1.0)
    )


def test_a_large_condition_number(iris):
    """Printed: ball from 3851, spectral from 1022; at h = 1/2 radii 0.001922, 0.04508 and gaps 5.06e-5, 0.01486."""
    assert iris.tangency.kappa == pytest.approx(143, abs=0.5)
    assert certify(iris).threshold == pytest.approx(3851, abs=0.5)
    assert certify_spectrum(iris).threshold == pytest.approx(1022, abs=0.5)
    assert certify_theorem(iris).threshold > 6e6
    half = iris.at(2 * certify(iris).threshold)
    spectral, ball = certify_spectrum(half).bounds, certify(half).bounds
    assert (spectral.radius, ball.path(np.inf)) == pytest.approx((0.001922, 0.04508), rel=5e-4)
    assert (spectral.gap(0.0), ball.gap(np.inf)) == pytest.approx((5.06e-5, 0.01486), rel=1e-3)


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_the_threshold_decides(factor):
    problem = aligned_quadratic(0, 3.0)
    threshold = certify_spectrum(problem).threshold
    found = certify_spectrum(problem.at(factor * threshold))
    assert found.certified == (factor > 1)
    assert found.threshold == pytest.approx(threshold, rel=1e-6)
    if found.certified:
        assert all(one.ratio <= 1 for one in compare(found))


def test_it_knows_no_alpha_where_the_output_does_not_start_at_zero():
    base = aligned_quadratic(1, 10.0)
    never = certify_spectrum(base.moved(0.5 * np.ones(7)))
    assert never.threshold == np.inf
    assert "a larger alpha does not help" in never.reason


@pytest.mark.slow
def test_a_profile_is_used_on_the_ball_it_certifies():
    problem = reference_problem().at(20.0)
    net = problem.f.net
    local = shallow_local(problem.f.X, net.W, net.signs, net.activation, net.scale)
    found = certify_spectrum(replace(problem, smoothness=local))
    assert found.smoothness.value < problem.smoothness(0.0).value
    assert found.bounds.radius < certify_spectrum(problem).bounds.radius
    assert found.smoothness.radius >= found.bounds.radius


@pytest.mark.parametrize(("start", "y"), [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.0, 0.0)])
def test_a_linear_map_is_certified_at_every_alpha(start, y):
    problem = LazyProblem(lambda w: 2.0 * w + start, np.zeros(1), np.array([y]), 1.0, Smoothness(0.0, True))
    found = certify_spectrum(problem)
    assert found.certified
    assert found.threshold == 0.0


@pytest.mark.parametrize(("alpha", "certified"), [(0.3, False), (1.0, True), (3.0, False)])
def test_the_alphas_between_which_a_start_off_zero_is_lazy_are_found(alpha, certified):
    """f(w0) = 1 = y: alpha = 1 starts at the target, smaller and larger ones do not."""
    problem = LazyProblem(lambda w: 1.0 + w - 5.0 * w**2, np.zeros(1), np.ones(1), alpha, Smoothness(10.0, True))
    found = certify_spectrum(problem)
    assert found.certified is certified
    assert 0.9 < found.threshold < 1.0
    if alpha < found.threshold:
        assert "below the threshold" in found.reason
