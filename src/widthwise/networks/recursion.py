"""A grid of pairs of positions through the steps of a network."""

import numpy as np

from .displacement import Grid, Sweep, Weights, angles, applied, bent, joined, padded, rectify, scaled, swept, weighted
from .steps import Applied, Bent, Joined, Mixed, Scaled, Step


def run(steps: tuple[Step, ...], grid: Grid) -> Grid:
    """A grid after steps; a rectifier after fresh weights is done with them."""
    for step, before, after in zip(steps, (None, *steps), (*steps[1:], None), strict=False):
        if isinstance(step, Mixed):
            grid = _mixed(step, grid, after.slope if isinstance(after, Bent) else None)
        elif not (isinstance(step, Bent) and isinstance(before, Mixed)):
            grid = _one(step, grid)
    return grid


def _one(step: Step, grid: Grid) -> Grid:
    if isinstance(step, Bent):
        return rectify(step.slope, grid)
    if isinstance(step, Applied):
        return applied(step.function, grid)
    if isinstance(step, Scaled):
        return scaled(grid, _number(step.factor, grid))
    assert isinstance(step, Joined)
    return joined(grid, run(step.branch, grid), _number(step.factor, grid))


def _number(value: float, grid: Grid) -> np.ndarray:
    return np.asarray(value, grid.apart.dtype)


def _mixed(step: Mixed, grid: Grid, slope: float | None) -> Grid:
    """The grid after fresh weights and, where a slope is given, a rectifier."""
    for sweep in step.sweeps[:-1]:
        grid = swept(sweep, _padded(sweep, grid))
    numbers = (step.weight, step.bias, step.kernel, step.constant)
    weight, bias, kernel, constant = (_number(one, grid) for one in numbers)
    weights, last = Weights(weight, bias if step.bias else None, kernel, constant), step.sweeps[-1]
    grid = _padded(last, grid)
    if slope is None:
        return weighted(last, weights, grid)
    return bent(last, slope, weights, grid, angles(last, weights, grid))


def _padded(sweep: Sweep, grid: Grid) -> Grid:
    return padded(sweep, grid) if sweep.low or sweep.high else grid
