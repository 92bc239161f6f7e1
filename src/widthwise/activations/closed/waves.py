r"""Duals of exponentials, waves and bumps (Han et al. 2022): exponents are combined before they are taken.

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$,
``half`` $= (q_1+q_2)/2 - s = \frac12(\sqrt{q_1}-\sqrt{q_2})^2$. Every function takes (xx, yy, gap,
cogap) of one pair and returns a ``Dual``.
"""

from collections.abc import Callable

import jax.numpy as jnp

from ..dual import Dual, Scalar, between, nothing_where, ratio, root, rounding


def exponential(shift: float) -> Callable:
    r"""Dual of $e^{z+b}$: $F = D = e^{(q_1+q_2)/2+c+2b}$."""

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        s, half = root(xx) * root(yy), _half(xx, yy)
        new_gap = -jnp.expm1(-half - s * gap)
        slope = jnp.exp(half + s * (1 + 0.5 * (cogap - gap)) + 2 * shift)
        powers = jnp.exp(2 * xx + 2 * shift), jnp.exp(2 * yy + 2 * shift)
        return Dual(*powers, new_gap, 2 - new_gap, slope, rounding(gap))

    return of


def fourier(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of $\sqrt2\sin(z + \pi/4)$: $F = D = e^{-(q_1+q_2)/2+c}$, the radial kernel of the difference."""
    distance = _half(xx, yy) + root(xx) * root(yy) * gap
    new_gap, one = -jnp.expm1(-distance), jnp.ones_like(gap)
    return Dual(one, one, new_gap, 2 - new_gap, jnp.exp(-distance), rounding(gap))


def sine(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of sin: $F = e^{-(q_1+q_2)/2}\sinh c$, $D = e^{-(q_1+q_2)/2}\cosh c$."""
    s, half = root(xx) * root(yy), _half(xx, yy)
    fxx, fyy = -0.5 * jnp.expm1(-2 * xx), -0.5 * jnp.expm1(-2 * yy)
    uneven = _norm_gap(xx, yy, s, half, fxx, fyy, sign=-1.0)
    scale = root(fxx) * root(fyy)
    new_gap = ratio(uneven + _sinh_drop(s, gap, cogap, half), scale, 1.0)
    new_cogap = ratio(uneven + _sinh_drop(s, cogap, gap, half), scale, 1.0)
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), _cosh(s, half, gap, cogap), rounding(gap))


