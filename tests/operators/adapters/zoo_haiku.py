"""Haiku models, which act on batches."""

import haiku as hk
import jax
import jax.numpy as jnp
import jax.random as jr

from operators.adapters.case import Case, collection, double, inputs, lenient, tokens

HAIKU = {}
haiku = collection(HAIKU)


def batch(f, X):
    transformed = hk.transform(f)
    params = jax.jit(transformed.init)(jr.key(0), X)
    return Case((transformed, params), X, lambda: jax.jit(transformed.apply)(double(params), None, X))


@haiku
def haiku_dense():
    return batch(lambda X: hk.nets.MLP([5, 2], activation=jnp.tanh)(X), inputs(3))


@haiku
def haiku_convolutions_with_batch_norm():
    def f(X, is_training):
        X = hk.Conv2D(4, 3, stride=2)(X)
        with lenient():
            X = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(X, is_training))
        X = hk.DepthwiseConv2D(1, 3)(X)
        return hk.Linear(2)(jnp.mean(X, axis=(1, 2)))

    transformed, X = hk.transform_with_state(f), inputs(6, 6, 2)
    params, state = jax.jit(lambda: transformed.init(jr.key(0), X, True))()
    state = jax.jit(lambda: transformed.apply(params, state, None, 2 * X + 1, True))()[1]

    def own():
        return jax.jit(lambda: transformed.apply(params, state, None, X, False)[0])()

    return Case((transformed, params, state), X, own, {"call": {"is_training": False}})


@haiku
def haiku_gru():
    def f(X):
        cell = hk.GRU(4)
        steps, _ = hk.dynamic_unroll(cell, X, cell.initial_state(len(X)), time_major=False)
        return hk.Linear(2)(steps[:, -1])

    return batch(f, inputs(5, 3))


@haiku
def haiku_encoder():
    def f(X):
        X = hk.Embed(6, 4)(X)
        X = X + hk.MultiHeadAttention(2, 2, w_init=hk.initializers.VarianceScaling())(X, X, X)
        X = hk.LayerNorm(-1, True, True)(X)
        return hk.Linear(2)(jnp.mean(X, axis=1))

    return batch(f, tokens(4, 6))
