r"""Risks with known constants and inputs on which the claims are tried.

Legend: $\lambda$ strong convexity, $B$ (k, d) with k < d, so that some directions are purely quadratic.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float


def log_cosh(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logarithm of cosh(z) without overflow."""
    return jnp.logaddexp(z, -z) - jnp.log(2.0)


class Landscape(eqx.Module):
    r"""$F(w) = \frac\lambda2\|w\|^2 + \sum_i\log\cosh(Bw)_i$: $\lambda$-strongly convex, least at 0, where it is 0.

    It is smooth with constant $\lambda + \|B\|^2$; in the null space of B it is exactly quadratic,
    which makes the bounds of strong convexity sharp there.
    """

    convexity: float
    B: Float[Array, "k d"]

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        return 0.5 * self.convexity * jnp.vdot(w, w) + jnp.sum(log_cosh(self.B @ w))


def slow_landscape(key: Array, convexity: float, dim: int = 4) -> tuple[Landscape, Float[Array, " d"]]:
    """Draw a landscape and a start near its slow direction, where bounds are almost attained."""
    steep, noise = jr.split(key)
    B = jr.normal(steep, (dim // 2, dim))
    slow = jnp.linalg.qr(B.T, mode="complete")[0][:, -1]
    return Landscape(convexity, B), 3.0 * slow + 0.1 * jr.normal(noise, (dim,))


def unit_inputs(count: int, dim: int, seed: int = 0) -> Float[Array, "n d"]:
    """Gaussian directions on the unit sphere."""
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def random_rotation(key: Array, dim: int) -> Float[Array, "d d"]:
    """Draw a random orthogonal matrix."""
    return jnp.linalg.qr(jr.normal(key, (dim, dim)))[0]


def wavy_parabola(x: Float[Array, " 1"]) -> Float[Array, ""]:
    r"""$x^2 + 3\sin^2x$: not convex, yet every stationary point is the minimum 0."""
    return jnp.sum(x**2 + 3.0 * jnp.sin(x) ** 2)


# inf R'^2/R of the wavy parabola, reached at |x| = 2.2017091767.
WAVY_PL = 0.3510619717594634
