"""The two files of a report, index.html and results.json, written whole or not at all.

`prepare` is called before any computing, `write` after every finished section: whenever the work
is interrupted, the folder holds a valid report of the sections that were finished.
"""

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widthwise.claims import Verdict
from widthwise.numerics import Estimate, nearest, reject

from .digits import in_words
from .markup import plain_text
from .page import GENERATOR, SUMMARY, render
from .section import Figure, Metadata, Number, Section, Series, Table

FORMAT = "widthwise-report"
# The two files in the folder of a report.
PAGE, DATA = "index.html", "results.json"


@dataclass(frozen=True)
class Results:
    """What `report` returns: the finished sections, what they are about and where the page is."""

    sections: tuple[Section, ...]
    metadata: Metadata
    page: Path | None = None

    def section(self, key: str) -> Section:
        """Return a section by its key; raises `ValueError` for an unknown one."""
        known = {section.key: section for section in self.sections}
        return known[_demand(key, known, "section")]

    def number(self, section: str, key: str) -> Number:
        """Return a number by the keys of its section and its own; raises `ValueError`."""
        known = {number.key: number for number in self.section(section).all_numbers()}
        return known[_demand(key, known, "number")]

    def __str__(self) -> str:
        """The summary, or what the sections say where there is none, and where the page is."""
        summaries = [section for section in self.sections if section.key == SUMMARY]
        told = [f"{section.title}: {plain_text(section.lead)}" for section in summaries or self.sections]
        advice = [plain_text(text) for section in summaries for text in section.paragraphs]
        return "\n".join([*told, *advice, *([f"page: {self.page}"] if self.page else [])])


def _demand(key: str, known: dict, what: str) -> str:
    if key not in known:
        reject(f"There is no {what} {key!r}{nearest(key, known)}", f"There are {', '.join(known)}", "Use one of them")
    return key


