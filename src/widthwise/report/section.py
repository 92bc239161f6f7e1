r"""The vocabulary in which computing code states its results; it knows neither plotly nor HTML.

A section answers one question.  It is a value made of other values, all frozen:

>>> gap = Number("largest gap ||w - u||", 0.0217, error=0.0008, claim="LAZY-C1",
...              error_is="standard error over 8 draws")
>>> path = Figure(
...     key="gap-over-time", title="Distance between the network and its linearisation",
...     caption="The measured gap stays under the certified bound.",
...     series=(
...         Series("measured gap", x=[0.0, 1.0, 2.0], y=[0.0, 0.011, 0.021],
...                error=[0.0, 0.001, 0.001], role="measured", group="gap"),
...         Series("C1 bound", x=[0.0, 1.0, 2.0], y=[0.0, 0.02, 0.04], role="bound", group="gap"),
...     ),
...     marks=(Mark("x", 1.5, "end of the certificate"),),
...     x_label="time t", y_label="||w(t) - u(t)||", claims=("LAZY-C1",))
>>> section = Section(
...     key="lazy", title="Lazy or learning features",
...     lead=("The network is lazy: it leaves its linearisation by at most ", gap, "."),
...     paragraphs=("The kernel moves by less than the gap allows.",),
...     numbers=(gap, Number("alpha threshold of C1", 5.0712, claim="LAZY-C1")),
...     figures=(path,),
...     tables=(Table("Drift by width", ("width", "drift"), ((64, 0.41), (256, gap))),),
...     formulas=(Formula(r"\dot w = -\nabla F(w)", "the gradient flow"),),
...     notes=("The bound needs a smooth activation.",))
>>> [number.key for number in section.all_numbers()]
['largest-gap-w-u', 'alpha-threshold-of-c1']

Text (a lead, a paragraph, a note) is a plain string without any markup, or a tuple that mixes
strings with `Number` and `Formula` values; numbers in text are shown with their error and are
recorded in results.json like the others.  Claim IDs inside strings become links by themselves.
Verdicts are `widthwise.claims.Verdict` values, as `check` returns them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from widthwise.claims import Verdict
from widthwise.numerics import Estimate, reject

from .digits import Real, scalar

Scale = Literal["linear", "log"]
Role = Literal["measured", "predicted", "bound", "reference"]


def slug(name: str) -> str:
    """Return the ASCII key of a name: `slug("Test error (%)") == "test-error"`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _demand_key(key: str) -> None:
    if slug(key) != key:
        reject(
            f"The key is {key!r}",
            "A key is made of small letters, digits and hyphens",
            f"Use {slug(key)!r}",
        )


def _floats(values: Any, what: str) -> tuple:
    array = np.asarray(values)
    if array.ndim != 1:
        reject(f"{what} has shape {array.shape}", "A series is one-dimensional", "Pass shape (n,)")
    if array.dtype.kind in "US":
        return tuple(str(value) for value in array)
    return tuple(np.asarray(array, np.float64).tolist())


