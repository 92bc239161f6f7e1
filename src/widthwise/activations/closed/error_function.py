r"""The dual of the error function, from which those of the normal distribution function and its like follow.

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$. Every function
takes (xx, yy, gap, cogap) of one pair and returns a ``Dual``. Differences such as $F(s) - F(c)$
are rearranged so that nothing large is subtracted.
"""

import math

import jax.numpy as jnp

from ..dual import Dual, Scalar, between, ratio, root, rounding


def erf(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of erf (Williams 1997).

    $F = \frac2\pi\arcsin\frac{2c}{\sqrt{(1+2q_1)(1+2q_2)}}$, $D = \frac4\pi[(1+2q_1)(1+2q_2) - 4c^2]^{-1/2}$.
    """
    p, r = (root(2 * q / (1 + 2 * q)) for q in (xx, yy))
    fxx, fyy = (2 / math.pi * jnp.arctan2(2 * q, jnp.sqrt(1 + 4 * q)) for q in (xx, yy))
    scale = root(fxx) * root(fyy)
    side = _erf_root(xx, yy, gap * cogap)
    top, bottom = _erf_root(xx, yy, 0.0 * gap), root(xx) * root(yy)
    norm = _erf_norm_gap(xx, yy, p, r, fxx, fyy)
    new_gap = ratio(norm + _arcsine_drop(bottom, gap, cogap, top, side), scale, 1.0)
    new_cogap = ratio(norm + _arcsine_drop(bottom, cogap, gap, top, side), scale, 1.0)
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), 4 / math.pi / side, rounding(gap))


def _erf_root(xx, yy, squared_sine):
    """sqrt((1 + 2 q1)(1 + 2 q2) - 4 c^2), with c^2 = q1 q2 (1 - sin^2)."""
    return jnp.sqrt(1 + 2 * (xx + yy) + 4 * xx * yy * squared_sine)


def _arcsine_drop(s, gap, cogap, top, side):
    """F(s) - F(c) for erf: a difference of two arctangents as one, of a quantity proportional to the gap."""
    c = 0.5 * s * (cogap - gap)
    cross = jnp.where(
        c > 0,
        ratio((top**2 + 4 * s * s) * s * s * gap * cogap, s * side + jnp.abs(c) * top),
        s * side - c * top,
    )
    return 2 / math.pi * jnp.arctan2(2 * cross, top * side + 4 * s * c)


def _erf_norm_gap(xx, yy, p, r, fxx, fyy):
    """sqrt(F11 F22) - F12 at angle zero: what unequal norms alone cost, zero when they are equal."""
    step = 2 * (xx - yy) / ((1 + 2 * xx) * (1 + 2 * yy))
    mixed = jnp.sqrt((1 - p * r) * (1 + p * r))
    first = jnp.arcsin(ratio(p * step, p * mixed + r * jnp.sqrt((1 - p * p) * (1 + p * p))))
    second = jnp.arcsin(ratio(-r * step, r * mixed + p * jnp.sqrt((1 - r * r) * (1 + r * r))))
    uneven = ratio(2 / math.pi * (first - second), root(fxx) + root(fyy))
    whole = root(fxx) * root(fyy)
    aligned = 2 / math.pi * jnp.arctan2(2 * root(xx) * root(yy), jnp.sqrt(1 + 2 * (xx + yy)))
    # Where the arcs are the larger ones, of very unequal variances, the difference itself loses less.
    return jnp.where(jnp.abs(first) > whole, whole - aligned, (first + second) / math.pi - 0.5 * uneven**2)
