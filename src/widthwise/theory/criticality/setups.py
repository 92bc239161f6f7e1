r"""What the claims about initialisation share: their setups, and finite networks drawn layer by layer.

Legend: $\hat K$ (2, 2) the covariance of the next pre-activations of two inputs given a layer of n neurons. Given it
the next layer is Gaussian, so networks of any width are drawn without weights.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation

from .moments import values_and_slopes
from .solve import Criticality, critical_init

FIELD = "initialisation"
known = functools.cache(critical_init)


@dataclass(frozen=True)
class Deep:
    """Layers of one kind: activation, variances of weights and biases, two inputs of one variance and a correlation."""

    act: Activation
    weight: float
    bias: float = 0.0
    variance: float = 1.0
    correlation: float = 0.3
    depth: int = 10
    width: int = 64
    nets: int = 500

    def but(self, **changes) -> "Deep":
        """The same layers with some things changed."""
        return replace(self, **changes)


def deep(name: str, weight: float, bias: float = 0.0, **rest) -> Deep:
    """Layers with an activation of the catalogue."""
    return Deep(activation(name), weight, bias, **rest)


def at_critical(name: str) -> Criticality:
    """The critical initialisation of an activation, found once."""
    return known(name)


def generator(key: Array) -> np.random.Generator:
    """NumPy's generator from a key of JAX: nothing is compiled for a new shape."""
    return np.random.default_rng(np.asarray(jr.key_data(key)))


def layers(case: Deep, key: Array, weights: tuple[float, ...] | None = None) -> Iterator[Float[np.ndarray, "nets 3"]]:
    r"""$\hat K_{11}, \hat K_{22}, \hat K_{12}$ of many networks, layer by layer; the first are those of the setup.

    ``weights`` gives every layer a weight variance of its own.
    """
    rng, q = generator(key), case.variance
    K = np.broadcast_to([q, q, q * case.correlation], (case.nets, 3))
    yield K
    for weight in weights or (case.weight,) * (case.depth - 1):
        u, v = _pair(K, rng.standard_normal((2, case.nets, case.width)))
        a, b = (values_and_slopes(case.act, part)[0] for part in (u, v))
        K = case.bias + weight * np.stack([np.mean(a * a, 1), np.mean(b * b, 1), np.mean(a * b, 1)], axis=1)
        yield K


def _pair(K: Float[np.ndarray, "nets 3"], fresh: Float[np.ndarray, "2 nets n"]) -> tuple[np.ndarray, np.ndarray]:
    first = np.sqrt(K[:, :1])
    across = K[:, 2:] / first
    rest = np.sqrt(np.maximum(K[:, 1:2] - across**2, 0.0))
    return first * fresh[0], across * fresh[0] + rest * fresh[1]


def mean_covariances(case: Deep, key: Array, weights: tuple[float, ...] | None = None) -> Float[np.ndarray, "depth 3"]:
    """The covariances of every layer, averaged over networks."""
    return np.stack([np.mean(K, axis=0) for K in layers(case, key, weights)])


def to_infinity(case: Deep, key: Array, weights: tuple[float, ...] | None = None) -> Float[np.ndarray, "depth 3"]:
    r"""$2a_{2n} - a_n$: what is of order 1/n is removed from the mean covariances."""
    narrow, wide = jr.split(key)
    twice = mean_covariances(case.but(width=2 * case.width), wide, weights)
    return 2.0 * twice - mean_covariances(case, narrow, weights)
