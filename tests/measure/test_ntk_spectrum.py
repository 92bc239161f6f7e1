"""The spectrum without the kernel against the kernel's own eigenvalues."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial

from widthwise.measure.eigenpairs import top_eigenpairs
from widthwise.measure.lanczos import drawn_trace
from widthwise.measure.ntk_spectrum import (
    ntk_condition,
    ntk_density,
    ntk_eigenpairs,
    ntk_solve,
    ntk_spectrum,
    ntk_trace,
)
from widthwise.networks import MLP, sample
from widthwise.operators import jacobian_matrix

MODEL = sample(MLP(width=16, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X = jr.normal(jr.key(1), (15, 3))
ROWS = np.asarray(jacobian_matrix(MODEL, X)).reshape(30, -1)
K = ROWS @ ROWS.T
VALUES, VECTORS = np.linalg.eigh(K)
# Each of three outputs has the kernel X X^T, of rank two: threefold eigenvalues, and zeros.
LINEAR, ON = Partial(lambda w, x: w @ x, jnp.ones((3, 4))), X[:6, :2] @ jnp.eye(2, 4)


def test_top_eigenpairs_within_their_bounds():
    found = ntk_eigenpairs(MODEL, X, 4)
    assert found.converged and np.all(found.values.error < 1e-7 * VALUES[-1])
    assert np.all(np.abs(found.values.value - VALUES[:-5:-1]) <= found.values.error)
    overlap = np.abs(found.vectors.reshape(4, 30) @ VECTORS[:, :-5:-1])
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-6)


def test_bounds_hold_before_convergence():
    A = np.diag(np.linspace(0.0, 1.0, 300))
    start = np.random.default_rng(0).normal(size=(3, 300))
    found = top_eigenpairs(lambda block: block @ A, start, 2, 1e-10, 30)
    nearest = np.abs(np.diag(A)[:, None] - found.values.value).min(axis=0)
    assert not found.converged and found.products == 30 and found.values.error.max() > 1e-4
    assert np.all(nearest <= found.values.error)


def test_equal_eigenvalues_are_all_found():
    found = ntk_eigenpairs(LINEAR, ON, 7)
    wanted = np.repeat(np.linalg.eigvalsh(ON @ ON.T)[:-4:-1], 3)[:7]
    np.testing.assert_allclose(found.values.value, wanted, atol=1e-12)
    assert found.converged


def test_log_determinant_and_trace():
    """Honest errors that are small: over ten keys the deviations are as large as they say."""
    scores = []
    for seed in range(10):
        density = ntk_density(MODEL, X, probes=60, steps=30, key=jr.key(seed))
        for found, exact in (
            (density.log_determinant(0.1), np.sum(np.log(VALUES + 0.1))),
            (density.trace_of(lambda values: values), np.sum(VALUES)),
        ):
            assert found.error < 0.2 * abs(exact)
            scores.append((found.value - exact) / found.error)
    assert np.max(np.abs(scores)) < 5 and 0.4 < np.sqrt(np.mean(np.square(scores))) < 1.8


def test_density_through_a_window():
    points = np.linspace(0.0, VALUES[-1], 5)
    found = ntk_density(MODEL, X, probes=30, steps=30).density(points, width=2.0)
    exact = np.exp(-0.5 * ((points[:, None] - VALUES) / 2.0) ** 2).mean(axis=1) / (2.0 * np.sqrt(2 * np.pi))
    assert np.all(np.abs(found.value - exact) < 5 * found.error + 1e-9)


def test_trace_exact_and_drawn():
    exact = ntk_trace(MODEL, X)
    assert abs(exact.value - np.trace(K)) <= exact.error + 1e-10 < 1e-6
    draw = jax.jit(jax.vmap(lambda key: drawn_trace(lambda v: jnp.asarray(K) @ v, jnp.ones(30), 12, key)))
    found = draw(jr.split(jr.key(0), 200))
    scores = (np.asarray(found.value) - np.trace(K)) / np.asarray(found.error)
    # Student's law with seven degrees of freedom: a variance of 7/5, of which 200 draws tell about a fifth.
    assert 0.8 < np.mean(scores**2) < 2.2 and np.mean(found.error) < 0.1 * np.trace(K)
    # Unbiased: the mean of 200 draws within five of its standard errors, which is small.
    spread = np.std(found.value) / np.sqrt(200)
    assert abs(np.mean(found.value) - np.trace(K)) < 5 * spread < 0.05 * np.trace(K)
    many = Partial(lambda w, x: w @ x, jnp.ones((40, 3)))
    drawn = ntk_trace(many, X, probes=6)
    # Three eigenvalues, each forty times: nothing dominates, and the spread is that of the plain average.
    assert abs(drawn.value - 40 * np.sum(np.square(X))) < 5 * drawn.error and drawn.error < 0.3 * drawn.value


def test_condition_number():
    found = ntk_condition(MODEL, X, steps=30)
    assert abs(found.value - VALUES[-1] / VALUES[0]) <= found.error < 1e-3 * found.value
    for steps in (8, 30):
        ridged = ntk_condition(MODEL, X, ridge=0.1, steps=steps)
        assert abs(ridged.value - (VALUES[-1] + 0.1) / (VALUES[0] + 0.1)) <= ridged.error
    part = np.linalg.eigvalsh(ON.T @ ON)
    assert ntk_condition(LINEAR, ON).value == pytest.approx(part[-1] / part[-2], rel=1e-10)


def test_too_few_steps_say_so():
    found = ntk_condition(MODEL, X, steps=3)
    assert found.error == np.inf and found.value < VALUES[-1] / VALUES[0]


def test_solve():
    B = jr.normal(jr.key(4), (15, 2))
    found = ntk_solve(MODEL, X, B, 0.05)
    wanted = np.linalg.solve(K + 0.05 * np.eye(30), np.ravel(B)).reshape(15, 2)
    assert np.max(np.abs(found.value - wanted)) <= found.error < 1e-4


def test_float32():
    model = Partial(lambda w, x: w @ x, jnp.ones((2, 3), jnp.float32))
    found = ntk_spectrum(model, jnp.diag(jnp.array([3.0, 2.0, 0.0], jnp.float32)), top=2, probes=3)
    np.testing.assert_allclose(found.top.values.value, [9.0, 9.0], atol=1e-4)
    assert abs(found.condition.value - 2.25) <= found.condition.error < 1e-3
    assert abs(found.trace.value - 26.0) <= found.trace.error


def test_bad_input():
    for call, message in (
        (lambda: ntk_eigenpairs(MODEL, X, 0), "At least one eigenvalue"),
        (lambda: ntk_density(MODEL, X, probes=1), "at least 2 random vectors"),
        (lambda: ntk_density(LINEAR, ON, probes=2).log_determinant(0.0), "ridge above 0"),
        (lambda: ntk_density(LINEAR, ON, probes=2).density([0.0], 0.0), "positive width"),
        (lambda: ntk_condition(MODEL, X, ridge=-1.0), "positive finite"),
        (lambda: ntk_solve(MODEL, X, jnp.ones((15, 2)), 0.0), "positive finite"),
        (lambda: ntk_solve(MODEL, X, jnp.ones((15, 1)), 1.0), "of the outputs"),
        (lambda: ntk_solve(MODEL, X, jnp.ones((15, 2)), 1e-3, most=2), "Give a larger ridge, tolerance or most"),
        (lambda: ntk_eigenpairs(MODEL, X.at[0, 0].set(jnp.nan), 2), "finite products"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
