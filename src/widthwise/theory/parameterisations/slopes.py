r"""Exponents in the width with their intervals.

Legend: y (W, S) a size at W widths from S seeds; p the exponent of $y \sim C_0n^pe^{C_1/n}$.
"""

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from widthwise.numerics import demand_count, exponent, reject


@dataclass(frozen=True)
class Slope:
    """An exponent and the half-width of its interval; -inf for what is zero everywhere, nan for what is not known."""

    value: float
    half: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "zero" if self.value == -math.inf else "unknown"
        return f"{self.value:+.2f} ± {self.half:.2f}"

    def plus(self, other: "Slope", times: float = 1.0) -> "Slope":
        """The sum with a multiple of another one, their errors taken as independent."""
        return Slope(self.value + times * other.value, math.hypot(self.half, times * other.half))


ZERO = Slope(-math.inf, 0.0)
UNKNOWN = Slope(math.nan, math.inf)


def fitted(widths: Iterable[float], y: Float[np.ndarray, "W S"], confidence: float = 0.95) -> Slope:
    r"""The exponent of the root mean square over seeds, with a jackknife interval over seeds.

    $y(n) = C_0n^pe^{C_1/n}$ is fitted to $\sqrt{\langle y^2\rangle}$; leaving out one seed at a time gives the standard
    error $s^2 = \frac{S-1}S\sum_j(p_{-j}-\bar p)^2$ and the interval $p \pm t_{S-1}s$ (Student).

    >>> n = np.array([64.0, 128, 256, 512, 1024])
    >>> print(fitted(n, np.stack([n**-0.5, 1.1 * n**-0.5, 0.9 * n**-0.5], axis=1)))
    -0.50 ± 0.00
    """
    values = np.abs(np.asarray(y, dtype=float))
    if not np.all(np.isfinite(values)):
        return UNKNOWN
    if np.all(values == 0):
        return ZERO
    scale = np.max(values, axis=1)  # squares of what grew without bounds would overflow
    squares = (values / np.where(scale == 0, 1.0, scale)[:, None]) ** 2
    sizes, count = np.asarray([*widths], dtype=float), squares.shape[1]
    means = [np.mean(squares, axis=1), *(np.mean(np.delete(squares, at, axis=1), axis=1) for at in range(count))]
    if any(np.any(mean <= 0) for mean in means):
        return UNKNOWN
    value, *left = (exponent(sizes, scale * np.sqrt(mean)) for mean in means)
    spread = math.sqrt((count - 1) / count * np.sum((np.asarray(left) - np.mean(left)) ** 2))
    return Slope(value, float(stdtrit(count - 1, 0.5 + 0.5 * confidence)) * spread)


def demand_widths(widths: Any, least: int, why: str) -> tuple[int, ...]:
    """Refuse fewer than ``least`` widths, and such as do not rise."""
    chosen = tuple(widths) if np.iterable(widths) else ()
    whole = all(isinstance(one, numbers.Integral) and int(one) > 0 for one in chosen)
    if not whole or len(set(chosen)) < least or list(chosen) != sorted(set(chosen)):
        reject(
            f"widths={chosen or widths!r}",
            f"{why}, positive whole numbers in rising order",
            "Give for example widths=(64, 128, 256, 512)",
        )
    return tuple(map(int, chosen))


def demand_counts(seeds: Any, steps: Any, confidence: float) -> None:
    """Refuse what gives no interval over seeds, and what is no training."""
    if demand_count("seeds", seeds) < 2:
        reject(
            f"seeds={seeds}",
            "An interval over seeds needs at least two of them, and is narrow from four on",
            "Give seeds=4",
        )
    if demand_count("steps", steps) < 1:
        reject(f"steps={steps}", "At least one step is trained", "Give steps=5")
    if not 0 < confidence < 1:
        reject(
            f"confidence={confidence}", "The confidence of an interval lies between 0 and 1", "Give for example 0.95"
        )
