"""Operators against dense derivatives."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import MLP, sample
from widthwise.operators import (
    entk,
    flatten,
    gauss_newton,
    hessian,
    jacobian,
    jacobian_matrix,
    ntk_operator,
    parameters,
)

MODEL = sample(MLP(width=5, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X = jr.normal(jr.key(1), (4, 3))
VECTOR, REBUILD = flatten(MODEL)
DENSE = jax.jacrev(lambda v: jax.vmap(REBUILD(v))(X))(VECTOR)  # (4, 2, p)
ROUNDING = 1e-13


def ravelled(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def direction(key=2):
    leaves, _ = parameters(MODEL)
    return tuple(jr.normal(jr.fold_in(jr.key(key), i), leaf.shape) for i, leaf in enumerate(leaves))


def test_parameters_come_back():
    leaves, rebuild = parameters(MODEL)
    np.testing.assert_array_equal(rebuild(leaves)(X[0]), MODEL(X[0]))
    np.testing.assert_array_equal(REBUILD(VECTOR)(X[0]), MODEL(X[0]))


def test_jacobian_and_its_transpose():
    J, v, u = jacobian(MODEL, X), direction(), jr.normal(jr.key(3), (4, 2))
    np.testing.assert_allclose(J.mv(v), DENSE @ ravelled(v), atol=ROUNDING)
    np.testing.assert_allclose(ravelled(J.T.mv(u)), np.einsum("nkp,nk->p", DENSE, u), atol=ROUNDING)


def test_jacobian_matrix_in_blocks():
    for block in (1, 3, 64):
        np.testing.assert_allclose(jacobian_matrix(MODEL, X, block=block), DENSE, atol=ROUNDING)


def test_ntk_operator_and_matrix():
    u = jr.normal(jr.key(3), (4, 2))
    wanted = np.einsum("ikp,jlp->ikjl", DENSE, DENSE)
    np.testing.assert_allclose(ntk_operator(MODEL, X).mv(u), np.einsum("ikjl,jl->ik", wanted, u), atol=10 * ROUNDING)
    np.testing.assert_allclose(entk(MODEL, X), wanted, atol=10 * ROUNDING)
    np.testing.assert_allclose(entk(MODEL, X, X[:2]), wanted[:, :, :2], atol=10 * ROUNDING)


def test_hessian_of_a_loss():
    def loss(f):
        return 0.5 * jnp.sum((jax.vmap(f)(X) - 1.0) ** 2)

    dense = jax.hessian(lambda v: loss(REBUILD(v)))(VECTOR)
    np.testing.assert_allclose(
        ravelled(hessian(loss, MODEL).mv(direction())), dense @ ravelled(direction()), atol=100 * ROUNDING
    )


def test_gauss_newton_shares_its_eigenvalues_with_the_ntk():
    flat = np.reshape(DENSE, (8, -1))
    applied = ravelled(gauss_newton(MODEL, X).mv(direction()))
    np.testing.assert_allclose(applied, flat.T @ (flat @ ravelled(direction())), atol=100 * ROUNDING)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="without a single array"):
        parameters(jax.tree_util.Partial(jnp.tanh))


def test_integers_and_functions_are_no_parameters():
    model = jax.tree_util.Partial(lambda w, k, x: w * x + k, jnp.ones(2), jnp.arange(2))
    assert [leaf.dtype.kind for leaf in parameters(model)[0]] == ["f"]
