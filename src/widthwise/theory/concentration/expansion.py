r"""The limit kernels of a shallow network as series in powers of the cosines.

Legend: $h_k = He_k/\sqrt{k!}$ the orthonormal Hermite polynomials of the weight $e^{-z^2/2}/\sqrt{2\pi}$,
$\sigma_k(t) = E\,\sigma(tz)h_k(z)$ over $z \sim N(0, 1)$ and $\sigma_k = \sigma_k(1)$, R (n, n) the cosines between the
inputs, $R^{\circ k}$ their powers entry by entry, $K = \sum_kD_kR^{\circ k}D_k$ with diagonal $D_k$, every term
positive semidefinite.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.numerics import Estimate, demand_count, reject

from ..criticality.moments import panels, values_and_slopes
from .kernels import check_kernel, check_rows

_ULP = 2.0**-52
_NODES = 18  # of every half standard deviation
_SAME = 14  # digits to which two norms are the same


def hermite_coefficients(activation: Activation, degree: int, scale: ArrayLike = 1.0, *, slope=False) -> Estimate:
    r"""$\sigma_k(t) = E\,\sigma(tz)h_k(z)$ for $k \le$ ``degree``, of shape (\*scale.shape, degree + 1).

    ``slope=True`` expands $\sigma'$ instead, where it exists: jumps of $\sigma$ are not seen. Gauss-Legendre quadrature
    between the kinks; the error is the difference to two thirds of its nodes. Raises ``ValueError`` for a negative
    degree and a scale that is negative or not finite, and where an integral overflows. Source: daniely2016toward.

    >>> from widthwise.activations import activation
    >>> found = hermite_coefficients(activation("relu"), 4)
    >>> np.round(found.value**2, 8).tolist()
    [0.15915494, 0.25, 0.07957747, 0.0, 0.00663146]
    """
    demand_count("degree", degree)
    t = np.asarray(scale, dtype=float)
    if not np.all(np.isfinite(t) & (t >= 0)):
        reject(f"scale={scale!r}", "A scale is a finite number of at least 0", "Give the norm of an input")
    count = _NODES + math.ceil(0.5 * math.sqrt(degree))
    fine, size = _integrals(activation, degree, t.ravel(), count, slope)
    coarse, _ = _integrals(activation, degree, t.ravel(), 2 * count // 3, slope)
    if not np.all(np.isfinite(fine) & np.isfinite(size)):
        reject(
            f"activation {activation.name!r} at the scale {np.max(t):g}, whose Hermite coefficients overflow",
            "They are finite for activations that grow slower than a Gaussian falls",
            "Make the inputs smaller",
        )
    error, shape = np.abs(fine - coarse) + 64 * _ULP * size, (*t.shape, degree + 1)
    return Estimate(fine.reshape(shape), error.reshape(shape))


def _integrals(activation: Activation, degree: int, t: np.ndarray, count: int, slope: bool):
    """The coefficients (s, degree + 1), and the root mean squares (s, 1) that bound them."""
    z, weight = panels(activation.kinks, np.where(t == 0, 1.0, t), count)
    before, now, found = np.zeros_like(z), np.ones_like(z), []
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        value = values_and_slopes(activation, t[:, None] * z)[int(slope)]
        weighted, size = weight * value, np.sqrt(np.sum(weight * value**2, axis=1))
        for k in range(degree + 1):
            found.append(np.sum(weighted * now, axis=1))
            before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1.0)
    return np.stack(found, axis=1), size[:, None]


@dataclass(frozen=True, eq=False)
class Expansion:
    r"""$K = \sum_kD_kR^{\circ k}D_k$ up to a degree, and what is left beyond it.

    ``coefficients`` (n, degree + 1): the diagonals of the $D_k$ as columns; ``cosines`` R (n, n); ``rest`` (n,): the
    diagonal of what is left, $K_{ii} - \sum_kD_{k,ii}^2$, at least; ``error``: a bound on the norm of what
    rounding and quadrature change of K.
    """

    coefficients: Float[np.ndarray, "n k"]
    cosines: Float[np.ndarray, "n n"]
    rest: Float[np.ndarray, " n"]
    error: float

    @property
    def degree(self) -> int:
        """The highest power of the cosines."""
        return self.coefficients.shape[1] - 1

    def terms(self) -> Iterator[Float[np.ndarray, "n n"]]:
        r"""$D_kR^{\circ k}D_k$ for k = 0, 1, ..."""
        power = np.ones_like(self.cosines)
        for D in self.coefficients.T:
            yield D[:, None] * power * D
            power = power * self.cosines

    def _whole(self) -> Float[np.ndarray, "n n"]:
        return functools.reduce(np.add, self.terms())

    @property
    def gram(self) -> Estimate:
        """The kernel (n, n); its error holds the entries that are left out, which the diagonal does not lack."""
        rest = np.sqrt(np.maximum(self.rest, 0.0))
        away = np.abs(self.cosines - np.eye(len(rest))) ** (self.degree + 1)
        left = float(np.max(np.outer(rest, rest) * away, initial=0.0))
        return Estimate(self._whole() + np.diag(rest**2), left + self.error)

    def gershgorin(self, tail: bool = True) -> float:
        r"""Bound $\lambda_{min}(K) \ge \sum_k\min_i(D_{k,ii}^2 - \sum_{j\ne i}|D_kR^{\circ k}D_k|_{ij})_+$.

        With ``tail`` the degrees that are left out count as well: their common off-diagonal part is at most that of
        the next degree. A rounding margin is subtracted; the bound is at least 0.
        """
        return self._bound([_disc(term) for term in self.terms()], tail)

    def termwise(self, tail: bool = True) -> float:
        r"""Bound $\lambda_{min}(K) \ge \sum_k\lambda_{min}(D_kR^{\circ k}D_k)$, by Weyl's inequality; else as above."""
        return self._bound([_least(term, self.error) for term in self.terms()], tail)

    def truncated(self, tail: bool = True) -> float:
        r"""Bound $\lambda_{min}(K) \ge \lambda_{min}(\sum_kD_kR^{\circ k}D_k)$: what is left out is positive."""
        whole = self._whole()
        # The eigenvalues are right to some ulps of the largest.
        rounding = 4 * len(whole) * _ULP * float(np.linalg.norm(whole))
        return self._bound([float(np.linalg.eigvalsh(whole)[0]) - rounding], tail)

    def _bound(self, least: list[float], tail: bool) -> float:
        rest = np.sqrt(np.maximum(self.rest, 0.0))
        beyond = _disc(np.outer(rest, rest) * np.abs(self.cosines) ** (self.degree + 1)) if tail else 0.0
        return max(sum(max(one, 0.0) for one in least) + max(beyond, 0.0) - self.error, 0.0)


