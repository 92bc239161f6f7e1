"""Examples of any shape for a model that somebody brings: rows of features, images, sequences of tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from widthwise.numerics import reject

from .arrays import as_array, is_frame
from .dataset import Dataset
from .files import npz_arrays
from .load import load
from .prepare import FeatureScale, Part, Standardised, target_scale


@dataclass(frozen=True)
class Layout:
    """How a row of numbers becomes an example again: its shape, whether its numbers are whole, how they were scaled.

    ``scaling``: "none", "features" (each to mean 0 and variance 1) or "whole" (all numbers by one mean and scale).
    """

    shape: tuple[int, ...]
    integers: bool = False
    scaling: str = "none"


def load_examples(
    source: Any, target: str | int | None = None, shape: Sequence[int] | None = None
) -> tuple[Dataset, Layout]:
    """Load a data set whose examples may have any shape; in the `Dataset` each is one row of numbers.

    ``source`` and ``target`` are as in `load`, and of a pair ``(X, y)``, as of an .npz file, X may be of shape
    (n, ...): images (n, height, width, channels), or tokens, whole numbers (n, length). ``shape`` is that of one
    example where rows of features stand for something else. Numbers of arrays stay as they are; those of tables and
    built-in data sets are to be scaled.

    Raises ``ValueError`` as `load` does, and for a shape that does not hold the features.

    >>> dataset, layout = load_examples("digits", shape=(8, 8, 1))
    >>> len(dataset), layout.shape, layout.scaling
    (1797, (8, 8, 1), 'whole')
    """
    pair = _pair(source)
    if pair is None:
        dataset = load(source, target)
        shape = _demand_shape(shape, dataset.X.shape[1])
        return dataset, Layout(shape, scaling="features" if len(shape) == 1 else "whole")
    X, y = pair
    if X.ndim < 2 or 0 in X.shape:
        reject(
            f"X of shape {X.shape}",
            "X has shape (n, ...): n examples, each an array of at least one number",
            "Pass X[:, None] for a single feature" if X.ndim == 1 and X.size else "Pass at least one example",
        )
    dataset = load((X.reshape(len(X), -1), y))
    name = dataset.name if isinstance(source, tuple) else Path(source).name
    shape = _demand_shape(X.shape[1:] if shape is None else shape, dataset.X.shape[1])
    return replace(dataset, name=name), Layout(shape, integers=X.dtype.kind in "iu")


def _pair(source: Any) -> tuple[np.ndarray, Any] | None:
    """X of any shape and y, where the source holds them so."""
    if isinstance(source, tuple) and len(source) == 2 and not is_frame(source[0]):
        return as_array(source[0], "X"), source[1]
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".npz" and Path(source).is_file():
        arrays = npz_arrays(Path(source))
        if "X" in arrays and arrays["X"].ndim > 2 and "y" in arrays:
            return arrays["X"], arrays["y"]
    return None


def _demand_shape(shape: Sequence[int] | None, features: int) -> tuple[int, ...]:
    if shape is None:
        return (features,)
    found = tuple(shape)
    if not all(isinstance(one, int) and one > 0 for one in found) or math.prod(found) != features:
        reject(
            f"shape={found} for examples of {features} numbers",
            f"The sizes of an example's axes are whole numbers whose product is {features}",
            "Give for example shape=(8, 8, 1) for images of 64 pixels",
        )
    return found


def arrange(train: Dataset, test: Dataset, layout: Layout, outputs: int) -> Standardised:
    r"""Scale the examples as the layout says, by the training part alone, and make targets for so many outputs.

    Targets: for classes the rows $e_c - 1/k$, or one column of -1 and +1 for two classes and one output; for a
    quantity $(y - m)/s$. Raises ``ValueError`` for more classes than outputs, and for a quantity with several outputs.

    >>> from widthwise.data import split
    >>> dataset, layout = load_examples("iris")
    >>> arrange(*split(dataset), layout, outputs=5).train.targets.shape
    (120, 5)
    """
    _demand_outputs(train, outputs)
    scale = _scale(train, layout)
    if train.task == "regression":
        mean, spread = target_scale(train)
        made = [Part(scale(one.X), ((one.y - mean) / spread)[:, None], one.y) for one in (train, test)]
        names, warnings = (), train.warnings
    else:
        mean, spread = 0.0, 1.0
        names, place, warnings = _places(train, outputs)
        targets = np.eye(outputs) - 1.0 / outputs if outputs > 1 else np.array([[-1.0], [1.0]])
        made = [Part(scale(one.X), targets[place[one.y]], place[one.y]) for one in (train, test)]
    return Standardised(made[0], made[1], train.task, train.feature_names, names, mean, spread, warnings)


def _scale(train: Dataset, layout: Layout):
    if layout.scaling == "features":
        scale = FeatureScale.of(train)
        return lambda X: (X / scale.bound - scale.mean) / scale.spread
    if layout.scaling == "whole":
        mean, spread = float(np.mean(train.X)), float(np.std(train.X))
        return lambda X: (X - mean) / spread
    return _unchanged


def _unchanged(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return X


def _demand_outputs(train: Dataset, outputs: int) -> None:
    if train.task == "regression":
        if outputs != 1:
            reject(
                f"A model with {outputs} outputs, and a quantity to predict",
                "One quantity is predicted by one output",
                "Give the model one output, or make the labels classes by load(data, task='classification')",
            )
    elif len(train.classes) > max(outputs, 2):
        reject(
            f"{len(train.classes)} classes, and a model with {outputs} output{'s' if outputs > 1 else ''}",
            "There are at least as many outputs as classes (one output is enough for two)",
            f"Give the model {len(train.classes)} outputs, or read the labels as a quantity by "
            "load(data, task='regression')",
        )


def _places(train: Dataset, outputs: int) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The names of all outputs, the output of each class, and what to say when some outputs have none."""
    count = len(train.classes)
    if outputs <= max(count, 1) or (outputs == 2 and count == 2):
        return train.classes, np.arange(count), train.warnings
    numbers = [int(name) if name.isdecimal() else outputs for name in train.classes]
    place = np.array(numbers) if max(numbers) < outputs else np.arange(count)
    names = [f"none ({at})" for at in range(outputs)]
    for at, name in zip(place, train.classes, strict=True):
        names[at] = name
    note = f"the model has {outputs} outputs for {count} classes; the others are trained towards −1/{outputs}"
    return tuple(names), place, (*train.warnings, note)
