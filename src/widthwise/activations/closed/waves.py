r"""Duals of exponentials, waves and bumps (Han et al. 2022): exponents are combined before they are taken.

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$,
``half`` $= (q_1+q_2)/2 - s = \frac12(\sqrt{q_1}-\sqrt{q_2})^2$. Every function takes (xx, yy, gap,
cogap) of one pair and returns a ``Dual``.
"""

import jax.numpy as jnp

from ..dual import Dual, Scalar, between, ratio, root, rounding


def exponential(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of $e^z$: $F = D = e^{(q_1+q_2)/2+c}$."""
    s, half = root(xx) * root(yy), _half(xx, yy)
    new_gap = -jnp.expm1(-half - s * gap)
    slope = jnp.exp(half + s * (1 + 0.5 * (cogap - gap)))
    return Dual(jnp.exp(2 * xx), jnp.exp(2 * yy), new_gap, 2 - new_gap, slope, rounding(gap))


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
    over = 0.5 * (2 * (xx - yy) / (p + r)) ** 2 + s * s * gap * cogap  # delta - p r
    new_gap = over / (delta + jnp.sqrt(p * r * delta))
    slope = 0.5 * s * (cogap - gap) / (delta * jnp.sqrt(delta))
    return Dual(1 / p, 1 / r, new_gap, 2 - new_gap, slope, rounding(gap))


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
    return ratio(product + sign * spread, root(fxx) * root(fyy) + aligned)