def prepare(folder: str | os.PathLike) -> Path:
    """Return the output folder, made if need be and proved writable; nothing else is left in it.

    Raises `ValueError` when the folder cannot be made or written, or holds an index.html or a
    results.json that is not ours to overwrite.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _temporary(path, "probe")
        probe.write_bytes(b"")
        probe.unlink()
        strangers = [name for name in (PAGE, DATA) if not _ours(path / name)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reject(
            f"The report cannot be written to {str(path)!r}: {reason}",
            "The output is a folder in which files can be made",
            "Name another folder or change its permissions",
        )
    if strangers:
        reject(
            f"{str(path)!r} holds {' and '.join(strangers)} that no report wrote",
            "A report only overwrites an earlier report",
            "Name another folder or move the file away",
        )
    return path


def write(folder: str | os.PathLike, sections: Sequence[Section], metadata: Metadata) -> Path:
    """Write both files and return the path of the page.

    Each file is replaced in one step, so a reader never sees half of it. Raises `ValueError` when
    two sections or two figures have the same key, before anything is written.
    """
    _demand_unique(sections)
    data = json.dumps(as_data(sections, metadata), indent=1, ensure_ascii=False, allow_nan=False)
    page = render(sections, metadata)
    _replace(Path(folder) / DATA, data + "\n")
    _replace(Path(folder) / PAGE, page)
    return Path(folder) / PAGE


def as_data(sections: Sequence[Section], metadata: Metadata) -> dict:
    """Return everything in the report as plain data for strict JSON.

    A number that is missing or not finite is None, and a "reason" says what stood there.
    """
    return {
        "format": FORMAT,
        "version": 1,
        "run": {
            "dataset": metadata.dataset,
            "network": metadata.network,
            "command": metadata.command,
            "seed": metadata.seed,
            "versions": dict(metadata.versions),
            "facts": dict(metadata.facts),
            "warnings": list(metadata.warnings),
        },
        "made": {"time": metadata.time, "seconds": _finite(metadata.seconds), "timings": dict(metadata.timings)},
        "partial": metadata.partial,
        "pending": list(metadata.pending),
        "sections": {section.key: _section(section) for section in sections},
    }


def _section(section: Section) -> dict:
    return {
        "title": section.title,
        "lead": plain_text(section.lead),
        "paragraphs": [plain_text(text) for text in section.paragraphs],
        "numbers": {number.key: _number(number) for number in section.all_numbers()},
        "verdicts": [_verdict(verdict) for verdict in section.verdicts],
        "figures": {figure.key: _figure(figure) for figure in section.figures},
        "tables": [_table(table) for table in section.tables],
        "formulas": [{"latex": formula.latex, "caption": formula.caption} for formula in section.formulas],
        "notes": [plain_text(text) for text in section.notes],
    }


def _number(number: Number) -> dict:
    entry = {
        "name": number.name,
        "value": _finite(number.value),
        "error": _finite(number.error),
        "interval": _finite(number.interval),
        "error_is": number.error_is,
        "unit": number.unit,
        "claim": number.claim,
    }
    if entry["value"] is None:
        entry["reason"] = in_words(number.value, number.reason)
    return entry


def _verdict(verdict: Verdict) -> dict:
    return {
        "claim": verdict.claim_id,
        "name": verdict.name,
        "status": verdict.status.value,
        "reasons": list(verdict.reasons),
        "predicted": _estimate(verdict.predicted),
        "measured": _estimate(verdict.measured),
        "slack": _finite(verdict.slack),
        "draws": verdict.draws,
    }


def _estimate(estimate: Estimate | None) -> dict | None:
    if estimate is None:
        return None
    value, error = (np.asarray(part, np.float64).tolist() for part in (estimate.value, estimate.error))
    return {"value": _finite(value), "error": _finite(error)} | _reasons(value=value)


def _figure(figure: Figure) -> dict:
    return {
        "title": figure.title,
        "caption": figure.caption,
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "claims": list(figure.claims),
        "series": [_series(item) for item in figure.series],
        "marks": [{"axis": m.axis, "value": _finite(float(m.value)), "label": m.label} for m in figure.marks],
    }


def _series(item: Any) -> dict:
    if not isinstance(item, Series):
        return {"name": item.name, "x": _finite(item.x), "y": _finite(item.y), "z": _finite(item.z)} | _reasons(
            z=item.z
        )
    return {
        "name": item.name,
        "role": item.role,
        "x": _finite(item.x),
        "y": _finite(item.y),
        "error": _finite(item.error),
        "interval": _finite(item.interval),
    } | _reasons(x=item.x, y=item.y)


def _table(table: Table) -> dict:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return {"caption": table.caption, "columns": list(table.columns), "rows": rows}


def _cell(cell: Any) -> Any:
    return {"key": cell.key} | _number(cell) if isinstance(cell, Number) else _finite(cell)


def _finite(value: Any) -> Any:
    """Return the value with None for every float that is not finite; tuples become lists."""
    if isinstance(value, (tuple, list)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reasons(**parts: Any) -> dict:
    """Say what stood at each place of the named arrays where there is None now."""
    places = {f"{name}{place}": word for name, values in parts.items() for place, word in _places(values)}
    return {"reasons": places} if places else {}


def _places(values: Any, place: str = ""):
    if isinstance(values, (tuple, list)):
        for index, item in enumerate(values):
            yield from _places(item, f"{place}[{index}]")
    elif isinstance(values, float) and not math.isfinite(values):
        yield place, in_words(values)


def _demand_unique(sections: Sequence[Section]) -> None:
    figures = [figure.key for section in sections for figure in section.figures]
    for what, keys in (("sections", [section.key for section in sections]), ("figures", figures)):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            reject(f"Two {what} have the key {twice[0]!r}", "A key is unique in a report", "Rename one of them")


def _temporary(folder: Path, name: str) -> Path:
    return folder / f".{name}.{os.getpid()}.tmp"


def _replace(path: Path, content: str) -> None:
    temporary = _temporary(path.parent, path.name)
    try:
        # "replace": a name from the file system may hold lone surrogates, which UTF-8 cannot.
        temporary.write_bytes(content.encode("utf-8", "replace"))
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _ours(path: Path) -> bool:
    if not path.exists():
        return True
    with path.open("rb") as file:
        start = file.read(1000).decode("utf-8", "replace")
    return GENERATOR in start or f'"format": "{FORMAT}"' in start
