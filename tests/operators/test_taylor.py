"""Taylor models against closed forms, dense derivatives and the order of their error."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from widthwise.networks import MLP, sample
from widthwise.operators import jacobian, jacobian_matrix, parameters
from widthwise.operators.taylor import linearization_gap, linearize, taylor

MODEL = sample(MLP(width=5, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X = jr.normal(jr.key(1), (4, 3))
ROUNDING = 1e-13


def direction(model, key=2):
    leaves, _ = parameters(model)
    return tuple(jr.normal(jr.fold_in(jr.key(key), i), leaf.shape) for i, leaf in enumerate(leaves))


def test_the_shallow_formula():
    """LAZY-8, with its factor."""
    m, d = 7, 3
    start, after, a = jr.normal(jr.key(0), (m, d)), jr.normal(jr.key(1), (m, d)), jnp.sign(jr.normal(jr.key(2), (m,)))
    model = Partial(lambda W, x: (a @ jnp.tanh(W @ x))[None] / m**0.5, start)
    twin = linearize(model).at(Partial(model.func, after))
    for x in X:
        z = start @ x
        slope = 1.0 - jnp.tanh(z) ** 2
        wanted = a @ (jnp.tanh(z) - slope * z + slope * (after @ x)) / m**0.5
        np.testing.assert_allclose(twin(x), [wanted], atol=ROUNDING)


def test_the_twin_is_affine_with_the_jacobian_of_the_model():
    twin, change = linearize(MODEL), direction(MODEL)
    moved, start = twin.displaced(change), jax.vmap(MODEL)(X)
    np.testing.assert_allclose(jax.vmap(twin)(X), start, atol=0)
    np.testing.assert_allclose(jax.vmap(moved)(X), start + jacobian(MODEL, X).mv(change), atol=ROUNDING)
    np.testing.assert_allclose(jacobian_matrix(moved, X), jacobian_matrix(MODEL, X), atol=ROUNDING)
    for found, wanted in zip(moved.displacement, change, strict=True):
        np.testing.assert_allclose(found, wanted, atol=ROUNDING)


def test_a_polynomial_model_is_its_own_taylor_model():
    """Three linear layers: of degree three in the parameters, not two."""
    shapes = ((4, 3), (4, 4), (2, 4))
    start, after = (tuple(jr.normal(jr.fold_in(jr.key(k), i), s) for i, s in enumerate(shapes)) for k in (3, 4))

    def deep(weights, x):
        for W in weights:
            x = W @ x
        return x

    there = jax.vmap(Partial(deep, after))(X)
    found = [jax.vmap(taylor(Partial(deep, start), q).at(Partial(deep, after)))(X) for q in (2, 3, 5)]
    assert jnp.max(jnp.abs(found[0] - there)) > 0.1
    np.testing.assert_allclose(found[1], there, atol=100 * ROUNDING)
    np.testing.assert_allclose(found[2], there, atol=100 * ROUNDING)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_falls_with_the_next_power(order):
    model, change = taylor(MODEL, order), direction(MODEL)
    leaves, rebuild = parameters(MODEL)

    def error(size):
        step = jax.tree.map(lambda part: size * part, change)
        return jnp.linalg.norm(
            jax.vmap(rebuild(jax.tree.map(jnp.add, leaves, step)))(X) - jax.vmap(model.displaced(step))(X)
        )

    # Halving the step divides the error by 2^(q+1); the term after that changes the ratio by O(step).
    assert jnp.log2(error(0.01) / error(0.005)) == pytest.approx(order + 1, abs=0.1)


def test_the_second_order_is_half_the_hessian():
    change = direction(MODEL)
    leaves, rebuild = parameters(MODEL)
    curve = jax.jvp(lambda p: jax.jvp(lambda q: rebuild(q)(X[0]), (p,), (change,))[1], (leaves,), (change,))[1]
    step = taylor(MODEL, 2).displaced(change)(X[0]) - taylor(MODEL, 1).displaced(change)(X[0])
    np.testing.assert_allclose(step, 0.5 * curve, atol=100 * ROUNDING)


def test_the_twin_trains_with_optax_and_leaves_its_start():
    twin, Y = linearize(MODEL), jnp.ones((4, 2))
    leaves, rebuild = parameters(twin)
    optimiser = optax.sgd(0.05)

    def loss(leaves):
        return jnp.mean((jax.vmap(rebuild(leaves))(X) - Y) ** 2)

    after = optax.apply_updates(leaves, optimiser.update(jax.grad(loss)(leaves), optimiser.init(leaves))[0])
    assert loss(after) < loss(leaves)
    slopes = eqx.filter_grad(lambda one: jnp.sum(jax.vmap(one)(X)))(twin)
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(slopes.start))


def test_the_twin_of_a_twin_is_the_twin():
    twin = linearize(MODEL)
    np.testing.assert_allclose(
        linearize(twin).displaced(direction(MODEL))(X[0]), twin.displaced(direction(MODEL))(X[0])
    )


def test_the_gap():
    assert linearization_gap(MODEL, linearize(MODEL), X) == 0.0
    f = Partial(lambda w, x: w * x, jnp.zeros(2))
    assert linearization_gap(f, f, X[:, :2]) == 0.0
    assert linearization_gap(f, Partial(f.func, jnp.ones(2)), X[:, :2]) == np.inf


def test_bad_input():
    for order in (0, 9, True):
        with pytest.raises(ValueError, match="whole number from 1 to 8"):
            taylor(MODEL, order)
    with pytest.raises(ValueError, match="without parameters"):
        linearize(Partial(jnp.tanh))
    with pytest.raises(ValueError, match="Give the model that was linearised"):
        linearize(MODEL).at(Partial(lambda w, x: w * x, jnp.ones(2)))
    with pytest.raises(ValueError, match="one example as x"):
        linearization_gap(MODEL, MODEL, X[:0])
    with pytest.raises(ValueError, match="same outputs"):
        linearization_gap(MODEL, Partial(lambda w, x: w * x, jnp.ones(3)), X)
