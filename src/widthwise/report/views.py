"""What the templates ask of sections, verdicts and figures."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from widthwise.claims import AtLeast, AtMost, Claim, Equal, Scaling, Status, Verdict, citation
from widthwise.numerics import Estimate

from . import figures, markup
from .section import Cell, Figure, Grid, Number, Section, Series, Table, slug

_SIGNS = {Status.HOLDS: "✓", Status.VIOLATED: "✕", Status.INCONCLUSIVE: "?", Status.NOT_APPLICABLE: "–"}
_DASHES = {"measured": "", "predicted": "6 4", "bound": "8 3 2 3", "reference": "2 3"}
_SYMBOLS = {
    "circle": "M9 5a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M9.5 1.5h7v7h-7z",
    "diamond": "M13 0l5 5l-5 5l-5 -5z",
    "triangle-up": "M13 0.5l4.5 8h-9z",
    "triangle-down": "M13 9.5l4.5 -8h-9z",
    "cross": "M11.5 0h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
}
_RELATIONS = {Equal: "against", AtMost: "at most", AtLeast: "at least", Scaling: "scales as"}
_SHOWN_ROWS = 200


@dataclass(frozen=True)
class Entry:
    """A section with its place on the page."""

    section: Section
    ordinal: str
    summary: bool
    how: bool


@dataclass(frozen=True)
class Registered:
    """A claim that the report mentions, as the register shows it."""

    id: str
    name: str
    statement: Markup
    sources: str
    statuses: tuple[Status, ...]
    reasons: tuple[str, ...]
    relation: str


def entries(sections: Sequence[Section], summary: str, how: str) -> list[Entry]:
    """Return the sections with their ordinals; the last one tells how the report was made."""
    made = [section for section in sections if section.key == how] or [_made(how)]
    ordered = [section for section in sections if section.key != how] + made
    numbered = [section.key for section in ordered if section.key != summary]
    ordinals = {key: str(index) for index, key in enumerate(numbered, start=1)}
    return [Entry(s, ordinals.get(s.key, ""), s.key == summary, s.key == how) for s in ordered]


def _made(key: str) -> Section:
    return Section(key, "How this was made", "The same command with the same seed gives the same numbers.")


def tally(sections: Iterable[Section]) -> list[tuple[Status, int]]:
    """Return how often each status was found, leaving out those that were not."""
    found = [verdict.status for section in sections for verdict in section.verdicts]
    return [(status, found.count(status)) for status in Status if status in found]


def register(sections: Sequence[Section], known: Iterable[Claim]) -> dict[str, Registered]:
    """Return every claim that a verdict, a number or a figure names, in the order of the report."""
    by_id = {claim.id: claim for claim in known}
    verdicts: dict[str, list[Verdict]] = {}
    for section in sections:
        for verdict in section.verdicts:
            verdicts.setdefault(verdict.claim_id, []).append(verdict)
        figured = (claim for figure in section.figures for claim in figure.claims)
        numbered = (number.claim for number in section.all_numbers() if number.claim)
        for claim in (*numbered, *figured):
            verdicts.setdefault(claim, [])
    return {name: _registered(name, by_id.get(name), found) for name, found in verdicts.items()}


def _registered(name: str, claim: Claim | None, verdicts: Sequence[Verdict]) -> Registered:
    statuses = tuple(dict.fromkeys(verdict.status for verdict in verdicts))
    reasons = tuple(dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons))
    if claim is None:
        label = verdicts[0].name if verdicts else ""
        return Registered(name, label, Markup(""), "", statuses, reasons, "against")
    origin = ("derived in this project",) if claim.derived_here else ()
    sources = "; ".join((*map(citation, claim.sources), *origin))
    relation = _RELATIONS.get(type(claim.relation), "against")
    statement = markup.statement(claim.statement)
    return Registered(name, claim.name, statement, sources, statuses, reasons, relation)


def duration(seconds: float | None) -> str:
    """Return a duration in words.

    >>> duration(94.2), duration(7.25), duration(None)
    ('1 min 34 s', '7.2 s', '')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def filters(known: Any) -> dict[str, Callable]:
    """Return the filters of the templates; `known` is the register of claims."""
    return {
        "cell": lambda content: markup.cell(content, known),
        "claim_link": lambda claim: markup.claim_link(claim) if claim in known else escape(claim),
        "captioned": lambda figure: [claim for claim in figure.claims if claim not in figure.caption],
        "claims": lambda text: markup.linked(text, known),
        "count": _count,
        "data_table": data_table,
        "display_math": lambda formula: markup.math(formula.latex, "block"),
        "held": lambda verdict: _held(verdict, known),
        "legend": figures.legend,
        "number": markup.number,
        "numeric_columns": numeric_columns,
        "sample": _sample,
        "shape": _shape,
        "sign": _SIGNS.__getitem__,
        "slack": lambda verdict: "" if _slack(verdict) is None else f"{_slack(verdict):.3g}",
        "slack_width": lambda verdict: round(100 * min(max(_slack(verdict) or 0.0, 0.0), 1.0)),
        "slug": slug,
        "text": lambda text: markup.text(text, known),
    }


