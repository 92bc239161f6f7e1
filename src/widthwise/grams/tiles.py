"""Matrices of pairs tile by tile: one engine, whatever computes the tiles and wherever they go."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

# What computes the tile of some rows and columns: one matrix for each kernel, and their error.
Tile = Callable[[slice, slice], tuple[tuple[np.ndarray, ...], float]]
Progress = Callable[[int, int], None]
_STRIP = 64  # columns that are mirrored at once


@dataclass(frozen=True)
class Grid:
    """The tiles of an (n, m) matrix, of one size; of a symmetric one those on and above the diagonal."""

    rows: tuple[slice, ...]
    columns: tuple[slice, ...]
    symmetric: bool

    @classmethod
    def of(cls, n: int, m: int | None, side: int) -> "Grid":
        """Tiles with sides of at most ``side``; ``m=None`` for a symmetric matrix.

        >>> grid = Grid.of(5, None, 2)
        >>> len(grid), grid.rows[0], grid.shape
        (6, slice(0, 2, None), (5, 5))
        """
        rows = _parts(n, side)
        return cls(rows, rows if m is None else _parts(m, side), m is None)

    @classmethod
    def strips(cls, n: int, m: int, height: int) -> "Grid":
        """Whole rows, at most ``height`` at a time."""
        return cls(_parts(n, height), (slice(0, m),), False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[-1].stop, self.columns[-1].stop

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        for i, rows in enumerate(self.rows):
            for columns in self.columns[i if self.symmetric else 0 :]:
                yield rows, columns

    def __len__(self) -> int:
        count = len(self.rows)
        return count * (count + 1) // 2 if self.symmetric else count * len(self.columns)


@runtime_checkable
class Sink(Protocol):
    """Where tiles go: whether one is there already, and one more.

    ``mirrored``: the tile belongs into the transposed place too; on the diagonal what is above it counts.
    """

    def has(self, number: int) -> bool: ...

    def put(
        self, number: int, place: tuple[slice, slice], parts: tuple[np.ndarray, ...], error: float, mirrored: bool
    ) -> None: ...


def fill(grid: Grid, tile: Tile, sink: Sink, progress: Progress | None = None) -> None:
    """Compute the tiles that the sink does not have; ``progress(done, total)`` is called after each."""
    for number, (rows, columns) in enumerate(grid):
        if not sink.has(number):
            parts, error = tile(rows, columns)
            sink.put(number, (rows, columns), parts, error, mirrored=grid.symmetric)
        if progress is not None:
            progress(number + 1, len(grid))


@dataclass(frozen=True, eq=False)
class Memory:
    """Matrices in memory; two threads write them, as a processor's core cannot fill its memory's channel."""

    matrices: tuple[np.ndarray, ...]
    pool: ThreadPoolExecutor

    def has(self, number: int) -> bool:
        return False

    def put(
        self, number: int, place: tuple[slice, slice], parts: tuple[np.ndarray, ...], error: float, mirrored: bool
    ) -> None:
        work = [partial(_place, one, part, place, mirrored) for one, part in zip(self.matrices, parts, strict=True)]
        if mirrored and place[0] != place[1]:
            work += [partial(_place, *one, place[::-1], False) for one in self._transposed(parts)]
        list(self.pool.map(lambda one: one(), work))

    def _transposed(self, parts: tuple[np.ndarray, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((matrix, part.T) for matrix, part in zip(self.matrices, parts, strict=True))


def _place(matrix: np.ndarray, part: np.ndarray, place: tuple[slice, slice], mirrored: bool) -> None:
    matrix[place] = part
    if mirrored and place[0] == place[1]:
        mirror(matrix[place])


def in_memory(grid: Grid, tile: Tile, dtype: str, count: int = 2, progress: Progress | None = None):
    """So many matrices of the grid's shape; those of a single tile are its own arrays."""
    if len(grid) == 1:
        return _single(grid, tile, dtype, progress)
    matrices = tuple(np.empty(grid.shape, dtype) for _ in range(count))
    with ThreadPoolExecutor(2) as pool:
        fill(grid, tile, Memory(matrices, pool), progress)
    return matrices


def _single(grid: Grid, tile: Tile, dtype: str, progress: Progress | None) -> tuple[np.ndarray, ...]:
    parts, _ = tile(*next(iter(grid)))
    found = tuple(np.require(part, dtype, ["C", "W", "O"]) for part in parts)
    for part in found if grid.symmetric else ():
        mirror(part)
    if progress is not None:
        progress(1, 1)
    return found


def mirror(part: np.ndarray) -> None:
    """Copy what is above the diagonal below it."""
    for at in _parts(len(part), _STRIP):
        part[at, : at.start] = part[: at.start, at].T
        square = np.triu(part[at, at])
        part[at, at] = square + np.triu(square, 1).T


def _parts(count: int, side: int) -> tuple[slice, ...]:
    """Parts of one size, and a last one that may be smaller."""
    size = -(-count // -(-count // side))
    return tuple(slice(start, min(start + size, count)) for start in range(0, count, size))
