r"""Losses with known constants on which the table of rates is tried, all least at 0, where they are 0.

Legend: $\lambda$ strong convexity, $\beta$ smoothness, Q a random rotation.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.theory.lazy.landscapes import log_cosh


def generator(key: Array) -> np.random.Generator:
    """NumPy's generator for a key: what is drawn before a computation need not be compiled with it."""
    return np.random.default_rng(np.asarray(jr.key_data(key)))


class Bowl(eqx.Module):
    r"""$\frac12\sum_is_iz_i^2 + \sum_jc_j\log\cosh(z_j)$, $z = Qw$: between $\lambda$- and $\beta$-convex.

    The first coordinate is quadratic with $\lambda$, the last with $\beta$; those between bend.
    """

    Q: Float[Array, "d d"]
    convexity: float
    smoothness: float

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        z = self.Q @ w
        spread, bent = self.smoothness - self.convexity, z[1:-1]
        quadratic = 0.5 * self.convexity * jnp.vdot(z, z) + 0.5 * spread * z[-1] ** 2
        return quadratic + spread * jnp.sum(log_cosh(bent))


def bowl(rng: np.random.Generator, convexity: float, smoothness: float, dim: int = 4) -> Bowl:
    """Draw a bowl by its rotation."""
    return Bowl(jnp.asarray(np.linalg.qr(rng.normal(size=(dim, dim)))[0]), convexity, smoothness)


class Huber(eqx.Module):
    r"""$h(u\cdot w) + \frac12\|w-(u\cdot w)u\|^2$: $h(x) = \frac\beta2x^2$ up to ``bend``, of constant slope beyond.

    Convex, and smooth with $\beta \ge 1$; with a first axis, many of them to be mapped over.
    """

    direction: Float[Array, "*many d"]
    smoothness: float | Float[Array, "*many"]
    bend: float | Float[Array, "*many"]

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        along = jnp.vdot(self.direction, w)
        far = jnp.maximum(jnp.abs(along) - self.bend, 0.0)
        rest = jnp.sum((w - along * self.direction) ** 2)
        return 0.5 * self.smoothness * ((jnp.abs(along) - far) ** 2 + 2.0 * self.bend * far) + 0.5 * rest


def unit(rng: np.random.Generator, dim: int = 3) -> Float[np.ndarray, " d"]:
    """A random direction."""
    vector = rng.normal(size=dim)
    return vector / np.linalg.norm(vector)


def steps_of(loss, start: Float[Array, " d"], rate: float | Float[Array, ""], count: int) -> dict[str, Array]:
    """Gradient descent with what the table speaks of, for i = 0, ..., count: point, value, squared slope."""

    def advance(point, _):
        value, slope = jax.value_and_grad(loss)(point)
        return point - rate * slope, {"point": point, "value": value, "slope": jnp.vdot(slope, slope)}

    return jax.lax.scan(advance, start, length=count + 1)[1]


def flow_of(loss, start: Float[Array, " d"], time, steps: int = 1000) -> Float[Array, " d"]:
    r"""Where gradient flow is after ``time``, by Runge's and Kutta's method with steps h and h/2, extrapolated.

    Where F is smooth along the way it errs by less than ``FLOW_ERROR`` for $\beta h \le 0.04$, and where F is linear by
    rounding only: much is cheaper to compile than an adaptive method.
    """
    slope = jax.grad(loss)

    @jax.vmap
    def advance(w, h):
        a = -slope(w)
        b = -slope(w + 0.5 * h * a)
        c = -slope(w + 0.5 * h * b)
        d = -slope(w + h * c)
        return w + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)

    # The run of the longer steps waits at its end for the other: both are one computation.
    run = np.stack([np.arange(2 * steps) < steps, np.full(2 * steps, True)], axis=1) / np.array([1.0, 2.0])
    sizes = jnp.asarray(run / steps) * time
    coarse, fine = jax.lax.scan(lambda pair, h: (advance(pair, h), None), jnp.stack([start, start]), sizes)[0]
    return fine + (fine - coarse) / 15.0
