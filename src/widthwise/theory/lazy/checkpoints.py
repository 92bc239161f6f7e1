r"""Certificates from any time on: the parameters reached so far are a start like any other (LAZY-C4).

Legend as in ``problem``; $h_k = 2\beta\|r_k\|/(\alpha\sigma_{min}(J_k)^2)$ at the k-th observed time.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate

from .bounds import BallBounds
from .certificates import Certificate, ball_bounds, certify
from .examples import extremal, random_quadratic
from .problem import LazyProblem, kept
from .setups import Setup, certified_constant, followed, problems, stack
from .trajectory import follow


@dataclass(frozen=True, eq=False)
class Along:
    """The index h along the flow of a problem, and the first observed time at which the rest is certified.

    ``h`` (k,) belongs to ``times`` (k,) in units of 1/rate; ``first`` is None when no time is certified.
    """

    times: Float[np.ndarray, " k"]
    h: Float[np.ndarray, " k"]
    first: int | None

    @property
    def time(self) -> float:
        """When the certificate first applies; infinite when it never does."""
        return float("inf") if self.first is None else float(self.times[self.first])


# The certificate computes h once more from the singular values, which agrees with this h to rounding only.
_SURELY = 1.0 - 1e-9


@kept
def laziness_along(problem: LazyProblem) -> Along:
    r"""Follow $h$ along the flow; as the residual vanishes it falls below 1, unless $\sigma_{min}$ vanishes too.

    >>> upwards = extremal(1.0, -1.0, 1.0)
    >>> seen = laziness_along(upwards)
    >>> round(upwards.h, 6), round(seen.time, 2), bool(seen.h[seen.first] <= 1)
    (2.0, 0.25, True)
    """
    seen = follow(problem)
    away = seen.distance + 2 * seen.residual / (problem.alpha * np.maximum(seen.sigma_min, 1e-300))
    beta = np.array([problem.smoothness(float(radius)).value for radius in away])
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.where(seen.residual > 0, 2 * beta * seen.residual / (problem.alpha * seen.sigma_min**2), 0.0)
    good = np.flatnonzero(h <= _SURELY)
    return Along(seen.times, h, int(good[0]) if len(good) else None)


def certify_from(problem: LazyProblem, index: int) -> Certificate:
    """The sharp ball certificate with the parameters at an observed time as the start."""
    return certify(_moved(problem, index))


@kept
def _moved(problem: LazyProblem, index: int) -> LazyProblem:
    return problem.moved(problem.w0 + follow(problem).steps[index])


def _somewhere(setup: Setup) -> str | None:
    """The certificate applies at some observed time."""
    for problem in problems(setup):
        seen = laziness_along(problem)
        if seen.first is None:
            return f"h stays above 1 along the whole path; its smallest value is {np.min(seen.h):.4g}"
    return None


def _chosen(problem: LazyProblem) -> list[int]:
    """Four certified checkpoints, spread from the first one on; the last time has nothing after it."""
    seen = laziness_along(problem)
    good = np.flatnonzero(seen.h[:-1] <= _SURELY)
    return sorted({int(good[int(i)]) for i in np.linspace(0, len(good) - 1, 4)}) if len(good) else []


def _bounds(problem: LazyProblem, index: int) -> BallBounds:
    return ball_bounds(certify_from(problem, index))


def _predict(bounds_of: Callable[[LazyProblem, int], BallBounds]) -> Callable[[Setup], Estimate]:
    def predict(setup: Setup) -> Estimate:
        rows, errors = [], []
        for problem in problems(setup):
            seen = follow(problem)
            for index in _chosen(problem):
                bounds, later = bounds_of(problem, index), seen.seconds[index + 1 :] - seen.seconds[index]
                rows += [bounds.residual(later), bounds.path(later), bounds.path_to_go(later)]
                on_outputs = problem.alpha * seen.sigma_max[index + 1 :] * seen.error
                errors += [2 * on_outputs, np.full(len(later), 2 * seen.error), np.full(len(later), 2 * seen.error)]
        return Estimate(stack(rows), stack(errors))

    return predict


def _measure(setup: Setup, key) -> np.ndarray:
    rows = []
    for problem in problems(setup):
        seen = follow(problem)
        for index in _chosen(problem):
            path = seen.path[index + 1 :]
            rows += [seen.residual[index + 1 :], path - seen.path[index], seen.path[-1] - path]
    return stack(rows)


def _halved(problem: LazyProblem, index: int) -> BallBounds:
    bounds = _bounds(problem, index)
    return replace(bounds, beta=bounds.beta / 2)


def _stale(problem: LazyProblem, index: int) -> BallBounds:
    """The bounds with the singular value of the start."""
    return replace(_bounds(problem, index), sigma=problem.tangency.sigma)


@functools.cache
def _default() -> Setup:
    """Problems that are certified from the start, sharply or not, and two that become so on the way."""
    on_the_way = extremal(1.0, -1.0, 1.5), random_quadratic(1, 4.0, 4.0)
    return extremal(y=0.4), random_quadratic(1, 4.0, 0.9), *on_the_way


CLAIMS = (
    Claim(
        id="LAZY-C4",
        name="certificate-at-a-checkpoint",
        statement=(
            r"At any time of training with $h_k = 2\beta\|r_k\|/(\alpha\sigma_{min}(J_k)^2) \le 1$ the rest of "
            r"the flow obeys the bounds of the sharp ball certificate with the parameters reached as its start."
        ),
        sources=("liu2022loss",),
        setup=_default,
        predict=_predict(_bounds),
        measure=_measure,
        relation=AtMost(),
        assumptions=(certified_constant, followed, _somewhere),
        mutants=(
            Mutant("half the Lipschitz constant", {"predict": _predict(_halved)}),
            Mutant("the smallest singular value of the start", {"predict": _predict(_stale)}),
        ),
        derived_here=True,
    ),
)
