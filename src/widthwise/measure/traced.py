r"""What goes on inside of any model: inputs, pre-activations and sensitivities of every step that uses a parameter.

Legend: a *traced layer* is a step of the model that multiplies what it reads, $a$, with a weight (a product, a
convolution, a look-up of rows) and adds its bias if it has one: $z = Wa + b$, the pre-activation; $f$ (k,) are the
model's outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from widthwise.numerics import reject
from widthwise.operators import Frozen, Steps, intermediates, steps


@dataclass(frozen=True)
class TracedLayer:
    """A step that uses a weight: its name, "product", "convolution" or "lookup", and the places of its parameters.

    ``weight`` and ``bias`` are places in `parameters`. ``use`` and ``round``: where the step stands in the order of
    execution, and in which round of a loop over stacked weights. ``shape``: of z for one example; in a loop that uses
    the same weight in each round the first axis counts rounds. ``shared``: the weight has other uses. ``scales``: the
    known numbers by which the stored weight and bias are multiplied.
    """

    name: str
    kind: str
    weight: int
    bias: int | None
    use: int
    round: int | None
    shape: tuple[int, ...]
    shared: bool
    scales: tuple[float, float] = (1.0, 1.0)


class Inside(eqx.Module):
    """For each traced layer, in the order of execution, what it reads and makes of n inputs: (n, ...) each."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """The traced layers of a model, in the order of execution, and how to read them off.

    ``skipped``: parameters without such a step, which act in other ways (the scale of a normalisation, a number).
    All methods can be compiled, and differentiated, as functions of the model's arrays.
    """

    layers: tuple[TracedLayer, ...]
    skipped: tuple[str, ...]
    found: Steps

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.found is other.found and self.names == other.names

    def __hash__(self) -> int:
        return hash((id(self.found), self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers, by the paths of their weights."""
        return tuple(layer.name for layer in self.layers)

    @property
    def outputs(self) -> int:
        """The number k of outputs."""
        return self.found.outputs

    def inside(self, model: Callable, X: Shaped[Array, "n ..."]) -> Inside:
        """Read the layers' inputs and outputs for n inputs."""
        return jax.vmap(lambda x: self.run(model, x, self.zeros())[1])(X)

    def run(self, model: Callable, x: Array, shifts: Sequence[Array]) -> tuple[Array, Inside]:
        """The outputs (k,) for one input, with shifts as `zeros` added to the pre-activations, and the inside."""
        out, read, made = intermediates(model, x, self.found, shifts)
        return out, Inside(*(tuple(self._of(part, layer) for layer in self.layers) for part in (read, made)))

    def sensitivities(
        self, model: Callable, X: Shaped[Array, "n ..."], weights: Shaped[Array, "p k"] | None = None
    ) -> tuple[Array, ...]:
        r"""$\partial f/\partial z$ of each layer, (n, k, ...), or sums of it over outputs with p sets of weights."""
        rows = jnp.eye(self.outputs, dtype=self.found.dtype) if weights is None else weights

        def one(x: Array) -> tuple[Array, ...]:
            _, pull = jax.vjp(lambda shifts: self.run(model, x, shifts)[0], self.zeros())
            return self.by_layer(jax.vmap(lambda row: pull(row)[0])(rows), first=1)

        return jax.vmap(one)(X)

    def zeros(self) -> list[Array]:
        """No shifts: an array for each use, of a loop all rounds together."""
        return self.found.zeros()

    def by_layer(self, uses: Sequence[Array], first: int = 0) -> tuple[Array, ...]:
        """Arrays like `zeros`, after so many more axes, apart by layer."""
        return tuple(self._of(uses, layer, first) for layer in self.layers)

    @staticmethod
    def _of(uses: Sequence[Array], layer: TracedLayer, first: int = 0) -> Array:
        array = uses[layer.use]
        return array if layer.round is None else jnp.take(array, layer.round, axis=first)


