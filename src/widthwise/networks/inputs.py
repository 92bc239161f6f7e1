r"""Sets of inputs as directions and mean squares, and how near two of them are.

Legend: $q = \|x\|^2/d$, $u = x/\|x\|$, gap $= 1 - u\cdot v$ and cogap $= 1 + u\cdot v$.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.numerics import reject

_CLOSE = 0.05  # below this gap the angle is taken from the difference of the inputs


@dataclass(frozen=True, eq=False)
class Directions:
    """Inputs (n, d) as mean squares (n,) and unit vectors (n, d); a zero input has a zero vector."""

    power: Float[np.ndarray, " n"]
    unit: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, X: Float[np.ndarray, "n d"]) -> "Directions":
        """Split inputs; scaled first, so that nothing under- or overflows."""
        largest = np.max(np.abs(X), axis=1, initial=0.0)
        scaled = X / np.where(largest == 0, 1.0, largest)[:, None]
        norm = np.sqrt(np.sum(scaled**2, axis=1))
        return cls((norm * largest) ** 2 / X.shape[1], scaled / np.where(norm == 0, 1.0, norm)[:, None])

    def __len__(self) -> int:
        return len(self.power)

    def __getitem__(self, rows) -> "Directions":
        return Directions(self.power[rows], self.unit[rows])

    def at_least(self, power: float) -> "Directions":
        """The same directions, none with a smaller mean square."""
        return Directions(np.maximum(self.power, power), self.unit)

    @property
    def size(self) -> int:
        """The number of features d."""
        return self.unit.shape[1]


@dataclass(frozen=True, eq=False)
class InputPairs:
    r"""All pairs of two sets of inputs: mean squares xx (n,) and yy (m,), gap and cogap $1 \mp \cos\theta$ (n, m)."""

    xx: Float[np.ndarray, " n"]
    yy: Float[np.ndarray, " m"]
    gap: Float[np.ndarray, "n m"]
    cogap: Float[np.ndarray, "n m"]
    size: int


def pairs(X: Directions, Y: Directions) -> InputPairs:
    """Compare all pairs of inputs; close and nearly opposite directions by their difference and their sum."""
    cosine = X.unit @ Y.unit.T
    gap, cogap = np.clip(1.0 - cosine, 0.0, 2.0), np.clip(1.0 + cosine, 0.0, 2.0)
    for close, sign in ((gap, -1.0), (cogap, 1.0)):
        rows, columns = np.nonzero(close < _CLOSE)
        close[rows, columns] = 0.5 * squared_distance(X, Y, rows, columns, sign)
    # The larger of the two follows from the smaller, which has its own digits.
    smaller, larger = np.minimum(gap, cogap), 2.0 - np.minimum(gap, cogap)
    gap, cogap = np.where(gap < cogap, smaller, larger), np.where(gap < cogap, larger, smaller)
    zero = (X.power == 0)[:, None] | (Y.power == 0)[None, :]
    return InputPairs(X.power, Y.power, np.where(zero, 1.0, gap), np.where(zero, 1.0, cogap), X.size)


def squared_distance(X: Directions, Y: Directions, rows: np.ndarray, columns: np.ndarray, sign) -> np.ndarray:
    r"""$\|u_i + s\,v_j\|^2$ for pairs (i, j) given by their places, ``sign`` s one number or one for each pair."""
    sign = np.broadcast_to(sign, rows.shape)
    found = np.empty(len(rows))
    for part in np.array_split(np.arange(len(rows)), max(1, len(rows) * X.size // 2**24)):
        found[part] = np.sum((X.unit[rows[part]] + sign[part, None] * Y.unit[columns[part]]) ** 2, axis=1)
    return found


def check_inputs(name: str, given: ArrayLike) -> np.ndarray:
    """Check a set of inputs and make it float64 of shape (n, d)."""
    array = np.asarray(given)
    if array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        reject(
            f"{name} of type {array.dtype}", "Inputs are real numbers", "Encode text and categories as numbers first"
        )
    if np.iscomplexobj(array):
        reject(f"complex {name}", "Inputs are real numbers", "Stack real and imaginary parts as features")
    if array.ndim != 2 or 0 in array.shape:
        reject(
            f"{name} of shape {array.shape}",
            "Inputs have shape (n, d), n and d at least 1",
            "Use x[None, :] for one input",
        )
    array = array.astype(float)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = bad[0]
        reject(
            f"{array[row, column]} in {name} at row {row}, column {column} ({len(bad)} in all)",
            "Inputs are finite numbers",
            "Remove or fill these entries",
        )
    return array
