r"""Lanczos tridiagonalisation of a symmetric operator, its extreme eigenvalues, Gauss quadrature and trace.

Legend: A symmetric of size N, v the start, $Q$ (N, k) an orthonormal basis of the Krylov space of
v, $T = Q^\top A Q$ tridiagonal with eigenpairs $(\theta_j, s_j)$ (Ritz values), $\beta_k$ the norm
of the residual $AQ - QT$.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from matfree import decomp
from scipy.linalg import eigh_tridiagonal, solve_banded

from widthwise.numerics import Estimate, reject

Matvec = Callable[[PyTree[Array]], PyTree[Array]]


class Tridiagonal(eqx.Module):
    r"""$T$ by its diagonal (k,) and off-diagonal (k-1,), the residual norm $\beta_k$ and $\|v\|$."""

    diagonal: Float[Array, " k"]
    off_diagonal: Float[Array, " k-1"]
    residual: Float[Array, ""]
    norm: Float[Array, ""]


class Quadrature(eqx.Module):
    r"""A rule for $v^\top g(A)\,v \approx \sum_j w_jg(\theta_j)$, and a second one whose difference gives the error.

    ``bracket``: the second is a Gauss-Radau rule with a node below the spectrum. For a g whose
    derivatives alternate in sign (as $e^{-\lambda t}$, and $(1-\eta\lambda)^{2s}$ where $\eta\lambda \le 1$)
    the Gauss rule is a lower and the Radau rule an upper bound. Otherwise it is a Gauss rule of
    fewer steps, and the difference an estimate.
    """

    nodes: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]
    second: tuple[Float[np.ndarray, " l"], Float[np.ndarray, " l"]]
    bracket: bool = False

    def __call__(self, g: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        r"""Integrate g, which takes an array of nodes; further axes may stand before it.

        Exact for polynomials of degree 2k-1. The error includes the rounding of the nodes.
        """
        first, other = g(self.nodes) @ self.weights, g(self.second[0]) @ self.second[1]
        ulps = len(self.nodes) * _ulp(self.nodes)
        shift = ulps * np.max(np.abs(self.nodes))
        moved = np.abs(g(self.nodes + shift) - g(self.nodes)) + ulps * np.abs(g(self.nodes))
        rounding = moved @ self.weights
        if self.bracket:
            return Estimate(0.5 * (first + other), 0.5 * np.abs(first - other) + rounding)
        return Estimate(first, np.abs(first - other) + rounding)


def tridiagonalise(matvec: Matvec, start: PyTree[Array], steps: int) -> Tridiagonal:
    r"""Run ``steps`` steps of Lanczos with full reorthogonalisation, each one product with A.

    ``start`` is an array or a PyTree of arrays, and ``matvec`` maps the like to the like. No more
    steps are made than there are entries. Works under ``jax.jit``. Source: lanczos1950iteration.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    >>> [round(value, 6) for value in tridiagonalise(lambda v: A @ v, jnp.ones(3), 2).diagonal.tolist()]
    [2.333333, 2.809524]
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(start))
    steps = min(steps, size)
    if steps < 1:
        reject(f"{steps} Lanczos steps from a start of {size} numbers", "Both are at least 1", "Give steps=40")
    # Arnoldi keeps the norms below the diagonal apart from the products above it, which are noise after a breakdown.
    done = decomp.hessenberg(steps, reortho="full", custom_vjp=False)(matvec, start)
    H = jnp.asarray(done.J_small)
    return Tridiagonal(jnp.diagonal(H), jnp.diagonal(H, -1), _norm(done.residual), 1.0 / done.init_length_inv)


def top_eigenvalue(tridiagonal: Tridiagonal) -> Estimate:
    r"""The largest eigenvalue of A: the largest Ritz value $\theta$, within $\beta_k|s_k|$ of an eigenvalue.

    A lies never below; that it is the *largest* eigenvalue rests on a start with a component along
    the top eigenvector, as a random one has. Raises ``ValueError`` for an operator that is not finite.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    >>> top = top_eigenvalue(tridiagonalise(lambda v: A @ v, jnp.ones(3), 3))
    >>> round(top.value, 12), bool(top.error < 1e-12)
    (4.0, True)
    """
    return extreme_eigenvalues(tridiagonal)[1]


