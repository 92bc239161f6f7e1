r"""A certificate for stochastic gradient descent (LAZY-C6): linear convergence, with a probability.

Legend as in ``problem``, $\alpha$ absorbed: $\sigma, \sigma_{max}, \beta, \nabla f_i$ stand for their $\alpha$-fold. A
step on $\frac12\|r\|^2$ is $-\eta g$ with $g = \frac nb\sum r_i\nabla f_i$ over b of the n examples, drawn with
replacement. $\tau$ is the time at which the ball of radius R around the start is left; on it
$\sigma_* = \sigma-\beta R$, $B = \max_i\|\nabla f_i(w_0)\|+\beta R$, $M = \sigma_{max}+\beta R$. On the ball enlarged
by one step the gradient of the loss is Lipschitz with $H = M'^2+\beta\sup\|r\|$.

$E\|g\|^2 \le \frac{nB^2}b\|r\|^2+(1-\frac1b)\|J^\top r\|^2$ in the descent lemma gives
$E[\hat R_{k+1}1_{k+1<\tau}] \le (1-\eta\sigma_*^2)E[\hat R_k1_{k<\tau}]$ for the steps allowed. So the expected path
until $\tau$ is at most $\eta Sr_0\sum_k(1-\eta\sigma_*^2)^{k/2}$ with $S^2 = \frac{nB^2}b+(1-\frac1b)M^2$, and
Markov's inequality bounds the probability to leave.
"""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from widthwise.numerics import demand_count, reject

from .bounds import Numbers
from .certificates import demanded, obstacle, uncertain
from .lipschitz import Profile, Smoothness
from .problem import LazyProblem, kept
from .steps import least_ball, out_of_range, steady


class StochasticBounds(eqx.Module):
    r"""What holds in expectation and with probability, from the constants on a ball of this ``radius``.

    For orthogonal gradients of equal length and the largest step the risk falls in expectation exactly as bounded.

    >>> bounds = StochasticBounds(
    ...     step=0.01, sigma=1.0, gradient=1.2, M=1.5, smoothness=2.5, r0=0.02, n=4, batch=1, radius=1.0
    ... )
    >>> [round(float(x), 6) for x in (bounds.rate, bounds.path, bounds.exit_probability, bounds.largest_step)]
    [0.99, 0.096, 0.096, 0.069444]
    """

    step: float
    sigma: float
    gradient: float
    M: float
    smoothness: float
    r0: float
    n: int
    batch: int
    radius: float

    @property
    def rate(self) -> float:
        r"""$E[\hat R_{k+1}1_{k+1<\tau}] \le (1-\eta\sigma_*^2)E[\hat R_k1_{k<\tau}]$."""
        # A little is left out for rounding.
        return math.nextafter(1.0 - (1.0 - 1e-14) * self.step * self.sigma**2, 2.0)

    def risk(self, k: ArrayLike) -> Numbers:
        r"""$E[\hat R_k1_{k<\tau}] \le \frac12r_0^2(1-\eta\sigma_*^2)^k$ after k steps."""
        return 0.5 * self.r0**2 * np.exp(np.asarray(k, dtype=float) * math.log1p(-self.step * self.sigma**2))

    @property
    def path(self) -> float:
        r"""$E\sum_{k<\tau}\|w_{k+1}-w_k\| \le \frac{2Sr_0}{\sigma_*^2}$; infinite for $\sigma_* = 0$."""
        if self.sigma == 0.0:
            return math.inf
        spread = math.sqrt(self.n * self.gradient**2 / self.batch + (1 - 1 / self.batch) * self.M**2)
        return 2 * spread * self.r0 / self.sigma**2

    @property
    def exit_probability(self) -> float:
        r"""$P(\tau < \infty) \le \frac{2Sr_0}{\sigma_*^2R}$."""
        return min(1.0, self.path / self.radius) if self.path else 0.0

    @property
    def largest_step(self) -> float:
        r"""$\eta \le \sigma_*^2/\big(H(\frac{nB^2}b+(1-\frac1b)\sigma_*^2)\big)$."""
        second = self.n * self.gradient**2 / self.batch + (1 - 1 / self.batch) * self.sigma**2
        return self.sigma**2 / (self.smoothness * second)


@dataclass(frozen=True, eq=False)
class StochasticCertificate:
    r"""What is certified about stochastic gradient descent with one step, or why nothing is.

    ``step`` $\eta$ and ``largest_step`` belong to $\frac12\|\alpha f(w)-y\|^2$; for its mean over n multiply them by n.
    ``delta`` is the probability that was allowed for leaving the ball.
    """

    claim_id: str
    problem: LazyProblem
    step: float
    largest_step: float
    batch: int
    delta: float
    smoothness: Smoothness
    bounds: StochasticBounds | None = None
    reason: str = ""

    @property
    def certified(self) -> bool:
        return self.bounds is not None

    def demand(self) -> StochasticBounds:
        """The bounds; raises ``ValueError`` with the reason where there are none."""
        return demanded(self.bounds, self)

    def __str__(self) -> str:
        if self.bounds is None:
            return f"{self.claim_id}: no certificate, because {self.reason}"
        step = f"step {self.step:.4g} of at most {self.largest_step:.4g}"
        return (
            f"{self.claim_id}: certified, {step}; leaves the ball of radius {self.bounds.radius:.4g} with probability "
            f"at most {_rounded_up(self.bounds.exit_probability):.3g}; before, a step leaves {self.bounds.rate:.8g} of "
            "the expected risk"
        )

    def __repr__(self) -> str:
        return f"StochasticCertificate({self})"


