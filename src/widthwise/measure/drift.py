r"""One look at a model in training: its empirical NTK on a few inputs, and how far weights and features have moved.

Legend: $\Theta_t$ (n, n) the empirical NTK of the model after t steps on n probe inputs, averaged over outputs;
$W$ the parameters of a layer, $h$ (n, ...) features; norms are Frobenius norms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.networks import Composed
from widthwise.numerics import demand_classes, reject
from widthwise.operators import Frozen, empirical_kernel, parameters

from .dynamics import risk
from .signal import layers, pieces

LossFunction = Callable[[Array, Any], Array]
# How the features of one input are read off a model: from its parameters and the input, or outputs by their names.
Features = Callable[[Any, Array], Any] | str | int | Sequence[str | int | tuple[str | int, ...]]


@dataclass(frozen=True, eq=False)
class Start:
    """What later moments are compared with: the kernel, all parameters and the features, on the probe."""

    kernel: Float[np.ndarray, "n n"]
    weights: tuple[Array, ...]
    features: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Instrument:
    """A look, compiled once: the layers as places of parameters, and the features with the shapes of their arrays."""

    look: Callable
    layers: dict[str, list[int]]
    features: dict[str, jax.ShapeDtypeStruct]

    def __call__(self, model: Callable, start: Start) -> dict[str, Any]:
        """Kernel, features, loss, and the change of every layer's weights and of the features since the start."""
        return self.look(eqx.filter(model, eqx.is_array), start.weights, start.features)

    def start(self, model: Callable) -> Start:
        """What this model is, in arrays of its own: training may overwrite those of the model."""
        weights = tuple(jnp.array(leaf, copy=True) for leaf in parameters(model)[0])
        nothing = tuple(jnp.zeros(one.shape, one.dtype) for one in self.features.values())
        seen = self.look(eqx.filter(model, eqx.is_array), weights, nothing)
        return Start(np.asarray(seen["kernel"], dtype=float), weights, tuple(seen["features"]))


def instrument(
    model: Callable, X: Array, Y: Array | None, loss: LossFunction | None = None, features: Features | None = None
) -> Instrument:
    """The instrument for a model that `adapt` returned, and for all that differ from it in their arrays only."""
    places, read = layers_of(model), _reader(model, features)
    static = eqx.filter(model, eqx.is_array, inverse=True)
    shapes = jax.eval_shape(lambda: jax.vmap(lambda x: read(model, x))(X))

    def look(arrays: Any, weights: tuple[Array, ...], before: tuple[Array, ...]) -> dict[str, Any]:
        moved = eqx.combine(arrays, static)
        seen = [*jax.vmap(lambda x: read(moved, x))(X).values()]
        squares = [(jnp.sum((a - b) ** 2), jnp.sum(b**2)) for a, b in zip(parameters(moved)[0], weights, strict=True)]
        found = {
            "kernel": empirical_kernel(moved, X, outputs="trace"),
            "features": seen,
            "weight_change": jnp.stack([_change([squares[at] for at in group]) for group in places.values()]),
            "feature_change": jnp.stack(
                [_change([(jnp.sum((a - b) ** 2), jnp.sum(b**2))]) for a, b in zip(seen, before, strict=True)]
            ),
        }
        return found if loss is None else found | {"loss": loss(jax.vmap(moved)(X), Y)}

    return Instrument(jax.jit(look), places, shapes)


def _change(squares: list[tuple[Array, Array]]) -> Array:
    """The root of the change over the size, both sums of squares; nan where there was nothing at the start."""
    change, size = (sum(part, jnp.zeros((), squares[0][0].dtype)) for part in zip(*squares, strict=True))
    return jnp.sqrt(jnp.where(size > 0, change / jnp.where(size > 0, size, 1.0), jnp.nan))


def layers_of(model: Callable) -> dict[str, list[int]]:
    """Places in `parameters` by layer: the name of a parameter without its last part, or all of it if it has only one.

    >>> from widthwise.operators import adapt
    >>> layers_of(adapt(lambda p, x: x, params={"first": {"w": jnp.ones(2), "b": jnp.ones(2)}, "out": jnp.ones(2)}))
    {'first': [0, 1], 'out': [2]}
    """
    trained = eqx.filter(getattr(model, "parameters", model), eqx.is_inexact_array, is_leaf=_is_frozen)
    found: dict[str, list[int]] = {}
    for place, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(trained)):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        found.setdefault(name.rpartition(".")[0] or name or "parameters", []).append(place)
    return found


def _is_frozen(node: Any) -> bool:
    return isinstance(node, Frozen)


