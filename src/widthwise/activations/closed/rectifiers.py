r"""Duals of piecewise linear functions and powers with one kink at zero (Cho & Saul 2009).

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$. Every function
takes (xx, yy, gap, cogap) of one pair and returns a ``Dual``. Differences such as $F(s) - F(c)$
are rearranged so that nothing large is subtracted.
"""

import functools
import math
from fractions import Fraction

import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.numerics import unit_rule

from ..dual import Dual, Scalar, angle, between, root, rounding


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


def negative_slope(closed) -> float | None:
    """The slope below zero of the rectifier that a dual belongs to; none for other duals."""
    return closed.args[0] if isinstance(closed, functools.partial) and closed.func is _rectifier else None


def _rectifier(a: float, slope_at_zero: float, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    power, jump = 0.5 * (1 + a * a), (1 - a) ** 2
    # |z| does not see the sign: its angle is folded into [0, pi/2], where no digits are lost.
    near, far = (jnp.minimum(gap, cogap), jnp.maximum(gap, cogap)) if a == -1 else (gap, cogap)
    new_gap = (jump * (near - _arc(angle(near, far)) / math.pi) / 2 + a * near) / power
    new_cogap = (jump * (1 + _arc(angle(far, near)) / math.pi) / 2 + a * far) / power
    # Of two that sum to two the one with the small angle has a derivative there.
    acute = near <= far
    new_gap, new_cogap = jnp.where(acute, new_gap, 2 - new_cogap), jnp.where(acute, 2 - new_gap, new_cogap)
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


def sign(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of the sign: $F = 1 - 2\theta/\pi$; the slope is 0, as automatic differentiation has it."""
    fxx, fyy = (jnp.where(q > 0, 1.0, 0.0 * q) for q in (xx, yy))
    new_gap, new_cogap = (2 / math.pi * theta for theta in (angle(gap, cogap), angle(cogap, gap)))
    return Dual(fxx, fyy, new_gap, new_cogap, jnp.zeros_like(gap), rounding(gap))


def rectified_power(power: int):
    r"""Dual of $z_+^n$, $n \ge 1$: $F = s^nJ_n(\theta)/2\pi$, $D = n^2s^{n-1}J_{n-1}(\theta)/2\pi$.

    $J_n = (\pi-\theta)P_n(\rho) + \sin\theta\,Q_n(\rho)$ with polynomials of integers. As $dF/d\rho$ is a
    multiple of the dual of the power below, the gap is an integral of one sign,
    $1-\rho' = \frac{n^2}{2n-1}\int_0^\theta\frac{J_{n-1}(\phi)}{J_{n-1}(0)}\sin\phi\,d\phi$.
    """
    return functools.partial(_rectified_power, power)


def _rectified_power(n: int, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    odd, theta = math.prod(range(2 * n - 1, 0, -2)), angle(gap, cogap)
    t, weight = (jnp.asarray(part) for part in unit_rule(24 + n))
    rest = _falling(n - 1, theta * t) * jnp.sin(theta * t)
    new_gap = between(n * n / (2 * n - 1) * theta * jnp.sum(weight * rest))
    below = _falling(n - 1, theta) * math.prod(range(2 * n - 3, 0, -2)) / 2
    slope = n * n * root(xx) ** (n - 1) * root(yy) ** (n - 1) * below
    return Dual(0.5 * odd * xx**n, 0.5 * odd * yy**n, new_gap, 2 - new_gap, slope, rounding(gap))


def _falling(n: int, theta: Float[Array, "*k"]) -> Float[Array, "*k"]:
    """J_n(theta) / J_n(0), from 1 at zero to 0 at pi."""
    P, Q = _angular_polynomials(n)
    rho, total = jnp.cos(theta), float(sum(P)) * math.pi
    above = jnp.polyval(jnp.asarray(P[::-1], dtype=float), rho) * (math.pi - theta)
    return (above + jnp.polyval(jnp.asarray(Q[::-1], dtype=float), rho) * jnp.sin(theta)) / total


@functools.lru_cache
def _angular_polynomials(n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    r"""Coefficients of $P_n$ and $Q_n$, lowest first, from $dJ_n/d\rho = n^2J_{n-1}$.

    That is $P_n' = n^2P_{n-1}$ with $P_n(0) = E[u^n]^2$, and
    $P_n + (1-\rho^2)Q_n' - \rho Q_n = n^2(1-\rho^2)Q_{n-1}$, solved from the highest power down.
    """
    if n == 0:
        return (1,), (0,)
    P, Q = ([*part, 0, 0, 0] for part in _angular_polynomials(n - 1))
    constant = 0 if n % 2 else math.prod(range(n - 1, 0, -2)) ** 2
    new_P = [constant, *(n * n * P[k] // (k + 1) for k in range(n)), 0, 0]
    new_Q = [0] * (n + 2)
    for k in range(n, 0, -1):
        known = n * n * (Q[k] - (Q[k - 2] if k > 1 else 0))
        new_Q[k - 1] = int(Fraction(new_P[k] + (k + 1) * new_Q[k + 1] - known, k))
    return tuple(new_P[: n + 1]), tuple(new_Q[:n])
