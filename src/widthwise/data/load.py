"""The one door for data: a built-in name, a file, arrays or a data frame become a checked `Dataset`."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from widthwise.numerics import nearest, reject

from .arrays import as_array, frame_table, is_frame, matrix_table, with_target
from .builtin import BUILTIN
from .dataset import Dataset, Inputs, Task
from .duplicates import duplicate_warnings, repetition_notes
from .files import EXTENSIONS, NO_TARGET, read_file
from .labels import read_labels
from .table import Table, features, listed

_LEAST_ROWS = 4  # two to learn from and two to test on


def load(source, target: str | int | None = None, task: str | None = None) -> Dataset:
    """Load and check a data set.

    A target is taken as classes when it is text or true/false, or when all its values are whole
    numbers of which at most 20 differ, and at most half as many as there are rows; otherwise
    it is a quantity to predict. ``task`` overrules this.

    Args:
        source: one of digits, iris, wine, breast_cancer, diabetes, mnist5k; the path of a .csv, .tsv, .npz
            or .parquet file; a pair ``(X, y)``; an array or data frame that contains the target; a `Dataset`.
        target: the name or index of the target column, by default the last one; in an .npz file with an
            array ``X``, the name of the array of targets, by default ``y``.
        task: "classification", "regression" or None for the rule above.

    Returns:
        The data with X of shape (n, d) in float64. What was decided on the way is in its ``warnings``.

    Raises:
        ValueError: the source cannot be read, a feature is not a finite number, all features are
            constant, the target is missing, constant or has a class with a single row.

    >>> load("iris")
    Dataset('iris': 150 rows, 4 features, 3 classes)
    >>> load(([[0.0], [1.0], [2.0], [3.0]], [0.1, 0.9, 2.2, 2.8])).task
    'regression'
    """
    _demand_task(task)
    if isinstance(source, Dataset):
        _demand_no_target(source.name, target, task)
        return source
    if _is_builtin(source):
        _demand_no_target(str(source), target, task)
        dataset = BUILTIN[source](source)
        return replace(dataset, warnings=duplicate_warnings(dataset.X, dataset.y))
    table, j, notes = _split_off_target(source, target)
    if j is None:
        reject(
            f"{table.name} is asked for without a target",
            f"A data set has a target; the columns are {listed(table.names)}",
            "Name the target, or use load_inputs for features alone",
        )
    return _checked(table, j, task, notes)


def load_inputs(source, target: str | int | None = None) -> Inputs:
    """Load features only, leaving out the target column; its values are not looked at.

    Args:
        source: as in `load`; of a pair ``(X, y)`` only X is used, and an array stands for all its columns.
        target: the column to leave out, by default the last one; "none" when every column is a feature.

    >>> load_inputs("wine").X.shape
    (178, 13)
    """
    if isinstance(source, Dataset) or _is_builtin(source):
        dataset = load(source, None if target == NO_TARGET else target)
        return Inputs(dataset.name, dataset.X, dataset.feature_names, repetition_notes(dataset.X))
    if isinstance(source, tuple):
        source = source[0]
    if target is None and not (isinstance(source, str | Path) or is_frame(source)):
        target = NO_TARGET
    table, j, notes = _split_off_target(source, target)
    inputs = table if j is None else table.without(j)
    _demand_size(inputs, rows=1, columns=1)
    X = features(inputs)
    return Inputs(table.name, X, inputs.names, (*notes, *repetition_notes(X)))


def _demand_task(task: str | None) -> None:
    if task not in (None, *get_args(Task)):
        reject(
            f"task={task!r}{nearest(str(task), get_args(Task))}",
            "A task is 'classification' or 'regression'",
            "Leave it out to let the target decide",
        )


def _demand_no_target(name: str, target: str | int | None, task: str | None) -> None:
    if target is not None or task is not None:
        reject(
            f"{name} was asked for with target={target!r}, task={task!r}",
            "A ready data set has its target and its task",
            "Leave both out, or pass the columns as a file or as arrays",
        )


def _is_builtin(source) -> bool:
    return isinstance(source, str) and source in BUILTIN


def _split_off_target(source, target: str | int | None) -> tuple[Table, int | None, tuple[str, ...]]:
    """Read the source; return its table, the index of its target (None: no target) and what to tell the reader."""
    table = _table(source, target)
    if target == NO_TARGET and NO_TARGET not in table.names:
        return table, None, table.notes
    if target is not None:
        return table, table.find(target), table.notes
    if isinstance(source, tuple) or table.names[-1:] == ("y",):
        return table, len(table.names) - 1, table.notes
    note = f"no target was named; the last column of {table.name}, {table.names[-1]!r}, is taken as the target"
    return table, len(table.names) - 1, (*table.notes, note)


def _table(source, target: str | int | None) -> Table:
    if isinstance(source, str | Path):
        _demand_known_name(source)
        return read_file(Path(source).expanduser(), target)
    if isinstance(source, tuple):
        return _pair_table(source, target)
    if is_frame(source):
        return frame_table(source, "the data frame")
    return matrix_table(as_array(source, "The array"), "the array")


def _pair_table(source: tuple, target: str | int | None) -> Table:
    if len(source) != 2:
        reject(f"a tuple of {len(source)} things came", "A tuple of data is a pair (X, y)", "Pass X and y alone")
    if target is not None:
        reject(f"target={target!r} came with a pair (X, y)", "The target of a pair is its y", "Leave the target out")
    X, y = source
    table = frame_table(X, "X") if is_frame(X) else matrix_table(as_array(X, "X"), "X")
    return replace(with_target(table, "y", as_array(y, "y")), name="the pair (X, y)")


def _demand_known_name(source: str | Path) -> None:
    """Refuse a plain word that is neither a built-in data set nor anything on the disk."""
    if isinstance(source, Path) or (source and _looks_like_a_path(source)):
        return
    reject(
        f"There is no built-in data set {source!r}{nearest(source, BUILTIN)}",
        f"Built in are {', '.join(BUILTIN)}; files end in {', '.join(EXTENSIONS)}",
        "Name one of these, or the path of a file",
    )


def _looks_like_a_path(source: str) -> bool:
    path = Path(source).expanduser()
    return bool(path.suffix) or path.name != source or path.exists()


def _demand_size(table: Table, rows: int, columns: int) -> None:
    if len(table.names) < columns:
        reject(
            f"{table.name} has {len(table.names)} {'column' if len(table.names) == 1 else 'columns'}",
            "A table has at least one feature besides its target; cells are separated by comma, semicolon, tab or bar",
            "Check the separator and the target",
        )
    if len(table) < rows:
        reject(
            f"{table.name} has {len(table)} {'row' if len(table) == 1 else 'rows'}",
            f"At least {rows} {'row is' if rows == 1 else 'rows are'} needed, to learn from and to test on",
            "Bring more data",
        )


def _checked(table: Table, j: int, task: str | None, notes: tuple[str, ...]) -> Dataset:
    _demand_size(table, _LEAST_ROWS, 2)
    inputs = table.without(j)
    X = features(inputs)
    if not np.any(np.ptp(X, axis=0)):
        reject(
            f"All {X.shape[1]} features of {table.name} are constant",
            "At least one feature differs between rows",
            "Check which columns were saved, and which is the target",
        )
    labels = read_labels(table, j, task)
    warnings = (*notes, *labels.warnings, *duplicate_warnings(X, labels.y, table.where))
    return Dataset(table.name, X, labels.y, labels.task, inputs.names, labels.classes, warnings)
