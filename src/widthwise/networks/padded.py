"""Networks on sequences of different lengths, padded with zeros to one length."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from widthwise.numerics import reject

from .attention import Attention, Heads
from .chain import Chain, Residual, Shortcut
from .combine import Joined, Parallel
from .layer import AbstractLayer, Composed, Shape
from .pair import Pair
from .pool import GlobalPool, Pooled, demand_positions

Present = tuple[Bool[Array, "..."], Bool[Array, "..."]]


class Padded(AbstractLayer):
    r"""A network whose inputs are padded with zeros: what is absent in its input stays absent within.

    A position is absent where all channels of the input are zero. After every layer within, also in branches, the
    signals there are zero again, whatever biases made of them; the softmax of an `Attention` leaves these positions
    out, and the average of a `GlobalPool` divides by the number of the others. To everything else they are zeros, as
    beyond the border of a convolution. So the kernel of a network that ends in `GlobalPool` is that of the inputs
    without their padding.

    Layers within keep the positions, or end them (a `GlobalPool`, a `Flatten`, one position of a `Slice`); after
    others ``ValueError`` is raised, and for inputs without positions.

    >>> from widthwise.networks import Conv, Dense, kernel
    >>> network = Padded(Chain((Conv(1, 1.0, 0.1), GlobalPool(), Dense())))
    >>> short, long = [[[1.0], [2.0]]], [[[1.0], [2.0], [0.0], [0.0]]]
    >>> [round(float(kernel(network, x).ntk[0, 0]), 6) for x in (short, long)]
    [4.7, 4.7]
    """

    network: AbstractLayer

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        piece, out = self.network.sample(key, shape, width)
        return WithoutPadding(piece), out

    def propagate(self, pair: Pair) -> Pair:
        demand_positions(self, pair.positions)
        return _through(self.network, pair, (pair.xx > 0.0, pair.yy > 0.0))


class WithoutPadding(eqx.Module):
    """A finite network whose inputs are padded with zeros."""

    piece: Callable

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return _run(self.piece, x, jnp.any(x != 0.0, axis=-1))


def _run(piece: Callable, x: Float[Array, "..."], present: Bool[Array, "..."]) -> Float[Array, "..."]:
    """One finite piece, its output zero where nothing is present."""
    if isinstance(piece, Composed):
        for one in piece.pieces:
            x = _run(one, x, present)
        return x
    if isinstance(piece, Shortcut):
        z = x + piece.scale * _run(piece.branch, x, present)
    elif isinstance(piece, Joined):
        z = piece.joined([_run(branch, x, present) for branch in piece.branches])
    else:
        z = piece(x, present) if isinstance(piece, Heads | Pooled) and x.ndim > 1 else piece(x)
    if z.ndim == 1:
        return z
    _demand_same(piece, present.shape, z.shape[:-1])
    return jnp.where(present[..., None], z, 0.0)


def _through(layer: AbstractLayer, pair: Pair, present: Present) -> Pair:
    """Propagate a pair and, where positions may still be mixed, the pairs of each input with itself."""
    if isinstance(layer, Chain):
        for unit in layer.units:
            pair = _through(unit, pair, present)
        return pair
    after = _propagated(layer, pair, present)
    if pair.within is None or not after.positions:
        return after
    left, right = (_propagated(layer, one, (part, part)) for one, part in zip(pair.within, present, strict=True))
    return replace(after, within=(left, right))


def _propagated(layer: AbstractLayer, pair: Pair, present: Present) -> Pair:
    """A pair after one layer, without those of each input with itself."""
    if isinstance(layer, Residual):
        after = layer.joined(pair, _through(layer.branch, pair, present))
    elif isinstance(layer, Parallel):
        after = layer.joined([_through(branch, pair, present) for branch in layer.branches])
    elif isinstance(layer, Attention) and pair.positions:
        after = layer.propagate(pair, present)
    elif isinstance(layer, GlobalPool) and layer.kind == "average":
        after = _averaged(pair, present)
    else:
        after = layer.propagate(pair)
    if not after.positions:
        return replace(after, within=None)
    _demand_same(layer, pair.positions, after.positions)
    return _only(after, present)


def _averaged(pair: Pair, present: Present) -> Pair:
    """The mean over the positions that are present; zero where none is."""
    whole = GlobalPool("sum").propagate(pair)
    x, y = (1.0 / jnp.maximum(jnp.sum(part), 1).astype(pair.xx.dtype) for part in present)
    return replace(whole, xx=x**2 * whole.xx, yy=y**2 * whole.yy, ntk=x * y * whole.ntk)


def _only(pair: Pair, present: Present) -> Pair:
    """The pair with nothing at absent positions."""
    x, y = present
    both = pair.along_x(x) & pair.along_y(y)
    gap, cogap = (jnp.where(both, part, 1.0) for part in (pair.gap, pair.cogap))
    xx, yy, ntk = jnp.where(x, pair.xx, 0.0), jnp.where(y, pair.yy, 0.0), jnp.where(both, pair.ntk, 0.0)
    return replace(pair, xx=xx, yy=yy, gap=gap, cogap=cogap, ntk=ntk, within=None)


def _demand_same(layer, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    if after != before:
        reject(
            f"{layer!r} on padded inputs, from positions {before} to {after}",
            "It must be known which positions are padding, so layers within Padded keep the positions, or end them all",
            "Use strides of 1 and padding='SAME', or put the layer after Padded",
        )
