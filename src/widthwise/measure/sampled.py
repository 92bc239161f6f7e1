r"""Kernels of wide networks from finite samples: for any network that can be sampled, to a precision that is asked for.

Legend: over the k outputs of one draw, $\hat K = \frac1k\sum_jf_j(x)f_j(y)$ and $\hat\Theta =
\frac1k\sum_j\partial_\theta f_j(x)\cdot\partial_\theta f_j(y)$.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.networks import AbstractLayer, check_count, check_inputs, check_key, check_network, sample
from widthwise.numerics import Estimate, mean_and_sem, reject
from widthwise.operators import flatten

_FEWEST = 8  # draws before a standard error is believed


@dataclass(frozen=True)
class SampledKernels:
    """Mean empirical kernels of ``draws`` networks of a width, each (n, m), with their standard errors.

    ``reached``: whether the largest standard error is within the precision that was asked for. The kernels are those of
    this width; they differ from those of infinite width by O(1/width), which a standard error does not show.
    """

    nngp: Estimate
    ntk: Estimate
    width: int
    draws: int
    reached: bool


def sampled_kernel(
    network: AbstractLayer,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    width: int = 256,
    precision: float = 0.05,
    most: int = 1000,
    key: Array | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> SampledKernels:
    r"""NNGP kernel $E\hat K$ and NTK $E\hat\Theta$ of a network of finite width, averaged over draws.

    Draws until the largest standard error of each kernel is at most ``precision`` times its largest entry, at least 8
    and at most ``most`` of them. ``width`` fills in the sizes that the network leaves open. Several outputs are
    averaged over; they make $\hat K$ more precise. A batch norm averages over X and Y together. After each draw
    ``progress(draws, precision so far)`` is called. The work is one Jacobian for each draw.

    Raises ``ValueError`` for bad inputs, a precision that is not positive, ``most`` below 8, a width below 1, and a
    network that keeps positions.

    >>> from widthwise.networks import MLP, kernel
    >>> network, X = MLP(depth=1, activation="relu", width=64).network(outputs=64), [[1.0, 0.0], [0.6, 0.8]]
    >>> found, limit = sampled_kernel(network, X, key=jr.key(0)), kernel(network, X)
    >>> found.reached, bool(np.all(np.abs(found.ntk.value - limit.ntk) < 4 * found.ntk.error + 0.05))
    (True, True)
    """
    key = jr.key(0) if key is None else key
    _check(network, width, precision, most, key)
    left = check_inputs("X", X)
    both = left if Y is None else np.concatenate([left, _same_features(left, check_inputs("Y", Y))])
    rows, columns = slice(len(left)), slice(len(left) if Y is not None else 0, None)
    with jax.enable_x64(True):
        inputs = jnp.asarray(both)
        draw = jax.jit(lambda one: _kernels(sample(network, one, both.shape[1:], width), inputs))
        draws, seen = [], np.inf
        while len(draws) < most and not (len(draws) >= _FEWEST and seen <= precision):
            nngp, ntk = draw(jr.fold_in(key, len(draws)))
            draws.append(np.stack([np.asarray(part)[rows, columns] for part in (nngp, ntk)]))
            seen = _relative(draws)
            if progress is not None:
                progress(len(draws), seen)
    both_kernels = mean_and_sem(np.stack(draws))
    nngp, ntk = (Estimate(both_kernels.value[part], both_kernels.error[part]) for part in (0, 1))
    return SampledKernels(nngp, ntk, width, len(draws), bool(seen <= precision))


def _kernels(model: Callable, X: Float[Array, "n ..."]) -> tuple[Array, Array]:
    """Both empirical kernels of one network, each (n, n)."""
    vector, rebuild = flatten(model)

    def outputs(vector: Array) -> Array:
        return jax.vmap(rebuild(vector), axis_name="inputs")(X)

    values, jacobian = outputs(vector), jax.jacrev(outputs)(vector)
    if values.ndim != 2:
        reject(
            f"a network with outputs of shape {values.shape[1:]}",
            "The outputs of a sampled network are a list of numbers for each input",
            "End it in GlobalPool or Flatten, and Dense",
        )
    count = values.shape[1]
    return values @ values.T / count, jnp.einsum("ikp,jkp->ij", jacobian, jacobian) / count


def _relative(draws: list[np.ndarray]) -> float:
    """The largest standard error of each kernel over its largest entry, the larger of the two."""
    found = mean_and_sem(np.stack(draws))
    largest = np.max(np.abs(found.value), axis=(1, 2))
    return float(np.max(np.max(found.error, axis=(1, 2)) / np.where(largest == 0, 1.0, largest)))


def _same_features(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    if X.shape[1:] != Y.shape[1:]:
        reject(
            f"X with inputs of shape {X.shape[1:]} and Y with {Y.shape[1:]}",
            "Both sets of inputs must have the same shape",
            "Check the columns",
        )
    return Y


def _check(network: object, width: Any, precision: object, most: Any, key: object) -> None:
    check_network(network)
    check_key(key)
    check_count("width", width)
    check_count("most", most)
    if not (isinstance(precision, int | float) and precision > 0):
        reject(f"precision={precision!r}", "A precision is a positive number", "Give for example precision=0.05")
    if most < _FEWEST:
        reject(
            f"most={most!r}", f"At least {_FEWEST} draws are needed for a standard error", "Give for example most=1000"
        )
