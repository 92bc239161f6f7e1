"""Training against closed forms: linear models, whose every iterate is known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg

from widthwise.measure import DIVERGED, Method, empirical_ntk, moments, train
from widthwise.networks import MLP, sample

N, D, K = 12, 5, 2
KEY = jr.key(0)
ULP = np.finfo(float).eps


def linear(w=None):
    return jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((K, D)) if w is None else w)


@pytest.fixture(scope="module")
def data():
    X = np.asarray(jr.normal(jr.key(1), (N, D)))
    T = np.asarray(jr.normal(jr.key(2), (N, K)))
    X_test = np.asarray(jr.normal(jr.key(3), (4, D)))
    return X, T, X_test


@pytest.fixture(scope="module")
def curvature(data):
    """Eigenvalues of the Hessian of R for a linear model, XᵀX/n."""
    return np.linalg.eigvalsh(data[0].T @ data[0] / N)


def descend(data, rate, steps):
    """The weights of a linear model after so many steps, from zero: (I - (I - ηH)^k) W*, in the eigenbasis."""
    X, T, _ = data
    values, vectors = np.linalg.eigh(X.T @ X / N)
    best = vectors.T @ np.linalg.lstsq(X, T, rcond=None)[0]
    return vectors @ ((1 - (1 - rate * values) ** steps)[:, None] * best)


def test_gradient_descent_on_a_linear_model_is_the_closed_form(data, curvature):
    X, T, X_test = data
    rate = 1.0 / curvature[-1]
    run = train(linear(), X, T, X_test, Method("gd", rate, 30), key=KEY)
    for moment, outputs, test in zip(run.steps, run.train, run.test, strict=True):
        W = descend(data, rate, moment)
        # Each step rounds to a few ulps of the weights and contracts what was there.
        np.testing.assert_allclose(outputs, X @ W, atol=100 * 30 * ULP * np.abs(X @ W).max() + 1e-15, rtol=0)
        np.testing.assert_allclose(test, X_test @ W, atol=100 * 30 * ULP * np.abs(X @ W).max() + 1e-15, rtol=0)
    risks = [0.5 * np.mean(np.sum((X @ descend(data, rate, s) - T) ** 2, axis=1)) for s in range(30)]
    np.testing.assert_allclose(run.losses, risks, rtol=100 * 30 * ULP)
    assert run.outcome == "stable"


def test_the_flow_of_a_linear_model_is_the_matrix_exponential(data, curvature):
    X, T, X_test = data
    run = train(linear(), X, T, X_test, Method("flow", 1.0 / curvature[-1], 30), key=KEY)
    best = np.linalg.lstsq(X, T, rcond=None)[0]
    for time, outputs in zip(run.times, run.train, strict=True):
        W = best - scipy.linalg.expm(-time * X.T @ X / N) @ best
        # At most a hundred steps, each with an error of 1e-5 of the way, and the flow contracts.
        np.testing.assert_allclose(outputs, X @ W, atol=100 * 1e-5 * np.abs(X @ best).max(), rtol=0)
    assert len(run.losses) == 0
    assert run.times[-1] == pytest.approx(30 / curvature[-1], rel=1e-12)


@pytest.mark.parametrize("name", ["gd", "sgd", "adam", "flow"])
def test_a_model_linear_in_its_parameters_is_its_own_tangent_model(data, name):
    X, T, X_test = data
    model = linear(jr.normal(jr.key(5), (K, D)))
    run = train(model, X, T, X_test, Method(name, 0.05, 20, batch=4), key=KEY)
    # Both iterations are the same up to rounding of a few ulps a step; Adam divides by a root, which keeps that.
    scale = 1000 * 20 * ULP * max(1.0, np.abs(run.train).max())
    if name == "flow":
        scale = 100 * ULP * np.abs(run.train).max() + 1e-12
    np.testing.assert_allclose(run.twin_train, run.train, atol=scale, rtol=0)
    np.testing.assert_allclose(run.twin_test, run.test, atol=scale, rtol=0)
    assert run.gap.max() < scale
    assert run.drift.max() < 100 * ULP


@pytest.mark.slow
def test_the_tangent_model_of_a_network_follows_its_own_closed_form(data):
    X, T, X_test = data
    model = sample(MLP(width=16, depth=1).network(K), KEY, D)
    run = train(model, X, T, X_test, Method("gd", 0.3, 25), key=KEY)
    J = np.asarray(jax.jacrev(lambda leaves: _with(model, leaves, X).ravel())(_flat(model)))
    values, vectors = np.linalg.eigh(J @ J.T / N)
    first = run.train[0].ravel() - T.ravel()
    for moment, outputs in zip(run.steps, run.twin_train, strict=True):
        after = vectors @ ((1 - 0.3 * values) ** moment * (vectors.T @ first))
        np.testing.assert_allclose(outputs.ravel() - T.ravel(), after, atol=1000 * 25 * ULP * np.abs(first).max())
    # It is not the network: at width 16 the two part by much more than rounding.
    assert np.abs(run.twin_train[-1] - run.train[-1]).max() > 1e-4
    assert run.gap[-1] > 1e-4
    assert run.drift[-1] > 1e-3
    assert run.gap[0] == run.drift[0] == run.distance[0] == 0.0


def _flat(model):
    return jax.flatten_util.ravel_pytree(model)[0]


def _with(model, vector, X):
    return jax.vmap(jax.flatten_util.ravel_pytree(model)[1](vector))(jnp.asarray(X))


@pytest.mark.slow
def test_movement_is_relative_to_each_array(data):
    X, T, X_test = data
    model = sample(MLP(width=8, depth=1).network(K), KEY, D)
    run = train(model, X, T, X_test, Method("gd", 0.1, 10), key=KEY)
    before, after = jax.tree.leaves(model), jax.tree.leaves(run.model)
    moved = [float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in zip(after, before, strict=True)]
    np.testing.assert_allclose(run.movement[-1], moved, rtol=100 * ULP)
    whole = np.sqrt(sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(after, before, strict=True)))
    assert run.distance[-1] == pytest.approx(whole, rel=100 * ULP)
    assert run.names == ("array 1 (8 × 5)", "array 2 (2 × 8)")


def test_divergence_is_found_at_the_step_of_the_closed_form(data, curvature):
    X, T, X_test = data
    rate = 2.5 / curvature[-1]
    run = train(linear(), X, T, X_test, Method("gd", rate, 500), key=KEY)
    risks = [0.5 * np.mean(np.sum((X @ descend(data, rate, s) - T) ** 2, axis=1)) for s in range(100)]
    first = next(step for step, value in enumerate(risks) if value > DIVERGED * risks[0])
    assert run.diverged_at == first
    assert run.outcome == "diverged"
    assert len(run.losses) == first + 1
    for part in (run.train, run.test, run.twin_train, run.movement, run.drift, run.losses):
        assert np.all(np.isfinite(part))


def test_an_overflow_is_a_divergence_and_no_nan_is_recorded(data):
    X, T, X_test = data
    model = jax.tree_util.Partial(lambda w, x: jnp.exp(w @ x), jnp.ones((K, D)))
    run = train(model, X, T, X_test, Method("gd", 1e3, 50), key=KEY)
    assert run.diverged_at == 1
    assert not np.isfinite(run.losses[-1]) or run.losses[-1] > run.limit
    for part in (run.train, run.test, run.twin_train, run.movement, run.drift):
        assert np.all(np.isfinite(part))


@pytest.mark.slow
def test_a_diverging_tangent_model_does_not_stop_the_network():
    # Two linear layers with one datum: between 2/λ and 4/λ the network catapults and its tangent model diverges.
    width = 512
    model = jax.tree_util.Partial(
        lambda p, x: p[0] @ (p[1] @ x) / jnp.sqrt(width),
        (jr.normal(jr.key(1), (1, width)), jr.normal(jr.key(2), (width, 1))),
    )
    X, T = np.ones((1, 1)), np.ones((1, 1))
    sharpness = float(empirical_ntk(model, jnp.ones((1, 1)))[0, 0])
    run = train(model, X, T, X, Method("gd", 3.0 / sharpness, 200), key=KEY)
    assert run.diverged_at is None
    assert run.outcome == "catapult"
    # |1 - 3|^(2 step) > 1e6, so ten steps.
    assert run.twin_diverged_at == 10
    assert len(run.twin_train) == len(run.gap) < len(run.train)
    assert run.losses.max() > 10 * run.losses[0] > 10 * run.losses[-1]


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.slow
def test_mini_batches_follow_from_the_key(data, name):
    X, T, X_test = data
    model = sample(MLP(width=8, depth=1).network(K), KEY, D)
    runs = [train(model, X, T, X_test, Method(name, 0.05, 15, batch=4), key=jr.key(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].train, runs[1].train)
    assert np.array_equal(runs[0].losses, runs[1].losses)
    assert not np.array_equal(runs[0].train[-1], runs[2].train[-1])


def test_every_row_is_seen_once_in_an_epoch(data):
    X, T, X_test = data
    # At a vanishing rate the losses of the batches of one epoch average to the risk on all rows.
    run = train(linear(), X, T, X_test, Method("sgd", 1e-12, 6, batch=4), key=KEY)
    whole = 0.5 * np.mean(np.sum(T**2, axis=1))
    for epoch in (run.losses[:3], run.losses[3:]):
        assert np.mean(epoch) == pytest.approx(whole, rel=1e-10)
    assert not np.allclose(run.losses[:3], run.losses[3:])


def test_sgd_with_a_batch_of_everything_is_gradient_descent(data):
    X, T, X_test = data
    sgd = train(linear(), X, T, X_test, Method("sgd", 0.1, 10, batch=100), key=KEY)
    gd = train(linear(), X, T, X_test, Method("gd", 0.1, 10), key=KEY)
    np.testing.assert_allclose(sgd.train, gd.train, atol=1000 * ULP * np.abs(T).max())


def test_the_first_step_of_adam_is_the_rate_times_the_sign(data):
    X, T, X_test = data
    run = train(linear(), X, T, X_test, Method("adam", 0.01, 1, batch=100), key=KEY)
    (moved,) = jax.tree.leaves(run.model)
    # g/(|g| + 1e-8) differs from the sign by 1e-8/|g|.
    gradient = np.abs(-T.T @ X / N)
    np.testing.assert_allclose(moved, 0.01 * np.sign(T.T @ X), rtol=2e-8 / gradient.min())


@pytest.mark.slow
def test_progress_counts_every_step_once(data):
    X, T, X_test = data
    for name in ("gd", "flow"):
        told = []
        train(linear(), X, T, X_test, Method(name, 0.1, 57), key=KEY, progress=told.append)
        assert sum(told) == 57
        assert len(told) > 2


def test_moments_begin_at_zero_and_end_at_the_last_step():
    for steps in (1, 2, 7, 400, 10_000):
        chosen = moments(steps)
        assert chosen[0] == 0
        assert chosen[-1] == steps
        assert len(chosen) <= 40
        assert np.all(np.diff(chosen) > 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "sdg"}, "did you mean 'sgd'"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_methods_out_of_range_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Method(**{"name": "gd", "rate": 0.1, "steps": 3, **change})


def test_data_that_do_not_fit_are_refused(data):
    X, T, X_test = data
    with pytest.raises(ValueError, match="one row of targets"):
        train(linear(), X, T[:, :1], X_test, Method("gd", 0.1, 3), key=KEY)
    with pytest.raises(ValueError, match="at the start"):
        train(linear(jnp.full((K, D), jnp.inf)), X, T, X_test, Method("gd", 0.1, 3), key=KEY)
