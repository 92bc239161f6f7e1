r"""The empirical kernel of a model that somebody brought, at the start and at the end; kept by ``context.once``.

Legend: $\hat\Theta(x, y) = \frac1k\sum_j\partial_\theta f_j(x)\cdot\partial_\theta f_j(y)$, the mean
over the k outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from widthwise.numerics import Spectrum, spectrum
from widthwise.operators import entk

from .context import Context
from .experiment import probed, trained
from .own import Own

HALVES = 20  # random halves of the rows, for error bars


@dataclass(frozen=True, eq=False)
class OwnKernel:
    """The kernel at the start on some training rows (c, c), and between the held-out rows and these (m, c)."""

    rows: Int[np.ndarray, " c"]
    matrix: Float[np.ndarray, "c c"]
    cross: Float[np.ndarray, "m c"]
    spectrum: Spectrum


def own_of(context: Context) -> Own:
    """The model that somebody brought."""
    assert context.own is not None
    return context.own


def own_kernel(context: Context) -> OwnKernel:
    """Compute the kernel of the model as it was given."""
    assert context.plan is not None
    rows = context.some_rows("kernel", context.plan.kernel)
    X = context.X_train[rows]
    with context.progress.task("Empirical kernel", 2) as advance:
        matrix = entk(context.model, X, outputs="trace")
        advance()
        cross = entk(context.model, context.X_test, X, outputs="trace")
        advance()
    return OwnKernel(rows, matrix, cross, spectrum(matrix, error(own_of(context))))


def error(own: Own) -> float:
    """The relative error of an entry, a sum of as many rounded products as there are parameters."""
    return float(np.finfo(own.precision).eps * np.sqrt(own.size))


def end_kernel(context: Context) -> Float[np.ndarray, "c c"] | None:
    """The kernel on the same rows after training, or None where training diverged."""
    run = context.once(trained)
    if run.diverged_at is not None:
        return None
    with context.progress.task("Empirical kernel after training", 1) as advance:
        matrix = entk(run.model, context.X_train[context.once(own_kernel).rows], outputs="trace")
        advance()
    return matrix


@dataclass(frozen=True, eq=False)
class ByLayer:
    """The kernel on the probe that each layer makes (layers, b, b), at the start and after training."""

    start: Float[np.ndarray, "l b b"]
    end: Float[np.ndarray, "l b b"] | None


def by_layer(context: Context) -> ByLayer:
    """Split the kernel on the probe into the parts of the layers, which add up to it."""
    run, X = context.once(trained), context.X_train[probed(context)]
    with context.progress.task("Kernels of the layers", 2) as advance:
        start = _layers(own_of(context), context.model, X)
        advance()
        end = None if run.diverged_at is not None else _layers(own_of(context), run.model, X)
        advance()
    return ByLayer(start, end)


def _layers(own: Own, model: Callable, X: np.ndarray) -> np.ndarray:
    parts = [*entk(model, X, outputs="trace", by="parameter").values()]
    mine = ([at for at, part in enumerate(own.parts) if part.layer == layer] for layer in own.layers)
    return np.stack([np.sum([parts[at] for at in places], axis=0) for places in mine])


def movement(context: Context) -> Float[np.ndarray, " l"]:
    """How far the parameters of each layer moved, relative to their size, at the last recorded moment."""
    own, run = own_of(context), context.once(trained)
    sizes = np.array([part.scale * np.sqrt(part.size) for part in own.parts])
    ways = run.movement[-1] * np.maximum(sizes, 1e-300)
    moved = []
    for layer in own.layers:
        mine = [at for at, part in enumerate(own.parts) if part.layer == layer]
        size = np.linalg.norm(sizes[mine])
        moved.append(np.linalg.norm(ways[mine]) / size if size > 0 else np.nan)
    return np.array(moved)


def over_halves(statistic: Callable[[np.ndarray], float], count: int, seed: int) -> float | None:
    r"""The standard error of a statistic of so many rows, from its scatter over random halves of them.

    ``statistic`` takes the indices of rows. The delete-half jackknife: leaving out d of n rows, the variance is
    $\frac{n-d}{d}$ times that over the choices, here 1. None for fewer than eight rows.

    >>> x = np.random.default_rng(0).normal(size=4000)
    >>> error = over_halves(lambda rows: float(np.mean(x[rows])), len(x), seed=0)
    >>> bool(0.5 < error * np.sqrt(len(x)) < 2)
    True
    """
    if count < 8:
        return None
    rng = np.random.default_rng([seed, HALVES])
    found = [statistic(np.sort(rng.permutation(count)[: count // 2])) for _ in range(HALVES)]
    return float(np.std(found, ddof=1))
