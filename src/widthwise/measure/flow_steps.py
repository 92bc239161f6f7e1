r"""The steps of the exponential integrator: how long they are, when the kernel is renewed, and what is saved.

Legend: as in ``exponential``; $\tau$ the time in units of 1/rate, h the step, tol what a step may be wrong by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .exponential import (
    EVALUATIONS,
    SWEEPS,
    Basis,
    Numbers,
    Pieces,
    Step,
    attempt,
    basis_at,
    length_to,
    linear,
    place,
    residual_at,
)
from .flow_result import FlowCode

# A step's length changes by no more than this, and aims at a little less than the tolerance.
_SHRINK, _GROW, _AIM = 0.2, 10.0, 0.9
# The kernel is renewed after so many steps, or when steps grow less than they did on a fresh one by this factor.
_PATIENCE, _SLOWER = 4, 1.5


@dataclass
class Walk:
    """What was saved on the way, of ``shape`` (n, p), and the account of it."""

    keep: str
    shape: tuple[int, int]
    times: list[float] = field(default_factory=list)
    displacements: list[np.ndarray] = field(default_factory=list)
    residuals: list[np.ndarray] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    error: float = 0.0
    steps: int = 0
    attempts: int = 0
    kernels: int = 0
    last: float = 0.0
    code: FlowCode = FlowCode.SUCCESSFUL

    @property
    def evaluations(self) -> int:
        return EVALUATIONS * self.attempts

    def save(self, time: float, displacement: Array, residual: Array, length: float) -> bool:
        """Save one point; ``False`` where it is not finite."""
        outputs = np.asarray(residual)
        if not (np.all(np.isfinite(outputs)) and math.isfinite(length)):
            return False
        if self.keep == "last":
            self.displacements.clear()
        self.displacements.append(np.asarray(displacement))
        self.times.append(time)
        self.residuals.append(outputs)
        self.distances.append(float(np.linalg.norm(self.displacements[-1])))
        self.lengths.append(length)
        return True


@dataclass(frozen=True)
class Problem:
    """A flow to follow: ``f`` from ``w0`` towards ``y``, the kernel of f, and the two ``numbers``."""

    f: Callable
    w0: Array
    y: Array
    numbers: Numbers
    kernel: Callable | None

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers n of outputs and p of parameters."""
        return self.y.size, self.w0.size

    def basis(self, moved: Array) -> Basis:
        return basis_at(self.f, self.kernel, self.w0 + moved, self.numbers.alpha)

    def residual(self, moved: Array) -> Array:
        return residual_at(self.f, self.y, self.numbers, self.w0 + moved)

    def fastest(self, basis: Basis) -> float:
        return float(jnp.max(basis.values) / self.numbers.rate)


def walk(
    problem: Problem,
    times: np.ndarray,
    tolerance: float,
    max_steps: int,
    keep: str = "all",
    progress: Callable[[float], None] | None = None,
) -> Walk:
    """Step from 0 to the last of the ``times``, which need not be ends of steps."""
    seen, end = Walk(keep, problem.shape, kernels=1), float(times[-1])
    moved, length, age = jnp.zeros_like(problem.w0), 0.0, 0
    basis = problem.basis(moved)
    # The fastest decay decides about the first step; its error decides about the next.
    h = min(end, 1.0 / max(problem.fastest(basis), 1.0 / end))
    on_fresh = _GROW
    while seen.last < end:
        if seen.attempts >= max_steps:
            return _ended(seen, FlowCode.TOO_MANY_STEPS)
        h = end - seen.last if seen.last + 1.01 * h >= end else h
        where, size = problem.w0 + moved, jnp.asarray(h)
        step = attempt(problem.f, problem.y, problem.numbers, basis, where, jnp.asarray(age == 0), size)
        seen.attempts += 1
        allowed = tolerance + float(step.noise)
        accepted, factor = _judged(float(step.error), allowed)
        if accepted:
            if not _saved(seen, problem, times, basis, step, moved, length, h):
                return _ended(seen, FlowCode.NOT_FINITE)
            seen.last = end if h == end - seen.last else seen.last + h
            moved, length = moved + step.moved, length + float(step.length)
            seen.error, seen.steps, age = seen.error + allowed, seen.steps + 1, age + 1
            on_fresh = factor if age == 1 else on_fresh
            if not _told(progress, seen.last / end):
                return _ended(seen, FlowCode.INTERRUPTED)
        h *= factor
        if seen.last + h <= seen.last or h < 1e-18 * end:
            finite = math.isfinite(float(step.error))
            return _ended(seen, FlowCode.STEP_TOO_SMALL if finite else FlowCode.NOT_FINITE)
        due = age >= _PATIENCE or factor < min(2.0, on_fresh / _SLOWER)
        if age > 0 and seen.last < end and (due or not accepted):
            basis, age, seen.kernels = problem.basis(moved), 0, seen.kernels + 1
    return seen


def _judged(error: float, allowed: float) -> tuple[bool, float]:
    """Whether a step is accepted, and by what to change its length."""
    if not math.isfinite(error):
        return False, _SHRINK
    # The estimate is the error of the last sweep but one.
    factor = _AIM * (allowed / max(error, 1e-300)) ** (1.0 / (SWEEPS + 1))
    return error <= allowed, min(_GROW, max(_SHRINK, factor))


def _told(progress: Callable[[float], None] | None, part: float) -> bool:
    if progress is None:
        return True
    try:
        progress(part)
    except StopIteration:
        return False
    return True


def _ended(seen: Walk, code: FlowCode) -> Walk:
    seen.code = code
    return seen


def _saved(
    seen: Walk, problem: Problem, times: np.ndarray, basis: Basis, step: Step, moved: Array, length: float, h: float
) -> bool:
    """Save all times that lie in a step."""
    reached = seen.last + h if h != times[-1] - seen.last else times[-1]
    for time in times[len(seen.times) :]:
        if time > reached:
            return True
        here = jnp.asarray(min(1.0, (time - seen.last) / h))
        there, long = _point(problem, basis, step.pieces, jnp.asarray(h), here)
        if not seen.save(float(time), moved + there, problem.residual(moved + there), length + long):
            return False
    return True


def _point(problem: Problem, basis: Basis, pieces: Pieces, h: Array, theta: Array) -> tuple[Array, float]:
    there = place(problem.f, basis, problem.numbers, pieces, h, theta)
    return there, float(length_to(basis, problem.numbers, pieces, h, theta))


def tangent_walk(problem: Problem, times: np.ndarray, keep: str = "all") -> Walk:
    """The flow of the linear model at w0, all times in one step: nothing of it is approximated but the kernel."""
    seen, h = Walk(keep, problem.shape, kernels=1, steps=1), jnp.asarray(times[-1])
    basis = problem.basis(jnp.zeros_like(problem.w0))
    residual = problem.residual(jnp.zeros_like(problem.w0))
    pieces, noise = linear(problem.f, problem.y, problem.numbers, basis)
    along, rates = basis.vectors.T @ residual, basis.values / problem.numbers.rate
    for time in times:
        there, long = _point(problem, basis, pieces, h, jnp.asarray(time / times[-1]))
        seen.save(float(time), there, basis.vectors @ (jnp.exp(-rates * time) * along), long)
    seen.last = float(times[-1])
    # The eigenvalues are wrong by some roundings of the largest one, which moves a decaying coordinate by so much;
    # those taken for 0 are no larger, and what moves evenly moves at least as far as what decays.
    rounding = basis.values.size * float(np.finfo(float).eps) * problem.fastest(basis) * seen.last
    seen.error = rounding * max(seen.lengths) + float(noise) * seen.last
    return seen
