"""Claims about what the kernel of a shallow rectifier network can approximate, and why one coordinate must be fixed."""

import math
from functools import partial

import equinox as eqx
import numpy as np
from jaxtyping import Array

from widthwise.claims import AtLeast, Claim, Equal, Mutant, Scaling
from widthwise.numerics import Estimate

from ..concentration import interpolate, on_slice
from .setups import FIELD
from .shallow_model import slice_coefficients

_CENTRES = (16.0, 32.0, 64.0, 128.0)
_ANGLES = 2000


class Circle(eqx.Module):
    r"""The circle $\{\|x\| = 1, x_3 = c\}$, and the wave $\cos(k\phi)$ along it that is to be approximated."""

    height: float = 3**-0.5
    wave: int = 3

    def at(self, phi: np.ndarray) -> np.ndarray:
        """The points (n, 3) at these angles."""
        return on_slice(phi, self.height)


def interpolation_error(circle: Circle, centres: int) -> float:
    """The largest error on the circle of the interpolant of least norm in equally spaced centres."""
    nodes, phi = 2 * np.pi * np.arange(centres) / centres + 0.1, 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    f = interpolate(circle.at(nodes), np.cos(circle.wave * nodes), cutoff=1e-12)
    return float(np.max(np.abs(f(circle.at(phi)) - np.cos(circle.wave * phi))))


def _errors(circle: Circle, key: Array, height: float | None = None) -> np.ndarray:
    circle = circle if height is None else Circle(height, circle.wave)
    return np.array([interpolation_error(circle, int(count)) for count in _CENTRES])


def _predict_rate(circle: Circle, rate=-2.0) -> Estimate:
    # The fit has the term 1/N; the square of the wave times the spacing is left.
    return Estimate(rate, (circle.wave * math.pi / _CENTRES[0]) ** 2)


def _fixed_coordinate(circle: Circle) -> str | None:
    """One coordinate is fixed at a value between 0 and 1."""
    if 0 < circle.height < 1:
        return None
    return f"the kernel is not universal on this circle because its height is {circle.height:g}"


def _odd_wave(circle: Circle) -> str | None:
    """The wave is odd and not the first one, and no coordinate is fixed."""
    if circle.wave % 2 == 1 and circle.wave >= 3 and circle.height == 0:
        return None
    return f"only odd waves from the third on are missed, and only without a fixed coordinate, not {circle!r}"


def _by_cauchy(circle: Circle, key: Array, height: float | None = None) -> np.ndarray:
    """Taylor coefficients by Cauchy's integral over a circle in the complex plane."""
    square = (circle.height if height is None else height) ** 2
    radius, count = 0.5 * (1.0 - square), 256
    t = square + radius * np.exp(2j * np.pi * np.arange(count) / count)
    series = np.fft.fft(0.25 * t + t * np.arcsin(t) / (2.0 * np.pi)).real / count
    return series[:10] / radius ** np.arange(10)


def _predict_coefficients(circle: Circle) -> Estimate:
    # Rounding of the integral, over the tenth power of the radius.
    return Estimate(slice_coefficients(circle.height, 10), 64 * 2.0**-52 / (0.5 * (1.0 - circle.height**2)) ** 9)


def _predict_without_arcsine(circle: Circle) -> Estimate:
    value = np.zeros(10)
    value[:2] = 0.25 * np.array([circle.height**2, 1.0])
    return Estimate(value, 0.0)


CLAIMS = (
    Claim(
        id="KERN-39",
        name="universality-with-a-fixed-coordinate",
        statement=r"On inputs of one norm with one coordinate fixed the kernel of a shallow rectifier network "
        r"approximates every continuous function: interpolating $\cos3\phi$ on such a circle in N centres is off "
        r"by $O(N^{-2})$.",
        sources=("bartlett2021deep", "steinwart2008support"),
        derived_here=True,
        field=FIELD,
        setup=Circle,
        predict=_predict_rate,
        measure=_errors,
        relation=Scaling(sizes=_CENTRES),
        assumptions=(_fixed_coordinate,),
        mutants=(
            Mutant("no fixed coordinate", {"measure": partial(_errors, height=0.0)}),
            Mutant("rate 1/N", {"predict": partial(_predict_rate, rate=-1.0)}),
        ),
    ),
    Claim(
        id="KERN-39b",
        name="odd-waves-are-missed-without-a-fixed-coordinate",
        statement=r"On the whole circle, without a bias, the kernel of a shallow rectifier network misses the odd "
        r"waves from the third on: no number of centres approximates $\cos3\phi$ better than to 1.",
        sources=("bietti2019inductive",),
        derived_here=True,
        field=FIELD,
        setup=partial(Circle, 0.0),
        # The largest error over the angles that are looked at is below that over all by the square of their spacing.
        predict=lambda circle: Estimate(np.ones(len(_CENTRES)), 0.5 * (circle.wave * math.pi / _ANGLES) ** 2),
        measure=_errors,
        relation=AtLeast(),
        assumptions=(_odd_wave,),
        mutants=(Mutant("a fixed coordinate", {"measure": partial(_errors, height=0.5)}),),
    ),
    Claim(
        id="LAZY-17",
        name="taylor-coefficients-of-the-kernel-on-a-slice",
        statement=r"With a coordinate fixed at c, $k=\frac t4+\frac{t\arcsin t}{2\pi}$, $t=u\cdot v+c^2$, has positive "
        r"Taylor coefficients in $u\cdot v$ only, and therefore is universal.",
        sources=("steinwart2008support", "bartlett2021deep"),
        field="lazy-training",
        setup=Circle,
        predict=_predict_coefficients,
        measure=_by_cauchy,
        relation=Equal(),
        assumptions=(_fixed_coordinate,),
        mutants=(
            Mutant("no fixed coordinate", {"measure": partial(_by_cauchy, height=0.0)}),
            Mutant("arcsine lost", {"predict": _predict_without_arcsine}),
        ),
    ),
)