def cosine(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of cos: $F = e^{-(q_1+q_2)/2}\cosh c$, $D = e^{-(q_1+q_2)/2}\sinh c$."""
    s, half = root(xx) * root(yy), _half(xx, yy)
    fxx, fyy = 0.5 * (1 + jnp.exp(-2 * xx)), 0.5 * (1 + jnp.exp(-2 * yy))
    uneven = _norm_gap(xx, yy, s, half, fxx, fyy, sign=1.0)
    drop = 0.5 * jnp.expm1(-s * cogap) * jnp.expm1(-s * gap) * jnp.exp(-half)
    new_gap = between((uneven + drop) / jnp.sqrt(fxx * fyy))
    return Dual(fxx, fyy, new_gap, 2 - new_gap, _sinh(s, half, gap, cogap), rounding(gap))


def bump(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of $e^{-z^2/2}$: $F = \Delta^{-1/2}$, $D = c\,\Delta^{-3/2}$, $\Delta = (1+q_1)(1+q_2) - c^2$."""
    s = root(xx) * root(yy)
    p, r = jnp.sqrt(1 + 2 * xx), jnp.sqrt(1 + 2 * yy)
    delta = 1 + xx + yy + s * s * gap * cogap
    over = 0.5 * (2 * _apart(xx, yy) / (p + r)) ** 2 + s * s * gap * cogap  # delta - p r
    new_gap = over / (delta + jnp.sqrt(p * r * delta))
    slope = 0.5 * s * (cogap - gap) / (delta * jnp.sqrt(delta))
    return Dual(1 / p, 1 / r, new_gap, 2 - new_gap, slope, rounding(gap))


def packet(frequency: float) -> Callable:
    r"""Dual of $e^{-z^2/2}\sin(\omega z)$.

    The bump tilts the Gaussian: with $t = q_1+q_2$, $w = q_1q_2-c^2$ and $\Delta = 1+t+w$, the signals behave as if
    they had variances of sum $S = (t+2w)/\Delta$ and covariance $c' = c/\Delta$:
    $F = \Delta^{-1/2}e^{-\omega^2S/2}\sinh\omega^2c'$, and $D = \partial F/\partial c$ at fixed variances
    (derived in this project). The correlation is that of the bump, times that of the sine at the tilted variances,
    times $e^{-\omega^2(S-a-b)/2}$ with $a = q_1/(1+2q_1)$ and $b$ likewise, where $S \ge a+b$: no digit is lost.
    """
    power = frequency * frequency

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        s, t = root(xx) * root(yy), xx + yy
        p, r, w = 1 + 2 * xx, 1 + 2 * yy, s * s * gap * cogap
        aligned, delta = jnp.sqrt(p) * jnp.sqrt(r), 1 + t + w
        over = 0.5 * (2 * _apart(xx, yy) / (jnp.sqrt(p) + jnp.sqrt(r))) ** 2 + w  # delta - aligned
        near = over / (delta + jnp.sqrt(aligned * delta))
        spread = _apart(xx, yy) ** 2 / ((1 + t) * p * r) + w * (2 + t) / ((1 + t) * delta)  # S - a - b
        fall = -jnp.expm1(-0.5 * power * spread)
        gaps = (over + aligned * gap) / delta, (over + aligned * cogap) / delta
        first, second = power * xx / p, power * yy / r
        inner = sine(first, first - nothing_where(xx == yy, first - second), *gaps)
        new_gap, new_cogap = (near + (1 - near) * (fall + (1 - fall) * one) for one in (inner.gap, inner.cogap))
        tilted = power * s / delta, power * (_half(xx, yy) + w) / delta
        sinh, cosh, c = _sinh(*tilted, gap, cogap), _cosh(*tilted, gap, cogap), 0.5 * s * (cogap - gap) / delta
        slope = sinh * c * (1 + power * (2 + t) / delta) + power * cosh * (1 / delta + 2 * c * c)
        fxx, fyy = inner.xx / jnp.sqrt(p), inner.yy / jnp.sqrt(r)
        return Dual(fxx, fyy, between(new_gap), between(new_cogap), slope / jnp.sqrt(delta), rounding(gap))

    return of


def _apart(xx, yy):
    """q1 - q2, zero where they are equal: a compiled product and difference in one rounds otherwise."""
    return nothing_where(xx == yy, xx - yy)


def _half(xx, yy):
    """(q1 + q2)/2 - s."""
    return 0.5 * (root(xx) - root(yy)) ** 2


def _cosh(s, half, gap, cogap):
    """exp(-(q1 + q2)/2) cosh c."""
    return 0.5 * (jnp.exp(-half - s * gap) + jnp.exp(-half - s * cogap))


def _sinh(s, half, gap, cogap):
    """exp(-(q1 + q2)/2) sinh c."""
    twice = s * (cogap - gap)
    return -0.5 * jnp.sign(twice) * jnp.exp(-half - s * jnp.minimum(gap, cogap)) * jnp.expm1(-jnp.abs(twice))


def _sinh_drop(s, gap, cogap, half):
    """(sinh s - sinh c) exp(-(q1 + q2)/2) = 2 cosh((s + c)/2) sinh((s - c)/2) exp(-...)."""
    return 0.5 * (1 + jnp.exp(-s * cogap)) * -jnp.expm1(-s * gap) * jnp.exp(-half)


def _norm_gap(xx, yy, s, half, fxx, fyy, sign):
    """sqrt(F11 F22) - F12 at angle zero, by the product formulas of hyperbolic functions."""
    aligned = 0.5 * (jnp.exp(-2 * s) + 1 if sign > 0 else -jnp.expm1(-2 * s)) * jnp.exp(-half)
    product = 0.25 * jnp.expm1(-2 * half) * jnp.expm1(-2 * half - 4 * s)
    spread = 0.25 * (jnp.exp(-jnp.minimum(xx, yy)) * jnp.expm1(-jnp.abs(xx - yy))) ** 2
    whole = root(fxx) * root(fyy)
    # Where the products are the larger ones, of very unequal variances, the difference itself loses less.
    return jnp.where(product > whole**2, whole - aligned, ratio(product + sign * spread, whole + aligned))
