r"""The gradient flow of a least-squares loss by an exponential integrator in the eigenbasis of the tangent kernel.

Legend: $g = \alpha f$, residual $r = g(w) - y$, $G$ (n, p) the Jacobian of g at a point of reference, kernel
$GG^\top = Q\,\mathrm{diag}(\mu)\,Q^\top$, flow $\dot w = F(w) = -\tfrac1{\text{rate}}J_g(w)^\top r$ in units of
1/rate. Each vector of parameters is split in two, $v = G^\top Qa + v^\perp$ with $Gv^\perp = 0$: along the kernel
the linear part $A = -G^\top G/\text{rate}$ decays each coordinate of a at its rate $\lambda = \mu/\text{rate}$,
across it A is zero. Across lie also the directions whose $\mu$ is lost in the rounding of the largest: there A is
taken for 0, and what they do is found as what the kernel's change does. Nothing of the size (n, p) is held.

A step from $w_n$ writes $F(w_n + \Delta) = A\Delta + \sum_{k \ge 0} d_k\theta^k$, $\theta$ the part of the step h
that is done, and then $\Delta(\theta) = h\sum_k k!\,\theta^{k+1}\varphi_{k+1}(\theta hA)\,d_k$ exactly. Here
$d_0 = F(w_n)$ is known; one after the other, 1, 2, ... s further coefficients are found by interpolating
$F - A\Delta$ at so many Radau points, with $\Delta$ as it was before. Each sweep adds an order: s sweeps have order
s + 1 and cost $s(s+1)/2 + 1$ evaluations of F, whatever A is, and a linear map is integrated exactly.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import phi

SWEEPS = 4
EVALUATIONS = SWEEPS * (SWEEPS + 1) // 2 + 1
# Rows of the kernel that are computed together may hold so many numbers.
_BATCH = 2**22
# The points of each panel of the length's quadrature; panels double from the time of the fastest decay on.
_NODES, _WEIGHTS = (part.tolist() for part in np.polynomial.legendre.leggauss(12))
_FACTORIALS = [float(math.factorial(k)) for k in range(SWEEPS + 1)]


class Basis(eqx.Module):
    """A tangent kernel taken apart: the point it belongs to, its eigenvectors, and eigenvalues, 0 where rounding."""

    at: Float[Array, " p"]
    vectors: Float[Array, "n n"]
    values: Float[Array, " n"]


class Pieces(eqx.Module):
    r"""The coefficients $d_k$: coordinates along the eigenvectors of the kernel, and vectors across."""

    along: Float[Array, "k n"]
    across: Float[Array, "k p"]


class Step(NamedTuple):
    """One attempted step: its coefficients, what it adds to the displacement and the length, and its error."""

    pieces: Pieces
    moved: Float[Array, " p"]
    length: Float[Array, ""]
    error: Float[Array, ""]
    noise: Float[Array, ""]


class Numbers(NamedTuple):
    """The factor on the output and the inverse unit of time."""

    alpha: Float[Array, ""]
    rate: Float[Array, ""]


@functools.cache
def radau(count: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The points of a sweep (count,) and the inverse of their powers: coefficients of $\theta, \dots, \theta^{count}$.

    With 0, where the interpolated function is known to vanish, they are the left Radau points of [0, 1].

    >>> [part.round(12).tolist() for part in radau(1)]
    [[0.666666666667], [[1.5]]]
    """
    legendre = np.polynomial.legendre.Legendre
    # On [-1, 1] they are the zeros of P_j + P_{j+1}, the first of which is -1.
    zeros = np.sort((legendre.basis(count) + legendre.basis(count + 1)).roots().real)[1:]
    points = (zeros + 1) / 2
    return points, np.linalg.inv(points[:, None] ** np.arange(1, count + 1)[None])


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The points and matrices of all sweeps, filled up with zeros."""
    points, inverses = np.zeros((SWEEPS, SWEEPS)), np.zeros((SWEEPS, SWEEPS, SWEEPS))
    for count in range(1, SWEEPS + 1):
        points[count - 1, :count], inverses[count - 1, :count, :count] = radau(count)
    return points, inverses


@eqx.filter_jit
def basis_at(f: Callable, kernel: Callable | None, w: Array, alpha: Array) -> Basis:
    """The kernel at w, by ``kernel`` or column by column, taken apart; nothing of the size (n, p) is held."""
    gram = _columns(f, w) if kernel is None else kernel(w)
    values, vectors = jnp.linalg.eigh(alpha**2 * gram)
    cut = values.size * float(np.finfo(float).eps) * values[-1]
    return Basis(w, vectors, jnp.where(values > cut, values, 0.0))


def _columns(f: Callable, w: Float[Array, " p"]) -> Float[Array, "n n"]:
    outputs, push = jax.linearize(f, w)
    pull = jax.linear_transpose(push, w)
    batch = max(1, min(outputs.size, _BATCH // w.size))
    return jax.lax.map(lambda row: push(pull(row)[0]), jnp.eye(outputs.size), batch_size=batch)


def _decayed(pieces: Pieces, rates: Array, h: Array, theta: Array) -> tuple[Array, Array]:
    r"""$\Delta(\theta)$, along and across."""
    count = len(pieces.along)
    powers = theta ** jnp.arange(1.0, count + 1)
    weights = h * powers * jnp.array(_FACTORIALS[:count])
    along = jnp.sum(weights[:, None] * phi(count + 1, -theta * h * rates)[1:] * pieces.along, axis=0)
    return along, (h * powers / jnp.arange(1.0, count + 1)) @ pieces.across


def _velocity(pieces: Pieces, rates: Array, h: Array, theta: Array) -> tuple[Array, Array]:
    r"""$d\Delta/dt$: coordinates along, and the weights of the parts across."""
    count = len(pieces.along)
    powers = theta ** jnp.arange(0.0, count)
    weights = powers * jnp.array(_FACTORIALS[:count])
    return jnp.sum(weights[:, None] * phi(count, -theta * h * rates) * pieces.along, axis=0), powers


def _size(basis: Basis, along: Array, across: Array) -> Array:
    r"""The norm of $G^\top Qa + v^\perp$; the two parts are orthogonal."""
    return jnp.sqrt(jnp.sum(basis.values * along**2) + jnp.sum(across**2))


def _length(pieces: Pieces, basis: Basis, rates: Array, h: Array, theta: Array) -> Array:
    r"""$h\int_0^\theta\|\dot w\|$, on panels that double from the time of the fastest decay on."""
    gram = pieces.across @ pieces.across.T

    def speed(at):
        along, weights = _velocity(pieces, rates, h, at)
        return jnp.sqrt(jnp.sum(basis.values * along**2) + jnp.maximum(weights @ gram @ weights, 0.0))

    panels = jnp.ceil(jnp.log2(1.0 + theta * h * jnp.max(rates))).astype(int)

    def panel(j, total):
        stop = theta * 2.0 ** -j.astype(float)
        start = jnp.where(j < panels, 0.5 * stop, 0.0)
        half = 0.5 * (stop - start)
        at = start + half * (1.0 + jnp.array(_NODES))
        return total + half * (jax.vmap(speed)(at) @ jnp.array(_WEIGHTS))

    return h * jax.lax.fori_loop(0, panels + 1, panel, jnp.zeros(()))


class _Map(NamedTuple):
    r"""What a step does with the network: $F$, and products with G and with its transpose."""

    field: Callable[[Array], Array]
    push: Callable[[Array], Array]
    pull: Callable[[Array], Array]
    residual: Array


def _around(f: Callable, y: Array, numbers: Numbers, basis: Basis, w: Array) -> _Map:
    alpha, rate = numbers
    _, forward = jax.linearize(f, basis.at)
    transpose = jax.linear_transpose(forward, basis.at)

    def field(at):
        outputs, pull = jax.vjp(f, at)
        # Scaled before it is pulled back: a factor behind the last product keeps XLA from calling the fast one.
        return pull(-(alpha / rate) * (alpha * outputs - y))[0]

    def bare(product):
        # An addition that is fused to a product keeps XLA from calling the fast one, too.
        return lambda v: jax.lax.optimization_barrier(product(v))

    pull, push = bare(lambda q: transpose(alpha * q)[0]), bare(lambda v: forward(alpha * v))
    return _Map(bare(field), push, pull, alpha * f(w) - y)


def _split(basis: Basis, maps: _Map, v: Array) -> tuple[Array, Array]:
    r"""Coordinates of v along the kernel, $\mu^{-1}Q^\top Gv$, and what lies across."""
    inverse = jnp.where(basis.values > 0, 1.0 / jnp.where(basis.values > 0, basis.values, 1.0), 0.0)
    along = inverse * (basis.vectors.T @ maps.push(v))
    return along, v - maps.pull(basis.vectors @ along)


@eqx.filter_jit
def attempt(f: Callable, y: Array, numbers: Numbers, basis: Basis, w: Array, fresh: Array, h: Array) -> Step:
    """One step of size h from w, on the linear part of ``basis``; ``fresh`` where that is the one at w."""
    maps, rates = _around(f, y, numbers, basis, w), basis.values / numbers.rate
    start = maps.field(w)
    pieces = _first(basis, maps, numbers)
    rest = start - maps.pull(basis.vectors @ pieces.along[0]) - pieces.across[0]
    along, across = _split(basis, maps, jnp.where(fresh, 0.0, rest))
    pieces = Pieces(pieces.along.at[0].add(along), pieces.across.at[0].add(across))
    points, inverses = (jnp.asarray(table) for table in _tables())

    def at_point(i, carry):
        row, pieces, found = carry
        along, across = _decayed(pieces, rates, h, row[i])
        change = maps.field(w + maps.pull(basis.vectors @ along) + across) - start
        new, beside = _split(basis, maps, change)
        return row, pieces, Pieces(found.along.at[i].set(new + rates * along), found.across.at[i].set(beside))

    def sweep(j, carry):
        old, _ = carry
        found = jax.tree.map(lambda part: jnp.zeros_like(part[1:]), old)
        found = jax.lax.fori_loop(0, j + 1, at_point, (points[j], old, found))[2]
        return jax.tree.map(lambda part, new: part.at[1:].set(inverses[j] @ new), old, found), old

    pieces, before = jax.lax.fori_loop(0, SWEEPS, sweep, (pieces, pieces))
    error, moved = _compared(basis, rates, pieces, before, h)
    lengths = jax.vmap(lambda one: _length(one, basis, rates, h, jnp.ones(())))(_stacked(pieces, before))
    error = jnp.maximum(error, jnp.abs(lengths[0] - lengths[1]))
    noise = h * (16.0 * float(np.finfo(float).eps) * jnp.linalg.norm(start) + _undamped(basis, maps, numbers))
    return Step(pieces, maps.pull(basis.vectors @ moved[0]) + moved[1], lengths[0], error, noise)


def _stacked(*trees: Pieces) -> Pieces:
    return jax.tree.map(lambda *parts: jnp.stack(parts), *trees)


def _compared(basis: Basis, rates: Array, pieces: Pieces, before: Pieces, h: Array) -> tuple[Array, tuple]:
    """How far two sweeps differ in the middle and at the end of a step, and where the later one ends."""
    differ = jax.tree.map(jnp.subtract, pieces, before)
    work = _stacked(differ, differ, pieces), jnp.array([0.5, 1.0, 1.0])
    along, across = jax.lax.map(lambda one: _decayed(one[0], rates, h, one[1]), work)
    sizes = jax.vmap(_size, (None, 0, 0))(basis, along[:2], across[:2])
    return jnp.max(sizes), (along[2], across[2])


def _first(basis: Basis, maps: _Map, numbers: Numbers) -> Pieces:
    r"""The coefficients of the linear model: $d_0 = -\tfrac1{\text{rate}}G^\top r$, all others zero."""
    moving = -(basis.vectors.T @ maps.residual) / numbers.rate
    slow = maps.pull(basis.vectors @ jnp.where(basis.values > 0, 0.0, moving))
    # Roundings of the slow ones are large beside them, and not theirs: they decay along the kernel.
    along, across = _split(basis, maps, slow)
    along = along + jnp.where(basis.values > 0, moving, 0.0)
    return Pieces(*(jnp.zeros((SWEEPS + 1, part.size)).at[0].set(part) for part in (along, across)))


def _undamped(basis: Basis, maps: _Map, numbers: Numbers) -> Array:
    """The rounding of the slope, per time, that a residual leaves which hardly decays."""
    staying = jnp.linalg.norm(jnp.where(basis.values > 0, 0.0, basis.vectors.T @ maps.residual))
    return 16.0 * float(np.finfo(float).eps) * jnp.sqrt(jnp.max(basis.values)) * staying / numbers.rate


@eqx.filter_jit
def linear(f: Callable, y: Array, numbers: Numbers, basis: Basis) -> tuple[Pieces, Float[Array, ""]]:
    """The coefficients of the linear model at the point of ``basis``, and what rounding does to it per time."""
    maps = _around(f, y, numbers, basis, basis.at)
    return _first(basis, maps, numbers), _undamped(basis, maps, numbers)


@eqx.filter_jit
def place(f: Callable, basis: Basis, numbers: Numbers, pieces: Pieces, h: Array, theta: Array) -> Float[Array, " p"]:
    r"""$\Delta(\theta)$ as one vector of parameters."""
    along, across = _decayed(pieces, basis.values / numbers.rate, h, theta)
    pull = jax.linear_transpose(jax.linearize(f, basis.at)[1], basis.at)
    return pull(numbers.alpha * (basis.vectors @ along))[0] + across


@eqx.filter_jit
def length_to(basis: Basis, numbers: Numbers, pieces: Pieces, h: Array, theta: Array) -> Float[Array, ""]:
    r"""The length of the path up to $\theta$."""
    return _length(pieces, basis, basis.values / numbers.rate, h, theta)


@eqx.filter_jit
def residual_at(f: Callable, y: Array, numbers: Numbers, w: Array) -> Float[Array, " n"]:
    r"""$\alpha f(w) - y$."""
    return numbers.alpha * f(w) - y
