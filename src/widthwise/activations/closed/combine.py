r"""Duals of a function of other functions: stretched, multiplied, raised by a constant, added.

Legend as in ``dual``. Each takes and returns functions (xx, yy, gap, cogap) -> ``Dual``.
"""

from collections.abc import Callable

import jax.numpy as jnp

from ..dual import Dual, Scalar, superpose


def stretched(dual: Callable, rate: float) -> Callable:
    r"""Dual of $s(az)$: variances times $a^2$."""

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        seen = dual(rate * rate * xx, rate * rate * yy, gap, cogap)
        return Dual(seen.xx, seen.yy, seen.gap, seen.cogap, rate * rate * seen.slope, seen.error)

    return of


def scaled(dual: Callable, factor: float) -> Callable:
    r"""Dual of $a\,s(z)$."""

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        seen, power = dual(xx, yy, gap, cogap), factor * factor
        return Dual(power * seen.xx, power * seen.yy, seen.gap, seen.cogap, power * seen.slope, seen.error)

    return of


def summed(odd: Callable, even: Callable) -> Callable:
    r"""Dual of the sum of an odd and an even function, which are uncorrelated for every pair of inputs."""

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        first, second = odd(xx, yy, gap, cogap), even(xx, yy, gap, cogap)
        slope, error = first.slope + second.slope, jnp.maximum(first.error, second.error)
        return Dual(*superpose(first, second), slope, error)

    return of


def constant(value: float) -> Callable:
    """Dual of a constant."""

    def of(xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        level, zero = jnp.full_like(gap, value * value), jnp.zeros_like(gap)
        return Dual(level, level, zero, zero + 2.0, zero, zero)

    return of
