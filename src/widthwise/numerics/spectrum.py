r"""The spectrum of a kernel matrix, with what rounding leaves undecided.

Legend: $K$ a symmetric positive semidefinite matrix (n, n), $\lambda_1 \ge \dots \ge \lambda_n$ its
eigenvalues, $u_i$ its orthonormal eigenvectors.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import ArrayLike, Float

from .errors import reject

_ULP = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""Eigenvalues (n,) from the largest to the smallest, eigenvectors as the columns of (n, n).

    ``floor``: an eigenvalue below it cannot be told from zero, because the entries of the matrix
    are only known to their error.
    """

    values: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n n"]
    floor: float

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.values[0])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue, 0 where it cannot be told from zero."""
        return float(self.values[-1]) if self.values[-1] > self.floor else 0.0

    @property
    def rank(self) -> int:
        """How many eigenvalues are certainly above zero."""
        return int(np.sum(self.values > self.floor))

    @property
    def condition_number(self) -> float:
        r"""$\lambda_1/\lambda_n$, infinite for a singular matrix."""
        return self.largest / self.smallest if self.smallest else np.inf

    @property
    def effective_rank(self) -> float:
        r"""The participation ratio $(\sum_i\lambda_i)^2/\sum_i\lambda_i^2$, between 1 and n."""
        return float(np.sum(self.values) ** 2 / np.sum(self.values**2)) if self.largest > 0 else 0.0

    def apply(self, function, vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        r"""Return $f(K)V = \sum_i f(\lambda_i)u_iu_i^\top V$ for a function of the eigenvalues."""
        return self.vectors @ (function(self.values)[:, None] * (self.vectors.T @ vectors))


def spectrum(K: ArrayLike, error: float = 0.0) -> Spectrum:
    r"""Decompose a symmetric positive semidefinite matrix.

    ``error`` bounds the error of every entry relative to the largest diagonal entry $k$, as
    ``Kernels.error`` does; the floor is $n(\text{error}\cdot k + 2^{-52}\lambda_1)$, by Weyl's
    inequality and the backward error of the eigensolver. Raises ``ValueError`` for a matrix that is
    not square, not finite or not symmetric.

    >>> spectrum(np.array([[2.0, 0.0], [0.0, 1.0]])).condition_number
    2.0
    >>> spectrum(np.ones((2, 2))).rank
    1
    """
    K = np.asarray(K, dtype=np.float64)
    _demand_symmetric(K)
    values, vectors = scipy.linalg.eigh(K, driver="evd", check_finite=False)
    floor = len(K) * (error * float(np.max(np.diag(K))) + _ULP * max(float(values[-1]), 0.0))
    return Spectrum(values[::-1], vectors[:, ::-1], floor)


def _demand_symmetric(K: np.ndarray) -> None:
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        reject(f"a matrix of shape {K.shape}", "A kernel matrix has shape (n, n), n at least 1", "Pass kernel(...).ntk")
    if not np.all(np.isfinite(K)):
        reject("a matrix with entries that are not finite", "A kernel matrix is finite", "Check the inputs")
    uneven = float(np.max(np.abs(K - K.T)))
    if uneven > 1e-8 * float(np.max(np.abs(K))):
        reject(
            f"a matrix that differs from its transpose by {uneven:.2g}",
            "A kernel matrix of inputs with themselves is symmetric",
            "Pass (K + K.T) / 2 when that is rounding",
        )
