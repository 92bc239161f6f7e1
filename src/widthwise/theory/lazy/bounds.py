r"""What the lazy-training theorems say about a gradient flow, as functions of time.

Legend: $\sigma \le \sigma_{max}$ extreme singular values of the Jacobian at the start, $\beta$ its Lipschitz
constant, $r_0$ the norm of the initial residual, $\alpha$ the factor on the output, $h = 2\beta r_0/(\alpha\sigma^2)$,
$w(t)$ the parameters and $u(t)$ those of the linearised model.
"""

import abc
import math

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

# One number for one time, an array for an array of times.
Numbers = np.ndarray | np.floating


class AbstractBounds(eqx.Module):
    """What a certificate says at time t >= 0 of the flow (a number, an array, or infinity)."""

    @abc.abstractmethod
    def residual(self, t: ArrayLike) -> Numbers:
        r"""An upper bound on $\|\alpha f(w(t))-y\|$."""

    @abc.abstractmethod
    def path(self, t: ArrayLike) -> Numbers:
        r"""An upper bound on the length of the path up to t."""

    @abc.abstractmethod
    def distance(self, t: ArrayLike) -> Numbers:
        r"""An upper bound on $\|w(t)-w_0\|$."""

    @abc.abstractmethod
    def gap(self, t: ArrayLike) -> Numbers:
        r"""An upper bound on $\|w(t)-u(t)\|$; infinite where the theorem has none."""

    @abc.abstractmethod
    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        r"""A lower bound on $\sigma_{min}(J_t)$."""


class BallBounds(AbstractBounds):
    r"""The bounds of the sharp ball certificate (LAZY-C1), all from $\sigma, \beta, r_0, \alpha$.

    The residual, the path to go and $\rho_*$ are equalities for $f(w) = \sigma w - \frac\beta2w^2$.

    >>> bounds = BallBounds(sigma=1.0, beta=0.3, r0=1.0, alpha=1.0)
    >>> [round(float(x), 10) for x in (bounds.path(np.inf), bounds.gap(np.inf), bounds.final_gap, bounds.residual(1.0))]
    [1.2251482266, 0.5271512198, 0.376692888, 0.4485186394]
    """

    sigma: float
    beta: float
    r0: float
    alpha: float
    sigma_max: float = math.inf
    distance_of_twin: float = 0.0

    @property
    def h(self) -> float:
        return 2 * self.beta * self.r0 / (self.alpha * self.sigma**2) if self.r0 else 0.0

    def residual(self, t: ArrayLike) -> Numbers:
        r"""$\frac{r_0(1-h)}{e^{(1-h)\tau}-h}$ with $\tau = \alpha^2\sigma^2t$; $\frac{r_0}{1+\tau}$ at h = 1."""
        return self.r0 / (1.0 + self._growth(t))

    def path(self, t: ArrayLike) -> Numbers:
        r"""$\rho(t) = \frac\sigma\beta\big(1-\sqrt{1-h(1-e^{-\lambda t})}\big)$, $\rho_*$ at the end.

        From $\sigma\rho-\frac\beta2\rho^2 \le \frac1\alpha(r_0-\|r(t)\|)$, with the *lower* bound of
        ``fastest_decay`` on the residual.
        """
        return self._radius(-np.expm1(-self.fastest_decay * np.asarray(t, dtype=float)))

    def path_to_go(self, t: ArrayLike) -> Numbers:
        r"""An upper bound on the length of the path after t, $\frac1\beta\big(\sqrt{s^2+2\beta x(t)/\alpha}-s\big)$.

        $s = \sigma\sqrt{1-h}$, and $x(t)$ is the bound on the residual.
        """
        rest, least = self.residual(t) / self.alpha, self.sigma * math.sqrt(max(1 - self.h, 0.0))
        return 2 * rest / np.maximum(least + np.sqrt(least**2 + 2 * self.beta * rest), 1e-300)

    def distance(self, t: ArrayLike) -> Numbers:
        return self.path(t)

    def gap(self, t: ArrayLike) -> Numbers:
        r"""$D(t) = \frac\sigma\beta\big[-q-\ln(1-q)+\frac{q^2}2\big]$ at $q = \beta\rho(t)/\sigma$."""
        rho = self.path(t)
        q = self.beta * rho / self.sigma
        return self.beta / self.sigma * rho**2 * (_log_part(q) + 0.5)

    @property
    def final_gap(self) -> float:
        r"""$\|w_\infty-u_\infty\| \le \frac\sigma\beta\sqrt{(-q-\ln(1-q))^2+q^4/4}$: its two parts are orthogonal."""
        rho = self.path(math.inf)
        return float(self.beta / self.sigma * rho**2 * np.hypot(_log_part(self.beta * rho / self.sigma), 0.5))

    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        r"""$\sigma-\beta\rho(t)$; its square is at least $\sigma^2(1-h)$."""
        return np.maximum(self.sigma - self.beta * self.path(t), 0.0)

    @property
    def least_final_distance(self) -> float:
        r"""$\|w_\infty-w_0\| \ge \frac\sigma\beta\big(\sqrt{1+2\beta N/\sigma}-1\big)$, N the distance of the twin."""
        N = self.distance_of_twin
        return 2 * N / (1 + math.sqrt(1 + 2 * self.beta * N / self.sigma))

    @property
    def fastest_decay(self) -> float:
        r"""$\|r(t)\| \ge r_0e^{-\lambda t}$ with $\lambda = \alpha^2(\sigma_{max}+\beta\rho_*)^2$."""
        return float(self.alpha * (self.sigma_max + self.beta * self._radius(1.0))) ** 2

    def _radius(self, gone: ArrayLike) -> Numbers:
        """The ball that holds the path when this part of the residual is gone, without cancellation for small h."""
        gone = np.asarray(gone, dtype=float)
        return self.r0 / (self.alpha * self.sigma) * gone * 2 / (1 + np.sqrt(np.maximum(1 - self.h * gone, 0.0)))

    def _growth(self, t: ArrayLike) -> Numbers:
        tau = (self.alpha * self.sigma) ** 2 * np.asarray(t, dtype=float)
        slow = max(1 - self.h, 0.0)
        with np.errstate(over="ignore"):
            return np.expm1(slow * tau) / slow if slow else tau


