"""Fully connected layer, and what all layers with weights share."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import nearest, reject

from .layer import AbstractLayer, Role, Shape
from .pair import Pair, add, constant

PARAMETERISATIONS = ("ntk", "standard", "mean_field")


class Affine(eqx.Module):
    r"""A finite affine map $z = s_w W x + s_b b$ of the channels, with trainable $W$ (out, in) and $b$ (out,) or none.

    ``rates`` multiply the steps of $W$ and of $b$: their gradients, and what they add to the tangent kernel.
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None
    weight_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)
    rates: tuple[float, float] = eqx.field(static=True, default=(1.0, 1.0))

    def __call__(self, x: Float[Array, "*p in"]) -> Float[Array, "*p out"]:
        weight = slowed(self.weight, self.rates[0])
        z = self.weight_scale * (weight @ x if x.ndim == 1 else x @ weight.T)
        return shifted(z, self.bias, self.bias_scale, self.rates[1])


def slowed(value: Float[Array, "..."], rate: float) -> Float[Array, "..."]:
    """The same value, its gradient multiplied by the root of the rate, so that steps move the output by the rate."""
    if rate == 1.0:
        return value
    held = jax.lax.stop_gradient(value)
    return held + math.sqrt(rate) * (value - held)


def shifted(z: Float[Array, "*p out"], bias: Float[Array, " out"] | None, scale: float, rate: float) -> Array:
    """Add a bias, the same at every position."""
    return z if bias is None else z + jnp.expand_dims(scale * slowed(bias, rate), tuple(range(z.ndim - 1)))


class Dense(AbstractLayer):
    r"""A fully connected layer $z_i = b_i + \sum_j W_{ij}x_j$, $W_{ij} \sim N(0, C_w/n_{in})$, $b_i \sim N(0, C_b)$.

    ``parameterisation="ntk"``: $W = \sqrt{C_w/n_{in}}\,\omega$, $b = \sqrt{C_b}\,\beta$ and $\omega, \beta
    \sim N(0, 1)$ are trained; $K' = C_wK + C_b$, $\Theta' = K' + C_w\Theta$ (no bias when $C_b = 0$).
    ``parameterisation="standard"``: $W$ and $b$ themselves are trained;
    $\Theta' = n_{in}K + 1 + C_w\Theta$, which needs the widths, so give every ``size``. There is a
    bias where $C_b > 0$; ``use_bias=True`` trains one that starts at zero (it counts in the
    standard parameterisation), ``use_bias=False`` needs $C_b = 0$.
    ``parameterisation="mean_field"``: the output of ``"ntk"`` divided by $\sqrt{n_{in}}$, for the readout of a network
    whose learning rates are all multiplied by $n_{in}$: $K' = 0$, and $\Theta' = C_wK + C_b + C_w\Theta$ in the time
    of these rates. With one hidden layer this is the mean-field limit, with more it is muP. In contrast to the other
    two, the tangent kernel moves in training however wide the network is (Chizat & Bach 2018; Yang & Hu 2021).

    ``weight_rate`` and ``bias_rate`` multiply the learning rates of W and b, and with them their share of $\Theta'$;
    0 freezes them. On images and sequences the layer acts on the channels, alike at every position.

    Raises ``ValueError`` for variances or rates that are negative or not finite, for a size below 1 and for
    an unknown parameterisation (Jacot et al. 2018; Sohl-Dickstein et al. 2020).

    >>> Dense(2.0, 0.1)
    Dense(weight_variance=2.0, bias_variance=0.1)
    """

    weight_variance: float | Array = 1.0
    bias_variance: float | Array = 0.0
    size: int | None = eqx.field(static=True, default=None)
    parameterisation: str = eqx.field(static=True, default="ntk")
    use_bias: bool | None = eqx.field(static=True, default=None)
    weight_rate: float | Array = 1.0
    bias_rate: float | Array = 1.0
    role: ClassVar[Role] = "fresh"

    def __post_init__(self):
        check_weights(self)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        size = chosen_size(self, width)
        weight_key, bias_key = jr.split(key)
        weight = jr.normal(weight_key, (size, shape[-1]))
        bias = jr.normal(bias_key, (size,)) if biased(self) else None
        return Affine(*scaled_weights(self, weight, bias, shape[-1]), rates(self)), (*shape[:-1], size)

    def propagate(self, pair: Pair) -> Pair:
        return mixed_channels(self, pair, pair.size)


