r"""The best constants of a loss that a recorded training does not refute.

Legend as in ``record``, $d_i = \|w_i-z\|$. Every constant is the largest (smoothness: the smallest) with which its
inequality holds at all recorded points, each side moved by its rounding in favour of the inequality: a point near the
minimum, where value and gradient are rounding, says nothing.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from widthwise.theory.lazy import decay_rate

from .record import ULPS, Record

# A value below a thousand times its rounding has no logarithm to three digits.
_CLEAR = 1000.0


@dataclass(frozen=True)
class Constant:
    """A constant, the inequality with it, and the clock (time or step) of the record that decides about it."""

    name: str
    value: float
    inequality: str
    at: float = np.nan

    def __float__(self) -> float:
        return self.value


def found_constants(record: Record, clock: Float[np.ndarray, " k"], minimum: float, rate: float) -> dict[str, Constant]:
    r"""All constants by name; ``rate`` $\eta$, or 0.

    In strong convexity F is taken to be $1/\eta$-smooth, unless the record shows that it is not.
    """
    seen, error = record.at_points, record.slope_error
    gap, squares, slope = seen["value"] - minimum, seen["away"], np.sqrt(seen["slope"])
    gap_error = ULPS * record.unit * (np.abs(seen["value"]) + abs(minimum))
    pl = _over((slope + error) ** 2, gap - gap_error)
    secant = _over(seen["pull"] + error * np.sqrt(squares), squares)
    growth = _over(2.0 * (gap + gap_error), squares)
    towards, lipschitz = smoothness_pairs(record)
    later = clock[1:]
    told = "beta-smooth between neighbours and z"
    smoothness = _largest("smoothness", told, lipschitz, later, towards, clock)
    smooth = rate * smoothness.value <= 1.0 + ULPS * record.unit
    points, steps = convexity_pairs(record, rate if smooth else 0.0)
    found = (
        _least("PL, squared", "mu (F - F*) <= |grad F|^2", pl, clock),
        _least("PL, half", "mu (F - F*) <= |grad F|^2 / 2", 0.5 * pl, clock),
        _least("restricted secant", "nu |w - z|^2 <= <grad F, w - z>", secant, clock),
        _least("one-point convexity", "mu/2 |w - z|^2 <= <grad F, w - z>", 2.0 * secant, clock),
        _least("quadratic growth", "mu/2 |w - z|^2 <= F - F*", growth, clock),
        _least("strong convexity", "lambda-strongly convex between neighbours and z", points, clock, steps, later),
        smoothness,
        Constant("decay of the value", _decay(clock, gap, gap_error), "F(t) - F* <= e^(-mu (t - s)) (F(s) - F*)"),
        Constant("decay of the distance", _decay(clock, squares, _blur(record)), "d(t)^2 <= e^(-mu (t - s)) d(s)^2"),
    )
    return {one.name: one for one in found}


def smoothness_pairs(record: Record) -> tuple[np.ndarray, np.ndarray]:
    r"""The least $\beta$ that each point with z, and each step, allows, by $\|\Delta g\|$ and by $|D|$."""
    found = []
    for of, rise, blur in _compared(record):
        slack = blur + record.slope_error * np.sqrt(of["away"])
        lipschitz = _over(_rest(of["bend"], record.slope_error), np.sqrt(of["away"]))
        farthest = np.maximum(np.abs(rise - of["back"]), np.abs(of["pull"] - rise))
        found.append(np.maximum(lipschitz, _over(2.0 * np.maximum(farthest - slack, 0.0), of["away"])))
    return found[0], found[1]


def convexity_pairs(record: Record, rate: float) -> tuple[np.ndarray, np.ndarray]:
    r"""The largest $\lambda$ that each point with z, and each step, allows a $1/\eta$-smooth F, in both directions.

    ``rate`` is the $\eta$ of the record, or 0 where nothing is known of the smoothness of F.

    With $D = F(v)-F(w)-\langle\nabla F(w),v-w\rangle$, $N = 2D-\eta\|\Delta g\|^2$ and
    $T = \|\Delta w-\eta\Delta g\|^2$ it is $N/(T+\eta N)$: no more and no less than what can be interpolated by a
    $\lambda$-strongly convex, $1/\eta$-smooth function. Source: taylor2017smooth.
    """
    with_z, on_step = (_pair(*pairs, record.slope_error, rate) for pairs in _compared(record))
    return with_z, on_step


def _compared(record: Record) -> tuple[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray], ...]:
    """Points with z, and steps: what is known of them, the rise of the value, and its rounding."""
    values, blur = record.at_points["value"], record.value_error
    with_z = record.at_points, values - record.reference["value"], blur
    return with_z, (record.steps, np.diff(values), blur[1:] + blur[:-1])


def _pair(of: dict[str, np.ndarray], rise: np.ndarray, blur: np.ndarray, error: float, rate: float) -> np.ndarray:
    """Both Bregman distances of pairs; ``rise`` is the value at the point minus that at the other."""
    slack = blur + error * np.sqrt(of["away"])
    # Rounding moves T and the bend by at most the rounding of a gradient.
    turned = np.sqrt(of["tilt"] if rate > 0 else of["away"])
    bend, tilt = _rest(of["bend"], error) ** 2, np.maximum(turned - 2.0 * rate * error, 0.0) ** 2
    found = []
    for D in (rise - of["back"], of["pull"] - rise):
        N = 2.0 * (D + slack) - rate * bend
        whole = tilt + rate * N
        # From N = -T/eta on, no constant at all would do.
        found.append(
            np.where(of["away"] > 0, np.where(whole > 0, N / np.where(whole > 0, whole, 1.0), -np.inf), np.inf)
        )
    return np.where(of["away"] > 0, np.minimum(*found), np.inf)


def _rest(squares: np.ndarray, error: float) -> np.ndarray:
    """A norm of a difference of gradients less its rounding."""
    return np.maximum(np.sqrt(squares) - 2.0 * error, 0.0)


def _blur(record: Record) -> np.ndarray:
    """The rounding of squared distances, of points that have the precision in which they came."""
    return 2.0 * np.sqrt(record.at_points["away"]) * ULPS * record.kept_unit * record.size


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotients, infinite where the divisor is not positive and nothing can be said; ``_largest`` leaves those out."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.inf)


def _decay(clock: np.ndarray, values: np.ndarray, blur: np.ndarray) -> float:
    clear = values > _CLEAR * blur
    count = len(values) if clear.all() else int(np.argmin(clear))
    return decay_rate(clock[:count], values[:count]) if count > 1 else np.nan


def _least(name: str, inequality: str, values: np.ndarray, clock: np.ndarray, *more: np.ndarray) -> Constant:
    """The least of all values, given with their clocks."""
    values, clock = np.concatenate([values, *more[::2]]), np.concatenate([clock, *more[1::2]])
    at = int(np.argmin(values))
    return Constant(name, float(values[at]), inequality, float(clock[at]) if values[at] < np.inf else np.nan)


def _largest(name: str, inequality: str, values: np.ndarray, clock: np.ndarray, *more: np.ndarray) -> Constant:
    """The largest, where infinity says nothing."""
    values, more = -values, tuple(-one if index % 2 == 0 else one for index, one in enumerate(more))
    found = _least(name, inequality, *(np.where(np.isinf(one), np.inf, one) for one in (values, clock, *more)))
    return replace(found, value=-found.value)