def extreme_eigenvalues(tridiagonal: Tridiagonal) -> tuple[Estimate, Estimate]:
    r"""The smallest and the largest Ritz value, each within its error of an eigenvalue of A.

    The extreme eigenvalues lie beyond both; that they lie within the error rests on a start with components
    along their eigenvectors and on enough steps, of which the lower end of a kernel may need many.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    >>> [round(one.value, 12) for one in extreme_eigenvalues(tridiagonalise(lambda v: A @ v, jnp.ones(3), 3))]
    [1.0, 4.0]
    """
    diagonal, off_diagonal, residual = _until_breakdown(tridiagonal)
    values, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    rounding = len(values) * _ulp(values) * float(np.max(np.abs(values)))

    def at(i: int) -> Estimate:
        return Estimate(float(values[i]), float(abs(residual * vectors[-1, i])) + rounding)

    return at(0), at(-1)


def top_pair(matvec: Matvec, start: PyTree[Array], steps: int) -> tuple[Array, Array, PyTree[Array]]:
    r"""The largest Ritz value $\theta$, the bound $\beta_k|s_k|$, and the Ritz vector $Qs$, under ``jax.jit``.

    A start near the eigenvector, such as the Ritz vector of a moment before, needs few steps.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    >>> value, bound, vector = top_pair(lambda v: A @ v, jnp.ones(3), 3)
    >>> round(float(value), 6), bool(bound < 1e-6), jnp.abs(vector).round(6).tolist()
    (4.0, True, [0.0, 0.0, 1.0])
    """
    steps = min(steps, sum(leaf.size for leaf in jax.tree.leaves(start)))
    done = decomp.hessenberg(steps, reortho="full", custom_vjp=False)(matvec, start)
    H = jnp.asarray(done.J_small)
    diagonal, off = jnp.diagonal(H), jnp.diagonal(H, -1)
    # What follows an off-diagonal of rounding size is noise.
    scale = jnp.max(jnp.abs(diagonal)) if steps == 1 else jnp.maximum(jnp.abs(diagonal[0]), jnp.abs(off[0]))
    large = off > steps * jnp.finfo(H.dtype).eps * scale
    alive = jnp.cumprod(jnp.concatenate([jnp.ones(1, H.dtype), large.astype(H.dtype)]))
    off = jnp.where(alive[1:] > 0, off, 0.0)
    lowest = jnp.min(jnp.where(alive > 0, diagonal, 0.0)) - 4.0 * jnp.max(jnp.abs(jnp.where(alive > 0, diagonal, 0.0)))
    low = lowest - 4.0 * jnp.max(off, initial=0.0)
    T = jnp.diag(jnp.where(alive > 0, diagonal, low)) + jnp.diag(off, 1) + jnp.diag(off, -1)
    values, vectors = jnp.linalg.eigh(T)
    bound = jnp.where(alive[-1] > 0, _norm(done.residual) * jnp.abs(vectors[-1, -1]), 0.0)
    weights = vectors[:, -1] * alive

    def combined(Q):
        return jnp.tensordot(weights, jnp.where(alive.reshape(-1, *(Q.ndim - 1) * (1,)) > 0, Q, 0.0), 1)

    vector = jax.tree.map(combined, done.Q_tall)
    return values[-1], bound, vector


