r"""Pairs of positions by their displacement, which convolutions keep: each layer is a few loops over plain arrays.

Legend: $p' = p + o$ modulo the length of an axis, so that displacement o and position p are any two positions once; $a,
b$ variances of the signals of x and y, $s = \sqrt{ab}$, $A_\delta = \sqrt{a_\delta/\sum a}$ and $B_\delta$ likewise.
``apart`` $= s(1-\rho)$ and ``together`` $= s(1+\rho)$ are sums of positive terms, so that no digit of an angle is lost.
Every function here with ``jit`` is one pass over memory: compiled as one, the next would compute the last again for each
place it looks at.
"""

from dataclasses import dataclass, replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from widthwise.activations import Activation, ratio, root

from .arcs import rectified, signed_root
from .mixing import share, superposed, total
from .window import Window


class Grid(eqx.Module):
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

    @property
    def both(self) -> tuple[int, ...]:
        """The axes, each once."""
        return tuple(sorted({*self.axes}))

    @property
    def wraps(self) -> bool:
        """Whether what is added is the other end."""
        return self.inside is not None or self.window.padding == "CIRCULAR"


def views(sweep: Sweep, padded: Array, axes: tuple[int, ...]) -> list[Array]:
    """For each place in the window what the outputs see there, along axes that are padded already."""
    found, window = [], sweep.window
    for place in range(window.size):
        start = place * window.dilation
        part = slice(start, start + (sweep.count - 1) * window.stride + 1, window.stride)
        found.append(padded[tuple(part if axis in axes else slice(None) for axis in range(padded.ndim))])
    return found


@partial(jax.jit, static_argnums=0)
def padded(sweep: Sweep, grid: Grid) -> Grid:
    """A grid with what a sweep sees outside."""

    def one(values, axes):
        if values is None:
            return None
        config = [(sweep.low, sweep.high) if axis in axes else (0, 0) for axis in range(values.ndim)]
        return jnp.pad(values, config, mode="wrap" if sweep.wraps else "constant")

    x, y = ((axis,) for axis in sweep.axes)
    between = (one(part, sweep.both) for part in (grid.apart, grid.together, grid.ntk))
    return Grid(one(grid.xx, x), one(grid.yy, y), *between, grid.moved)


def _along(values: Array, axis: int, rank: int) -> Array:
    """Values (batch, positions) or (positions,) along an axis."""
    shape = [1] * rank
    shape[axis] = values.shape[-1]
    if values.ndim == 2:
        shape[0] = len(values)
    return values.reshape(shape)


def present(sweep: Sweep, grid: Grid) -> tuple[list, list]:
    """For each place in the window 1 where x and where y has a signal there and 0 elsewhere, or nothing."""
    if sweep.inside is None or all(map(all, sweep.inside)):
        return [None] * sweep.window.size, [None] * sweep.window.size
    rank, axis, dtype = grid.apart.ndim, sweep.axes[0], grid.apart.dtype
    moved = grid.moved[:, sweep.at, None] // sweep.window.stride
    places = (jnp.arange(sweep.count)[None, :] + moved) % sweep.count
    flags = [jnp.asarray(one, dtype) for one in sweep.inside]
    return [_along(one, axis, rank) for one in flags], [_along(one[places], axis, rank) for one in flags]


def _times(values: Array, *flags: Array | None) -> Array:
    for flag in flags:
        values = values if flag is None else flag * values
    return values


def _variances(sweep: Sweep, grid: Grid, weight, bias, masks):
    """The new variances of x and y, and the share of each place, and of the bias, in them."""
    found = []
    for values, axis, flags in zip((grid.xx, grid.yy), sweep.axes, masks, strict=True):
        seen = views(sweep, values, (axis,))
        parts = [weight / sweep.window.size * _times(*one) for one in zip(seen, flags, strict=True)]
        parts += [] if bias is None else [jnp.broadcast_to(bias, parts[0].shape)]
        new = total(parts)
        found.append((new, [share(part, new) for part in parts]))
    return found


