r"""Certificates for gradient descent with a step that is not small (LAZY-C5).

Legend as in ``problem``, with $\alpha$ absorbed: $\sigma, \sigma_{max}, \beta$ stand for their $\alpha$-fold. $\eta$ is
the step on the loss $\frac12\|\alpha f(w)-y\|^2$, $M \ge \|\alpha J_w\|$ on a ball of radius R around the start,
$c = 1-\frac{\eta M^2}2$, $\sigma_e = \sigma-\frac{\eta^2M^3\beta r_0}{4c}$,
$h_d = \frac{2\beta r_0}{c\sigma_e^2}$, $\rho_d = \frac{\sigma_e}\beta(1-\sqrt{1-h_d})$.

With $\delta_k = \eta\|J_k^\top r_k\|$ one has $\|r_{k+1}\| \le \|r_k\|-c\frac{\|J_k^\top r_k\|}{\|r_k\|}\delta_k+
\frac\beta2\delta_k^2$. Summed with $\rho_k\delta_k = \frac12(\rho_{k+1}^2-\rho_k^2-\delta_k^2)$ and
$\sum\delta_k^2 \le \eta Mr_0\rho$ this is $\|r_K\| \le r_0-c(\sigma_e\rho-\frac\beta2\rho^2)$, and the same for every
part of a last step. So the path cannot pass $\rho_d$ where $\rho_d < R$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from widthwise.numerics import reject

from .bounds import Numbers
from .certificates import certify, demanded, in_steps, obstacle, uncertain
from .lipschitz import Profile, Smoothness
from .problem import LazyProblem, kept

_ROUNDS = 80


class DescentBounds(eqx.Module):
    r"""What holds for all iterates of gradient descent, from $\eta, \sigma, \beta, r_0, M$ with $\alpha$ absorbed.

    For a linear map in the direction of $\sigma = M$ the path is $\frac{\eta M^2}2$ of its bound, so that the bounds
    are attained for $\eta M^2 \to 2$, and those of the ball certificate for $\eta \to 0$.

    >>> bounds = DescentBounds(step=0.1, sigma=1.0, beta=0.3, r0=1.0, M=1.5)
    >>> [round(float(x), 6) for x in (bounds.h, bounds.radius, bounds.rate, bounds.residual(10))]
    [0.679929, 1.443378, 0.971951, 0.752394]
    """

    step: float
    sigma: float
    beta: float
    r0: float
    M: float

    @property
    def c(self) -> float:
        r"""$1-\frac{\eta M^2}2$; nothing is certified where it is not above 0."""
        return 1.0 - 0.5 * self.step * self.M**2

    @property
    def sigma_e(self) -> float:
        r"""$\sigma-\frac{\eta^2M^3\beta r_0}{4c}$."""
        return self.sigma - self.step**2 * self.M**3 * self.beta * self.r0 / (4 * self.c)

    @property
    def h(self) -> float:
        r"""$h_d = \frac{2\beta r_0}{c\,\sigma_e^2}$; $\infty$ where $c \le 0$ or $\sigma_e \le 0$."""
        if self.c <= 0 or self.sigma_e <= 0:
            return math.inf
        return 2 * self.beta * self.r0 / (self.c * self.sigma_e**2)

    @property
    def radius(self) -> float:
        r"""$\rho_d = \frac{r_0}{c\sigma_e}\cdot\frac2{1+\sqrt{1-h_d}}$; $\infty$ where $h_d > 1$."""
        if self.h > 1:
            return math.inf
        return 2 * self.r0 / (self.c * self.sigma_e * (1 + math.sqrt(1 - self.h)))

    @property
    def least_sigma(self) -> float:
        r"""$\sigma_* = \sigma-\beta\rho_d \le \sigma_{min}(\alpha J_k)$."""
        return max(self.sigma - self.beta * self.radius, 0.0)

    @property
    def gain(self) -> float:
        r"""$\eta\sigma_*^2(c-\frac{\beta\eta r_0}2)$: every step takes at least this part of the residual."""
        return self.step * self.least_sigma**2 * (self.c - 0.5 * self.beta * self.step * self.r0)

    @property
    def rate(self) -> float:
        r"""$\|r_{k+1}\| \le$ rate $\|r_k\|$."""
        return math.nextafter(1.0 - self.gain, 2.0)

    def residual(self, k: ArrayLike) -> Numbers:
        r"""$r_0\,\mathrm{rate}^k$ after k steps."""
        return self.r0 * np.exp(np.asarray(k, dtype=float) * self._log_rate)

    def steps_to(self, part: float) -> int:
        """After how many steps at most this part of the residual is left; raises ``ValueError`` outside (0, 1]."""
        if not 0 < part <= 1:
            reject(f"part={part}", "The part of the residual that is left lies in (0, 1]", "Give for example 0.01")
        return math.ceil(math.log(part) / self._log_rate) if part < 1 else 0

    @property
    def _log_rate(self) -> float:
        # A gain is at most 1/2, as sigma_* <= M.
        return math.log1p(-min(self.gain, 0.5))


@dataclass(frozen=True, eq=False)
class DescentCertificate:
    r"""What is certified about gradient descent with one step, or why nothing is.

    ``step`` $\eta$ and ``largest_step``, the supremum of those that are certified (0 where none is), belong to the
    loss $\frac12\|\alpha f(w)-y\|^2$; for its mean over n multiply them by n. ``h`` is $h_d$, ``smoothness`` the
    constant used.
    """

    claim_id: str
    problem: LazyProblem
    step: float
    largest_step: float
    h: float
    smoothness: Smoothness
    bounds: DescentBounds | None = None
    reason: str = ""

    @property
    def certified(self) -> bool:
        return self.bounds is not None

    def demand(self) -> DescentBounds:
        """The bounds; raises ``ValueError`` with the reason where there are none."""
        return demanded(self.bounds, self)

    def __str__(self) -> str:
        if self.bounds is None:
            return f"{self.claim_id}: no certificate, because {self.reason}"
        step = f"step {self.step:.4g} of at most {self.largest_step:.4g}"
        return (
            f"{self.claim_id}: certified, h = {self.h:.4g}, {step}; a step leaves at most {self.bounds.rate:.8g} of "
            f"the residual; the parameters move by at most {self.bounds.radius:.4g}"
        )

    def __repr__(self) -> str:
        return f"DescentCertificate({self})"


@kept
def certify_descent(problem: LazyProblem, step: float | None = None) -> DescentCertificate:
    r"""The certificate of gradient descent $w_{k+1} = w_k-\eta\alpha J_k^\top r_k$ (LAZY-C5), for $h_d < 1$.

    M and $\beta$ are taken on the smallest ball that holds its own $\rho_d$: $M \leftarrow \sigma_{max}+\beta\rho_d$
    from $M = \sigma_{max}$ upwards. Without ``step`` it takes the one with the fastest certified decay among a hundred.
    Needs no more than $\eta M^2 < 2$. Raises ``ValueError`` for a step that is not a positive number. Derived here; for
    comparison oymak2019overparameterized.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> print(certify_descent(extremal(y=0.1), 0.2))
    LAZY-C5: certified, h = 0.2782, step 0.2 of at most 0.367; a step leaves at most 0.89613006 of the residual; the
    parameters move by at most 0.1495
    >>> print(certify_descent(extremal(y=0.1), 1.0))
    LAZY-C5: no certificate, because the step 1 is above the largest certified one, 0.367
    """
    if step is not None and not (math.isfinite(step) and step > 0):
        reject(f"step={step}", "A step is a finite number above 0", "Leave it out for the best certified one")
    seen, profile = problem.tangency, steady(problem.smoothness)
    if why := obstacle(seen) or out_of_range(problem):
        return _refused(problem, step, math.inf, profile(0.0), why)
    flow = certify(problem)
    if why := uncertain(flow.smoothness, flow.h) or flow.reason:
        return _refused(problem, step, flow.h, flow.smoothness, why)
    largest = largest_step(problem, profile)
    chosen = _fastest(problem, profile, largest) if step is None else float(step)
    found = _smallest_ball(problem, profile, chosen)
    if found is None:
        why = f"the step {chosen:.4g} is above the largest certified one, {largest:.4g}"
        return _refused(problem, chosen, math.inf, flow.smoothness, why, largest)
    bounds, smoothness = found
    return DescentCertificate("LAZY-C5", problem, chosen, max(largest, chosen), bounds.h, smoothness, bounds)


def _refused(problem, step, h: float, smoothness: Smoothness, why: str, largest: float = 0.0) -> DescentCertificate:
    step = math.nan if step is None else step
    return DescentCertificate("LAZY-C5", problem, step, largest, h, smoothness, reason=why)


def out_of_range(problem: LazyProblem) -> str | None:
    r"""Why no step can be computed, for $\alpha\sigma_{max}$ whose powers are no floating-point numbers."""
    top = problem.alpha * problem.tangency.sigma_top
    return None if 1e-50 < top < 1e50 else f"alpha times sigma_max is {top:.3g}, too far from 1 to compute steps"


def steady(profile: Profile) -> Profile:
    """A constant as it is; any other profile at a few radii only."""
    return profile if isinstance(profile, Smoothness) else in_steps(profile)


def _reach(bounds: DescentBounds) -> Callable[[float, float], float]:
    r"""From $\beta$ and M to the radius of the bounds; in plain numbers, as it is called often."""
    step, sigma, r0 = bounds.step, bounds.sigma, bounds.r0

    def reach(beta: float, M: float) -> float:
        c = 1.0 - 0.5 * step * M**2
        least = c * sigma - 0.25 * step**2 * M**3 * beta * r0
        if c <= 0 or least <= 0:
            return math.inf
        h = 2 * beta * r0 * c / least**2
        return 2 * r0 / (least * (1 + math.sqrt(1 - h))) if h <= 1 else math.inf

    return reach


def least_ball(reach: Callable[[float], float]) -> float | None:
    """The smallest R with reach(R) < R, approached from below; None where there is none.

    ``reach`` must not fall, so that what fails on a ball fails on every larger one. Each round goes a little beyond,
    and further every time.

    >>> round(least_ball(lambda R: 0.5 + 0.5 * R), 6)
    1.0
    """
    R = 0.0
    for k in range(_ROUNDS):
        found = reach(R)
        if found < R or found == 0.0:
            return R
        if math.isinf(found):
            return None
        R = found * (1 + 1e-13 * 1.6**k)
    return None


def _smallest_ball(problem: LazyProblem, profile: Profile, step: float) -> tuple[DescentBounds, Smoothness] | None:
    r"""The bounds on the smallest ball R with $\rho_d(R) < R$."""
    seen, alpha = problem.tangency, problem.alpha
    start = DescentBounds(step, alpha * seen.sigma, 0.0, seen.residual_bound, alpha * seen.sigma_top)
    reach = _reach(start)

    def on(R: float) -> tuple[float, float]:
        beta = alpha * profile(R).value
        return beta, start.M + beta * R

    R = least_ball(lambda R: reach(*on(R)))
    if R is None:
        return None
    beta, M = on(R)
    return replace(start, beta=beta, M=M), profile(R)


def largest_step(problem: LazyProblem, profile: Profile) -> float:
    r"""The largest step that a profile of $\beta$, certified or not, allows; smaller ones are allowed too.

    By bisection below $2/(\alpha\sigma_{max})^2$, from below; 0 where that is too far from 1 to be computed.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> round(largest_step(extremal(y=0.1), Smoothness(0.0, certified=True)), 6) == round(2 / 1.5**2, 6)
    True
    """
    if out_of_range(problem):
        return 0.0
    low, high = 0.0, 2.0 / (problem.alpha * problem.tangency.sigma_top) ** 2
    for _ in range(40):
        middle = 0.5 * (low + high)
        fits = _smallest_ball(problem, profile, middle) is not None
        low, high = (middle, high) if fits else (low, middle)
    return low


def _fastest(problem: LazyProblem, profile: Profile, largest: float) -> float:
    """The step with the fastest certified decay among a hundred parts of the largest one."""
    steps = largest * np.arange(1, 101) / 100
    found = [_smallest_ball(problem, profile, float(step)) for step in steps]
    gains = [0.0 if one is None else one[0].gain for one in found]
    return float(steps[int(np.argmax(gains))])
