r"""Pairs of positions by their displacement, which convolutions keep: each layer is a few loops over plain arrays.

Legend: $p' = p + o$ modulo the period of an axis, so that displacement o and position p are any two positions once; a
period holds more positions than exist where windows look beyond the border, and what does not exist is zero. $a, b$
variances of the signals of x and y, $s = \sqrt{ab}$, $A_\delta = \sqrt{a_\delta/\sum a}$ and $B_\delta$ likewise.
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
    the last axis of positions once for x and once for y, and all others by their displacements ``moved`` (batch, k),
    with so many positions that exist as ``lengths`` says. Equal positions: (batch, \*p, m) for m inputs y. ``together``
    is none where it is known to be far from zero.
    """

    xx: Float[Array, "..."]
    yy: Float[Array, "..."]
    apart: Float[Array, "..."]
    together: Float[Array, "..."] | None
    ntk: Float[Array, "..."]
    moved: Int[Array, "batch k"]
    lengths: tuple[int, ...] = eqx.field(static=True)

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
    """A window along the axis of positions ``at``: where the axes of x and of y are, what is added, and the outputs.

    ``count`` outputs are held, ``length`` of them exist.
    """

    at: int
    axes: tuple[int, int]
    window: Window
    low: int
    high: int
    count: int
    length: int

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


class Edged(eqx.Module):
    """What windows see of a grid: with what lies outside, and the roots of the variances."""

    xx: Array
    yy: Array
    x: Array
    y: Array
    apart: Array
    together: Array | None
    ntk: Array


@partial(jax.jit, static_argnums=0)
def edged(sweeps: Sweeps, grid: Moments) -> Edged:
    """A grid with zeros where windows see outside, or what is there in a circle, where each axis by displacements
    lies: before the first position of x there may be one of y."""

    def one(values: Array, sides: tuple[int, ...]) -> Array:
        for sweep in sweeps:
            if sweep.low or sweep.high:
                axes = _axes(sweep, sides)
                around = sweep.window.padding == "CIRCULAR" or (sides != BOTH and sweep.at < len(grid.lengths))
                config = [(sweep.low, sweep.high) if axis in axes else (0, 0) for axis in range(values.ndim)]
                values = jnp.pad(values, config, mode="wrap" if around else "constant")
        return values

    xx, yy = one(grid.xx, X), one(grid.yy, Y)
    together = None if grid.together is None else one(grid.together, BOTH)
    return Edged(xx, yy, root(xx), root(yy), one(grid.apart, BOTH), together, one(grid.ntk, BOTH))


def _along(values: Array, axis: int, rank: int) -> Array:
    """Values (batch, positions) or (positions,) along an axis."""
    shape = [1] * rank
    shape[axis] = values.shape[-1]
    if values.ndim == 2:
        shape[0] = len(values)
    return values.reshape(shape)


Flags = tuple[Array, Array] | None


def _exist(lengths: tuple[int, ...], moved: Array, like: Array | jax.ShapeDtypeStruct) -> Flags:
    """1 where x and where y has a position and 0 elsewhere, against an array of a grid; none where all exist."""
    periods = like.shape[1 : 1 + len(lengths)]
    if lengths == periods:
        return None
    x, y = jnp.ones((), like.dtype), jnp.ones((), like.dtype)
    for at, (length, period) in enumerate(zip(lengths, periods, strict=True)):
        there = jnp.asarray(np.arange(period) < length, like.dtype)
        other = there[(jnp.arange(period)[None, :] + moved[:, at, None]) % period]
        x, y = x * _along(there, 1 + at, like.ndim), y * _along(other, 1 + at, like.ndim)
    return x, y


def _there(exist: Flags, *parts: Array) -> tuple[Array, ...]:
    """Moments of pairs, with zeros where one of the two does not exist."""
    return parts if exist is None else tuple(part * (exist[0] * exist[1]) for part in parts)


