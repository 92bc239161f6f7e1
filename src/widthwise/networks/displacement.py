r"""Pairs of positions by their displacement, which convolutions keep: each layer is a few loops over plain arrays.

Legend: $p' = p + o$ modulo the length of an axis, so that displacement o and position p are any two positions once; $a,
b$ variances of the signals of x and y, $s = \sqrt{ab}$, $A_\delta = \sqrt{a_\delta/\sum a}$ and $B_\delta$ likewise.
``apart`` $= s(1-\rho)$ and ``together`` $= s(1+\rho)$ are sums of positive terms, so that no digit of an angle is lost.
Every function here with ``jit`` is one pass over memory: compiled as one, the next would compute the last again for
each place it looks at.
"""

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from widthwise.activations import Activation, ratio, root

from .arcs import rectified, signed_root
from .mixing import share, superposed, total
from .window import Window, places


class Moments(eqx.Module):
    r"""Moments of many pairs of positions: a batch of inputs and displacements, then positions, then the rest of y.

    ``xx`` and ``yy`` broadcast against ``apart``, ``together`` and ``ntk``. All pairs of positions: (batch, \*p, q'),
    the last axis of positions once for x and once for y, and all others by their displacements ``moved`` (batch, k).
    Equal positions: (batch, \*p, m) for m inputs y. ``together`` is none where it is known to be far from zero.
    """

    xx: Float[Array, "..."]
    yy: Float[Array, "..."]
    apart: Float[Array, "..."]
    together: Float[Array, "..."] | None
    ntk: Float[Array, "..."]
    moved: Int[Array, "batch k"]

    @property
    def scale(self) -> Float[Array, "..."]:
        r"""$\sqrt{ab}$."""
        return root(self.xx) * root(self.yy)

    @property
    def opposite(self) -> Float[Array, "..."]:
        """``together``, from ``apart`` where it is not held."""
        return 2.0 * self.scale - self.apart if self.together is None else self.together


@dataclass(frozen=True)
class Sweep:
    """A window along the axis of positions ``at``: where the axes of x and of y are, what is added, and what counts.

    ``inside``, for an axis by displacements: for each place in the window whether what an output sees there exists.
    """

    at: int
    axes: tuple[int, int]
    window: Window
    low: int
    high: int
    count: int
    inside: tuple[tuple[bool, ...], ...] | None = None

    def part(self, place: int) -> slice:
        """What the outputs see at a place in the window, of a padded axis."""
        start, window = place * self.window.dilation, self.window
        return slice(start, start + (self.count - 1) * window.stride + 1, window.stride)


Sweeps = tuple[Sweep, ...]
Numbers = Array | np.ndarray
X, Y, BOTH = (0,), (1,), (0, 1)  # whose axes an array has


def _axes(sweep: Sweep, sides: tuple[int, ...]) -> set[int]:
    return {sweep.axes[side] for side in sides}


def views(sweeps: Sweeps, values: Array, sides: tuple[int, ...]) -> list[Array]:
    """For each place in the windows what the outputs see there, of values that are padded already."""
    found = [values]
    for sweep in sweeps:
        axes, places = _axes(sweep, sides), range(sweep.window.size)
        parts = [
            tuple(sweep.part(place) if axis in axes else slice(None) for axis in range(values.ndim)) for place in places
        ]
        found = [one[part] for one in found for part in parts]
    return found


@partial(jax.jit, static_argnums=0)
def padded(sweeps: Sweeps, grid: Moments) -> Moments:
    """A grid with what windows see outside: a place in y may exist where the one in x does not, so that axes by
    displacements wrap around, and `present` says what counts."""

    def one(values: Array, sides: tuple[int, ...]) -> Array:
        for sweep in sweeps:
            axes = _axes(sweep, sides)
            config = [(sweep.low, sweep.high) if axis in axes else (0, 0) for axis in range(values.ndim)]
            if sweep.inside is not None or sweep.window.padding == "CIRCULAR":
                values = jnp.pad(values, config, mode="wrap")
            else:
                values = jnp.pad(values, config)
        return values

    together = None if grid.together is None else one(grid.together, BOTH)
    return Moments(one(grid.xx, X), one(grid.yy, Y), one(grid.apart, BOTH), together, one(grid.ntk, BOTH), grid.moved)


