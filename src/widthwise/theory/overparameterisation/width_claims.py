r"""Claims about the width that is enough (LAZY-42), on runs of networks that have it.

Legend: as in ``runs`` and ``stability``.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy import BallBounds, Smoothness, certify, shallow_problem

from .examples import STEEPEST, lecture_case, mirrored_run, single
from .runs import Run, demand_runs
from .stability import sizes_of, sufficient_width
from .stability_claims import flowing, positive, smooth, stack
from .stopping import reach

Setup = Any


def _needed(condition: str, run: Run, power: int = 0) -> float:
    r"""The width that a condition asks for, with some powers of $\lambda_0$ lost."""
    seen = sizes_of(run.net, run.X)
    return sufficient_width(condition, seen, float(run.losses[0]), run.lambda0) * run.lambda0**power


def _wide(condition: str, power: int = 0) -> Callable[[Setup], str | None]:
    def wide(setup: Setup) -> str | None:
        """The network has the width that the condition asks for."""
        for run in demand_runs(setup):
            if not run.width > (needed := _needed(condition, run, power)):
                return f"the width {run.width} is below the {needed:.4g} that the condition asks for"
        return None

    return wide


def _consequences(setup: Setup, share: float = 0.5) -> Estimate:
    r"""Moves, $1/\lambda_{min}$ and losses under the condition of Du and others."""
    bounds, errors = [], []
    for run in demand_runs(setup):
        seen, count = sizes_of(run.net, run.X), len(run.times)
        change = float(seen.kernel_change(run.error)) + 1e-14
        drift = np.sqrt(np.trace(run.grams[0]) * len(run.y) / run.losses[0]) * run.error
        bounds += [np.full(count, min(reach(run, seen))), np.full(count, 1 / (share * run.lambda0))]
        bounds += [np.exp(-run.lambda0 * run.times / len(run.y))[1:]]
        errors += [np.full(count, run.error), np.full(count, change * (2 / run.lambda0) ** 2)]
        errors += [np.full(count - 1, drift)]
    return Estimate(stack(bounds), stack(errors))


def _outcomes(setup: Setup, key) -> np.ndarray:
    rows = []
    for run in demand_runs(setup):
        rows += [run.moves.max(axis=1), 1 / run.least_eigenvalues, run.losses[1:] / run.losses[0]]
    return stack(rows)


def _ball(run: Run) -> BallBounds:
    """The bounds of the sharp ball certificate."""
    seen = sizes_of(run.net, run.X)
    beta = seen.readout * seen.curvature * np.sqrt(seen.squares / run.width)
    r0 = np.sqrt(2 * len(run.y) * run.losses[0])
    return BallBounds(float(np.sqrt(run.lambda0)), float(beta), float(r0), 1.0)


def _ball_consequences(setup: Setup) -> Estimate:
    r"""Residuals, distances and $1/\sigma_{min}$."""
    bounds, errors = [], []
    for run in demand_runs(setup):
        ball, count = _ball(run), len(run.times)
        # The half-sum loss has the clock t/n.
        time = run.times / len(run.y)
        # Without a certificate there is no bound on it.
        least = np.maximum(ball.smallest_singular_value(np.full(count, np.inf)), 1e-100)
        bounds += [ball.residual(time), np.full(count, ball.path(np.inf)), 1 / least]
        largest = np.sqrt(np.trace(run.grams[0])) + ball.beta * float(ball.path(np.inf))
        rounding = ball.beta * run.error + 1e-12 * largest**2 / least
        errors += [np.full(count, largest * run.error), np.full(count, run.error), rounding / least**2]
    return Estimate(stack(bounds), stack(errors))


def _ball_outcomes(setup: Setup, key) -> np.ndarray:
    rows = []
    for run in demand_runs(setup):
        distance = np.linalg.norm(run.moves, axis=1)
        rows += [np.sqrt(2 * len(run.y) * run.losses), distance, 1 / np.sqrt(run.least_eigenvalues)]
    return stack(rows)


def _starts() -> tuple[Run, ...]:
    """Networks of the lectures at their starts, with targets of two sizes."""
    found = []
    for seed in (1, 2):
        net, X, y = lecture_case(64, seed=seed)
        found += [Run(net, X, size * y, np.zeros(1), np.asarray(net.W)[None]) for size in (0.1, 1.0)]
    return tuple(found)


def _predict_width(setup: Setup, condition: str = "data") -> Estimate:
    value = np.array([_needed(condition, run) for run in demand_runs(setup)])
    # The certificate has its margins for rounding.
    return Estimate(value, 1e-8 * value)


def _measure_width(setup: Setup, key) -> np.ndarray:
    return np.array([_certified_from(run) for run in demand_runs(setup)])


def _certified_from(run: Run) -> float:
    r"""$Nh^2$ with the h of the differentiated network, nan unless it is certified just above this width only."""
    problem = shallow_problem(run.net, run.X, run.y)
    width = run.width * problem.h**2

    def holds(other: float) -> bool:
        """Of a network of another width with this kernel and these outputs."""
        beta = problem.smoothness(0.0).value * np.sqrt(run.width / other)
        return certify(replace(problem, smoothness=Smoothness(float(beta), True))).certified

    return width if holds((1 + 1e-6) * width) and not holds((1 - 1e-6) * width) else float("nan")


def _covered() -> tuple[Run, ...]:
    """Networks with the width of the Du-type condition; single neurons come near to it."""
    return mirrored_run(), single(0.0, 0.12), single(0.0, 0.12, STEEPEST)


def _printed() -> tuple[Run, ...]:
    """Networks just above the printed width."""
    return mirrored_run(), single(0.0, 0.35), single(0.0, 0.35, STEEPEST)


CLAIMS = (
    Claim(
        id="LAZY-42",
        name="wide-enough-for-every-neuron-to-stay",
        statement=(
            r"If $N>128\,n^4\mathcal L(0)/\lambda_0^4$, every neuron stays within "
            r"$\Delta^*<\Delta=\frac{\lambda_0}{4n}$, $K\succeq\frac{\lambda_0}2$ for all times, and "
            r"$\mathcal L\le e^{-\eta\lambda_0t/n}\mathcal L(0)$."
        ),
        sources=("du2019gradient",),
        setup=_covered,
        predict=_consequences,
        measure=_outcomes,
        relation=AtMost(),
        assumptions=(smooth, positive, flowing, _wide("du")),
        mutants=(
            Mutant(
                "two powers of lambda_0 lost",
                {"setup": lambda: single(0.6, 0.4378, STEEPEST), "assumptions": (_wide("du", power=2),)},
            ),
            Mutant("a kernel that does not fall", {"predict": partial(_consequences, share=1.0)}),
        ),
    ),
    Claim(
        id="LAZY-42b",
        name="width-at-which-the-ball-certificate-applies",
        statement=(
            r"The sharp ball certificate applies, $h<1$, exactly for "
            r"$N>8n\mathcal L(0)s_2^2\|w^{(2)}\|_\infty^2\lambda_{max}(G\circ G)/\lambda_0^2$, where "
            r"$\lambda_{max}(G\circ G)\le n$ for unit inputs."
        ),
        sources=("du2019gradient", "oymak2020toward"),
        setup=_starts,
        predict=_predict_width,
        measure=_measure_width,
        relation=Equal(),
        assumptions=(smooth, positive),
        derived_here=True,
        mutants=(
            Mutant("as printed", {"predict": partial(_predict_width, condition="printed")}),
            Mutant("the bound on the squared Gram matrix", {"predict": partial(_predict_width, condition="simple")}),
            Mutant("every neuron on its own", {"predict": partial(_predict_width, condition="du")}),
        ),
    ),
    Claim(
        id="LAZY-42c",
        name="printed-width-is-enough",
        statement=(
            r"The width $N>16n^2\mathcal L(0)/\lambda_0^2$, printed by an algebra that lost powers, is enough "
            r"nevertheless, and so is half of it: it makes $h\le1$ in the sharp ball certificate, whose bounds on "
            r"residual, distance and $\sigma_{min}$ then hold for all times."
        ),
        sources=("du2019gradient",),
        setup=_printed,
        predict=_ball_consequences,
        measure=_ball_outcomes,
        relation=AtMost(),
        assumptions=(smooth, positive, flowing, _wide("simple")),
        derived_here=True,
        mutants=(
            Mutant(
                "lambda_0 not squared",
                {"setup": lambda: single(1.2661, 1.045), "assumptions": (_wide("printed", power=1),)},
            ),
        ),
    ),
)
