r"""Duals of smooth activations without a closed form, with the error they leave.

Legend as in ``dual``. For a smooth $s$ the Hermite (Mehler) expansion is used: with
$a_k(q) = E[s(\sqrt q X)h_k(X)]$, $F = \sum_k a_k(q_1)a_k(q_2)\rho^k$. What is left out is at most
$\sqrt{\tau(q_1)\tau(q_2)}$, $\tau(q) = E[s(\sqrt q X)^2] - \sum_k a_k(q)^2$, for every $\rho$: the
error travels with the dual. For an $s$ with a kink the series converges too slowly: see ``cells``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.numerics import hermite_rule

from .dual import Dual, Scalar, between, ratio, root

_ROUNDING, _UNSEEN = 32 * 2.0**-52, 4 * 2.0**-52


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
    # The squares that were left out, were the two functions parallel there; the error is that they need not be.
    uneven = 0.5 * (root(tail_x) - root(tail_y)) ** 2
    error = 2.0 * root(tail_x * tail_y) + root(left_x * left_y) + _ROUNDING
    return Dual(fxx, fyy, between(new_gap + uneven), between(new_cogap + uneven), mixed * root(sxx * syy), error)


def _coefficients(fn: Callable, degree: int, q: Scalar) -> tuple[Float[Array, " k"], Scalar, Scalar]:
    """Hermite coefficients of the normalised function, its power, and the share of it left out."""
    nodes, transform = hermite_rule(degree)
    values = fn(root(q) * jnp.asarray(nodes))
    power = jnp.sum(jnp.asarray(transform[0]) * values**2)
    normalised = ratio(jnp.asarray(transform) @ values, root(power))
    # Below rounding the share is not known to be smaller, and may meet a large one of the other input.
    left_out = jnp.maximum(1.0 - jnp.sum(normalised**2), 0.0) + _UNSEEN
    return normalised, power, jnp.where(power == 0.0, 0.0, left_out)


def mehler(a, b, c, d, gap, cogap):
    """Sum the series for the new gap, the new cogap and the slope in one pass over the degree."""
    rho, sign = 0.5 * (cogap - gap), 1.0

    def term(carry, terms):
        new_gap, new_cogap, slope, power, mirror, short, long, sign = carry
        ak, bk, ck, dk = terms
        near = jnp.where((sign > 0) & (cogap < gap), long, short)  # the same for even powers
        new_gap += 0.5 * (ak - bk) ** 2 + ak * bk * near
        new_cogap += 0.5 * (ak + sign * bk) ** 2 - sign * ak * bk * long
        slope += ck * dk * power
        # short = 1 - rho^k and long = 1 - (-rho)^k, each from its own gap
        short, long = short + power * gap, long + mirror * cogap
        return (new_gap, new_cogap, slope, power * rho, -mirror * rho, short, long, -sign), None

    zero, one = jnp.zeros_like(gap), jnp.ones_like(gap)
    start = (zero, zero, zero, one, one, zero, zero, jnp.asarray(sign))
    end, _ = jax.lax.scan(term, start, (a, b, c, d), unroll=16)
    return end[:3]
