"""The gradient flow against exact solutions, its error against its bound, and how it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.integrate import quad

from widthwise.measure import FlowCode, gradient_flow

TIMES = np.concatenate([np.linspace(0, 1, 11)[1:], np.linspace(1, 14, 27)[1:]])
PARABOLA = Partial(lambda sigma, beta, w: sigma * w - beta / 2 * w**2)
LINEAR = Partial(lambda J, w: J @ w)
J = np.array([[1.0, 0, 1], [0, 2, 1]])


def parabola(sigma, beta):
    return Partial(PARABOLA.func, jnp.array(sigma), jnp.array(beta))


def test_the_parabola_follows_its_logistic_law():
    """r(t) = r0 (1-h) / (exp((1-h) tau) - h) exactly; the reference number is for t = 2."""
    flow = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=TIMES, rtol=1e-10)
    h, t = 0.6, TIMES
    residual = 0.3 * (1 - h) / (np.exp((1 - h) * t) - h)
    distance = 1 - np.sqrt(1 - 2 * (0.3 - residual))
    assert np.max(np.abs(flow.residual_norms - residual)) <= flow.error
    assert np.max(np.abs(flow.distances - distance)) <= flow.error
    assert np.max(np.abs(flow.lengths - distance)) <= flow.error
    assert abs(flow.residual_norms[np.isclose(t, 2.0)][0] - 0.0738215802) < 5e-11


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e4])
def test_one_tolerance_serves_every_alpha(alpha):
    """Targets alpha times as large and a clock in units of 1/alpha^2: the same path."""
    flow = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3 * alpha], alpha, times=TIMES, rate=alpha**2, rtol=1e-10)
    plain = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=TIMES, rtol=1e-10)
    assert np.allclose(flow.displacements, plain.displacements, rtol=0, atol=2 * plain.error)
    assert np.allclose(flow.residuals / alpha, plain.residuals, rtol=0, atol=2 * plain.error)


@pytest.mark.parametrize(
    ("alpha", "length", "distance"), [(1.0, 0.5902254176, 0.5705747590), (2.0, 0.3599306528, 0.3299831645)]
)
def test_the_length_of_a_path(alpha, length, distance):
    """Reference numbers of a linear model at infinity, printed to ten decimals; 1e-11 of the way is left at the end."""
    shifted = Partial(lambda J, f0, w: J @ w + f0, jnp.asarray(J), jnp.array([0.5, -0.2]))
    flow = gradient_flow(shifted, np.zeros(3), np.ones(2), alpha, times=[5.0, 30.0], rate=alpha**2)
    assert abs(flow.lengths[-1] - length) < flow.error + 2e-10
    assert abs(flow.distances[-1] - distance) < flow.error + 2e-10


def test_the_length_is_the_integral_of_the_speed():
    shifted = Partial(lambda J, f0, w: J @ w + f0, jnp.asarray(J), jnp.zeros(2))
    flow = gradient_flow(shifted, np.zeros(3), np.array([1.0, -2.0]), times=[0.3, 1.2])
    rates, Q = np.linalg.eigh(J @ J.T)
    c = Q.T @ np.array([-1.0, 2.0])
    for t, length in zip(flow.times, flow.lengths, strict=True):
        exact = quad(lambda s: np.sqrt(np.sum(rates * np.exp(-2 * rates * s) * c**2)), 0, t, epsabs=1e-13)[0]
        assert abs(length - exact) <= flow.error


@pytest.mark.slow
def test_the_error_bound_follows_the_tolerance():
    errors = []
    for rtol in (1e-6, 1e-9):
        flow = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=[20.0], rtol=rtol)
        exact = 0.3 * 0.4 / (np.exp(0.4 * 20.0) - 0.6)
        errors.append(abs(flow.residual_norms[0] - exact))
        assert errors[-1] <= flow.error
    assert flow.error < 1e-7


def test_the_tolerance_does_not_grow_with_what_cannot_be_reached():
    """Labels of one input that differ by far more than their mean: two outputs, and the flow of that mean alone."""
    mean, curved = 1e-6, parabola(1.0, -6e3)
    twice = Partial(lambda f, w: jnp.concatenate([f(w), f(w)]), curved)
    flow = gradient_flow(twice, [0.0], [mean - 1, mean + 1], times=[0.3, 3.0])
    h = -1.2e4 * mean
    left = mean * (1 - h) / (np.exp((1 - h) * 2 * flow.times) - h)
    assert flow.error < 1e-6 * mean
    np.testing.assert_allclose(flow.distances, (np.sqrt(1 + 1.2e4 * (mean - left)) - 1) / 6e3, rtol=0, atol=flow.error)


def test_a_critical_point_is_not_left():
    flow = gradient_flow(parabola(1.0, 1.0), [1.0], [0.7], times=TIMES)
    assert flow.code is FlowCode.SUCCESSFUL
    assert not flow.displacements.any()
    assert np.allclose(flow.residuals, -0.2, rtol=0, atol=1e-15)


def test_float64_whatever_the_setting():
    with jax.enable_x64(False):
        flow = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=TIMES)
    assert flow.displacements.dtype == np.float64
    assert abs(flow.distances[-1] - (1 - np.sqrt(0.4))) < 5e-3


def test_progress_grows_to_one():
    told = []
    gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=TIMES, progress=told.append)
    jax.effects_barrier()
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.slow
def test_a_stiff_problem_says_what_it_would_take():
    steep = Partial(LINEAR.func, jnp.diag(jnp.array([1.0, 300.0])))
    flow = gradient_flow(
        steep, np.zeros(2), np.ones(2), times=[1e-4, 50.0], max_steps=500, throw=False, method="runge-kutta"
    )
    assert flow.code is FlowCode.STIFF
    assert len(flow.times) == 1
    assert "max_steps=" in flow.reason
    with pytest.raises(RuntimeError, match="stiff"):
        gradient_flow(steep, np.zeros(2), np.ones(2), times=[1e-4, 50.0], max_steps=500, method="runge-kutta")


def test_too_few_steps():
    flow = gradient_flow(parabola(1.0, 1.0), [0.0], [0.3], times=TIMES, max_steps=4, throw=False)
    assert flow.code is FlowCode.TOO_MANY_STEPS
    assert "Raise max_steps" in flow.reason


def test_a_map_that_ends_is_reported():
    flow = gradient_flow(lambda w: -jnp.sqrt(0.5 - w), [0.0], [3.0], times=[10.0], throw=False)
    assert flow.code in (FlowCode.STEP_TOO_SMALL, FlowCode.NOT_FINITE)
    assert not len(flow.times)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w0": np.zeros((1, 1))}, "w0 of shape"),
        ({"y": np.zeros(2)}, "y has shape"),
        ({"y": [np.nan]}, r"y\[0\] is nan"),
        ({"w0": [np.inf]}, r"w0\[0\] is inf"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"rate": -1.0}, "rate=-1.0"),
        ({"times": [1.0, 1.0]}, "times"),
        ({"times": [0.0, 1.0]}, "times"),
        ({"times": []}, "times"),
    ],
)
def test_bad_input(change, words):
    arguments = {"w0": [0.0], "y": [0.3], "alpha": 1.0, "times": [1.0], **change}
    with pytest.raises(ValueError, match=words) as refused:
        gradient_flow(parabola(1.0, 1.0), **arguments)
    assert str(refused.value).count(". ") >= 2


def test_a_start_that_is_not_finite():
    with pytest.raises(ValueError, match="residual of norm"):
        gradient_flow(lambda w: 1 / w, [0.0], [1.0], times=[1.0])


@pytest.mark.slow
def test_a_factor_so_large_that_the_parameters_are_rounded():
    r"""A displacement v/alpha is lost in w: the tolerance follows, the error says so, and the flow gets to its end."""
    w0 = np.array([0.3, -0.7, 0.9])
    f = Partial(lambda at, w: jnp.sin(w[:2] * w[2]) - jnp.sin(at[:2] * at[2]), jnp.asarray(w0))
    J = np.asarray(jax.jacobian(f)(jnp.asarray(w0)))
    alpha, y = 1e10, np.array([1.0, -2.0])
    slowest = alpha**2 * np.linalg.eigvalsh(J @ J.T)[0]
    flow = gradient_flow(f, w0, y, alpha, times=TIMES, rate=slowest, max_steps=2000)
    values, vectors = np.linalg.eigh(J @ J.T)
    decay = np.exp(-np.outer(flow.times / values[0], values))
    # At this factor the flow is that of the linearisation, up to 1/alpha.
    twin = (alpha * np.asarray(f(jnp.asarray(w0))) - y) @ vectors * decay @ vectors.T
    allowed = alpha * np.linalg.norm(J, 2) * flow.error
    assert flow.error > 1e-10 * np.linalg.norm(y) / (alpha * np.sqrt(values[0]))
    np.testing.assert_allclose(flow.residuals, twin, rtol=0, atol=allowed)