def drawn_trace(matvec: Matvec, like: Array, probes: int, key: Array) -> Estimate:
    r"""The trace of a symmetric operator from so many random vectors in the shape of ``like``, by Hutch++.

    A third of them, multiplied by A, give Q, on which the trace is exact; the others, random signs z, average
    $z^\top(I-QQ^\top)A(I-QQ^\top)z$, whose standard error is the error. Exact where Q holds everything.
    Meyer, Musco, Musco & Woodruff (2021). Raises ``ValueError`` for fewer than 4.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 0.0, 0.0]))
    >>> round(float(drawn_trace(lambda v: A @ v, jnp.ones(4), 6, jax.random.key(0)).value), 12)
    3.0
    """
    if probes < 4:
        reject(f"{probes} random vectors", "A trace and its standard error need at least 4", "Give probes=16")
    draw, toss = jax.random.split(key)
    held, size = min(probes // 3, like.size), like.size

    def product(v):
        return matvec(v.reshape(like.shape)).ravel()

    Q, _ = jnp.linalg.qr(jax.lax.map(product, jax.random.normal(draw, (held, size), like.dtype)).T)
    inside = jnp.sum(Q.T * jax.lax.map(product, Q.T))

    def outside(z):
        z = z - Q @ (Q.T @ z)
        return z @ product(z)

    rest = jax.lax.map(outside, jax.random.rademacher(toss, (probes - held, size), like.dtype))
    value = inside + jnp.mean(rest)
    rounding = size * jnp.finfo(like.dtype).eps * (jnp.abs(inside) + jnp.max(jnp.abs(rest)))
    return Estimate(value, jnp.std(rest, ddof=1) / (probes - held) ** 0.5 + rounding)


def quadrature(tridiagonal: Tridiagonal, lower: float | None = None) -> Quadrature:
    r"""Make the Gauss rule of $v^\top g(A)\,v$ with a second rule for its error.

    ``lower``: a number that no eigenvalue of A lies below (0 for a kernel), which gives two-sided
    bounds; without it the second rule is the Gauss rule of three quarters of the steps.
    Source: golub2010matrices.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    >>> rule = quadrature(tridiagonalise(lambda v: A @ v, jnp.ones(3), 2), lower=0.0)
    >>> [round(float(rule(lambda x, p=p: x**p).value), 10) for p in range(4)]
    [3.0, 7.0, 21.0, 73.0]
    >>> found, exact = rule(lambda x: np.exp(-x)), np.exp([-1.0, -2.0, -4.0]).sum()
    >>> bool(abs(found.value - exact) <= found.error < 0.02)
    True
    """
    diagonal, off_diagonal, residual = _until_breakdown(tridiagonal)
    square = float(tridiagonal.norm) ** 2
    first = _rule(diagonal, off_diagonal, square)
    if residual == 0.0:
        return Quadrature(*first, second=first, bracket=lower is not None)
    if lower is not None:
        return Quadrature(*first, second=_radau(diagonal, off_diagonal, residual, square, lower), bracket=True)
    fewer = max(1, 3 * len(diagonal) // 4)
    return Quadrature(*first, second=_rule(diagonal[:fewer], off_diagonal[: fewer - 1], square))


def _radau(diagonal: np.ndarray, off_diagonal: np.ndarray, residual: float, square: float, lower: float):
    """The rule with one more node, at ``lower`` (a little below, so that T - lower stays definite)."""
    node = lower - len(diagonal) * _ulp(diagonal) * np.max(np.abs(diagonal))
    bands = np.stack([np.append(0.0, off_diagonal), diagonal - node, np.append(off_diagonal, 0.0)])
    target = np.zeros_like(diagonal)
    target[-1] = residual**2
    last = node + solve_banded((1, 1), bands, target)[-1]
    return _rule(np.append(diagonal, last), np.append(off_diagonal, residual), square)


def _rule(diagonal: np.ndarray, off_diagonal: np.ndarray, square: float) -> tuple[np.ndarray, np.ndarray]:
    nodes, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    return nodes, square * vectors[0] ** 2


def _until_breakdown(tridiagonal: Tridiagonal) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut T where the Krylov space is exhausted: what follows an off-diagonal of rounding size is noise."""
    diagonal, off_diagonal = (np.asarray(part) for part in (tridiagonal.diagonal, tridiagonal.off_diagonal))
    residual = float(tridiagonal.residual)
    scale = np.fmax.reduce(np.abs(np.concatenate([diagonal, off_diagonal])))
    small = len(diagonal) * _ulp(diagonal) * scale
    ends = np.flatnonzero(~(off_diagonal > small))
    if len(ends):
        diagonal, off_diagonal, residual = diagonal[: ends[0] + 1], off_diagonal[: ends[0]], 0.0
    if not np.all(np.isfinite(diagonal)):
        reject(
            "An operator or a start vector that is not finite, or a start that is zero",
            "Lanczos needs finite products A v and a start other than zero",
            "Look for the first overflow, or start from random numbers",
        )
    return diagonal, off_diagonal, 0.0 if residual <= small else residual


def _ulp(array: np.ndarray) -> float:
    return float(np.finfo(array.dtype).eps)


def _norm(tree: PyTree[Array]) -> Float[Array, ""]:
    first, *rest = (jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree))
    return jnp.sqrt(sum(rest, first))
