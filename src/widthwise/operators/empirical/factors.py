r"""The factors of a model's gradients: of each use of a parameter what its step reads, and what flows back to it.

Legend: n inputs, k outputs of each; a *place* is a set of uses whose gradients have the same entries in the same order.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from ..parameters import parameters
from .uses import Origin, Use

_graph: Any = None  # a JAX without the names it needs: every parameter is direct, which is right and slower
with suppress(ImportError):
    from . import graph

    _graph = graph

_KEPT = 32  # models of which something is remembered
Found = TypeVar("Found")


@dataclass(frozen=True)
class Structure:
    """How a model uses its parameters: the uses, in order, and the parameters of which no use is known.

    ``forward`` counts the operations of one forward pass, ``back`` the bytes that the way back of one input needs.
    """

    uses: tuple[Use, ...]
    direct: tuple[int, ...]
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    outputs: int
    dtype: Any
    forward: float
    back: int = 0

    def pieces(self, leaves: Collection[int]) -> list["Piece"]:
        """Some of the parameters, as far as they have a gradient, with their uses, and biases beside their weights."""
        used: dict[int, list[int]] = {}
        for at, use in enumerate(self.uses):
            used.setdefault(use.origin.leaf, []).append(at)
        shifts = {at: use.shift.leaf for at, use in enumerate(self.uses) if use.shift and use.shift.leaf in leaves}
        found = []
        for leaf, uses in used.items():
            one_place = len({self.uses[at].place for at in uses}) == 1
            beside = [at for at in uses if at in shifts and leaf in leaves and one_place]
            apart = [at for at in uses if at in shifts and at not in beside]
            if leaf in leaves:
                found.append(Piece((leaf, *(shifts[at] for at in beside)), tuple(uses), tuple(beside)))
            found += [Piece((shifts[at],), (at,), (at,), weights=False) for at in apart]
        return [*found, *(Piece((leaf,), (), ()) for leaf in self.direct if leaf in leaves)]


@dataclass(frozen=True)
class Piece:
    """Parameters with the numbers of their uses: weights and the biases of some uses, or biases alone, or one that is
    direct and has none."""

    leaves: tuple[int, ...]
    uses: tuple[int, ...]
    shifts: tuple[int, ...]
    weights: bool = True


class Factors(eqx.Module):
    """Of n inputs: for each use what was kept (n, ...) and what flowed back (k, n, ...), and the gradients (k, n, ...)
    by the direct parameters, in order."""

    kept: list[Array]
    back: list[Array]
    direct: list[Array]


_seen: dict[Any, Structure] = {}


def structure(model: Callable, x: jax.ShapeDtypeStruct, plain: bool = False) -> Structure:
    """How a model uses its parameters on an input like x; ``plain`` takes every parameter as direct."""
    return remembered(_seen, key_of(model, x, plain), lambda: _explored(model, x, plain))


def remembered(seen: dict[Any, Found], key: Any, explore: Callable[[], Found]) -> Found:
    """What is known of a model by its key; explored once, and forgotten after some others."""
    if key in seen:
        return seen[key]
    found = explore()
    if key is not None:
        seen[key] = found
        for old in [*seen][:-_KEPT]:
            del seen[old]
    return found


def key_of(model: Callable, x: jax.ShapeDtypeStruct, plain: bool) -> Any:
    """What models have in common that differ in the values of their arrays only; None where that cannot be told."""
    arrays, static = eqx.partition(model, eqx.is_array)
    leaves, tree = jax.tree.flatten(static)
    shapes = jax.tree.map(lambda one: (one.shape, str(one.dtype)), jax.tree.leaves(arrays))
    key = (tuple(shapes), jax.tree.structure(arrays), tuple(leaves), tree, x.shape, str(x.dtype), plain)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _explored(model: Callable, x: jax.ShapeDtypeStruct, plain: bool) -> Structure:
    leaves, _ = parameters(model)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    direct: set[int] = set(range(len(leaves))) if plain or _graph is None else set()
    while True:
        tape = None if _graph is None or len(direct) == len(leaves) else _graph.Tape()
        out = eqx.filter_eval_shape(_walked, model, x, tuple(sorted(direct)), zeros_of(shapes, direct), tape)
        more = set() if tape is None else tape.direct | _twice(tape.uses)
        if more <= direct:
            uses = () if tape is None else tuple(tape.uses)
            found = Structure(uses, tuple(sorted(direct)), shapes, out.size, out.dtype, _operations(model, x))
            return replace(found, back=_residuals(model, x, found))
        direct |= more


def _twice(uses: Sequence[Use]) -> set[int]:
    """Biases that have another use."""
    leaves = Counter(use.origin.leaf for use in uses)
    leaves.update(use.shift.leaf for use in uses if use.shift)
    return {use.shift.leaf for use in uses if use.shift and leaves[use.shift.leaf] > 1}


def _operations(model: Callable, x: jax.ShapeDtypeStruct) -> float:
    """The operations of one forward pass, as the compiler counts them before it begins."""
    arrays, static = eqx.partition(model, eqx.is_array)
    shapes = jax.eval_shape(lambda: arrays)
    counted = jax.jit(lambda arrays, x: eqx.combine(arrays, static)(x)).lower(shapes, x).cost_analysis() or {}
    return max(1.0, float(counted.get("flops", 0.0)))


def zeros_of(shapes: Sequence[Any], direct: Any) -> list[Any]:
    """What is added to the direct parameters."""
    return [jnp.zeros(shapes[at].shape, shapes[at].dtype) for at in sorted(direct)]


def _walked(model: Callable, x: Array, direct: tuple[int, ...], zeros: Sequence[Array], tape: Any) -> Array:
    """The outputs (k,), with zeros added to the direct parameters; the tape sees the rest."""
    leaves, rebuild = parameters(model)
    moved = dict(zip(direct, zeros, strict=True))
    if tape is None:
        leaves = tuple(leaf + moved[at] if at in moved else leaf for at, leaf in enumerate(leaves))
        return jnp.ravel(rebuild(leaves)(x))
    closed = jax.make_jaxpr(lambda leaves, x: jnp.ravel(rebuild(leaves)(x)))(leaves, x)
    values = [
        _graph.Value(leaf + moved[at], varies=True) if at in moved else _graph.Value(leaf, origin=Origin(at))
        for at, leaf in enumerate(leaves)
    ]
    (out,) = _graph.run(closed, [*values, _graph.Value(x, varies=True)], tape)
    tape.refuse([out])
    return out.array


@eqx.filter_jit
def factors(model: Callable, X: Shaped[Array, "n ..."], found: Structure) -> Factors:
    """The factors of n inputs."""
    return Factors(*jax.vmap(lambda x: _of_one(model, x, found), out_axes=(0, 1, 1))(X))


def _of_one(model: Callable, x: Array, found: Structure) -> tuple[list[Array], list[Array], list[Array]]:
    zeros = zeros_of(found.leaves, found.direct), _unmoved(found)
    _, pullback, kept = jax.vjp(lambda zeros: _outputs(model, x, found, zeros), zeros, has_aux=True)
    ((direct, back),) = jax.vmap(pullback)(jnp.eye(found.outputs, dtype=found.dtype))
    return kept, back, direct


def _unmoved(found: Structure) -> list[Array]:
    """What is added to the output of each use."""
    return [jnp.zeros(use.output.shape, use.output.dtype) for use in found.uses if use.output is not None]


def _outputs(model: Callable, x: Array, found: Structure, zeros: tuple[list[Array], list[Array]]):
    tape = _graph.Tape(iter(zeros[1])) if found.uses else None
    return _walked(model, x, found.direct, zeros[0], tape), [] if tape is None else tape.kept


def pulled(model: Callable, X: Shaped[Array, "n ..."], found: Structure) -> Callable[[Array], Factors]:
    """What gives the factors of n inputs for one output (1, n, ...), from its unit vector (k,)."""
    one = zeros_of(found.leaves, found.direct), _unmoved(found)
    zeros = jax.tree.map(lambda zero: jnp.zeros((len(X), *zero.shape), zero.dtype), one)

    def outputs(zeros):
        return jax.vmap(lambda x, own: _outputs(model, x, found, own))(X, zeros)

    out, pullback, kept = jax.vjp(outputs, zeros, has_aux=True)

    def of(unit: Array) -> Factors:
        ((direct, back),) = pullback(jnp.broadcast_to(unit, out.shape))
        return Factors(kept, [part[None] for part in back], [part[None] for part in direct])

    return of


def _residuals(model: Callable, x: jax.ShapeDtypeStruct, found: Structure) -> int:
    """Bytes that the way back of one input needs, what is kept included."""

    def held(n: int) -> int:
        def through(X):
            zeros = [jnp.zeros((n, *zero.shape), zero.dtype) for zero in _unmoved(found)]

            def outputs(zeros):
                return jax.vmap(lambda x, own: _outputs(model, x, found, (still, own)))(X, zeros)

            _, pullback, kept = jax.vjp(outputs, zeros, has_aux=True)
            return pullback, kept

        still = zeros_of(found.leaves, found.direct)
        shapes = eqx.filter_eval_shape(through, jax.ShapeDtypeStruct((n, *x.shape), x.dtype))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes) if hasattr(leaf, "dtype"))

    return held(2) - held(1)
