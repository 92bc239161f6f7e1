"""Families of activations with a closed dual: each call makes one ``Activation``."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float

from widthwise.numerics import reject

from . import closed
from .activation import Activation

_HIGHEST = 30  # powers beyond lose digits to their own factorials


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """The leaky ReLU: z for z > 0 and ``negative_slope`` z otherwise.

    Raises ``ValueError`` for a slope that is not a finite number.

    >>> leaky_relu(0.5).critical
    (1.6, 0.0)
    """
    _finite(negative_slope=negative_slope)
    return Activation(
        f"leaky_relu({negative_slope:g})",
        lambda z: jnp.where(z >= 0, z, negative_slope * z),
        closed.rectifier(negative_slope, 1.0),
        kinks=(0.0,),
        slope_bound=max(1.0, abs(negative_slope)),
        critical=(2.0 / (1.0 + negative_slope**2), 0.0),
    )


def rectifier(negative_slope: float, positive_slope: float) -> Activation:
    """Two half lines: ``positive_slope`` z for z > 0 and ``negative_slope`` z otherwise.

    Raises ``ValueError`` for a slope that is not a finite number, and for two equal ones: that is a
    line without a kink, ``polynomial([0, slope])``.

    >>> rectifier(-1.0, 3.0).critical
    (0.2, 0.0)
    """
    _finite(negative_slope=negative_slope, positive_slope=positive_slope)
    if negative_slope == positive_slope:
        reject(f"two slopes of {positive_slope}", "The two slopes differ", "Use polynomial([0, slope]) for a line")
    steeper, other = sorted((positive_slope, negative_slope), key=abs, reverse=True)
    # Reflecting both inputs swaps the slopes and changes no second moment.
    dual = closed.rectifier(other / steeper, positive_slope / steeper)
    return Activation(
        f"rectifier({negative_slope:g}, {positive_slope:g})",
        lambda z: jnp.where(z >= 0, positive_slope * z, negative_slope * z),
        closed.scaled(dual, steeper),
        kinks=(0.0,),
        slope_bound=abs(steeper),
        critical=(2.0 / (negative_slope**2 + positive_slope**2), 0.0),
    )


def rectified_monomial(power: int) -> Activation:
    """The power z**p for z > 0 and 0 otherwise; p = 2 is the squared ReLU (Cho & Saul 2009).

    Raises ``ValueError`` for a power that is no whole number from 1 to 30.

    >>> rectified_monomial(2)
    Activation(rectified_monomial(2))
    """
    _whole("power", power, least=1)
    return Activation(
        f"rectified_monomial({power})",
        lambda z: jnp.where(z > 0, z, 0.0) ** power,
        closed.rectified_power(power) if power > 1 else closed.rectifier(0.0, 0.0),
        kinks=(0.0,),
        slope_bound=1.0 if power == 1 else math.inf,
        critical=(2.0, 0.0) if power == 1 else None,
    )


def monomial(power: int) -> Activation:
    """The power z**p, p from 0 to 30.

    Raises ``ValueError`` for another power.

    >>> monomial(3)
    Activation(monomial(3))
    """
    _whole("power", power)
    coefficients = (0.0,) * power + (1.0,)
    return Activation(
        f"monomial({power})", lambda z: z**power, closed.polynomial(coefficients), **_bounds(coefficients)
    )


def polynomial(coefficients: Sequence[float]) -> Activation:
    """The polynomial with these coefficients, lowest power first.

    Raises ``ValueError`` for no coefficients, more than 31, or any that is not a finite number.

    >>> float(polynomial([1.0, 0.0, 2.0])(jnp.array(3.0)))
    19.0
    """
    given = tuple(float(c) for c in coefficients)
    if not 1 <= len(given) <= _HIGHEST + 1 or not all(math.isfinite(c) for c in given):
        reject(
            f"coefficients {given}",
            f"A polynomial has 1 to {_HIGHEST + 1} finite coefficients, lowest power first",
            "Give for example [0.0, 1.0, 0.5]",
        )
    name = ", ".join(f"{c:g}" for c in given)
    return Activation(f"polynomial({name})", _evaluate(given), closed.polynomial(given), **_bounds(given))


def hermite(degree: int) -> Activation:
    r"""The normalised Hermite polynomial $h_n = He_n/\sqrt{n!}$, whose dual is $\rho^n$ at variance one.

    Raises ``ValueError`` for a degree that is no whole number from 0 to 30.

    >>> round(float(hermite(2)(jnp.array(3.0))), 6)
    5.656854
    """
    _whole("degree", degree)
    coefficients = np.polynomial.hermite_e.herme2poly([0.0] * degree + [1.0]) / math.sqrt(math.factorial(degree))
    given = tuple(float(c) for c in coefficients)
    return Activation(f"hermite({degree})", _evaluate(given), closed.hermite(degree), **_bounds(given))


def sinusoid(frequency: float = 1.0, phase: float = 0.0) -> Activation:
    """The wave sin(frequency z + phase).

    Raises ``ValueError`` for a frequency that is zero or not finite, and a phase that is not finite.

    >>> sinusoid(2.0).critical
    (0.25, 0.0)
    """
    _finite(frequency=frequency, phase=phase)
    _nonzero(frequency=frequency)
    odd, even = closed.scaled(closed.sine, math.cos(phase)), closed.scaled(closed.cosine, math.sin(phase))
    return Activation(
        f"sinusoid({frequency:g}, {phase:g})",
        lambda z: jnp.sin(frequency * z + phase),
        closed.stretched(closed.summed(odd, even), frequency),
        slope_bound=abs(frequency),
        curvature_bound=frequency**2,
        value_bound=1.0,
        critical=(frequency**-2, 0.0) if phase == 0 else None,
    )


def rbf(gamma: float = 0.5) -> Activation:
    r"""The wave $\sqrt2\sin(\sqrt{2\gamma}z + \pi/4)$, whose NNGP kernel is $e^{-\gamma E(u-v)^2}$.

    Raises ``ValueError`` for a gamma that is not positive and finite.

    >>> rbf(2.0)
    Activation(rbf(2))
    """
    _positive(gamma=gamma)
    rate = math.sqrt(2 * gamma)
    return Activation(
        f"rbf({gamma:g})",
        lambda z: math.sqrt(2.0) * jnp.sin(rate * z + math.pi / 4),
        closed.stretched(closed.fourier, rate),
        slope_bound=math.sqrt(2.0) * rate,
        curvature_bound=math.sqrt(2.0) * rate**2,
        value_bound=math.sqrt(2.0),
    )


def gaussian(alpha: float = 1.0) -> Activation:
    r"""The bump $e^{-\alpha z^2/2}$.

    Raises ``ValueError`` for an alpha that is not positive and finite.

    >>> gaussian().value_bound
    1.0
    """
    _positive(alpha=alpha)
    return Activation(
        f"gaussian({alpha:g})",
        lambda z: jnp.exp(-0.5 * alpha * z**2),
        closed.stretched(closed.bump, math.sqrt(alpha)),
        slope_bound=math.sqrt(alpha / math.e),
        curvature_bound=alpha,
        value_bound=1.0,
    )


def gabor(alpha: float = 2.0, frequency: float = 1.0) -> Activation:
    r"""The wave packet $e^{-\alpha z^2/2}\sin(\omega z)$ with frequency $\omega$.

    Its bounds are those of the triangle inequality, not attained. Raises ``ValueError`` for an alpha that is not
    positive and finite, and a frequency that is zero or not finite.

    >>> round(float(gabor()(jnp.array(0.5))), 6)
    0.373377
    """
    _positive(alpha=alpha)
    _finite(frequency=frequency)
    _nonzero(frequency=frequency)
    rate, wave = math.sqrt(alpha), abs(frequency)
    return Activation(
        f"gabor({alpha:g}, {frequency:g})",
        lambda z: jnp.exp(-0.5 * alpha * z**2) * jnp.sin(frequency * z),
        closed.stretched(closed.packet(frequency / rate), rate),
        slope_bound=wave + rate / math.sqrt(math.e),
        curvature_bound=wave**2 + 2 * wave * rate / math.sqrt(math.e) + alpha,
        value_bound=1.0,
    )


def exponential(rate: float = 1.0, shift: float = 0.0) -> Activation:
    r"""The exponential exp(rate z + shift).

    With rate $\sqrt\gamma$ and shift $-\gamma$ it is normalised: $E[s(u)s(v)] = e^{\gamma(\rho-1)}$ at variances of
    one (see `Homogeneous` for other variances). Raises ``ValueError`` for a rate that is zero or not finite, and a
    shift that is not finite.

    >>> exponential(0.5), exponential(0.5, -0.25)
    (Activation(exponential(0.5)), Activation(exponential(0.5, -0.25)))
    """
    _finite(rate=rate, shift=shift)
    _nonzero(rate=rate)
    told = f"{rate:g}" if shift == 0 else f"{rate:g}, {shift:g}"
    dual = closed.stretched(closed.exponential(shift), rate)
    return Activation(f"exponential({told})", lambda z: jnp.exp(rate * z + shift), dual)


def error_function(height: float = 1.0, rate: float = 1.0, offset: float = 0.0) -> Activation:
    r"""The sigmoid height erf(rate z) + offset; the normal distribution function is that of (1/2, $1/\sqrt2$, 1/2).

    Raises ``ValueError`` for numbers that are not finite, and a height or rate of zero.

    >>> error_function(0.5, 0.5**0.5, 0.5).value_bound
    1.0
    """
    _finite(height=height, rate=rate, offset=offset)
    _nonzero(height=height, rate=rate)
    odd = closed.scaled(closed.stretched(closed.erf, rate), height)
    return Activation(
        f"error_function({height:g}, {rate:g}, {offset:g})",
        lambda z: height * erf(rate * z) + offset,
        closed.summed(odd, closed.constant(offset)),
        slope_bound=2 / math.sqrt(math.pi) * abs(height * rate),
        curvature_bound=2 * math.sqrt(2 / (math.pi * math.e)) * abs(height) * rate**2,
        value_bound=abs(height) + abs(offset),
        critical=(math.pi / (4 * (height * rate) ** 2), 0.0) if offset == 0 else None,
    )


def _evaluate(coefficients: tuple[float, ...]):
    """The polynomial as a function of an array of any shape."""

    def value(z: Float[Array, "..."]) -> Float[Array, "..."]:
        total = jnp.zeros_like(z)
        for c in reversed(coefficients):
            total = total * z + c
        return total

    return value


def _bounds(coefficients: tuple[float, ...]) -> dict[str, Any]:
    """Bounds of the value, slope and curvature of a polynomial: infinite unless they are constants."""
    names, bounds = ("value_bound", "slope_bound", "curvature_bound"), {}
    for name in names:
        bounds[name] = math.inf if any(coefficients[1:]) else abs(coefficients[0])
        coefficients = tuple(p * c for p, c in enumerate(coefficients))[1:] or (0.0,)
    return bounds


def _whole(name: str, given: int, least: int = 0) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= _HIGHEST:
        reject(f"{name}={given!r}", f"It is a whole number from {least} to {_HIGHEST}", f"Give for example {name}=2")


def _finite(**given: float) -> None:
    for name, value in given.items():
        if not math.isfinite(value):
            reject(f"{name}={value}", "It is a finite number", f"Give for example {name}=0.5")


def _nonzero(**given: float) -> None:
    for name, value in given.items():
        if value == 0:
            reject(f"{name}={value}", "It is a number other than zero", f"Give for example {name}=0.5")


def _positive(**given: float) -> None:
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            reject(f"{name}={value}", "It is a positive finite number", f"Give for example {name}=0.5")
