r"""The spectrum of the empirical NTK of any model, without forming it.

Legend: n examples X, k outputs, N = n k, $\Theta = JJ^\top$ (N, N) with eigenvalues $\lambda_i$; a product
with $\Theta$ is one reverse and one forward derivative over all examples. Every drawn number carries its error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from widthwise.numerics import Estimate, mean_and_sem, reject
from widthwise.operators import adapt, examples, ntk_operator, parameters

from .eigenpairs import Eigenpairs, top_eigenpairs
from .lanczos import Quadrature, Tridiagonal, drawn_trace, extreme_eigenvalues, quadrature, tridiagonalise

_CONVERGED = 0.1  # the part of an eigenvalue below which its bound shows that it was found


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    r"""How the N eigenvalues are spread, as rules for $z^\top g(\Theta)\,z$ with random signs z; see `ntk_density`."""

    size: int
    rules: tuple[Quadrature, ...]

    def trace_of(self, g: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        r"""$\mathrm{tr}\,g(\Theta)$ for a function of an array of eigenvalues; further axes may stand before it.

        The error is the standard error over the vectors z plus the mean error of their quadratures.
        """
        found = [rule(g) for rule in self.rules]
        drawn = mean_and_sem([one.value for one in found])
        return Estimate(drawn.value, drawn.error + np.mean([one.error for one in found], axis=0))

    def log_determinant(self, ridge: float) -> Estimate:
        r"""$\log\det(\Theta + \rho I)$ for a ridge $\rho > 0$."""
        if not 0 < ridge < math.inf:
            reject(f"ridge={ridge}", "The logarithm of a singular determinant needs a ridge above 0", "Give ridge=1e-3")
        # Rounding may put a node of the second rule a little below zero.
        return self.trace_of(lambda values: np.log(np.maximum(values, 0.0) + ridge))

    def density(self, points: ArrayLike, width: float) -> Estimate:
        r"""The density of the eigenvalues at some points, $\frac1N\sum_i\mathcal N(x; \lambda_i, \text{width}^2)$."""
        points = np.asarray(points, dtype=float)
        if not width > 0:
            reject(f"width={width}", "A density is seen through a Gaussian of positive width", "Give 1 % of the range")
        scale = self.size * width * math.sqrt(2.0 * math.pi)
        return self.trace_of(lambda values: np.exp(-0.5 * ((points[:, None] - values) / width) ** 2) / scale)


@dataclass(frozen=True, eq=False)
class NTKSpectrum:
    r"""What `ntk_spectrum` finds: eigenpairs at the top, density, trace and condition number of $\Theta$."""

    top: Eigenpairs
    density: SpectralDensity
    trace: Estimate
    condition: Estimate


def ntk_spectrum(
    model: Any, X: ArrayLike, *, top: int = 10, probes: int = 16, steps: int = 48, key: Array | None = None
) -> NTKSpectrum:
    r"""The spectrum of the empirical NTK by products with it: top eigenpairs, density, trace, condition number.

    It costs about (probes + 1) steps + 5 top products. Arguments as those of the functions for each part.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> found = ntk_spectrum(model, jnp.array([[1.0, 3.0]]), top=1, probes=4)
    >>> [round(float(one), 10) for one in (found.top.values.value[0], found.trace.value, found.condition.value)]
    [9.0, 10.0, 9.0]
    """
    keys = jr.split(jr.key(0) if key is None else key, 4)
    model = adapt(model, X)
    return NTKSpectrum(
        ntk_eigenpairs(model, X, top, key=keys[0]),
        ntk_density(model, X, probes, steps, key=keys[1]),
        ntk_trace(model, X, probes, key=keys[2]),
        ntk_condition(model, X, steps=steps, key=keys[3]),
    )


def ntk_eigenpairs(
    model: Any, X: ArrayLike, count: int = 10, *, tolerance: float = 1e-8, most: int = 2000, key: Array | None = None
) -> Eigenpairs:
    r"""The largest eigenvalues of $\Theta$ with eigenvectors (count, n, k), each with a bound on its error.

    A block Krylov method with ``count`` + 2 vectors: equal eigenvalues, as the outputs of a last linear layer
    give, are all found. At most ``most`` products are made and as many vectors of N numbers held.
    Raises ``ValueError`` for a count below 1.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((2, 2)))
    >>> ntk_eigenpairs(model, jnp.diag(jnp.array([3.0, 1.0])), 2).values.value.round(10).tolist()
    [9.0, 9.0]
    """
    model, X, like = _prepared(model, X)
    if count < 1:
        reject(f"count={count}", "At least one eigenvalue is asked for", "Give count=10")
    wide = min(count + 2, like.size)
    start = np.asarray(jr.normal(jr.key(0) if key is None else key, (wide, like.size), like.dtype), dtype=float)

    def products(block):
        given = jnp.asarray(block, like.dtype).reshape(len(block), *like.shape)
        return np.asarray(_products(model, X, given), dtype=float).reshape(block.shape)

    found = top_eigenpairs(products, start, min(count, like.size), tolerance, most)
    return Eigenpairs(found.values, found.vectors.reshape(-1, *like.shape), found.products, found.converged)


def ntk_trace(model: Any, X: ArrayLike, probes: int = 16, *, key: Array | None = None) -> Estimate:
    r"""The trace $\mathrm{tr}\,\Theta = \|J\|_F^2$: exact with up to 2 ``probes`` outputs, else by random vectors.

    Exactly it costs k reverse derivatives of each example; by Hutch++ 4/3 products for each vector, and then
    the error is a standard error.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((2, 2)))
    >>> round(float(ntk_trace(model, jnp.eye(2)).value), 12)
    4.0
    """
    model, X, like = _prepared(model, X)
    if like.shape[1] <= 2 * probes:
        return Estimate.rounded(float(np.sum(_squares(model, X), dtype=float)), ulps=_ulps(like.dtype, 64.0))
    found = _hutch(model, X, probes, jr.key(0) if key is None else key)
    return Estimate(float(found.value), float(found.error))


def ntk_density(
    model: Any, X: ArrayLike, probes: int = 16, steps: int = 48, *, key: Array | None = None
) -> SpectralDensity:
    r"""The spectral density of $\Theta$ by Lanczos from random signs: traces of functions, log-determinants.

    ``probes`` vectors with ``steps`` products each. Source: ubaru2017fast.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> found = ntk_density(model, jnp.array([[1.0, 3.0]]), probes=4)
    >>> round(float(found.log_determinant(1.0).value), 10), round(float(np.log(2.0 * 10.0)), 10)
    (2.9957322736, 2.9957322736)
    """
    model, X, like = _prepared(model, X)
    if probes < 2:
        reject(f"probes={probes}", "A standard error needs at least 2 random vectors", "Give probes=16")
    starts = jr.rademacher(jr.key(0) if key is None else key, (probes, *like.shape), like.dtype)
    found = _tridiagonals(model, X, starts, steps)
    parts = [jax.tree.map(lambda part, i=i: part[i], found) for i in range(probes)]
    return SpectralDensity(like.size, tuple(quadrature(one, lower=0.0) for one in parts))


def ntk_condition(
    model: Any, X: ArrayLike, ridge: float = 0.0, *, steps: int = 48, key: Array | None = None
) -> Estimate:
    r"""The condition number of $\Theta + \rho I$, or for $\rho = 0$ that of the nonzero part of $\Theta$.

    By Lanczos; for $\rho = 0$ from a vector in the range of $\Theta$, where the null space is not seen. The error is
    that of the two eigenvalues it found, and infinite where the lower one has not converged: then the value is a
    lower bound, and more ``steps`` are needed, at most N. With a ridge nothing is assumed of $\lambda_{min}$ but that
    it lies between 0 and the smallest value seen.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 3)))
    >>> X = jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    >>> round(ntk_condition(model, X).value, 10), round(ntk_condition(model, X, ridge=1.0).value, 10)
    (4.0, 5.0)
    """
    model, X, like = _prepared(model, X)
    _demand_ridge(ridge, ridge >= 0.0)
    start = jr.normal(jr.key(0) if key is None else key, (1, *like.shape), like.dtype)
    if ridge == 0.0:
        start = _products(model, X, start)
    found = _tridiagonals(model, X, start, steps)
    low, high = extreme_eigenvalues(jax.tree.map(lambda part: part[0], found))
    below, above = max(0.0, low.value - low.error), max(0.0, low.value + low.error)
    if ridge > 0.0 and steps < like.size:
        below = 0.0
    largest, smallest = high.value + high.error + ridge, max(0.0, high.value - high.error) + ridge
    if ridge == 0.0 and not low.error < _CONVERGED * low.value:
        return Estimate(high.value / low.value if low.value > 0 else math.inf, math.inf)
    ends = smallest / (above + ridge), largest / (below + ridge)
    return Estimate(0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0]))


def ntk_solve(
    model: Any, X: ArrayLike, B: ArrayLike, ridge: float, *, tolerance: float = 1e-8, most: int | None = None
) -> Estimate:
    r"""Solve $(\Theta + \rho I)A = B$ by conjugate gradients, all entries (n, k) within $\|B-(\Theta+\rho I)A\|/\rho$.

    ``most`` products at most, by default 10 N. Raises ``ValueError`` for a ridge that is not above 0, for B of
    another shape, and where ``tolerance``, relative to the largest entry of B, is not reached.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> ntk_solve(model, jnp.eye(2), jnp.ones((2, 1)), 1.0).value.ravel().round(10).tolist()
    [0.5, 0.5]
    """
    model, X, like = _prepared(model, X)
    _demand_ridge(ridge, ridge > 0.0)
    target = jnp.asarray(B).astype(like.dtype)
    if target.shape != like.shape:
        reject(f"B of shape {target.shape}", f"It has the shape {like.shape} of the outputs", "Give one entry for each")
    most = 10 * like.size if most is None else most
    found, residual = _conjugate_gradients(model, X, target, ridge, tolerance, most)
    left, wanted = float(jnp.max(jnp.abs(residual))), 10.0 * tolerance * float(jnp.max(jnp.abs(target)))
    if not left <= max(wanted, _ulps(like.dtype, 4096.0) * 2.0**-52 * float(jnp.max(jnp.abs(target)))):
        reject(
            f"a residual of {left:.2g} after {most} products, above {wanted:.2g}",
            "Conjugate gradients need about the square root of the condition number of products",
            "Give a larger ridge, tolerance or most; float64 where rounding is what is left",
        )
    return Estimate(np.asarray(found), float(jnp.linalg.norm(residual)) / ridge)


def _prepared(model: Any, X: ArrayLike) -> tuple[Callable, Array, jax.ShapeDtypeStruct]:
    """The model as a callable PyTree, its examples, and the shape of its outputs on them."""
    X = examples(X)
    model = adapt(model, X)
    return model, X, jax.eval_shape(jax.vmap(model), X)


def _ulps(dtype: Any, count: float) -> float:
    """So many roundings of this precision, in units of those of float64."""
    return count * float(jnp.finfo(dtype).eps) / 2.0**-52


def _demand_ridge(ridge: float, fits: bool) -> None:
    if not (fits and ridge < math.inf):
        reject(f"ridge={ridge}", "A ridge is a positive finite number", "Give 1e-3 times the mean eigenvalue")


@eqx.filter_jit
def _products(model: Callable, X: Array, block: Float[Array, "b n k"]) -> Float[Array, "b n k"]:
    return jax.lax.map(ntk_operator(model, X).mv, block)


@eqx.filter_jit
def _tridiagonals(model: Callable, X: Array, starts: Float[Array, "b n k"], steps: int) -> Tridiagonal:
    product = ntk_operator(model, X).mv
    return jax.lax.map(lambda start: tridiagonalise(product, start, steps), starts)


@eqx.filter_jit
def _hutch(model: Callable, X: Array, probes: int, key: Array) -> Estimate:
    outputs = jax.vmap(model)(X)
    return drawn_trace(ntk_operator(model, X).mv, outputs, probes, key)


@eqx.filter_jit
def _squares(model: Callable, X: Array) -> Float[Array, " n"]:
    r"""$\|Df(x)\|_F^2$ of each example."""
    leaves, rebuild = parameters(model)
    derivative = jax.jacrev(lambda new, x: rebuild(new)(x))

    def one(x):
        first, *rest = (jnp.sum(jnp.abs(part) ** 2) for part in derivative(leaves, x))
        return sum(rest, first)

    return jax.lax.map(one, X, batch_size=16)


@eqx.filter_jit
def _conjugate_gradients(model, X, target, ridge, tolerance, most) -> tuple[Array, Array]:
    kernel = ntk_operator(model, X)
    identity = lx.IdentityLinearOperator(jax.eval_shape(lambda: target))
    operator = lx.TaggedLinearOperator(kernel + ridge * identity, lx.positive_semidefinite_tag)
    solver = lx.CG(rtol=tolerance, atol=0.0, max_steps=most)
    found = lx.linear_solve(operator, target, solver, throw=False).value
    return found, target - operator.mv(found)
