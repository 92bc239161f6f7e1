"""What the claims about shallow networks share: their setup and an assumption."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation

from ..lazy import Shallow
from .setups import normals


class Shallows(eqx.Module):
    """A kind of shallow network with the factor one over root m, and the inputs it is looked at on."""

    X: Float[Array, "n d"]
    activation: Activation
    width: int = 50
    nets: int = 100

    def draw(self, key: Array) -> Shallow:
        """One network: Gaussian weights, as many signs +1 as -1."""
        W = normals(key, (self.width, self.X.shape[1]))
        return Shallow(W, signs(self.width), self.activation, 1.0 / math.sqrt(self.width))


def signs(width: int) -> Float[Array, " m"]:
    """As many +1 as -1."""
    return jnp.asarray(np.where(np.arange(width) % 2 == 0, 1.0, -1.0))


def _inputs(spread: float = 0.0) -> Float[Array, "5 3"]:
    """Five unit vectors, or vectors whose norms differ by such powers."""
    X = np.array([[1.0, 0.2, -0.4], [0.3, -1.0, 0.5], [-0.6, 0.7, 0.9], [0.1, 0.4, -1.2], [1.0, 1.0, 0.3]])
    norms = np.linspace(1.0, 2.0, 5) ** spread
    return jnp.asarray(norms[:, None] * X / np.linalg.norm(X, axis=1)[:, None])


def shallows(name: str = "tanh", spread: float = 0.0, **fields) -> Shallows:
    """The default setup: five inputs in three dimensions."""
    return Shallows(_inputs(spread), activation(name), **fields)


def is_rectifier(case: Shallows) -> str | None:
    """The activation is the rectifier."""
    name = case.activation.name
    return None if name == "relu" else f"this is about the rectifier, not about {name}"
