"""The four relations in which a measurement can stand to a prediction.

Each takes the prediction (with a bound on its error) and the draws of the measurement (first
axis: independent draws) and gives a status and a slack. Statistics live here and nowhere else.
"""

import abc
import enum
import math

import equinox as eqx
import numpy as np
from scipy.special import ndtr, stdtrit

from widthwise.numerics import Estimate, exponent_estimate, mean_and_sem


class Status(enum.Enum):
    """What became of a claim."""

    HOLDS = "holds"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


class Judgement(eqx.Module):
    """A status, the measured estimate, the slack and, where the status needs one, a reason.

    The slack is measured/predicted for a bound (at most 1 where it holds), and the largest
    deviation in units of its error bar for an equality.
    """

    status: Status
    measured: Estimate
    slack: float
    reason: str = ""


class AbstractRelation(eqx.Module):
    """How measured draws must stand to a prediction."""

    @abc.abstractmethod
    def judge(self, predicted: Estimate, draws: np.ndarray) -> Judgement:
        """Hold the draws (k, ...) against the prediction (...)."""


class Equal(AbstractRelation):
    r"""Measured = predicted: $|\bar m - p| \le \epsilon_p + 5\,\mathrm{sem}$ in every component.

    With few draws the 5 is replaced by Student's quantile of the same probability.

    It demands *power* too: the bar $\epsilon_p + \mathrm{sem}$ must be below ``resolution``
    times the largest predicted value (or ``scale`` when given), or else the answer is
    *inconclusive*. Identical draws count as a deterministic measurement without spread.
    """

    sigmas: float = 5.0
    resolution: float = 0.01
    scale: float | None = None

    def judge(self, predicted, draws):
        measured = _spread(draws)
        error = np.broadcast_to(predicted.error, np.shape(measured.value))
        width = quantile(self.sigmas, len(draws)) if np.any(measured.error) else self.sigmas
        bar = error + width * measured.error
        deviation = np.abs(measured.value - np.asarray(predicted.value))
        scale = self.scale or float(np.max(np.abs(predicted.value), initial=0.0))
        slack = _ratio(deviation, bar)
        if not np.all(np.isfinite(deviation)):
            return Judgement(Status.VIOLATED, measured, math.inf, "a measured value is not finite")
        if np.any(deviation > bar):
            return Judgement(Status.VIOLATED, measured, slack)
        if np.any(error + width / self.sigmas * measured.error > self.resolution * scale):
            return Judgement(Status.INCONCLUSIVE, measured, slack, "the error bar is too wide to tell; use more draws")
        return Judgement(Status.HOLDS, measured, slack)


class AtMost(AbstractRelation):
    """Measured <= predicted + its error, for every draw, or for the mean over draws.

    ``of="every"`` is for theorems that hold for each network; ``of="mean"`` for bounds on
    expectations, where the bar is five standard errors.
    """

    of: str = "every"
    sigmas: float = 5.0

    def judge(self, predicted, draws):
        return _judge_bound(self, predicted, draws, sign=1.0)


class AtLeast(AbstractRelation):
    """Measured >= predicted - its error, for every draw, or for the mean over draws."""

    of: str = "every"
    sigmas: float = 5.0

    def judge(self, predicted, draws):
        return _judge_bound(self, predicted, draws, sign=-1.0)


class Scaling(AbstractRelation):
    r"""Measured values over ``sizes`` follow $C_0\,n^p(1+C_1/n)$ with the predicted exponent $p$.

    The draws have shape (k, len(sizes)); the exponent of their root mean square is fitted with
    its finite-size correction, its error by bootstrap. It holds when the fit is within five
    errors of the prediction and the error is below ``resolution``.
    """

    sizes: tuple[float, ...]
    sigmas: float = 5.0
    resolution: float = 0.1

    def judge(self, predicted, draws):
        fitted = exponent_estimate(self.sizes, draws)
        deviation, bar = abs(fitted.value - float(predicted.value)), self.sigmas * fitted.error + float(predicted.error)
        slack = deviation / bar if bar else math.inf
        if deviation > bar:
            return Judgement(Status.VIOLATED, fitted, slack)
        if fitted.error > self.resolution:
            return Judgement(Status.INCONCLUSIVE, fitted, slack, "the exponent's error is too wide; use more draws")
        return Judgement(Status.HOLDS, fitted, slack)


def quantile(sigmas: float, draws: int) -> float:
    """Student's quantile that so many draws need for the probability of so many normal sigmas.

    >>> round(quantile(5.0, 10**6), 3), round(quantile(5.0, 10), 1)
    (5.0, 12.4)
    """
    return float(-stdtrit(draws - 1, ndtr(-sigmas))) if draws > 1 else math.inf


def least_draws(relation: AbstractRelation) -> int:
    """The draws below which a random measurement has no error bar under this relation."""
    if isinstance(relation, Scaling):
        return 8
    return 1 if getattr(relation, "of", "mean") == "every" else 2


def _spread(draws: np.ndarray) -> Estimate:
    """Mean and standard error; identical draws have none, a single draw is taken as deterministic."""
    if len(draws) == 1 or np.all(draws == draws[:1]):
        return Estimate(draws[0], np.zeros(draws.shape[1:]))
    return mean_and_sem(draws)


def _ratio(above: np.ndarray | float, below: np.ndarray | float) -> float:
    """Largest above/below, where 0/0 counts as 0."""
    safe = np.where(below == 0, 1.0, below)
    ratio = np.where(below == 0, np.where(above == 0, 0.0, math.inf), above / safe)
    return float(np.max(ratio, initial=0.0))


def _judge_bound(relation, predicted: Estimate, draws: np.ndarray, sign: float) -> Judgement:
    spread = _spread(draws)
    every = relation.of == "every"
    worst = np.asarray((draws.max(axis=0) if sign > 0 else draws.min(axis=0)) if every else spread.value)
    bar = np.broadcast_to(predicted.error, np.shape(worst)) + (
        0.0 if every or not np.any(spread.error) else quantile(relation.sigmas, len(draws)) * spread.error
    )
    bound, measured = np.asarray(predicted.value, dtype=float), Estimate(worst, 0.0 if every else spread.error)
    slack = _ratio(worst, bound) if sign > 0 else _ratio(bound, worst)
    excess = sign * (worst - bound)
    if np.any(np.isnan(excess)) or np.any(excess > bar):
        return Judgement(Status.VIOLATED, measured, slack)
    if not every and np.any(excess > -bar):
        return Judgement(Status.INCONCLUSIVE, measured, slack, "the bound lies inside the error bar; use more draws")
    return Judgement(Status.HOLDS, measured, slack)
