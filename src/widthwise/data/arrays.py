"""From arrays and data frames in memory to a table."""

import numpy as np

from widthwise.numerics import reject

from .table import Table


def is_frame(source: object) -> bool:
    """Say whether a source has named columns, as the frames of pandas and polars do."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__") and not isinstance(source, dict)


def frame_table(frame, name: str) -> Table:
    """Arrange a data frame as a table; its column labels become text."""
    labels = list(frame.columns)
    columns = [frame.iloc[:, j] if hasattr(frame, "iloc") else frame[label] for j, label in enumerate(labels)]
    table = Table(name, tuple(map(str, labels)), tuple(np.asarray(column) for column in columns))
    if not labels or not len(table):
        reject(
            f"{name} has {len(table)} rows and {len(labels)} columns",
            "A data frame holds at least one of each",
            "Check how it was made",
        )
    return table


def as_array(values: object, what: str) -> np.ndarray:
    """Turn anything array-like into an array, or say why it is none."""
    if hasattr(values, "toarray"):
        reject(f"{what} is a sparse matrix", "Features are a dense array of shape (n, d)", "Pass its .toarray()")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as failure:
        return reject(
            f"{what} cannot be made an array: {failure}",
            "Its rows are equally long lists of numbers",
            "Correct the rows, or pass a numpy array",
        )


def matrix_table(X: np.ndarray, name: str) -> Table:
    """Arrange a matrix of shape (n, d) as a table."""
    if X.ndim != 2 or 0 in X.shape:
        todo = {1: "Pass X[:, None] for a single feature"}.get(X.ndim, "Pass X.reshape(len(X), -1)")
        reject(
            f"The features of {name} have shape {X.shape}",
            "Features have shape (n, d): one row per example, at least one of each",
            todo if X.size else "Pass at least one row and one feature",
        )
    return Table(name, tuple(f"feature {j}" for j in range(X.shape[1])), tuple(X[:, j] for j in range(X.shape[1])))


def with_target(table: Table, name: str, y: np.ndarray) -> Table:
    """Append the target as the last column."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(y) != len(table):
        reject(
            f"The target {name!r} of {table.name} has shape {y.shape}, beside {len(table)} rows of features",
            f"A target has shape ({len(table)},): one label or number per row",
            "Turn one-hot rows into labels with y.argmax(axis=1)" if y.ndim == 2 else "Pass as many targets as rows",
        )
    return Table(table.name, (*table.names, name), (*table.columns, y), table.lines, table.notes)
