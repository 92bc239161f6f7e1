r"""What layers do to the positions of a pair: sums of independent and of correlated signals, and picking.

Legend: variances $a_\delta$ and $b_\delta$ of the signals of x and y that are summed, $A_\delta = \sqrt{a_\delta/\sum
a}$, $B_\delta$ likewise, correlations $\rho_\delta$.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from widthwise.activations import between, ratio, root

from .pair import Pair
from .window import Window

_ROUNDING = 2.0**-52
_EQUAL = 64 * _ROUNDING  # gaps of sums below this are rounding


def averaged(pair: Pair, windows: Sequence[Window]) -> Pair:
    """The mean of independent signals, one for each place in a window: what fresh weights do to a neighbourhood."""
    for axis, window in enumerate(windows):
        # A barrier, or one fused loop would compute the first axis again for each place along the second.
        pair = lax.optimization_barrier(_averaged(pair, axis, window))
    return pair


def _averaged(pair: Pair, axis: int, window: Window) -> Pair:
    axes = (axis, axis + len(pair.positions)) if pair.crossed else (axis,)
    x, y = ([part / window.size for part in window.views(own, (axis,), 0.0)] for own in (pair.xx, pair.yy))
    xx, yy, scale = total(x), total(y), pair.scale
    shares = [(pair.along_x(share(a, xx)), pair.along_y(share(b, yy))) for a, b in zip(x, y, strict=True)]
    uneven = total([(a - b) ** 2 for a, b in shares])
    moments = [total(window.views(part, axes, 0.0)) for part in (scale * pair.gap, scale * pair.cogap, pair.ntk)]
    apart, together, ntk = (part / window.size for part in moments)
    gap, cogap = superposed(root(pair.along_x(xx)), root(pair.along_y(yy)), uneven, apart, together)
    return replace(pair, xx=xx, yy=yy, gap=gap, cogap=cogap, ntk=ntk, within=None)


def total(parts: list[Array]) -> Array:
    """The sum of arrays of one shape."""
    return reduce(jnp.add, parts)


def share(variance: Array, total: Array) -> Array:
    r"""$A_\delta$: the root of a signal's share in the variance of a sum."""
    return root(ratio(variance, total))


def superposed(x: Array, y: Array, uneven: Array, apart: Array, together: Array) -> tuple[Array, Array]:
    r"""Gap and cogap of a sum of independent signals, from positive terms alone, so that no digit is lost.

    $1-\rho = \frac12\sum(A_\delta-B_\delta)^2 + \frac1{xy}\sum\sqrt{a_\delta b_\delta}(1-\rho_\delta)$, and $1+\rho$
    with $1+\rho_\delta$; x and y are the standard deviations of the sums, ``uneven`` the first sum, ``apart`` and
    ``together`` the second ones. Where there is no variance the correlation is zero.
    """
    scale = x * y
    gap, cogap = (between(ratio(0.5 * scale * uneven + part, scale, 1.0)) for part in (apart, together))
    return gap, cogap


def flattened(pair: Pair) -> Pair:
    """All positions as one list of channels: the mean over equal positions."""
    if pair.crossed:
        pair = equal_positions(pair)
    xx, yy, scale = jnp.mean(pair.xx), jnp.mean(pair.yy), pair.scale
    count = pair.xx.size
    uneven = jnp.sum((share(pair.xx / count, xx) - share(pair.yy / count, yy)) ** 2)
    gap, cogap = superposed(root(xx), root(yy), uneven, jnp.mean(scale * pair.gap), jnp.mean(scale * pair.cogap))
    size = None if pair.size is None else pair.size * count
    return replace(pair, xx=xx, yy=yy, gap=gap, cogap=cogap, ntk=jnp.mean(pair.ntk), within=None, size=size)


def equal_positions(pair: Pair) -> Pair:
    """Keep the moments of equal positions."""
    gap, cogap, ntk = (diagonal(part, pair.positions) for part in (pair.gap, pair.cogap, pair.ntk))
    return replace(pair, gap=gap, cogap=cogap, ntk=ntk, within=None)


def diagonal(values: Array, positions: tuple[int, ...]) -> Array:
    """The entries (\\*p) of equal positions of values (\\*p, \\*p)."""
    return jnp.diagonal(values.reshape(math.prod(positions), -1)).reshape(positions)


