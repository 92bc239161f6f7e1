r"""Whether a schedule of learning rates converges under noisy gradients, by the conditions of Robbins and Monro.

Legend: $w_{t+1} = w_t - \eta_t(\lambda w_t + \xi_t)$ on a mode of curvature $\lambda$, with independent noise $\xi_t$
of mean 0 and standard deviation s; $v_t = E\,w_t^2$.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from widthwise.numerics import UpdateRule, demand_count, reject

from .schedules import checked_value

Answer = bool | None
_BLOCKS = 5  # of doubling length, at the end of what is looked at


@dataclass(frozen=True, eq=False)
class ScheduleCheck:
    r"""What a schedule does in the long run, judged from its first ``len(rates)`` steps; None is *inconclusive*.

    ``sum_diverges``: $\sum\eta_t = \infty$; ``vanishes``: $\eta_t \to 0$; ``squares_converge``:
    $\sum\eta_t^2 < \infty$; ``stable``: $\eta_t\lambda < 2$ at the end. ``exponent`` p of $\eta_t \sim t^{-p}$, NaN
    where the end is no power law. ``variance`` (T + 1, modes): $v_t$, exactly, from the start on.
    """

    rates: Float[np.ndarray, " T"]
    curvature: Float[np.ndarray, " modes"]
    variance: Float[np.ndarray, "T1 modes"]
    exponent: float
    sum_diverges: Answer
    vanishes: Answer
    squares_converge: Answer
    stable: bool
    noisy: bool = True

    @property
    def mean_square(self) -> Answer:
        r"""Whether $v_t \to 0$: iff the sum diverges, the rates vanish (where there is noise) and are stable."""
        return _all(self.sum_diverges, self.vanishes if self.noisy else True, self.stable)

    @property
    def almost_surely(self) -> Answer:
        """Whether the three conditions of Robbins and Monro hold, which suffice for convergence with probability 1."""
        return _all(self.sum_diverges, self.squares_converge, self.stable)

    def __str__(self) -> str:
        words = {True: "yes", False: "no", None: "inconclusive"}
        names = ("sum_diverges", "vanishes", "squares_converge", "stable", "mean_square", "almost_surely")
        return ", ".join(f"{name}: {words[getattr(self, name)]}" for name in names)


def check_schedule(
    schedule: float | Callable[[Any], Any],
    curvature: float | Sequence | np.ndarray | Array,
    noise: float,
    *,
    steps: int = 65_536,
    start: float = 1.0,
) -> ScheduleCheck:
    r"""Hold a schedule of learning rates against the conditions of Robbins and Monro; compute the variance it leaves.

    $v_{t+1} = (1-\eta_t\lambda)^2v_t + \eta_t^2s^2$ is exact. The sums are judged by their last blocks of doubling
    length: block sums that shrink by a steady factor belong to a convergent series, steady or growing ones to a
    divergent one, and where the factor still drifts towards 1 (as for $1/(t\log t)$) the answer is None. What the
    schedule does after ``steps`` is taken to go on like the last blocks.

    Args:
        schedule: step (0, 1, ...) -> rate, for example of optax, or a number for a constant rate.
        curvature: $\lambda > 0$, one or several modes.
        noise: s, the standard deviation of the gradient's noise in each mode.
        steps: how far to look, at least 64.
        start: $v_0$.

    Raises ``ValueError`` for a schedule that returns arrays, NaN, infinite or negative rates, for curvatures that are
    not above 0, and a negative noise or start. Source: robbins1951stochastic, bartlett2021deep.

    >>> found = check_schedule(lambda step: 1.0 / (step + 1), curvature=1.0, noise=1.0)
    >>> found.mean_square, found.almost_surely, round(float(65_536 * found.variance[-1, 0]), 9)
    (True, True, 1.0)
    >>> print(check_schedule(lambda step: 0.1, curvature=1.0, noise=1.0).mean_square)
    False
    """
    if demand_count("steps", steps) < 2 ** (_BLOCKS + 1):
        reject(f"steps={steps}", f"The end of a schedule shows after at least {2 ** (_BLOCKS + 1)} steps", "Give 65536")
    for name, value in (("noise", noise), ("start", start)):
        if not 0 <= value < math.inf:
            reject(f"{name}={value}", f"{name} is a finite number of at least 0", f"Give {name}=1.0")
    modes = np.atleast_1d(np.asarray(curvature, dtype=float))
    schedule = schedule if callable(schedule) else optax.constant_schedule(schedule)
    if modes.ndim != 1 or not np.all((modes > 0) & np.isfinite(modes)):
        reject(f"curvature={curvature!r}", "A curvature is a finite number above 0", "Leave out the modes at zero")
    rates = _values(schedule, steps)
    answers = _judged(rates)
    stable = bool(np.max(rates[steps // 2 :]) * np.max(modes) < 2)
    return ScheduleCheck(rates, modes, variances(rates, modes, noise, start), *answers, stable, noise > 0)


def variances(
    rates: Float[np.ndarray, " T"], curvature: Float[np.ndarray, " modes"], noise: float, start: float = 1.0
) -> Float[np.ndarray, "T1 modes"]:
    r"""$v_{t+1} = (1-\eta_t\lambda)^2v_t + \eta_t^2s^2$ from the start on, for each mode.

    >>> variances(np.array([0.5, 0.5]), np.array([1.0]), 1.0, 0.0).ravel().tolist()
    [0.0, 0.25, 0.3125]
    """
    found = np.empty((len(rates) + 1, len(curvature)))
    found[0] = start
    with np.errstate(over="ignore", invalid="ignore"):  # a variance that has become infinite stays so
        kept, added = (1.0 - np.outer(rates, curvature)) ** 2, (rates * noise) ** 2
        for t in range(len(rates)):
            found[t + 1] = np.where(np.isinf(found[t]), np.inf, kept[t] * found[t] + added[t])
    return found


def stationary_variance(rate: float, curvature: float, noise: float) -> float:
    r"""$v_\infty = \frac{\eta s^2}{\lambda(2-\eta\lambda)}$ of a constant rate, infinite where it is not stable.

    With noise $s = \sqrt{2/(\eta b)}$, Langevin's of temperature $1/b$, it is $\frac1{b\lambda(1-\eta\lambda/2)}$.

    >>> round(stationary_variance(0.1, 1.0, 1.0), 7), round(stationary_variance(0.1, 1.0, (2 / (0.1 * 4)) ** 0.5), 7)
    (0.0526316, 0.2631579)
    """
    if UpdateRule().gap(rate, curvature) <= 0:
        return math.inf
    return rate * noise**2 / (curvature * (2.0 - rate * curvature))


def late_variance(scale: float, power: float, curvature: float, noise: float, step: int) -> float:
    r"""What $v_t$ tends to behave like for the schedule $\eta_t = at^{-p}$, $0 < p \le 1$.

    $\frac{a^2s^2}{(2a\lambda-1)t}$ for $p = 1$ and $2a\lambda > 1$; $\frac{\eta_ts^2}{2\lambda}$ for $p < 1$. For
    $p = 1$, $2a\lambda \le 1$ the start is forgotten more slowly, as $t^{-2a\lambda}$, with a constant that depends on
    it: NaN.

    >>> late_variance(2.0, 1.0, 1.0, 1.0, 4), late_variance(1.0, 0.5, 1.0, 1.0, 4)
    (0.3333333333333333, 0.25)
    """
    if power < 1:
        return scale * step**-power * noise**2 / (2.0 * curvature)
    lead = 2.0 * scale * curvature - 1.0
    return (scale * noise) ** 2 / (lead * step) if lead > 0 else math.nan


def _values(schedule: Callable, steps: int) -> Float[np.ndarray, " T"]:
    """The rates of all steps, at once where the schedule is written in JAX."""
    checked_value(schedule, 0)
    try:
        with jax.enable_x64(True):
            rates = np.asarray(jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step), float)))(jnp.arange(steps)))
    except (TypeError, ValueError):  # it needs the step as a number of Python
        rates = np.array([checked_value(schedule, step) for step in range(steps)])
    wrong = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0)))
    if len(wrong):
        checked_value(lambda step: rates[step], int(wrong[0]))
    return rates


def _judged(rates: Float[np.ndarray, " T"]) -> tuple[float, Answer, Answer, Answer]:
    """The exponent of the end, and the answers to the three questions."""
    edges = len(rates) // 2 ** np.arange(_BLOCKS + 1)[::-1]
    blocks = [rates[low:high] for low, high in pairwise(edges)]
    if not np.any(blocks[-1]):
        return math.nan, False, True, True  # the rates have ended
    parts = (np.array([of(block) for block in blocks]) for of in (np.sum, _square, np.max))
    with np.errstate(divide="ignore"):
        exponents = [-np.diff(np.log2(part)) / np.diff(np.log2(np.diff(edges))) for part in parts]
    limit, _, clean = _limit(exponents[0], len(rates))
    sum_converges, squares_converge, vanishes = (_positive(part, len(rates)) for part in exponents)
    # What is summable vanishes, and its squares are summable too.
    squares_converge = squares_converge or (True if sum_converges else squares_converge)
    vanishes = vanishes or (True if squares_converge else vanishes)
    diverges = None if sum_converges is None else not sum_converges
    return 1.0 + limit if clean else math.nan, diverges, vanishes, squares_converge


def _square(block: Float[np.ndarray, " t"]) -> float:
    return float(np.sum(block**2))


def _limit(values: Float[np.ndarray, " k"], steps: int) -> tuple[float, float, bool]:
    r"""The limit of exponents, its error, and whether they are clean: their differences halve, as for $(t+c)^{-p}$.

    Otherwise the error is what a logarithm would still move: $c/\log t$ has $\log_2t$ of its last differences to go;
    twice that.
    """
    moved = np.diff(values)
    rounding = 1e-9 * (1.0 + float(np.max(np.abs(values))))
    if np.all(np.abs(moved) <= rounding):
        return float(values[-1]), rounding, True
    ratios = moved[1:] / np.where(moved[:-1] == 0, np.nan, moved[:-1])
    if np.all((ratios >= 0.4) & (ratios <= 0.6)):
        further = 2 * values[1:] - values[:-1]
        return float(further[-1]), float(2 * abs(further[-1] - further[-2]) + rounding), True
    return float(values[-1]), float(2 * np.log2(steps) * np.max(np.abs(moved))), False


def _positive(exponents: Float[np.ndarray, " k"], steps: int) -> Answer:
    """Whether the exponents by which blocks shrink stay above 0; at 0, and below, blocks do not shrink."""
    if not np.all(np.isfinite(exponents)):
        return None
    limit, error, clean = _limit(exponents, steps)
    if clean or abs(limit) > error:
        return limit > error
    moved = np.sign(limit) * np.diff(exponents)
    accelerating = np.all(moved > 0) and np.all(np.diff(moved) > 0)
    return limit > 0 if accelerating else None


def _all(*answers: Answer) -> Answer:
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True