def _log_part(q: Numbers) -> Numbers:
    r"""$(-q-\ln(1-q))/q^2 = \frac12+\frac q3+\frac{q^2}4+\dots$, by the series where the terms would cancel."""
    q = np.minimum(np.asarray(q, dtype=float), 1.0)
    small = q < 0.05
    x = np.where(small, q, 0.0)
    series = sum(x**k / (k + 2) for k in range(12))
    y = np.where(small, 0.5, q)
    with np.errstate(divide="ignore"):
        return np.where(small, series, (-y - np.log1p(-y)) / y**2)


class TheoremBounds(AbstractBounds):
    r"""The bounds of the lazy-training theorem with $\sigma_{min}^3$ (LAZY-22); chizat2019lazy, telgarsky2021deep.

    >>> TheoremBounds(sigma=1.0, sigma_max=2.0, r0=1.0, alpha=20.0).path(1.0).item()
    0.6
    """

    sigma: float
    sigma_max: float
    r0: float
    alpha: float

    def residual(self, t: ArrayLike) -> Numbers:
        r"""$r_0e^{-\alpha^2\sigma^2t/4}$: the risk falls like $e^{-\alpha^2\sigma^2t/2}$."""
        return self.r0 * np.exp(-((self.alpha * self.sigma) ** 2) * np.asarray(t, dtype=float) / 4)

    def path(self, t: ArrayLike) -> Numbers:
        r"""$\frac{\sqrt{72\sigma_{max}^2\hat R_0}}{\alpha\sigma^2} = \frac{6\sigma_{max}r_0}{\alpha\sigma^2}$."""
        return np.full(np.shape(t), 6 * self.sigma_max * self.r0 / (self.alpha * self.sigma**2))

    def distance(self, t: ArrayLike) -> Numbers:
        """The bound on the path."""
        return self.path(t)

    def gap(self, t: ArrayLike) -> Numbers:
        """No bound of its own: the sum of the two distances."""
        return 2 * self.path(t)

    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        r"""$\sigma/2$."""
        return np.full(np.shape(t), self.sigma / 2)
