r"""Certificates of lazy training: what is sure about a gradient flow before it is run.

Legend as in ``problem``. A certificate needs a *certified* Lipschitz constant of the Jacobian; with an
estimate it says so and certifies nothing.
"""

import functools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import ArrayLike, Float

from widthwise.numerics import reject

from .bounds import AbstractBounds, BallBounds, TheoremBounds
from .lipschitz import MARGIN, Profile, Smoothness
from .problem import LazyProblem, kept
from .tangency import Tangency

Bounds = TypeVar("Bounds")


def demanded(bounds: Bounds | None, certificate: object) -> Bounds:
    """The bounds of a certificate; raises ``ValueError`` with its reason where there are none."""
    if bounds is None:
        reject(str(certificate), "Bounds come with a certificate", "See what the reason asks for, or use estimates")
    return bounds


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""What a theorem certifies about a problem, or why it does not.

    ``h`` is $2\beta r_0/(\alpha\sigma^2)$ on the ball that the theorem needs, ``limit`` the largest h that it
    allows (nan where it is no single number), ``threshold`` the smallest alpha that it allows (infinite
    where there is none), ``smoothness`` the constant used, ``bounds`` what holds for all times, or None.
    """

    claim_id: str
    problem: LazyProblem
    h: float
    limit: float
    threshold: float
    smoothness: Smoothness
    bounds: AbstractBounds | None = None
    reason: str = ""

    @property
    def certified(self) -> bool:
        return self.bounds is not None

    def demand(self) -> AbstractBounds:
        """The bounds; raises ``ValueError`` with the reason where there are none."""
        return demanded(self.bounds, self)

    def __str__(self) -> str:
        if self.bounds is None:
            return f"{self.claim_id}: no certificate, because {self.reason}"
        reach = float(self.bounds.distance(math.inf))
        return f"{self.claim_id}: certified, h = {self.h:.4g}; the parameters move by at most {reach:.4g}"

    def __repr__(self) -> str:
        return f"Certificate({self})"

    def test_gap(
        self, t: ArrayLike, gradient_norms: Float[np.ndarray, " q"], bounds: AbstractBounds | None = None
    ) -> Float[np.ndarray, "*times q"]:
        r"""Bound $|\alpha g(w)-\alpha g^{lin}(u)|$ on test inputs by $\alpha(\frac12\beta_g\rho^2+\|\nabla g\|D)$.

        ``gradient_norms`` (q,) are $\|\nabla g(w_0)\|$. Needs a certificate and a problem with a test function.
        """
        bounds = self.demand() if bounds is None else bounds
        rho, D = (np.asarray(part)[..., None] for part in (bounds.distance(t), bounds.gap(t)))
        beta = self.problem.probe.smoothness(float(bounds.distance(math.inf)))
        return self.problem.alpha * (0.5 * beta * rho**2 + gradient_norms * D)


def obstacle(seen: Tangency) -> str | None:
    """Why no theorem of this file can apply, whatever alpha and the Lipschitz constant are."""
    n, p = seen.f0.size, seen.tangent.Vt.shape[1]
    if n > p:
        return f"{n} outputs cannot all be moved by {p} parameters: the Jacobian has no full row rank"
    if seen.dependent_rows:
        rows = ", ".join(map(str, seen.dependent_rows[:6])) + (", ..." if len(seen.dependent_rows) > 6 else "")
        return f"the Jacobian has rank {seen.rank} of {n}: its rows {rows} are linearly dependent (equal inputs?)"
    if seen.sigma == 0.0:
        return f"the smallest singular value {seen.sigma_min:.2e} of the Jacobian is below its rounding error"
    return None


def uncertain(smoothness: Smoothness, h: float) -> str | None:
    """Why a Lipschitz constant certifies nothing."""
    if math.isinf(smoothness.value):
        return smoothness.method or "no bound on the Lipschitz constant is known"
    if not smoothness.certified:
        value = f"{smoothness.value:.4g} ({smoothness.method})"
        return f"the Lipschitz constant {value} is an estimate; it would give h = {h:.4g}"
    return None


@kept
def certify(problem: LazyProblem) -> Certificate:
    r"""The sharp ball certificate (LAZY-C1): applies for $h = \frac{2\beta r_0}{\alpha\sigma^2} \le 1$.

    Then the flow converges to an interpolator, within $\rho_* = \frac\sigma\beta(1-\sqrt{1-h})$ of the start.
    The Lipschitz constant is taken on that very ball. Derived here; the constant 2 is optimal.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> print(certify(extremal(beta=0.3, y=1.0)))
    LAZY-C1: certified, h = 0.6; the parameters move by at most 1.225
    >>> print(certify(extremal(beta=0.3, y=1.0, alpha=0.5)))
    LAZY-C1: no certificate, because alpha = 0.5 is below the threshold 0.6 (h = 1.2)
    """
    return by_ball("LAZY-C1", problem, 1.0, _ball_reach, ball)


@kept
def certify_theorem(problem: LazyProblem, constant: float = 1152.0) -> Certificate:
    r"""The lazy-training theorem (LAZY-22), for $\alpha \ge \beta\sqrt{1152\sigma_{max}^2\hat R_0}/\sigma_{min}^3$.

    That is $h \le 1/(12\kappa)$; the same proof gives 288 for 1152 (``constant``), $h \le 1/(6\kappa)$, and
    nothing below: raises ``ValueError`` for a smaller constant. Source: chizat2019lazy, telgarsky2021deep.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> round(certify_theorem(extremal(2.0, 0.3, 1.0, others=1.0)).threshold, 6)
    1.8
    """
    if not constant >= 288.0:
        reject(f"constant={constant}", "The theorem is proved for constants of at least 288", "Use 1152 or 288")
    seen = problem.tangency
    kappa = seen.sigma_top / seen.sigma if seen.sigma else math.inf
    return by_ball("LAZY-22", problem, math.sqrt(8 / constant) / kappa, lambda _: 6 * kappa, _theorem)


def ball_and_constant(problem: LazyProblem) -> tuple[float, Smoothness]:
    r"""$h$ of the sharp ball certificate, and the constant used, on the smallest ball that could do."""
    seen = problem.tangency
    return _grown(seen.sigma, problem.smoothness, seen.residual_bound / problem.alpha, 1.0, _ball_reach)


def _ball_reach(h: float) -> float:
    return 2 / (1 + math.sqrt(max(1 - h, 0.0)))


def ball(problem: LazyProblem, beta: float) -> BallBounds:
    r"""The bounds of the sharp ball certificate with this constant, for $h \le 1$."""
    seen = problem.tangency
    least = seen.distance_range[0]
    return BallBounds(seen.sigma, beta, seen.residual_bound, problem.alpha, seen.sigma_top, least)


def ball_bounds(certificate: Certificate) -> BallBounds:
    """The bounds of a certificate by ``certify``; raises ``ValueError`` where there are none."""
    bounds = certificate.demand()
    if not isinstance(bounds, BallBounds):
        reject(f"bounds of {certificate.claim_id}", "Wanted are those of LAZY-C1", "Use certify(problem)")
    return bounds


def _theorem(problem: LazyProblem, _: float) -> TheoremBounds:
    seen = problem.tangency
    return TheoremBounds(seen.sigma, seen.sigma_top, seen.residual_bound, problem.alpha)


def by_ball(claim_id: str, problem: LazyProblem, limit: float, reach, bounds) -> Certificate:
    r"""A certificate of the form $h(\beta(\rho)) \le$ limit, with $\rho = \frac{r_0}{\alpha\sigma}$ reach(h)."""
    seen = problem.tangency
    if why := obstacle(seen):
        return Certificate(claim_id, problem, math.inf, limit, math.inf, problem.smoothness(0.0), reason=why)
    h, smoothness = _grown(seen.sigma, problem.smoothness, seen.residual_bound / problem.alpha, limit, reach)
    if why := uncertain(smoothness, h):
        return Certificate(claim_id, problem, h, limit, math.inf, smoothness, reason=why)
    threshold = _least_alpha(problem, limit, reach)
    if h > limit:
        return Certificate(claim_id, problem, h, limit, threshold, smoothness, reason=too_small(problem, h, threshold))
    return Certificate(claim_id, problem, h, limit, threshold, smoothness, bounds(problem, smoothness.value))


def too_small(problem: LazyProblem, h: float, threshold: float) -> str:
    """Say what is wrong with alpha: too small, or no alpha helps because the output at the start is not zero."""
    alpha, seen = problem.alpha, problem.tangency
    if alpha < threshold < math.inf:
        return f"alpha = {alpha:.4g} is below the threshold {threshold:.4g} (h = {h:.4g})"
    start = float(np.linalg.norm(seen.f0))
    remedy = "centre the output or mirror the network"
    return f"h = {h:.4g}, and a larger alpha does not help as |f(w0)| = {start:.4g}: {remedy}"


def _grown(sigma: float, profile: Profile, c: float, limit: float, reach) -> tuple[float, Smoothness]:
    r"""$h = 2\beta(\rho)c/\sigma^2$ with $c = r_0/\alpha$, on a ball that holds the radius $\frac c\sigma$ reach(h).

    The ball grows from the smallest that could do; constants do not fall with the radius.
    """
    radius = c / sigma * reach(0.0)
    while True:
        smoothness = profile(radius)
        h = 2 * smoothness.value * c / sigma**2 if c else 0.0
        needed = c / sigma * reach(h)
        if h > limit or needed <= radius:
            return h, smoothness
        radius = max(needed, 1.01 * radius) * MARGIN


def _least_alpha(problem: LazyProblem, limit: float, reach) -> float:
    r"""The smallest alpha with a certificate, from the largest $s = 1/\alpha$ with $\|f_0-sy\| \le c_*$."""
    seen, profile = problem.tangency, problem.smoothness
    f0, y = np.asarray(seen.f0), problem.y
    critical = _critical(seen.sigma, profile, float(np.linalg.norm(problem.w0)) + 1.0, limit, reach)
    if math.isfinite(critical):  # what rounding may add to the residual, and a few roundings here
        critical -= (10 * y.size + 10) * float(np.finfo(float).eps) * (2 * float(np.linalg.norm(f0)) + critical)
        critical = max(critical, 0.0)
    a, b, d = float(y @ y), float(f0 @ y), float(f0 @ f0) - critical**2
    if a == 0.0 or math.isinf(critical):
        return 0.0 if d <= 0 else math.inf
    if b * b < a * d or critical == 0.0:
        return math.inf
    root = math.sqrt(b * b - a * d)
    largest = (b + root) / a if b > 0 or (d <= 0 and b + root > -b) else d / (b - root)
    return 1.0 / largest if largest > 0 else math.inf


def _critical(sigma: float, profile: Profile, scale: float, limit: float, reach) -> float:
    r"""The largest $c = r_0/\alpha$ that a certificate allows: $\sigma^2$ limit$/(2\beta)$ for a constant $\beta$."""
    if isinstance(profile, Smoothness) and math.isinf(profile.radius):
        return sigma**2 * limit / (2 * profile.value) if profile.value else math.inf
    profile = in_steps(profile)

    def fits(power: float) -> bool:
        return bool(_grown(sigma, profile, scale * 2.0**power, limit, reach)[0] <= limit)

    low, high = -120.0, 40.0
    if fits(high):
        return math.inf
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return scale * 2.0**low


def in_steps(profile: Profile) -> Profile:
    """The profile at the next power of 2^(1/16) above the radius, remembered: sound, and few evaluations."""
    at = functools.cache(lambda power: profile(2.0 ** (power / 16)))
    return lambda radius: at(math.ceil(16 * math.log2(radius))) if radius > 0 else profile(0.0)
