r"""Networks that are trained at large rates, and what is measured of them.

Legend: $\lambda_0$ the largest eigenvalue of the empirical NTK over N at the start, $\eta$ the rate, L the loss
$\frac1{2N}\sum_ir_i^2$, n the width.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.measure import ntk_sharpness
from widthwise.networks import MLP, sample

MONOTONE, CATAPULT, DIVERGENT = 0.0, 1.0, 2.0
_BLOWN = 1e12  # times the first loss


@dataclass(frozen=True)
class Rectifier:
    r"""Networks of one hidden layer of rectifiers on N inputs on a sphere, at rates of given $\eta\lambda_0$."""

    products: tuple[float, ...] = (1.5, 3.0, 5.0)
    width: int = 1024
    inputs: int = 16
    dimension: int = 8
    steps: int = 150


def train_rectifiers(setup: Rectifier, key: Array, per_input: float = 1.0) -> Float[np.ndarray, "rates 2"]:
    r"""Train one network by gradient descent at every rate: how the loss went, and $\eta\lambda$ at the end.

    ``per_input``: what the empirical NTK is divided by, in units of N.
    """
    of_inputs, of_labels, of_net = jr.split(key, 3)
    X = jr.normal(of_inputs, (setup.inputs, setup.dimension))
    X = X * (setup.dimension**0.5 / jnp.linalg.norm(X, axis=1, keepdims=True))
    T = jr.normal(of_labels, (setup.inputs, 1))
    mlp = MLP(width=setup.width, depth=1, activation="relu", weight_variance=2.0, bias_variance=0.0)
    net = sample(mlp.network(), of_net, setup.dimension)
    top = float(ntk_sharpness(net, X).value) / per_input
    rows = []
    for product in setup.products:
        losses, last = _descent(net, X, T, product / top, setup.steps)
        held = ntk_sharpness(last, X).value if np.isfinite(losses[-1]) else np.inf
        rows.append((outcome(np.asarray(losses)), product / top * held))
    return np.array(rows)


def _descent(net, X, T, rate: float, steps: int):
    leaves, structure = jax.tree.flatten(net)

    def loss(leaves):
        return 0.5 * jnp.mean((jax.vmap(jax.tree.unflatten(structure, leaves))(X) - T) ** 2)

    def step(leaves, _):
        value, gradient = jax.value_and_grad(loss)(leaves)
        return [one - rate * two for one, two in zip(leaves, gradient, strict=True)], value

    last, losses = jax.jit(lambda leaves: jax.lax.scan(step, leaves, length=steps))(leaves)
    return losses, jax.tree.unflatten(structure, last)


def outcome(losses: Float[np.ndarray, " t"]) -> float:
    """0 for a loss that never rises, 1 for one that rises and ends below its start, 2 for one that blows up.

    >>> outcome(np.array([1.0, 0.5])), outcome(np.array([1.0, 5.0, 0.1])), outcome(np.array([1.0, np.inf]))
    (0.0, 1.0, 2.0)
    """
    if not np.all(np.isfinite(losses)) or np.max(losses) > _BLOWN * losses[0] or losses[-1] > losses[0]:
        return DIVERGENT
    rise = np.max(losses[1:] - losses[:-1] * (1.0 + 1e-12))
    return CATAPULT if rise > 1e-20 * losses[0] else MONOTONE


def linear_descent(
    u: Float[np.ndarray, "k n"], v: Float[np.ndarray, "k n"], rate: Float[np.ndarray, " k"], steps: int
) -> tuple[Float[np.ndarray, "k t"], Float[np.ndarray, "k t"]]:
    r"""Outputs and kernels $(\|u\|^2 + \|v\|^2)/n$ of k networks $f = n^{-1/2}v^\top u$ by gradient descent on $f^2/2$.

    >>> f, kernel = linear_descent(np.ones((1, 4)), np.ones((1, 4)), np.array([0.5]), 2)
    >>> f[0, 0], kernel[0, 0]
    (np.float64(2.0), np.float64(2.0))
    """
    root, outputs, kernels = u.shape[1] ** 0.5, [], []
    for _ in range(steps):
        f = np.sum(u * v, axis=1) / root
        outputs.append(f)
        kernels.append((np.sum(u**2, axis=1) + np.sum(v**2, axis=1)) / u.shape[1])
        # What has blown up stays where it is.
        push = np.where(np.abs(f) < 1e20, rate * f, 0.0)[:, None] / root
        u, v = u - push * v, v - push * u
    return np.stack(outputs, axis=1), np.stack(kernels, axis=1)
