r"""The rows of the table of rates, held against a record.

Legend as in ``rate_table``. Descent with $\eta \le 1/\beta$ has the rows of the step $1/\beta$, $1/\eta$ for $\beta$.
What is measured is taken smaller by its rounding, so that a ratio above 1 is one for sure.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .bounds import (
    convex_bound,
    last_iterate_bound,
    length_bound,
    pl_factor,
    stationarity_bound,
    strongly_convex_factor,
)
from .constants import Constant
from .record import ULPS, Record


@dataclass(frozen=True)
class Row:
    """A row: what was measured and its bound at all clocks but the first, and why its assumption fails, if it does."""

    name: str
    clock: Float[np.ndarray, " t"]
    measured: Float[np.ndarray, " t"]
    bound: Float[np.ndarray, " t"]
    assumption: str
    reason: str = ""

    @property
    def ratios(self) -> Float[np.ndarray, " t"]:
        """Measured/bound; 0 where nothing is measured, nan where there is no bound."""
        above = self.measured / np.where(self.bound > 0, self.bound, 1.0)
        ratios = np.where(self.measured > 0, np.where(self.bound > 0, above, np.inf), 0.0)
        return np.where(np.isnan(self.bound), np.nan, ratios)

    @property
    def ratio(self) -> float:
        """The largest measured/bound; nan where there is no bound."""
        return float(np.max(self.ratios))

    @property
    def at(self) -> float:
        """Where it is largest."""
        return float(self.clock[np.argmax(self.ratios)]) if self.ratio > 0 else math.nan

    @property
    def holds(self) -> bool:
        """Whether the ratio is at most 1; a factor over a million steps is right to 1e-9."""
        return self.ratio <= 1.0 + 1e-9


@dataclass(frozen=True)
class _Held:
    """A record with its constants, clock and minimum."""

    record: Record
    constants: dict[str, Constant]
    t: np.ndarray
    kind: str
    rate: float | None
    minimum: float
    error: float

    @property
    def smoothness(self) -> float | None:
        return None if self.rate is None else 1.0 / self.rate

    @property
    def blur(self) -> np.ndarray:
        """What the values at the points may be wrong by: rounding, and the error of the points of a flow."""
        beta = self.constants["smoothness"].value
        moved = np.sqrt(self.record.at_points["slope"]) * self.error + 0.5 * max(beta, 0.0) * self.error**2
        values = self.record.at_points["value"]
        return ULPS * self.record.unit * (np.abs(values) + abs(self.minimum)) + moved

    @property
    def gap(self) -> np.ndarray:
        return self.record.at_points["value"] - self.minimum

    @property
    def displaced(self) -> float:
        """What the points may be displaced by: the rounding of their precision, and the error of a flow."""
        return ULPS * self.record.kept_unit * self.record.size + self.error

    @property
    def unlike(self) -> str:
        """Why the points are not those of a flow or of descent at all."""
        return _unlike_flow(self) if self.kind == "flow" else _unlike_descent(self)

    @property
    def rough(self) -> str:
        r"""Why 1/rate does not bound the smoothness; if it does, each step lowers F by $\frac\eta2\|\nabla F\|^2$."""
        beta = self.constants["smoothness"].value
        if self.rate is None:
            return ""
        if beta * self.rate > 1.0 + ULPS * self.record.unit:
            return f"the rate is above 1/beta = {1.0 / beta:.4g}, as beta is at least {beta:.4g}"
        slope = np.maximum(np.sqrt(self.record.at_points["slope"][:-1]) - self.record.slope_error, 0.0)
        fallen = -np.diff(self.record.at_points["value"]) + self.blur[1:] + self.blur[:-1]
        short = 0.5 * self.rate * slope**2 - fallen
        # The points have their own precision, and F changes with them.
        short = short - self.displaced * (np.sqrt(self.record.at_points["slope"][1:]) + slope)
        if np.all(short <= 0):
            return ""
        return f"the rate is above 1/beta, as F falls too little at {self.t[int(np.argmax(short))]:.4g}"

    @property
    def bent(self) -> str:
        found = self.constants["strong convexity"]
        return "" if found.value >= 0 else f"F is not convex along the record (at {found.at:.4g})"

    @property
    def off_minimum(self) -> str:
        slope = math.sqrt(self.record.reference["slope"])
        return "" if slope <= self.record.slope_error else f"z is no minimiser, |grad F(z)| = {slope:.3g}"


def rows_of(record: Record, constants, t, kind: str, rate, minimum: float, error: float) -> dict[str, Row]:
    """All rows of a record by name; none without a clock."""
    if kind == "points":
        return {}
    held = _Held(record, constants, t, kind, rate, minimum, error)
    makers: tuple[Callable[[_Held], Row], ...] = (
        _stationary,
        _convex,
        _last,
        _pl,
        _value,
        _distance,
        _length,
        _length_pl,
    )
    rows = [make(held) for make in makers]
    return {row.name: row for row in rows}


def _row(held: _Held, name: str, measured, bound, assumption: str, *reasons: str) -> Row:
    reason = next((one for one in (held.unlike, *reasons) if one), "")
    measured = np.broadcast_to(np.asarray(measured, dtype=float), held.t[1:].shape)
    return Row(name, held.t[1:], measured, np.broadcast_to(bound, measured.shape), assumption, reason)


def _stationary(held: _Held) -> Row:
    """Of descent as many points count as were recorded: their squared slopes sum to at most 2 gap/rate."""
    squares, start = held.record.at_points["slope"], held.gap[0] + held.blur[0]
    error = held.record.slope_error + max(held.constants["smoothness"].value, 0.0) * held.error
    least = np.maximum(np.sqrt(np.minimum.accumulate(squares)) - error, 0.0) ** 2
    if held.kind == "descent":
        bound = stationarity_bound(start, np.arange(1.0, len(held.t)), held.smoothness)
        return _row(held, "stationarity", least[:-1], bound, "smooth", held.rough)
    return _row(held, "stationarity", least[1:], stationarity_bound(start, held.t[1:]), "none")


def _values_above_reference(held: _Held) -> np.ndarray:
    return (held.record.at_points["value"] - held.record.reference["value"] - held.blur)[1:]


def _convex(held: _Held) -> Row:
    start = math.sqrt(held.record.at_points["away"][0]) + held.displaced
    bound = convex_bound(start, held.t[1:], held.smoothness)
    return _row(held, "convex", _values_above_reference(held), bound, "convex", held.rough, held.bent)


def _last(held: _Held) -> Row:
    start = math.sqrt(held.record.at_points["away"][0]) + held.displaced
    bound = last_iterate_bound(start, held.t[1:], held.smoothness)
    reasons = held.rough, held.bent, held.off_minimum
    return _row(held, "last iterate", _values_above_reference(held), bound, "convex, z a minimiser", *reasons)


def _factor(held: _Held, factor, constant: float) -> np.ndarray:
    """A decay factor; for descent a constant of at least 1/rate finishes in one step."""
    if not 0 < constant < math.inf:
        return np.full(held.t[1:].shape, np.nan)
    if held.smoothness is None:
        return np.asarray(factor(constant, held.t[1:]))
    return np.asarray(factor(min(constant, held.smoothness * (1.0 - 1e-16)), held.t[1:], held.smoothness))


def _pl(held: _Held) -> Row:
    mu = held.constants["PL, half"].value
    bound = (held.gap[0] + held.blur[0]) * _factor(held, pl_factor, mu)
    reason = "" if 0 < mu < math.inf else "no point has a positive constant"
    return _row(held, "PL", (held.gap - held.blur)[1:], bound, f"PL with mu = {mu:.4g}", held.rough, reason)


def _convexity(held: _Held) -> tuple[float, str, str]:
    found = held.constants["strong convexity"].value
    return found, f"strongly convex with lambda = {found:.4g}", "" if 0 < found < math.inf else _flat(held)


def _flat(held: _Held) -> str:
    return held.bent or "F is not strongly convex along the record"


def _value(held: _Held) -> Row:
    """The reference may miss the minimiser: its value lies at most |grad F(z)|^2/(2 lambda) above the minimum."""
    found, assumption, reason = _convexity(held)
    values = held.record.at_points["value"] - held.record.reference["value"]
    spare = held.record.reference["slope"] / (2.0 * found) if found > 0 else 0.0
    bound = (values[0] + held.blur[0] + spare) * _factor(held, strongly_convex_factor, found)
    return _row(held, "strongly convex, value", (values - held.blur)[1:], bound, assumption, held.rough, reason)


def _distance(held: _Held) -> Row:
    """And lies within |grad F(z)|/lambda of the minimiser."""
    found, assumption, reason = _convexity(held)
    spare = held.displaced + (math.sqrt(held.record.reference["slope"]) / found if found > 0 else 0.0)
    away = np.sqrt(held.record.at_points["away"])
    bound = (away[0] + spare) ** 2 * _factor(held, strongly_convex_factor, found)
    measured = np.maximum(away[1:] - spare, 0.0) ** 2
    return _row(held, "strongly convex, distance", measured, bound, assumption, held.rough, reason)


def _lengths(held: _Held) -> np.ndarray:
    """A polygon is no longer than the path through its corners."""
    moves = np.maximum(np.sqrt(held.record.steps["away"]) - 2.0 * held.displaced, 0.0)
    return np.cumsum(moves)


def _length(held: _Held) -> Row:
    bound = length_bound(held.gap[0] + held.blur[0], held.t[1:], held.smoothness)
    return _row(held, "length", _lengths(held), bound, "smooth" if held.rate else "none", held.rough)


def _length_pl(held: _Held) -> Row:
    mu = held.constants["PL, half"].value
    positive = 0 < mu < math.inf
    bound = length_bound(held.gap[0] + held.blur[0], 1.0, held.smoothness, mu) if positive else np.nan
    reason = "" if positive else "no point has a positive constant"
    return _row(held, "length under PL", _lengths(held), bound, f"PL with mu = {mu:.4g}", held.rough, reason)


def _unlike_descent(held: _Held) -> str:
    """A step differs from that of gradient descent by more than rounding."""
    whole = np.diff(held.t) == 1
    rate, record = held.rate or 0.0, held.record
    slope = math.sqrt(float(np.max(record.at_points["slope"])))
    allowed = ULPS * record.kept_unit * (record.size + rate * slope)
    off = np.where(whole, np.sqrt(record.steps["off"]), 0.0)
    if np.all(off <= allowed):
        return ""
    worst = int(np.argmax(off))
    share = off[worst] / max(rate * math.sqrt(float(record.at_points["slope"][worst])), 1e-300)
    return f"the step at {held.t[worst]:.4g} differs by {share:.2g} of its length from that of gradient descent"


def _unlike_flow(held: _Held) -> str:
    """Between two points of a flow the squared distance is at most the time times what the value falls by."""
    moved = np.maximum(np.sqrt(held.record.steps["away"]) - 2.0 * held.displaced, 0.0) ** 2
    fallen = -np.diff(held.record.at_points["value"]) + held.blur[1:] + held.blur[:-1]
    far = moved - np.diff(held.t) * fallen
    if np.all(far <= 0):
        return ""
    at = int(np.argmax(far))
    return f"the points at {held.t[at]:.4g} and {held.t[at + 1]:.4g} are farther apart than a flow of this time goes"
