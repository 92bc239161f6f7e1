r"""Signals in a finite network, layer by layer: how large they are, and how strongly the output hangs on them.

Legend: $z^{(l)}$ (n_l,) the output of the l-th layer with parameters (a pre-activation), $l = 1..L+1$,
$a^{(l)}$ (n_{l-1},) its input, $f = z^{(L+1)}$ (k,) the output of the network, and
$\delta^{(l)} = \partial f/\partial z^{(l)}$ (k, n_l).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.networks import AbstractLayer, Composed, sample
from widthwise.numerics import Estimate, mean_and_sem, reject


class Signals(eqx.Module):
    """Inputs (n_{l-1},), outputs (n_l,) and sensitivities (k, n_l) of every layer with parameters, for one input."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    sensitivities: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class SignalStrength:
    r"""Strength of the signals per layer (L + 1,), averaged over inputs: mean over draws and its standard error.

    ``variance``: $\frac1{n_l}\|z^{(l)}\|^2$; ``gradient``: $\frac1k\|\partial f/\partial z^{(l)}\|_F^2$.
    """

    variance: Estimate
    gradient: Estimate
    draws: int


def pieces(model: Callable) -> tuple[Any, ...]:
    """List the finite pieces of a composed network in order, nested ones taken apart.

    Raises ``ValueError`` for a model that is not composed of pieces.
    """
    if not isinstance(model, Composed):
        reject(
            f"a model of type {type(model).__name__}",
            "The signal is read between the pieces of a network that was sampled from a Chain",
            "Wrap the parts of the model as Composed((first, second, ...))",
        )
    parts = (pieces(piece) if isinstance(piece, Composed) else (piece,) for piece in model.pieces)
    return tuple(piece for part in parts for piece in part)


def layers(model: Callable) -> tuple[Any, ...]:
    """List the pieces that have parameters: those whose outputs are pre-activations."""
    return tuple(piece for piece in pieces(model) if _has_parameters(piece))


def _has_parameters(piece: Callable) -> bool:
    return any(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(piece))


def signals(model: Callable, x: Float[Array, " d"]) -> Signals:
    r"""Read the signals of a network of pieces for one input.

    The sensitivities are the derivatives of the outputs with respect to a shift of each $z^{(l)}$.
    """
    parts = pieces(model)

    def run(shifts):
        value, remaining, seen = x, list(shifts), []
        for piece in parts:
            before, value = value, piece(value)
            if _has_parameters(piece):
                value = value + remaining.pop(0)
                seen.append((before, value))
        return value, seen

    shapes = eqx.filter_eval_shape(lambda: run([0.0] * len(layers(model)))[1])
    still = [jnp.zeros(out.shape, out.dtype) for _, out in shapes]
    output, pull, seen = jax.vjp(run, still, has_aux=True)
    (sensitivities,) = jax.vmap(pull)(jnp.eye(output.size, dtype=output.dtype))
    inputs, outputs = zip(*seen, strict=True)
    return Signals(inputs, outputs, tuple(sensitivities))


def strength(model: Callable, X: Float[Array, "n d"]) -> tuple[Float[Array, " layers"], Float[Array, " layers"]]:
    r"""Mean squares $\frac1{n_l}\|z^{(l)}\|^2$ and $\frac1k\|\partial f/\partial z^{(l)}\|_F^2$, averaged over inputs.

    >>> from widthwise.networks import MLP
    >>> f = sample(MLP(width=4, depth=2).network(), jr.key(0), in_size=3)
    >>> variance, gradient = strength(f, jnp.ones((5, 3)))
    >>> variance.shape, float(gradient[-1])
    ((3,), 1.0)
    """
    seen = jax.vmap(lambda x: signals(model, x))(X)
    variance = [jnp.mean(z**2) for z in seen.outputs]
    gradient = [jnp.mean(jnp.sum(part**2, axis=-1)) for part in seen.sensitivities]
    return jnp.stack(variance), jnp.stack(gradient)


_strength = eqx.filter_jit(strength)


def signal_strength(
    network: AbstractLayer,
    X: ArrayLike,
    key: Array,
    draws: int = 30,
    width: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> SignalStrength:
    """Measure the strength of the signals over independent draws of a network.

    Arguments: inputs ``X`` (n, d); ``width`` for layers of open size; ``tick`` is called after each
    draw. Raises ``ValueError`` for fewer than two draws, of which no error can be told.

    >>> from widthwise.networks import MLP
    >>> found = signal_strength(MLP(width=64, depth=1).network(), np.ones((1, 9)), jr.key(0), draws=200)
    >>> bool(abs(found.variance.value[0] - 1.0) < 5 * found.variance.error[0])
    True
    """
    if draws < 2:
        reject(f"draws={draws}", "A mean with its error needs at least two draws", "Give for example draws=30")
    inputs = jnp.asarray(X)

    found = []
    for draw_key in jr.split(key, draws):
        # Sampled outside of the compiled function: networks of equal shapes then share what jax compiled for them.
        model = sample(network, draw_key, inputs.shape[1], width)
        found.append([np.asarray(part) for part in _strength(model, inputs)])
        tick()
    variance, gradient = (mean_and_sem(np.stack(part)) for part in zip(*found, strict=True))
    return SignalStrength(variance, gradient, draws)
