r"""Duals of activations without a closed form, with the error they leave.

Legend as in ``dual``. For a smooth $s$ the Hermite (Mehler) expansion is used: with
$a_k(q) = E[s(\sqrt q X)h_k(X)]$, $F = \sum_k a_k(q_1)a_k(q_2)\rho^k$. What is left out is at most
$\sqrt{\tau(q_1)\tau(q_2)}$, $\tau(q) = E[s(\sqrt q X)^2] - \sum_k a_k(q)^2$, for every $\rho$: the
error travels with the dual. For an $s$ with a kink at zero the series converges too slowly, and
the plane is cut into the four sectors in which $s(u)s(v)$ is smooth.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.numerics import hermite_rule, sector_rule

from .dual import Dual, Scalar, between, ratio, root

_ROUNDING = 32 * 2.0**-52


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
    new_gap, new_cogap, mixed = mehler(a, b, c, d, gap, cogap)
    error = root(tail_x * tail_y) + root(left_x * left_y) + _ROUNDING
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), mixed * root(sxx * syy), error)


def _coefficients(fn: Callable, degree: int, q: Scalar) -> tuple[Float[Array, " k"], Scalar, Scalar]:
    """Hermite coefficients of the normalised function, its power, and the share of it left out."""
    nodes, transform = hermite_rule(degree)
    values = fn(root(q) * jnp.asarray(nodes))
    power = jnp.sum(jnp.asarray(transform[0]) * values**2)
    normalised = ratio(jnp.asarray(transform) @ values, root(power))
    left_out = jnp.maximum(1.0 - jnp.sum(normalised**2), 0.0)
    return normalised, power, jnp.where(power == 0.0, 0.0, left_out)


def mehler(a, b, c, d, gap, cogap):
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
    return end[:3]


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