def _mixed(sweep: Sweep, grid: Grid, weight, bias) -> tuple[Array, ...]:
    r"""Variances, ``apart`` and ``together`` after a sweep.

    $s' - \sum_\delta s_\delta\rho_\delta = \frac12s'\sum_\delta(A_\delta-B_\delta)^2 + \sum_\delta s_\delta(1-\rho_\delta)$.
    """
    masks = present(sweep, grid)
    (xx, A), (yy, B) = _variances(sweep, grid, weight, bias, masks)
    uneven = root(xx) * root(yy) * (0.5 * total([(a - b) ** 2 for a, b in zip(A, B, strict=True)]))
    apart = uneven + _summed(sweep, grid.apart, masks, weight)
    together = None
    if grid.together is not None:
        together = uneven + _summed(sweep, grid.together, masks, weight) + (0.0 if bias is None else 2.0 * bias)
    return xx, yy, apart, together


def _summed(sweep: Sweep, values: Array, masks, weight) -> Array:
    seen = zip(views(sweep, values, sweep.both), *masks, strict=True)
    return weight / sweep.window.size * total([_times(one, x if y is None else x * y) for one, x, y in seen])


@partial(jax.jit, static_argnums=0)
def swept(sweep: Sweep, grid: Grid) -> Grid:
    """The mean over a window along one axis of a padded grid."""
    xx, yy, apart, together = _mixed(sweep, grid, 1.0, None)
    return Grid(xx, yy, apart, together, _summed(sweep, grid.ntk, present(sweep, grid), 1.0), _fewer(sweep, grid))


