r"""Estimates of the Jacobian's Lipschitz constant from below: they certify nothing, and no bound may lie under them.

Legend: $D^2f(w)[u,u] \in \mathbb R^n$ is the second derivative along u; $\|D^2f(w)\| =
\sup_{|u|=1}\|D^2f(w)[u,u]\|$ equals the rate at which the Jacobian can change at w.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .lipschitz import Smoothness
from .problem import LazyProblem
from .trajectory import follow


def second_derivative(f: Callable, w: Float[Array, " p"], u: Float[Array, " p"]) -> Float[Array, " n"]:
    r"""$D^2f(w)[u,u]$, by forward mode twice.

    >>> second_derivative(lambda w: w**3, jnp.array([2.0]), jnp.array([1.0])).tolist()
    [12.0]
    """

    def slope(v):
        return jax.jvp(f, (v,), (u,))[1]

    return jax.jvp(slope, (w,), (u,))[1]


def attack(
    f: Callable, w0: ArrayLike, radius: float, key: Array, *, restarts: int = 8, rounds: int = 100
) -> Smoothness:
    r"""Search the ball for the largest $\|D^2f(w)\|$: power iteration in u, ascent in w, from random starts.

    Whatever it finds is a lower bound on every valid Lipschitz constant on that ball. With radius 0
    it estimates $\|D^2f(w_0)\|$.

    >>> found = attack(lambda w: jnp.sin(w), [0.0], 1.0, jr.key(0))
    >>> found.certified, round(found.value, 4)
    (False, 0.8415)
    """
    with jax.enable_x64(True):
        start, size = jnp.asarray(w0, dtype=float), jnp.asarray(radius, dtype=float)
        found = _climb(f, start, size, jr.split(key, restarts), rounds)
    return Smoothness(float(np.max(np.asarray(found))), False, float(radius), "largest second derivative found")


@eqx.filter_jit
def _climb(f: Callable, w0: Array, radius: Array, keys: Array, rounds: int) -> Float[Array, " restarts"]:
    def along(w, u, v):
        return jnp.vdot(v, second_derivative(f, w, u))

    def turn(w, u):
        """One step of the power iteration on the form u -> v D2f[u, u] with the best v."""
        v = _unit(second_derivative(f, w, u))
        return _unit(0.5 * jax.grad(along, argnums=1)(w, u, v)), v

    def one(key):
        first, second, third = jr.split(key, 3)
        u = _unit(jr.normal(first, w0.shape))
        step = _unit(jr.normal(second, w0.shape)) * jr.uniform(third, ())

        def round_(k, state):
            step, u, best = state
            u, v = turn(w0 + radius * step, u)
            uphill = _unit(jax.grad(along)(w0 + radius * step, u, v) * jnp.sign(along(w0 + radius * step, u, v)))
            step = _into_ball(step + uphill / (1.0 + 0.1 * k.astype(float)))
            return step, u, jnp.maximum(best, jnp.linalg.norm(second_derivative(f, w0 + radius * step, u)))

        return jax.lax.fori_loop(0, rounds, round_, (step, u, jnp.zeros(())))[2]

    return jax.lax.map(one, keys)


def _unit(v: Array) -> Array:
    norm = jnp.linalg.norm(v)
    return jnp.where(norm > 0, v / jnp.where(norm > 0, norm, 1.0), v)


def _into_ball(v: Array) -> Array:
    return v / jnp.maximum(jnp.linalg.norm(v), 1.0)


def difference_quotient(f: Callable, w0: ArrayLike, radius: float, key: Array, pairs: int = 16) -> Smoothness:
    r"""The largest $\|J_w-J_v\|/\|w-v\|$ over random pairs in the ball; it works for maps with kinks too.

    >>> round(difference_quotient(lambda w: w**2, [0.0], 1.0, jr.key(0)).value, 6)
    2.0
    """
    with jax.enable_x64(True):
        found = _quotients(f, jnp.asarray(w0, dtype=float), jnp.asarray(radius, dtype=float), jr.split(key, pairs))
    return Smoothness(float(np.max(np.asarray(found))), False, float(radius), f"{pairs} random pairs")


@eqx.filter_jit
def _quotients(f: Callable, w0: Array, radius: Array, keys: Array) -> Float[Array, " pairs"]:
    def point(key):
        direction, length = jr.split(key)
        return w0 + radius * jr.uniform(length, ()) * _unit(jr.normal(direction, w0.shape))

    def one(key):
        w, v = (point(part) for part in jr.split(key))
        change = jax.jacrev(f)(w) - jax.jacrev(f)(v)
        return jnp.linalg.norm(change, 2) / jnp.linalg.norm(w - v)

    return jax.lax.map(one, keys)


def estimate_smoothness(problem: LazyProblem) -> Smoothness:
    r"""Estimate $\beta$ along the training path, $\max_t\|J_t-J_0\|/\|w(t)-w_0\|$.

    This is what stays for networks with kinks. It is no bound, and a certificate from it is none.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> round(estimate_smoothness(extremal(beta=0.3)).value, 9)
    0.3
    """
    seen = follow(problem)
    return Smoothness(seen.smoothness, False, float(seen.distance.max()), "drift along the training path")
