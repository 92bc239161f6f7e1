r"""What the gap to the linearisation is measured of: a map with its start, and what bounds its departure.

Legend: as in ``search``; $\beta(\rho)$ as in ``gaps``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.activations import negative_slope
from widthwise.networks import Composed
from widthwise.numerics import reject
from widthwise.operators import ADAPTED, adapt, demand_options, flatten

from ..lazy import LazyProblem, Shallow, certified_smoothness
from ..lazy.lipschitz import Profile, Smoothness, shallow, shallow_local, unknown
from ..lazy.maps import Scaled, ShallowMap
from .rectifier import rectifier_worst_case
from .search import demand_radius

_CELLS = 8  # balls within each other on which a constant is taken
_MOST = 4_000_000  # entries in the blocks of all neurons, beyond which the global constant has to do

# From a radius to the bound, how it was found or why there is none, and the exact value where it is known.
Bounds = Callable[[float], tuple[float, str, float | None]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A map (p,) -> (n,) with its start, and bounds of its departure."""

    f: Callable
    w0: Float[np.ndarray, " p"]
    bounds: Bounds
    name: str


class AllOutputs(eqx.Module):
    """All outputs of a model on a batch, one after the other, as a function of the model's parameter vector."""

    rebuild: Callable = eqx.field(static=True)
    X: Array

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return jax.vmap(self.rebuild(w))(self.X).ravel()


def remainder_bound(smoothness: Profile, radius: float) -> Smoothness:
    r"""Bound $\sup\{\|f(w_0+\delta)-f(w_0)-J\delta\| : \|\delta\|\le R\} \le \int_0^R\beta(\rho)\,\rho\,d\rho$.

    Because $e(\delta) = \int_0^1(J_{w_0+t\delta}-J)\,\delta\,dt$; $\frac12\beta R^2$ for one constant, which no bound
    in terms of $\beta$ can improve. For a profile the integral is taken as an upper sum over balls within each other.
    The answer has the bound as its ``value``, whether it is ``certified``, and how.

    Raises ``ValueError`` for a wrong radius. Derived here, after bartlett2021deep.

    >>> remainder_bound(Smoothness(0.3, certified=True), 2.0).value
    0.6
    """
    demand_radius(radius)
    ends = radius * np.linspace(0.0, 1.0, (1 if isinstance(smoothness, Smoothness) else _CELLS) + 1)
    found = [smoothness(float(end)) for end in ends[1:]]
    shells = 0.5 * np.diff(ends**2)
    value = sum(one.value * float(shell) for one, shell in zip(found, shells, strict=True) if shell > 0)
    return Smoothness(float(value), all(one.certified for one in found), float(radius), found[-1].method)


def subject(
    function: Callable, model: Any, X: ArrayLike | None, smoothness: Profile | None, options: dict[str, Any]
) -> Subject:
    """Bring a model for a function that the user called, with the constant that is given in place of its own."""
    _check_options(function, model, options)
    if isinstance(model, LazyProblem):
        return _problem(model, X, smoothness)
    if X is None:
        reject(
            f"a {type(model).__name__} without X",
            "A network has a gap on inputs; only a LazyProblem brings its own",
            "Give gap(model, X, radius=...)",
        )
    if isinstance(model, Shallow):
        return _shallow(model, _inputs(X), smoothness)
    return _adapted(model, X, smoothness, options)


def _check_options(function: Callable, model: Any, options: dict[str, Any]) -> None:
    demand_options(function, options, ADAPTED)
    if options and isinstance(model, LazyProblem | Shallow):
        others = ", ".join(f"{name}={value!r}" for name, value in options.items())
        reject(f"{others} for a {type(model).__name__}", "It takes no options", "Leave it out")


def _problem(problem: LazyProblem, X: ArrayLike | None, smoothness: Profile | None) -> Subject:
    if X is not None:
        reject("a LazyProblem and X", "A LazyProblem brings its own inputs", "Leave X out")
    profile, alpha = smoothness or problem.smoothness, problem.alpha
    with jax.enable_x64(True):
        f = Scaled(problem.f, jnp.asarray(alpha))

    def bounds(radius: float) -> tuple[float, str, None]:
        value, method, _ = _by_remainder(profile)(radius)
        return alpha * value, method, None

    return Subject(f, problem.w0, bounds, problem.name)


