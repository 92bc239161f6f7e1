"""The exponential integrator: its order, its error against its bound, stiff and far from lazy, and how it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.integrate import quad

from widthwise.measure import FlowCode, gradient_flow, tangent_flow
from widthwise.measure.exponential import SWEEPS, Numbers, attempt, basis_at, radau

TIMES = np.array([0.1, 0.5, 1.0, 3.0, 14.0])
TURN = np.array([[0.6, -0.8], [0.8, 0.6]])


def _rotated(turn, s, b, w):
    return turn @ (s * w - b / 2.0 * w**2)


def parabolas(s, b):
    r"""Independent coordinates $s w - b w^2/2$, mixed by a rotation of the outputs."""
    return Partial(_rotated, jnp.asarray(TURN), jnp.asarray(s), jnp.asarray(b))


def logistic(s, b, y, t):
    r"""The residual and the way of a coordinate: $r = r_0(1-h)/(e^{(1-h)\tau} - h)$, $\tau = s^2t$, $h = 2by/s^2$."""
    h, tau = 2 * b * y / s**2, np.multiply.outer(t, s**2)
    with np.errstate(over="ignore"):
        left = -y * (1 - h) / (np.exp((1 - h) * tau) - h)
    return left, (s - np.sqrt(s**2 - 2 * b * (y + left))) / b


def follow(s, b, y, times=TIMES, **options):
    return gradient_flow(parabolas(s, b), np.zeros(2), TURN @ y, times=times, method="exponential", **options)


MILD = np.array([1.0, 2.0]), np.array([1.0, -0.7]), np.array([0.3, 0.8])


def _net(X, signs, w):
    return jnp.tanh(X @ w.reshape(-1, X.shape[1]).T) @ signs


def network(n=6, width=8, scale=1.0):
    """A mirrored two-layer network, its start, and targets."""
    rng = np.random.default_rng(0)
    X, half = rng.normal(size=(n, 3)), rng.normal(size=(width // 2, 3))
    signs = scale * np.repeat([1.0, -1.0], width // 2) / np.sqrt(width)
    w0, y = np.concatenate([half, half]).ravel(), np.where(rng.normal(size=n) > 0, 1.0, -1.0)
    return Partial(_net, jnp.asarray(X), jnp.asarray(signs)), w0, y


@pytest.mark.parametrize("rtol", [1e-5, 1e-9])
def test_the_error_stays_below_its_bound(rtol):
    flow, (residual, way) = follow(*MILD, rtol=rtol), logistic(*MILD, TIMES)
    assert flow.code is FlowCode.SUCCESSFUL
    assert flow.method == "exponential"
    assert flow.error < 100 * rtol
    assert np.max(np.linalg.norm(flow.displacements - way, axis=1)) <= flow.error
    assert np.max(np.abs(flow.distances - np.linalg.norm(way, axis=1))) <= flow.error
    # Outputs move by at most the largest singular value on the way, sqrt(s^2 - 2b(y + r)) <= 2.3, times the error.
    assert np.max(np.linalg.norm(flow.residuals - residual @ TURN.T, axis=1)) <= 2.3 * flow.error


def test_the_length_of_a_curved_path():
    """The speed of the exact solution, integrated."""
    s, b, y = MILD
    flow = follow(s, b, y)

    def speed(t):
        residual, way = logistic(s, b, y, t)
        return np.linalg.norm((s - b * way) * residual)

    for t, length in zip(flow.times, flow.lengths, strict=True):
        assert abs(length - quad(speed, 0, t, epsabs=1e-13, epsrel=1e-13)[0]) <= flow.error


def one_step(f, y, w0, h, at=None):
    numbers = Numbers(jnp.ones(()), jnp.ones(()))
    basis = basis_at(f, None, w0 if at is None else at, numbers.alpha)
    return attempt(f, jnp.asarray(y), numbers, basis, w0, jnp.asarray(at is None), jnp.asarray(h))


@pytest.mark.parametrize("at", [None, [0.05, -0.1]])
def test_its_order(at):
    r"""One step is wrong by $h^{s+2}$, its estimate by $h^{s+1}$, with the kernel of its start and of another point.

    The orders are means over four halvings, as the error changes its sign on the way.
    """
    s, b, y = MILD
    at, sizes, rows = None if at is None else jnp.array(at), 0.4 / 2.0 ** np.arange(5), []
    for h in sizes:
        step = one_step(parabolas(s, b), TURN @ y, jnp.zeros(2), h, at)
        rows.append((np.linalg.norm(np.asarray(step.moved) - logistic(s, b, y, h)[1]), float(step.error)))
    errors, estimates = np.array(rows).T
    assert np.log2(errors[0] / errors[-1]) / 4 > SWEEPS + 1.3
    assert np.log2(estimates[0] / estimates[-1]) / 4 == pytest.approx(SWEEPS + 1, abs=0.3)
    assert np.all(errors < estimates)


def test_a_linear_map_costs_what_its_scales_cost():
    """Nothing of a linear flow is approximated, so steps grow tenfold from the fastest time to the slowest."""
    s, y, times = np.array([1.0, 1e3]), np.array([1.0, -2.0]), np.array([1e-6, 1.0, 14.0])
    flow = follow(s, np.zeros(2), y, times)
    way = y * -np.expm1(-np.multiply.outer(times, s**2)) / s
    # Eight decades and a start; rounding of the slope keeps some steps from growing so much.
    assert flow.steps <= 16
    assert np.max(np.abs(flow.displacements - way)) <= flow.error
    twin = tangent_flow(parabolas(s, np.ones(2)), np.zeros(2), TURN @ y, times=times)
    assert np.max(np.abs(twin.displacements - way)) <= max(twin.error, 1e-15)
    assert np.max(np.abs(twin.lengths - flow.lengths)) <= flow.error + twin.error


def test_a_condition_number_of_1e5():
    """Decays at 1 and at 1e10: the explicit method would need 3e10 steps."""
    s, b, y = np.array([1.0, 1e5]), np.array([1.0, 1e3]), np.array([0.3, 0.8])
    flow, (_, way) = follow(s, b, y, rtol=1e-6, max_steps=300), logistic(s, b, y, TIMES)
    assert flow.code is FlowCode.SUCCESSFUL
    assert np.max(np.linalg.norm(flow.displacements - way, axis=1)) <= flow.error
    assert flow.error < 1e-4


@pytest.mark.parametrize(("alpha", "times"), [(1.0, [1e3, 1e6]), (3.0, [1e6, 1e17])])
def test_directions_slower_than_the_rounding_of_the_fastest(alpha, times):
    """Squares of singular values 1e16 apart: the kernel does not tell the second one from 0, the slope does."""
    s, y = np.array([1.0, 1e-8]), np.array([1.0, 1.0])
    way = y / alpha * -np.expm1(-np.multiply.outer(np.array(times), s**2)) / s
    words = {"alpha": alpha, "times": times, "rate": alpha**2}
    f = parabolas(s, np.zeros(2))
    twin = tangent_flow(f, np.zeros(2), TURN @ y, **words)
    flow = gradient_flow(f, np.zeros(2), TURN @ y, method="exponential", **words)
    for one in (twin, flow):
        assert np.max(np.abs(one.displacements - way)) <= one.error
        assert np.max(np.abs(one.displacements[0] - way[0])) < 1e-6
    assert flow.error < 1e-5 * way[-1, 1]


def test_outputs_that_cannot_be_reached_do_not_drift():
    """Equal inputs with different labels: their residual stays, and its rounding is damped."""
    twice, y = Partial(lambda w: jnp.array([0.3, 0.3]) * w), np.array([1.0, 2.0])
    flow = tangent_flow(twice, [0.0], y, times=[1e9])
    assert abs(flow.displacements[0, 0] - 5.0) < 1e-14
    assert np.allclose(flow.residuals[0], [0.5, -0.5], rtol=0, atol=1e-14)


def test_stiffness_beside_the_gradient_is_seen():
    """The fastest direction, at rest at the start, would cost the explicit method 252,000 steps."""
    flow = gradient_flow(parabolas(np.array([1.0, 300.0]), np.zeros(2)), np.zeros(2), TURN[:, 0], times=[14.0])
    assert flow.method == "exponential"
    assert abs(flow.displacements[0, 0] + np.expm1(-14.0)) <= flow.error


@pytest.mark.slow
def test_the_method_is_chosen_by_stiffness():
    for fastest, method in ((1e5, "exponential"), (10.0, "runge-kutta")):
        s = np.array([1.0, fastest])
        flow = gradient_flow(parabolas(s, s), np.zeros(2), TURN @ np.array([0.3, 0.8]), times=TIMES, rtol=1e-6)
        assert flow.method == method
        assert flow.code is FlowCode.SUCCESSFUL


@pytest.mark.slow
@pytest.mark.parametrize("scale", [30.0, 0.3])
def test_agreement_with_the_explicit_method(scale):
    """Lazy, and far from lazy: there nearly nothing stays of the kernel."""
    f, w0, y = network(scale=scale)
    J = np.asarray(jax.jacobian(f)(jnp.asarray(w0)))
    rates = np.linalg.eigvalsh(J @ J.T)
    words = {"times": np.array([0.3, 2.0, 20.0]), "rate": rates[-1] / 10, "rtol": 1e-10}
    ours, theirs = (gradient_flow(f, w0, y, method=one, **words) for one in ("exponential", "runge-kutta"))
    assert ours.code is theirs.code is FlowCode.SUCCESSFUL
    J_end = np.asarray(jax.jacobian(f)(jnp.asarray(w0 + ours.displacements[-1])))
    change = np.linalg.norm(J_end @ J_end.T - J @ J.T, 2) / rates[-1]
    assert change < 0.1 if scale > 1 else change > 0.9
    together = 1e-9 * np.max(theirs.distances)
    np.testing.assert_allclose(ours.displacements, theirs.displacements, rtol=0, atol=together)
    np.testing.assert_allclose(ours.lengths, theirs.lengths, rtol=0, atol=1e-9 * np.max(theirs.lengths))
    np.testing.assert_allclose(ours.residuals, theirs.residuals, rtol=0, atol=together * np.sqrt(rates[-1]) * 4)


@pytest.mark.slow
def test_more_outputs_than_parameters_and_equal_rows():
    f, w0, _ = network(n=6)
    twice = Partial(lambda f, w: jnp.concatenate([f(w), f(w)]), f)
    y = np.random.default_rng(1).normal(size=12)
    ours, theirs = (
        gradient_flow(twice, w0, y, times=[0.5, 4.0], method=one, rtol=1e-8) for one in ("exponential", "runge-kutta")
    )
    np.testing.assert_allclose(ours.displacements, theirs.displacements, rtol=0, atol=ours.error + theirs.error)


@pytest.mark.slow
def test_a_kernel_that_is_given_and_one_that_is_computed():
    f, w0, y = network()
    words = {"times": [0.5, 4.0], "method": "exponential"}
    given = gradient_flow(f, w0, y, kernel=Partial(_gram, f), keep="last", **words)
    computed = gradient_flow(f, w0, y, 2.0, rate=4.0, **words)
    assert given.displacements.shape == (1, w0.size)
    assert computed.kernels >= 1
    assert computed.evaluations >= computed.steps
    again = gradient_flow(f, w0, y, **words)
    np.testing.assert_allclose(given.displacements[0], again.displacements[-1], rtol=0, atol=1e-3 * again.error)
    np.testing.assert_allclose(given.distances, again.distances, rtol=0, atol=1e-3 * again.error)


def _gram(f, w):
    J = jax.jacobian(f)(w)
    return J @ J.T


def test_radau_points_integrate_polynomials():
    for count in range(1, SWEEPS + 1):
        points, inverse = radau(count)
        weights = inverse.T @ (1.0 / np.arange(2, count + 2))
        # Exact to degree 2 count, one more than the points with 0.
        for degree in range(1, 2 * count + 1):
            assert weights @ points**degree == pytest.approx(1 / (degree + 1), rel=1e-13)


def test_too_few_steps():
    flow = follow(*MILD, rtol=1e-10, max_steps=3, throw=False)
    assert flow.code is FlowCode.TOO_MANY_STEPS
    assert "Raise max_steps" in flow.reason
    assert flow.steps <= 3
    with pytest.raises(RuntimeError, match="in 3 steps"):
        follow(*MILD, rtol=1e-10, max_steps=3)


def test_an_interruption_keeps_what_was_reached():
    told = []

    def stop(part):
        told.append(part)
        if part > 0.05:
            raise StopIteration

    flow = follow(*MILD, progress=stop, throw=False)
    assert flow.code is FlowCode.INTERRUPTED
    assert "Start again" in flow.reason
    assert told == sorted(told)
    assert 1 <= len(flow.times) < len(TIMES)
    np.testing.assert_allclose(flow.displacements, logistic(*MILD, flow.times)[1], rtol=0, atol=flow.error)


def test_progress_grows_to_one():
    told = []
    follow(*MILD, rtol=1e-5, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.slow
def test_a_map_that_ends_is_reported():
    ends = Partial(lambda w: -jnp.sqrt(0.5 - w))
    flow = gradient_flow(ends, [0.0], [3.0], times=[10.0], throw=False, method="exponential")
    assert flow.code in (FlowCode.STEP_TOO_SMALL, FlowCode.NOT_FINITE)
    assert not len(flow.times)
    assert flow.displacements.shape == (0, 1)


def test_a_critical_point_is_not_left():
    for keep, rows in (("all", len(TIMES)), ("last", 1)):
        flow = tangent_flow(lambda w: w - 0.5 * w**2, [1.0], [0.7], times=TIMES, keep=keep)
        assert flow.displacements.shape == (rows, 1)
        assert not flow.displacements.any()
        assert np.allclose(flow.residuals, -0.2, rtol=0, atol=1e-15)


def test_float64_whatever_the_setting():
    s, b, y = MILD
    f = parabolas(s, b)
    with jax.enable_x64(False):
        flow = gradient_flow(f, np.zeros(2), TURN @ y, times=TIMES, method="exponential", rtol=1e-5)
    assert flow.displacements.dtype == np.float64
    assert np.array_equal(flow.displacements, follow(s, b, y, rtol=1e-5).displacements)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "euler"}, "method='euler'"),
        ({"keep": "some"}, "keep='some'"),
        ({"method": "exponential", "least_step": 0.1}, "least_step=0.1"),
        ({"kernel": lambda w: jnp.eye(3)}, r"kernel returns \(3, 3\)"),
        ({"w0": [np.nan, 0.0]}, r"w0\[0\] is nan"),
        ({"rtol": 0.0}, "rtol=0.0"),
    ],
)
def test_bad_input(change, words):
    arguments = {"w0": [0.0, 0.0], "y": [1.0, 1.0], "times": [1.0], **change}
    with pytest.raises(ValueError, match=words) as refused:
        gradient_flow(parabolas(*MILD[:2]), **arguments)
    assert str(refused.value).count(". ") >= 2
