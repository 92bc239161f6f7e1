"""Convolutions: shared, transposed and locally connected."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float

from .dense import biased, check_weights, chosen_size, held, mixed_channels, scaled_weights, shifted, trained
from .layer import AbstractLayer, Role, Shape
from .mixing import averaged
from .pair import Pair
from .window import Counts, Window, check_padding, outputs, places, whole_numbers, windows

_AXES = "HWDEFG"


class Convolved(eqx.Module):
    """A finite convolution of the positions, with trainable weight (*filter, in, out) and bias (out,) or none."""

    weight: Float[Array, "..."]
    bias: Float[Array, " out"] | None
    weight_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)
    trained: tuple[bool, bool] = eqx.field(static=True)
    windows: tuple[Window, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p in"]) -> Float[Array, "*q out"]:
        axes = _AXES[: len(self.windows)]
        z = lax.conv_general_dilated(
            prepared(x, self.windows)[None],
            self.weight_scale * held(self.weight, self.trained[0]),
            window_strides=[window.stride for window in self.windows],
            padding="VALID",
            rhs_dilation=[window.dilation for window in self.windows],
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )[0]
        return shifted(z, self.bias, self.bias_scale, self.trained[1])


def prepared(x: Float[Array, "*p in"], windows: tuple[Window, ...]) -> Float[Array, "*q in"]:
    """An input padded along all its positions."""
    for axis, window in enumerate(windows):
        x = window.prepared(x, (axis,), 0.0)
    return x


class Conv(AbstractLayer):
    r"""A convolution $z_{pi} = b_i + \sum_{\delta j}W_{\delta ij}x_{p+\delta,j}$ over the positions.

    $W_{\delta ij} \sim N(0, C_w/(|P|n_{in}))$, $b_i \sim N(0, C_b)$, and
    $K'_{pp'} = C_b + C_w\mathcal A[K]_{pp'}$ with $\mathcal A[K]_{pp'} = \frac1{|P|}\sum_{\delta \in P}
    K_{sp+\delta,sp'+\delta}$, the same offset in both; $\Theta' = K' + C_w\mathcal A[\Theta]$ (Novak et al. 2019; Arora
    et al. 2019). ``filter`` is the size of the filter P along each axis of positions (one for sequences, two for
    images), ``strides`` s and ``dilation`` likewise; a single number is for all axes. ``padding``: ``"SAME"`` has
    zeros outside, and still divides by all $|P|$ places; ``"CIRCULAR"`` continues on the other side; ``"VALID"`` stays
    inside. The other arguments are those of `Dense`; in the standard parameterisation the fan-in is $|P|n_{in}$.

    ``transposed=True``: position p of the input reaches the outputs $sp + \delta$, so that positions multiply by the
    strides. About $|P|/\prod s$ of the offsets reach one output, and the variance shrinks accordingly.
    ``shared=False``: every position has weights and biases of its own (locally connected); different positions
    become independent, and $K'_{pp'} = 0$ for $p \ne p'$.

    Raises ``ValueError`` for counts below 1, an unknown padding, inputs with another number of axes than the filter,
    and for inputs smaller than a filter that must stay inside.

    >>> Conv((3, 3), weight_variance=2.0, strides=2)
    Conv(filter=(3, 3), weight_variance=2.0, strides=2)
    """

    filter: Counts = eqx.field(static=True)
    weight_variance: float | Array = 1.0
    bias_variance: float | Array = 0.0
    size: int | None = eqx.field(static=True, default=None)
    strides: Counts = eqx.field(static=True, default=1)
    padding: str = eqx.field(static=True, default="SAME")
    dilation: Counts = eqx.field(static=True, default=1)
    transposed: bool = eqx.field(static=True, default=False)
    shared: bool = eqx.field(static=True, default=True)
    parameterisation: str = eqx.field(static=True, default="ntk")
    use_bias: bool | None = eqx.field(static=True, default=None)
    weight_rate: float | Array = 1.0
    bias_rate: float | Array = 1.0
    role: ClassVar[Role] = "fresh"

    def __post_init__(self):
        for name in ("filter", "strides", "dilation"):
            whole_numbers(name, getattr(self, name))
        check_padding(self.padding)
        check_weights(self)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        size, seen = chosen_size(self, width), self._windows(shape[:-1])
        out, sizes = outputs(seen, shape[:-1]), tuple(window.size for window in seen)
        weight_key, bias_key = jr.split(key)
        own, inner = ((), sizes) if self.shared else (out, (places(seen),))
        weight = jr.normal(weight_key, (*own, *inner, shape[-1], size))
        bias = jr.normal(bias_key, (*own, size)) if biased(self) else None
        drawn = scaled_weights(self, weight, bias, places(seen) * shape[-1])
        piece = Convolved if self.shared else Unshared
        return piece(*drawn, trained(self), seen), (*out, size)

    def propagate(self, pair: Pair) -> Pair:
        seen = self._windows(pair.positions)
        fan_in = None if pair.size is None else places(seen) * pair.size
        after = mixed_channels(self, averaged(pair, seen), fan_in)
        return after if self.shared or not after.crossed else _independent_positions(after)

    def _windows(self, positions: tuple[int, ...]) -> tuple[Window, ...]:
        return windows(self, positions, self.strides, self.dilation)


def _independent_positions(pair: Pair) -> Pair:
    """The pair without correlation between different positions."""
    same = jnp.eye(pair.xx.size, dtype=bool).reshape(pair.gap.shape)
    gap, cogap = (jnp.where(same, part, 1.0) for part in (pair.gap, pair.cogap))
    return replace(pair, gap=gap, cogap=cogap, ntk=jnp.where(same, pair.ntk, 0.0))


class Unshared(eqx.Module):
    """A finite unshared convolution, with weight (*positions, places, in, out) and bias (*positions, out) or none."""

    weight: Float[Array, "..."]
    bias: Float[Array, "..."] | None
    weight_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)
    trained: tuple[bool, bool] = eqx.field(static=True)
    windows: tuple[Window, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p in"]) -> Float[Array, "*q out"]:
        weight = self.weight_scale * held(self.weight, self.trained[0])
        z = jnp.einsum("...ki,...kio->...o", jnp.stack(neighbourhoods(x, self.windows), axis=-2), weight)
        return z if self.bias is None else z + self.bias_scale * held(self.bias, self.trained[1])


def neighbourhoods(x: Float[Array, "*p in"], seen: tuple[Window, ...], fill: float = 0.0) -> list[Array]:
    """For each place in the windows along all axes, what the outputs see there."""
    found = [x]
    for axis, window in enumerate(seen):
        found = [view for one in found for view in window.views(one, (axis,), fill)]
    return found
