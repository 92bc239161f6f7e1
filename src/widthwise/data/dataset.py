"""What a data set is, once everything about it is settled."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from widthwise.numerics import reject

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows of finite numbers, each with a label.

    Args:
        name: what messages and the report call it.
        X: the features, shape (n, d), read-only.
        y: for classification the index into ``classes``, shape (n,); for regression the target in its own unit.
        task: "classification" or "regression".
        feature_names: one name per column of ``X``; any text, never to be trusted as HTML.
        classes: the labels as text, in sorted order; empty for regression.
        warnings: what a reader of any result on these data should know.

    >>> X, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 1])
    >>> Dataset("or", X, y, "classification", ("a", "b"), ("no", "yes"))
    Dataset('or': 4 rows, 2 features, 2 classes)
    """

    name: str
    X: Float[np.ndarray, "n d"]
    y: Shaped[np.ndarray, " n"]
    task: Task
    feature_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        X = np.asarray(self.X, dtype=np.float64)
        y = np.asarray(self.y, dtype=np.int64 if self.task == "classification" else np.float64)
        if X.ndim != 2 or y.shape != X.shape[:1] or len(self.feature_names) != X.shape[1]:
            reject(
                f"X of shape {X.shape}, y of shape {y.shape} and {len(self.feature_names)} feature names",
                "A data set has X of shape (n, d), y of shape (n,) and d names",
                "Use widthwise.load, which arranges them",
            )
        object.__setattr__(self, "X", _read_only(X))
        object.__setattr__(self, "y", _read_only(y))

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes" if self.task == "classification" else "regression"
        return f"Dataset({self.name!r}: {len(self)} rows, {self.X.shape[1]} features, {kind})"

    def rows(self, chosen) -> "Dataset":
        """Return the data set of some rows: ``chosen`` is an index array or a mask."""
        return replace(self, X=self.X[chosen], y=self.y[chosen])


@dataclass(frozen=True, eq=False)
class Inputs:
    """Features without labels: what a kernel matrix needs."""

    name: str
    X: Float[np.ndarray, "n d"]
    feature_names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view
