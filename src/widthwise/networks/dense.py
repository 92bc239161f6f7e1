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

    ``trained`` says which of $W$ and $b$ have gradients. Their learning rates are in the factors (see `Dense`).
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None
    weight_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)
    trained: tuple[bool, bool] = eqx.field(static=True, default=(True, True))

    def __call__(self, x: Float[Array, "*p in"]) -> Float[Array, "*p out"]:
        weight = held(self.weight, self.trained[0])
        z = self.weight_scale * (weight @ x if x.ndim == 1 else x @ weight.T)
        return shifted(z, self.bias, self.bias_scale, self.trained[1])


def held(value: Float[Array, "..."], trained: bool) -> Float[Array, "..."]:
    """The same value, without a gradient where it is not trained."""
    return value if trained else jax.lax.stop_gradient(value)


def shifted(z: Float[Array, "*p out"], bias: Float[Array, " out"] | None, scale: float, trained: bool) -> Array:
    """Add a bias, the same at every position."""
    return z if bias is None else z + jnp.expand_dims(scale * held(bias, trained), tuple(range(z.ndim - 1)))


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
    0 freezes them. A finite piece trains $W/\sqrt r$ and multiplies it by $\sqrt r$: a step of plain gradient descent
    then moves W by r times as much. On images and sequences the layer acts on the channels, alike at every position.

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
        return Affine(*scaled_weights(self, weight, bias, shape[-1]), trained(self)), (*shape[:-1], size)

    def propagate(self, pair: Pair) -> Pair:
        return mixed_channels(self, pair, pair.size)


def scaled_weights(layer, weight: Array, bias: Array | None, fan_in: int) -> tuple[Array, Array | None, float, float]:
    """Weights, bias and their two factors in the layer's parameterisation, from standard normal draws."""
    weight_scale, bias_scale = math.sqrt(layer.weight_variance / fan_in), math.sqrt(layer.bias_variance)
    if layer.parameterisation == "standard":
        weight, bias = weight_scale * weight, None if bias is None else bias_scale * bias
        weight_scale = bias_scale = 1.0
    elif layer.parameterisation == "mean_field":
        weight_scale, bias_scale = weight_scale / math.sqrt(fan_in), bias_scale / math.sqrt(fan_in)
    # A step moves the output by the square of the factor, so a rate is its root in the factor.
    of_weight, of_bias = (math.sqrt(rate) or 1.0 for rate in (layer.weight_rate, layer.bias_rate))
    bias = None if bias is None else bias / of_bias
    return weight / of_weight, bias, weight_scale * of_weight, bias_scale * of_bias


def trained(layer) -> tuple[bool, bool]:
    """Whether the weights and the biases of a layer are trained: not at a rate of zero."""
    return bool(layer.weight_rate > 0), bool(layer.bias_rate > 0)


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
