"""Layer norm and RMS norm over the channels."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.activations import ratio, root

from .apply import demand_gaussian
from .dense import check_variance
from .layer import AbstractLayer, Role, Shape
from .pair import Pair


class LayerNorm(AbstractLayer):
    r"""The channels of every position centred and divided by $\sqrt{\text{variance} + \epsilon}$.

    There is no trained scale. On Gaussian signals $K' = K/\sqrt{(K_{xx}+\epsilon)(K_{yy}+\epsilon)}$, and $\Theta'$
    likewise (the gradient through mean and variance is $O(1/n)$). Every variance becomes one, so the rest of
    the network depends on angles alone. Straight after an activation the mean is not zero in the limit: use
    `RMSNorm` there, or put the norm before the activation; ``ValueError`` is raised.

    >>> LayerNorm().epsilon
    1e-12
    """

    epsilon: float = 1e-12
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        check_variance("epsilon", self.epsilon)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Normed(self.epsilon, True), shape

    def propagate(self, pair: Pair) -> Pair:
        demand_gaussian(self, pair)
        return _normed(pair, self.epsilon)


class RMSNorm(AbstractLayer):
    r"""The channels of every position divided by $\sqrt{\text{mean square} + \epsilon}$, without a trained scale.

    $K' = K/\sqrt{(K_{xx}+\epsilon)(K_{yy}+\epsilon)}$, $\Theta'$ likewise, after weights and after activations alike.

    >>> RMSNorm(1e-6)
    RMSNorm(epsilon=1e-06)
    """

    epsilon: float = 1e-12
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        check_variance("epsilon", self.epsilon)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Normed(self.epsilon, False), shape

    def propagate(self, pair: Pair) -> Pair:
        return _normed(pair, self.epsilon)


class Normed(eqx.Module):
    """A finite norm over the channels, the last axis."""

    epsilon: float = eqx.field(static=True)
    centred: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p c"]) -> Float[Array, "*p c"]:
        x = x - jnp.mean(x, axis=-1, keepdims=True) if self.centred else x
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + self.epsilon)


def _normed(pair: Pair, epsilon: float) -> Pair:
    scale = root(pair.left + epsilon) * root(pair.right + epsilon)
    xx, yy = (ratio(variance, variance + epsilon) for variance in (pair.xx, pair.yy))
    return replace(pair, xx=xx, yy=yy, ntk=ratio(pair.ntk, scale))
