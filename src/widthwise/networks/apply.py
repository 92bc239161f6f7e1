"""Coordinatewise activation."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.activations import Activation, Dual, activation, ratio, root
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


class Homogeneous(AbstractLayer):
    r"""An activation that scales with its input: $r\,s(z/r)$, with r the root mean square of the channels.

    $K' = \sqrt{K_{xx}K_{yy}}F(\rho)$ and $\Theta' = D(\rho)\Theta$, with F and D the dual of s at variances of one (the
    gradient through r is $O(1/n)$). The normalised exponential of the literature, $K' = \sqrt{K_{xx}K_{yy}}
    e^{\gamma(\rho-1)}$, is that of ``exponential(gamma**0.5, -gamma)`` (derived in this project). Takes what `Apply`
    takes, and raises the same.

    >>> Homogeneous("gelu").activation
    Activation(gelu)
    """

    activation: Activation = eqx.field(converter=activation)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Rescaled(self.activation), shape

    def propagate(self, pair: Pair) -> Pair:
        xx, yy = (ratio(variance, variance) for variance in (pair.xx, pair.yy))
        after = Apply(self.activation).propagate(replace(pair, xx=xx, yy=yy))
        return replace(after, xx=pair.xx * after.xx, yy=pair.yy * after.yy)


class Rescaled(eqx.Module):
    """A finite activation of the channels over their root mean square, multiplied by it again."""

    activation: Activation

    def __call__(self, x: Float[Array, "*p c"]) -> Float[Array, "*p c"]:
        size = root(jnp.mean(x**2, axis=-1, keepdims=True))
        return size * self.activation(ratio(x, size))


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
        if function.closed is None and function.kinks:  # hundreds of nodes for each pair: not for all at once
            found = jax.lax.map(lambda part: row(part[0], flat[1], *part[1:]), (flat[0], *gaps))
            found = (found[0], found[1][0], *found[2:])
        else:
            found = jax.vmap(row, in_axes=(0, None, 0, 0), out_axes=(0, None, 0, 0, 0, 0))(*flat, *gaps)
    else:
        found = jax.vmap(one)(*flat, pair.gap.reshape(-1), pair.cogap.reshape(-1))
    xx, yy, *rest = found
    return Dual(xx.reshape(pair.positions), yy.reshape(pair.positions), *(part.reshape(shape) for part in rest))
