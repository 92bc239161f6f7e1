r"""The shallow case study: a two-layer network with fixed signs, of which only the first layer learns.

Legend: n inputs $x_i$ of dimension d (rows of X), $G = XX^\top$, width m,
$f(x) = \gamma\sum_{j=1}^m s_j\,\sigma(w_j^\top x)$ with fixed $s_j$ and the factor $\gamma$ named
``scale`` (1 in the case study, $1/\sqrt m$ in the NTK parameterisation); $\sigma$ the activation,
$s_2 = \sup|\sigma''|$; J (n, md) the Jacobian in W, $K = JJ^\top$, $\bar K = G\circ E[\sigma'\sigma']$
over $v \sim N(0, I)$; $G \circ G$ the entrywise square.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.numerics import reject


class Shallow(eqx.Module):
    r"""The network $f(x) = \gamma\sum_j s_j\sigma(w_j^\top x)$; as a function of its W it has p = md parameters.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("identity"))
    >>> net.outputs(jnp.array([[3.0, 1.0]])).tolist()
    [2.0]
    """

    W: Float[Array, "m d"]
    signs: Float[Array, " m"]
    activation: Activation
    scale: float = 1.0

    def outputs(self, X: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The outputs on all inputs."""
        return self.scale * (self.activation(X @ self.W.T) @ self.signs)

    def at(self, parameters: Float[Array, " p"]) -> "Shallow":
        """The same network with other first-layer weights, given as one vector."""
        return Shallow(parameters.reshape(self.W.shape), self.signs, self.activation, self.scale)


def draw_shallow(key: Array, width: int, dim: int, activation: Activation, scale: float = 1.0) -> Shallow:
    r"""Draw W with entries N(0, 1) and independent signs $\pm1$.

    Raises ``ValueError`` for a width or an input dimension below 1.
    """
    if width < 1 or dim < 1:
        reject(
            f"width={width}, dim={dim}", "Both are whole numbers of at least 1", "Give for example width=256, dim=10"
        )
    weights, signs = jr.split(key)
    return Shallow(jr.normal(weights, (width, dim)), jr.rademacher(signs, (width,), float), activation, scale)


def jacobian(net: Shallow, X: Float[Array, "n d"]) -> Float[Array, "n p"]:
    r"""The Jacobian in W, by differentiation: $J_{i,(j,\cdot)} = \gamma s_j\sigma'(w_j^\top x_i)\,x_i^\top$.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("identity"))
    >>> jacobian(net, jnp.array([[3.0, 1.0]])).tolist()
    [[3.0, 1.0, -3.0, -1.0]]
    """
    rows = jax.jacrev(lambda w: net.at(w).outputs(X))(net.W.ravel())
    return jnp.reshape(rows, (X.shape[0], -1))


def slopes(net: Shallow, X: Float[Array, "n d"]) -> Float[Array, "n m"]:
    r"""$\sigma'(w_j^\top x_i)$."""
    return jax.vmap(jax.vmap(jax.grad(net.activation.fn)))(X @ net.W.T)


def tangent_gram(net: Shallow, X: Float[Array, "n d"]) -> Float[Array, "n n"]:
    r"""$K_{ii'} = \gamma^2G_{ii'}\sum_js_j^2\,\sigma'(w_j^\top x_i)\,\sigma'(w_j^\top x_{i'})$ without forming J.

    Source: oymak2020toward, telgarsky2021deep.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("identity"))
    >>> tangent_gram(net, jnp.array([[3.0, 1.0]])).tolist()
    [[20.0]]
    """
    weighted = slopes(net, X) * jnp.broadcast_to(net.signs, (X.shape[0], net.signs.size))
    return net.scale**2 * (X @ X.T) * (weighted @ weighted.T)
