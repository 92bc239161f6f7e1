"""Named columns as they came, and how a column becomes numbers or says why it cannot."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from jaxtyping import Float

from widthwise.numerics import nearest, reject

MISSING = frozenset({"", "na", "n/a", "nan", "<na>", "nat", "null", "none", "?", "-", "."})
_FLAGS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length, before it is known which of them is the target.

    Args:
        name: what messages call the source.
        names: the column names, any text, repetitions allowed.
        columns: one array per name, of any dtype; text stands in object arrays.
        lines: where each row stands in its file; None when it came from memory.
        notes: what was decided while reading.
    """

    name: str
    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    lines: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        text = (np.char.decode(c, errors="replace") if c.dtype.kind == "S" else c for c in self.columns)
        object.__setattr__(self, "columns", tuple(text))

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def where(self, row: int) -> str:
        """Say where a row stands, in the way its reader counts."""
        return f"line {self.lines[row]}" if self.lines else f"row {row} (counted from 0)"

    def without(self, index: int, note: str = "") -> "Table":
        """Return the table without one column."""
        keep = [j for j in range(len(self.names)) if j != index]
        notes = (*self.notes, note) if note else self.notes
        return replace(
            self, names=tuple(self.names[j] for j in keep), columns=tuple(self.columns[j] for j in keep), notes=notes
        )

    def find(self, target: str | int) -> int:
        """Return the index of the column that ``target`` names; a name written as text wins over an index."""
        named = [j for j, name in enumerate(self.names) if name == str(target)]
        index = _as_index(target)
        if (
            index is not None
            and -len(self.names) <= index < len(self.names)
            and not (isinstance(target, str) and named)
        ):
            return index % len(self.names)
        if len(named) > 1:
            reject(
                f"{len(named)} columns of {self.name} are called {target!r}",
                "The target is one column",
                f"Rename the others, or name the target by its index: {' or '.join(map(str, named))}",
            )
        if not named:
            reject(
                f"{self.name} has no column {target!r}{nearest(str(target), self.names)}",
                f"Its columns are {listed(self.names)}",
                f"Name one of them, or its index from 0 to {len(self.names) - 1}",
            )
        return named[0]


def _as_index(target: str | int) -> int | None:
    try:
        return int(target)
    except ValueError:
        return None


def listed(names: Iterable[str], most: int = 12) -> str:
    """Write names in a sentence, the first dozen of them.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def is_missing(cell: object) -> bool:
    """Say whether a cell is one of the usual signs for a value that is not there."""
    return cell is None or str(cell).strip().lower() in MISSING


def number(cell: object) -> float | None:
    """Read one cell as a number: NaN when it is missing, None when it is text.

    >>> number(" 1e3 "), number("1_000"), number("red"), number("?")
    (1000.0, None, None, nan)
    """
    if is_missing(cell):
        return float("nan")
    if isinstance(cell, str) and "_" in cell:  # Python's own number syntax, not a data file's
        return None
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(column: np.ndarray) -> tuple[Float[np.ndarray, " n"], int | None]:
    """Read a column as numbers; the second value is the first row that holds something else."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64), None
    cells = [number(cell) for cell in column]
    if None in cells:
        return np.empty(0), cells.index(None)
    return np.array(cells, dtype=np.float64), None


def features(table: Table) -> Float[np.ndarray, "n d"]:
    """Read every column as numbers and demand that all of them are finite."""
    X = np.empty((len(table), len(table.names)))
    for j in range(len(table.names)):
        X[:, j] = _feature(table, j)
    demand_finite(X, table)
    return X


def _feature(table: Table, j: int) -> Float[np.ndarray, " n"]:
    column = table.columns[j]
    if column.dtype.kind in "OUS":
        flags = [_FLAGS.get(str(cell).strip().lower()) for cell in column]
        if None not in flags:
            return np.array(flags, dtype=np.float64)
    if column.dtype.kind in "cmMV":
        _refuse_column(table, j, f"holds values of type {column.dtype}")
    values, wrong = numbers(column)
    if wrong is None:
        return values
    cell = str(column[wrong])
    if is_decimal_comma(cell):
        reject(
            f"Column {table.names[j]!r} of {table.name} holds {cell!r} at {table.where(wrong)}, a number with a "
            "decimal comma",
            "Numbers are written with a decimal point, as 3.14",
            "Replace the commas inside the numbers by points",
        )
    return _refuse_column(table, j, f"holds the text {_shortened(cell)} at {table.where(wrong)}")


def _refuse_column(table: Table, j: int, what: str) -> NoReturn:
    reject(
        f"Column {table.names[j]!r} of {table.name} {what}",
        "Features are numbers",
        "Leave the column out, write it as numbers (one 0/1 column per value), or make it the target",
    )


def _shortened(cell: str, most: int = 60) -> str:
    return repr(cell if len(cell) <= most else cell[:most] + "...")


def is_decimal_comma(cell: str) -> bool:
    """Say whether a cell reads as a number once its single comma becomes a point."""
    return cell.count(",") == 1 and "." not in cell and number(cell.replace(",", ".")) is not None


def demand_finite(X: Float[np.ndarray, "n d"], table: Table) -> None:
    """Refuse NaN and infinity and say where the first of them stands."""
    wrong = np.argwhere(~np.isfinite(X))
    if not len(wrong):
        return
    row, j = map(int, wrong[0])
    cell = table.columns[j][row]
    reads = f", which reads {cell!r}" if isinstance(cell, str) else ""
    what = "infinite" if np.isinf(X[row, j]) else "missing (NaN)"
    more = f"; {len(wrong)} values like this in all" if len(wrong) > 1 else ""
    reject(
        f"The value in column {table.names[j]!r} at {table.where(row)} of {table.name}{reads}, is {what}{more}",
        "Every value is a finite number",
        "Leave such rows out, or fill the gaps with a value of your choice",
    )