def trace(model: Callable, x: Array) -> Trace:
    """Find the traced layers of a model that `adapt` returned, by one input.

    Raises ``ValueError`` for a model in which no weight is used in a step of a known kind.

    >>> from widthwise.operators import adapt
    >>> p = {"in": jnp.ones((3, 2)), "out": jnp.ones((1, 3)), "scale": jnp.ones(())}
    >>> model = adapt(lambda p, x: p["scale"] * (p["out"] @ jnp.tanh(p["in"] @ x)), params=p)
    >>> found = trace(model, jnp.ones(2))
    >>> found.names, found.skipped
    (('in', 'out'), ('scale',))
    >>> found.inside(model, jnp.ones((5, 2))).outputs[0].shape, found.sensitivities(model, jnp.ones((5, 2)))[0].shape
    ((5, 3), (5, 1, 3))
    """
    found, names = steps(model, jax.ShapeDtypeStruct(x.shape, x.dtype)), parameter_names(model)
    if not found.uses:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        reject(
            f"a model with the parameters {listed}, none of which is used in a known step",
            "Signals are read off products with a matrix, convolutions and look-ups in a table",
            "Write the layers with @, jnp.dot, einsum or lax.conv_general_dilated, the weight as it is stored",
        )
    layers = _numbered(_layers(found, names))
    seen = {place for layer in layers for place in (layer.weight, layer.bias)}
    return Trace(layers, tuple(name for place, name in enumerate(names) if place not in seen), found)


def parameter_names(model: Callable) -> tuple[str, ...]:
    """The path of each array in `parameters`, joined by dots.

    >>> from widthwise.operators import adapt
    >>> parameter_names(adapt(lambda p, x: x, params={"first": {"w": jnp.ones(2), "b": jnp.ones(2)}}))
    ('first.b', 'first.w')
    """
    trained = eqx.filter(getattr(model, "parameters", model), eqx.is_inexact_array, is_leaf=_is_frozen)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(trained)]
    return tuple(_dotted(path) for path in paths)


def _dotted(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".").strip(".")
    for ending in (".value", ".raw_value"):
        name = name.removesuffix(ending)
    return name or "parameters"


def _is_frozen(node: Any) -> bool:
    return isinstance(node, Frozen)


def _layers(found: Steps, names: Sequence[str]) -> list[TracedLayer]:
    """The uses in order, those of one loop over stacked weights round by round."""
    ordered, at = [], 0
    weights = [use.origin.leaf for use in found.uses]
    while at < len(found.uses):
        group = _together(found, at)
        rounds = found.uses[at].rounds[0] if found.uses[at].origin.stacked is not None else None
        ordered += [(use, one) for one in (range(rounds) if rounds is not None else [None]) for use in group]
        at = group[-1] + 1
    return [_layer(found, names, use, one, weights.count(weights[use]) > 1) for use, one in ordered]


def _together(found: Steps, at: int) -> list[int]:
    """The uses from this one on that run in the same loop over stacked weights."""
    first, group = found.uses[at], [at]
    if first.origin.stacked is None:
        return group
    for use in found.uses[at + 1 :]:
        if use.origin.stacked is None or use.rounds[0] != first.rounds[0]:
            break
        group.append(group[-1] + 1)
    return group


def _layer(found: Steps, names: Sequence[str], at: int, round_: int | None, shared: bool) -> TracedLayer:
    use = found.uses[at]
    shape = () if use.output is None else use.output.shape
    bias, factor = found.biases.get(at, (None, 1.0))
    return TracedLayer(
        name=names[use.origin.leaf] + ("" if round_ is None else f"[{round_}]"),
        kind=type(use.kind).__name__.lower(),
        weight=use.origin.leaf,
        bias=bias,
        use=at,
        round=round_,
        shape=shape if round_ is None else shape[1:],
        shared=shared,
        scales=(use.origin.scale * found.scales.get(at, 1.0), factor),
    )


def _numbered(layers: list[TracedLayer]) -> tuple[TracedLayer, ...]:
    """Names that say the how-manieth use of a weight it is, where there are several."""
    counts: dict[str, int] = {}
    found = []
    for layer in layers:
        counts[layer.name] = counts.get(layer.name, 0) + 1
        named = layer.name if counts[layer.name] == 1 else f"{layer.name} ({counts[layer.name]})"
        found.append(replace(layer, name=named))
    return tuple(found)
