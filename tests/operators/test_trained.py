"""The trained twin by three ways: function space, parameter space and least squares; and wrong variants of each."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.linalg import expm

from widthwise.networks import MLP, sample
from widthwise.numerics import Steps
from widthwise.operators import entk, jacobian_matrix, parameters
from widthwise.operators.trained import linear_training, trained_linearized

MODEL = sample(MLP(width=6, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X, TEST, Y = jr.normal(jr.key(1), (5, 3)), jr.normal(jr.key(2), (4, 3)), jr.normal(jr.key(3), (5, 2))
# Two examples come twice, once with another target: the kernel is singular and the loss does not vanish.
TWICE, Y_TWICE = jnp.concatenate([X, X[:2]]), jnp.concatenate([Y, 1.0 + Y[:2]])


def vectors(model=MODEL, inputs=X):
    """Outputs (N,) and Jacobian (N, p)."""
    J = np.asarray(jacobian_matrix(model, inputs))
    return np.asarray(jax.vmap(model)(inputs)).ravel(), J.reshape(-1, J.shape[-1])


def close(twin, wanted, inputs=TEST, atol=1e-11):
    np.testing.assert_allclose(jax.vmap(twin)(inputs), wanted.reshape(len(inputs), -1), rtol=0, atol=atol)


def flowed(time, n=5.0, sign=-1.0):
    """The flow by the exponential of the flow's matrix in parameter space, never that of the kernel."""
    f0, J = vectors()
    p = J.shape[1]
    field = np.zeros((p + 1, p + 1))
    field[:p, :p], field[:p, p] = -J.T @ J / n, sign * J.T @ (f0 - np.ravel(Y)) / n
    change = expm(time * field)[:p, p]
    start, rows = vectors(inputs=TEST)
    return start + rows @ change


def test_the_flow_is_that_of_the_parameters():
    twin = trained_linearized(MODEL, X, Y, time=3.0)
    close(twin, flowed(3.0))
    close(trained_linearized(MODEL, X, Y, time=3.0, loss="half-sum"), flowed(15.0))
    close(trained_linearized(MODEL, X, Y, time=0.0), vectors(inputs=TEST)[0])


@pytest.mark.parametrize("wrong", [{"n": 1.0}, {"sign": 1.0}, {"n": 10.0}])
def test_a_lost_factor_or_sign_would_be_seen(wrong):
    there = jax.vmap(trained_linearized(MODEL, X, Y, time=3.0))(TEST)
    assert np.max(np.abs(np.ravel(there) - flowed(3.0, **wrong))) > 1e-3


@pytest.mark.parametrize("loss", ["half-mean", "half-sum"])
@pytest.mark.parametrize(("inputs", "targets"), [(X, Y), (TWICE, Y_TWICE)])
def test_descent_in_function_space_is_descent_in_the_parameters(loss, inputs, targets):
    rate = 0.9 * linear_training(MODEL, inputs, targets, loss).largest_rate
    by_kernel = trained_linearized(MODEL, inputs, targets, steps=30, rate=rate, loss=loss)
    by_descent = trained_linearized(MODEL, inputs, targets, steps=30, rate=rate, loss=loss, by="descent")
    for found, wanted in zip(by_kernel.displacement, by_descent.displacement, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)
    close(by_kernel, np.asarray(jax.vmap(by_descent)(TEST)))


def test_many_small_steps_are_the_flow():
    def gap(steps):
        end = trained_linearized(MODEL, X, Y, steps=steps, rate=2.0 / steps)
        return np.max(np.abs(np.ravel(jax.vmap(end)(TEST)) - flowed(2.0)))

    # Euler's method is of order one, and its error at 4000 steps is small.
    assert gap(2000) / gap(4000) == pytest.approx(2.0, abs=0.02) and gap(4000) < 1e-2


def test_the_end_of_the_flow_is_the_nearest_solution_of_least_squares():
    f0, J = vectors(inputs=TWICE)
    change = np.linalg.pinv(J, rcond=1e-10) @ (np.ravel(Y_TWICE) - f0)
    start, rows = vectors(inputs=TEST)
    close(trained_linearized(MODEL, TWICE, Y_TWICE, time=math.inf), start + rows @ change, atol=1e-8)
    close(trained_linearized(MODEL, TWICE, Y_TWICE, ridge=0.0), start + rows @ change, atol=1e-8)
    training = linear_training(MODEL, TWICE, Y_TWICE)
    # What cannot be fitted is half the difference of the two targets, in each of two outputs of two examples.
    assert training.risk(math.inf) == pytest.approx(4 * 2 * 0.5**2 / (2 * 7), rel=1e-10)
    assert training.kernel.rank == 10


