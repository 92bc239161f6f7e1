"""What the lazy-training certificates speak of, measured along the gradient flow of a problem."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .problem import LazyProblem, kept


class Drifts(NamedTuple):
    r"""How the Jacobian changed at k times: singular values (k, n) of $J_t$, $\|J_t-J_0\|$ and $\|K_t-K_0\|$, (k,)."""

    singular_values: Float[np.ndarray, "k n"]
    jacobian: Float[np.ndarray, " k"]
    kernel: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    r"""A gradient flow $w(t)$ and its linearised twin $u(t)$ at k times; the legend is that of ``problem``.

    ``times`` (k,) are in units of 1/rate, ``seconds`` in the flow's own; ``residual`` $\|r(t)\|$,
    ``distance`` $\|w(t)-w_0\|$, ``path`` its length, ``gap`` $\|w(t)-u(t)\|$, ``sigma_min`` and ``sigma_max``
    those of $J_t$, ``jacobian_drift`` $\|J_t-J_0\|$, ``kernel_drift`` $\|K_t-K_0\|$ (all norms spectral),
    ``train_gap`` $\|\alpha f(w(t))-\alpha f^{lin}(u(t))\|$, ``test_gap`` (k, q) the absolute value of the same on
    every test input. ``error`` bounds the error of a distance, a path and a gap by the integration, ``steps``
    (k, p) are $w(t)-w_0$. What needs the Jacobian at each time is computed when it is first asked for.
    """

    times: Float[np.ndarray, " k"]
    seconds: Float[np.ndarray, " k"]
    residual: Float[np.ndarray, " k"]
    distance: Float[np.ndarray, " k"]
    path: Float[np.ndarray, " k"]
    gap: Float[np.ndarray, " k"]
    train_gap: Float[np.ndarray, " k"]
    test_gap: Float[np.ndarray, "k q"]
    error: float
    steps: Float[np.ndarray, "k p"]
    problem: LazyProblem

    @functools.cached_property
    def drifts(self) -> Drifts:
        """What became of the Jacobian, one matrix (n, p) after the other."""
        start = self.problem.tangency.J0
        with jax.enable_x64(True):
            places = (jnp.asarray(part) for part in (self.problem.w0, start, self.steps))
            spectra, jacobian, kernel = (np.asarray(part) for part in _drifts(self.problem.f, *places))
        return Drifts(np.sqrt(np.maximum(spectra, 0.0)), jacobian, kernel)

    @property
    def sigma_min(self) -> Float[np.ndarray, " k"]:
        """The smallest singular value of $J_t$."""
        return self.drifts.singular_values[:, 0]

    @property
    def sigma_max(self) -> Float[np.ndarray, " k"]:
        """The largest singular value of $J_t$."""
        return self.drifts.singular_values[:, -1]

    @property
    def jacobian_drift(self) -> Float[np.ndarray, " k"]:
        r"""$\|J_t-J_0\|$."""
        return self.drifts.jacobian

    @property
    def kernel_drift(self) -> Float[np.ndarray, " k"]:
        r"""$\|K_t-K_0\|$."""
        return self.drifts.kernel

    @property
    def smoothness(self) -> float:
        r"""$\max_t\|J_t-J_0\|/\|w(t)-w_0\|$, an estimate of $\beta$ from below."""
        moved = self.distance > 0
        return float(np.max(self.jacobian_drift[moved] / self.distance[moved], initial=0.0))

    def __repr__(self) -> str:
        return f"Trajectory({len(self.times)} times)"


@kept
def follow(problem: LazyProblem) -> Trajectory:
    """Measure along the flow of a problem; computed once for each problem and kept.

    Raises ``RuntimeError`` with cause and remedy where the flow could not be followed at all.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> seen = follow(extremal(beta=0.3, y=1.0))
    >>> round(float(seen.sigma_min[-1]), 4), round(seen.smoothness, 9)
    (0.6332, 0.3)
    """
    flow, seen = problem.flow, problem.tangency
    if not len(flow.times):
        raise RuntimeError(flow.reason)
    seconds, alpha = flow.times / problem.rate, problem.alpha
    twin, twin_residuals = seen.twin(seconds)
    with jax.enable_x64(True):
        train_gap = np.linalg.norm(flow.residuals - twin_residuals, axis=1)
        test_gap = np.zeros((len(seconds), 0))
        if problem.test is not None:
            test_gap = alpha * np.asarray(
                _departure(problem.test.g, jnp.asarray(problem.w0), jnp.asarray(flow.displacements), jnp.asarray(twin))
            )
        return Trajectory(
            times=flow.times,
            seconds=seconds,
            residual=flow.residual_norms,
            distance=flow.distances,
            path=flow.lengths,
            gap=np.linalg.norm(flow.displacements - twin, axis=1),
            train_gap=train_gap,
            test_gap=test_gap,
            error=flow.error,
            steps=flow.displacements,
            problem=problem,
        )


@eqx.filter_jit
def _drifts(f: Callable, w0: Array, J0: Array, steps: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues of K, ||J - J0|| and ||K - K0||, from the drift D = J - J0 and never from two kernels subtracted."""
    K0 = J0 @ J0.T

    def one(step):
        D = jax.jacrev(f)(w0 + step) - J0
        cross, square = D @ J0.T, D @ D.T
        change = cross + cross.T + square
        spectrum = jnp.linalg.eigvalsh(K0 + change)
        return spectrum, jnp.sqrt(_norm(square)), _norm(change)

    return jax.lax.map(one, steps)


def _norm(symmetric: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(jnp.linalg.eigvalsh(symmetric)))


@eqx.filter_jit
def _departure(g: Callable, w0: Array, steps: Array, twin: Array) -> Float[Array, "k q"]:
    r"""$|g(w_0 + \text{step}) - g(w_0) - Dg(w_0)\,\text{twin}|$."""
    start, push = jax.linearize(g, w0)
    return jax.lax.map(lambda pair: jnp.abs(g(w0 + pair[0]) - start - push(pair[1])), (steps, twin))


@eqx.filter_jit
def gradient_norms(g: Callable, w: Float[Array, " p"]) -> Float[Array, " q"]:
    r"""$\|\nabla g_i(w)\|$, one input at a time."""
    outputs, pull = jax.vjp(g, w)
    return jax.lax.map(lambda row: jnp.linalg.norm(pull(row)[0]), jnp.eye(outputs.size))
