"""What the target column means: classes or a quantity."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Shaped

from widthwise.numerics import reject

from .dataset import Task
from .table import Table, demand_finite, is_missing, listed, number, numbers

MOST_INTEGER_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Labels:
    """The target, read: class indices with their names, or numbers."""

    y: Shaped[np.ndarray, " n"]
    task: Task
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_labels(table: Table, j: int, task: str | None = None) -> Labels:
    """Read column ``j`` of a table as the target.

    The rule: a target is a class when it is text or true/false, or when all its values are whole
    numbers of which at most 20 differ, and at most half as many as there are rows. Anything else
    is a quantity. ``task`` overrules it.
    """
    column = table.columns[j]
    if column.dtype.kind == "b":
        column = column.astype(str).astype(object)
    if column.dtype.kind in "cmMV":
        reject(
            f"The target {table.names[j]!r} of {table.name} holds values of type {column.dtype}",
            "A target holds text labels or real numbers",
            "Convert it, or choose another target",
        )
    values, wrong = numbers(column)
    if wrong is not None:
        return _text_labels(table, j, wrong, task)
    demand_finite(values[:, None], Table(table.name, (table.names[j],), (column,), table.lines))
    if task == "regression" or (task is None and not _few_integers(values)):
        return _quantity(table, j, values)
    labels = _classes(table, j, *np.unique(values, return_inverse=True))
    if task is None and len(labels.classes) > 2:
        note = (
            f"the target {table.names[j]!r} is read as {len(labels.classes)} classes, because it has only that many "
            "different values and all are whole numbers; task='regression' reads it as a quantity"
        )
        return Labels(labels.y, labels.task, labels.classes, (note,))
    return labels


def _few_integers(values: Float[np.ndarray, " n"]) -> bool:
    distinct = np.unique(values)
    return bool(np.all(distinct == np.round(distinct))) and len(distinct) <= min(MOST_INTEGER_CLASSES, len(values) // 2)


def _quantity(table: Table, j: int, values: Float[np.ndarray, " n"]) -> Labels:
    if np.all(values == values[0]):
        _refuse_constant(table, j, f"{values[0]:g}")
    return Labels(values, "regression")


def _refuse_constant(table: Table, j: int, value: str) -> NoReturn:
    reject(
        f"The target {table.names[j]!r} of {table.name} is {value} in every row",
        "A target has at least two different values",
        "Choose another target",
    )


def _text(cell: object) -> str:
    """Write a label as text; nothing for a value that is not there (a class may well be called "None")."""
    text = str(cell).strip()
    missing = text.lower() == "nan" if isinstance(cell, str) else is_missing(cell)
    return "" if missing else text


def _text_labels(table: Table, j: int, wrong: int, task: str | None) -> Labels:
    cells = np.array([_text(cell) for cell in table.columns[j]])
    missing = np.flatnonzero(cells == "")
    if len(missing):
        reject(
            f"The target {table.names[j]!r} of {table.name} has no value at {table.where(int(missing[0]))}",
            "Every row has a label",
            "Leave out the rows without one",
        )
    readable = np.mean([number(cell) is not None for cell in cells])
    distinct, y = np.unique(cells, return_inverse=True)
    if task == "regression" or (task is None and readable > 0.5 and len(distinct) > MOST_INTEGER_CLASSES):
        reject(
            f"The target {table.names[j]!r} of {table.name} holds the text {str(cells[wrong])!r} at "
            f"{table.where(wrong)}",
            "A quantity to predict is a number in every row",
            "Correct or leave out such rows, or choose task='classification'",
        )
    return _classes(table, j, distinct, y)


def _is_whole(value: float | str) -> bool:
    return isinstance(value, float) and value.is_integer()


def _classes(table: Table, j: int, distinct: np.ndarray, y: np.ndarray) -> Labels:
    names = tuple(str(int(value)) if _is_whole(value) else str(value) for value in distinct.tolist())
    if len(names) == 1:
        _refuse_constant(table, j, repr(names[0]))
    counts = np.bincount(y)
    if 2 * len(names) > len(y):
        reject(
            f"The target {table.names[j]!r} of {table.name} has {len(names)} different labels in {len(y)} rows",
            "Classes need at least two rows each, one to learn from and one to test on",
            "Choose another target, or task='regression' when it is a quantity",
        )
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    if single:
        where = table.where(int(np.flatnonzero(y == names.index(single[0]))[0]))
        reject(
            f"Of the {len(names)} classes of {table.names[j]!r} in {table.name}, {len(single)} have a single row: "
            f"{listed(single)} (the first at {where})",
            "A class has at least two rows, one to learn from and one to test on",
            "Leave these rows out, merge the class with another, or choose task='regression' for a quantity",
        )
    return Labels(y.astype(np.int64), "classification", names)
