r"""What a recorded training says of its loss: the best constants, and every row of the table of rates held against it.

Legend as in ``record``: $w_i$ recorded points, z a reference, $F_*$ the minimum, $\eta$ the rate of gradient descent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from widthwise.numerics import nearest, reject

from .constants import Constant, found_constants
from .record import ULPS, Record, recorded
from .rows import Row, rows_of

_KINDS = {"flow": "gradient flow", "descent": "gradient descent", "points": "points without a clock"}


class Named(dict[str, Any]):
    """Values by name; a name that is not there is refused with those that are."""

    def __missing__(self, name: object) -> Any:
        known = ", ".join(map(repr, self))
        reject(f"{name!r} is no row{nearest(name, self)}", f"Rows are {known or 'not there'}", "Choose one of them")


@dataclass(frozen=True)
class RateTable:
    r"""The best constants that a record does not refute, and the rows of the table of rates.

    ``kind`` is "flow", "descent" or "points"; ``clock`` (k,) the times or numbers of steps; ``constants`` and ``rows``
    by name (see `table`); ``length`` that of the polygon through the points, ``displacement`` from the first to the
    last; ``minimum`` $F_*$ and ``reference``, how they were chosen.
    """

    kind: str
    clock: Float[np.ndarray, " k"]
    rate: float | None
    minimum: float
    reference: str
    constants: dict[str, Constant]
    rows: dict[str, Row]
    length: float
    displacement: float

    def __getitem__(self, name: str) -> float:
        """The constant, or the measured/bound ratio of the row, of this name."""
        ratios = {row.name: row.ratio for row in self.rows.values()}
        return Named({one.name: one.value for one in self.constants.values()} | ratios)[name]

    def __repr__(self) -> str:
        return f"RateTable({_KINDS[self.kind]}, {len(self.clock)} points, F* = {self.minimum:.4g})"

    def __str__(self) -> str:
        unit = "time" if self.kind == "flow" else "step"
        rate = "" if self.rate is None else f" with rate {self.rate:g}"
        lines = [f"{_KINDS[self.kind]}{rate}, {len(self.clock)} points; F* = {self.minimum:.6g}; {self.reference}", ""]
        lines.append(f"{'constant':<23}{'value':>12}{unit:>10}   inequality at all points")
        for one in self.constants.values():
            at = "" if math.isnan(one.at) else f"{one.at:.4g}"
            # Where no point decides about an infinite constant, the record says nothing of it.
            value = "-" if math.isinf(one.value) and not at else _told(one.value)
            lines.append(f"{one.name:<23}{value:>12}{at:>10}   {one.inequality}")
        lines += ["", f"path length {self.length:.6g}, displacement {self.displacement:.6g}", ""]
        if self.rows:
            lines.append(f"{'row':<28}{'measured/bound':>15}{unit:>10}   assumption")
        for row in self.rows.values():
            at = "" if math.isnan(row.at) else f"{row.at:.4g}"
            lines.append(f"{row.name:<28}{_told(row.ratio):>15}{at:>10}   {row.reason or 'met: ' + row.assumption}")
        return "\n".join(lines).rstrip()


def _told(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _number(name: str, value: Any) -> float:
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        reject(f"{name}={value!r}", f"The {name} is one number", f"Give for example {name}=0.1")
    return float(value)


def table(
    loss: Callable[[Any], Any],
    points: Any,
    *,
    times: ArrayLike | None = None,
    rate: float | None = None,
    steps: ArrayLike | None = None,
    minimum: float | None = None,
    reference: Any = None,
    convexity: float | None = None,
    error: float = 0.0,
) -> RateTable:
    r"""Hold a recorded training against the table of convergence rates, and find the best constants along it.

    Constants, by name: "PL, squared" and "PL, half", $\mu(F-F_*) \le \|\nabla F\|^2$ or $\frac12\|\nabla F\|^2$;
    "restricted secant" $\nu\|w-z\|^2 \le \langle\nabla F,w-z\rangle$ and "one-point convexity" $\mu = 2\nu$;
    "quadratic growth"; "strong convexity" and "smoothness" between neighbouring points and with z; "decay of the
    value" and "decay of the distance", per unit of the clock. Rows, as measured/bound: "stationarity", "convex",
    "last iterate", "PL", "strongly convex, value", "strongly convex, distance", "length", "length under PL".
    A ratio is at most 1 where the assumption holds; where it fails at the recorded points, the row says so.

    No Hessian is used: one gradient a point, in float64.

    Args:
        loss: F, a differentiable function of the parameters to a number, without randomness.
        points: an array (k, p), a PyTree of arrays (k, ...), or a list of k PyTrees of parameters (models too).
        times: of the points (k,), when they are of the flow $\dot w = -\nabla F(w)$.
        rate: $\eta$, when they are of gradient descent $w_{i+1} = w_i-\eta\nabla F(w_i)$.
        steps: which steps of descent were recorded (k,), all of them without it.
        minimum: $F_* = \inf F$, if known; else F at the reference.
        reference: z, a point like those recorded, best a minimiser; without it the lowest recorded point.
        convexity: $\lambda$ for the strongly convex rows, if known; else the best that the record allows.
        error: a bound on the distance of each recorded point to the true one of the flow.

    Without ``times`` and ``rate`` there are constants but no rows. Raises ``ValueError`` for points that do not fit
    together, clocks that do not increase, values that are not finite, a minimum or a convexity that the record refutes.
    Sources: telgarsky2021deep, karimi2016linear, taylor2017smooth, drori2014performance.

    >>> import jax.numpy as jnp
    >>> points = 0.5 ** np.arange(4.0)[:, None] * np.array([1.0, 0.0])
    >>> found = table(lambda w: 0.5 * jnp.vdot(w, w), points, rate=0.5, reference=np.zeros(2))
    >>> [round(found[name], 9) for name in ("PL, squared", "smoothness", "strong convexity", "strongly convex, value")]
    [2.0, 1.0, 1.0, 1.0]
    """
    if not callable(loss):
        reject(
            f"a loss of type {type(loss).__name__}", "It is a function of the parameters", "Give table(loss, points)"
        )
    if times is not None and steps is not None:
        reject("both times and steps", "Points are of the flow or of gradient descent", "Give one of the two")
    rate = _rate(rate, times)
    record, chosen = recorded(loss, points, reference, rate)
    kind = "flow" if times is not None else "descent" if rate is not None else "points"
    clock = _clock(times if kind == "flow" else steps, len(record), kind)
    if not (math.isfinite(error) and error >= 0):
        reject(f"error={error}", "The error of a point is a distance of at least 0", "Leave it out for exact points")
    least = record.reference["value"] if minimum is None else _minimum(_number("minimum", minimum), record)
    constants = found_constants(record, clock, least, rate or 0.0)
    used = constants if convexity is None else {**constants, "strong convexity": _given(convexity, constants)}
    rows = Named(rows_of(record, used, clock - clock[0], kind, rate, least, error))
    told = "z given" if chosen is None else f"z the lowest point, at {clock[chosen]:.4g}"
    moves = np.sqrt(record.steps["away"])
    return RateTable(kind, clock, rate, least, told, Named(constants), rows, float(moves.sum()), record.displacement)


def _given(convexity: float, constants: dict[str, Constant]) -> Constant:
    """A known constant in place of the one that was seen, unless the record refutes it."""
    seen = constants["strong convexity"]
    if not convexity <= seen.value * (1.0 + 1e-12):
        reject(
            f"convexity={convexity:g}",
            f"At {seen.at:.4g} the record allows at most {seen.value:.6g}",
            "Give a constant of strong convexity that F has, or leave it out",
        )
    return replace(seen, value=float(convexity))


def _rate(rate: Any, times: Any) -> float | None:
    if rate is None:
        return None
    if times is not None:
        reject("both times and a rate", "Points are of the flow or of gradient descent", "Give one of the two")
    rate = _number("rate", rate)
    if not (math.isfinite(rate) and rate > 0):
        reject(f"rate={rate}", "A rate is a finite number above 0", "Give the rate of gradient descent")
    return rate


def _clock(given: ArrayLike | None, count: int, kind: str) -> np.ndarray:
    """Times or numbers of steps, which increase."""
    if given is None:
        return np.arange(float(count))
    clock = np.asarray(given, dtype=float)
    increasing = clock.shape == (count,) and bool(np.all(np.isfinite(clock)) and np.all(np.diff(clock) > 0))
    if not increasing or (kind != "flow" and not np.all(clock == np.round(clock))):
        what = "times" if kind == "flow" else "numbers of steps, which are whole"
        reject(f"a clock of shape {clock.shape}", f"It is {count} increasing {what}", "Give one for each point")
    return clock


def _minimum(minimum: float, record: Record) -> float:
    values = np.append(record.at_points["value"], record.reference["value"])
    rounding = ULPS * record.unit * abs(minimum)
    if not math.isfinite(minimum) or minimum > np.min(values) + rounding:
        reject(f"minimum={minimum:g}", f"The loss reaches {np.min(values):g}", "Give its infimum, or leave it out")
    return minimum
