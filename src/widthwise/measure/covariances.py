r"""Fully connected networks of finite width, sampled through their covariances: no weight is ever drawn.

Legend: $z^{(l)}$ (n, m_l) the pre-activations of layer l on n inputs, $\hat K^{(l)}$ (n, n) their covariance given
the layer before. Given $z^{(l)}$, the m_{l+1} columns of $z^{(l+1)}$ are independent and $N(0, \hat K^{(l+1)})$ with
$\hat K^{(l+1)} = C_b + \frac{C_w}{m_l}\sigma(z^{(l)})\sigma(z^{(l)})^\top$: a Markov chain of small matrices, with
exactly the law of the network.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.networks import AbstractLayer, Apply, Chain, Dense
from widthwise.numerics import reject


def layer_covariances(
    network: AbstractLayer, X: Float[Array, "n d"], key: Array, width: int | None = None
) -> tuple[Float[Array, "n n"], ...]:
    r"""Draw $\hat K^{(1)}, \hat K^{(2)}, \dots, \hat K^{(L+1)}$, one for each dense layer of one finite network.

    The last one is the covariance of the outputs given all hidden layers. The cost is $O(n^2 m)$ a layer,
    where a network with weights costs $O(m^2)$.

    Args:
        network: dense layers and activations, in chains; the parameterisation does not matter.
        X: inputs.
        key: of this draw.
        width: the size of hidden layers that leave theirs open.

    Raises ``ValueError`` for a network with other layers, and for a hidden layer without a size.
    Source: hanin2023random.

    >>> from widthwise.networks import MLP
    >>> found = layer_covariances(MLP(width=8, depth=2).network(), jnp.eye(3), jr.key(0))
    >>> [one.shape for one in found], round(float(found[0][0, 0]), 6)
    ([(3, 3), (3, 3), (3, 3)], 0.333333)
    """
    shape = (len(X), sum(hidden_sizes(network, width)))
    return covariances_from(network, X, jr.normal(key, shape, X.dtype), width)


def covariances_from(
    network: AbstractLayer, X: Float[Array, "n d"], normals: Float[Array, "n m"], width: int | None = None
) -> tuple[Float[Array, "n n"], ...]:
    r"""The covariances of ``layer_covariances`` from given standard normals, m the sum of the ``hidden_sizes``.

    Whoever draws many networks draws all of their normals at once.
    """
    sizes = hidden_sizes(network, width)
    fresh, found, z = iter(jnp.split(normals, np.cumsum(sizes), axis=1)), [], X
    for layer in flat(network):
        if isinstance(layer, Apply):
            z = layer.activation(z)
        else:
            found.append(layer.bias_variance + layer.weight_variance * z @ z.T / z.shape[1])
            z = _root(found[-1]) @ next(fresh)
    return tuple(found)


def hidden_sizes(network: AbstractLayer, width: int | None = None) -> list[int]:
    """The sizes of all dense layers but the last.

    >>> from widthwise.networks import MLP
    >>> hidden_sizes(MLP(width=8, depth=2).network())
    [8, 8]
    """
    return [_size(layer, width) for layer in flat(network) if isinstance(layer, Dense)][:-1]


def flat(network: AbstractLayer) -> tuple[Dense | Apply, ...]:
    """List the dense layers and activations of a network in order, nested chains taken apart.

    Raises ``ValueError`` where there are other layers.
    """
    if isinstance(network, Chain):
        return tuple(layer for part in network.layers for layer in flat(part))
    if not isinstance(network, Dense | Apply):
        reject(
            f"a network with {network!r}",
            "Here a network is a chain of Dense and Apply layers",
            "Sample networks with other layers by `sample`",
        )
    return (network,)


def _size(layer: Dense, width: int | None) -> int:
    size = layer.size or width
    if size is None:
        reject("a hidden layer of open size and no width", "A finite network needs every size", "Give width=256")
    return size


def _root(K: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A root of a covariance, which may be singular: equal inputs have equal signals."""
    if len(K) == 1:
        return jnp.sqrt(K)
    values, vectors = jnp.linalg.eigh(K)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]