def _along(values: Array, axis: int, rank: int) -> Array:
    """Values (batch, positions) or (positions,) along an axis."""
    shape = [1] * rank
    shape[axis] = values.shape[-1]
    if values.ndim == 2:
        shape[0] = len(values)
    return values.reshape(shape)


def present(sweeps: Sweeps, grid: Moments) -> tuple[list, list]:
    """For each place in the windows 1 where x and where y has a signal there and 0 elsewhere, or nothing for all 1."""
    x, y = [None], [None]
    for sweep in sweeps:
        own, other = _present(sweep, grid)
        x, y = ([_both(one, two) for one in old for two in new] for old, new in ((x, own), (y, other)))
    return x, y


def _present(sweep: Sweep, grid: Moments) -> tuple[list, list]:
    if sweep.inside is None or all(map(all, sweep.inside)):
        return [None] * sweep.window.size, [None] * sweep.window.size
    rank, axis, dtype = grid.apart.ndim, sweep.axes[0], grid.apart.dtype
    moved = grid.moved[:, sweep.at, None] // sweep.window.stride
    places = (jnp.arange(sweep.count)[None, :] + moved) % sweep.count
    flags = [jnp.asarray(one, dtype) for one in sweep.inside]
    return [_along(one, axis, rank) for one in flags], [_along(one[places], axis, rank) for one in flags]


def _both(one: Array | None, other: Array | None) -> Array | None:
    if one is None or other is None:
        return other if one is None else one
    return one * other


def _count(sweeps: Sweeps) -> int:
    return places(tuple(sweep.window for sweep in sweeps))


class Weights(eqx.Module):
    r"""Fresh weights: variances of weights and biases, and what they add to the tangent kernel, $kK' + c$."""

    weight: Array
    bias: Array | None
    kernel: Array
    constant: Array


class Shares(eqx.Module):
    r"""What belongs to x alone and to y alone in a sweep: small arrays, and apart, or every pair would do them again.

    New variances ``xx`` and ``yy``, their roots ``x`` and ``y`` and half the inverse of their product in two factors,
    ``shares`` $(A_\delta, B_\delta)$, and ``flags``, 0 where one of the two has no signal.
    """

    xx: Array
    yy: Array
    x: Array
    y: Array
    inverse: tuple[Array, Array]
    shares: list[tuple[Array, Array]]
    flags: list[Array | None]
    moved: Array

    @property
    def scale(self) -> Array:
        """The geometric mean of the variances."""
        return self.x * self.y

    @property
    def uneven(self) -> Array:
        r"""$\frac12s'\sum_\delta(A_\delta-B_\delta)^2$."""
        return self.scale * (0.5 * total([(a - b) ** 2 for a, b in self.shares]))


def shared(sweeps: Sweeps, weights: Weights, grid: Moments) -> Shares:
    """The variances after windows over a padded grid and fresh weights, and what the moments need of them."""
    xx, yy, flags, moved = _seen(sweeps, weights, grid)
    return _shared(xx, yy, flags, moved)


@partial(jax.jit, static_argnums=0)
def _seen(sweeps: Sweeps, weights: Weights, grid: Moments):
    """The variances that are summed, for x and for y, which places exist, and the displacements of the outputs."""
    masks, found = present(sweeps, grid), []
    for values, side, flags in zip((grid.xx, grid.yy), (X, Y), masks, strict=True):
        seen = zip(views(sweeps, values, side), flags, strict=True)
        own = [weights.weight / _count(sweeps) * _flagged(*one) for one in seen]
        found.append(own if weights.bias is None else [*own, jnp.broadcast_to(weights.bias, own[0].shape)])
    return *found, [_both(one, other) for one, other in zip(*masks, strict=True)], _fewer(sweeps, grid)


@jax.jit
def _shared(xx: list[Array], yy: list[Array], flags: list[Array | None], moved: Array) -> Shares:
    x, y = root(total(xx)), root(total(yy))
    inverse, other = ratio(jnp.ones_like(x), x), ratio(jnp.ones_like(y), y)
    parts = [(root(a) * inverse, root(b) * other) for a, b in zip(xx, yy, strict=True)]
    return Shares(total(xx), total(yy), x, y, (0.5 * inverse, other), parts, flags, moved)


def _flagged(values: Array, flag: Array | None) -> Array:
    return values if flag is None else flag * values


