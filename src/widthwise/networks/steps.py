r"""Which layers a convolutional recursion by displacements can do, and what they come to.

Legend: an axis of positions has a length (how many there are) and a period (how many are held: at least as many, and a
multiple of all strides that follow; windows that look beyond the border see positions that do not exist).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from widthwise.activations import Activation, negative_slope

from .apply import Apply
from .chain import Chain, Residual
from .combine import Scale
from .conv import Conv
from .dense import Dense, biased
from .displacement import Sweep, Sweeps
from .layer import AbstractLayer
from .window import Window, places, windows

_AT_ONCE = 12  # so many places of a filter are summed in one go, larger filters along one axis after the other


@dataclass(frozen=True)
class Mixed:
    r"""Fresh weights after windows along some axes; their kernel $K'$ adds $kK' + c$ to the tangent kernel."""

    sweeps: tuple[Sweeps, ...]
    weight: float
    bias: float
    kernel: float
    constant: float


@dataclass(frozen=True)
class Bent:
    """A rectifier."""

    slope: float


@dataclass(frozen=True)
class Applied:
    """Any other activation with a closed dual."""

    function: Activation


@dataclass(frozen=True)
class Scaled:
    """Multiplication of the signals by the root of a factor."""

    factor: float


@dataclass(frozen=True)
class Joined:
    """A shortcut around a branch whose signals are multiplied by the root of a factor."""

    branch: "tuple[Step, ...]"
    factor: float


Step = Mixed | Bent | Applied | Scaled | Joined


@dataclass(frozen=True)
class Axes:
    """How positions lie in the arrays of a `Moments`, how many there are now, how many are held, and the channels."""

    crossed: bool
    lengths: tuple[int, ...]
    periods: tuple[int, ...]
    size: int | None
    gaussian: bool = False

    def displaced(self, at: int) -> bool:
        """Whether pairs of positions along an axis are held by displacements."""
        return self.crossed and at < len(self.lengths) - 1

    def of(self, at: int) -> tuple[int, int]:
        """The axes of an array for the positions of x and of y."""
        return (1 + at, 2 + at) if self.crossed and not self.displaced(at) else (1 + at, 1 + at)


class _Unsuited(Exception):
    """A layer, or its arguments, that this recursion cannot do."""


def flat(network: AbstractLayer) -> list[AbstractLayer]:
    """The layers of nested chains, one after the other."""
    if not isinstance(network, Chain):
        return [network]
    return [layer for part in network.layers for layer in flat(part)]


def planned(layers: Sequence[AbstractLayer], axes: Axes) -> tuple[tuple[Step, ...], Axes]:
    """The steps of the first layers, as many as can be done, and the axes after them."""
    steps = []
    for layer in layers:
        try:
            step, axes = _step(layer, axes)
        except _Unsuited:
            break
        steps.append(step)
    return tuple(steps), axes


def held(layers: Sequence[AbstractLayer], positions: tuple[int, ...], size: int) -> Axes | None:
    """Axes by displacements with the shortest periods that do for all layers, none where they do for no period."""
    strides = [(1,) * len(positions)]
    strides += [
        one.strides if isinstance(one.strides, tuple) else (one.strides,) * len(positions)
        for one in layers
        if isinstance(one, Conv) and not one.transposed
    ]
    products = [math.prod(along) for along in zip(*strides, strict=True)]
    for more in range(max(positions) + 1):
        each = [(-(-n // product) + more) * product for n, product in zip(positions[:-1], products, strict=False)]
        axes = Axes(True, positions, (*each, positions[-1]), size)
        if len(planned(layers, axes)[0]) == len(layers):
            return axes
    return None


def _step(layer: AbstractLayer, axes: Axes) -> tuple[Step, Axes]:
    if isinstance(layer, Conv) and layer.shared and not layer.transposed:
        return _mixed(layer, axes, windows(layer, axes.lengths, layer.strides, layer.dilation))
    if isinstance(layer, Dense):
        return _mixed(layer, axes, tuple(Window(1) for _ in axes.lengths))
    if isinstance(layer, Apply) and axes.gaussian:
        return _activated(layer.activation), replace(axes, gaussian=False)
    if isinstance(layer, Scale) and isinstance(layer.factor, int | float):
        return Scaled(float(layer.factor) ** 2), axes
    if isinstance(layer, Residual) and isinstance(layer.scale, int | float):
        return _joined(layer, axes)
    raise _Unsuited


def _activated(function: Activation) -> Step:
    slope = negative_slope(function.closed)
    if slope is not None:
        return Bent(float(slope))
    if function.closed is None:
        raise _Unsuited
    return Applied(function)


def _joined(layer: Residual, axes: Axes) -> tuple[Step, Axes]:
    inner = flat(layer.branch)
    branch, after = planned(inner, axes)
    if len(branch) < len(inner) or (after.lengths, after.periods) != (axes.lengths, axes.periods):
        raise _Unsuited
    return Joined(branch, float(layer.scale) ** 2), replace(axes, gaussian=axes.gaussian and after.gaussian)


def _mixed(layer: Conv | Dense, axes: Axes, seen: tuple[Window, ...]) -> tuple[Step, Axes]:
    numbers = (layer.weight_variance, layer.bias_variance, layer.weight_rate, layer.bias_rate)
    if layer.parameterisation == "mean_field" or not all(isinstance(one, int | float) for one in numbers):
        raise _Unsuited
    weight, bias, weight_rate, bias_rate = map(float, numbers)
    kernel, constant = weight_rate, (bias_rate - weight_rate) * bias
    if layer.parameterisation == "standard":
        # A zero signal with a bias of variance zero would have a tangent kernel, and its slope would matter.
        if axes.size is None or weight == 0.0 or (biased(layer) and bias == 0.0):
            raise _Unsuited
        kernel *= places(seen) * axes.size / weight
        constant = bias_rate * float(biased(layer)) - kernel * bias
    kept = [at for at, one in enumerate(seen) if one.size > 1 or one.stride > 1]
    kept = kept if kept and kept[-1] == len(seen) - 1 else [*kept, len(seen) - 1]
    sweeps = tuple(_sweep(axes, at, seen[at]) for at in kept)
    together = math.prod(one.window.size for one in sweeps) <= _AT_ONCE
    lengths = tuple(one.outputs(n) for one, n in zip(seen, axes.lengths, strict=True))
    held = tuple(
        n // one.stride if axes.displaced(at) else lengths[at]
        for at, (one, n) in enumerate(zip(seen, axes.periods, strict=True))
    )
    after = replace(axes, lengths=lengths, periods=held, size=layer.size, gaussian=True)
    return Mixed((sweeps,) if together else tuple((one,) for one in sweeps), weight, bias, kernel, constant), after


def _sweep(axes: Axes, at: int, window: Window) -> Sweep:
    length, period = axes.lengths[at], axes.periods[at]
    (low, high), outputs = window.padded(length), window.outputs(length)
    if not axes.displaced(at):
        return Sweep(at, axes.of(at), window, low, high, outputs, outputs)
    circular = window.padding == "CIRCULAR"
    if period % window.stride or (period != length if circular else period < length + max(low, high)):
        raise _Unsuited
    count = period // window.stride
    last = (count - 1) * window.stride + window.reach - 1 - low
    return Sweep(at, axes.of(at), window, low, max(0, last - period + 1), count, outputs)
