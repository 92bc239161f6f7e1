r"""Claims about the lazy-training theorem of Bartlett, Montanari and Rakhlin and about its proof: LAZY-27, LAZY-28.

Legend: as in ``statistical``.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy import LazyProblem, Probe
from widthwise.theory.lazy.examples import extremal, random_quadratic
from widthwise.theory.lazy.maps import QuadraticMap
from widthwise.theory.lazy.setups import certified_by, certified_constant, problems

from .stability_claims import stack
from .statistical import StatisticalBounds, certify_statistical, outward, radius, trace

Setup = Any


@functools.cache
def _covered() -> tuple[LazyProblem, ...]:
    """A problem on which laziness is worst, and random maps with a test function, all near h = 1/2."""
    return extremal(y=0.2449), _probed(1, 4.0, 0.49, True), _probed(2, 3.0, 0.3, False)


def _probed(seed: int, kappa: float, h: float, worst: bool) -> LazyProblem:
    """A random quadratic map with another one as its test output."""
    problem, rng = random_quadratic(seed, kappa, h, worst), np.random.default_rng(seed + 100)
    n, p = problem.y.size, problem.w0.size
    B = rng.normal(size=(n, p, p))
    B = 0.5 * (B + B.transpose(0, 2, 1))
    with jax.enable_x64(True):
        test = QuadraticMap(jnp.asarray(rng.normal(size=(n, p))), jnp.asarray(B))
    betas = np.linalg.norm(B, ord=2, axis=(1, 2))
    return replace(problem, test=Probe(test, lambda _: betas))


def _bounds(problem: LazyProblem) -> StatisticalBounds:
    seen = problem.tangency
    return outward(problem, problem.smoothness(2 * seen.residual_bound / (problem.alpha * seen.sigma)).value)


def _predict(setup: Setup, rate: float = 1.0, far: float = 1.0, power: int = 0) -> Estimate:
    """Residual, distance, gap, smallest singular value and predictions, in a wrong variant with changed constants."""
    values, errors = [], []
    for problem in problems(setup):
        bounds, seen, alpha = _bounds(problem), trace(problem), problem.alpha
        t = seen.seconds
        rows = [bounds.residual(rate * t[1:]), far * bounds.distance(t), bounds.gap(t) * bounds.sigma**power]
        rows.append(1 / bounds.smallest_singular_value(t))
        slope = alpha * (bounds.sigma_max + bounds.beta * float(bounds.distance(0.0)))
        each = [slope * seen.error, seen.error, seen.error, 4 * bounds.beta * seen.error / bounds.sigma**2]
        if problem.test is not None:
            gap = bounds.prediction_gap(seen.test_gradients, problem.probe.smoothness(float(bounds.distance(0.0))))
            rows.append(np.tile(gap, len(t)))
            each.append(2 * alpha * float(seen.test_gradients.max()) * seen.error)
        values += rows
        errors += [np.full(row.size, one + 1e-12) for row, one in zip(rows, each, strict=True)]
    return Estimate(stack(values), stack(errors))


def _measure(setup: Setup, key) -> np.ndarray:
    rows = []
    for problem in problems(setup):
        seen = trace(problem)
        rows += [seen.residual[1:], seen.distance, seen.gap, 1 / seen.sigma_min]
        rows += [seen.test_gap] if problem.test is not None else []
    return stack(rows)


def _four_times(setup: Setup) -> str | None:
    r"""The condition $\beta r_0 < \alpha\sigma_{min}^2$, without the quarter."""
    return "h is not below 2" if any(problem.h >= 2 for problem in problems(setup)) else None


# The proof


def _steps() -> tuple[LazyProblem, ...]:
    """As above, and a problem that leaves the ball of the proof."""
    return extremal(y=0.2449), random_quadratic(1, 4.0, 0.49, True), extremal(y=0.45)


def _inside(problem: LazyProblem) -> np.ndarray:
    """The times at which the flow has not left the ball of radius r_*."""
    return np.maximum.accumulate(trace(problem).distance) <= radius(problem)


def _measure_steps(setup: Setup, key, share: float = 0.5) -> np.ndarray:
    rows = []
    for problem in problems(setup):
        seen, inside = trace(problem), _inside(problem)
        potential = seen.potential(share * problem.alpha * problem.tangency.sigma)[inside]
        rows += [1 / seen.sigma_min[inside], potential[1:] / potential[:-1], seen.distance[inside], seen.departure]
    return stack(rows)


def _predict_steps(setup: Setup, outputs: float = 1.0) -> Estimate:
    values, errors = [], []
    for problem in problems(setup):
        seen, inside, start = trace(problem), _inside(problem), problem.tangency
        alpha, count = problem.alpha, int(inside.sum())
        rows = [np.full(count, 2 / start.sigma), np.ones(count - 1)]
        rows.append(np.full(count, 2 * start.residual_bound / (alpha * start.sigma)))
        rows.append(alpha * (seen.drift * seen.residual + outputs * start.sigma_top * seen.train_gap))
        reach = min(radius(problem), float(seen.distance[inside].max()) + seen.error)
        beta, slope = problem.smoothness(reach).value, alpha * start.sigma_max
        # A ratio of potentials has the error of two, relative to what is left of them, at least half of r_0.
        ratio = 8 * slope * seen.error / start.residual
        # A velocity has alpha J and J r in it; a departure divides an error of the gap by nothing.
        speed = 4 * slope * (slope * seen.error + 1e-13 * start.residual)
        each = [4 * beta * seen.error / start.sigma**2, ratio, seen.error, speed]
        values += rows
        errors += [np.full(row.size, one + 1e-13) for row, one in zip(rows, each, strict=True)]
    return Estimate(stack(values), stack(errors))


# The fall of the risk


def _energy() -> LazyProblem:
    return random_quadratic(2, 3.0, 0.9)


def _nodes(count: int, end: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre times and weights on [0, end], with the two ends as times of weight 0."""
    x, w = np.polynomial.legendre.leggauss(count)
    return np.concatenate([[0.0], 0.5 * end * (1 + x), [end]]), np.concatenate([[0.0], 0.5 * end * w, [0.0]])