@jax.jit
def existing(grid: Moments) -> Moments:
    """The grid with zeros where there is no position: an activation may make something of nothing."""
    exist = _exist(grid.lengths, grid.moved, grid.apart)
    if exist is None:
        return grid
    held = [part for part in (grid.apart, grid.ntk, grid.together) if part is not None]
    apart, ntk, *rest = _there(exist, *held)
    together = rest[0] if rest else None
    return Moments(grid.xx * exist[0], grid.yy * exist[1], apart, together, ntk, grid.moved, grid.lengths)


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
    ``shares`` $(A_\delta, B_\delta)$, and which outputs ``exist``.
    """

    xx: Array
    yy: Array
    x: Array
    y: Array
    inverse: tuple[Array, Array]
    shares: list[tuple[Array, Array]]
    exist: Flags
    moved: Array
    lengths: tuple[int, ...] = eqx.field(static=True)

    @property
    def scale(self) -> Array:
        """The geometric mean of the variances."""
        return self.x * self.y

    @property
    def uneven(self) -> Array:
        r"""$\frac12s'\sum_\delta(A_\delta-B_\delta)^2$."""
        return self.scale * (0.5 * total([(a - b) ** 2 for a, b in self.shares]))


@partial(jax.jit, static_argnums=0)
def shared(sweeps: Sweeps, weights: Weights, grid: Moments, seen: Edged) -> Shares:
    """The variances after windows and fresh weights, and what the moments need of them."""
    share = weights.weight / _count(sweeps)
    strides, lengths = [1] * len(grid.lengths), list(grid.lengths)
    for sweep in sweeps:
        if sweep.at < len(lengths):
            strides[sweep.at], lengths[sweep.at] = sweep.window.stride, sweep.length
    moved = grid.moved // jnp.asarray(strides, grid.moved.dtype)[None]
    like = jax.eval_shape(lambda values: views(sweeps, values, BOTH)[0], seen.apart)
    exist = _exist(tuple(lengths), moved, like)

    def one(values: Array, roots: Array, sides: tuple[int, ...], flags: Array | None):
        whole = share * total(views(sweeps, values, sides))
        whole = whole if weights.bias is None else whole + weights.bias
        whole = whole if flags is None else whole * flags
        length = root(whole)
        inverse = ratio(jnp.ones_like(length), length)
        parts = [root(share) * inverse * part for part in views(sweeps, roots, sides)]
        return whole, length, inverse, parts if weights.bias is None else [*parts, root(weights.bias) * inverse]

    xx, x, inverse, of_x = one(seen.xx, seen.x, X, None if exist is None else exist[0])
    yy, y, other, of_y = one(seen.yy, seen.y, Y, None if exist is None else exist[1])
    pairs = list(zip(of_x, of_y, strict=True))
    return Shares(xx, yy, x, y, (0.5 * inverse, other), pairs, exist, moved, tuple(lengths))


def _summed(sweeps: Sweeps, values: Array, weights: Weights) -> Array:
    return weights.weight / _count(sweeps) * total(views(sweeps, values, BOTH))


def _mixed(sweeps: Sweeps, weights: Weights, shares: Shares, seen: Edged) -> tuple[Array, Array | None]:
    r"""``apart`` and ``together`` after windows and fresh weights.

    $s' - \sum_\delta s_\delta\rho_\delta = \frac12s'\sum_\delta(A_\delta-B_\delta)^2 + \sum_\delta
    s_\delta(1-\rho_\delta)$.
    """
    apart = shares.uneven + _summed(sweeps, seen.apart, weights)
    if seen.together is None:
        return apart, None
    together = shares.uneven + _summed(sweeps, seen.together, weights)
    return apart, together if weights.bias is None else together + 2.0 * weights.bias


@partial(jax.jit, static_argnums=0)
def swept(sweeps: Sweeps, weights: Weights, shares: Shares, seen: Edged) -> Moments:
    """The mean over windows, and fresh weights."""
    apart, together = _mixed(sweeps, weights, shares, seen)
    own = weights.kernel * (shares.scale - apart) + weights.constant
    ntk = own + _summed(sweeps, seen.ntk, weights)
    apart, ntk, *rest = _there(shares.exist, *(one for one in (apart, ntk, together) if one is not None))
    return Moments(shares.xx, shares.yy, apart, rest[0] if rest else None, ntk, shares.moved, shares.lengths)