def _count(status: Status, count: int) -> str:
    verb = "hold" if status is Status.HOLDS and count > 1 else status.value
    return f"{count} {verb}"


def is_numeric(content: Cell) -> bool:
    """Return whether a cell holds a number rather than words."""
    return isinstance(content, (int, float, np.number, Number)) and not isinstance(content, bool)


def numeric_columns(rows: Sequence[Sequence[Cell]], size: int) -> list[bool]:
    """Return for each of so many columns whether all that stands in it are numbers."""
    columns = [[row[index] for row in rows if row[index] is not None] for index in range(size)]
    return [bool(cells) and all(map(is_numeric, cells)) for cells in columns]


def _slack(verdict: Verdict) -> float | None:
    finite = verdict.slack is not None and math.isfinite(verdict.slack)
    return verdict.slack if finite else None


def _held(verdict: Verdict, known: dict[str, Registered]) -> str:
    """Say what was held against what, of many values the one nearest to the limit: "measured 0.12, at most 0.31"."""
    if verdict.measured is None or verdict.predicted is None:
        return ""
    relation = known[verdict.claim_id].relation if verdict.claim_id in known else "against"
    measured, predicted = np.broadcast_arrays(verdict.measured.value, verdict.predicted.value)
    if not measured.size:
        return "measured nothing"
    place = _nearest(measured.ravel(), predicted.ravel(), relation)
    one, other = (_at(estimate, measured.shape, place) for estimate in (verdict.measured, verdict.predicted))
    many = f", the nearest to its limit of {measured.size:,} values" if measured.size > 1 else ""
    return f"measured {one}, {relation} {other}{many}"


def _nearest(measured: np.ndarray, predicted: np.ndarray, relation: str) -> int:
    """The place of the value nearest to its limit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = {
            "at most": measured / predicted,
            "at least": predicted / measured,
        }.get(relation, np.abs(measured - predicted))
    return int(np.argmax(np.nan_to_num(share, nan=0.0)))


def _at(estimate: Estimate, shape: tuple[int, ...], place: int) -> str:
    value, error = (
        float(np.broadcast_to(np.asarray(part, np.float64), shape).ravel()[place])
        for part in (estimate.value, estimate.error)
    )
    return markup.told(Number("value", value, error))


def _shape(figure: Figure) -> str:
    return "heatmap" if isinstance(figure.series[0], Grid) else figure.kind


def _sample(entry: dict) -> Markup:
    """Return the small drawing that stands for a series in the legend."""
    line = '<line y1="5" x2="26" y2="5" stroke="currentColor" stroke-width="2.4" stroke-dasharray="{}"/>'
    box = '<path d="M7 0h12v10h-12z" fill="currentColor"/>'
    shape = Markup(box if entry["bar"] else line).format(_DASHES[entry["role"]])
    if entry["symbol"]:
        shape += Markup('<path d="{}" fill="currentColor"/>').format(_SYMBOLS[entry["symbol"]])
    frame = '<svg width="26" height="10" aria-hidden="true" style="color: var(--{})">{}</svg>'
    return Markup(frame).format(entry["colour"], shape)


def data_table(figure: Figure) -> Table:
    """Return the data of a figure as a table, at most 200 rows of it."""
    if isinstance(figure.series[0], Grid):
        rows, columns = _grid_rows(figure.series[0]), (figure.y_label, figure.x_label, figure.series[0].name)
    else:
        rows = [row for item in figure.series if isinstance(item, Series) for row in _series_rows(item)]
        columns = ("series", figure.x_label, figure.y_label)
    note = f" (the first {_SHOWN_ROWS} of {len(rows)} rows; all are in results.json)"
    caption = figure.title + (note if len(rows) > _SHOWN_ROWS else "")
    return Table(caption, columns, tuple(rows[:_SHOWN_ROWS]))


def _grid_rows(grid: Grid) -> list[tuple[Cell, ...]]:
    return [(y, x, z) for y, row in zip(grid.y, grid.z, strict=True) for x, z in zip(grid.x, row, strict=True)]


def _series_rows(series: Series) -> list[tuple[Cell, ...]]:
    errors = series.error or (None,) * len(series.x)
    intervals = zip(*series.interval, strict=True) if series.interval else (None,) * len(series.x)
    parts = zip(series.x, series.y, errors, intervals, strict=True)
    return [(series.name, x, Number("y", y, error, interval=interval)) for x, y, error, interval in parts]
