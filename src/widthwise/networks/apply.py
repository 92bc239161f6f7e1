"""Coordinatewise activation."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from widthwise.activations import Activation, Dual, activation, ratio
from widthwise.numerics import reject

from .layer import AbstractLayer, Shape
from .pair import Pair


class Apply(AbstractLayer):
    r"""An activation on every coordinate: $K' = E[s(u)s(v)]$, $\Theta' = E[s'(u)s'(v)]\,\Theta$, $(u, v) \sim N(0, K)$.

    Takes an ``Activation``, the name of one, or a function: see `activation`. Its input must be Gaussian in the
    limit, so it follows a layer with weights (poolings, norms and sums between do no harm); elsewhere
    ``ValueError`` is raised.

    >>> Apply("relu").activation.name
    'relu'
    >>> Apply(lambda z: jnp.maximum(z, -1.0)).activation.kinks
    (-1.0,)
    """

    activation: Activation = eqx.field(converter=activation)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return self.activation, shape

    def propagate(self, pair: Pair) -> Pair:
        demand_gaussian(self, pair)
        dual = dual_of(self.activation, pair)
        after = replace(
            pair, xx=dual.xx, yy=dual.yy, gap=dual.gap, cogap=dual.cogap, ntk=dual.slope * pair.ntk, gaussian=False
        )
        # An error of the correlation is passed on by the slope of the correlation map.
        gain = jnp.maximum(1.0, ratio(jnp.abs(dual.slope) * pair.scale, after.scale, 1.0))
        return replace(after, error=jnp.max(gain) * pair.error + jnp.max(dual.error))


def demand_gaussian(layer: AbstractLayer, pair: Pair) -> None:
    """Refuse signals that are not Gaussian in the limit."""
    if not pair.gaussian:
        reject(
            f"{layer!r} on signals that are not Gaussian in the limit",
            "It needs Gaussian signals, such as those after a layer with weights",
            "Put a Dense or Conv before it; to compose two functions, pass their composition as one activation",
        )


def dual_of(function: Activation, pair: Pair) -> Dual:
    """The dual at all positions; what belongs to a position of one input is computed once for it."""
    if not pair.positions:
        return function.dual(pair.xx, pair.yy, pair.gap, pair.cogap)

    def one(*moments):
        dual = function.dual(*moments)
        return dual.xx, dual.yy, dual.gap, dual.cogap, dual.slope, dual.error

    shape, flat = pair.gap.shape, [part.reshape(-1) for part in (pair.xx, pair.yy)]
    if pair.crossed:
        gaps = [part.reshape(len(flat[0]), -1) for part in (pair.gap, pair.cogap)]
        row = jax.vmap(one, in_axes=(None, 0, 0, 0), out_axes=(None, 0, 0, 0, 0, 0))
        found = jax.vmap(row, in_axes=(0, None, 0, 0), out_axes=(0, None, 0, 0, 0, 0))(*flat, *gaps)
    else:
        found = jax.vmap(one)(*flat, pair.gap.reshape(-1), pair.cogap.reshape(-1))
    xx, yy, *rest = found
    return Dual(xx.reshape(pair.positions), yy.reshape(pair.positions), *(part.reshape(shape) for part in rest))
