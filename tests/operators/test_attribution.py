"""Leaving examples out in closed form against refitting without them."""

import jax
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import MLP, sample
from widthwise.operators import jacobian_matrix
from widthwise.operators.attribution import influence, projected_influence
from widthwise.operators.features import projected_gradients

MODEL = sample(MLP(width=8, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X, TEST, Y = jr.normal(jr.key(1), (6, 3)), jr.normal(jr.key(2), (4, 3)), jr.normal(jr.key(3), (6, 2))
ROWS, ROWS_TEST = (np.asarray(jacobian_matrix(MODEL, inputs)) for inputs in (X, TEST))
RESIDUAL = np.asarray(Y - jax.vmap(MODEL)(X))
RIDGE = 0.3


def fitted(weights):
    """The change of the parameters with a weight for each example, by normal equations in the parameters."""
    J = ROWS.reshape(12, -1)
    w = np.repeat(weights, 2)
    return np.linalg.solve(J.T @ (w[:, None] * J) + RIDGE * np.eye(J.shape[1]), J.T @ (w * RESIDUAL.ravel()))


def refitted():
    """What leaving out does, by refitting: the change of predictions, and the residuals."""
    change, left_out = [], []
    for i in range(6):
        without = fitted(np.where(np.arange(6) == i, 0.0, 1.0))
        change.append(ROWS_TEST @ (without - fitted(np.ones(6))))
        left_out.append(RESIDUAL[i] - ROWS[i] @ without)
    return np.array(change), np.array(left_out)


def test_leaving_out_is_refitting_without():
    found = influence(MODEL, X, Y, TEST, RIDGE)
    change, left_out = refitted()
    np.testing.assert_allclose(found.change, change, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.left_out, left_out, rtol=0, atol=1e-10)
    # What a wrong sign or a ridge of a mean loss would give is far away.
    assert np.max(np.abs(found.change)) > 0.05
    assert np.max(np.abs(influence(MODEL, X, Y, TEST, 6 * RIDGE).change - change)) > 0.01


def test_the_mean_kernel_acts_on_each_output():
    found = influence(MODEL, X, Y, TEST, RIDGE, outputs="trace")
    K, cross = (np.einsum("ikp,jkp->ij", rows, ROWS) / 2 for rows in (ROWS, ROWS_TEST))
    full = np.linalg.solve(K + RIDGE * np.eye(6), RESIDUAL)
    for i in range(6):
        rest = np.delete(np.arange(6), i)
        part = np.linalg.solve(K[np.ix_(rest, rest)] + RIDGE * np.eye(5), RESIDUAL[rest])
        np.testing.assert_allclose(found.change[i], cross[:, rest] @ part - cross @ full, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.left_out[i], RESIDUAL[i] - K[i, rest] @ part, rtol=0, atol=1e-10)


@pytest.mark.parametrize("narrow", [False, True])
def test_features_that_are_the_gradients_give_the_same(narrow):
    """Rotated into fewer coordinates than examples by outputs, or all of the parameters: two ways to solve."""
    train, test, change = ROWS, ROWS_TEST, refitted()[0]
    if narrow:
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(ROWS.shape[2], 5)))[0]
        train, test = ROWS @ rotation, ROWS_TEST @ rotation
        rows = train.reshape(12, 5)

        def fit(w):
            return np.linalg.solve(rows.T @ (w[:, None] * rows) + RIDGE * np.eye(5), rows.T @ (w * RESIDUAL.ravel()))

        full = fit(np.ones(12))
        change = np.array([test @ (fit(np.repeat(np.arange(6) != i, 2).astype(float)) - full) for i in range(6)])
    found = projected_influence(train, RESIDUAL, test, RIDGE)
    np.testing.assert_allclose(found.change, change, rtol=0, atol=1e-10)


def test_without_leverage_it_is_the_first_order_in_the_weight():
    found = projected_influence(ROWS, RESIDUAL, ROWS_TEST, RIDGE, leverage=False).change
    for i in range(6):
        step = 1e-4 * np.eye(6)[i]
        slope = ROWS_TEST @ (fitted(np.ones(6) + step) - fitted(np.ones(6) - step)) / 2e-4
        # Central differences: an error of the square of the step.
        np.testing.assert_allclose(found[i], -slope, rtol=0, atol=1e-6)
    assert np.max(np.abs(found - refitted()[0])) > 0.01


def test_projected_features_come_near_with_their_number():
    def distance(size):
        options = {"pairs": 0, "algorithm": "reverse"}
        train, test = (projected_gradients(MODEL, one, size, jr.key(7), **options).features for one in (X, TEST))
        found = projected_influence(train, RESIDUAL, test, RIDGE).change
        return np.linalg.norm(found - refitted()[0]) / np.linalg.norm(refitted()[0])

    near, far = distance(4096), distance(64)
    # Eight times nearer in the mean; a single draw of each lies within a factor of four of that.
    assert near < 0.1 and 2 < far / near < 32


def test_bad_input():
    for call, message in (
        (lambda: influence(MODEL, X, Y, TEST, 0.0), "ridge above 0"),
        (lambda: influence(MODEL, X, Y[:3], TEST, 1.0), "one target for each output"),
        (lambda: influence(MODEL, X, Y, TEST, 1.0, outputs="mean"), "Known are 'all' and 'trace'"),
        (lambda: projected_influence(ROWS, RESIDUAL, ROWS_TEST, -1.0), "ridge above 0"),
        (lambda: projected_influence(ROWS, RESIDUAL[:2], ROWS_TEST, 1.0), "same size and outputs"),
        (lambda: projected_influence(ROWS, RESIDUAL, ROWS_TEST[:, 0], 1.0), "same size and outputs"),
        (lambda: projected_influence(ROWS, RESIDUAL * np.nan, ROWS_TEST, 1.0), "finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
