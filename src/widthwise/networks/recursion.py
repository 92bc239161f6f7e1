"""A grid of pairs of positions through the steps of a network."""

from functools import lru_cache

import jax.numpy as jnp
from jaxtyping import Array

from .displacement import (
    Moments,
    Weights,
    angles,
    applied,
    bent,
    edged,
    existing,
    joined,
    rectify,
    scaled,
    shared,
    swept,
)
from .steps import Applied, Bent, Joined, Mixed, Scaled, Step


def run(steps: tuple[Step, ...], grid: Moments) -> Moments:
    """A grid after steps; a rectifier after fresh weights is done with them."""
    for step, before, after in zip(steps, (None, *steps), (*steps[1:], None), strict=False):
        if isinstance(step, Mixed):
            grid = _mixed(step, grid, after.slope if isinstance(after, Bent) else None)
        elif not (isinstance(step, Bent) and isinstance(before, Mixed)):
            grid = _one(step, grid)
    return grid


def _one(step: Step, grid: Moments) -> Moments:
    if isinstance(step, Bent):
        return rectify(step.slope, grid)
    if isinstance(step, Applied):
        return existing(applied(step.function, grid))
    if isinstance(step, Scaled):
        return scaled(grid, _number(step.factor, grid))
    assert isinstance(step, Joined)
    return joined(grid, run(step.branch, grid), _number(step.factor, grid))


def _number(value: float, grid: Moments) -> Array:
    return _held(value, str(grid.apart.dtype))


@lru_cache(256)
def _held(value: float, dtype: str) -> Array:
    return jnp.asarray(value, dtype)


def _mixed(step: Mixed, grid: Moments, slope: float | None) -> Moments:
    """The grid after fresh weights and, where a slope is given, a rectifier."""
    one, zero = _number(1.0, grid), _number(0.0, grid)
    for sweeps in step.sweeps[:-1]:
        weights, seen = Weights(one, None, zero, zero), edged(sweeps, grid)
        grid = swept(sweeps, weights, shared(sweeps, weights, grid, seen), seen)
    numbers = (step.weight, step.bias, step.kernel, step.constant)
    weight, bias, kernel, constant = (_number(value, grid) for value in numbers)
    weights, last = Weights(weight, bias if step.bias else None, kernel, constant), step.sweeps[-1]
    seen = edged(last, grid)
    shares = shared(last, weights, grid, seen)
    if slope is None:
        return swept(last, weights, shares, seen)
    return bent(last, slope, weights, shares, seen, angles(last, weights, shares, seen))
