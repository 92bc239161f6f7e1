r"""Claims about the argument of Du and others, on runs of two-layer networks: LAZY-39 to LAZY-41 and LAZY-43.

Legend: as in ``runs`` and ``stability``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy import Shallow

from .examples import STEEPEST, lecture_run, mirrored_run, network, plateau, single, unit_rows
from .runs import Run, demand_runs, look, velocity
from .stability import sizes_of, slope_unknown
from .stopping import StoppingTimes, reach, stopping_times

Setup = Any


def smooth(setup: Setup) -> str | None:
    """The activation has a bounded slope that is Lipschitz."""
    whys = (slope_unknown(one.net.activation) for one in (setup if isinstance(setup, tuple) else (setup,)))
    return next((why for why in whys if why), None)


def positive(setup: Setup) -> str | None:
    """The kernel at the start is positive definite."""
    for run in demand_runs(setup):
        if not run.lambda0 > 64 * len(run.y) * np.finfo(float).eps * float(np.trace(run.grams[0])):
            return f"the tangent kernel of {run} is singular at its start (equal inputs?)"
    return None


def flowing(setup: Setup) -> str | None:
    """The run follows the gradient flow, as descent in steps does not."""
    if all(run.flow for run in demand_runs(setup)):
        return None
    return "it is about gradient flow, which the run is not known to follow; record(net, X, y, times) follows it"


def stack(rows: list) -> np.ndarray:
    """All rows in one array."""
    return np.concatenate([np.ravel(row) for row in rows])


# The decay of the loss


def _stable(run: Run) -> np.ndarray:
    r"""The moments up to which $K \succeq \frac{\lambda_0}2$ has held."""
    return np.minimum.accumulate(run.least_eigenvalues) >= 0.5 * run.lambda0


def _decay(setup: Setup, rate: float = 1.0, clock: Callable[[Run], float] = lambda run: len(run.y)) -> Estimate:
    r"""$e^{-\lambda_0t/n}$ while $K \succeq \frac{\lambda_0}2$; $e^{-2\mu t/n}$, $\mu$ the least eigenvalue so far."""
    bounds, errors = [], []
    for run in demand_runs(setup):
        so_far = np.minimum.accumulate(run.least_eigenvalues)
        # Between two moments the least eigenvalue may be lower, by what its curvature allows.
        lower = np.abs(np.diff(run.least_eigenvalues, 2)).max(initial=0.0) / 4
        stable, time = _stable(run), rate * run.times / clock(run)
        bounds += [np.exp(-run.lambda0 * time[stable])[1:], np.exp(-2 * so_far * time)[1:]]
        drift = np.sqrt(np.trace(run.grams[0]) * len(run.y)) * run.error / np.sqrt(run.losses[0])
        errors += [np.full(stable.sum() - 1, drift), drift + bounds[-1] * np.expm1(2 * lower * time[1:])]
    return Estimate(stack(bounds), stack(errors))


def _losses(setup: Setup, key) -> np.ndarray:
    rows = []
    for run in demand_runs(setup):
        left = run.losses / run.losses[0]
        rows += [left[_stable(run)][1:], left[1:]]
    return stack(rows)


# Stability of the kernel


@dataclass(frozen=True, eq=False)
class Moved:
    """A network and inputs, the sizes of moves that are tried, and whether all neurons move along the first input."""

    net: Shallow
    X: Float[np.ndarray, "n d"]
    moves: tuple[float, ...] = (1e-3, 0.03, 0.3)
    along: bool = False


def _moved() -> tuple[Moved, ...]:
    """Generic inputs; equal ones, moved where the slope changes fastest; and the activation for which 2 is attained."""
    rng = np.random.default_rng(1)
    X = unit_rows(rng, 6, 6)
    net = network(rng.normal(size=(64, 6)), rng.uniform(-1, 1, size=64), "sin")
    same = np.tile(X[:1], (6, 1))
    steep = network(np.full((64, 1), math.pi / 4) * X[:1], np.ones(64), "sin")
    return (
        Moved(net, X),
        Moved(steep, same, along=True),
        Moved(network(np.zeros((64, 6)), np.ones(64), STEEPEST), same, along=True),
    )


def _kernel_changes(setup: Setup, key) -> np.ndarray:
    """The largest of eight moves of each size."""
    rng = np.random.default_rng(np.asarray(jr.key_data(key)))
    return stack([[max(_change(case, move, rng) for _ in range(8)) for move in case.moves] for case in _cases(setup)])


def _change(case: Moved, move: float, rng: np.random.Generator) -> float:
    W = np.asarray(case.net.W)
    steps = np.tile(case.X[0], (len(W), 1)) if case.along else unit_rows(rng, *W.shape)
    # A neuron may also move by less, and a move along the input by its length at most.
    steps = move * steps / max(1.0, float(np.linalg.norm(case.X[0]))) if case.along else move * steps
    change = look(case.net, case.X, W + steps).gram - look(case.net, case.X, W).gram
    return float(np.linalg.norm(change, 2))


def _predict_changes(setup: Setup, factor: float = 1.0, entrywise: bool = False) -> Estimate:
    rows = []
    for case in _cases(setup):
        seen = sizes_of(case.net, case.X)
        rows.append(factor * (seen.entry_change(case.moves) if entrywise else seen.kernel_change(case.moves)))
    # Two kernels of norm n are subtracted.
    return Estimate(stack(rows), 64 * np.finfo(float).eps * max(len(case.X) for case in _cases(setup)))


def _cases(setup: Setup) -> tuple[Moved, ...]:
    return setup if isinstance(setup, tuple) else (setup,)


# The weights stay


def _staying() -> tuple[Run, ...]:
    """Runs of generic networks, and of single neurons for which the bound on the speed is attained at the start."""
    return lecture_run(), mirrored_run(), single(0.0, 0.3), plateau()


def _predict_travel(setup: Setup, root: float = 1.0) -> Estimate:
    bounds, errors = [], []
    for run in demand_runs(setup):
        seen, stable = sizes_of(run.net, run.X), _stable(run)
        bounds += [seen.speed(run.losses, run.width), np.full(stable.sum(), reach(run, seen)[1])]
        # Speed and loss are of the same weights, and differ by the rounding of sums of n terms.
        errors += [1e-12 * bounds[-2] + 1e-15, np.full(stable.sum(), run.error)]
    return Estimate(root * stack(bounds), stack(errors))


def _predict_short_travel(setup: Setup) -> Estimate:
    right = _predict_travel(setup)
    roots = [np.full(len(run.times) + _stable(run).sum(), math.sqrt(run.width)) for run in demand_runs(setup)]
    return Estimate(right.value / stack(roots), right.error)


def _travels(setup: Setup, key) -> np.ndarray:
    rows = []
    for run in demand_runs(setup):
        speeds = [np.linalg.norm(velocity(run.net, run.X, run.y, W), axis=1).max() for W in run.weights]
        rows += [speeds, run.moves.max(axis=1)[_stable(run)]]
    return stack(rows)


# The stopping times


def _stopping() -> tuple[Run, ...]:
    """A run that the theorem covers and three that it does not; on the last one both invariants break."""
    return mirrored_run(), lecture_run(), single(0.0, 0.49, STEEPEST), plateau()


When = Callable[[Run, StoppingTimes], float]


def _sides(setup: Setup, moved: When, kernel: When) -> tuple[list, list, list]:
    """The two invariants, each up to the time at which the other breaks: measured, their bounds, and errors."""
    measured, bounds, errors = [], [], []
    for run in demand_runs(setup):
        seen = stopping_times(run)
        first, second = (run.times < when(run, seen) for when in (moved, kernel))
        measured += [1 / seen.least_eigenvalues[first], seen.moves[second]]
        bounds += [np.full(first.sum(), 2 / seen.lambda0), np.full(second.sum(), seen.travel)]
        change = float(sizes_of(run.net, run.X).kernel_change(run.error)) + 1e-14
        errors += [np.full(first.sum(), change * (2 / seen.lambda0) ** 2), np.full(second.sum(), run.error)]
    return measured, bounds, errors


def _moved_at(run: Run, seen: StoppingTimes) -> float:
    return seen.moved_at


def _kernel_at(run: Run, seen: StoppingTimes) -> float:
    return seen.kernel_at


def _twice_moved_at(run: Run, seen: StoppingTimes) -> float:
    r"""For $\Delta = \frac{\lambda_0}{2n}$."""
    late = seen.moves > 2 * seen.allowed
    return float(seen.times[np.argmax(late)]) if np.any(late) else math.inf


def _largest_at(run: Run, seen: StoppingTimes) -> float:
    r"""As printed, $\inf\{t : K \preceq \frac{\lambda_0}2I\}$: when the *largest* eigenvalue has fallen so far."""
    low = np.linalg.eigvalsh(run.grams)[:, -1] <= 0.5 * seen.lambda0
    return float(run.times[np.argmax(low)]) if np.any(low) else math.inf


def _measure_invariants(setup: Setup, key, moved: When = _moved_at, kernel: When = _kernel_at) -> np.ndarray:
    return stack(_sides(setup, moved, kernel)[0])


def _predict_invariants(setup: Setup, moved: When = _moved_at, kernel: When = _kernel_at) -> Estimate:
    _, bounds, errors = _sides(setup, moved, kernel)
    return Estimate(stack(bounds), stack(errors))


def _wrong(**when: When) -> dict[str, Callable]:
    return {"predict": partial(_predict_invariants, **when), "measure": partial(_measure_invariants, **when)}


CLAIMS = (
    Claim(
        id="LAZY-39",
        name="loss-decays-while-the-kernel-is-large",
        statement=(
            r"On $\dot\theta=-\eta\nabla\mathcal L$ with $\mathcal L=\frac1{2n}\|z-y\|^2$ the outputs follow "
            r"$\dot z=-\frac\eta nK(z-y)$; while $K\succeq\mu I$ the loss is at most $e^{-2\eta\mu t/n}\mathcal L(0)$, "
            r"with $\mu=\lambda_0/2$ at most $e^{-\eta\lambda_0t/n}\mathcal L(0)$."
        ),
        sources=("du2019gradient", "jacot2018neural"),
        setup=lambda: (lecture_run(), lecture_run(64, 0.4), mirrored_run()),
        predict=_decay,
        measure=_losses,
        relation=AtMost(),
        assumptions=(positive, flowing),
        mutants=(
            Mutant("twice the rate", {"predict": partial(_decay, rate=2.0)}),
            Mutant("time not divided by n", {"predict": partial(_decay, clock=lambda run: 1.0)}),
        ),
    ),
    Claim(
        id="LAZY-40",
        name="kernel-is-stable-while-weights-stay",
        statement=(
            r"With $|w^{(2)}_i|,|\sigma'|,|\sigma''|,\|x\|\le1$ and no neuron moved by more than $\Delta$, "
            r"$\|K-K_0\|\le2n\Delta$; so $K\succeq\frac{\lambda_0}2$ for $\Delta=\frac{\lambda_0}{4n}$, and for "
            r"$\frac{\lambda_0}{8n}$ even $K\succeq\frac34\lambda_0$."
        ),
        sources=("du2019gradient",),
        setup=_moved,
        predict=_predict_changes,
        measure=_kernel_changes,
        relation=AtMost(),
        assumptions=(smooth,),
        draws=3,
        mutants=(
            Mutant("the bound on one entry", {"predict": partial(_predict_changes, entrywise=True)}),
            Mutant("without the two", {"predict": partial(_predict_changes, factor=0.5)}),
        ),
    ),
    Claim(
        id="LAZY-41",
        name="weights-stay-while-the-kernel-is-large",
        statement=(
            r"Every neuron has $\|\dot w_i\|\le\frac\eta{\sqrt N}\sqrt{2\mathcal L}$; while "
            r"$K\succeq\frac{\lambda_0}2$ it therefore moves by at most "
            r"$\Delta^*=\frac{2n\sqrt{2\mathcal L(0)}}{\lambda_0\sqrt N}$."
        ),
        sources=("du2019gradient",),
        setup=_staying,
        predict=_predict_travel,
        measure=_travels,
        relation=AtMost(),
        assumptions=(smooth, positive, flowing),
        mutants=(
            Mutant("root of two lost", {"predict": partial(_predict_travel, root=math.sqrt(0.5))}),
            Mutant("1/N for its root", {"predict": _predict_short_travel}),
        ),
    ),
    Claim(
        id="LAZY-43",
        name="neither-invariant-breaks-first",
        statement=(
            r"Up to the first time at which a neuron has moved by more than $\Delta=\frac{\lambda_0}{4n}$, "
            r"$\lambda_{min}(K)\ge\frac{\lambda_0}2$; up to the first time at which "
            r"$\lambda_{min}(K)<\frac{\lambda_0}2$, no neuron has moved by more than $\Delta^*$; so for "
            r"$\Delta^*<\Delta$ neither time ever comes."
        ),
        sources=("du2019gradient",),
        setup=_stopping,
        predict=_predict_invariants,
        measure=_measure_invariants,
        relation=AtMost(),
        assumptions=(smooth, positive, flowing),
        derived_here=True,
        mutants=(
            Mutant("the largest eigenvalue stops the clock", _wrong(kernel=_largest_at)),
            Mutant("moves of twice the size", _wrong(moved=_twice_moved_at)),
        ),
    ),
)
