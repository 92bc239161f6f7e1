r"""The stopping time of the laziness argument, watched along a recorded run.

Legend: as in ``stability``. $T_\Delta$ is the first moment at which a neuron has moved by more than $\Delta$, $T_K$
the first at which $\lambda_{min}(K) < \frac{\lambda_0}2$. The argument says: $K \succeq \frac{\lambda_0}2$ up to
$T_\Delta$, and no neuron moves by more than $\Delta^*$ up to $T_K$. For $\Delta^* < \Delta$ neither can come first, so
that both are infinite.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from widthwise.numerics import reject

from .runs import Run
from .stability import Sizes, sizes_of


@dataclass(frozen=True, eq=False)
class StoppingTimes:
    r"""The two invariants at every moment of a run, and when the first of them broke.

    ``moves`` (k,): the largest $\|w_i(t) - w_i(0)\|$; ``least_eigenvalues`` (k,): $\lambda_{min}(K)$; ``allowed``:
    $\Delta$; ``travel``: $\Delta^*$; ``lambda0``; ``error``: that of a move.
    """

    times: Float[np.ndarray, " k"]
    moves: Float[np.ndarray, " k"]
    least_eigenvalues: Float[np.ndarray, " k"]
    allowed: float
    travel: float
    lambda0: float
    error: float = 0.0

    @property
    def applies(self) -> bool:
        r"""Whether $\Delta^* < \Delta$: the width condition, under which neither invariant ever breaks."""
        return self.travel < self.allowed

    @property
    def move_slack(self) -> Float[np.ndarray, " k"]:
        r"""$(\Delta - \max_i\|w_i(t) - w_i(0)\|)/\Delta$, negative from $T_\Delta$ on."""
        return 1.0 - self.moves / self.allowed

    @property
    def kernel_slack(self) -> Float[np.ndarray, " k"]:
        r"""$\lambda_{min}(K)/\frac{\lambda_0}2 - 1$, which starts at 1 and is negative from $T_K$ on."""
        return self.least_eigenvalues / (0.5 * self.lambda0) - 1.0

    @property
    def moved_at(self) -> float:
        r"""$T_\Delta$ among the recorded moments, infinite where it does not come."""
        return self._first(self.move_slack < 0)

    @property
    def kernel_at(self) -> float:
        r"""$T_K$ among the recorded moments, infinite where it does not come."""
        return self._first(self.kernel_slack < 0)

    def _first(self, broken: np.ndarray) -> float:
        return float(self.times[np.argmax(broken)]) if np.any(broken) else math.inf

    def __str__(self) -> str:
        where = "applies" if self.applies else "does not apply"
        told = [
            f"{len(self.times)} moments; the width condition {where}: "
            f"Delta* = {self.travel:.4g}, Delta = {self.allowed:.4g}",
            f"largest move {self.moves.max():.4g}, least slack {self.move_slack.min():.4g}, {_when(self.moved_at)}",
            f"least lambda_min/lambda_0 = {self.least_eigenvalues.min() / self.lambda0:.4g}, "
            f"least slack {self.kernel_slack.min():.4g}, {_when(self.kernel_at)}",
        ]
        return "\n".join(told)

    def __repr__(self) -> str:
        return (
            f"StoppingTimes({len(self.times)} moments, moves broke {self.moved_at:g}, kernel broke {self.kernel_at:g})"
        )


def _when(time: float) -> str:
    return "never broken" if math.isinf(time) else f"broken at {time:.4g}"


def stopping_times(run: Run) -> StoppingTimes:
    r"""Watch the invariants $\|w_i - w_i(0)\| \le \Delta = \frac{\lambda_0}{4nc^2s_1s_2R^3}$, $\lambda_{min}(K) \ge
    \frac{\lambda_0}2$.

    Any recorded run of a two-layer network will do, also one of gradient descent, of which the theorem itself does not
    speak. Raises ``ValueError`` for an activation without a Lipschitz slope and for a singular kernel at the start.
    Source: du2019gradient; the stopping time is defined here so that the argument closes.

    >>> from widthwise.theory.overparameterisation.examples import plateau
    >>> seen = stopping_times(plateau())
    >>> seen.applies, seen.moved_at < seen.kernel_at < np.inf
    (False, True)
    """
    seen = sizes_of(run.net, run.X)
    if not run.lambda0 > _rounding(run):
        reject(
            f"a kernel with lambda_0 = {run.lambda0:.3g} at the start",
            "The argument needs it to be positive definite",
            "Remove equal inputs, or take a wider network",
        )
    allowed, travel = reach(run, seen)
    return StoppingTimes(
        run.times, run.moves.max(axis=1), run.least_eigenvalues, allowed, travel, run.lambda0, run.error
    )


def reach(run: Run, seen: Sizes) -> tuple[float, float]:
    r"""$\Delta$ and $\Delta^*$ of a run."""
    return seen.allowed_move(run.lambda0), seen.travel(float(run.losses[0]), run.lambda0, run.width)


def _rounding(run: Run) -> float:
    return 64 * len(run.y) * np.finfo(float).eps * float(np.trace(run.grams[0]))
