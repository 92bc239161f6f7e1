r"""What the weights and the biases of each layer of a fully connected network add to its tangent kernel.

Legend: $G^{(l-1)}$ the covariance that layer l is given ($x\cdot x'/d$ for the first),
$D^{(l)} = E[\sigma'\sigma']$ behind layer l, $P^{(l)} = \prod_{l'=l}^LC_w^{(l'+1)}D^{(l')}$ what arrives at the output.
"""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.measure import flat
from widthwise.networks import AbstractLayer, Apply, Dense, Pair
from widthwise.numerics import Estimate, demand_numbers, reject


@dataclass(frozen=True, eq=False)
class LayerShare:
    """What the weights and the biases of one layer add to the tangent kernel, each (n, n)."""

    weight: Estimate
    bias: Estimate


def ntk_by_parameter(network: AbstractLayer, X: ArrayLike) -> tuple[LayerShare, ...]:
    r"""Split the NTK of a fully connected network: $\Theta = \sum_l(\lambda_b^{(l)}+\lambda_W^{(l)}G^{(l-1)})P^{(l)}$.

    In the NTK parameterisation $\lambda_W = C_w$ and $\lambda_b = C_b$; in the standard one $\lambda_W = n_{l-1}$
    and $\lambda_b = 1$ (0 for a layer without bias); learning rates of a layer multiply them. All shares come from one
    propagation; `widthwise.networks.ntk_by_layer` gives those of whole layers, of any network.

    Args:
        network: dense layers and activations.
        X: inputs (n, d).

    Raises ``ValueError`` for other layers, and in the standard parameterisation for a layer without a size.
    Sources: jacot2018neural, sohldickstein2020infinite.

    >>> from widthwise.networks import MLP
    >>> shares = ntk_by_parameter(MLP(depth=2, activation="relu").network(), [[1.0, 1.0]])
    >>> [round(float(one.weight.value[0, 0]), 12) for one in shares]
    [1.0, 1.0, 1.0]
    """
    demand_numbers("X", X)
    layers, X = flat(network), np.asarray(X, dtype=float)
    if X.ndim != 2 or not np.all(np.isfinite(X)):
        reject(
            f"inputs of shape {X.shape}", "Inputs are finite numbers of shape (n, d)", "Use x[None, :] for one input"
        )
    with jax.enable_x64(True):
        parts, error = _split(layers, jnp.asarray(X))
    scale = sum(float(np.max(np.abs(part))) for pair in parts for part in pair)
    bound = (float(error) + 64 * 2.0**-52) * scale
    return tuple(LayerShare(*(Estimate(np.asarray(part), bound) for part in pair)) for pair in parts)


def _split(layers: tuple[Dense | Apply, ...], X: Float[Array, "n d"]):
    """All shares: what each layer adds, times the slopes of all later layers, gathered from the output backwards."""
    pairs, own, passed = _first(X), [], []
    for layer in layers:
        added, slope, pairs = _layer(layer, pairs)
        own.append(added)
        passed.append(slope)
    arriving, found = jnp.ones_like(pairs.ntk), []
    for added, slope in zip(reversed(own), reversed(passed), strict=True):
        found += [] if added is None else [tuple(arriving * part for part in added)]
        arriving = arriving * slope
    return tuple(reversed(found)), jnp.max(pairs.error)


def _first(X: Float[Array, "n d"]) -> Pair:
    """The pairs of all inputs, with the axes (n, n)."""
    power = jnp.mean(X**2, axis=1)
    unit = X / jnp.sqrt(jnp.where(power == 0, 1.0, power) * X.shape[1])[:, None]

    def one(u, v, xx, yy):
        nothing = jnp.zeros_like(xx)
        empty = (xx == 0) | (yy == 0)
        gap, cogap = (jnp.where(empty, 1.0, 0.5 * jnp.sum((u + sign * v) ** 2)) for sign in (-1.0, 1.0))
        return Pair(xx, yy, gap, cogap, ntk=nothing, error=nothing, size=X.shape[1], gaussian=False)

    rows = jax.vmap(one, in_axes=(None, 0, None, 0))
    return jax.vmap(rows, in_axes=(0, None, 0, None))(unit, unit, power, power)


@eqx.filter_jit
def _layer(layer: Dense | Apply, pairs: Pair):
    """What a layer's weights and biases add, by what it multiplies earlier shares, and the pairs behind it.

    Compiled once for all layers that are alike, which a deep network has many of.
    """

    def one(pair):
        after, slope = _linearly(layer, pair)
        added = _own(layer, pair) if isinstance(layer, Dense) else None
        return added, slope.ntk, replace(after, ntk=jnp.zeros_like(after.ntk))

    return jax.vmap(jax.vmap(one))(pairs)


def _linearly(layer: Dense | Apply, pair: Pair) -> tuple[Pair, Pair]:
    """The pair after the layer, and the derivative of it in the tangent kernel."""
    one = jnp.ones_like(pair.ntk)
    return jax.jvp(lambda ntk: layer.propagate(replace(pair, ntk=ntk)), (pair.ntk,), (one,))


def _own(layer: Dense, pair: Pair) -> tuple[Array, Array]:
    """What the weights and the biases of a layer add, each with the other one frozen."""
    weights, biases = replace(layer, bias_rate=0.0), replace(layer, weight_rate=0.0)
    return weights.propagate(pair).ntk, biases.propagate(pair).ntk
