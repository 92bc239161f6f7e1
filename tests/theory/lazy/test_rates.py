"""Gronwall, PL and strong convexity against reference numbers and sharp cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar, root

from widthwise.claims import Status, check
from widthwise.theory.lazy.integrate import risk_flow
from widthwise.theory.lazy.landscapes import WAVY_PL, Landscape, log_cosh, slow_landscape, wavy_parabola
from widthwise.theory.lazy.rates import (
    CLAIMS,
    Bowl,
    Valley,
    decay_rate,
    gronwall,
    network_pl,
    pl_constant,
    pl_decay,
    strongly_convex_decay,
)

CLAIM = {claim.id: claim for claim in CLAIMS}


def fading(t):
    return -2.0 / (1.0 + t)


def test_gronwall_of_a_fading_rate():
    times = jnp.array([0.5, 3.0, 10.0])
    np.testing.assert_allclose(gronwall(fading, 5.0, times), 5.0 / (1.0 + times) ** 2, rtol=1e-13)
    assert float(gronwall(fading, 1.0, jnp.array([3.0]))[0]) == pytest.approx(1 / 16, rel=1e-14)


def test_gronwall_needs_no_sign():
    np.testing.assert_allclose(gronwall(lambda t: 1.0 + 0.0 * t, -1.0, jnp.array([1.0])), [-np.e], rtol=1e-14)


def test_the_decay_rate_is_the_slowest_on_the_way():
    times = np.linspace(0.0, 4.0, 41)
    values = np.exp(-times) + np.exp(-3 * times)
    rate = decay_rate(times, values)
    assert 1.0 < rate < 1.0 + np.exp(-2 * 3.9) * 2
    assert np.all(values <= values[0] * np.exp(-rate * times) * (1 + 1e-12))


def test_the_decay_rate_leaves_rounding_out():
    times = np.arange(5.0)
    assert decay_rate(times, [1.0, 1e-7, 1e-20, 1e-20, 1e-20]) == pytest.approx(7 * np.log(10))


@pytest.mark.parametrize(("times", "values"), [([0.0], [1.0]), ([0.0, 1.0], [0.0, 0.0]), ([0.0, 1.0], [1.0])])
def test_a_rate_needs_two_positive_values(times, values):
    with pytest.raises(ValueError, match=r"A rate needs at least two times.*Record u before"):
        decay_rate(times, values)


def test_the_pl_constant_of_the_wavy_parabola():
    constant = jax.jit(lambda x: pl_constant(wavy_parabola, x))
    found = minimize_scalar(lambda x: float(constant(jnp.array([x]))), bounds=(2.1, 2.3), method="bounded")
    assert found.fun == pytest.approx(WAVY_PL, rel=1e-9)
    assert pytest.approx(0.3510619717594634) == WAVY_PL
    assert found.x == pytest.approx(2.2017091767, abs=1e-5)
    half = float(pl_constant(wavy_parabola, jnp.array([2.2017091767]), convention="half"))
    assert half == pytest.approx(0.1755309859, abs=0.5e-10)
    assert half > 1 / 32


@pytest.mark.slow
def test_the_wavy_parabola_decays_as_in_the_reference():
    r"""And $\log R = -\int\mu_s\,ds$, an identity along gradient flow, by Simpson's rule on 201 points."""
    times = jnp.linspace(0.0, 1.0, 201)
    points = jnp.concatenate([jnp.array([[3.0]]), risk_flow(wavy_parabola, jnp.array([3.0]), times[1:])["point"]])
    before, after = float(wavy_parabola(points[0])), float(wavy_parabola(points[-1]))
    # Two units of the last printed digit.
    assert after == pytest.approx(0.2092549748, abs=2e-10)
    assert float(pl_decay(WAVY_PL, 1.0)) * before == pytest.approx(6.3775, abs=0.5e-4)
    pl = np.asarray(jax.jit(jax.vmap(lambda w: pl_constant(wavy_parabola, w)))(points))
    weights = np.array([1.0, *([4.0, 2.0] * 100)[:199], 1.0]) / 600
    # Simpson: h^4/180 times the fourth derivative of mu, which changes by about 50 on a scale of 0.1.
    assert weights @ pl == pytest.approx(np.log(before / after), abs=0.005**4 / 180 * 50 * 1e4)


def test_the_two_conventions_say_the_same():
    assert float(pl_decay(0.6, 2.0, "squared")) == pytest.approx(float(pl_decay(0.3, 2.0, "half")), rel=1e-15)
    with pytest.raises(ValueError, match=r"convention='full'\. The conventions are 'squared', 'half'\. Choose"):
        pl_decay(0.6, 2.0, "full")


def test_the_pl_constant_of_a_network():
    assert network_pl(0.5, 4) == 0.5
    assert network_pl(0.5, 4, alpha=2.0, loss="half-mean", convention="half") == 0.25


def test_a_quadratic_decays_as_in_the_reference():
    w = np.exp(-np.array([1.0, 10.0]))
    assert w @ (np.array([1.0, 10.0]) * w) / 11 == pytest.approx(0.0123032094, abs=0.5e-10)
    assert w @ w / 2 == pytest.approx(0.0676676426, abs=0.5e-10)
    assert float(strongly_convex_decay(1.0, 1.0)) == pytest.approx(0.1353352832, abs=0.5e-10)


@pytest.mark.slow
def test_a_random_strongly_convex_problem_comes_as_near_to_the_bounds_as_in_the_reference():
    rng = np.random.default_rng(0)
    B, c = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=6))
    start = jnp.asarray(3.0 * rng.normal(size=4))

    def risk(w):
        return 0.15 * jnp.vdot(w, w) + jnp.sum(log_cosh(B @ w - c))

    least = jnp.asarray(root(jax.jit(jax.grad(risk)), np.zeros(4), tol=1e-14).x)
    times = jnp.linspace(0.01, 8.0, 400)
    points = risk_flow(risk, start, times)["point"]
    gaps = jax.vmap(risk)(points) - risk(least)
    distances = jnp.sum((points - least[None]) ** 2, axis=1)
    bound = strongly_convex_decay(0.3, times)
    # Printed to three digits.
    assert float(jnp.max(gaps / (risk(start) - risk(least)) / bound)) == pytest.approx(0.987, abs=0.5e-3)
    assert float(jnp.max(distances / jnp.sum((start - least) ** 2) / bound)) == pytest.approx(0.978, abs=0.5e-3)


def test_a_landscape_is_what_it_claims():
    landscape, start = slow_landscape(jax.random.key(0), 0.5)
    assert float(landscape(jnp.zeros(4))) == 0.0
    curvature = np.linalg.eigvalsh(jax.jit(jax.hessian(landscape))(start))
    assert curvature[0] == pytest.approx(0.5, rel=1e-12)
    assert isinstance(landscape, Landscape)
    assert np.all(np.isfinite(log_cosh(jnp.array([-1e4, 0.0, 1e4]))))


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("OPT-3", Valley(wavy_parabola, 0.4, jnp.array([1.0])), "no PL constant because |R'|^2/R falls to 0.351"),
        ("OPT-3", Valley(lambda x: 1.0 + jnp.sum(x**2), 1.0, jnp.array([1.0])), "R(0) = 1"),
        ("OPT-5", Bowl(jnp.array([1.0]), convexity=-1.0), "because lambda = -1"),
        ("OPT-5b", Bowl(jnp.array([1.0]), convexity=0.0), "because lambda = 0"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]
