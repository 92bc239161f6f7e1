r"""The ball certificate for any law of drift $g(\rho) \ge \sup\{\|J_w-J_0\| : \|w-w_0\| \le \rho\}$.

Legend as in ``problem``. On the way $\frac{d}{d\rho}\|r\| \le -\alpha(\sigma-g(\rho))$, so the flow stays within the
first $\hat\rho$ with $\alpha\int_0^{\hat\rho}(\sigma-g(s))ds \ge r_0$, if $g < \sigma$ up to there.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import ArrayLike

from .bounds import AbstractBounds, Numbers
from .certificates import Certificate, in_steps, obstacle, uncertain
from .lipschitz import MARGIN, Smoothness
from .problem import LazyProblem

_CELLS = 4000


class DriftBounds(AbstractBounds):
    r"""Bounds for all times; that on the gap is $\int_0^{\hat\rho}\big(\frac g{\sigma-g}+\frac g\sigma\big)$."""

    sigma: float
    r0: float
    alpha: float
    radius: float
    drift: float
    departure: float

    def residual(self, t: ArrayLike) -> Numbers:
        r"""$r_0e^{-\alpha^2(\sigma-g(\hat\rho))^2t}$."""
        return self.r0 * np.exp(-((self.alpha * (self.sigma - self.drift)) ** 2) * np.asarray(t, dtype=float))

    def path(self, t: ArrayLike) -> Numbers:
        return np.full(np.shape(t), self.radius)

    def distance(self, t: ArrayLike) -> Numbers:
        return self.path(t)

    def gap(self, t: ArrayLike) -> Numbers:
        return np.full(np.shape(t), self.departure)

    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        return np.full(np.shape(t), self.sigma - self.drift)


def certify_drift(problem: LazyProblem, drift: Callable[[float], float] | None = None) -> Certificate:
    r"""The ball certificate (LAZY-C1) for a law of drift g, by default $g(\rho) = \beta(\rho)\rho$ of the problem.

    Where the constant grows with the radius it certifies more than ``certify``, which takes one constant
    for the whole ball. ``drift`` must be a certified bound and must not fall. Integrals are taken as upper
    sums over 4,000 cells. Derived here.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> bounds = certify_drift(extremal(beta=0.3, y=1.0)).demand()
    >>> round(float(bounds.path(np.inf)), 3), round(float(bounds.gap(np.inf)), 3)
    (1.225, 0.527)
    """
    seen, profile = problem.tangency, problem.smoothness
    if why := obstacle(seen):
        return Certificate("LAZY-C1", problem, math.inf, 1.0, math.inf, profile(0.0), reason=why)
    least = seen.residual_bound / (problem.alpha * seen.sigma)
    smoothness = (
        profile(least) if drift is None else Smoothness(drift(least) / max(least, 1e-300), True, method="law of drift")
    )
    h = seen.laziness(smoothness.value)
    if why := uncertain(smoothness, h):
        return Certificate("LAZY-C1", problem, h, 1.0, math.inf, smoothness, reason=why)
    constant = profile if isinstance(profile, Smoothness) else in_steps(profile)
    bounds = _grow(problem, drift or (lambda radius: constant(radius).value * radius))
    reason = (
        "" if bounds else f"the Jacobian may drift by {seen.sigma:.4g} before the residual {seen.residual:.4g} is gone"
    )
    return Certificate("LAZY-C1", problem, h, 1.0, math.nan, smoothness, bounds, reason)


def _grow(problem: LazyProblem, g: Callable[[float], float]) -> DriftBounds | None:
    """Walk outwards in small cells, with g at the far end of each, until the residual is surely gone."""
    seen, alpha = problem.tangency, problem.alpha
    # The margin covers the rounding of some thousand subtractions.
    sigma, left = seen.sigma, MARGIN * seen.residual_bound / alpha
    cell, radius, departure, drift = left / sigma / _CELLS, 0.0, 0.0, 0.0
    while left > 0:
        drift = g(radius + cell)
        if not drift < sigma or radius > 1e6 * cell:
            return None
        step = min(cell, left / (sigma - drift))
        departure += step * (drift / (sigma - drift) + drift / sigma)
        left -= step * (sigma - drift)
        radius += step
        if step < cell:
            break
    return DriftBounds(sigma, seen.residual_bound, alpha, radius, drift, departure)