@dataclass(frozen=True)
class Number:
    """One result: value ± error unit.

    name: what it is, in words; key: its name in results.json (made from `name` when empty).
    value: None, nan or inf when there is no number; `reason` then says why.
    error: half-width around the value, None when exact; interval: (low, high) when not symmetric.
    error_is: what the error means ("standard error over 20 draws", "95 % Wilson interval").
    claim: ID of the claim it belongs to.
    """

    name: str
    value: Real | None
    error: Real | None = None
    unit: str = ""
    claim: str | None = None
    key: str = ""
    interval: tuple[Real, Real] | None = None
    error_is: str = ""
    reason: str = ""

    def __post_init__(self):
        object.__setattr__(self, "key", self.key or slug(self.name))
        object.__setattr__(self, "value", scalar(self.value))
        object.__setattr__(self, "error", scalar(self.error))
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(map(scalar, self.interval)))
        _demand_key(self.key)
        if self.error is not None and self.error < 0:
            reject(
                f"The error of {self.name!r} is {self.error}",
                "An error is zero or more",
                "Pass the half-width of the interval",
            )

    @classmethod
    def of(cls, name: str, estimate: Estimate, **details) -> "Number":
        """Return the number of a scalar `Estimate`; a zero error is an exact number."""
        error = float(np.asarray(estimate.error))
        return cls(name, float(np.asarray(estimate.value)), None if error == 0 else error, **details)


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one curve or one set of bars; x may be words.

    role decides how it is drawn, the same on the whole page: measured (a solid line, with points
    and bars when there are few, with a band when there are many), predicted (dashed), bound
    (dash-dotted), reference (dotted).  group: series of one group share a colour.
    error: half-widths; interval: (lows, highs).
    """

    name: str
    x: Any
    y: Any
    error: Any = None
    role: Role = "measured"
    group: str = ""
    interval: tuple[Any, Any] | None = None

    def __post_init__(self):
        object.__setattr__(self, "group", self.group or self.name)
        for part in ("x", "y", "error"):
            values = getattr(self, part)
            if values is not None:
                object.__setattr__(self, part, _floats(values, f"{part} of {self.name!r}"))
        if self.interval is not None:
            low, high = (_floats(end, f"interval of {self.name!r}") for end in self.interval)
            object.__setattr__(self, "interval", (low, high))
        self._demand_equal_lengths()

    def _demand_equal_lengths(self) -> None:
        parts = (self.x, self.y, self.error, *(self.interval or ()))
        lengths = [len(part) for part in parts if part is not None]
        if len(set(lengths)) > 1:
            reject(
                f"The parts of series {self.name!r} have lengths {lengths}",
                "x, y and the errors have one entry per point",
                "Pass arrays of equal length",
            )


@dataclass(frozen=True)
class Grid:
    """A matrix drawn as a heat map: z has shape (len(y), len(x)), row 0 is drawn at the top."""

    name: str
    x: Any
    y: Any
    z: Any

    def __post_init__(self):
        object.__setattr__(self, "x", _floats(self.x, f"x of {self.name!r}"))
        object.__setattr__(self, "y", _floats(self.y, f"y of {self.name!r}"))
        z = np.asarray(self.z, np.float64)
        if z.shape != (len(self.y), len(self.x)):
            reject(
                f"Grid {self.name!r} has shape {z.shape}",
                f"z has shape (len(y), len(x)) = ({len(self.y)}, {len(self.x)})",
                "Transpose z or correct the axes",
            )
        object.__setattr__(self, "z", tuple(map(tuple, z.tolist())))


@dataclass(frozen=True)
class Mark:
    """A labelled straight line across the figure at one value of the axis "x" or "y"."""

    axis: Literal["x", "y"]
    value: Real
    label: str


@dataclass(frozen=True)
class Figure:
    """A plot: several `Series` as lines, bars or dots, or one `Grid` as a heat map.

    kind "bar" suits counts over x; "dot" suits a comparison of a few named things: x holds the
    names, which are listed downwards, and y the values, drawn along the horizontal axis.
    key: unique in the report; caption: what one sees, in a sentence (it is also what a screen
    reader says); claims: IDs of the claims it shows.
    """

    key: str
    title: str
    caption: str
    series: tuple[Series | Grid, ...]
    x_label: str
    y_label: str
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    kind: Literal["line", "bar", "dot"] = "line"
    marks: tuple[Mark, ...] = ()
    claims: tuple[str, ...] = ()

    def __post_init__(self):
        _demand_key(self.key)
        grids = sum(isinstance(item, Grid) for item in self.series)
        if not self.series or (grids and len(self.series) > 1):
            reject(
                f"Figure {self.key!r} has {len(self.series)} series of which {grids} are grids",
                "A figure shows one or more series, or one grid alone",
                "Split it into several figures",
            )


@dataclass(frozen=True)
class Formula:
    """A formula in LaTeX, shown as MathML; inside text it stands in the line."""

    latex: str
    caption: str = ""


Text = str | tuple[str | Number | Formula, ...]
Cell = str | Real | bool | np.bool_ | Number | None


@dataclass(frozen=True)
class Table:
    """A table; a cell is text, a number, a `Number` with its error, or None for "none"."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self):
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            reject(
                f"Table {self.caption!r} has a row of {wrong[0]} cells",
                f"Its {len(self.columns)} columns ask for as many",
                "Fill missing cells with None",
            )


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    lead: the answer in one sentence, with numbers; paragraphs: what it means, what to do.
    numbers and formulas are folded out on demand; notes are caveats ("does not apply, because").
    """

    key: str
    title: str
    lead: Text
    paragraphs: tuple[Text, ...] = ()
    numbers: tuple[Number, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    formulas: tuple[Formula, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[Text, ...] = ()

    def __post_init__(self):
        _demand_key(self.key)
        seen = {}
        for number in self._mentioned():
            if repr(seen.setdefault(number.key, number)) != repr(number):
                reject(
                    f"Section {self.key!r} has two different numbers with key {number.key!r}",
                    "A key names one number",
                    "Give one of them its own key=...",
                )

    def _mentioned(self) -> Iterator[Number]:
        texts = (self.lead, *self.paragraphs, *self.notes)
        rows = (row for table in self.tables for row in table.rows)
        in_text = (piece for text in texts if isinstance(text, tuple) for piece in text)
        in_tables = (cell for row in rows for cell in row)
        for item in (*self.numbers, *in_text, *in_tables):
            if isinstance(item, Number):
                yield item

    def all_numbers(self) -> tuple[Number, ...]:
        """Return every number of the section once: listed, in the text and in the tables."""
        return tuple({number.key: number for number in self._mentioned()}.values())


@dataclass(frozen=True)
class Metadata:
    """What the whole report is about; `pending` names the sections that are still missing.

    A report with pending sections is marked as partial.  `time` (when it was made), `seconds` (how
    long it took) and `timings` (the same by section) are the only entries that differ between two
    runs with equal inputs.
    facts: further (name, value) lines, such as ("samples", "1,797").
    own: whether the report is on a model that somebody brought.
    """

    dataset: str
    network: str
    command: str
    seed: int
    versions: Mapping[str, str]
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    time: str = ""
    seconds: float | int | None = None
    timings: tuple[tuple[str, float], ...] = ()
    own: bool = False

    @property
    def partial(self) -> bool:
        """Return whether a section is still missing."""
        return bool(self.pending)