@partial(jax.jit, static_argnums=0)
def angles(sweeps: Sweeps, weights: Weights, shares: Shares, seen: Edged) -> Array:
    """The signed root of h after the last windows and fresh weights, of which rectifiers are made."""
    apart, together = _mixed(sweeps, weights, shares, seen)
    inverse = shares.inverse[0] * shares.inverse[1]
    return signed_root(apart * inverse, None if together is None else together * inverse)


@partial(jax.jit, static_argnums=(0, 1))
def bent(sweeps: Sweeps, slope: float, weights: Weights, shares: Shares, seen: Edged, signed: Array) -> Moments:
    """The grid after fresh weights and a rectifier with this slope below zero, from what `angles` found."""
    power = 0.5 * (1.0 + slope * slope)
    gap, cosine, derivative = rectified(slope, signed, seen.together is not None)
    own = weights.kernel * (shares.scale * cosine) + weights.constant
    (ntk,) = _there(shares.exist, (own + _summed(sweeps, seen.ntk, weights)) * derivative)
    apart = power * shares.scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * shares.scale - apart
    return Moments(power * shares.xx, power * shares.yy, apart, together, ntk, shares.moved, shares.lengths)


@partial(jax.jit, static_argnums=0)
def rectify(slope: float, grid: Moments) -> Moments:
    """The grid after a rectifier with this slope below zero."""
    power, scale = 0.5 * (1.0 + slope * slope), grid.scale
    together = None if grid.together is None else 0.5 * ratio(grid.together, scale)
    signed = signed_root(0.5 * ratio(grid.apart, scale), together)
    gap, _, derivative = rectified(slope, signed, grid.together is not None)
    apart = power * scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * scale - apart
    return Moments(power * grid.xx, power * grid.yy, apart, together, grid.ntk * derivative, grid.moved, grid.lengths)


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
    return Moments(xx, yy, scale * dual.gap, scale * dual.cogap, dual.slope * grid.ntk, grid.moved, grid.lengths)


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
    return Moments(xx, yy, apart, together, grid.ntk + factor * branch.ntk, grid.moved, grid.lengths)


@jax.jit
def scaled(grid: Moments, factor: Array) -> Moments:
    """Kernel and tangent kernel times a factor."""
    together = None if grid.together is None else factor * grid.together
    xx, yy, apart = (factor * part for part in (grid.xx, grid.yy, grid.apart))
    return Moments(xx, yy, apart, together, factor * grid.ntk, grid.moved, grid.lengths)


_FEW_CHANNELS = 8


@partial(jax.jit, static_argnums=0)
def begun(lengths: tuple[int, ...], xx: Numbers, yy: Numbers, x: Numbers, y: Numbers, moved: Numbers) -> Moments:
    """The grid before the first layer, from variances and from unit vectors with the channels first."""
    xx, yy, x, y, moved = map(jnp.asarray, (xx, yy, x, y, moved))
    half = 0.5 * root(xx) * root(yy)
    apart, together = (half * _squares(x, sign * y) for sign in (-1.0, 1.0))
    return Moments(xx, yy, apart, together, jnp.zeros_like(apart), moved, lengths)


def _squares(x: Array, y: Array) -> Array:
    """The squared length of a sum of vectors."""
    if len(x) > _FEW_CHANNELS:
        return jnp.sum((x + y) ** 2, axis=0)
    return total([(one + other) ** 2 for one, other in zip(x, y, strict=True)])


@jax.jit
def pooled(grid: Moments) -> tuple[Array, Array]:
    """The sums of kernel and tangent kernel (batch,) over all pairs of positions."""
    # Rows first: they are short, and a sum over all in float64 would convert every entry.
    rows = [part if part.ndim < 4 else jnp.sum(part, axis=1) for part in (grid.scale - grid.apart, grid.ntk)]
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
