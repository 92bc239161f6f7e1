"""Fully connected layer."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import nearest, reject

from .layer import AbstractLayer
from .pair import Pair, add, constant

PARAMETERISATIONS = ("ntk", "standard")


class Affine(eqx.Module):
    r"""A finite affine map $z = s_w W x + s_b b$ with trainable $W$ (out, in) and $b$ (out,) or none."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None
    weight_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        z = self.weight_scale * (self.weight @ x)
        return z if self.bias is None else z + self.bias_scale * self.bias


class Dense(AbstractLayer):
    r"""A fully connected layer $z_i = b_i + \sum_j W_{ij}x_j$, $W_{ij} \sim N(0, C_w/n_{in})$, $b_i \sim N(0, C_b)$.

    ``parameterisation="ntk"``: $W = \sqrt{C_w/n_{in}}\,\omega$, $b = \sqrt{C_b}\,\beta$ and $\omega, \beta
    \sim N(0, 1)$ are trained; $K' = C_wK + C_b$, $\Theta' = K' + C_w\Theta$ (no bias when $C_b = 0$).
    ``parameterisation="standard"``: $W$ and $b$ themselves are trained;
    $\Theta' = n_{in}K + 1 + C_w\Theta$, which needs the widths, so give every ``size``. There is a
    bias where $C_b > 0$; ``use_bias=True`` trains one that starts at zero (it counts in the
    standard parameterisation), ``use_bias=False`` needs $C_b = 0$.

    Raises ``ValueError`` for variances that are negative or not finite, for a size below 1 and for
    an unknown parameterisation (Jacot et al. 2018; Sohl-Dickstein et al. 2020).

    >>> Dense(2.0, 0.1)
    Dense(weight_variance=2.0, bias_variance=0.1, use_bias=True)
    """

    weight_variance: float = 1.0
    bias_variance: float = 0.0
    size: int | None = eqx.field(static=True, default=None)
    parameterisation: str = eqx.field(static=True, default="ntk")
    use_bias: bool | None = eqx.field(static=True, default=None)

    def __post_init__(self):
        self.use_bias = self.bias_variance > 0 if self.use_bias is None else self.use_bias
        check_variance("weight_variance", self.weight_variance)
        check_variance("bias_variance", self.bias_variance)
        if self.size is not None:
            check_count("size", self.size)
        check_parameterisation(self.parameterisation)
        if self.bias_variance > 0 and not self.use_bias:
            reject(
                f"use_bias=False with bias_variance={self.bias_variance}",
                "Without a bias its variance is zero",
                "Leave bias_variance out, or use_bias",
            )

    def sample(self, key: Array, in_size: int, width: int | None = None) -> tuple[Callable, int]:
        size = self.size or width
        if size is None:
            reject("a layer of open size and no width", "A finite network needs every size", "Give width=256 to sample")
        weight_key, bias_key = jr.split(key)
        weight = jr.normal(weight_key, (size, in_size))
        bias = jr.normal(bias_key, (size,)) if self.use_bias else None
        weight_scale, bias_scale = math.sqrt(self.weight_variance / in_size), math.sqrt(self.bias_variance)
        if self.parameterisation == "standard":
            return Affine(weight_scale * weight, None if bias is None else bias_scale * bias, 1.0, 1.0), size
        return Affine(weight, bias, weight_scale, bias_scale), size

    def propagate(self, pair: Pair) -> Pair:
        moved = add(pair.scaled(self.weight_variance), constant(self.bias_variance, pair))
        ntk = self._own(pair, moved) + self.weight_variance * pair.ntk
        return Pair(moved.xx, moved.yy, moved.gap, moved.cogap, ntk, pair.error, self.size)

    def _own(self, pair: Pair, moved: Pair) -> Float[Array, ""]:
        """What this layer's own parameters add to the tangent kernel."""
        if self.parameterisation == "ntk":
            return moved.xy
        if pair.size is None:
            reject(
                "a layer in the standard parameterisation after one of unknown size",
                "There the tangent kernel grows with the width, so it needs every size",
                "Give each Dense a size, or use parameterisation='ntk'",
            )
        return pair.size * pair.xy + (1.0 if self.use_bias else 0.0)


def check_variance(name: str, value: float) -> None:
    """Refuse a variance that is negative or not finite."""
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        reject(f"{name}={value!r}", "A variance is a finite number of at least 0", f"Give for example {name}=1.0")


def check_count(name: str, value: int, most: int | None = None) -> None:
    """Refuse a count that is not a whole number of at least 1, or above what a machine can hold."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most:,}"
        reject(f"{name}={value!r}", f"{name} is a whole number of at least 1{upper}", f"Give for example {name}=2")


def check_parameterisation(value: str) -> None:
    """Refuse an unknown parameterisation."""
    if value not in PARAMETERISATIONS:
        reject(
            f"parameterisation {value!r}{nearest(str(value), PARAMETERISATIONS)}",
            f"Known are {' and '.join(PARAMETERISATIONS)}",
            "Choose one of them",
        )
