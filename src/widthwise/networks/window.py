r"""Sliding windows along the axes of positions: which inputs an output of a convolution or a pooling sees.

Legend: filter size k, stride s, dilation d; output o sees the positions $so + d\delta - low$, $\delta < k$.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from widthwise.numerics import nearest, reject

Counts = int | tuple[int, ...]  # one for all axes, or one for each
PADDINGS = ("SAME", "VALID", "CIRCULAR")


@dataclass(frozen=True)
class Window:
    """A window along one axis; ``spread`` puts so many steps between the positions first (transposed convolution)."""

    size: int
    stride: int = 1
    dilation: int = 1
    padding: str = "SAME"
    spread: int = 1

    @property
    def reach(self) -> int:
        """From the first to the last position that an output sees."""
        return (self.size - 1) * self.dilation + 1

    def padded(self, length: int) -> tuple[int, int]:
        """How many positions are added at the low and at the high end."""
        if self.spread > 1:
            return self._padded_spread()
        if self.padding == "VALID":
            return 0, 0
        total = max((-(-length // self.stride) - 1) * self.stride + self.reach - length, 0)
        return total // 2, total - total // 2

    def _padded_spread(self) -> tuple[int, int]:
        """The padding for which the transposed window of SAME has as many outputs as positions times the spread."""
        if self.padding == "VALID":
            return self.reach - 1, self.reach - 1 + max(self.spread - self.reach, 0)
        total = self.reach + self.spread - 2
        low = self.reach - 1 if self.spread > self.reach - 1 else -(-total // 2)
        return low, total - low

    def outputs(self, length: int) -> int:
        """The number of outputs for so many positions, 0 where the window does not fit."""
        whole = (length - 1) * self.spread + 1 + sum(self.padded(length))
        return max(0, (whole - self.reach) // self.stride + 1)

    def prepared(self, values: Array, axes: tuple[int, ...], fill: float) -> Array:
        """Values padded along axes, all of the same length."""
        low, high = self.padded(values.shape[axes[0]])
        if self.padding == "CIRCULAR":
            values = self._interior(values, axes, fill, self.spread - 1)
            high -= self.spread - 1
            return jnp.pad(values, [(low, high) if axis in axes else (0, 0) for axis in range(values.ndim)], "wrap")
        config = [(low, high, self.spread - 1) if axis in axes else (0, 0, 0) for axis in range(values.ndim)]
        return lax.pad(values, jnp.asarray(fill, values.dtype), config)

    def _interior(self, values: Array, axes: tuple[int, ...], fill: float, count: int) -> Array:
        config = [(0, count, count) if axis in axes else (0, 0, 0) for axis in range(values.ndim)]
        return lax.pad(values, jnp.asarray(fill, values.dtype), config) if count else values

    def views(self, values: Array, axes: tuple[int, ...], fill: float) -> list[Array]:
        """For each place in the window, what the outputs see there, along axes of equal length."""
        count = self.outputs(values.shape[axes[0]])
        whole, found = self.prepared(values, axes, fill), []
        for place in range(self.size):
            start = place * self.dilation
            part = slice(start, start + (count - 1) * self.stride + 1, self.stride)
            found.append(whole[tuple(part if axis in axes else slice(None) for axis in range(values.ndim))])
        return found


def windows(layer, positions: tuple[int, ...], strides: Counts = 1, dilation: Counts = 1) -> tuple[Window, ...]:
    """The windows of a layer with a ``filter`` and a ``padding`` on these positions."""
    transposed = getattr(layer, "transposed", False)
    if not positions or (isinstance(layer.filter, tuple) and len(layer.filter) != len(positions)):
        reject(
            f"{layer!r} saw inputs with " + (f"positions of shape {positions}" if positions else "no positions"),
            "Images have shape (n, height, width, channels) and sequences (n, length, channels); a filter has one "
            "number for each axis of positions",
            "Reshape the inputs, or give a filter with another number of axes",
        )
    each = (whole_numbers(*one, len(positions)) for one in (("filter", layer.filter), ("strides", strides)))
    sizes, steps = each
    found = tuple(
        Window(size, 1 if transposed else step, one, layer.padding, step if transposed else 1)
        for size, step, one in zip(sizes, steps, whole_numbers("dilation", dilation, len(positions)), strict=True)
    )
    for window, length in zip(found, positions, strict=True):
        if not window.outputs(length):
            reject(
                f"{layer!r} saw positions of shape {positions}",
                f"With padding 'VALID' a window of {window.reach} needs at least as many positions",
                "Use padding='SAME', a smaller filter or larger inputs",
            )
    return found


def places(windows: tuple[Window, ...]) -> int:
    """The number of places in windows along all axes."""
    return math.prod(window.size for window in windows)


def outputs(windows: tuple[Window, ...], positions: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the positions after windows along all axes."""
    return tuple(window.outputs(length) for window, length in zip(windows, positions, strict=True))


def whole_numbers(name: str, value: Counts, rank: int | None = None) -> tuple[int, ...]:
    """One whole number of at least 1 for each axis; a single one stands for all."""
    given = value if isinstance(value, tuple) else (value,) * (rank or 1)
    fit = rank is None or len(given) == rank
    if not given or not fit or not all(type(one) is int and one >= 1 for one in given):
        reject(
            f"{name}={value!r}",
            f"{name} is a whole number of at least 1 for each axis" + (f", {rank} of them" if rank else ""),
            f"Give for example {name}={(2,) * (rank or 1)}",
        )
    return tuple(given)


def check_padding(padding: str) -> None:
    """Refuse an unknown padding."""
    if padding not in PADDINGS:
        reject(
            f"padding={padding!r}{nearest(str(padding), PADDINGS)}",
            f"Known are {', '.join(PADDINGS)}",
            "Choose one of them",
        )
