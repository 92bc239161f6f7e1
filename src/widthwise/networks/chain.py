"""Layers in sequence, and around a shortcut."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import reject

from .apply import Apply
from .dense import check_variance
from .layer import AbstractLayer, Composed, Shape, through
from .norm import LayerNorm, NormedActivation
from .pair import Pair, add


class Chain(AbstractLayer):
    """Layers one after the other; a chain is a layer itself, so a network needs no class of its own.

    Raises ``ValueError`` for a chain without layers or with something that is no layer.

    >>> from widthwise.networks import Apply, Dense
    >>> Chain((Dense(2.0), Apply("relu"), Dense(1.0, size=1))).layers[2].size
    1
    """

    layers: tuple[AbstractLayer, ...]

    def __init__(self, layers: Any, *more: Any):
        if more or isinstance(layers, AbstractLayer):
            given = ", ".join(map(repr, (layers, *more)))
            reject(f"Chain({given})", "The layers stand in one tuple or list", f"Write Chain([{given}])")
        self.layers = tuple(layers)
        strange = [layer for layer in self.layers if not isinstance(layer, AbstractLayer)]
        if strange or not self.layers:
            came = f"a chain with {strange[0]!r}" if strange else "a chain without layers"
            reject(came, "A chain holds layers such as Dense and Apply", "Wrap an activation as Apply('relu')")

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        pieces = []
        for layer, layer_key in zip(self.layers, jr.split(key, len(self.layers)), strict=True):
            piece, shape = layer.sample(layer_key, shape, width)
            pieces.append(piece)
        return Composed(tuple(pieces)), shape

    def propagate(self, pair: Pair) -> Pair:
        for layer in self.units:
            pair = through(layer, pair)
        return pair

    @property
    def units(self) -> tuple[AbstractLayer, ...]:
        """The layers as pairs go through them: an activation and the layer norm straight after it are one."""
        units = []
        for layer in self.layers:
            if isinstance(layer, LayerNorm) and units and isinstance(units[-1], Apply):
                layer = NormedActivation(units.pop(), layer)
            units.append(layer)
        return tuple(units)


def is_fresh(layer: AbstractLayer) -> bool:
    """Whether the output of a layer is Gaussian and, up to second moments, independent of its input."""
    if not isinstance(layer, Chain):
        return layer.role == "fresh"
    tail = next((part for part in reversed(layer.layers) if part.role != "linear"), None)
    return tail is not None and is_fresh(tail)


class Shortcut(eqx.Module):
    """A finite residual piece, x + scale * branch(x)."""

    branch: Callable
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x + self.scale * self.branch(x)


class Residual(AbstractLayer):
    r"""A shortcut around a branch, $y = x + \beta\,\mathrm{branch}(x)$.

    $K' = K + \beta^2K_{br}$ and $\Theta' = \Theta + \beta^2\Theta_{br}$, where the branch has its own
    parameters and passes its input's on.
    The branch must end in a layer with weights, such as Dense or Conv, whose fresh zero-mean weights make it
    independent of the shortcut (only linear layers without weights, such as a pooling, may follow); ending in an
    activation there would be cross terms, and ``ValueError`` is raised (Yang & Schoenholz 2017).

    >>> from widthwise.networks import Apply, Dense
    >>> Residual(Chain((Apply("relu"), Dense(1.0))), scale=0.5).scale
    0.5
    """

    branch: AbstractLayer
    scale: float = 1.0

    def __post_init__(self):
        check_variance("scale", self.scale)
        if not is_fresh(self.branch):
            reject(
                f"a residual branch that ends in {ending(self.branch)!r}",
                "A branch must end in a layer with weights, such as Dense, which makes it independent of the shortcut",
                "Append Dense() or Conv(...) to the branch",
            )

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        branch, out = self.branch.sample(key, shape, width)
        if out != shape:
            reject(
                f"a residual branch from {spoken(shape)} to {spoken(out)}",
                "A shortcut adds input and output of its branch, so the sizes must be equal",
                f"Give the branch's last layer size={shape[-1]}, and keep the positions as they are",
            )
        return Shortcut(branch, self.scale), out

    def propagate(self, pair: Pair) -> Pair:
        return self.joined(pair, through(self.branch, pair))

    def joined(self, pair: Pair, branch: Pair) -> Pair:
        """The sum of what came and of what the branch made of it."""
        if branch.positions != pair.positions:
            reject(
                f"a residual branch from positions {pair.positions} to {branch.positions}",
                "A shortcut adds input and output of its branch, so the positions must be the same",
                "Use padding='SAME' and strides of 1, or a Parallel with a second branch that has the same strides",
            )
        return add(pair, branch.scaled(self.scale**2))


def ending(layer: AbstractLayer) -> AbstractLayer:
    """The last layer that is not itself a chain."""
    return ending(layer.layers[-1]) if isinstance(layer, Chain) else layer


def spoken(shape: Shape) -> str:
    """A shape in words: the channels alone where there are no positions."""
    return f"{shape[0]} coordinates" if len(shape) == 1 else f"shape {shape}"
