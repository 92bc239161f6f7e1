r"""Signal propagation at infinite width: variances and gradients by layer, the fixed point, the phase.

Legend: $q^{(l)} = K^{(l)}(x, x)$ the variance of a pre-activation of layer l, $l = 1..L+1$;
$\chi_\parallel = \partial q^{(l+1)}/\partial q^{(l)}$ how a change of the variance is passed on,
$\chi_\perp = C_w E[\sigma'(z)^2]$ how a small angle between two inputs, and a gradient on its way back, is;
$P^{(l)} = \frac1k\|\partial f/\partial z^{(l)}\|_F^2$. All of it is read off the layers' own ``propagate``: no
formula of a layer is repeated here (Poole et al. 2016; Schoenholz et al. 2017).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.activations import Activation
from widthwise.networks import AbstractLayer, Apply, Chain, Pair
from widthwise.numerics import reject

Phase = Literal["ordered", "critical", "chaotic"]

_NEAR_ONE = 1e-6  # a chi this close to one is one: what a variance of 1e-8 leaves of chi at zero
_TINY = 1e-8  # the variance at which "the limit of small signals" is read
_STILL = 1e-9  # a relative change per layer below this is none
_GRID = np.geomspace(1e-6, 1e6, 241)
_MOST_TERMS = 2048


@dataclass(frozen=True, eq=False)
class Propagation:
    r"""Variances $q^{(l)}$ and gradients $P^{(l)}$ of every layer that is no activation, each (n, L + 1)."""

    variance: Float[np.ndarray, "n layers"]
    gradient: Float[np.ndarray, "n layers"]


@dataclass(frozen=True)
class Response:
    r"""What one more layer does at the variance q: $\chi_\parallel$ and $\chi_\perp$."""

    parallel: float
    perpendicular: float

    @property
    def phase(self) -> Phase:
        r"""Ordered for $\chi_\perp < 1$, chaotic for $\chi_\perp > 1$, critical where it is one."""
        if abs(self.perpendicular - 1.0) < _NEAR_ONE:
            return "critical"
        return "ordered" if self.perpendicular < 1.0 else "chaotic"


@dataclass(frozen=True)
class FixedPoint:
    r"""Where the variance goes when a layer is repeated: ``value`` (0, finite or inf) and the response there.

    ``everywhere``: every variance is a fixed point, as for a scale-invariant activation at criticality.
    """

    value: float
    response: Response
    everywhere: bool = False

    @property
    def depth_scale(self) -> float:
        r"""$\xi_\perp = 1/|\log\chi_\perp|$, the layers in which an angle or a gradient changes by a factor e."""
        if self.response.phase == "critical":
            return np.inf
        return float(1.0 / abs(np.log(self.response.perpendicular))) if self.response.perpendicular else 0.0


def propagation(network: Chain, q: ArrayLike, *, tolerance: float = 1e-8) -> Propagation:
    r"""Predict variances and gradients of every layer for inputs with mean squares $q = \|x\|^2/d$ (n,).

    $P^{(l)}$ is the derivative of the tangent kernel at the output with respect to that at layer l.
    Activations without a closed dual get as many series terms as each input needs for a relative
    error of the gradients below ``tolerance``; the variances are exact. Runs in float64. Raises
    ``ValueError`` for a mean square that is negative or not finite, and where the tolerance cannot
    be reached.

    >>> from widthwise.networks import MLP
    >>> found = propagation(MLP(depth=2, activation="relu").network(), [1.0])
    >>> found.variance.tolist(), found.gradient.tolist()
    ([[2.0, 2.0, 1.0]], [[0.5, 0.5, 1.0]])
    """
    inputs = np.asarray(q, dtype=np.float64)
    if inputs.ndim != 1 or not np.all(np.isfinite(inputs) & (inputs >= 0)):
        reject(
            f"mean squares {inputs!r}", "A mean square is a finite number of at least 0", "Pass np.mean(X**2, axis=1)"
        )
    return Propagation(*_accurate(_propagate, network, inputs, tolerance))


def _accurate(compute: Callable, network: AbstractLayer, q: np.ndarray, tolerance: float) -> tuple[np.ndarray, ...]:
    """Apply ``compute`` (whose last result is an error), with four times the series terms where they are needed."""
    with jax.enable_x64(True):
        *found, error = (np.array(part) for part in compute(network, jnp.asarray(q)))
    rest = np.flatnonzero(error > tolerance)
    if not rest.size:
        return tuple(found)
    finer = _finer(network, float(q[rest].max()), float(error.max()), tolerance)
    for part, better in zip(found, _accurate(compute, finer, q[rest], tolerance), strict=True):
        part[rest] = better
    return tuple(found)


def _finer(network: AbstractLayer, q: float, error: float, tolerance: float) -> AbstractLayer:
    """The same network, its numerical duals with four times the terms."""

    def more(leaf):
        return replace(leaf, degree=4 * leaf.degree) if isinstance(leaf, Activation) else leaf

    leaves = jax.tree.leaves(network, is_leaf=lambda node: isinstance(node, Activation))
    if not any(isinstance(leaf, Activation) and 4 * leaf.degree <= _MOST_TERMS for leaf in leaves):
        reject(
            f"an error of {error:.1e} at a mean square of {q:.3g}",
            f"The tolerance is {tolerance:.1e}, and at most {_MOST_TERMS} terms are used",
            "Scale the inputs or the weight variance down, or pass a larger tolerance",
        )
    return jax.tree.map(more, network, is_leaf=lambda node: isinstance(node, Activation))


@eqx.filter_jit
def _propagate(network: Chain, q: Array) -> tuple[Array, Array, Array]:
    def one(mean_square):
        pair, variances, onwards = equal(mean_square), [], []
        for index, layer in enumerate(network.layers):
            pair = layer.propagate(pair)
            if not isinstance(layer, Apply):
                variances.append(pair.xx)
                onwards.append((pair, network.layers[index + 1 :]))
        gradients = jnp.stack([_passed_back(start, rest) for start, rest in onwards])
        return jnp.stack(variances), gradients, pair.error

    return jax.vmap(one)(q)


def _passed_back(pair: Pair, rest: tuple[AbstractLayer, ...]) -> Array:
    """How much of a tangent kernel at this point arrives at the output."""

    def arrived(ntk):
        end = eqx.tree_at(lambda p: p.ntk, pair, ntk)
        for layer in rest:
            end = layer.propagate(end)
        return end.ntk

    return jax.jvp(arrived, (pair.ntk,), (jnp.ones_like(pair.ntk),))[1]


def equal(q: Array) -> Pair:
    """The pair of an input of mean square q with itself."""
    zero = jnp.zeros_like(q)
    return Pair(q, q, zero, zero + 2.0, zero, zero)


@eqx.filter_jit
def _step(block: AbstractLayer, q: Array) -> tuple[Array, Array, Array, Array]:
    r"""The variance after one more layer, $\chi_\parallel$, $\chi_\perp$ and its error, for many variances at once."""

    def one(value):
        after, parallel = jax.value_and_grad(lambda v: block.propagate(equal(v)).xx)(value)
        return after, parallel, _passed_back(equal(value), (block,)), block.propagate(equal(value)).error

    return jax.vmap(one)(q)


def _along(block: AbstractLayer, q: np.ndarray) -> np.ndarray:
    """The variance after one more layer, for at most as many variances as the grid has: one shape, one compilation."""
    filled = np.concatenate([q, np.full(_GRID.size + 1 - q.size, q[-1])])
    with jax.enable_x64(True):
        return np.asarray(_step(block, jnp.asarray(filled))[0])[: q.size]


def response(block: AbstractLayer, q: float, *, tolerance: float = 1e-8) -> Response:
    r"""$\chi_\parallel$ and $\chi_\perp$ of one more layer, an activation followed by a dense layer, at the variance q.

    ``tolerance`` is for $\chi_\perp$, as in `propagation`. Raises ``ValueError`` for a variance that is
    not positive, and where the tolerance cannot be reached.

    >>> from widthwise.networks import Dense
    >>> response(Chain((Apply("relu"), Dense(2.0))), 1.0)
    Response(parallel=1.0, perpendicular=1.0)
    """
    if not (np.isfinite(q) and q > 0):
        reject(f"a variance of {q}", "A response is taken at a positive variance", "Pass the variance of a layer")
    _, parallel, perpendicular = _accurate(_step, block, np.full(_GRID.size + 1, q), tolerance)
    return Response(float(parallel[0]), float(perpendicular[0]))


def fixed_point(block: AbstractLayer, start: float) -> FixedPoint:
    r"""Find where the variance goes from ``start`` when the block is repeated without end.

    It is the next zero of $q'/q - 1$ in the direction of the first step; 0 or infinity where there is
    none between 1e-6 and 1e6. The response at infinity is read at 1e6, to some percent where a dual is
    numerical. Raises ``ValueError`` for a start outside of this range.

    >>> from widthwise.networks import Dense
    >>> round(fixed_point(Chain((Apply("erf"), Dense(1.5, 0.05))), 1.0).value, 6)
    0.601753
    """
    if not _GRID[0] < start < _GRID[-1]:
        reject(f"a variance of {start}", "The search goes from 1e-6 to 1e6", "Scale the inputs")
    grid = np.sort(np.append(_GRID, start))
    growth, here = _along(block, grid) / grid - 1.0, int(np.searchsorted(grid, start))
    if abs(growth[here]) < _STILL:
        return FixedPoint(start, response(block, start), everywhere=bool(np.all(np.abs(growth) < _STILL)))
    up = growth[here] > 0
    path, grows = (grid[here:], growth[here:] > 0) if up else (grid[here::-1], growth[here::-1] > 0)
    crossed = np.flatnonzero(grows != up)
    if not len(crossed):
        far = response(block, float(path[-1]), tolerance=np.inf) if up else response(block, _TINY)
        return FixedPoint(np.inf if up else 0.0, far)
    root = _refine(block, float(path[crossed[0] - 1]), float(path[crossed[0]]))
    return FixedPoint(root, response(block, root))


def _refine(block: AbstractLayer, before: float, behind: float) -> float:
    """Close in on a zero between two variances, by a grid within the grid until rounding is reached."""
    while abs(behind - before) > 8 * np.finfo(float).eps * before:
        path = np.linspace(before, behind, _GRID.size)
        up = _along(block, path) > path
        crossed = np.flatnonzero(up != up[0])
        if not len(crossed) or (path[crossed[0] - 1] == before and path[crossed[0]] == behind):
            break
        before, behind = float(path[crossed[0] - 1]), float(path[crossed[0]])
    return float(0.5 * (before + behind))