def _fewer(sweeps: Sweeps, grid: Moments) -> Array:
    """The displacements in steps of the outputs."""
    strides = {sweep.at: sweep.window.stride for sweep in sweeps}
    each = [strides.get(at, 1) for at in range(grid.moved.shape[1])]
    return grid.moved // jnp.asarray(each, grid.moved.dtype)[None]


def _summed(sweeps: Sweeps, values: Array, shares: Shares, weights: Weights) -> Array:
    seen = zip(views(sweeps, values, BOTH), shares.flags, strict=True)
    return weights.weight / _count(sweeps) * total([_flagged(*one) for one in seen])


def _mixed(sweeps: Sweeps, weights: Weights, shares: Shares, grid: Moments) -> tuple[Array, Array | None]:
    r"""``apart`` and ``together`` after a sweep of a padded grid.

    $s' - \sum_\delta s_\delta\rho_\delta = \frac12s'\sum_\delta(A_\delta-B_\delta)^2 + \sum_\delta
    s_\delta(1-\rho_\delta)$.
    """
    apart = shares.uneven + _summed(sweeps, grid.apart, shares, weights)
    if grid.together is None:
        return apart, None
    together = shares.uneven + _summed(sweeps, grid.together, shares, weights)
    return apart, together if weights.bias is None else together + 2.0 * weights.bias


@partial(jax.jit, static_argnums=0)
def swept(sweeps: Sweeps, weights: Weights, shares: Shares, grid: Moments) -> Moments:
    """The mean over a window along one axis of a padded grid, and fresh weights."""
    apart, together = _mixed(sweeps, weights, shares, grid)
    own = weights.kernel * (shares.scale - apart) + weights.constant
    ntk = own + _summed(sweeps, grid.ntk, shares, weights)
    return Moments(shares.xx, shares.yy, apart, together, ntk, shares.moved)


@partial(jax.jit, static_argnums=0)
def angles(sweeps: Sweeps, weights: Weights, shares: Shares, grid: Moments) -> Array:
    """The signed root of h after the last window and fresh weights, of which rectifiers are made."""
    apart, together = _mixed(sweeps, weights, shares, grid)
    inverse = shares.inverse[0] * shares.inverse[1]
    return signed_root(apart * inverse, None if together is None else together * inverse)


@partial(jax.jit, static_argnums=(0, 1))
def bent(sweeps: Sweeps, slope: float, weights: Weights, shares: Shares, grid: Moments, signed: Array) -> Moments:
    """The grid after fresh weights and a rectifier with this slope below zero, from what `angles` found."""
    power = 0.5 * (1.0 + slope * slope)
    gap, cosine, derivative = rectified(slope, signed, grid.together is not None)
    own = weights.kernel * (shares.scale * cosine) + weights.constant
    ntk = (own + _summed(sweeps, grid.ntk, shares, weights)) * derivative
    apart = power * shares.scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * shares.scale - apart
    return Moments(power * shares.xx, power * shares.yy, apart, together, ntk, shares.moved)


@partial(jax.jit, static_argnums=0)
def rectify(slope: float, grid: Moments) -> Moments:
    """The grid after a rectifier with this slope below zero."""
    power, scale = 0.5 * (1.0 + slope * slope), grid.scale
    together = None if grid.together is None else 0.5 * ratio(grid.together, scale)
    signed = signed_root(0.5 * ratio(grid.apart, scale), together)
    gap, _, derivative = rectified(slope, signed, grid.together is not None)
    apart = power * scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * scale - apart
    return Moments(power * grid.xx, power * grid.yy, apart, together, grid.ntk * derivative, grid.moved)


@eqx.filter_jit
def applied(function: Activation, grid: Moments) -> Moments:
    """The grid after an activation with a closed dual."""

    def every(*moments):
        shape = jnp.broadcast_shapes(*(part.shape for part in moments))
        flat = [jnp.broadcast_to(part, shape).reshape(-1) for part in moments]
        dual = jax.vmap(lambda *one: function.dual(*one))(*flat)
        return jax.tree.map(lambda part: part.reshape(shape), dual)

    gap, cogap = (jnp.clip(ratio(part, grid.scale, 1.0), 0.0, 2.0) for part in (grid.apart, grid.opposite))
    dual = every(grid.xx, grid.yy, gap, cogap)
    xx, yy = (every(part, part, jnp.zeros(()), jnp.full((), 2.0)).xx for part in (grid.xx, grid.yy))
    scale = root(xx) * root(yy)
    return Moments(xx, yy, scale * dual.gap, scale * dual.cogap, dual.slope * grid.ntk, grid.moved)


