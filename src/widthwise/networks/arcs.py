r"""Rectifiers as polynomials: two short sums instead of an arc cosine, a sine and a cosine.

Legend: $h = \frac12(1-|\rho|) \in [0, \frac12]$, $\theta = 2\arcsin\sqrt h$ the acute angle, $\sin\theta -
\theta\cos\theta = h^{3/2}Q(h)$ and $\theta = \sqrt hP(h)$.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_DEGREES = {"float64": (16, 14), "float32": (7, 6)}  # of P and Q: more change nothing beyond rounding
_SMALL = 0.1  # below, the difference in Q is summed as a series
_SMALLEST = {"float64": 1e-300, "float32": 1e-36}


def _coefficients(values: np.ndarray, degree: int) -> list[float]:
    """Powers of 4h - 1, which lies in [-1, 1]."""
    series = np.polynomial.chebyshev.chebfit(_NODES, values, degree)
    return [float(one) for one in np.polynomial.chebyshev.cheb2poly(series)]


def _arc(h: np.ndarray) -> np.ndarray:
    r"""$Q(h)$."""
    theta = 2.0 * np.arcsin(np.sqrt(h))
    series = sum((-1) ** k * 2 * k * theta ** (2 * k + 1) / math.factorial(2 * k + 1) * -1 for k in range(1, 9))
    return np.where(h < _SMALL, series, np.sin(theta) - theta * np.cos(theta)) / h**1.5


_NODES = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
_H = 0.25 * (1.0 + _NODES)
_P, _Q = 2.0 * np.arcsin(np.sqrt(_H)) / np.sqrt(_H), _arc(_H)
_ANGLE = {dtype: _coefficients(_P, degree) for dtype, (degree, _) in _DEGREES.items()}
_ARC = {dtype: _coefficients(_Q, degree) for dtype, (_, degree) in _DEGREES.items()}


def _polynomial(coefficients: list[float], x: Array) -> Array:
    """The sum over even and odd powers, two chains of operations that a processor can do at once."""
    square = x * x
    even, odd = coefficients[::2][::-1], coefficients[1::2][::-1]
    first, second = jnp.full_like(x, even[0]), jnp.full_like(x, odd[0])
    for one in even[1:]:
        first = first * square + one
    for one in odd[1:]:
        second = second * square + one
    return first + x * second


def signed_root(apart: Array, together: Array | None) -> Array:
    r"""$\sqrt h$, with a minus for obtuse angles, from the halves of gap and cogap; acute where there is no cogap."""
    if together is None:
        return jnp.sqrt(jnp.clip(apart, 0.0, 0.5))
    value = jnp.sqrt(jnp.clip(jnp.minimum(apart, together), 0.0, 0.5))
    return jnp.where(together < apart, -jnp.maximum(value, _SMALLEST[str(value.dtype)]), value)


def rectified(slope: float, signed: Array, obtuse: bool) -> tuple[Array, Array, Array]:
    """The gap after a rectifier with this slope below zero, and the cosine and the mean slope product before it."""
    dtype, jump, power = str(signed.dtype), (1.0 - slope) ** 2, 0.5 * (1.0 + slope * slope)
    h = signed * signed
    x, length = 4.0 * h - 1.0, jnp.abs(signed) if obtuse else signed
    turn = length * (_polynomial(_ANGLE[dtype], x) * (0.5 / math.pi))
    arc = length * h * (_polynomial(_ARC[dtype], x) * (0.5 * jump / (math.pi * power)))
    gap, cosine, derivative = 2.0 * h - arc, 1.0 - 2.0 * h, jump * (0.5 - turn) + slope
    if not obtuse:
        return gap, cosine, derivative
    far = signed < 0.0
    # |z| does not see the sign.
    beyond = gap if slope == -1.0 else 0.5 * jump / power - arc + 2.0 * slope / power * (1.0 - h)
    pairs = ((beyond, gap), (-cosine, cosine), (jump * turn + slope, derivative))
    gap, cosine, derivative = (jnp.where(far, one, other) for one, other in pairs)
    return gap, cosine, derivative
