r"""The spectrum of a network's kernels on the sphere, from the Funk-Hecke formula.

Legend: d the dimension of the inputs, $S^{d-1}$ the sphere they lie on with its uniform probability,
$\kappa(\theta)$ a kernel that depends on the angle alone (as those of a network do between inputs of one
norm), $P_k$ the Legendre polynomial of dimension d and degree k, $P_k(1) = 1$, $N(d, k)$ the number of
independent spherical harmonics of degree k, $c_j$ the Chebyshev coefficients of $\kappa$ in
$2\theta/\pi-1$.
"""

import functools
import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import comb

from widthwise.networks import AbstractLayer, compile_profile
from widthwise.numerics import Estimate, nearest, reject, unit_rule

KERNELS = ("nngp", "ntk")
_MOST_DEGREES, _MOST_DIMENSIONS = 10_000, 1_000_000
_EPS = float(np.finfo(float).eps)
_LARGEST = 1e300
_RESOLVED = 0.01  # the relative error up to which an eigenvalue takes part in a fit


@dataclass(frozen=True, eq=False)
class SphereSpectrum:
    r"""Eigenvalues $\mu_k$ of a zonal kernel under the uniform probability on $S^{d-1}$, $k = 0..K$.

    ``eigenvalues`` is an ``Estimate`` with an error for each degree: an eigenvalue smaller than its error
    has no correct digit. ``multiplicities`` $N(d, k)$; ``trace`` $= \kappa(0) = \sum_k N(d, k)\mu_k$;
    ``decay`` is the exponent p of $\mu_k \sim k^{-p}$ that the kernel's singularity at equal or opposite
    inputs implies, or None where none is seen: then the eigenvalues fall faster.
    """

    dimension: int
    eigenvalues: Estimate
    multiplicities: Float[np.ndarray, " k"]
    trace: float
    decay: int | None

    @property
    def degrees(self) -> np.ndarray:
        """The degrees 0..K."""
        return np.arange(len(self.multiplicities))

    @property
    def resolved(self) -> np.ndarray:
        """Which eigenvalues are larger than their error."""
        return np.abs(self.eigenvalues.value) > self.eigenvalues.error

    @property
    def shares(self) -> Estimate:
        r"""The share of each degree of the trace, $N(d, k)\mu_k/\kappa(0)$."""
        factor = self.multiplicities / self.trace
        return Estimate(factor * self.eigenvalues.value, factor * self.eigenvalues.error)

    def fitted_decay(self) -> Estimate:
        r"""The exponent p of $\mu_k \propto (k + \tfrac d2 - 1)^{-p}$ in the last octave of accurate eigenvalues.

        The error is the change from the octave before, plus what the errors of the eigenvalues allow.
        Raises ``ValueError`` for fewer than 16 accurate eigenvalues.
        """
        k = self.degrees
        good = (k > 0) & (self.eigenvalues.error < _RESOLVED * self.eigenvalues.value)
        if np.sum(good) < 16:
            reject(
                f"{np.sum(good)} eigenvalues with a relative error below {_RESOLVED:g}",
                "A decay is fitted to at least 16 of them",
                "Ask for more degrees; where the eigenvalues fall too fast, there is no power law to fit",
            )
        last = int(np.max(k[good]))
        slope, error = self._slope(good & (k > last // 2))
        before, _ = self._slope(good & (k <= last // 2) & (k > last // 4))
        return Estimate(slope, error + abs(slope - before))

    def _slope(self, chosen: np.ndarray) -> tuple[float, float]:
        """Exponent and its error; even and odd degrees have the same one, but need not have the same factor."""
        k, value = self.degrees[chosen], self.eigenvalues.value[chosen]
        parity = np.stack([k % 2 == 0, k % 2 == 1], axis=1).astype(float)
        design = np.concatenate(
            [np.log(k + 0.5 * self.dimension - 1.0)[:, None], parity[:, parity.any(axis=0)]], axis=1
        )
        row = np.linalg.pinv(design)[0]
        return float(-row @ np.log(value)), float(np.abs(row) @ (self.eigenvalues.error[chosen] / value))

    def __str__(self) -> str:
        law = "faster than any power seen" if self.decay is None else f"like k^-{self.decay}"
        head = f"spectrum on the sphere in {self.dimension} dimensions, trace {self.trace:.6g}, falling {law}"
        rows = zip(
            self.degrees, self.multiplicities, self.eigenvalues.value, self.shares.value, self.resolved, strict=True
        )
        named = f"{'k':>5} {'multiplicity':>13} {'eigenvalue':>18} {'share of trace':>15}"
        lines = [
            f"{k:>5} {count:>13.6g} {value:>18.11g} {share:>15.4%}"
            if seen
            else f"{k:>5} {count:>13.6g} {'0 to rounding':>18}"
            for k, count, value, share, seen in rows
        ]
        return "\n".join([head, named, *lines])


def sphere_spectrum(
    network: AbstractLayer,
    dimension: int,
    degrees: int = 20,
    *,
    kernel: str = "ntk",
    mean_square: float = 1.0,
    tolerance: float = 1e-10,
) -> SphereSpectrum:
    r"""Compute the eigenvalues of a network's kernel on inputs of one norm, uniform in their direction.

    $\mu_k = c_d\int_0^\pi\kappa(\theta)P_k(\cos\theta)\sin^{d-2}\theta\,d\theta$ with
    $c_d = \frac{\Gamma(d/2)}{\sqrt\pi\,\Gamma((d-1)/2)}$, which makes the weight a probability,
    the limit of the eigenvalues of $\frac1NK(X, X)$ for N such inputs; the eigenfunctions are the spherical
    harmonics of degree k.

    Args:
        network: any network; its kernel is compiled into a polynomial of the angle.
        dimension: d, at least 2.
        degrees: the highest degree K.
        kernel: "ntk" or "nngp".
        mean_square: $\|x\|^2/d$ of the inputs.
        tolerance: relative error allowed to the compiled kernel.

    Raises ``ValueError`` for a dimension below 2, a negative degree, an unknown kernel, a mean square that is
    not positive, and a network whose kernels no polynomial of the angle follows. Sources: bietti2019inductive,
    bietti2021deep.

    >>> from widthwise.networks import MLP
    >>> found = sphere_spectrum(MLP(depth=1, activation="relu").network(), 3, 4, kernel="nngp")
    >>> np.round(found.eigenvalues.value, 12).tolist()
    [0.375, 0.166666666667, 0.0234375, 0.0, 0.000651041667]
    >>> found.decay
    5
    """
    _check(dimension, degrees, kernel, mean_square)
    with jax.enable_x64(True):
        profile = compile_profile(network, dimension, mean_square, mean_square, tolerance)
    if profile is None:
        reject(
            f"No polynomial of the angle reaches the tolerance {tolerance:.1e} for this network",
            "The kernels must be finite, positive on the diagonal and smooth in the angle",
            "Pass a larger tolerance, or another activation",
        )
    index = KERNELS.index(kernel)
    coefficients = (profile.nngp, profile.ntk)[index][:, 0, 0]
    level = float(profile.own(np.array([mean_square]))[index, 0])
    return zonal_spectrum(level * coefficients, dimension, degrees, error=profile.error * level)


def zonal_spectrum(coefficients: ArrayLike, dimension: int, degrees: int, error: float = 0.0) -> SphereSpectrum:
    r"""Compute the spectrum of the kernel $\kappa(\theta) = \sum_jc_jT_j(2\theta/\pi-1)$ on $S^{d-1}$.

    Args:
        coefficients: $c_j$, j = 0..J.
        dimension: d, at least 2.
        degrees: the highest degree K.
        error: bound on $\sum_j|\delta c_j|$, what the coefficients may be wrong by in sum.

    Raises ``ValueError`` for a dimension below 2 and a negative degree.

    >>> found = zonal_spectrum([0.5, -0.5], 2, 3)  # 1 - theta/pi, whose Fourier series is known
    >>> bool(np.allclose(found.eigenvalues.value, [1 / 2, 2 / np.pi**2, 0, 2 / (9 * np.pi**2)], rtol=0, atol=1e-15))
    True
    """
    _check(dimension, degrees, "ntk", 1.0)
    c = np.asarray(coefficients, dtype=float)
    terms = max(64, 2 * len(c))  # errors may sit in coefficients beyond the last one
    matrix, rounding = _moments(dimension, degrees, terms)
    # A coefficient's error reaches an eigenvalue through its column.
    errors = error * np.max(np.abs(matrix), axis=1) + rounding * np.sum(np.abs(c))
    trace = float(np.sum(c * (-1.0) ** np.arange(len(c))))
    counts = np.array([multiplicity(dimension, k) for k in range(degrees + 1)])
    return SphereSpectrum(
        dimension, Estimate(matrix[:, : len(c)] @ c, errors), counts, trace, _decay(c, error, dimension)
    )


def multiplicity(dimension: int, degree: int) -> float:
    r"""$N(d, k) = \frac{2k+d-2}k\binom{k+d-3}{k-1}$, the number of independent spherical harmonics of degree k.

    >>> [multiplicity(3, k) for k in range(4)], [multiplicity(10, k) for k in range(4)]
    ([1.0, 3.0, 5.0, 7.0], [1.0, 10.0, 54.0, 210.0])
    """
    if degree == 0:
        return 1.0
    count = comb(degree + dimension - 3, degree - 1)
    return float(count * ((2 * degree + dimension - 2) / degree)) if count < _LARGEST else math.inf


def legendre(dimension: int, degrees: int, theta: Float[np.ndarray, " n"]):
    r"""Yield $P_k(\cos\theta)$ for k = 0..K at angles in $[0, \pi/2]$.

    $(k+d-2)P_{k+1} = (2k+d-2)\cos\theta\,P_k - kP_{k-1}$; near $\theta = 0$, where every $P_k$ is 1, in its form for
    the differences $P_{k+1}-P_k$, driven by $1-\cos\theta$, in which nothing cancels.

    >>> [round(float(p[0]), 12) for p in legendre(3, 2, np.array([np.pi / 3]))]
    [1.0, 0.5, -0.125]
    """
    cosine, gap = np.cos(theta), 2.0 * np.sin(0.5 * theta) ** 2
    before, value = np.zeros_like(gap), np.ones_like(gap)
    for k in range(degrees + 1):
        yield value
        # For k = 0 the recurrence is P_1 = cos, also in two dimensions, where both of its sides are 0.
        ahead, driven = (2 * k + dimension - 2, k + dimension - 2) if k else (1, 1)
        plain = (ahead * cosine * value - k * before) / driven
        by_difference = value + (k * (value - before) - ahead * gap * value) / driven
        before, value = value, np.where(gap < 0.5, by_difference, plain)


@functools.lru_cache(maxsize=32)
def _moments(dimension: int, degrees: int, terms: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The mean of $T_jP_k$ over the sphere (K + 1, J), and its rounding (K + 1,).

    Both are even or odd under $\theta\to\pi-\theta$, so half of the interval is enough.
    """
    theta, weight = _rule(dimension + degrees + 2 * terms)
    square = np.minimum(np.cos(theta) ** 2, 0.5)
    # Near the equator, where all of the weight lies in many dimensions, the sine has no digits of its logarithm.
    power = (dimension - 2) * np.where(square < 0.5, 0.5 * np.log1p(-square), np.log(np.sin(theta)))
    weight = weight * np.exp(power)
    weight = weight / np.sum(weight)  # a probability, without the gamma functions of its formula
    waves = np.cos(np.arange(terms)[:, None] * np.arccos(2.0 * theta / math.pi - 1.0))
    rows, rounding = [], []
    for k, value in enumerate(legendre(dimension, degrees, theta)):
        same = np.arange(terms) % 2 == k % 2
        rows.append(np.where(same, waves @ (weight * value), 0.0))
        # Ulps of one node: of the sum, of the recurrence, whose steps round at random, and of the weight.
        rounding.append(_EPS * weight @ (np.abs(value) * (8.0 + math.sqrt(k) - power)))
    return np.stack(rows), np.array(rounding)


def _rule(waves: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Nodes and weights for $[0, \pi/2]$, by panels of 32 Gauss nodes with at most 16 nodes' worth of waves each."""
    t, w = unit_rule(32)
    panels = 1 + waves // 32
    ends = 0.5 * math.pi / panels * np.arange(panels)
    return (ends[:, None] + 0.5 * math.pi / panels * t).ravel(), np.tile(0.5 * math.pi / panels * w, panels)


def _decay(c: np.ndarray, error: float, dimension: int) -> int | None:
    r"""The exponent from the first odd derivative, 1st or 3rd, that is not zero at $\theta = 0$ or $\pi$.

    An even power of the angle is smooth in its cosine; $\theta^\nu$ with $\nu$ odd makes $\mu_k \sim k^{-(d+\nu-1)}$.
    """
    j = np.arange(len(c)) ** 2.0
    for order, weights in ((1, j), (3, j * (j - 1.0) * (j - 4.0) / 15.0)):
        found = max(abs(np.sum(c * weights)), abs(np.sum(c * weights * (-1.0) ** np.arange(len(c)))))
        if found > 4.0 * (error + _EPS * np.sum(np.abs(c))) * np.max(np.abs(weights)):
            return dimension + order - 1
    return None


def _check(dimension: int, degrees: int, kernel: str, mean_square: float) -> None:
    for name, value, least, most in (
        ("dimension", dimension, 2, _MOST_DIMENSIONS),
        ("degrees", degrees, 0, _MOST_DEGREES),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            reject(
                f"{name}={value!r}", f"{name} is a whole number from {least} to {most:,}", f"Give for example {name}=10"
            )
    if math.isinf(multiplicity(dimension, degrees)):
        reject(
            f"degrees={degrees} in {dimension} dimensions",
            "The number of harmonics of the highest degree must be below 1e300",
            "Ask for fewer degrees: the eigenvalues of the last ones are far below rounding",
        )
    if kernel not in KERNELS:
        reject(f"kernel={kernel!r}{nearest(str(kernel), KERNELS)}", "The kernels are 'nngp' and 'ntk'", "Choose one")
    if not (math.isfinite(mean_square) and mean_square > 0):
        reject(f"mean_square={mean_square!r}", "A mean square is a finite number above 0", "Give mean_square=1.0")
