r"""Sets of inputs as directions and mean squares, and how near two of them are.

Legend: $q = \|x\|^2/d$, $u = x/\|x\|$, gap $= 1 - u\cdot v$ and cogap $= 1 + u\cdot v$.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.numerics import demand_numbers, reject

_CLOSE = 0.05  # below this gap the angle is taken from the difference of the inputs


@dataclass(frozen=True, eq=False)
class Directions:
    r"""Inputs (n, \*p, d), at positions \*p or at none, as mean squares (n, \*p) and unit vectors (n, \*p, d).

    Where an input is zero, so is its vector.
    """

    power: Float[np.ndarray, "n ..."]
    unit: Float[np.ndarray, "n ..."]

    @classmethod
    def of(cls, X: Float[np.ndarray, "n ..."]) -> "Directions":
        """Split inputs; scaled first, so that nothing under- or overflows."""
        largest = np.max(np.abs(X), axis=-1, initial=0.0)
        unit = X / np.where(largest == 0, 1.0, largest)[..., None]
        norm = np.sqrt(np.einsum("...d,...d->...", unit, unit))
        unit /= np.where(norm == 0, 1.0, norm)[..., None]
        with np.errstate(over="ignore", under="ignore"):  # a kernel that is not finite is refused
            return cls((norm * largest) ** 2 / X.shape[-1], unit)

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
        return self.unit.shape[-1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape of the positions, () for flat inputs."""
        return self.power.shape[1:]

    @property
    def flat(self) -> "Directions":
        """Every position of every input as an input of its own."""
        return Directions(self.power.reshape(-1), self.unit.reshape(-1, self.size))


@dataclass(frozen=True, eq=False)
class InputPairs:
    r"""Pairs of two sets of inputs: mean squares xx (n, \*p) and yy (m, \*p), gap and cogap $1 \mp \cos\theta$.

    Gap and cogap have shape (n, m, \*p, \*p), or (n, m, \*p) of equal positions. ``within``: gap and cogap
    (n, \*p, \*p) and (m, \*p, \*p) of the positions of every input, where all pairs of positions are compared.
    """

    xx: Float[np.ndarray, "n ..."]
    yy: Float[np.ndarray, "m ..."]
    gap: Float[np.ndarray, "n m ..."]
    cogap: Float[np.ndarray, "n m ..."]
    size: int
    within: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def pairs(X: Directions, Y: Directions, crossed: bool = False) -> InputPairs:
    """Compare all pairs of inputs, at all pairs of positions if ``crossed``, else at equal positions."""
    if crossed:
        return InputPairs(X.power, Y.power, *_crossed(X, Y), X.size, (within(X), within(Y)))
    if X.positions:
        return InputPairs(X.power, Y.power, *_equal_positions(X, Y), X.size)
    i, j = np.indices((len(X), len(Y)), sparse=True)
    gap, cogap = _gaps(X, Y, X.unit @ Y.unit.T, i, j)
    return InputPairs(X.power, Y.power, gap, cogap, X.size)


def within(X: Directions) -> tuple[np.ndarray, np.ndarray]:
    r"""Gap and cogap (n, \*p, \*p) of the positions of every input; zero and two of a position with itself."""
    alone = [pairs(X[i : i + 1].flat, X[i : i + 1].flat) for i in range(len(X))]
    same = np.eye(len(X[:1].flat), dtype=bool) & (X.power.reshape(len(X), -1) > 0)[:, :, None]
    shape = (len(X), *X.positions, *X.positions)
    gap, cogap = np.stack([one.gap for one in alone]), np.stack([one.cogap for one in alone])
    return np.where(same, 0.0, gap).reshape(shape), np.where(same, 2.0, cogap).reshape(shape)


def _crossed(X: Directions, Y: Directions) -> tuple[np.ndarray, np.ndarray]:
    """Gap and cogap of all pairs of positions."""
    flat, rank = pairs(X.flat, Y.flat), len(X.positions)
    shape = (len(X), *X.positions, len(Y), *Y.positions)
    gap, cogap = (np.moveaxis(part.reshape(shape), rank + 1, 1) for part in (flat.gap, flat.cogap))
    return np.ascontiguousarray(gap), np.ascontiguousarray(cogap)


