r"""A tile of a kernel in blocks: small enough to stay in the cache, and of a symmetric tile only the upper ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_ENTRIES = 512  # rows of the matrix in a block


@dataclass(frozen=True)
class Blocks:
    """Blocks of so many rows and columns of a tile of n x m inputs; ``upper``: those at the diagonal or above."""

    n: int
    m: int
    rows: int
    columns: int
    upper: bool

    @classmethod
    def of(cls, n: int, m: int, each: int, symmetric: bool) -> "Blocks":
        """Blocks of about 512 rows of the matrix, which has ``each`` for an input.

        The tile grows to whole blocks.
        """
        h, w = (_part(count, max(1, _ENTRIES // each)) for count in (n, m))
        return cls(-(-n // h) * h, -(-m // w) * w, h, w, symmetric)

    @classmethod
    def whole(cls, n: int, m: int) -> "Blocks":
        """One block."""
        return cls(n, m, n, m, upper=False)

    @property
    def starts(self) -> list[tuple[int, int]]:
        """The first row and column of each block."""
        all_of_them = ((i, j) for i in range(0, self.n, self.rows) for j in range(0, self.m, self.columns))
        return [(i, j) for i, j in all_of_them if not self.upper or i <= j]

    def rows_of(self, array: Array, start: Any, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(array, start, self.rows, axis)

    def columns_of(self, array: Array, start: Any, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(array, start, self.columns, axis)

    def added(self, total: Array, block: Callable[[Any, Any], Array]) -> Array:
        """The blocks (b, ...), and to each what the function gives for its first row and column."""
        if len(total) == 1:
            return total + block(0, 0)[None]
        at = jnp.asarray(self.starts, "int32")
        return jax.lax.map(lambda each: each[0] + block(each[1][0], each[1][1]), (total, at))

    def placed(self, blocks: Array, n: int, m: int) -> np.ndarray:
        """The first n x m inputs of a tile, as a matrix or one for each output; nothing is below the upper blocks."""
        parts, k = np.asarray(blocks), 1
        if parts.ndim == 5:
            k = parts.shape[2]
            parts = parts.reshape(len(parts), self.rows * k, self.columns * k)
        if len(parts) == 1:
            return parts[0, ..., : n * k, : m * k]
        found = np.empty((*parts.shape[1:-2], self.n * k, self.m * k), parts.dtype)
        for (i, j), part in zip(self.starts, parts, strict=True):
            found[..., i * k : (i + self.rows) * k, j * k : (j + self.columns) * k] = part
        return found if (n, m) == (self.n, self.m) else found[..., : n * k, : m * k]


def _part(count: int, most: int) -> int:
    """The size of equal parts, none larger than the most; the last may be filled up."""
    return -(-count // -(-count // most))
