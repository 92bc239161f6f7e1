r"""Closed-form duals (Cho & Saul 2009; Williams 1997; Tsuchida et al. 2021; Han et al. 2022).

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$. Every function
takes (xx, yy, gap, cogap) of one pair and returns a ``Dual``. Differences such as $F(s) - F(c)$
are rearranged so that nothing large is subtracted.
"""

import functools
import math

import jax.numpy as jnp
from jax.scipy.special import erf as _erf

from widthwise.numerics import normal_rule

from .dual import Dual, Scalar, angle, between, ratio, rounding


def linear(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    """Dual of the identity: nothing changes, and the slope is one."""
    return Dual(xx, yy, gap, cogap, jnp.ones_like(gap), jnp.zeros_like(gap))


def rectifier(negative_slope: float, slope_at_zero: float):
    r"""Dual of $s(z) = z$ for $z > 0$, $a z$ for $z \le 0$ (ReLU $a = 0$, leaky ReLU, $|z|$ with $a = -1$).

    $F = s\left[\frac{(1-a)^2}{2\pi}(\sin\theta + (\pi-\theta)\cos\theta) + a\cos\theta\right]$,
    $D = \frac{(1-a)^2}{2\pi}(\pi-\theta) + a$. At a zero input the derivative is ``slope_at_zero``,
    the convention of automatic differentiation.
    """
    return functools.partial(_rectifier, negative_slope, slope_at_zero)


def _rectifier(a: float, slope_at_zero: float, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    power, jump = 0.5 * (1 + a * a), (1 - a) ** 2
    # |z| does not see the sign: its angle is folded into [0, pi/2], where no digits are lost.
    near, far = (jnp.minimum(gap, cogap), jnp.maximum(gap, cogap)) if a == -1 else (gap, cogap)
    new_gap = (jump * (near - _arc(angle(near, far)) / math.pi) / 2 + a * near) / power
    new_cogap = (jump * (1 + _arc(angle(far, near)) / math.pi) / 2 + a * far) / power
    slope = jump * angle(cogap, gap) / (2 * math.pi) + a
    slope = _at_zero(slope, xx, yy, slope_at_zero, mean=0.5 * (1 + a))
    return Dual(power * xx, power * yy, between(new_gap), between(new_cogap), slope, rounding(gap))


def _arc(theta: Scalar) -> Scalar:
    r"""$\sin\theta - \theta\cos\theta$, by its series where the two terms would cancel."""
    small = theta < 0.2
    t = jnp.where(small, theta, 0.0)
    square = t * t
    series = (
        t**3 / 3 * (1 - square / 10 * (1 - square / 28 * (1 - square / 54 * (1 - square / 88 * (1 - square / 130)))))
    )
    return jnp.where(small, series, jnp.sin(theta) - theta * jnp.cos(theta))


def _at_zero(slope: Scalar, xx: Scalar, yy: Scalar, at_zero: float, mean: float) -> Scalar:
    """Replace the slope where an input is exactly zero: E[s'(0) s'(v)], and s'(0)^2 where both are."""
    both, one = (xx == 0) & (yy == 0), (xx == 0) | (yy == 0)
    return jnp.where(both, at_zero**2, jnp.where(one, at_zero * mean, slope))


def erf(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of erf (Williams 1997).

    $F = \frac2\pi\arcsin\frac{2c}{\sqrt{(1+2q_1)(1+2q_2)}}$, $D = \frac4\pi[(1+2q_1)(1+2q_2) - 4c^2]^{-1/2}$.
    """
    p, r = (jnp.sqrt(2 * q / (1 + 2 * q)) for q in (xx, yy))
    fxx, fyy = (2 / math.pi * jnp.arctan2(2 * q, jnp.sqrt(1 + 4 * q)) for q in (xx, yy))
    scale = jnp.sqrt(fxx * fyy)
    root = _erf_root(xx, yy, gap * cogap)
    top, bottom = _erf_root(xx, yy, 0.0 * gap), jnp.sqrt(xx * yy)
    norm = _erf_norm_gap(xx, yy, p, r, fxx, fyy)
    new_gap = ratio(norm + _arcsine_drop(bottom, gap, cogap, top, root), scale, 1.0)
    new_cogap = ratio(norm + _arcsine_drop(bottom, cogap, gap, top, root), scale, 1.0)
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), 4 / math.pi / root, rounding(gap))


def _erf_root(xx, yy, squared_sine):
    """sqrt((1 + 2 q1)(1 + 2 q2) - 4 c^2), with c^2 = q1 q2 (1 - sin^2)."""
    return jnp.sqrt(1 + 2 * (xx + yy) + 4 * xx * yy * squared_sine)


def _arcsine_drop(s, gap, cogap, top, root):
    """F(s) - F(c) for erf: a difference of two arctangents as one, of a quantity proportional to the gap."""
    c = 0.5 * s * (cogap - gap)
    cross = jnp.where(
        c > 0,
        ratio((top**2 + 4 * s * s) * s * s * gap * cogap, s * root + jnp.abs(c) * top),
        s * root - c * top,
    )
    return 2 / math.pi * jnp.arctan2(2 * cross, top * root + 4 * s * c)


def _erf_norm_gap(xx, yy, p, r, fxx, fyy):
    """sqrt(F11 F22) - F12 at angle zero: what unequal norms alone cost, zero when they are equal."""
    step = 2 * (xx - yy) / ((1 + 2 * xx) * (1 + 2 * yy))
    mixed = jnp.sqrt((1 - p * r) * (1 + p * r))
    first = jnp.arcsin(ratio(p * step, p * mixed + r * jnp.sqrt((1 - p * p) * (1 + p * p))))
    second = jnp.arcsin(ratio(-r * step, r * mixed + p * jnp.sqrt((1 - r * r) * (1 + r * r))))
    uneven = ratio(2 / math.pi * (first - second), jnp.sqrt(fxx) + jnp.sqrt(fyy))
    return (first + second) / math.pi - 0.5 * uneven**2


def sine(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of sin: $F = e^{-(q_1+q_2)/2}\sinh c$, $D = e^{-(q_1+q_2)/2}\cosh c$, exponents combined first."""
    s = jnp.sqrt(xx * yy)
    half = 0.5 * (jnp.sqrt(xx) - jnp.sqrt(yy)) ** 2  # (q1 + q2)/2 - s
    fxx, fyy = -0.5 * jnp.expm1(-2 * xx), -0.5 * jnp.expm1(-2 * yy)
    scale = jnp.sqrt(fxx * fyy)
    uneven = _sine_norm_gap(xx, yy, s, half, scale)
    new_gap = ratio(uneven + _sinh_drop(s, gap, cogap, half), scale, 1.0)
    new_cogap = ratio(uneven + _sinh_drop(s, cogap, gap, half), scale, 1.0)
    slope = 0.5 * (jnp.exp(-half - s * gap) + jnp.exp(-half - s * cogap))
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), slope, rounding(gap))


def _sinh_drop(s, gap, cogap, half):
    """(sinh s - sinh c) exp(-(q1 + q2)/2) = 2 cosh((s + c)/2) sinh((s - c)/2) exp(-...)."""
    return 0.5 * (1 + jnp.exp(-s * cogap)) * -jnp.expm1(-s * gap) * jnp.exp(-half)


def _sine_norm_gap(xx, yy, s, half, scale):
    """sqrt(F11 F22) - F12 at angle zero, by the product formulas of hyperbolic functions."""
    aligned = -0.5 * jnp.expm1(-2 * s) * jnp.exp(-half)
    product = 0.25 * jnp.expm1(-2 * half) * jnp.expm1(-2 * half - 4 * s)
    spread = 0.25 * (jnp.exp(-jnp.minimum(xx, yy)) * jnp.expm1(-jnp.abs(xx - yy))) ** 2
    return ratio(product - spread, scale + aligned)


def gelu(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of the exact GELU $z\Phi(z)$ (Tsuchida et al. 2021).

    With $P = (1+q_1)(1+q_2)$, $r = \sqrt{P - c^2}$, $A = \frac14 + \frac1{2\pi}\arctan\frac cr$,
    $\kappa = \frac{1 - q_1q_2}P$, $N = q_1q_2 + \kappa c^2$: $F = cA + \frac N{2\pi r}$ and
    $D = A + \frac1{2\pi}\left[\frac{c(1+2\kappa)}r + \frac{cN}{r^3}\right]$.
    """
    s, P = jnp.sqrt(xx * yy), (1 + xx) * (1 + yy)
    kappa, c = (1 - s * s) / P, 0.5 * s * (cogap - gap)
    r, root = jnp.sqrt(1 + xx + yy + s * s * gap * cogap), jnp.sqrt(1 + xx + yy)
    N = s * s + kappa * c * c
    A = 0.25 + jnp.arctan2(c, r) / (2 * math.pi)
    slope = A + (c * (1 + 2 * kappa) / r + c * N / r**3) / (2 * math.pi)
    fxx, fyy = _gelu_power(xx), _gelu_power(yy)
    drop = _gelu_drop(s, c, gap, cogap, P, kappa, N, r, root)
    new_gap = between(_gelu_norm_gap(xx, yy, fxx, fyy) + ratio(drop, jnp.sqrt(fxx * fyy), 1.0))
    return Dual(fxx, fyy, new_gap, 2 - new_gap, slope, rounding(gap))


def _gelu_power(q: Scalar) -> Scalar:
    """E[s(u)^2] of GELU."""
    root = jnp.sqrt(1 + 2 * q)
    return q * (0.25 + jnp.arctan2(q, root) / (2 * math.pi)) + q * q / ((1 + q) * math.pi * root)


def _gelu_drop(s, c, gap, cogap, P, kappa, N, r, root):
    """F(s) - F(c) of GELU, each term proportional to the gap."""
    squares = s * s * gap * cogap  # s^2 - c^2
    cross = jnp.where(c > 0, ratio(P * squares, s * r + jnp.abs(c) * root), s * r - c * root)
    turn = jnp.arctan2(cross, root * r + s * c) / (2 * math.pi)
    top = 0.25 + jnp.arctan2(s, root) / (2 * math.pi)
    last = squares * (kappa * r + N / (r + root)) / (r * root) / (2 * math.pi)
    return s * gap * top + c * turn + last


def _gelu_norm_gap(xx, yy, fxx, fyy):
    """Half the mean square of the difference of the normalised GELUs of one Gaussian at two scales."""
    nodes, weights = normal_rule(200)
    x = jnp.asarray(nodes)

    def feature(q, power):
        z = jnp.sqrt(q) * x
        return ratio(z * 0.5 * (1 + _erf(z / math.sqrt(2.0))), jnp.sqrt(power))

    return 0.5 * jnp.sum(jnp.asarray(weights) * (feature(xx, fxx) - feature(yy, fyy)) ** 2)
