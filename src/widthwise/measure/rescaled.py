r"""An initialisation whose layers keep the size of signals, by one pass over data.

Legend: $z^{(l)}$ (n_l,) the pre-activation of the traced layer l, $V_l = \frac1{n\,n_l}\sum_i\|z^{(l)}(x_i)\|^2$.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from widthwise.numerics import nearest, reject
from widthwise.operators import parameters

from .traced import Trace, TracedLayer, trace


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A model with rescaled weights and biases, and the factors (m,) of its traced layers.

    ``before`` and ``after``: the mean squares of the pre-activations (m,). ``dead``: layers whose signal is zero, which
    no factor can change.
    """

    model: Callable
    names: tuple[str, ...]
    factors: Float[np.ndarray, " m"]
    before: Float[np.ndarray, " m"]
    after: Float[np.ndarray, " m"]
    dead: tuple[str, ...]


def rescaled(
    model: Callable, X: Shaped[Array, "n ..."], target: float | Mapping[str, float] = 1.0, readout: bool = False
) -> Rescaled:
    r"""Multiply the weights and biases of each layer by $\sqrt{t/V_l}$, layer after layer, so that its $V_l$ becomes t.

    $z^{(l)}$ is proportional to the factor and does not depend on later layers, so one pass in the order of execution
    is exact; the last layer is left as it is unless ``readout``, and so are tables in which is looked up. ``target``
    may name layers, and leaves the others alone. A weight that is used several times gets one factor, from the mean of
    its $V_l$ before. The model is one that `adapt` returned. Mishkin & Matas (2016), without the orthogonal start.

    Raises ``ValueError`` for a target that is not positive or for a layer that there is not.

    >>> from widthwise.operators import adapt
    >>> model = adapt(lambda p, x: p["b"] @ jnp.tanh(p["a"] @ x), params={"a": jnp.ones((3, 2)), "b": jnp.ones((1, 3))})
    >>> found = rescaled(model, jnp.array([[3.0, 1.0]]))
    >>> found.factors.tolist(), round(float(found.after[0]), 6)
    ([0.25, 1.0], 1.0)
    """
    X = jnp.asarray(X)
    found = trace(model, X[0])
    targets = _targets(found, target, readout)
    leaves, rebuild = parameters(model)
    leaves, factors = list(leaves), np.ones(len(found.layers))
    before = _squares(found, model, X)
    for at, goal in targets.items():
        layer, now = found.layers[at], _squares(found, rebuild(tuple(leaves)), X)
        size = float(np.mean([now[to] for to, one in enumerate(found.layers) if _same(one, layer)]))
        if size > 0:
            factors[[_same(one, layer) for one in found.layers]] *= (goal / size) ** 0.5
            for place in _mine(found, layer):
                leaves[place] = _times(leaves[place], layer.round, (goal / size) ** 0.5)
    changed = rebuild(tuple(leaves))
    after = _squares(found, changed, X)
    dead = tuple(name for name, size in zip(found.names, after, strict=True) if size == 0)
    return Rescaled(changed, found.names, factors, before, after, dead)


def _targets(found: Trace, target: float | Mapping[str, float], readout: bool) -> dict[int, float]:
    """The layers that are rescaled, each weight once, with their targets."""
    if isinstance(target, Mapping):
        if unknown := [name for name in target if name not in found.names]:
            reject(
                f"a target for {unknown[0]!r}{nearest(unknown[0], found.names)}",
                f"The layers are {', '.join(found.names)}",
                "Name some of them",
            )
        wanted = {found.names.index(name): goal for name, goal in target.items()}
    else:
        last = len(found.layers) - (0 if readout else 1)
        wanted = {at: target for at, layer in enumerate(found.layers[:last]) if layer.kind != "lookup"}
    if bad := [goal for goal in wanted.values() if not (isinstance(goal, int | float) and 0 < goal < np.inf)]:
        reject(f"target={bad[0]!r}", "A target is a positive number, a mean square", "Give target=1.0")
    first = [at for at in sorted(wanted) if not any(_same(found.layers[to], found.layers[at]) for to in range(at))]
    return {at: float(wanted[at]) for at in first}


def _same(one: TracedLayer, other: TracedLayer) -> bool:
    """Whether both use the same weight."""
    return one.weight == other.weight and one.round == other.round


def _mine(found: Trace, layer: TracedLayer) -> list[int]:
    """The places of the weight, and of the bias if no other weight shares it."""
    sharing = {one.weight for one in found.layers if one.bias is not None and one.bias == layer.bias}
    return [layer.weight, *([layer.bias] if layer.bias is not None and sharing == {layer.weight} else [])]


def _times(leaf: Array, round_: int | None, factor: float) -> Array:
    return leaf * factor if round_ is None else leaf.at[round_].multiply(factor)


@eqx.filter_jit
def _measured(found: Trace, model: Callable, X: Array) -> tuple[Array, Array]:
    def one(z: Array) -> tuple[Array, Array]:
        scale = jnp.max(jnp.abs(z))
        return jnp.mean((z / jnp.where(scale > 0, scale, 1.0)) ** 2), scale

    parts, scales = zip(*(one(z) for z in found.inside(model, X).outputs), strict=True)
    return jnp.stack(parts), jnp.stack(scales)


def _squares(found: Trace, model: Callable, X: Array) -> Float[np.ndarray, " m"]:
    """The mean squares of all layers in double precision."""
    parts, scales = (np.asarray(part, dtype=float) for part in jax.block_until_ready(_measured(found, model, X)))
    return parts * scales**2
