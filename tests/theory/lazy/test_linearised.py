"""The tangent model against its reference numbers, an exact solution by another route, and bad input."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from widthwise.numerics import Steps
from widthwise.theory.lazy import tangent

J = np.array([[1.0, 0, 1], [0, 2, 1]])
F0, Y, W0 = np.array([0.5, -0.2]), np.array([1.0, 1.0]), np.array([0.1, 0.2, 0.3])
# Reference numbers are printed to 8 or 10 decimals, some cut and not rounded: one unit of the last one.
PRINTED = 1e-8


def random_problem(n, p, rank, seed=0, alpha=1.3):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p)) / np.sqrt(rank)
    return matrix, rng.normal(size=n), rng.normal(size=n), alpha


@pytest.mark.parametrize(
    ("alpha", "loss", "time", "parameters"),
    [
        (1.0, "half-sum", 0.7, [0.22023376, 0.62443128, 0.6324494]),
        (2.0, "half-sum", 0.7, [0.02320967, 0.51051307, 0.3784662]),
        (1.0, "half-mean", 0.7, [0.19267239, 0.57390767, 0.57962622]),
        (1.0, "half-sum", Steps(25, 0.1), [0.24373907, 0.62264936, 0.65506375]),
        (1.0, "half-sum", jnp.inf, [0.24444444, 0.62222222, 0.65555556]),
    ],
)
def test_parameters_agree_with_the_reference(alpha, loss, time, parameters):
    model = tangent(J, F0, Y, alpha, loss)
    np.testing.assert_allclose(W0 + model.displacement(time), parameters, rtol=0, atol=PRINTED)


def test_predictions_and_distances_agree_with_the_reference():
    model = tangent(J, F0, Y)
    np.testing.assert_allclose(model.predictions(0.7), [0.95268317, 0.98131196], rtol=0, atol=PRINTED)
    assert float(model.distance()) == pytest.approx(0.5705747590, abs=1e-10)
    assert model.path_bound == pytest.approx(0.9978694430, abs=1e-10)
    assert float(tangent(J, F0, Y, alpha=2.0).distance()) == pytest.approx(0.3299831645, abs=1e-10)


@pytest.mark.parametrize(("alpha", "length"), [(1.0, 0.5902254176), (2.0, 0.3599306528)])
def test_the_path_has_the_reference_length_below_its_bound(alpha, length):
    model = tangent(J, F0, Y, alpha)
    # Gauss-Legendre converges geometrically for this sum of exponentials, of which exp(-30) is left at 20.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    walked = 10.0 * weights @ (alpha * np.linalg.norm(model.residual(10.0 * (nodes + 1.0)) @ J, axis=1))
    assert walked == pytest.approx(length, abs=1e-10)
    assert float(model.distance()) <= walked <= model.path_bound


def test_a_deficient_jacobian_leaves_a_floor():
    model = tangent([[1.0, 0, 1], [2, 0, 2], [0, 1, 0]], np.zeros(3), np.ones(3))
    np.testing.assert_allclose(model.displacement(jnp.inf), [0.3, 1.0, 0.3], rtol=0, atol=1e-15)
    assert model.risk_floor == pytest.approx(0.1, abs=1e-15)
    assert (model.rank, model.sigma_min) == (2, 0.0)


@pytest.mark.parametrize(("n", "p", "rank"), [(4, 9, 4), (5, 5, 5), (6, 9, 3), (7, 3, 3), (1, 1, 1)])
def test_the_flow_solves_its_equation_at_any_rank(n, p, rank):
    matrix, f0, y, alpha = random_problem(n, p, rank)
    model, times = tangent(matrix, f0, y, alpha), np.array([0.0, 1e-9, 0.4, 30.0])
    moved, residuals = model.displacement(times), model.residual(times)
    # Independent route: the augmented matrix exponential of du/dt = -alpha J^T (r0 + alpha J u).
    generator = np.zeros((p + 1, p + 1))
    generator[:p, :p] = -(alpha**2) * matrix.T @ matrix
    generator[:p, p] = -alpha * matrix.T @ (alpha * f0 - y)
    for time, u, residual in zip(times, moved, residuals, strict=True):
        expected = expm(time * generator)[:p, p]
        # expm is backward stable: relative error about eps times the norm of its argument.
        bar = 1e-15 * (10 + time * np.linalg.norm(generator)) * max(np.linalg.norm(expected), 1e-9)
        np.testing.assert_allclose(u, expected, rtol=0, atol=bar)
        np.testing.assert_allclose(residual, alpha * (f0 + matrix @ np.asarray(u)) - y, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "p", "rank"), [(4, 9, 4), (6, 9, 3), (7, 3, 3)])
@pytest.mark.parametrize("loss", ["half-sum", "half-mean"])
def test_steps_are_those_of_a_loop_even_when_they_diverge(n, p, rank, loss):
    matrix, f0, y, alpha = random_problem(n, p, rank, seed=1)
    model = tangent(matrix, f0, y, alpha, loss)
    for size in (1e-3, 0.05, 0.4):
        u = np.zeros(p)
        for _ in range(20):
            gradient = alpha * matrix.T @ (alpha * (f0 + matrix @ u) - y)
            u = u - size * gradient / (n if loss == "half-mean" else 1)
        # Each of 20 steps rounds at the size of the iterate.
        bar = 1e-13 * (1 + np.linalg.norm(u))
        np.testing.assert_allclose(model.displacement(Steps(20, size)), u, rtol=0, atol=bar)


def test_the_two_losses_differ_by_their_clock():
    matrix, f0, y, alpha = random_problem(5, 8, 5)
    total, mean = (tangent(matrix, f0, y, alpha, loss) for loss in ("half-sum", "half-mean"))
    np.testing.assert_allclose(mean.displacement(5 * 0.3), total.displacement(0.3), rtol=1e-13)
    np.testing.assert_allclose(5 * mean.risk(5 * 0.3), total.risk(0.3), rtol=1e-13)


def test_alpha_is_absorbed_into_the_function():
    matrix, f0, y, alpha = random_problem(4, 7, 4)
    scaled, absorbed = tangent(matrix, f0, y, alpha), tangent(alpha * matrix, alpha * f0, y)
    np.testing.assert_allclose(scaled.displacement(0.5), absorbed.displacement(0.5), rtol=1e-13)
    np.testing.assert_allclose(scaled.path_bound, absorbed.path_bound, rtol=1e-13)


def test_predictions_on_the_training_inputs_are_the_training_predictions():
    matrix, f0, y, alpha = random_problem(4, 7, 4)
    model = tangent(matrix, f0, y, alpha)
    at = jnp.array([0.0, 0.2, jnp.inf])
    np.testing.assert_allclose(model.test_predictions(f0, matrix, at), model.predictions(at), rtol=0, atol=1e-13)


def test_an_ill_conditioned_jacobian_keeps_its_small_singular_values():
    rng = np.random.default_rng(2)
    U, V = np.linalg.qr(rng.normal(size=(3, 3)))[0], np.linalg.qr(rng.normal(size=(5, 3)))[0]
    model = tangent(U @ np.diag([1.0, 1e-4, 1e-10]) @ V.T, np.zeros(3), U[:, 2])
    # Weyl: an SVD is wrong by about eps sigma_max, here 1e-6 of the smallest; eigh(JJ^T) would give noise.
    assert model.sigma_min == pytest.approx(1e-10, rel=1e-5)
    assert float(model.distance()) == pytest.approx(1e10, rel=1e-5)


@pytest.mark.slow
def test_an_array_of_times_comes_first_in_the_shape():
    model = tangent(J, F0, Y)
    times = jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
    assert model.displacement(times).shape == (2, 3, 3)
    assert model.residual(times).shape == (2, 3, 2)
    assert model.distance(times).shape == model.risk(times).shape == (2, 3)
    np.testing.assert_array_equal(model.residual(times)[1, 0], model.residual(times[1, 0]))
    np.testing.assert_allclose(model.displacement(0.0), 0.0)


def test_distance_increases_and_is_minimal_among_interpolators():
    matrix, f0, y, _ = random_problem(4, 9, 4)
    model = tangent(matrix, f0, y)
    assert np.all(np.diff(model.distance(jnp.linspace(0.0, 20.0, 50))) > 0)
    null = np.linalg.svd(matrix)[2][4:]
    np.testing.assert_allclose(null @ np.asarray(model.displacement(jnp.inf)), 0.0, atol=1e-13)


def test_nothing_moves_when_the_residual_is_zero_or_the_jacobian_is():
    for model in (tangent(J, Y, Y), tangent(np.zeros((2, 3)), F0, Y)):
        np.testing.assert_array_equal(model.displacement(jnp.inf), 0.0)
        assert float(model.distance()) == model.path_bound == 0.0
    assert tangent(np.zeros((2, 3)), F0, Y).risk_floor == pytest.approx(0.5 * np.sum((F0 - Y) ** 2), abs=1e-15)


def test_the_flow_agrees_with_an_integrator():
    matrix, f0, y, alpha = random_problem(4, 9, 4)
    model = tangent(matrix, f0, y, alpha)
    slope = lambda _, u: -alpha * matrix.T @ (alpha * (f0 + matrix @ u) - y)  # noqa: E731
    end = solve_ivp(slope, (0.0, 2.0), np.zeros(9), rtol=1e-11, atol=1e-13, method="DOP853").y[:, -1]
    np.testing.assert_allclose(model.displacement(2.0), end, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((J.ravel(), F0, Y), r"J of shape \(6,\).*They are \(n, p\).*Flatten"),
        ((J, np.zeros(3), Y), r"f0 of shape \(3,\)"),
        ((J, F0, np.zeros((2, 1))), r"y of shape \(2, 1\)"),
        ((np.zeros((0, 3)), np.zeros(0), np.zeros(0)), "none zero"),
        ((np.where(J == 2, np.nan, J), F0, Y), r"J\[1, 1\] is nan\. Every entry is a finite number\. Look"),
        ((J, F0, np.array([1.0, np.inf])), r"y\[1\] is inf"),
        ((J, F0, Y, 0.0), r"alpha=0\.0\. The factor on the output is a positive number\. Give"),
        ((J, F0, Y, -1.0), "positive"),
        ((J, F0, Y, 1.0, "mean"), r"loss='mean'\. The conventions are 'half-sum' and 'half-mean'\. Choose"),
    ],
)
def test_bad_input_is_refused_with_cause_and_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        tangent(*arguments)
