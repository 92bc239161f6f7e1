r"""The stability of any optimiser from the exact linearisation of one step of parameters and state together.

Legend: $z = (w, s)$ the parameters and all real arrays in the optimiser's state, $z' = \Phi_c(z)$ one step whose update
is multiplied by c, $D\Phi_c$ its derivative where the gradient is zero, of which only products are taken. There the
running squares of gradients do not answer to first order, as near a minimum; where this is not defined, it is taken at
the gradient of the moment.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import matrix_balance

from widthwise.numerics import Estimate
from widthwise.operators import parameters

_BEYOND = 1e-3  # growth per step that rounding and unfinished Arnoldi may feign
_FOUND = 1e-3  # the residual of an eigenvalue that has been found, relative to it
_FAINT = 1e-12
_WIDTH = 1e-3
_DOUBLINGS = 40


def oscillation(product: Callable[[np.ndarray], np.ndarray], size: int, steps: int = 100) -> float:
    r"""The largest modulus among the eigenvalues off the positive real axis, by Arnoldi from a random vector.

    Positive real eigenvalues above 1 belong to directions in which the loss falls away, at every rate.

    >>> round(oscillation(lambda v: np.array([3.0, -1.5, 0.5]) * v, 3), 6)
    1.5
    """
    steps = min(steps, size)
    Q, H = np.zeros((steps + 1, size)), np.zeros((steps + 1, steps))
    start = np.random.default_rng(0).normal(size=size)
    Q[0] = start / np.linalg.norm(start)
    for j in range(steps):
        w = np.asarray(product(Q[j]), dtype=float)
        before = np.linalg.norm(w)
        for _ in range(2):
            h = Q[: j + 1] @ w
            H[: j + 1, j] += h
            w = w - h @ Q[: j + 1]
        H[j + 1, j] = np.linalg.norm(w)
        if not H[j + 1, j] > 1e-12 * before:
            steps, H[j + 1, j] = j + 1, 0.0
            break
        Q[j + 1] = w / H[j + 1, j]
    values, vectors = np.linalg.eig(H[:steps, :steps])
    # Ritz values of a matrix that is not normal may lie beyond its spectrum; those with a small residual do not.
    values = np.asarray(values, complex)
    found = np.abs(H[steps, steps - 1] * vectors[-1]) <= _FOUND * np.abs(values)
    turning = (np.real(values) < 0) | (np.abs(np.imag(values)) > _BEYOND * np.abs(values))
    return float(np.max(np.abs(values[turning & found]), initial=0.0))


def largest_multiple(loss: Callable, model: Any, optimizer: Any, state: Any, tree: Any) -> Estimate:
    r"""The multiple c of the present rate up to which the linearised step is stable; infinite where there is none.

    By bisection, each time with up to 100 products of $D\Phi_c$, about three gradients each.
    """
    product, sizes = _linearised(loss, model, optimizer, state, tree)
    scale = _balance(lambda v: product(v, 1.0), sizes)

    def stable(c: float) -> bool:
        return oscillation(lambda v: product(scale * v, c) / scale, len(scale)) <= 1.0 + _BEYOND

    low, high = 1.0, 1.0
    for _ in range(_DOUBLINGS):
        if not stable(low):
            low, high = 0.5 * low, low
        elif low == high and stable(2.0 * high):
            low = high = 2.0 * high
        else:
            break
    if low == high and low >= 2.0 ** (_DOUBLINGS - 1):
        return Estimate(float("inf"), 0.0)
    high = 2.0 * low
    while high > (1.0 + _WIDTH) * low:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if stable(middle) else (low, middle)
    return Estimate(0.5 * (low + high), 0.5 * (high - low) + _BEYOND * low)


def _balance(product: Callable[[np.ndarray], np.ndarray], sizes: list[int]) -> np.ndarray:
    """Units for each array in which what arrays do to each other is of like size both ways.

    Without them a state such as running squares, which moves the parameters much and is not moved by them, makes the
    matrix so far from normal that rounding hides its eigenvalues.
    """
    ends = np.cumsum([0, *sizes])
    norms, rng = np.zeros((len(sizes), len(sizes))), np.random.default_rng(0)
    for j, size in enumerate(sizes):
        v = np.zeros(ends[-1])
        v[ends[j] : ends[j + 1]] = rng.choice([-1.0, 1.0], size)
        w = product(v)
        norms[:, j] = [np.linalg.norm(w[a:b]) for a, b in pairwise(ends)] / np.sqrt(size)
    _, (scale, _) = matrix_balance(norms + _FAINT * np.max(norms), permute=False, separate=True)
    return np.repeat(scale, sizes)


def _linearised(loss: Callable, model: Any, optimizer: Any, state: Any, tree: Any) -> tuple[Callable, list[int]]:
    leaves, rebuild = parameters(model)
    moving, fixed = eqx.partition(state, eqx.is_inexact_array)

    def trees(leaves, gradient):
        return jax.tree.unflatten(tree, [*gradient]), jax.tree.unflatten(tree, [*leaves])

    def apply(gradient, moving, leaves, c):
        gradient, weights = trees(leaves, gradient)
        updates, after = optimizer.update(gradient, eqx.combine(moving, fixed), weights)
        moved = tuple(one + c * two for one, two in zip(leaves, jax.tree.leaves(updates), strict=True))
        return moved, eqx.filter(after, eqx.is_inexact_array)

    gradient, hessian = jax.linearize(jax.grad(lambda new: loss(rebuild(new))), leaves)
    zero = tuple(jnp.zeros_like(one) for one in gradient)
    flat, unravel = ravel_pytree((leaves, moving))

    @jax.jit
    def product(v, c, where):
        v, moves = unravel(v)
        tangents = (hessian(v), moves, v)
        return ravel_pytree(jax.jvp(lambda g, s, w: apply(g, s, w, c), (where, moving, leaves), tangents)[1])[0]

    def products(v: np.ndarray, c: float, where=zero) -> np.ndarray:
        with jax.numpy_dtype_promotion("standard"):
            return np.asarray(product(jnp.asarray(v, flat.dtype), jnp.asarray(c, flat.dtype), where))

    sizes = [leaf.size for leaf in jax.tree.leaves((leaves, moving))]
    trial = np.random.default_rng(1).normal(size=flat.size)
    still, moved = products(trial, 0.0), products(trial, 1.0)
    if np.all(np.isfinite(moved)) and not np.array_equal(still, moved):
        return products, sizes
    return partial(products, where=gradient), sizes
