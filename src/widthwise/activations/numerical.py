r"""Duals of activations without a closed form, with the error they leave.

Legend as in ``dual``. For a smooth $s$ the Hermite (Mehler) expansion is used: with
$a_k(q) = E[s(\sqrt q X)h_k(X)]$, $F = \sum_k a_k(q_1)a_k(q_2)\rho^k$. Of the terms from k = K on, the
powers $\tau(q) = E[s(\sqrt q X)^2] - \sum_{k<K} a_k(q)^2$ are known, of the even and of the odd terms
apart. They are taken as if they stood at K and K + 1 with equal coefficients, which is exact for
equal and for opposite inputs of one size, and elsewhere off by at most
$2|\rho|^K\sqrt{\tau(q_1)\tau(q_2)}$: the error travels with the dual. For an $s$ with a kink at zero
the series converges too slowly, and the plane is cut into the four sectors in which $s(u)s(v)$ is smooth.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import hermite_rule, sector_rule

from .dual import Dual, Scalar, between, ratio

_ROUNDING = 32 * 2.0**-52
_NOISE = 128 * 2.0**-52  # a share of the power below this is rounding


def series(fn: Callable, degree: int, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of a smooth activation by ``degree`` terms of its Hermite expansion.

    $1-\rho' = \frac12\sum_k(\hat a_k-\hat b_k)^2 + \sum_k\hat a_k\hat b_k(1-\rho^k)$ with
    coefficients normalised to $\hat a = a/\sqrt{F_{11}}$: no two large numbers are subtracted.
    Everything that belongs to one input alone is computed once per input under ``vmap``.
    """
    slope = jax.vmap(jax.grad(fn))
    a, fxx, tail_x = _coefficients(fn, degree, xx)
    b, fyy, tail_y = _coefficients(fn, degree, yy)
    c, sxx, left_x = _coefficients(slope, degree, xx)
    d, syy, left_y = _coefficients(slope, degree, yy)
    new_gap, new_cogap, mixed, ends = _mehler(a, b, c, d, gap, cogap)
    tail = _tail(tail_x, tail_y, ends, degree)
    left = _tail(left_x, left_y, ends, degree)
    certain = (jnp.abs(xx - yy) <= _NOISE * xx) & (jnp.minimum(gap, cogap) < _NOISE**2 / degree)
    error = jnp.where(certain, 0.0, tail.error + left.error) + _ROUNDING
    new_gap, new_cogap = between(new_gap + tail.gap), between(new_cogap + tail.cogap)
    return Dual(fxx, fyy, new_gap, new_cogap, (mixed + left.mixed) * jnp.sqrt(sxx * syy), error)


def _coefficients(fn: Callable, degree: int, q: Scalar) -> tuple[Float[Array, " k"], Scalar, Float[Array, " 2"]]:
    """Hermite coefficients of the normalised function, its power, and the shares of even and odd terms left out."""
    nodes, transform = hermite_rule(degree)
    values, weights = fn(jnp.sqrt(q) * jnp.asarray(nodes)), jnp.asarray(transform[0])
    power = jnp.sum(weights * values**2)
    normalised = ratio(jnp.asarray(transform) @ values, jnp.sqrt(power))
    halves = jnp.stack([0.5 * (values + values[::-1]), 0.5 * (values - values[::-1])])
    shares = ratio(jnp.sum(weights * halves**2, axis=1), power[None])
    kept = jnp.stack([jnp.sum(normalised[0::2] ** 2), jnp.sum(normalised[1::2] ** 2)])
    left_out = shares - kept
    return normalised, power, jnp.where(left_out < _NOISE, 0.0, left_out)


class _Ends(eqx.Module):
    r"""What the sums end with: $\rho^k$, $1 - \rho^k$ and $1 - (-\rho)^k$ at k = K and k = K + 1, each (2,)."""

    power: Float[Array, " 2"]
    short: Float[Array, " 2"]
    long: Float[Array, " 2"]


def _mehler(a, b, c, d, gap, cogap):
    """Sum the series for the new gap, the new cogap and the slope in one pass over the degree."""
    rho, sign = 0.5 * (cogap - gap), 1.0

    def term(carry, terms):
        new_gap, new_cogap, slope, power, mirror, short, long, sign = carry
        ak, bk, ck, dk = terms
        new_gap += 0.5 * (ak - bk) ** 2 + ak * bk * short
        new_cogap += 0.5 * (ak + sign * bk) ** 2 - sign * ak * bk * long
        slope += ck * dk * power
        # short = 1 - rho^k and long = 1 - (-rho)^k, each from its own gap
        short, long = short + power * gap, long + mirror * cogap
        return (new_gap, new_cogap, slope, power * rho, -mirror * rho, short, long, -sign), None

    zero, one = jnp.zeros_like(gap), jnp.ones_like(gap)
    start = (zero, zero, zero, one, one, zero, zero, jnp.asarray(sign))
    end, _ = jax.lax.scan(term, start, (a, b, c, d), unroll=16)
    power, mirror, short, long = end[3:7]
    pairs = (power, power * rho), (short, short + power * gap), (long, long + mirror * cogap)
    return *end[:3], _Ends(*map(jnp.stack, pairs))


