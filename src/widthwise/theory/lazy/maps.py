"""Maps from parameters to training outputs, as PyTrees: what a lazy problem is made of."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .shallow import Shallow


class QuadraticMap(eqx.Module):
    r"""$f(w)_i = (J_0 w)_i + \tfrac12 w^\top B_i w$: its Jacobian $J_w = J_0 + Bw$ is exactly linear.

    >>> QuadraticMap(jnp.ones((1, 1)), -jnp.ones((1, 1, 1)))(jnp.array([1.0])).tolist()
    [0.5]
    """

    J0: Float[Array, "n p"]
    B: Float[Array, "n p p"]

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return self.J0 @ w + 0.5 * jnp.einsum("ipq,p,q->i", self.B, w, w)


class ShallowMap(eqx.Module):
    r"""The outputs of a two-layer network on inputs ``X`` (n, d), as a function of its first layer, flattened.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.ones((4, 2)), jnp.ones(4), activation("identity"), scale=0.5)
    >>> ShallowMap(net, jnp.eye(2))(jnp.ones(8)).tolist()
    [2.0, 2.0]
    """

    net: Shallow
    X: Float[Array, "n d"]

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return self.net.at(w).outputs(self.X)


class ModelMap(eqx.Module):
    """One output of a model on a batch, as a function of the model's parameter vector."""

    rebuild: Callable = eqx.field(static=True)
    X: Float[Array, "n d"]
    output: int = eqx.field(static=True, default=0)

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        outputs = jax.vmap(self.rebuild(w))(self.X)
        return outputs.reshape(outputs.shape[0], -1)[:, self.output]


class Centred(eqx.Module):
    r"""$f(w) - f(w_0)$: the same Jacobian, and outputs that start at zero."""

    f: Callable
    start: Float[Array, " n"]

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return self.f(w) - self.start


class Mirrored(eqx.Module):
    r"""$(f(w) - f(w'))/\sqrt2$ of two copies: zero where they are equal, with the tangent kernel of $f$ there.

    >>> f = Mirrored(jnp.sin)
    >>> f(jnp.array([0.3, 0.3])).tolist()
    [0.0]
    """

    f: Callable

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        first, second = jnp.split(w, 2)
        return (self.f(first) - self.f(second)) / math.sqrt(2.0)


class Scaled(eqx.Module):
    r"""$\alpha f$."""

    f: Callable
    alpha: Float[Array, ""]

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return self.alpha * self.f(w)