def both_sides(values: Array, rank: int, x: Callable[[Array], Array], y: Callable[[Array], Array]) -> Array:
    """Apply x to the leading axes of values (\\*p, \\*p), and y to the axes after them."""
    half = x(values)
    kept = half.ndim - rank
    turned = y(jnp.moveaxis(half, tuple(range(kept, half.ndim)), tuple(range(rank))))
    after = turned.ndim - kept
    return jnp.moveaxis(turned, tuple(range(after, turned.ndim)), tuple(range(kept)))


def picked(pair: Pair, pick: Callable[[Array], Array]) -> Pair:
    """The pair at some positions; ``pick`` chooses them along the leading axes of an array."""
    rank = len(pair.positions)
    between_inputs = (pair.gap, pair.cogap, pair.ntk)
    if pair.crossed:
        gap, cogap, ntk = (both_sides(part, rank, pick, pick) for part in between_inputs)
    else:
        gap, cogap, ntk = map(pick, between_inputs)
    return replace(pair, xx=pick(pair.xx), yy=pick(pair.yy), gap=gap, cogap=cogap, ntk=ntk, within=None)


def combined(pair: Pair, x: Callable[[Array], Array], y: Callable[[Array], Array]) -> Pair:
    r"""The pair of linear combinations of the positions: $K' = M_xKM_y^\top$, $\Theta' = M_x\Theta M_y^\top$.

    x and y apply the matrices along the leading axes of an array. Raises ``AllPositionsNeeded`` where the moments
    between different positions are not held.
    """
    rank, (left, right) = len(pair.positions), pair.own
    xx, yy = both_sides(left.xy, rank, x, x), both_sides(right.xy, rank, y, y)
    return from_covariance(pair, xx, yy, both_sides(pair.xy, rank, x, y), both_sides(pair.ntk, rank, x, y))


def from_covariance(pair: Pair, x: Array, y: Array, xy: Array, ntk: Array) -> Pair:
    """The pair with these covariances (\\*p, \\*p) within x, within y and between them, and this tangent kernel.

    An angle is known from a covariance to half its digits only, so signals that are equal to 13 digits are taken
    as equal, and the error of the angle between those that are nearly so is put into ``error``.
    """
    positions = xy.shape[: xy.ndim // 2]
    xx, yy = (jnp.maximum(diagonal(part, positions), 0.0) for part in (x, y))
    moved = replace(pair, xx=xx, yy=yy, gap=xy, ntk=ntk, within=None)
    gap, cogap = _gaps(xy, moved)
    nearest = jnp.minimum(gap, cogap)
    blur = jnp.max(ratio(jnp.full_like(nearest, 8 * _ROUNDING), root(nearest)))
    return replace(moved, gap=gap, cogap=cogap, error=pair.error + blur)


def _gaps(covariance: Array, pair: Pair) -> tuple[Array, Array]:
    """Gap and cogap from a covariance; exactly zero where they are rounding, and of a signal with itself."""
    scale = pair.scale
    cosine = ratio(covariance, scale)
    gap, cogap = between(1.0 - cosine), between(1.0 + cosine)
    if pair.itself:
        same = jnp.eye(max(1, pair.xx.size), dtype=bool).reshape(gap.shape) & (scale > 0.0)
        gap, cogap = jnp.where(same, 0.0, gap), jnp.where(same, 2.0, cogap)
    return (
        jnp.where(gap < _EQUAL, 0.0, jnp.where(cogap < _EQUAL, 2.0, gap)),
        jnp.where(cogap < _EQUAL, 0.0, jnp.where(gap < _EQUAL, 2.0, cogap)),
    )


def product(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    r"""Gap and cogap of the correlation $\rho_1\rho_2$, from those of the two; a sum of positive terms."""
    (gap, cogap), (other_gap, other_cogap) = first, second
    cosine = 0.5 * jnp.abs(cogap - gap)
    acute = gap <= cogap
    small, large = jnp.where(acute, other_gap, other_cogap), jnp.where(acute, other_cogap, other_gap)
    near = jnp.minimum(gap, cogap)
    return between(near + cosine * small), between(near + cosine * large)
