r"""The dual of the exact GELU (Tsuchida et al. 2021).

Legend as in ``dual``: variances $q_1, q_2$, $s = \sqrt{q_1 q_2}$, $c = s\cos\theta$. Every function
takes (xx, yy, gap, cogap) of one pair and returns a ``Dual``. Differences such as $F(s) - F(c)$
are rearranged so that nothing large is subtracted.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf as _erf

from ..dual import Dual, Scalar, between, nothing_where, ratio, root, rounding


def gelu(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    r"""Dual of the exact GELU $z\Phi(z)$ (Tsuchida et al. 2021).

    With $P = (1+q_1)(1+q_2)$, $r = \sqrt{P - c^2}$, $A = \frac14 + \frac1{2\pi}\arctan\frac cr$,
    $\kappa = \frac{1 - q_1q_2}P$, $N = q_1q_2 + \kappa c^2$: $F = cA + \frac N{2\pi r}$ and
    $D = A + \frac1{2\pi}\left[\frac{c(1+2\kappa)}r + \frac{cN}{r^3}\right]$. As $N = 1 - \kappa r^2$, the bracket
    is $\frac c{r^3} + \frac{c(1+\kappa)}r$, without the difference of two large numbers (derived in this project).
    """
    s, P = root(xx) * root(yy), (1 + xx) * (1 + yy)
    kappa, c = (1 - s * s) / P, 0.5 * s * (cogap - gap)
    r, top = jnp.sqrt(1 + xx + yy + s * s * gap * cogap), jnp.sqrt(1 + xx + yy)
    A = 0.25 + jnp.arctan2(c, r) / (2 * math.pi)
    slope = A + (c / r**3 + c * (2 + xx + yy) / (P * r)) / (2 * math.pi)
    fxx, fyy = _gelu_power(xx), _gelu_power(yy)
    drop = _gelu_drop(s, c, gap, cogap, P, kappa, r, top)
    new_gap = between(_gelu_norm_gap(xx, yy, fxx, fyy) + ratio(drop, root(fxx) * root(fyy), 1.0))
    return Dual(fxx, fyy, new_gap, 2 - new_gap, slope, rounding(gap))


def _gelu_power(q: Scalar) -> Scalar:
    """E[s(u)^2] of GELU."""
    side = jnp.sqrt(1 + 2 * q)
    return q * (0.25 + jnp.arctan2(q, side) / (2 * math.pi)) + q * q / ((1 + q) * math.pi * side)


def _gelu_drop(s, c, gap, cogap, P, kappa, r, top):
    """F(s) - F(c) of GELU, each term proportional to the gap."""
    squares = s * s * gap * cogap  # s^2 - c^2
    cross = jnp.where(c > 0, ratio(P * squares, s * r + jnp.abs(c) * top), s * r - c * top)
    turn = jnp.arctan2(cross, top * r + s * c) / (2 * math.pi)
    level = 0.25 + jnp.arctan2(s, top) / (2 * math.pi)
    last = squares * (1 + kappa * r * top) / (r * top * (r + top)) / (2 * math.pi)
    return s * gap * level + c * turn + last


def _gelu_norm_gap(xx, yy, fxx, fyy):
    """Half the mean square of the difference of the normalised GELUs of one Gaussian at two scales."""
    nodes, weights = _stretched_rule()
    x = jnp.asarray(nodes)

    def feature(q, power):
        z = root(q) * x
        return ratio(z * 0.5 * (1 + _erf(z / math.sqrt(2.0))), root(power))

    spread = 0.5 * jnp.sum(jnp.asarray(weights) * (feature(xx, fxx) - feature(yy, fyy)) ** 2)
    return nothing_where(xx == yy, spread)  # whatever rounding makes of the difference of equal numbers


@functools.lru_cache
def _stretched_rule() -> tuple[np.ndarray, np.ndarray]:
    r"""Nodes and weights for normal expectations of functions with a step of any width at zero.

    The trapezoid rule in t, with $x = \epsilon\sinh t$: the GELU of a large variance turns within $q^{-1/2}$.
    """
    smallest, reach = 1e-6, 10.0
    t = np.linspace(-1.0, 1.0, 400) * math.asinh(reach / smallest)
    x = smallest * np.sinh(t)
    weights = np.exp(-0.5 * x**2) * np.cosh(t)
    return x, weights / weights.sum()
