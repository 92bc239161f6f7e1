r"""Kernel ridge regression in closed form, with the error that leaving one out would show.

Legend: K a kernel matrix on the n training inputs with eigenpairs $(\lambda_i, u_i)$, T targets
(n, k), ridge $\rho \ge 0$: $f(x) = k(x, X)(K + \rho I)^{-1}T$ minimises $\tfrac12\|T - f(X)\|^2 +
\tfrac\rho2\|f\|_K^2$. It is also the posterior mean of a Gaussian process with noise variance $\rho$.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from widthwise.numerics import Spectrum, reject

# The ridges that are tried, in units of the mean eigenvalue of the kernel matrix.
RIDGES = tuple(np.geomspace(1e-10, 1e2, 25).tolist())


@dataclass(frozen=True, eq=False)
class KernelRidge:
    r"""A fitted kernel ridge regression: its ridge, coefficients $(K+\rho I)^{-1}T$ (n, k), leave-one-out error.

    ``left_out``: the mean over rows of $\|t_i - f^{(-i)}(x_i)\|^2$, each row predicted from the others.
    ``fit``: the outputs on the training inputs (n, k).
    """

    ridge: float
    coefficients: Float[np.ndarray, "n k"]
    left_out: float
    fit: Float[np.ndarray, "n k"]

    def __call__(self, cross: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        """Predict from the kernel between new inputs (rows) and training inputs (columns)."""
        return cross @ self.coefficients


def kernel_ridge(K: Spectrum, T: Float[np.ndarray, "..."], ridge: float) -> KernelRidge:
    r"""Fit with a given ridge; 0 gives the interpolant of least norm, also for a singular kernel.

    Leaving one out costs no further fit: $t_i - f^{(-i)}(x_i) = \frac{t_i - f_i}{1 - A_{ii}}$ with
    $A = K(K+\rho I)^{-1}$; numerator and denominator are formed without subtraction. Rows with $A_{ii} = 1$
    (no ridge, and a kernel that is not singular) are taken in the limit $\rho \to 0$.
    Raises ``ValueError`` for a negative ridge and for targets that do not fit.

    >>> from widthwise.numerics import spectrum
    >>> fitted = kernel_ridge(spectrum(np.eye(2) + 1.0), np.array([[1.0], [3.0]]), ridge=1.0)
    >>> fitted.coefficients.ravel().round(12).tolist(), round(fitted.left_out, 6)
    ([0.0, 1.0], 3.555556)
    """
    if not ridge >= 0:
        reject(f"ridge={ridge}", "A ridge is at least 0", "Give a small one, such as 1e-6 times the mean eigenvalue")
    if T.ndim != 2 or len(T) != len(K.values):
        reject(
            f"targets of shape {T.shape} for {len(K.values)} inputs",
            "Targets are (n, k)",
            "Give y[:, None] for one output",
        )
    values = np.where(K.values > K.floor, K.values, 0.0)
    seen = values > 0
    # The part of a component that is left after the fit, ridge/(lambda + ridge): only its ratios matter as ridge -> 0.
    scale = ridge if ridge > 0 else float(values[seen].min()) * np.finfo(float).eps if seen.any() else 1.0
    left = np.where(seen, scale / np.where(seen, values + scale, 1.0), 1.0)
    inverse = np.where(seen, 1.0 / np.where(seen, values + ridge, 1.0), 1.0 / ridge if ridge > 0 else 0.0)
    parts = K.vectors.T @ T
    residual = K.vectors @ (left[:, None] * parts)
    leverage = np.maximum((K.vectors**2) @ left, np.finfo(float).tiny)
    left_out = float(np.mean(np.sum((residual / leverage[:, None]) ** 2, axis=1)))
    fit = K.vectors @ ((values * inverse)[:, None] * parts)
    return KernelRidge(float(ridge), K.vectors @ (inverse[:, None] * parts), left_out, fit)


def best_kernel_ridge(K: Spectrum, T: Float[np.ndarray, "n k"], ridges: Float[np.ndarray, " r"] | None = None):
    r"""Fit with the ridge of least leave-one-out error on the training set, by default of ``RIDGES``.

    The ridges are in units of the mean eigenvalue $\mathrm{tr}K/n$.

    >>> from widthwise.numerics import spectrum
    >>> x = np.linspace(-1.0, 1.0, 9)[:, None]
    >>> noisy = x + 0.3 * (-1.0) ** np.arange(9)[:, None]
    >>> best = best_kernel_ridge(spectrum(1 + x @ x.T), noisy)
    >>> bool(best.left_out <= kernel_ridge(spectrum(1 + x @ x.T), noisy, 0.0).left_out)
    True
    """
    ridges = np.asarray(RIDGES) if ridges is None else ridges
    unit = float(np.mean(K.values))
    return min((kernel_ridge(K, T, float(ridge * unit)) for ridge in ridges), key=lambda fitted: fitted.left_out)