def _shallow(net: Shallow, X: Float[np.ndarray, "n d"], smoothness: Profile | None) -> Subject:
    with jax.enable_x64(True):
        W, signs = (jnp.asarray(part, dtype=float) for part in (net.W, net.signs))
        net = Shallow(W, signs, net.activation, net.scale)
        f = ShallowMap(net, jnp.asarray(X))
    bounds = _by_remainder(smoothness or _shallow_profile(net, X))
    if smoothness is None and negative_slope(net.activation.closed) is not None:
        bounds = _by_sorting(net, X)
    return Subject(f, np.asarray(net.W).ravel(), bounds, "Shallow")


def _shallow_profile(net: Shallow, X: Float[np.ndarray, "n d"]) -> Profile:
    small = len(net.signs) * len(X) ** 2 <= _MOST
    if small:
        return shallow_local(X, net.W, net.signs, net.activation, abs(net.scale))
    return shallow(X, net.signs, net.activation, abs(net.scale))


def _by_sorting(net: Shallow, X: Float[np.ndarray, "n d"]) -> Bounds:
    """The worst case of each input alone; all of them at once are no worse than these together."""

    def bounds(radius: float) -> tuple[float, str, float | None]:
        found = [rectifier_worst_case(net, x, radius) for x in X]
        high = (1.0 + 1e-10) * math.sqrt(sum(one.high**2 for one in found))
        exact = found[0].low if len(found) == 1 and found[0].exact else None
        return high, "worst set of neurons, by sorting", exact

    return bounds


def _adapted(model: Any, X: ArrayLike, smoothness: Profile | None, options: dict[str, Any]) -> Subject:
    with jax.enable_x64(True):
        X = np.asarray(X)
        if np.issubdtype(X.dtype, np.floating):
            X = _finite(X.astype(float))
        adapted: Any = adapt(model, X, dtype="float64", **options)
        w0, rebuild = flatten(adapted)
        f = AllOutputs(rebuild, jnp.asarray(X))
        count = jax.eval_shape(f, w0).size // len(X)
        profile = smoothness or _model_profile(model, X, count, options)
        return Subject(f, np.asarray(w0), _by_remainder(profile), _named(model))


def _named(model: Any) -> str:
    return "network" if isinstance(model, Composed) else type(model).__name__


def _model_profile(model: Any, X: np.ndarray, count: int, options: dict[str, Any]) -> Profile:
    if X.ndim != 2 or not np.issubdtype(X.dtype, np.floating):
        return unknown(f"no bound is known for inputs of shape {X.shape[1:]} and type {X.dtype}")
    output = options.get("output")
    output = output[0] if isinstance(output, tuple | list) and len(output) == 1 else output
    if options.get("batched"):
        return unknown("no bound is known for a model of a batch")
    if output is not None and (isinstance(output, bool) or not isinstance(output, int)):
        return unknown("no bound is known for a selected output")
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=float) if eqx.is_inexact_array(leaf) else leaf, model)
    outputs = range(count) if output is None else [output]
    each = [certified_smoothness(model, X, one) for one in outputs]
    return each[0] if count == 1 else _together(each)


def _together(each: list[Profile]) -> Profile:
    r"""$\sqrt{\sum_k\beta_k^2}$ for several outputs."""

    def at(radius: float) -> Smoothness:
        found = [one(radius) for one in each]
        value = math.sqrt(sum(one.value**2 for one in found))
        return Smoothness(value, all(one.certified for one in found), radius, found[0].method)

    return at


def _by_remainder(profile: Profile) -> Bounds:
    def bounds(radius: float) -> tuple[float, str, None]:
        found = remainder_bound(profile, radius)
        if not found.certified:
            why = found.method if math.isinf(found.value) else f"the constant is only estimated ({found.method})"
            return math.inf, why, None
        return found.value, found.method, None

    return bounds


def _inputs(X: ArrayLike) -> Float[np.ndarray, "n d"]:
    X = _finite(np.asarray(X, dtype=float))
    if X.ndim != 2 or not X.size:
        reject(f"X of shape {X.shape}", "The inputs are (n, d), n >= 1", "Give one input as x[None]")
    return X


def _finite(X: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(X)):
        reject(f"X of shape {X.shape} with NaN or infinity", "The inputs are finite", "Remove those examples")
    return X