def _rounded_up(value: float) -> float:
    """To three digits, which do not make it smaller."""
    return float(Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(value))


@kept
def certify_sgd(
    problem: LazyProblem, step: float | None = None, *, batch: int = 1, delta: float = 0.1
) -> StochasticCertificate:
    r"""The certificate of stochastic gradient descent (LAZY-C6), with a probability of at least $1-\delta$.

    It takes the smallest ball R with $2Sr_0/(\sigma_*^2R) \le \delta$ and, without ``step``, the largest step that is
    certified there. Its price over the flow is about $\sqrt nB/(\delta\sigma_*)$ in $r_0$. Raises ``ValueError`` for a
    step that is not a positive number, a delta outside (0, 1) and a batch below 1. Derived here; for comparison
    oymak2019overparameterized, liu2022loss.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> print(certify_sgd(extremal(y=0.002)))
    LAZY-C6: certified, step 0.02578 of at most 0.02578; leaves the ball of radius 0.1659 with probability at most 0.1;
    before, a step leaves 0.98206264 of the expected risk
    """
    if step is not None and not (math.isfinite(step) and step > 0):
        reject(f"step={step}", "A step is a finite number above 0", "Leave it out for the largest certified one")
    if not 0 < delta < 1:
        reject(f"delta={delta}", "A probability lies between 0 and 1", "Give for example 0.1")
    demand_count("batch", batch, least=1)
    found = _find(problem, steady(problem.smoothness), step, batch, delta)
    if isinstance(found, str):
        chosen = math.nan if step is None else float(step)
        return StochasticCertificate(
            "LAZY-C6", problem, chosen, 0.0, batch, delta, problem.smoothness(0.0), reason=found
        )
    bounds, largest, smoothness = found
    if bounds.step > largest:
        why = f"the step {bounds.step:.4g} is above the largest certified one, {largest:.4g}"
        return StochasticCertificate("LAZY-C6", problem, bounds.step, largest, batch, delta, smoothness, reason=why)
    return StochasticCertificate("LAZY-C6", problem, bounds.step, largest, batch, delta, smoothness, bounds)


def _find(problem: LazyProblem, profile: Profile, step: float | None, batch: int, delta: float):
    """The bounds for a step, the largest step and the constant used; or why there are none."""
    seen = problem.tangency
    if why := obstacle(seen) or out_of_range(problem):
        return why
    start = profile(seen.residual_bound / (problem.alpha * seen.sigma))
    if why := uncertain(start, seen.laziness(start.value)):
        return why
    R = least_ball(lambda R: _on(problem, profile, R, 0.0, batch).path / delta)
    if R is None:
        best = _least_exit(problem, profile, batch)
        return f"the best bound on the probability to leave a ball is {best:.4g}, and delta = {delta:g} is allowed"
    largest = _largest_step(problem, profile, R, batch)
    if not largest > 0.0:
        return "no step above 0 is certified"
    bounds = _on(problem, profile, R, largest if step is None else float(step), batch)
    return bounds, largest, profile(R)


def _on(problem: LazyProblem, profile: Profile, R: float, step: float, batch: int) -> StochasticBounds:
    """The bounds on the ball R; sigma is 0, and the path infinite, where nothing is left of the singular value."""
    seen, alpha, n = problem.tangency, problem.alpha, problem.y.size
    drift = alpha * profile(R).value * R if R else 0.0
    gradient, M = alpha * row_norm(problem) + drift, alpha * seen.sigma_top + drift
    wide = R + step * n * gradient * (seen.residual_bound + M * R)
    beta = alpha * profile(wide).value
    largest = alpha * seen.sigma_top + beta * wide
    smoothness = largest**2 + beta * (seen.residual_bound + largest * wide)
    sigma = max(alpha * seen.sigma - drift, 0.0)
    return StochasticBounds(step, sigma, gradient, M, smoothness, seen.residual_bound, n, batch, R)


@kept
def row_norm(problem: LazyProblem) -> float:
    r"""$\max_i\|\nabla f_i(w_0)\|$ and its rounding."""
    seen = problem.tangency
    return float(np.sqrt(np.max(np.sum((seen.U * seen.singular_values) ** 2, axis=1)))) + seen.rounding


def _largest_step(problem: LazyProblem, profile: Profile, R: float, batch: int) -> float:
    """The largest step that is below its own limit, which falls as the step enlarges the ball."""
    low, high = 0.0, _on(problem, profile, R, 0.0, batch).largest_step
    for _ in range(60):
        middle = 0.5 * (low + high)
        fits = middle <= _on(problem, profile, R, middle, batch).largest_step
        low, high = (middle, high) if fits else (low, middle)
    return low


def _least_exit(problem: LazyProblem, profile: Profile, batch: int) -> float:
    """The smallest bound on the probability to leave, over a hundred radii."""
    start = problem.tangency.residual / (problem.alpha * problem.tangency.sigma)
    radii = start * np.geomspace(0.1, 1e4, 100)
    return min(_on(problem, profile, float(R), 0.0, batch).exit_probability for R in radii)
