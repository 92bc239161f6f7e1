"""What comes where arrays of numbers and classes are expected."""

from typing import Any

import numpy as np

from .errors import reject

_TEXT = ("O", "S", "U")  # the kinds of NumPy's types that hold objects and text


def demand_numbers(name: str, given: Any) -> None:
    """Refuse a text, a data set as a whole, and arrays of text, where an array of numbers is expected.

    >>> demand_numbers("X", "digits")
    Traceback (most recent call last):
        ...
    ValueError: X='digits', which is a text. Arrays of real numbers are expected. Load ...load('digits'), and give ...
    >>> demand_numbers("X", np.eye(2))
    """
    allowed = "Arrays of real numbers are expected"
    if isinstance(given, str | bytes):
        todo = f"Load a data set by found = ww.load({given!r}), and give found.X, or (found.X, found.y) for a pair"
        reject(f"{name}={given!r}, which is a text", allowed, todo)
    if not hasattr(given, "__array__") and hasattr(given, "X") and hasattr(given, "y"):
        reject(
            f"{name} of type {type(given).__name__}",
            allowed,
            "Give its arrays: found.X, or the pair (found.X, found.y)",
        )
    if (text := _text(given)) is not None:
        reject(
            f"{name} with {text!r} in it",
            allowed,
            "Encode text and categories as numbers first, labels by numpy.unique(labels, return_inverse=True)[1]",
        )


def demand_pair(data: Any, todo: str = "Give data=(X, y)") -> None:
    """Refuse what is no pair of arrays, the inputs and their labels.

    >>> demand_pair({"X": np.eye(2)})
    Traceback (most recent call last):
        ...
    ValueError: data of type dict. Data are a pair (X, y) of inputs (n, ...) and labels, one for each. Give data=(X, y).
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        demand_numbers("data", data)
        came = f"data of type {type(data).__name__}"
        reject(came, "Data are a pair (X, y) of inputs (n, ...) and labels, one for each", todo)
    for name, part in zip(("X", "y"), data, strict=True):
        demand_numbers(name, part)


def _text(given: Any) -> Any:
    """The first entry, where it is no number."""
    if getattr(getattr(given, "dtype", None), "kind", None) in _TEXT:
        given = np.asarray(given).reshape(-1).tolist()
    while isinstance(given, list | tuple) and len(given):
        given = given[0]
    return given if isinstance(given, str | bytes) else None


def demand_classes(labels: Any, outputs: int) -> None:
    """Refuse labels (n,) that are no classes of a model with so many outputs, naming the first wrong one.

    >>> demand_classes([0, 2, 3], 3)
    Traceback (most recent call last):
        ...
    ValueError: the label 3 (1 of 3 is wrong), for a model with 3 outputs. Classes are whole numbers from 0 to 2, ...
    """
    labels = np.asarray(labels)
    allowed = f"Classes are whole numbers from 0 to {outputs - 1}, each the place of an output"
    if labels.ndim != 1:
        todo = "Give y[:, 0]" if labels.shape[1:] == (1,) else "Give y.argmax(axis=1) for one-hot rows"
        todo = todo if labels.ndim else "Give one label for each input"
        came = f"labels of shape {labels.shape}, for a model with {outputs} outputs"
        reject(came, f"{allowed}, in one row (n,)", todo)
    if np.issubdtype(labels.dtype, np.integer):
        wrong, todo = (labels < 0) | (labels >= outputs), "Number the classes from 0, or give an output for each"
    elif labels.dtype.kind in "bf" and np.all(labels == np.round(labels.astype(float))):
        wrong, todo = np.ones(len(labels), bool), "Give y.astype(int)"
    else:
        wrong = labels != np.round(labels) if labels.dtype.kind == "f" else np.ones(len(labels), bool)
        todo = "Give numpy.unique(y, return_inverse=True)[1]"
    if np.any(wrong):
        told = f"{np.sum(wrong)} of {len(labels)} {'is' if np.sum(wrong) == 1 else 'are'} wrong"
        came = f"the label {labels[np.argmax(wrong)].item()!r} ({told}), for a model with {outputs} outputs"
        reject(came, allowed, f"{todo}; quantities to predict are real numbers with a loss of squares")