@pytest.mark.parametrize("loss", ["half-mean", "half-sum"])
@pytest.mark.parametrize("centred", [True, False])
def test_ridge_regression_is_a_solve_in_the_parameters(loss, centred):
    f0, J = vectors()
    c = 5 if loss == "half-mean" else 1
    aim = np.ravel(Y) - (f0 if centred else 0.0)
    change = np.linalg.solve(J.T @ J / c + 0.1 * np.eye(J.shape[1]), J.T @ aim / c)
    start, rows = vectors(inputs=TEST)
    wanted = (start if centred else 0.0) + rows @ change
    close(trained_linearized(MODEL, X, Y, ridge=0.1, centred=centred, loss=loss), wanted)
    lost = np.linalg.solve(J.T @ J + 0.1 * np.eye(J.shape[1]), J.T @ aim)
    assert loss == "half-sum" or np.max(np.abs(rows @ (lost - change))) > 1e-3


def test_predictions_by_the_kernel_between_test_and_training():
    """LAZY-32 and the formula for other inputs."""
    training, moment = linear_training(MODEL, X, Y), Steps(12, 0.3)
    K, cross = entk(MODEL, X).reshape(10, 10), entk(MODEL, TEST, X)
    start = np.asarray(jax.vmap(MODEL)(TEST))
    wanted = start + np.einsum("ikjl,jl->ik", cross, training.coefficients(moment))
    close(training.model(moment), wanted)
    residual = np.ravel(np.asarray(jax.vmap(MODEL)(X)) - Y)
    left = np.linalg.matrix_power(np.eye(10) - 0.3 / 5 * K, 12) @ residual
    np.testing.assert_allclose(training.outputs(moment).ravel(), np.ravel(Y) + left, atol=1e-12)
    close(training.model(moment), training.outputs(moment), inputs=X)
    assert training.risk(moment) == pytest.approx(np.sum(left**2) / 10, rel=1e-12)


def test_descent_diverges_above_the_largest_rate():
    training = linear_training(MODEL, X, Y)
    below, above = (training.risk(Steps(400, factor * training.largest_rate)) for factor in (0.99, 1.01))
    assert below < training.risk(0.0) < above


def test_one_output_takes_a_vector_of_targets():
    model = Partial(lambda w, x: jnp.tanh(w @ x), jnp.ones((1, 3)))
    twins = [trained_linearized(model, X, y, time=1.0) for y in (Y[:, 0], Y[:, :1])]
    close(twins[0], np.asarray(jax.vmap(twins[1])(TEST)), atol=0)


def test_float32_stays_float32_and_a_singular_kernel_does_no_harm():
    leaves, rebuild = parameters(MODEL)
    model = rebuild(tuple(leaf.astype(jnp.float32) for leaf in leaves))
    inputs = TWICE.astype(jnp.float32)
    twin = trained_linearized(model, inputs, Y_TWICE, time=100.0)
    exact = trained_linearized(MODEL, TWICE, Y_TWICE, time=100.0)
    assert twin(inputs[0]).dtype == jnp.float32
    close(exact, np.asarray(jax.vmap(twin)(TEST.astype(jnp.float32))), atol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing for the end of the training"),
        ({"time": 1.0, "ridge": 1.0}, "one of time, steps with rate, and ridge"),
        ({"steps": 3}, "steps for the end"),
        ({"rate": 3.0}, "rate for the end"),
        ({"time": -1.0}, "at least 0"),
        ({"time": math.nan}, "at least 0"),
        ({"steps": -1, "rate": 0.1}, "whole number"),
        ({"steps": 3, "rate": 0.0}, "above 0"),
        ({"ridge": -1.0}, "at least 0 and finite"),
        ({"time": 1.0, "centred": False}, "Only ridge regression"),
        ({"time": 1.0, "by": "descent"}, "descent' without steps"),
        ({"time": 1.0, "by": "kernl"}, "did you mean 'kernel'"),
        ({"time": 1.0, "loss": "mean"}, "The conventions are 'half-mean' and 'half-sum'"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        trained_linearized(MODEL, X, Y, **options)


def test_bad_targets():
    for targets, message in ((Y[:, 0], "one target for each output"), (Y.at[0, 0].set(jnp.nan), "NaN or inf")):
        with pytest.raises(ValueError, match=message):
            trained_linearized(MODEL, X, targets, time=1.0)
