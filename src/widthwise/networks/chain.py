"""Layers in sequence, and around a shortcut."""

from collections.abc import Callable

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import reject

from .dense import Dense, check_variance
from .layer import AbstractLayer
from .pair import Pair, add


class Composed(eqx.Module):
    """Finite pieces, one after the other."""

    pieces: tuple[Callable, ...]

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        for piece in self.pieces:
            x = piece(x)
        return x


class Chain(AbstractLayer):
    """Layers one after the other; a chain is a layer itself, so a network needs no class of its own.

    Raises ``ValueError`` for a chain without layers or with something that is no layer.

    >>> from widthwise.networks import Apply, Dense
    >>> Chain((Dense(2.0), Apply("relu"), Dense(1.0, size=1))).layers[2].size
    1
    """

    layers: tuple[AbstractLayer, ...] = eqx.field(converter=tuple)

    def __post_init__(self):
        strange = [layer for layer in self.layers if not isinstance(layer, AbstractLayer)]
        if strange or not self.layers:
            came = f"a chain with {strange[0]!r}" if strange else "a chain without layers"
            reject(came, "A chain holds layers such as Dense and Apply", "Wrap an activation as Apply('relu')")

    def sample(self, key: Array, in_size: int, width: int | None = None) -> tuple[Callable, int]:
        pieces = []
        for layer, layer_key in zip(self.layers, jr.split(key, len(self.layers)), strict=True):
            piece, in_size = layer.sample(layer_key, in_size, width)
            pieces.append(piece)
        return Composed(tuple(pieces)), in_size

    def propagate(self, pair: Pair) -> Pair:
        for layer in self.layers:
            pair = layer.propagate(pair)
        return pair


class Shortcut(eqx.Module):
    """A finite residual piece, x + scale * branch(x)."""

    branch: Callable
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, " size"]) -> Float[Array, " size"]:
        return x + self.scale * self.branch(x)


class Residual(AbstractLayer):
    r"""A shortcut around a branch, $y = x + \beta\,\mathrm{branch}(x)$.

    $K' = K + \beta^2K_{br}$ and $\Theta' = \Theta + \beta^2\Theta_{br}$, where the branch has its own
    parameters and passes its input's on.
    The branch must end in a dense layer, whose fresh zero-mean weights make it independent of the
    shortcut; ending in an activation there would be cross terms, and ``ValueError`` is raised
    (Yang & Schoenholz 2017).

    >>> from widthwise.networks import Apply, Dense
    >>> Residual(Chain((Apply("relu"), Dense(1.0))), scale=0.5).scale
    0.5
    """

    branch: AbstractLayer
    scale: float = 1.0

    def __post_init__(self):
        check_variance("scale", self.scale)
        last = self.branch
        while isinstance(last, Chain):
            last = last.layers[-1]
        if not isinstance(last, Dense):
            reject(
                f"a residual branch that ends in {last!r}",
                "A branch must end in a Dense layer, which makes it independent of the shortcut",
                "Append Dense() to the branch",
            )

    def sample(self, key: Array, in_size: int, width: int | None = None) -> tuple[Callable, int]:
        branch, out_size = self.branch.sample(key, in_size, width)
        if out_size != in_size:
            reject(
                f"a residual branch from {in_size} to {out_size} coordinates",
                "A shortcut adds input and output of its branch, so the sizes must be equal",
                f"Give the branch's last Dense size={in_size}",
            )
        return Shortcut(branch, self.scale), out_size

    def propagate(self, pair: Pair) -> Pair:
        return add(pair, self.branch.propagate(pair).scaled(self.scale**2))
