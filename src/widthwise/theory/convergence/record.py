r"""A recorded training reduced to the few numbers of each point from which all constants follow.

Legend: $w_i$ the recorded points, $g_i = \nabla F(w_i)$, z a reference point, $g_z = \nabla F(z)$, $\eta$ the rate of
gradient descent. Differences are taken of parameters and gradients themselves, never of their norms.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import reject

# Rounding of a sum of many terms, as for every float64 computation of this library.
ULPS = 64.0


@dataclass(frozen=True)
class Record:
    r"""What is kept of k points; the arrays of ``steps`` have k - 1 entries, for the steps $w_{i+1} - w_i$.

    ``at_points``: ``value`` $F(w_i)$, ``slope`` $\|g_i\|^2$, ``away`` $\|w_i-z\|^2$, ``pull``
    $\langle g_i,w_i-z\rangle$, ``bend`` $\|g_i-g_z\|^2$, ``back`` $\langle g_z,w_i-z\rangle$, ``tilt``
    $\|w_i-z-\eta(g_i-g_z)\|^2$; ``steps``: the same of $w_{i+1}$ with $w_i$ for z, and ``off``
    $\|w_{i+1}-w_i+\eta g_i\|^2$. ``reference`` holds value and squared slope at z, ``size`` is the largest
    $\|w_i\|$, ``displacement`` from the first point to the last; ``unit`` the rounding of a value, ``kept_unit``
    that of the points as they came.
    """

    at_points: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
    reference: dict[str, float]
    size: float
    displacement: float
    unit: float
    kept_unit: float

    def __len__(self) -> int:
        return self.at_points["value"].size

    @property
    def value_error(self) -> Float[np.ndarray, " k"]:
        """The rounding of a difference of values."""
        values = np.abs(self.at_points["value"])
        return ULPS * self.unit * (values + abs(self.reference["value"]))

    @property
    def slope_error(self) -> float:
        """The rounding of a gradient, by the largest of them."""
        return ULPS * self.unit * float(np.sqrt(np.max(self.at_points["slope"])))


def recorded(
    loss: Callable, points: Any, reference: Any = None, rate: float | None = None
) -> tuple[Record, int | None]:
    """Evaluate the loss and its gradient at every point, in float64; without a reference it is the lowest.

    Returns the record and which point is the reference. Raises ``ValueError`` for points that do not fit together,
    a loss that is no number, and values that are not finite.
    """
    leaves, structure, static, kept_unit = _stacked(points)
    of_leaves = _OfLeaves(loss, structure, static)
    with jax.enable_x64(True):
        leaves = tuple(jnp.asarray(leaf, dtype=float) for leaf in leaves)
        chosen = None
        if reference is None:
            chosen = _lowest(_finite(np.asarray(_values(of_leaves, leaves)), "the loss"))
            reference = tuple(leaf[chosen] for leaf in leaves)
        else:
            reference = _like(reference, leaves)
        found = jax.tree.map(np.asarray, _evaluate(of_leaves, leaves, reference, jnp.asarray(rate or 0.0)))
    at_points, steps, at_reference = found
    unit = float(np.finfo(at_points["value"].dtype).eps)
    for name, one in (*at_points.items(), *((name, np.atleast_1d(one)) for name, one in at_reference.items())):
        _finite(one, "the loss" if name == "value" else "the gradient")
    at_reference = {name: float(one) for name, one in at_reference.items()}
    size = float(np.sqrt(np.max(at_points.pop("size"))))
    away = math.sqrt(sum(float(np.sum(np.square(leaf[-1] - leaf[0]))) for leaf in map(np.asarray, leaves)))
    return Record(at_points, steps, at_reference, size, away, unit, kept_unit), chosen


def _lowest(values: np.ndarray) -> int:
    """The last of the points whose values are the lowest up to rounding."""
    rounding = ULPS * float(np.finfo(values.dtype).eps) * np.abs(values)
    return int(np.flatnonzero(values <= np.min(values) + rounding)[-1])


class _OfLeaves(eqx.Module):
    """F as a function of the trainable leaves of a point; compiled once for each loss and kind of point."""

    loss: Callable
    structure: Any = eqx.field(static=True)
    rest: Any

    def __call__(self, leaves: tuple[Array, ...]) -> Array:
        value = jnp.asarray(self.loss(eqx.combine(jax.tree.unflatten(self.structure, list(leaves)), self.rest)))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            reject(
                f"a loss of shape {value.shape} and type {value.dtype}", "A loss is one real number", "Take its mean"
            )
        return value


def _stacked(points: Any) -> tuple[tuple[np.ndarray, ...], Any, Any, float]:
    """The trainable leaves (k, ...) in their own precision, their structure, what is no parameter, the precision."""
    if isinstance(points, Sequence) and not hasattr(points, "shape"):
        numbers = all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(points))
        points = np.asarray(points, dtype=float) if numbers and len(points) else _together(points)
    trainable, static = eqx.partition(points, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(trainable)
    counts = {leaf.shape[:1] for leaf in leaves}
    if len(counts) != 1 or counts == {()} or min(counts)[0] < 2:
        reject(
            f"points with {len(leaves)} arrays of shapes {[leaf.shape for leaf in leaves][:4]}",
            "A trajectory is an array (k, p), a PyTree of arrays (k, ...), or a list of k >= 2 PyTrees of parameters",
            "Record at least two points, with real numbers",
        )
    for leaf in leaves:
        _finite(np.asarray(leaf).reshape(len(leaf), -1).sum(axis=1), "the point")
    unit = max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves)
    return tuple(leaves), structure, static, unit


def _together(points: Sequence) -> Any:
    """One PyTree with leaves (k, ...) of k trees; what is no parameter is taken from the first."""
    first, static = eqx.partition(points[0], eqx.is_inexact_array) if len(points) else (None, None)
    rest = [eqx.filter(one, eqx.is_inexact_array) for one in points]
    shapes = [[leaf.shape for leaf in jax.tree.leaves(one)] for one in rest]
    if any(one != shapes[0] for one in shapes[1:]):
        odd = next(index for index, one in enumerate(shapes) if one != shapes[0])
        reject(
            f"point {odd} with arrays of shapes {shapes[odd][:4]}, where point 0 has {shapes[0][:4]}",
            "All points of a trajectory have the same parameters",
            "Record one model",
        )
    leaves = [
        np.stack([np.asarray(leaf) for leaf in column]) for column in zip(*map(jax.tree.leaves, rest), strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(first), leaves), static)


def _like(reference: Any, leaves: tuple[Array, ...]) -> tuple[Array, ...]:
    """The trainable leaves of a reference point."""
    found = jax.tree.leaves(eqx.filter(jax.tree.map(_as_array, reference), eqx.is_inexact_array))
    shapes, wanted = [leaf.shape for leaf in found], [leaf.shape[1:] for leaf in leaves]
    if shapes != wanted:
        reject(f"a reference with arrays of shapes {shapes[:4]}", f"A point has {wanted[:4]}", "Give one such point")
    return tuple(jnp.asarray(leaf, dtype=float) for leaf in found)


def _as_array(leaf: Any) -> Any:
    return np.asarray(leaf, dtype=float) if isinstance(leaf, float) else leaf


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.all(np.isfinite(values)):
        bad = int(np.argmin(np.isfinite(values)))
        reject(f"{what} is not finite at record {bad}", "Constants need finite numbers", "Cut the record before it")
    return values


@eqx.filter_jit
def _values(of_leaves: Callable, leaves: tuple[Array, ...]) -> Float[Array, " k"]:
    return jax.lax.map(of_leaves, leaves)


@eqx.filter_jit
def _evaluate(of_leaves: Callable, leaves: tuple, reference: tuple, rate: Array) -> tuple[dict, dict, dict]:
    """One pass over the points that carries the point before."""

    at = jax.value_and_grad(of_leaves)

    def compared(point, slope, other, other_slope):
        move, change = _minus(point, other), _minus(slope, other_slope)
        tilt = jax.tree.map(lambda m, c: m - rate * c, move, change)
        return {
            "away": _dot(move, move),
            "pull": _dot(slope, move),
            "bend": _dot(change, change),
            "back": _dot(other_slope, move),
            "tilt": _dot(tilt, tilt),
        }

    reference_value, reference_slope = at(reference)

    def look(before, point):
        old, old_slope = before
        value, slope = at(point)
        off = jax.tree.map(lambda new, was, g: new - was + rate * g, point, old, old_slope)
        step = {**compared(point, slope, old, old_slope), "off": _dot(off, off)}
        seen = {"value": value, "slope": _dot(slope, slope), "size": _dot(point, point)}
        return (point, slope), ({**seen, **compared(point, slope, reference, reference_slope)}, step)

    nothing = jax.tree.map(jnp.zeros_like, reference)
    at_points, steps = jax.lax.scan(look, (nothing, nothing), leaves)[1]
    steps = {name: one[1:] for name, one in steps.items()}
    return at_points, steps, {"value": reference_value, "slope": _dot(reference_slope, reference_slope)}


def _minus(first: tuple, second: tuple) -> tuple:
    return jax.tree.map(lambda a, b: a - b, first, second)


def _dot(first: tuple, second: tuple) -> Array:
    return sum((jnp.vdot(a, b) for a, b in zip(first, second, strict=True)), jnp.zeros(()))
