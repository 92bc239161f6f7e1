"""Tiles of pairs of inputs with positions, layer by layer.

Layer by layer, so that equal layers are compiled once, and so that the moments within an input, which poolings and
attention need, are computed once for an input and not for each of its pairs. They give the diagonal, too.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .chain import Chain
from .inputs import InputPairs
from .layer import AbstractLayer, through
from .pair import AllPositionsNeeded, Pair


class Own(NamedTuple):
    r"""Inputs with themselves: variances (n, \*p), gap, cogap and tangent kernel (n, \*p, \*p), or (n, \*p)."""

    xx: Float[Array, "n ..."]
    gap: Float[Array, "n ..."]
    cogap: Float[Array, "n ..."]
    ntk: Float[Array, "n ..."]


class Tile(eqx.Module):
    r"""Pairs of n and m inputs at one layer: gap, cogap and ntk (n, m, \*p, \*p), or (n, m, \*p) of equal positions."""

    x: Own
    y: Own
    gap: Float[Array, "n m ..."]
    cogap: Float[Array, "n m ..."]
    ntk: Float[Array, "n m ..."]
    error: Float[Array, ""]
    size: int | None = eqx.field(static=True)
    gaussian: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(cls, inputs: InputPairs) -> "Tile":
        """The tile before the first layer."""
        own = inputs.within or (None, None)
        x, y = (_own(power, part) for power, part in zip((inputs.xx, inputs.yy), own, strict=True))
        gap, cogap = jnp.asarray(inputs.gap), jnp.asarray(inputs.cogap)
        return cls(x, y, gap, cogap, jnp.zeros_like(gap), jnp.zeros(()), inputs.size)


def _own(power, gaps) -> Own:
    power = jnp.asarray(power)
    gap, cogap = gaps or (jnp.where(power > 0.0, 0.0, 1.0), jnp.where(power > 0.0, 2.0, 1.0))
    return Own(power, jnp.asarray(gap), jnp.asarray(cogap), jnp.zeros_like(gap))


@eqx.filter_jit
def kernels(tile: Tile):
    """NNGP and NTK of the pairs, of the inputs x with themselves, and the error."""
    own = jax.vmap(lambda x: _itself(tile, x).xy)(tile.x)
    row = jax.vmap(lambda x, y, gap: _pair(tile, x, y, gap, gap, gap).scale, in_axes=(None, 0, 0))
    scale = jax.vmap(row, in_axes=(0, None, 0))(tile.x, tile.y, tile.gap)
    return scale * 0.5 * (tile.cogap - tile.gap), tile.ntk, own, tile.x.ntk, tile.error


def propagated(network: AbstractLayer, tile: Tile) -> Tile:
    """A tile after a network."""
    if not isinstance(network, Chain):
        return _step(network, tile)
    for layer in network.units:
        tile = propagated(layer, tile)
    return tile


@eqx.filter_jit
def _step(layer: AbstractLayer, tile: Tile) -> Tile:
    seen = []

    def alone(x: Own):
        after = through(layer, _itself(tile, x))
        return Own(after.xx, after.gap, after.cogap, after.ntk), after.error

    def one(x: Own, y: Own, gap, cogap, ntk):
        after = layer.propagate(_pair(tile, x, y, gap, cogap, ntk))
        seen.append((after.size, after.gaussian))
        return after.gap, after.cogap, after.ntk, after.error

    # Both sides in one, so that they are compiled once.
    own, own_error = jax.vmap(alone)(jax.tree.map(lambda x, y: jnp.concatenate([x, y]), tile.x, tile.y))
    x, y = (jax.tree.map(lambda values, part=part: values[part], own) for part in _sides(tile))
    row = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))
    found = jax.vmap(row, in_axes=(0, None, 0, 0, 0))(tile.x, tile.y, tile.gap, tile.cogap, tile.ntk)
    gap, cogap, ntk, error = found
    size, gaussian = seen[-1]
    return Tile(x, y, gap, cogap, ntk, jnp.maximum(jnp.max(error), jnp.max(own_error)), size, gaussian)


def _sides(tile: Tile) -> tuple[slice, slice]:
    """The places of the inputs x and y, one after the other."""
    count = len(tile.x.xx)
    return slice(count), slice(count, None)


def _itself(tile: Tile, x: Own) -> Pair:
    return Pair(x.xx, x.xx, x.gap, x.cogap, x.ntk, tile.error, None, tile.size, tile.gaussian, itself=True)


def _pair(tile: Tile, x: Own, y: Own, gap, cogap, ntk) -> Pair:
    crossed = x.gap.ndim > x.xx.ndim
    within = (_itself(tile, x), _itself(tile, y)) if crossed else None
    return Pair(x.xx, y.xx, gap, cogap, ntk, tile.error, within, tile.size, tile.gaussian)


def after_one_pair(network: AbstractLayer, positions: tuple[int, ...], size: int) -> tuple[bool, tuple[int, ...]]:
    """Whether all pairs of positions are needed, and the shape of what the network makes of one pair of inputs."""
    try:
        after = _abstract(network, positions, positions, size)
        if not after.positions:
            return False, ()
    except AllPositionsNeeded:
        pass
    return True, _abstract(network, positions, 2 * positions, size).gap.shape


def _abstract(network: AbstractLayer, positions: tuple[int, ...], gaps: tuple[int, ...], size: int) -> Pair:
    def pair(power, gap, within, itself):
        return Pair(power, power, gap, gap, gap, jnp.zeros(()), within, size, gaussian=False, itself=itself)

    def one(power, gap):
        own = pair(power, gap, None, itself=True)
        return through(network, pair(power, gap, (own, own) if gap.ndim > power.ndim else None, itself=False))

    return eqx.filter_eval_shape(one, *(jax.ShapeDtypeStruct(shape, float) for shape in (positions, gaps)))