def _equal_positions(X: Directions, Y: Directions) -> tuple[np.ndarray, np.ndarray]:
    """Gap and cogap of equal positions."""
    count = len(X[:1].flat)
    left, right = (part.unit.reshape(len(part), count, -1) for part in (X, Y))
    i, j, p = np.indices((len(X), len(Y), count), sparse=True)
    gap, cogap = _gaps(X.flat, Y.flat, np.einsum("ipd,jpd->ijp", left, right), i * count + p, j * count + p)
    shape = (len(X), len(Y), *X.positions)
    return gap.reshape(shape), cogap.reshape(shape)


def _gaps(X: Directions, Y: Directions, cosine: np.ndarray, i: np.ndarray, j: np.ndarray):
    """Gap and cogap of the pairs (i, j); those of close and nearly opposite directions by their difference or sum."""
    i, j = np.broadcast_to(i, cosine.shape), np.broadcast_to(j, cosine.shape)
    gap, cogap = np.clip(1.0 - cosine, 0.0, 2.0), np.clip(1.0 + cosine, 0.0, 2.0)
    for close, sign in ((gap, -1.0), (cogap, 1.0)):
        some = close < _CLOSE
        close[some] = 0.5 * squared_distance(X, Y, i[some], j[some], sign)
    # The larger of the two follows from the smaller, which has its own digits.
    smaller, larger = np.minimum(gap, cogap), 2.0 - np.minimum(gap, cogap)
    gap, cogap = np.where(gap < cogap, smaller, larger), np.where(gap < cogap, larger, smaller)
    zero = (X.power[i] == 0) | (Y.power[j] == 0)
    return np.where(zero, 1.0, gap), np.where(zero, 1.0, cogap)


def squared_distance(X: Directions, Y: Directions, rows: np.ndarray, columns: np.ndarray, sign) -> np.ndarray:
    r"""$\|u_i + s\,v_j\|^2$ for pairs (i, j) given by their places, ``sign`` s one number or one for each pair."""
    sign = np.broadcast_to(sign, rows.shape)
    found = np.empty(len(rows))
    for part in np.array_split(np.arange(len(rows)), max(1, len(rows) * X.size // 2**24)):
        found[part] = np.sum((X.unit[rows[part]] + sign[part, None] * Y.unit[columns[part]]) ** 2, axis=1)
    return found


def check_inputs(name: str, given: ArrayLike) -> np.ndarray:
    r"""Check a set of inputs and make it float64 of shape (n, d), or (n, \*positions, channels)."""
    demand_numbers(name, given)
    array = _as_array(name, given)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool or _is_small_float(array.dtype)):
        told = type(given).__name__ if array.ndim == 0 else str(array.dtype)
        reject(f"{name} of type {told}", "Inputs are real numbers", "Encode text and categories as numbers first")
    if np.iscomplexobj(array):
        reject(f"complex {name}", "Inputs are real numbers", "Stack real and imaginary parts as features")
    if array.ndim < 2 or 0 in array.shape:
        reject(
            f"{name} of shape {array.shape}",
            "Inputs have shape (n, d), or (n, positions, ..., channels), and every number is at least 1",
            "Use x[None] for one input",
        )
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        bad = np.argwhere(~np.isfinite(array))
        place = tuple(int(one) for one in bad[0])
        where = f"row {place[0]}, column {place[1]}" if array.ndim == 2 else f"index {place}"
        reject(
            f"{array[place]} in {name} at {where} ({len(bad)} in all)",
            "Inputs are finite numbers",
            "Remove or fill these entries",
        )
    return array


def _as_array(name: str, given: ArrayLike) -> np.ndarray:
    """As an array of any type, where it is one."""
    if np.ma.is_masked(given):
        reject(f"{name} with masked entries", "Inputs are whole sets of numbers", "Remove or fill these entries")
    try:
        array = np.asarray(given)
    except ValueError as failure:
        reject(
            f"{name} of which no array can be made ({failure})",
            "Every input has as many numbers as the others",
            "Check the rows, or fill them up",
        )
    if array.dtype.kind == "m":
        reject(f"{name} of type {array.dtype}", "Inputs are real numbers", "Divide durations by a unit of time first")
    return array


def _is_small_float(dtype: np.dtype) -> bool:
    """Whether it is a type of JAX's, such as bfloat16, which NumPy does not count among the numbers."""
    return jnp.issubdtype(dtype, jnp.floating)
