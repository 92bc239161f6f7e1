"""Sharpness against quadratics and dense matrices."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from widthwise.measure import Risk, hessian_sharpness, ntk_quadrature, ntk_sharpness
from widthwise.networks import MLP, sample

KEY = jr.key(0)
N, D, K = 9, 3, 2
ULP = np.finfo(float).eps


@pytest.fixture(scope="module")
def problem():
    model = sample(MLP(width=6, depth=2).network(K), KEY, D)
    X, T = jr.normal(jr.key(1), (N, D)), jr.normal(jr.key(2), (N, K))
    vector, rebuild = ravel_pytree(model)

    def outputs(vector):
        return jax.vmap(rebuild(vector))(X)

    J = np.asarray(jax.jacrev(outputs)(vector)).reshape(N * K, -1)
    H = np.asarray(jax.hessian(lambda vector: Risk(X, T)(rebuild(vector)))(vector))
    return model, X, T, J, H


def test_the_hessian_of_a_quadratic_is_its_matrix():
    A = jnp.array([[2.0, 0.5], [0.5, 1.0], [0.0, 3.0]])
    model = jax.tree_util.Partial(lambda w, x: (w @ x)[None], jnp.array([0.3, -1.0]))
    top = np.linalg.eigvalsh(A.T @ A / 3)[-1]
    for sharpness in (hessian_sharpness(model, A, jnp.ones((3, 1))), ntk_sharpness(model, A)):
        assert abs(sharpness.value - top) <= sharpness.error
        assert sharpness.error < 1000 * ULP * top


def test_both_agree_with_dense_matrices(problem):
    model, X, T, J, H = problem
    sharpness = hessian_sharpness(model, X, T)
    assert abs(sharpness.value - np.linalg.eigvalsh(H)[-1]) <= sharpness.error < 1e-6
    tangent = ntk_sharpness(model, X)
    assert abs(tangent.value - np.linalg.norm(J, 2) ** 2 / N) <= tangent.error < 1e-6


def test_few_steps_give_a_wide_error(problem):
    model, X, T, _, H = problem
    rough = hessian_sharpness(model, X, T, steps=4)
    assert rough.value < np.linalg.eigvalsh(H)[-1]
    assert rough.error > 1e-3


@pytest.mark.parametrize("steps", [6, 18])
def test_the_quadrature_predicts_the_loss_of_the_tangent_model(problem, steps):
    model, X, T, J, _ = problem
    residual = jax.vmap(model)(X) - T
    rule = ntk_quadrature(model, X, residual, steps)
    values, vectors = np.linalg.eigh(J @ J.T / N)
    parts = (vectors.T @ np.asarray(residual).ravel()) ** 2
    rate = 1.0 / values[-1]
    for made in (0, 1, 5, 20, 400):
        exact = np.sum((1 - rate * values) ** (2 * made) * parts) / (2 * N)
        found = rule(lambda x, made=made: (1 - rate * x) ** (2 * made) / (2 * N))
        assert abs(found.value - exact) <= found.error
        if made < steps:
            assert abs(found.value - exact) < 1000 * ULP * np.sum(parts)
