r"""What infinite width predicts of the signals of a model, where the model is a chain of dense layers.

Legend: $q^{(l)}$ the variance, $P^{(l)}$ the squared sensitivity and $1 - \rho^{(l)}$ the gap of two inputs at layer l.
"""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import ACTIVATIONS, Activation
from widthwise.measure import Propagated
from widthwise.networks import AbstractLayer, Apply, Chain, Dense, Pair

from ..signal import propagation

_TOLERANCE = 64  # units in the last place by which an activation may differ from that of the catalogue


@dataclass(frozen=True, eq=False)
class PredictedSignals:
    """Predicted variance, squared sensitivity and gap (None for one input) of each layer (m,), averaged over inputs.

    ``network``: the chain of infinitely wide layers that was followed.
    """

    network: Chain
    variance: Float[np.ndarray, " m"]
    gradient: Float[np.ndarray, " m"]
    gap: Float[np.ndarray, " m"] | None


def predicted_signals(network: Chain, X: Float[np.ndarray, "n d"]) -> PredictedSignals:
    r"""Follow variances, sensitivities and gaps of pairs through an infinitely wide chain.

    >>> from widthwise.networks import MLP
    >>> found = predicted_signals(MLP(depth=1, activation="relu").network(), np.eye(2))
    >>> found.variance.tolist(), found.gap.round(6).tolist()
    ([1.0, 0.5], [1.0, 0.68169])
    """
    X = np.asarray(X, dtype=float).reshape(len(X), -1)
    squares = np.mean(X**2, axis=1)
    found = propagation(network, squares)
    gap = None
    if len(X) > 1:
        left, right = np.triu_indices(len(X), 1)
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        first = 0.5 * np.sum((unit[left] - unit[right]) ** 2, axis=1)
        with jax.enable_x64(True):
            gaps = _gaps(network, jnp.asarray(squares[left]), jnp.asarray(squares[right]), jnp.asarray(first))
        gap = np.asarray(gaps).mean(axis=0)
    return PredictedSignals(network, found.variance.mean(axis=0), found.gradient.mean(axis=0), gap)


@eqx.filter_jit
def _gaps(network: Chain, xx: Array, yy: Array, gap: Array) -> Array:
    def one(xx: Array, yy: Array, gap: Array) -> Array:
        zero, seen = jnp.zeros_like(xx), []
        pair = Pair(xx=xx, yy=yy, gap=gap, cogap=2.0 - gap, ntk=zero, error=zero)
        for layer in network.layers:
            pair = layer.propagate(pair)
            if not isinstance(layer, Apply):
                seen.append(pair.gap)
        return jnp.stack(seen)

    return jax.vmap(one)(xx, yy, gap)


def chain_of(found: Propagated, model: Callable, X: Array) -> Chain | str:
    """The chain of infinitely wide layers that a model is a sample of, or why it is none.

    Each traced layer must act on an activation of the catalogue of the layer before, and the first on the inputs.
    Variances are those of the model's own weights and biases.
    """
    layers = found.trace.layers
    if strange := [one.name for one in layers if one.kind != "product" or one.shared or _places(found, one) != 1]:
        return f"{strange[0]} is no dense layer that is used once"
    inside = eqx.filter_jit(found.trace.inside)(model, X)
    if not _equal(inside.inputs[0], X.reshape(len(X), -1)):
        return f"the first layer, {found.names[0]}, does not act on the inputs themselves"
    chain: list[AbstractLayer] = []
    for at, layer in enumerate(layers):
        if at:
            between = _activation(inside.outputs[at - 1], inside.inputs[at])
            if between is None:
                return f"between {layers[at - 1].name} and {layer.name} stands no activation of the catalogue alone"
            chain.append(Apply(between))
        weight, bias = (float(part[:, at].mean()) for part in (found.weight_variance, found.bias_variance))
        chain.append(Dense(weight, bias, layer.shape[-1]))
    return Chain(tuple(chain))


def _places(found: Propagated, layer) -> int:
    """At how many positions, or in how many rounds, a layer acts on an example."""
    return int(np.prod(layer.shape)) // (layer.shape[-1] if layer.shape else 1)


def _equal(a: Array, b: Array) -> bool:
    left, right = np.asarray(a).reshape(len(a), -1), np.asarray(b).reshape(len(b), -1)
    if left.shape != right.shape:
        return False
    allowed = _TOLERANCE * np.finfo(left.dtype).eps * max(np.max(np.abs(right)), 1e-30)
    return bool(np.max(np.abs(left - right)) <= allowed)


def _activation(z: Array, a: Array) -> Activation | None:
    """The activation that makes a of z, if the catalogue has one."""
    if z.size != a.size:
        return None
    return next((one for one in ACTIVATIONS.values() if _equal(a, one(z.reshape(a.shape)))), None)
