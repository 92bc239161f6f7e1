"""Recurrent layers as scans over time, so that their size does not grow with the length of a sequence."""

import jax
import jax.numpy as jnp

from .elementwise import dropout
from .layers import linear
from .registry import enter


def gru_cell(state, gates, weights):
    """h' = (1 - z) n + z h with n = tanh(i_n + r h_n)."""
    (h,) = state
    reset, update, new = jnp.split(gates, 3, -1)
    h_reset, h_update, h_new = jnp.split(linear(h, *weights), 3, -1)
    update = jax.nn.sigmoid(update + h_update)
    new = jnp.tanh(new + jax.nn.sigmoid(reset + h_reset) * h_new)
    return (new + update * (h - new),)


def lstm_cell(state, gates, weights, projection=None):
    """c' = f c + i g and h' = o tanh(c'), which is projected where there is a matrix for it."""
    h, c = state
    enter, forget, new, out = jnp.split(gates + linear(h, *weights), 4, -1)
    c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(new)
    h = jax.nn.sigmoid(out) * jnp.tanh(c)
    return (h if projection is None else linear(h, projection)), c


def plain_cell(activation):
    return lambda state, gates, weights: (activation(gates + linear(*state, *weights)),)


def _run(cell, x, state, group, biased, backwards):
    """One layer in one direction over x of shape (time, batch, ...); its weights as PyTorch lists them."""
    into, around, biases, rest = group[0], group[1], group[2:4] if biased else (None, None), group[4 if biased else 2 :]

    def step(state, gates):
        state = cell(state, gates, (around, biases[1]), *rest)
        return state, state[0]

    return jax.lax.scan(step, state, linear(x, into, biases[0]), reverse=backwards)


def recurrent(cell, x, states, params, biased, layers, p, train, bidirectional, batch_first):
    """Stack of layers; each runs over the outputs of the one below, in one or both directions."""
    dropout(x, p, train)
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    ways = 2 if bidirectional else 1
    size, finals = len(params) // (layers * ways), []
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            place = layer * ways + way
            group = params[place * size : (place + 1) * size]
            final, y = _run(cell, x, tuple(one[place] for one in states), group, biased, way == 1)
            outputs.append(y)
            finals.append(final)
        x = jnp.concatenate(outputs, -1) if bidirectional else outputs[0]
    last = tuple(jnp.stack(one) for one in zip(*finals, strict=True))
    return (jnp.swapaxes(x, 0, 1) if batch_first else x, *last)


def one_state(cell):
    return lambda x, state, *settings: recurrent(cell, x, (state,), *settings)


# Of the overloads only that for one array of sequences: packed sequences of different lengths are refused.
enter(
    {
        "gru.input": one_state(gru_cell),
        "rnn_tanh.input": one_state(plain_cell(jnp.tanh)),
        "rnn_relu.input": one_state(plain_cell(jax.nn.relu)),
        "lstm.input": lambda x, states, *settings: recurrent(lstm_cell, x, tuple(states), *settings),
    }
)