def _fewer(sweep: Sweep, grid: Grid) -> Array:
    """The displacements in steps of the outputs."""
    if sweep.inside is None:
        return grid.moved
    return grid.moved.at[:, sweep.at].set(grid.moved[:, sweep.at] // sweep.window.stride)


class Weights(eqx.Module):
    r"""Fresh weights: variances of weights and biases, and what they add to the tangent kernel, $kK' + c$."""

    weight: Array
    bias: Array | None
    kernel: Array
    constant: Array


@partial(jax.jit, static_argnums=0)
def weighted(sweep: Sweep, weights: Weights, grid: Grid) -> Grid:
    """The mean over the last window, and fresh weights."""
    xx, yy, apart, together = _mixed(sweep, grid, weights.weight, weights.bias)
    passed = _summed(sweep, grid.ntk, present(sweep, grid), weights.weight)
    own = weights.kernel * (root(xx) * root(yy) - apart) + weights.constant
    return Grid(xx, yy, apart, together, own + passed, _fewer(sweep, grid))


@partial(jax.jit, static_argnums=0)
def angles(sweep: Sweep, weights: Weights, grid: Grid) -> tuple[Array, Array, Array]:
    """The variances after the last window and fresh weights, and the signed root of h, of which rectifiers are made."""
    xx, yy, apart, together = _mixed(sweep, grid, weights.weight, weights.bias)
    inverse = 0.5 * ratio(jnp.ones_like(xx), root(xx)) * ratio(jnp.ones_like(yy), root(yy))
    return xx, yy, signed_root(apart * inverse, None if together is None else together * inverse)


@partial(jax.jit, static_argnums=(0, 1))
def bent(sweep: Sweep, slope: float, weights: Weights, grid: Grid, found: tuple[Array, Array, Array]) -> Grid:
    """The grid after fresh weights and a rectifier with this slope below zero, from what `angles` found."""
    xx, yy, signed = found
    power, scale = 0.5 * (1.0 + slope * slope), root(xx) * root(yy)
    gap, cosine, derivative = rectified(slope, signed, grid.together is not None)
    own = weights.kernel * (scale * cosine) + weights.constant
    passed = _summed(sweep, grid.ntk, present(sweep, grid), weights.weight)
    apart = power * scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * scale - apart
    return Grid(power * xx, power * yy, apart, together, (own + passed) * derivative, _fewer(sweep, grid))


@partial(jax.jit, static_argnums=0)
def rectify(slope: float, grid: Grid) -> Grid:
    """The grid after a rectifier with this slope below zero."""
    power, scale = 0.5 * (1.0 + slope * slope), grid.scale
    halves = [None if part is None else 0.5 * ratio(part, scale) for part in (grid.apart, grid.together)]
    gap, _, derivative = rectified(slope, signed_root(*halves), grid.together is not None)
    apart = power * scale * jnp.maximum(gap, 0.0)
    together = None if -1.0 <= slope <= 0.5 else 2.0 * power * scale - apart
    return Grid(power * grid.xx, power * grid.yy, apart, together, grid.ntk * derivative, grid.moved)


@eqx.filter_jit
def applied(function: Activation, grid: Grid) -> Grid:
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
    return Grid(xx, yy, scale * dual.gap, scale * dual.cogap, dual.slope * grid.ntk, grid.moved)


@jax.jit
def joined(grid: Grid, branch: Grid, factor: Array) -> Grid:
    """The sum of two independent signals, the second times the root of a factor."""
    xx, yy = grid.xx + factor * branch.xx, grid.yy + factor * branch.yy
    uneven = 0.0
    for x, y in ((grid.xx, grid.yy), (factor * branch.xx, factor * branch.yy)):
        uneven = uneven + (share(x, xx) - share(y, yy)) ** 2
    uneven = 0.5 * root(xx) * root(yy) * uneven
    apart = uneven + grid.apart + factor * branch.apart
    held = grid.together is not None or branch.together is not None
    together = uneven + grid.opposite + factor * branch.opposite if held else None
    return Grid(xx, yy, apart, together, grid.ntk + factor * branch.ntk, grid.moved)


@jax.jit
def scaled(grid: Grid, factor: Array) -> Grid:
    """Kernel and tangent kernel times a factor."""
    together = None if grid.together is None else factor * grid.together
    moments = (factor * part for part in (grid.xx, grid.yy, grid.apart))
    return replace(Grid(*moments, together, factor * grid.ntk, grid.moved))


_FEW_CHANNELS = 8


@jax.jit
def begun(xx: Array, yy: Array, x: Array, y: Array, moved: Array) -> Grid:
    """The grid before the first layer, from variances and from unit vectors with the channels first."""
    half = 0.5 * root(xx) * root(yy)
    apart, together = (half * _squares(x, sign * y) for sign in (-1.0, 1.0))
    return Grid(xx, yy, apart, together, jnp.zeros_like(apart), moved)


def _squares(x: Array, y: Array) -> Array:
    """The squared length of a sum of vectors."""
    if len(x) > _FEW_CHANNELS:
        return jnp.sum((x + y) ** 2, axis=0)
    return total([(one + other) ** 2 for one, other in zip(x, y, strict=True)])


@partial(jax.jit, static_argnums=(0, 1))
def pooled(lengths: tuple[int, ...], displaced: int, grid: Grid) -> tuple[Array, Array]:
    """The sums of kernel and tangent kernel (batch,) over all pairs of positions that exist."""
    flags = jnp.ones((), grid.apart.dtype)
    for at in range(displaced):
        period, axis = grid.apart.shape[1 + at], 1 + at
        there = jnp.asarray(np.arange(period) < lengths[at], grid.apart.dtype)
        other = there[(jnp.arange(period)[None, :] + grid.moved[:, at, None]) % period]
        flags = flags * _along(there, axis, grid.apart.ndim) * _along(other, axis, grid.apart.ndim)
    each = (flags * (grid.scale - grid.apart), flags * grid.ntk)
    kernel, tangent = (jnp.sum(part.astype(float), axis=tuple(range(1, part.ndim))) for part in each)
    return kernel, tangent


@partial(jax.jit, static_argnums=0)
def flattened(rank: int, grid: Grid) -> tuple[Array, Array, Array, Array]:
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
