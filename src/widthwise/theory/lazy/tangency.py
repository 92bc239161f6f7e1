r"""The Jacobian at the start of training, taken apart: everything that decides about laziness but its drift.

Legend: $J = Df(w_0)$ (n, p) with singular values between $\sigma_{min}$ and $\sigma_{max}$, $K_0 = JJ^\top$,
$r_0 = \alpha f(w_0) - y$. All arrays that come out are NumPy's, in float64.
"""

import functools
import math
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .linearised import Tangent


@dataclass(frozen=True, eq=False)
class Tangency:
    r"""The Jacobian at the start: its ``tangent`` model and the numbers that decide about laziness."""

    tangent: Tangent

    @property
    def alpha(self) -> float:
        return self.tangent.alpha

    @functools.cached_property
    def U(self) -> Float[np.ndarray, "n k"]:
        """Left singular vectors, the eigenvectors of the tangent kernel."""
        return np.asarray(self.tangent.U)

    @functools.cached_property
    def singular_values(self) -> Float[np.ndarray, " k"]:
        """The singular values of J, largest first, exactly zero where they are rounding."""
        return np.asarray(self.tangent.singular_values)

    @functools.cached_property
    def f0(self) -> Float[np.ndarray, " n"]:
        r"""$f(w_0)$."""
        return np.asarray(self.tangent.f0)

    @property
    def rank(self) -> int:
        """The numerical rank of J."""
        return int(np.count_nonzero(self.singular_values))

    @property
    def sigma_min(self) -> float:
        r"""The smallest of the n singular values of J, zero without full row rank."""
        return float(self.singular_values[-1]) if self.rank == self.f0.size else 0.0

    @property
    def sigma_max(self) -> float:
        """The largest singular value of J."""
        return float(self.singular_values[0])

    @property
    def rounding(self) -> float:
        r"""$10n\epsilon\sigma_{max}$: as far as J may be from the matrix with exactly the singular values found."""
        return self._units * self.sigma_max

    @property
    def _units(self) -> float:
        return 10 * self.f0.size * float(np.finfo(float).eps)

    @functools.cached_property
    def sigma(self) -> float:
        r"""What is left of $\sigma_{min}$ after rounding; at least 0."""
        return max(0.0, self.sigma_min - self.rounding)

    @property
    def sigma_top(self) -> float:
        r"""$\sigma_{max}$ and its rounding."""
        return self.sigma_max + self.rounding

    @property
    def kappa(self) -> float:
        r"""$\sigma_{max}/\sigma_{min}$."""
        return self.sigma_max / self.sigma_min if self.sigma_min else math.inf

    @property
    def spectrum(self) -> Float[np.ndarray, " k"]:
        r"""The eigenvalues of $K_0 = JJ^\top$, largest first."""
        return self.singular_values**2

    @functools.cached_property
    def coefficients(self) -> Float[np.ndarray, " k"]:
        r"""$c = Q^\top r_0$, the initial residual along the eigenvectors of $K_0$."""
        return self.U.T @ self.r0

    @functools.cached_property
    def r0(self) -> Float[np.ndarray, " n"]:
        r"""$\alpha f(w_0) - y$."""
        return self.alpha * self.f0 - np.asarray(self.tangent.y)

    @property
    def residual(self) -> float:
        r"""$\|r_0\|$."""
        return float(np.linalg.norm(self.r0))

    @property
    def residual_rounding(self) -> float:
        r"""$10n\epsilon(\alpha\|f(w_0)\|+\|y\|)$."""
        return self._units * (self.alpha * float(np.linalg.norm(self.f0)) + float(np.linalg.norm(self.tangent.y)))

    @property
    def residual_bound(self) -> float:
        r"""$\|r_0\|$ and its rounding, which is all of it where outputs and targets cancel."""
        return self.residual + self.residual_rounding

    @functools.cached_property
    def distance(self) -> float:
        r"""How far the tangent model goes, $\sqrt{r_0^\top K_0^{-1}r_0}/\alpha$; infinite without full row rank."""
        if not self.sigma_min:
            return math.inf if self.residual else 0.0
        return float(np.linalg.norm(self.coefficients / self.singular_values)) / self.alpha

    @property
    def distance_range(self) -> tuple[float, float]:
        r"""Bounds on that distance: $\|J^\dagger r\|$ of a matrix E away is $1+\|E\|/\sigma$ times as large at most."""
        if not self.sigma:
            return 0.0, self.distance if self.distance == 0.0 else math.inf
        wrong, factor = self.residual_rounding / (self.alpha * self.sigma), 1 + self.rounding / self.sigma
        return max(self.distance - wrong, 0.0) / factor, (self.distance + wrong) * factor

    @property
    def J0(self) -> Float[np.ndarray, "n p"]:
        """The Jacobian at the start, put together again."""
        return (self.U * self.singular_values) @ np.asarray(self.tangent.Vt)

    def twin(self, times: Float[np.ndarray, " k"]) -> tuple[Float[np.ndarray, "k p"], Float[np.ndarray, "k n"]]:
        r"""The linearised flow at times t: $u(t)-w_0$ and its residuals, in closed form."""
        with jax.enable_x64(True):
            # alpha f is a model with alpha = 1, and one compilation serves every alpha.
            values, f0 = jnp.asarray(self.alpha * self.singular_values), jnp.asarray(self.alpha * self.f0)
            absorbed = replace(self.tangent, singular_values=values, f0=f0, alpha=1.0)
            displacements, residuals = _twin(absorbed, jnp.asarray(times))
        return np.asarray(displacements), np.asarray(residuals)

    def laziness(self, beta: float) -> float:
        r"""$h = 2\beta\|r_0\|/(\alpha\sigma^2)$; zero where nothing is left to learn."""
        if self.residual_bound == 0.0:
            return 0.0
        return float(2 * beta * self.residual_bound / (self.alpha * self.sigma**2)) if self.sigma else math.inf

    @property
    def dependent_rows(self) -> tuple[int, ...]:
        """The rows of J that take part in a linear dependence: training outputs that no parameters move apart."""
        if self.rank == self.f0.size:
            return ()
        outside = 1.0 - np.sum(self.U[:, : self.rank] ** 2, axis=1)
        return tuple(int(row) for row in np.flatnonzero(outside > 1e-6))


@eqx.filter_jit
def _twin(model: Tangent, times):
    return model.displacement(times), model.residual(times)