@jax.jit
def joined(grid: Moments, branch: Moments, factor: Array) -> Moments:
    """The sum of two independent signals, the second times the root of a factor."""
    xx, yy = grid.xx + factor * branch.xx, grid.yy + factor * branch.yy
    uneven = 0.0
    for x, y in ((grid.xx, grid.yy), (factor * branch.xx, factor * branch.yy)):
        uneven = uneven + (share(x, xx) - share(y, yy)) ** 2
    uneven = 0.5 * root(xx) * root(yy) * uneven
    apart = uneven + grid.apart + factor * branch.apart
    held = grid.together is not None or branch.together is not None
    together = uneven + grid.opposite + factor * branch.opposite if held else None
    return Moments(xx, yy, apart, together, grid.ntk + factor * branch.ntk, grid.moved)


@jax.jit
def scaled(grid: Moments, factor: Array) -> Moments:
    """Kernel and tangent kernel times a factor."""
    together = None if grid.together is None else factor * grid.together
    xx, yy, apart = (factor * part for part in (grid.xx, grid.yy, grid.apart))
    return Moments(xx, yy, apart, together, factor * grid.ntk, grid.moved)


_FEW_CHANNELS = 8


@jax.jit
def begun(xx: Numbers, yy: Numbers, x: Numbers, y: Numbers, moved: Numbers) -> Moments:
    """The grid before the first layer, from variances and from unit vectors with the channels first."""
    xx, yy, x, y, moved = map(jnp.asarray, (xx, yy, x, y, moved))
    half = 0.5 * root(xx) * root(yy)
    apart, together = (half * _squares(x, sign * y) for sign in (-1.0, 1.0))
    return Moments(xx, yy, apart, together, jnp.zeros_like(apart), moved)


def _squares(x: Array, y: Array) -> Array:
    """The squared length of a sum of vectors."""
    if len(x) > _FEW_CHANNELS:
        return jnp.sum((x + y) ** 2, axis=0)
    return total([(one + other) ** 2 for one, other in zip(x, y, strict=True)])


@partial(jax.jit, static_argnums=(0, 1))
def pooled(lengths: tuple[int, ...], displaced: int, grid: Moments) -> tuple[Array, Array]:
    """The sums of kernel and tangent kernel (batch,) over all pairs of positions that exist."""
    flags = jnp.ones((), grid.apart.dtype)
    for at in range(displaced):
        period, axis = grid.apart.shape[1 + at], 1 + at
        there = jnp.asarray(np.arange(period) < lengths[at], grid.apart.dtype)
        other = there[(jnp.arange(period)[None, :] + grid.moved[:, at, None]) % period]
        flags = flags * _along(there, axis, grid.apart.ndim) * _along(other, axis, grid.apart.ndim)
    each = (flags * (grid.scale - grid.apart), flags * grid.ntk)
    # Rows first: they are short, and a sum over all in float64 would convert every entry.
    rows = [part if part.ndim < 4 else jnp.sum(part, axis=1) for part in each]
    kernel, tangent = (jnp.sum(part.astype(float), axis=tuple(range(1, part.ndim))) for part in rows)
    return kernel, tangent


@partial(jax.jit, static_argnums=0)
def flattened(rank: int, grid: Moments) -> tuple[Array, Array, Array, Array]:
    """The variances of x, gap, cogap and tangent kernel (n, m) of all positions as one list of channels."""
    axes = tuple(range(1, 1 + rank))

    def mean(part):
        return jnp.mean(part.astype(float), axis=axes)

    xx, yy = (mean(part) for part in (grid.xx, grid.yy))
    shares = (share(part.astype(float), jnp.expand_dims(whole, axes)) for part, whole in ((grid.xx, xx), (grid.yy, yy)))
    x, y = shares
    uneven = mean((x - y) ** 2)
    gap, cogap = superposed(root(xx), root(yy), uneven, mean(grid.apart), mean(grid.opposite))
    return xx, gap, cogap, mean(grid.ntk)