def _reader(model: Any, features: Features | None) -> Callable[[Any, Array], dict[str, Array]]:
    """How to read the features of one input off the model."""
    if callable(features):
        return lambda moved, x: _named(features(moved.parameters, moved.prepared(x)))
    if features is not None:
        chosen = features if isinstance(features, list | tuple) else [features]
        paths = {".".join(map(str, one)) if isinstance(one, tuple) else str(one): one for one in chosen}
        return lambda moved, x: {name: replace(moved, output=path)(x) for name, path in paths.items()}
    if isinstance(model.parameters, Composed) and len(layers(model.parameters)) > 1:
        return lambda moved, x: _hidden(moved.parameters, moved.prepared(x))
    return lambda moved, x: {"outputs": moved(x)}


def _named(found: Any) -> dict[str, Array]:
    return {str(name): one for name, one in found.items()} if isinstance(found, dict) else {"features": found}


def _hidden(network: Composed, x: Array) -> dict[str, Array]:
    """What goes into each layer with parameters, the first one left out."""
    inputs = []
    for piece in pieces(network):
        if any(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(piece)):
            inputs.append(x)
        x = piece(x)
    return {f"hidden {place}": one for place, one in enumerate(inputs[1:], start=1)}


def loss_of(labels: np.ndarray | None, outputs: int, loss: LossFunction | None) -> LossFunction | None:
    """The loss that goes with the labels: of classes the cross-entropy, of targets half the mean square."""
    if labels is None or loss is not None:
        return loss if labels is not None else None
    if np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1:
        demand_classes(labels, outputs)
        return cross_entropy
    if labels.reshape(len(labels), -1).shape[1] != outputs or not np.issubdtype(labels.dtype, np.floating):
        reject(
            f"labels of shape {labels.shape} and type {labels.dtype} for a model with {outputs} outputs",
            "Labels are classes (n,) as integers, or targets (n, k) as real numbers, one for each output",
            "Give y.astype(int) for classes, such targets, or a loss(outputs, labels) of your own",
        )
    return half_mean_square


def cross_entropy(outputs: Float[Array, "n k"], classes: Array) -> Array:
    r"""$\frac1n\sum_i\left(\log\sum_je^{f_j(x_i)} - f_{y_i}(x_i)\right)$.

    >>> round(float(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))), 6)
    1.386294
    """
    taken = jnp.take_along_axis(outputs, classes[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(outputs, axis=1) - taken)


def half_mean_square(outputs: Float[Array, "n k"], targets: Array) -> Array:
    r"""$\frac1{2n}\sum_i\|f(x_i) - y_i\|^2$.

    >>> float(half_mean_square(jnp.zeros((2, 1)), jnp.array([1.0, 3.0])))
    2.5
    """
    return risk(outputs, jnp.reshape(targets, outputs.shape).astype(outputs.dtype))


def columns(labels: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Labels as targets: classes as indicators of the classes that occur, targets as they are.

    >>> columns(np.array([0, 2, 0])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    if np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1:
        return (labels[:, None] == np.unique(labels)).astype(float)
    return labels.reshape(len(labels), -1).astype(float)


def similarity(K: Float[np.ndarray, "n n"], start: Float[np.ndarray, "n n"]) -> tuple[float, float]:
    r"""The distance $\|K - K_0\|/\|K_0\|$ and the cosine $\langle K, K_0\rangle/\|K\|\|K_0\|$, not centred.

    >>> similarity(2.0 * np.diag([3.0, 4.0]), np.diag([3.0, 4.0]))
    (1.0, 1.0)
    """
    norm, first = np.linalg.norm(K), np.linalg.norm(start)
    if first == 0:
        return float("nan"), float("nan")
    cosine = float(np.sum(K / norm * (start / first))) if norm > 0 else float("nan")
    return float(np.linalg.norm(K - start) / first), min(1.0, cosine)


def ranks(K: Float[np.ndarray, "n n"]) -> tuple[float, float, float]:
    r"""The largest eigenvalue, the participation ratio $(\sum_i\lambda_i)^2/\sum_i\lambda_i^2$, and $e^S$.

    $S = -\sum_ip_i\log p_i$ is the entropy of $p_i = \lambda_i/\sum_j\lambda_j$; both ranks lie between 1 and n.

    >>> [round(one, 6) for one in ranks(np.eye(3))]
    [1.0, 3.0, 3.0]
    """
    if not np.all(np.isfinite(K)) or not np.any(K):
        return float("nan"), float("nan"), float("nan")
    values = np.maximum(np.linalg.eigvalsh(0.5 * (K + K.T)), 0.0)
    share = values[values > 0] / values.sum()
    return float(values[-1]), float(1.0 / np.sum(share**2)), float(np.exp(-np.sum(share * np.log(share))))
