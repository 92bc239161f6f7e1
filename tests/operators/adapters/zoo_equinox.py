"""Equinox models, which act on one example."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from operators.adapters.case import Case, collection, inputs, tokens

EQUINOX = {}
equinox = collection(EQUINOX)


def one(model, X):
    return Case(model, X, lambda: jax.jit(jax.vmap(model))(X))


class Then(eqx.Module):
    """Layers, and a function that says how they are used."""

    layers: dict
    forward: callable = eqx.field(static=True)

    def __call__(self, x):
        return self.forward(self.layers, x)


@equinox
def eqx_dense():
    return one(eqx.nn.MLP(3, 2, 5, 2, jnp.tanh, key=jr.key(0)), inputs(3))


@equinox
def eqx_convolutions():
    """Stride, dilation, groups; then pooling."""
    keys = jr.split(jr.key(0), 3)
    return one(
        eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(2, 4, 3, stride=2, padding=1, key=keys[0]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(4, 4, 2, dilation=2, groups=2, key=keys[1]),
                eqx.nn.AvgPool2d(2),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(4, 2, key=keys[2]),
            ]
        ),
        inputs(2, 8, 8),
    )


@equinox
def eqx_depthwise():
    layers = {
        "depth": eqx.nn.Conv1d(3, 6, 3, groups=3, padding=1, key=jr.key(0)),
        "point": eqx.nn.Conv1d(6, 2, 1, key=jr.key(1)),
    }

    def forward(layers, x):
        return jnp.mean(layers["point"](jax.nn.gelu(layers["depth"](x))), axis=-1)

    return one(Then(layers, forward), inputs(3, 5))


def attend(layers, x, mask=None):
    x = x + layers["attention"](x, x, x, mask=mask)
    return layers["out"](jnp.mean(x, axis=0))


def attention_layers():
    return {"attention": eqx.nn.MultiheadAttention(2, 4, key=jr.key(0)), "out": eqx.nn.Linear(4, 2, key=jr.key(1))}


@equinox
def eqx_attention():
    return one(Then(attention_layers(), attend), inputs(4, 4))


@equinox
def eqx_masked_attention():
    return one(
        Then(attention_layers(), lambda layers, x: attend(layers, x, jnp.tril(jnp.ones((4, 4), bool)))), inputs(4, 4)
    )


@equinox
def eqx_layer_norm():
    layers = {"norm": eqx.nn.LayerNorm(4), "out": eqx.nn.Linear(4, 2, key=jr.key(0))}
    return one(Then(layers, lambda layers, x: layers["out"](jax.nn.relu(layers["norm"](x)))), inputs(4))


@equinox
def eqx_group_norm():
    layers = {"norm": eqx.nn.GroupNorm(2, 4), "conv": eqx.nn.Conv1d(3, 4, 3, key=jr.key(0))}
    return one(
        Then(layers, lambda layers, x: jnp.mean(jnp.tanh(layers["norm"](layers["conv"](x))), axis=1)), inputs(3, 6)
    )


class Normalised(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jr.split(key)
        self.linear, self.out = eqx.nn.Linear(3, 4, key=keys[0]), eqx.nn.Linear(4, 2, key=keys[1])
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")

    def __call__(self, x, state):
        x, state = self.norm(self.linear(x), state)
        return self.out(jnp.tanh(x)), state


@equinox
def eqx_batch_norm():
    model, state = eqx.nn.make_with_state(Normalised)(jr.key(0))
    X = inputs(3)
    train = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    state = jax.jit(train)(2 * X + 1, state)[1]
    model = eqx.nn.inference_mode(model)
    return Case((model, state), X, lambda: jax.jit(jax.vmap(lambda x: model(x, state)[0]))(X))


@equinox
def eqx_embedding():
    layers = {"table": eqx.nn.Embedding(6, 4, key=jr.key(0)), "out": eqx.nn.Linear(4, 2, key=jr.key(1))}

    def forward(layers, x):
        return layers["out"](jnp.tanh(jnp.mean(jax.vmap(layers["table"])(x), axis=0)))

    return one(Then(layers, forward), tokens(5, 6))


@equinox
def eqx_shared_weights():
    class Tied(eqx.Module):
        shared: eqx.nn.Shared

        def __init__(self, key):
            keys = jr.split(key)
            pair = (eqx.nn.Embedding(6, 4, key=keys[0]), eqx.nn.Linear(4, 6, key=keys[1]))
            self.shared = eqx.nn.Shared(pair, where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight)

        def __call__(self, x):
            table, out = self.shared()
            return jax.vmap(lambda token: out(jnp.tanh(table(token))))(x)

    return one(Tied(jr.key(0)), tokens(3, 6))


@equinox
def eqx_lstm_under_scan():
    layers = {"cell": eqx.nn.LSTMCell(3, 4, key=jr.key(0)), "out": eqx.nn.Linear(4, 2, key=jr.key(1))}

    def forward(layers, x):
        start = (jnp.zeros(4), jnp.zeros(4))
        last, _ = jax.lax.scan(lambda carry, now: (layers["cell"](now, carry), None), start, x)
        return layers["out"](last[0])

    return one(Then(layers, forward), inputs(5, 3))


@equinox
def eqx_frozen_dropout():
    keys = jr.split(jr.key(0))
    model = eqx.nn.Sequential([eqx.nn.Linear(3, 4, key=keys[0]), eqx.nn.Dropout(0.5), eqx.nn.Linear(4, 2, key=keys[1])])
    return one(eqx.nn.inference_mode(model), inputs(3))


@equinox
def partial():
    model = jax.tree_util.Partial(lambda w, x: jnp.tanh(w @ x), jr.normal(jr.key(0), (2, 3)))
    return one(model, inputs(3))