def _falls(problem: LazyProblem, count: int) -> tuple[float, float, float]:
    r"""The fall of $\frac1{2n}\|r\|^2$, the integral of $\frac1{n^2}\|\alpha J^\top r\|^2$, and the error."""
    times, weights = _nodes(count)
    seen, n = trace(problem, tuple(times.tolist())), problem.y.size
    fall = float(seen.residual[0] ** 2 - seen.residual[-1] ** 2) / (2 * n)
    # The clock of the mean runs n times slower: dt = n ds.
    integral = float(weights @ seen.dissipation) / problem.rate / n**2 * n
    return fall, integral, 4 * problem.alpha * problem.tangency.sigma_max * seen.error * float(seen.residual[0]) / n


def _predict_fall(problem: LazyProblem, factor: Callable[[int], float] = lambda n: 1.0) -> Estimate:
    (_, value, error), (_, coarse, _) = _falls(problem, 32), _falls(problem, 16)
    return Estimate(np.array([factor(problem.y.size) * value]), abs(value - coarse) + error)


def _measure_fall(problem: LazyProblem, key) -> np.ndarray:
    return np.array([_falls(problem, 32)[0]])


CLAIMS = (
    Claim(
        id="LAZY-27",
        name="lazy-training-by-half",
        statement=(
            r"If $L_nr_0<\frac14\sigma_{min}^2$, the gradient flow of $\hat R=\frac1{2n}\|f-y\|^2$ has "
            r"$\hat R(\theta_t)\le e^{-\sigma_{min}^2t/(2n)}\hat R(\theta_0)$, "
            r"$\|\theta_t-\theta_0\|\le\frac2{\sigma_{min}}r_0$, "
            r"$\|\theta_t-\bar\theta_t\|\le\min\{\frac{32\sigma_{max}}{\sigma_{min}^2}r_0"
            r"+\frac{16L_n}{\sigma_{min}^3}r_0^2,\frac{180L_n\sigma_{max}^2}{\sigma_{min}^5}r_0^2\}$, and predictions "
            r"within $\{\frac{4\,\mathrm{Lip}(Df)}{\sigma_{min}^2}"
            r"+\frac{180\|Df\|L_n\sigma_{max}^2}{\sigma_{min}^5}\}r_0^2$ of its linearised twin's."
        ),
        sources=("bartlett2021deep",),
        setup=_covered,
        predict=_predict,
        measure=_measure,
        relation=AtMost(),
        assumptions=(certified_by(certify_statistical),),
        mutants=(
            Mutant("the rate of the linearised model", {"predict": partial(_predict, rate=4.0)}),
            Mutant("half the distance", {"predict": partial(_predict, far=0.5)}),
            Mutant(
                "a power of sigma_min lost in the coupling",
                {"setup": lambda: extremal(1e-3, 1e-6, 0.2), "predict": partial(_predict, power=1)},
            ),
            Mutant(
                "the condition without its quarter", {"setup": lambda: extremal(y=0.9), "assumptions": (_four_times,)}
            ),
        ),
    ),
    Claim(
        id="LAZY-28",
        name="steps-of-the-lazy-training-proof",
        statement=(
            r"While $\|\theta_t-\theta_0\|\le r_*=\frac{\sigma_{min}}{2L_n}$: "
            r"$\sigma_{min}(J_t)\ge\frac{\sigma_{min}}2$, the potential "
            r"$\|f_t-y\|+\frac{\sigma_{min}}2\|\theta_t-\theta_0\|$ does not rise, and so "
            r"$\|\theta_t-\theta_0\|\le\frac2{\sigma_{min}}r_0$; at all times $\frac d{dt}\|\theta_t-\bar\theta_t\|\le"
            r"\frac1n\|J_t-J_0\|\|f_t-y\|+\frac{\sigma_{max}}n\|f_t-\bar f_t\|$."
        ),
        sources=("bartlett2021deep",),
        setup=_steps,
        predict=_predict_steps,
        measure=_measure_steps,
        relation=AtMost(),
        assumptions=(certified_constant,),
        mutants=(
            Mutant("a potential without the half", {"measure": partial(_measure_steps, share=1.0)}),
            Mutant("the gap of the outputs forgotten", {"predict": partial(_predict_steps, outputs=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-28b",
        name="risk-falls-by-the-squared-gradient",
        statement=r"Along the flow of $\hat R=\frac1{2n}\|f-y\|^2$: $\frac d{dt}\hat R=-\frac1{n^2}\|J^\top(f-y)\|^2$.",
        sources=("bartlett2021deep",),
        setup=_energy,
        predict=_predict_fall,
        measure=_measure_fall,
        relation=Equal(),
        mutants=(
            Mutant("1/n for its square", {"predict": partial(_predict_fall, factor=lambda n: float(n))}),
            Mutant("a half of the loss", {"predict": partial(_predict_fall, factor=lambda n: 0.5)}),
        ),
    ),
)