class _Tail(eqx.Module):
    """What the terms from K on add to the gap, the cogap and the mixed sum, and how wrong that may be."""

    gap: Scalar
    cogap: Scalar
    mixed: Scalar
    error: Scalar


def _tail(left_x: Float[Array, " 2"], left_y: Float[Array, " 2"], ends: _Ends, degree: int) -> _Tail:
    r"""Close the sums: $\frac12(\tau_x+\tau_y) \mp \sqrt{\tau_x\tau_y}\rho^k$ for the even and for the odd terms."""
    order = np.array([degree % 2, 1 - degree % 2])  # of the terms K and K + 1, which are even and odd or odd and even
    left_x, left_y = left_x[order], left_y[order]
    product = jnp.sqrt(left_x * left_y)
    uneven = 0.5 * jnp.sum((jnp.sqrt(left_x) - jnp.sqrt(left_y)) ** 2)
    above = jnp.where(order == 1, ends.long, 2.0 - ends.short)  # 1 + rho^k
    error = 2.0 * jnp.sum(jnp.abs(ends.power) * product)
    return _Tail(
        uneven + jnp.sum(product * ends.short),
        uneven + jnp.sum(product * above),
        jnp.sum(product * ends.power),
        error,
    )


def sectors(fn: Callable, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of an activation that is smooth but for a kink at zero, by four sectors of the plane.

    $u = \sqrt{q_1}\,r\cos\phi$, $v = \sqrt{q_2}\,r\cos(\phi-\theta)$, split at
    $\phi \in \{\pm\frac\pi2, \theta\pm\frac\pi2\}$; Gauss-Legendre in angle and radius. The error is
    the difference to a coarser rule.
    """
    fine, coarse = (_sectors(fn, rule, xx, yy, gap, cogap) for rule in ((24, 64), (16, 48)))
    error = jnp.abs(fine.gap - coarse.gap) + jnp.abs(fine.slope - coarse.slope) / jnp.maximum(jnp.abs(fine.slope), 1e-3)
    return Dual(fine.xx, fine.yy, fine.gap, fine.cogap, fine.slope, error + _ROUNDING)


def _sectors(fn, rule, xx, yy, gap, cogap) -> Dual:
    t, weight, r, radial = (jnp.asarray(part) for part in sector_rule(*rule))
    theta = 2.0 * jnp.arctan2(jnp.sqrt(gap), jnp.sqrt(cogap))
    opposite = 2.0 * jnp.arctan2(jnp.sqrt(cogap), jnp.sqrt(gap))
    start = jnp.stack(
        [
            theta - jnp.pi / 2,
            jnp.full_like(theta, jnp.pi / 2),
            theta + jnp.pi / 2,
            jnp.full_like(theta, -jnp.pi / 2) + 2 * jnp.pi,
        ]
    )
    width = jnp.stack([opposite, theta, opposite, theta])
    phi = start[:, None] + width[:, None] * t[None, :]
    weights = (width[:, None] * weight[None, :])[:, :, None] * radial[None, None, :] / (2 * jnp.pi)
    u = jnp.sqrt(xx) * jnp.cos(phi)[:, :, None] * r[None, None, :]
    v = jnp.sqrt(yy) * jnp.cos(phi - theta)[:, :, None] * r[None, None, :]
    derivative = jnp.vectorize(jax.grad(fn))
    fxx, fyy = _half_line_power(fn, xx), _half_line_power(fn, yy)
    left, right = ratio(fn(u), jnp.sqrt(fxx)), ratio(fn(v), jnp.sqrt(fyy))
    new_gap, new_cogap = (0.5 * jnp.sum(weights * (left + sign * right) ** 2) for sign in (-1.0, 1.0))
    slope = jnp.sum(weights * derivative(u) * derivative(v))
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), slope, jnp.zeros_like(gap))


def _half_line_power(fn: Callable, q: Scalar) -> Scalar:
    """E[s(sqrt(q) X)^2], each half line by the radial rule, whose weight is r exp(-r^2/2)."""
    _, _, r, radial = sector_rule(24, 200)
    z, weight = jnp.sqrt(q) * jnp.asarray(r), jnp.asarray(radial / r)
    return jnp.sum(weight * (fn(z) ** 2 + fn(-z) ** 2)) / jnp.sqrt(2 * jnp.pi)
