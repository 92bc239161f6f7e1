r"""Duals of polynomials: finite Hermite sums, exact.

Legend as in ``dual``: $a_k(q) = E[s(\sqrt qX)h_k(X)]$, $F = \sum_k a_k(q_1)a_k(q_2)\rho^k$ with
$h_k = He_k/\sqrt{k!}$, $k \le n$.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..dual import Dual, Scalar, between, ratio, root, rounding
from ..numerical import mehler


def polynomial(coefficients: tuple[float, ...]) -> Callable:
    r"""Dual of $\sum_p c_pz^p$, lowest power first: $a_k(q) = \sum_{p \equiv k (2)} c_p q^{p/2}\,E[X^ph_k(X)]$."""
    slopes = tuple(p * c for p, c in enumerate(coefficients))[1:] or (0.0,)
    return functools.partial(_finite, _powers(coefficients), _powers(slopes))


def hermite(degree: int) -> Callable:
    r"""Dual of $h_n$; $F = \rho^n$ at variances one.

    In general $a_{n-2j}(q) = \sqrt{\frac{n!}{(n-2j)!}}\,\frac{q^{(n-2j)/2}(q-1)^j}{2^jj!}$, which loses no
    digits near $q = 1$; $s' = \sqrt n\,h_{n-1}$.
    """
    below = _rescaled(max(degree - 1, 0))
    return functools.partial(_finite, _rescaled(degree), lambda q: math.sqrt(degree) * below(q))


def _finite(values: Callable, slopes: Callable, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
    (a, fxx), (b, fyy) = (_normalised(values(q)) for q in (xx, yy))
    c, d = (jnp.pad(slopes(q), (0, a.size - slopes(q).size)) for q in (xx, yy))
    new_gap, new_cogap, slope = mehler(a, b, c, d, gap, cogap)
    return Dual(fxx, fyy, between(new_gap), between(new_cogap), slope, rounding(gap))


def _normalised(terms: Float[Array, " k"]) -> tuple[Float[Array, " k"], Scalar]:
    power = jnp.sum(terms**2)
    return ratio(terms, root(power)), power


def _powers(coefficients: tuple[float, ...]) -> Callable:
    """Hermite coefficients of a polynomial of sqrt(q) X as a function of q."""
    table = np.zeros((len(coefficients), len(coefficients)))
    for p, c in enumerate(coefficients):
        for j in range(p // 2 + 1):
            k = p - 2 * j
            table[k, p] = c * math.factorial(p) / (2**j * math.factorial(j) * math.sqrt(math.factorial(k)))

    def expand(q: Scalar) -> Float[Array, " k"]:
        return jnp.asarray(table) @ jnp.stack([root(q) ** p for p in range(len(coefficients))])

    return expand


def _rescaled(n: int) -> Callable:
    """Hermite coefficients of h_n(sqrt(q) X) as a function of q."""

    def term(k: int, q: Scalar) -> Scalar:
        j = (n - k) // 2
        if (n - k) % 2:
            return jnp.zeros_like(q)
        size = math.sqrt(math.factorial(n) / math.factorial(k)) / (2**j * math.factorial(j))
        return size * root(q) ** k * (q - 1) ** j

    return lambda q: jnp.stack([term(k, q) for k in range(n + 1)])
