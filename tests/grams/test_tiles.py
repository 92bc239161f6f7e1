"""The tiles of a matrix cover it once, and what is mirrored is symmetric."""

import numpy as np
import pytest

from widthwise.grams import Grid, in_memory, mirror


@pytest.mark.parametrize(("n", "m", "side"), [(1, None, 5), (10, None, 3), (7, 4, 3), (4, 9, 9), (12, None, 4)])
def test_tiles_cover_the_matrix_once(n, m, side):
    grid = Grid.of(n, m, side)
    count = np.zeros(grid.shape, int)
    for rows, columns in grid:
        count[rows, columns] += 1
        if grid.symmetric and rows != columns:
            count[columns, rows] += 1
        assert max(rows.stop - rows.start, columns.stop - columns.start) <= side
    assert np.all(count == 1)
    assert len(grid) == len(list(grid))


def test_half_of_a_symmetric_matrix_is_computed():
    assert len(Grid.of(100, None, 10)) == 55


@pytest.mark.parametrize("m", [None, 9])
def test_matrices_are_what_the_tiles_say(m):
    rng, told = np.random.default_rng(0), []
    wanted = rng.normal(size=(11, m or 11))
    if m is None:
        wanted = wanted + wanted.T
    grid = Grid.of(11, m, 4)
    found = in_memory(
        grid, lambda i, j: ((wanted[i, j], -wanted[i, j]), 0.0), "float64", progress=lambda *a: told.append(a)
    )
    assert np.array_equal(found[0], wanted) and np.array_equal(found[1], -wanted)
    assert told == [(done, len(grid)) for done in range(1, len(grid) + 1)]


@pytest.mark.parametrize("size", [1, 64, 130])
def test_mirroring_keeps_what_is_above_the_diagonal(size):
    given = np.random.default_rng(0).normal(size=(size, size))
    found = given.copy()
    mirror(found)
    assert np.array_equal(found, np.triu(given) + np.triu(given, 1).T)
