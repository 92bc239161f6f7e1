"""Coordinatewise activation."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from widthwise.activations import Activation, activation

from .layer import AbstractLayer
from .pair import Pair


class Apply(AbstractLayer):
    r"""An activation on every coordinate: $K' = E[s(u)s(v)]$, $\Theta' = E[s'(u)s'(v)]\,\Theta$, $(u, v) \sim N(0, K)$.

    Takes an ``Activation``, the name of one, or a function: see `activation`.

    >>> Apply("relu").activation.name
    'relu'
    >>> Apply(lambda z: jnp.maximum(z, -1.0)).activation.kinks
    (-1.0,)
    """

    activation: Activation = eqx.field(converter=activation)

    def sample(self, key: Array, in_size: int, width: int | None = None) -> tuple[Callable, int]:
        return self.activation, in_size

    def propagate(self, pair: Pair) -> Pair:
        dual = self.activation.dual(pair.xx, pair.yy, pair.gap, pair.cogap)
        after = jnp.sqrt(dual.xx) * jnp.sqrt(dual.yy)
        # An error of the correlation is passed on by the slope of the correlation map.
        gain = jnp.where(after == 0, 1.0, jnp.abs(dual.slope) * pair.scale / jnp.where(after == 0, 1.0, after))
        error = jnp.maximum(gain, 1.0) * pair.error + dual.error
        return Pair(dual.xx, dual.yy, dual.gap, dual.cogap, dual.slope * pair.ntk, error, pair.size)