def _least(matrix: np.ndarray, error: float) -> float:
    """The least eigenvalue of a term; by its disc where that is hardly less, and 0 where it is below the error."""
    disc, smallest = _disc(matrix), float(np.min(np.diag(matrix)))
    if smallest <= error or disc >= (1 - 1e-9) * smallest:
        return max(disc, 0.0)
    return float(np.linalg.eigvalsh(matrix)[0])


def _disc(matrix: np.ndarray) -> float:
    """The least left end of a Gershgorin disc."""
    diagonal = np.diag(matrix)
    return float(np.min(diagonal + np.abs(diagonal) - np.sum(np.abs(matrix), axis=1)))


def expand(X: ArrayLike, activation: Activation, kernel: str = "readout", degree: int = 128) -> Expansion:
    r"""Expand a limit kernel over $w \sim N(0, I)$ in powers of the cosines between the inputs X (n, d).

    ``"readout"``: $E\,\sigma(w\cdot x)\sigma(w\cdot x') = \sum_k\sigma_k(\|x\|)\sigma_k(\|x'\|)\cos^k$;
    ``"hidden"``: $x\cdot x'\,E\,\sigma'(w\cdot x)\sigma'(w\cdot x')$, the same with
    $\|x\|\sigma'_{k-1}(\|x\|)$, which is $\sqrt k\,\sigma_k$ for unit inputs. Raises ``ValueError`` for inputs that are
    not (n, d) and finite, another kernel and a degree below 1. Source: daniely2016toward.

    >>> from widthwise.activations import activation
    >>> found = expand([[1.0, 0.0], [0.6, 0.8]], activation("tanh"))
    >>> round(float(found.gram.value[0, 1]), 10)
    0.2252221535
    """
    X = check_rows(X)
    check_kernel(kernel)
    if kernel == "both":
        reject("kernel='both'", "The series is that of one layer", "Expand 'readout' and 'hidden' one by one")
    demand_count("degree", degree, least=1)
    norms = np.linalg.norm(X, axis=1)
    units = X / np.where(norms == 0, 1.0, norms)[:, None]
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    hidden = kernel == "hidden"
    found, power = _of_norms(activation, norms, degree - int(hidden), hidden)
    D = found.value
    if hidden:
        D = norms[:, None] * np.concatenate([np.zeros((len(X), 1)), D], axis=1)
        power = norms**2 * power
    rest = power - np.sum(D**2, axis=1)
    # Entries are off by this much of the largest; the norm by n times it.
    doubt = 2.0 * np.max(np.abs(found.error), initial=0.0) * np.max(norms if hidden else 1.0)
    largest = float(np.max(power, initial=0.0))
    entry = (2.0**-44 + 16 * _ULP * degree) * largest + doubt * math.sqrt(degree * largest)
    return Expansion(D, cosines, rest - entry, len(X) * float(entry))


def _of_norms(activation: Activation, norms: np.ndarray, degree: int, slope: bool) -> tuple[Estimate, np.ndarray]:
    """Coefficients of every input (n, degree + 1) and mean squares (n,), computed once for norms that are the same."""
    digits = np.array([float(f"{norm:.{_SAME - 1}e}") for norm in norms])
    distinct, place = np.unique(digits, return_inverse=True)
    found = hermite_coefficients(activation, degree, distinct, slope=slope)
    z, weight = panels(activation.kinks, np.where(distinct == 0, 1.0, distinct), _NODES)
    power = np.sum(weight * values_and_slopes(activation, distinct[:, None] * z)[int(slope)] ** 2, axis=1)
    return Estimate(found.value[place], found.error[place]), power[place]