def scaled_weights(layer, weight: Array, bias: Array | None, fan_in: int) -> tuple[Array, Array | None, float, float]:
    """Weights, bias and their two factors in the layer's parameterisation, from standard normal draws."""
    weight_scale, bias_scale = math.sqrt(layer.weight_variance / fan_in), math.sqrt(layer.bias_variance)
    if layer.parameterisation == "standard":
        return weight_scale * weight, None if bias is None else bias_scale * bias, 1.0, 1.0
    if layer.parameterisation == "mean_field":
        weight_scale, bias_scale = weight_scale / math.sqrt(fan_in), bias_scale / math.sqrt(fan_in)
    return weight, bias, weight_scale, bias_scale


def rates(layer) -> tuple[float, float]:
    """The factors of the learning rates of a layer's weights and biases."""
    return float(layer.weight_rate), float(layer.bias_rate)


def mixed_channels(layer, pair: Pair, fan_in: int | None) -> Pair:
    r"""The pair $K' = C_wK + C_b$ after fresh weights with so large a fan-in, and its tangent kernel."""
    moved = add(pair.scaled(layer.weight_variance), constant(layer.bias_variance, pair))
    if layer.parameterisation != "standard":
        weights, biases = layer.weight_variance * pair.xy, layer.bias_variance
    elif fan_in is None:
        reject(
            f"{layer!r} in the standard parameterisation after a layer of unknown size",
            "There the tangent kernel grows with the width, so it needs every size",
            "Give each layer a size, or use parameterisation='ntk'",
        )
    else:
        weights, biases = fan_in * pair.xy, 1.0 if biased(layer) else 0.0
    own = layer.weight_rate * weights + layer.bias_rate * biases
    after = replace(moved, ntk=own + moved.ntk, size=layer.size, gaussian=True)
    return _vanished(after) if layer.parameterisation == "mean_field" else after


def _vanished(pair: Pair) -> Pair:
    """The pair of a signal that is zero in the limit, with the same tangent kernel."""
    zero, one = jnp.zeros_like(pair.xx), jnp.ones_like(pair.gap)
    return replace(pair, xx=zero, yy=zero, gap=one, cogap=one)


def chosen_size(layer, width: int | None) -> int:
    """The number of channels of a layer in a finite network of this width."""
    size = layer.size or width
    if size is None:
        reject("a layer of open size and no width", "A finite network needs every size", "Give width=256 to sample")
    return size


def biased(layer) -> bool:
    """Whether a layer has a bias: as asked, or else where the variance of one is not zero."""
    if layer.use_bias is not None:
        return layer.use_bias
    return isinstance(layer.bias_variance, jax.Array) or layer.bias_variance > 0


def check_weights(layer) -> None:
    """Refuse variances, rates, sizes and parameterisations that make no sense."""
    for name in ("weight_variance", "bias_variance", "weight_rate", "bias_rate"):
        check_variance(name, getattr(layer, name))
    if layer.size is not None:
        check_count("size", layer.size)
    check_parameterisation(layer.parameterisation)
    if layer.use_bias is False and layer.bias_variance > 0:
        reject(
            f"use_bias=False with bias_variance={layer.bias_variance}",
            "Without a bias its variance is zero",
            "Leave bias_variance out, or use_bias",
        )


def check_variance(name: str, value: float | Array) -> None:
    """Refuse a variance, or a rate, that is negative or not finite."""
    if isinstance(value, jax.Array):
        return  # may be traced: of a gradient, only the caller knows the values
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        reject(
            f"{name}={value!r}",
            f"A {name.split('_')[-1]} is a finite number of at least 0",
            f"Give for example {name}=1.0",
        )


def check_count(name: str, value: Any, most: int | None = None) -> None:
    """Refuse a count that is not a whole number of at least 1, or above what a machine can hold."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most:,}"
        reject(f"{name}={value!r}", f"{name} is a whole number of at least 1{upper}", f"Give for example {name}=2")


def check_parameterisation(value: str) -> None:
    """Refuse an unknown parameterisation."""
    if value not in PARAMETERISATIONS:
        reject(
            f"parameterisation {value!r}{nearest(str(value), PARAMETERISATIONS)}",
            f"Known are {', '.join(PARAMETERISATIONS)}",
            "Choose one of them",
        )
