r"""The spectral certificate (LAZY-C2): it uses how the residual lies along the eigenvectors of the tangent kernel.

Legend: $K_0 = Q\Lambda Q^\top$, $c = Q^\top r_0$, $\lambda_i = s_i^2$, $\kappa = \sigma_{max}/\sigma$, R a radius,
$b = \beta R/\sigma$. Where the ball certificate pretends that the whole residual lies along the
slowest eigenvector, the linearised flow is integrated instead:
$N = \tfrac1\alpha\sqrt{\sum c_i^2/\lambda_i}$, $A = \tfrac\sigma\alpha\int_0^\infty\|e^{-\Lambda t}c\|dt$,
$P = \tfrac1\alpha\int_0^\infty\|\Lambda^{1/2}e^{-\Lambda t}c\|dt$.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float

from .bounds import AbstractBounds, Numbers
from .certificates import Certificate, in_steps, obstacle, too_small, uncertain
from .lipschitz import MARGIN, Profile, Smoothness
from .problem import LazyProblem, kept


class SpectralBounds(AbstractBounds):
    r"""$\|w-w_0\| \le R$, path $\le p$, $\|w-u\| \le b(a+p)$, $\sigma_{min}(J_t) \ge \sigma(1-b)$, for all times.

    Here b holds the rounding of J twice, as a drift that is there from the start: once for the flow, once for its twin.
    """

    sigma: float
    r0: float
    alpha: float
    b: float
    a: float
    p: float
    radius: float

    def residual(self, t: ArrayLike) -> Numbers:
        r"""$r_0e^{-\alpha^2\sigma^2(1-b)^2t}$."""
        return self.r0 * np.exp(-((self.alpha * self.sigma * (1 - self.b)) ** 2) * np.asarray(t, dtype=float))

    def path(self, t: ArrayLike) -> Numbers:
        r"""$p \ge \int\|J_t^\top r\|$."""
        return np.full(np.shape(t), self.p)

    def distance(self, t: ArrayLike) -> Numbers:
        """The radius, or the path where it is shorter."""
        return np.full(np.shape(t), min(self.radius, self.p))

    def gap(self, t: ArrayLike) -> Numbers:
        r"""$b(a+p)$."""
        return np.full(np.shape(t), self.b * (self.a + self.p))

    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        r"""$\sigma(1-b)$."""
        return np.full(np.shape(t), self.sigma * (1 - self.b))


@dataclass(frozen=True)
class Integrals:
    """The linearised flow in four numbers: N, A, P in the unit of w, and the condition number."""

    N: float
    A: float
    P: float
    kappa: float

    def over(self, alpha: float) -> "Integrals":
        return Integrals(self.N / alpha, self.A / alpha, self.P / alpha, self.kappa)

    def drift(self, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        r"""a and p: bounds on $\alpha\sigma\int\|r\|$ and on the path when $\|J_t-J_0\| \le b\sigma$, or infinite.

        $a = \frac{(1-bc_1)A+bP}{\Delta}$, $p = \frac{(1-bc_1)P+b(c_2+1)A}{\Delta}$, $\Delta = (1-bc_1)^2-b^2(c_2+1)$,
        $c_1 = \sigma\int\sup_sse^{-s^2x}dx$ and $c_2 = \int\sup_ss^2e^{-s^2x}dx$ over $s \in [\sigma, \sigma_{max}]$.
        """
        c1, c2 = constants(self.kappa)
        b = np.asarray(b, dtype=float)
        slack = 1 - b * c1
        delta = slack**2 - b * b * (c2 + 1)
        good = (slack > 0) & (delta > 0)
        below = np.where(good, delta, 1.0)
        a, p = slack * self.A + b * self.P, slack * self.P + b * (c2 + 1) * self.A
        return np.where(good, a / below, np.inf), np.where(good, p / below, np.inf)


def constants(kappa: float) -> tuple[float, float]:
    r"""$c_1 = 2e^{-1/2}-(2e^{-1/2}-1)/\kappa$ and $c_2 = 1+\frac2e\ln\kappa$.

    >>> constants(1.0)
    (1.0, 1.0)
    """
    top = 2 * math.exp(-0.5)
    return top - (top - 1) / kappa, 1 + 2 / math.e * math.log(kappa)


@kept
def certify_spectrum(problem: LazyProblem) -> Certificate:
    r"""The spectral certificate (LAZY-C2): applies when some R has $R > N+b(a+p)$ with $b = \beta(R)R/\sigma$.

    The smallest such R is taken. It certifies less often than the ball certificate for small condition
    numbers and far more often for large ones, and its radius is near the true distance. Derived here.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> print(certify_spectrum(extremal(y=0.05)))
    LAZY-C2: certified, h = 0.1; the parameters move by at most 0.05669
    """
    seen = problem.tangency
    if why := obstacle(seen):
        return Certificate("LAZY-C2", problem, math.inf, math.nan, math.inf, problem.smoothness(0.0), reason=why)
    profile = _steady(problem.smoothness)
    found = smallest_ball(seen.sigma, integrals(problem).over(problem.alpha), profile, seen.rounding)
    smoothness = profile(seen.distance if found is None else found[0])
    h = seen.laziness(smoothness.value)
    if why := uncertain(smoothness, h):
        return Certificate("LAZY-C2", problem, h, math.nan, math.inf, smoothness, reason=why)
    threshold = _least_alpha(problem, found is not None)
    if found is None:
        return Certificate(
            "LAZY-C2", problem, h, math.nan, threshold, smoothness, reason=too_small(problem, h, threshold)
        )
    R, b, a, p = found
    bounds = SpectralBounds(seen.sigma, seen.residual_bound, problem.alpha, b, a, p, R)
    return Certificate("LAZY-C2", problem, h, math.nan, threshold, smoothness, bounds)


def integrals(problem: LazyProblem) -> Integrals:
    """N, A, P without the factor 1/alpha, enlarged by their quadrature error and by rounding."""
    seen = problem.tangency
    c, rates = seen.coefficients, seen.spectrum
    N = float(np.linalg.norm(c / np.sqrt(rates)))
    A, P = (seen.sigma_max * decay(rates / seen.sigma_max**2, c, power) / seen.sigma_max**2 for power in (0, 1))
    A *= seen.sigma / seen.sigma_max
    # What rounding may add to the residual decays at the slowest rate at worst; c_1 < 2.
    wrong = seen.residual_rounding / seen.sigma
    return Integrals(MARGIN * N + wrong, MARGIN * A + wrong, MARGIN * P + 2 * wrong, seen.sigma_top / seen.sigma)


def decay(rates: Float[np.ndarray, " n"], c: Float[np.ndarray, " n"], power: int) -> float:
    r"""An upper bound on $\int_0^\infty\|\Lambda^{power/2}e^{-\Lambda t}c\|dt$, tight to about $10^{-12}$.

    By the trapezoid rule in $\ln t$, which converges exponentially, plus the difference to half as many
    nodes and the piece before the first node.

    >>> round(decay(np.array([4.0]), np.array([1.0]), 1), 10)
    0.5
    """
    start = 1e-20 / rates.max()
    nodes = np.arange(math.log(start), math.log(800.0 / rates.min()), 0.02)
    t = np.exp(nodes)[:, None]
    heights = t[:, 0] * np.linalg.norm(rates ** (power / 2) * np.exp(-rates * t) * c, axis=1)
    fine, coarse = 0.02 * heights.sum(), 0.04 * heights[::2].sum()
    return float(fine + abs(fine - coarse) + 2 * start * np.linalg.norm(rates ** (power / 2) * c))


def smallest_ball(
    sigma: float, flow: Integrals, profile: Profile, rounding: float = 0.0
) -> tuple[float, float, float, float] | None:
    r"""The smallest R with $R > N+b(a+p)$, with its b, a, p; None where there is none. ``rounding`` is that of J."""

    def drift(R: np.ndarray) -> np.ndarray:
        return (np.array([profile(float(one)).value for one in R]) * R + 2 * rounding) / sigma

    def room(R: np.ndarray) -> np.ndarray:
        b = drift(R)
        a, p = flow.drift(b)
        return R - flow.N - b * (a + p)

    if flow.N == 0.0:
        return 0.0, 0.0, 0.0, 0.0
    constant = profile(flow.N).value
    if math.isinf(constant):
        return None
    widest = max(2.0, sigma / (constant * flow.N)) if constant else 2.0
    grid = flow.N * (1 + np.concatenate([[0.0], np.geomspace(1e-13, widest, 300)]))
    good = np.flatnonzero(room(grid) > 0)
    if not len(good):
        return None
    low, high = grid[max(good[0] - 1, 0)], grid[good[0]]
    for _ in range(4):  # 32 parts each: to a millionth of a cell, and always on the safe side
        grid = np.linspace(low, high, 33)
        first = np.flatnonzero(room(grid) > 0)[0]
        low, high = grid[max(first - 1, 0)], grid[first]
    b = float(drift(np.array([high]))[0])
    a, p = flow.drift(b)
    return float(high), b, float(a), float(p)


def _steady(profile: Profile) -> Profile:
    """A constant as it is; any other profile at a few radii only."""
    return profile if isinstance(profile, Smoothness) and math.isinf(profile.radius) else in_steps(profile)


def _least_alpha(problem: LazyProblem, certified: bool) -> float:
    """The smallest alpha with a certificate, by bisection below one that has it; infinite where none is found."""
    profile = _steady(problem.smoothness)

    def fits(alpha: float) -> bool:
        scaled = problem.at(alpha)
        seen = scaled.tangency
        return smallest_ball(seen.sigma, integrals(scaled).over(alpha), profile, seen.rounding) is not None

    high = next((alpha for alpha in ([problem.alpha] if certified else _larger(problem)) if fits(alpha)), None)
    if high is None:
        return math.inf
    low, least = high / 4.0, 1e-30 * high
    while fits(low):
        if low < least:
            return 0.0
        low, high = low / 4.0, low
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _larger(problem: LazyProblem) -> list[float]:
    """Factors that may be certified: ever larger ones, and those at which the output at the start is nearest to y."""
    seen = problem.tangency
    f0, y = seen.U.T @ np.asarray(seen.f0), seen.U.T @ problem.y
    found = [problem.alpha * 4.0**k for k in range(1, 30)]
    for weight in (1.0, 1.0 / seen.spectrum):
        inner, square = float(np.sum(weight * f0 * y)), float(np.sum(weight * y * y))
        if inner > 0:
            found += [square / inner * 2.0 ** (k / 4) for k in range(-12, 13)]
    return found
