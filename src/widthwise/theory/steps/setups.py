r"""Quadratic losses and runs on which the claims about learning rates are tried.

Legend: $\lambda$ eigenvalues of the Hessian, Q a rotation, $\eta$ the rate, $\beta$ the momentum, $\omega$ the decay.
"""

from collections.abc import Callable, Hashable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import UpdateRule
from widthwise.theory.lazy.landscapes import random_rotation

FIELD = "learning-rates"
_HALVINGS = 40
THRESHOLD_ERROR = 1e-6  # of a threshold, relative: `largest_stable` tells growth of a factor 1 + 1e-7 per step


class Quadratic(eqx.Module):
    r"""$L(w) = \frac12w^\top QSQ^\top w$ with the spectrum S (d,), turned by a random Q."""

    spectrum: Float[Array, " d"]

    def turned(self, key: Array) -> Float[Array, "d d"]:
        """The Hessian for a random rotation."""
        Q = random_rotation(key, len(self.spectrum))
        return (Q * self.spectrum[None]) @ Q.T


def steady_factor(step: Callable[[Array], Array], start: Array, steps: int = 600) -> Float[Array, ""]:
    """The factor per step by which a linear map changes a vector in the long run, each step scaled back to norm 1."""

    def body(state, _):
        new = step(state)
        size = jnp.linalg.norm(new)
        return new / size, jnp.log(size)

    _, logs = jax.lax.scan(body, start / jnp.linalg.norm(start), length=2 * steps)
    return jnp.exp(jnp.mean(logs[steps:]))


def rule_step(rule: UpdateRule, rate: Array, hessian: Float[Array, "d d"]) -> Callable[[Array], Array]:
    """One step of an optimiser on (w, m), stacked, as its code makes it."""

    def step(state):
        w, m = state
        slope = hessian @ w + (0.0 if rule.decoupled else rule.weight_decay) * w
        gain = 1.0 - rule.momentum if rule.averaged else 1.0
        m = rule.momentum * m + gain * slope
        update = gain * slope + rule.momentum * m if rule.nesterov else m
        decay = rule.weight_decay if rule.decoupled else 0.0
        return jnp.stack([w - rate * (update + decay * w), m])

    return step


@partial(jax.jit, static_argnums=(0, 1))
def largest_stable(step: Callable, kind: Hashable, start: Array, most: Array, *args: Array) -> Float[Array, ""]:
    """The rate at which runs begin to grow, by halving [0, most]; ``step(kind, rate, *args)`` makes the step."""

    def halve(_, interval):
        low, high = interval
        middle = 0.5 * (low + high)
        grows = steady_factor(step(kind, middle, *args), start) > 1.0
        return jnp.where(grows, low, middle), jnp.where(grows, middle, high)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(most), most))
    return 0.5 * (low + high)


def start_of(key: Array, size: int) -> Float[Array, "2 d"]:
    """A random w, and no momentum yet."""
    return jnp.stack([jr.normal(key, (size,)), jnp.zeros(size)])
