"""Layer norm and RMS norm over the channels."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.activations import Activation, between, ratio, root

from .apply import Apply, demand_gaussian, dual_of
from .dense import check_variance
from .layer import AbstractLayer, Composed, Role, Shape
from .pair import Pair


class LayerNorm(AbstractLayer):
    r"""The channels of every position centred and divided by $\sqrt{\text{variance} + \epsilon}$.

    There is no trained scale. On Gaussian signals $K' = K/\sqrt{(K_{xx}+\epsilon)(K_{yy}+\epsilon)}$, and $\Theta'$
    likewise (the gradient through mean and variance is $O(1/n)$). Every variance becomes one, so the rest of
    the network depends on angles alone. Straight after an activation s, as the next layer of a `Chain`, the mean
    $m = E\,s$ is not zero in the limit: $K' = \frac{F-m_xm_y}{\sqrt{(F_{xx}-m_x^2+\epsilon)(F_{yy}-m_y^2+\epsilon)}}$.
    On other signals that are not Gaussian, such as a pooled activation, ``ValueError`` is raised.

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


class NormedActivation(AbstractLayer):
    """An activation and the layer norm straight after it, which takes its mean away: one layer to pairs."""

    apply: Apply
    norm: LayerNorm

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Composed((self.apply.sample(key, shape)[0], self.norm.sample(key, shape)[0])), shape

    def propagate(self, pair: Pair) -> Pair:
        centred = _centred(self.apply.activation, pair, self.apply.propagate(pair))
        return _normed(centred, self.norm.epsilon)


def _centred(function: Activation, before: Pair, after: Pair) -> Pair:
    r"""The activations less the mean of their channels.

    The product of two means is the moment of independent signals, $m_xm_y = F(q_1, q_2, \rho = 0)$. With $a, b$ the
    variances and $a', b'$ those that are left,
    $\sqrt{a'b'}(1-\rho') = \sqrt{ab}(1-\rho) - \frac{(\sqrt am_y-\sqrt bm_x)^2}{\sqrt{ab}-m_xm_y+\sqrt{a'b'}}$,
    whose last term is zero for a homogeneous function (derived in this project).
    """
    shared = _independent(function, before)
    own_x = _independent(function, replace(before, yy=before.xx, gap=before.xx, within=None))
    own_y = _independent(function, replace(before, xx=before.yy, gap=before.yy, within=None))
    xx, yy = jnp.maximum(after.xx - own_x, 0.0), jnp.maximum(after.yy - own_y, 0.0)
    scale, left = after.scale, root(after.along_x(xx)) * root(after.along_y(yy))
    first, second = root(after.left) * root(after.along_y(own_y)), root(after.right) * root(after.along_x(own_x))
    second = jnp.where(shared < 0.0, -second, second)
    apart = scale * after.gap - ratio((first - second) ** 2, scale - shared + left)
    together = scale * after.cogap - ratio((first + second) ** 2, scale + shared + left)
    gap, cogap = (between(ratio(part, left, 1.0)) for part in (apart, together))
    gap, cogap = jnp.where(gap < cogap, gap, 2.0 - cogap), jnp.where(gap < cogap, 2.0 - gap, cogap)
    error = after.error * jnp.max(ratio(scale, left, 1.0))
    return replace(after, xx=xx, yy=yy, gap=gap, cogap=cogap, error=error, within=None)


def _independent(function: Activation, pair: Pair) -> Array:
    """The covariance after a function of independent signals with the variances of a pair."""
    one = jnp.ones_like(pair.gap)
    dual = dual_of(function, replace(pair, gap=one, cogap=one))
    return replace(pair, xx=dual.xx, yy=dual.yy, gap=dual.gap, cogap=dual.cogap).xy


class Normed(eqx.Module):
    """A finite norm over the channels, the last axis."""

    epsilon: float = eqx.field(static=True)
    centred: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p c"]) -> Float[Array, "*p c"]:
        x = x - jnp.mean(x, axis=-1, keepdims=True) if self.centred else x
        return ratio(x, root(jnp.mean(x**2, axis=-1, keepdims=True) + self.epsilon))


def _normed(pair: Pair, epsilon: float) -> Pair:
    scale = root(pair.left + epsilon) * root(pair.right + epsilon)
    xx, yy = (ratio(variance, variance + epsilon) for variance in (pair.xx, pair.yy))
    return replace(pair, xx=xx, yy=yy, ntk=ratio(pair.ntk, scale))
