"""Problems on which the certificates are checked: sharp ones, random ones, a network."""

import functools
import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from widthwise.activations import activation

from .lipschitz import quadratic
from .maps import QuadraticMap
from .problem import LazyProblem, shallow_problem
from .shallow import Shallow

# All quadratic maps have the same shape, so that one compilation serves them all.
_N, _P = 3, 7


def quadratic_problem(
    J0: np.ndarray, B: np.ndarray, y: np.ndarray, alpha: float = 1.0, name: str = "quadratic map"
) -> LazyProblem:
    """The problem of a quadratic map from w = 0, with its certified constant."""
    f = QuadraticMap(jnp.asarray(J0), jnp.asarray(B))
    return LazyProblem(f, np.zeros(J0.shape[1]), y, alpha, quadratic(B), name=name)


@functools.cache
def extremal(
    sigma: float = 1.0, beta: float = 1.0, y: float = 0.3, alpha: float = 1.0, others: float = 1.5
) -> LazyProblem:
    r"""$f_1(w) = \sigma w_1-\frac\beta2w_1^2$, on which the ball certificate is an equality.

    Next to it are two linear outputs without error, with singular values ``others`` times $\sigma$.
    """
    B = np.zeros((_N, _P, _P))
    B[0, 0, 0] = -beta
    J0 = sigma * np.diag([1.0, others, others]) @ np.eye(_N, _P)
    return quadratic_problem(J0, B, np.array([y, 0.0, 0.0]), alpha, f"{sigma:g} w - {beta:g}/2 w^2")


@functools.cache
def random_quadratic(seed: int, kappa: float, h: float, worst: bool = False) -> LazyProblem:
    r"""A random quadratic map of condition number ``kappa`` whose targets have the size that makes $h$ what is asked.

    The targets point in a random direction, or with ``worst`` along the slowest one.
    """
    rng = np.random.default_rng(seed)
    U, V = np.linalg.qr(rng.normal(size=(_N, _N)))[0], np.linalg.qr(rng.normal(size=(_P, _N)))[0]
    s = np.geomspace(1.0, 1.0 / kappa, _N)
    B = rng.normal(size=(_N, _P, _P))
    B = 0.5 * (B + B.transpose(0, 2, 1))
    direction = U[:, -1] if worst else rng.normal(size=_N)
    size = h * s[-1] ** 2 / (2 * quadratic(B).value)
    return quadratic_problem((U * s) @ V.T, B, size * direction / np.linalg.norm(direction), name=f"random map {seed}")


@functools.cache
def aligned_quadratic(seed: int, kappa: float) -> LazyProblem:
    """A random quadratic map of condition number ``kappa`` whose targets lie mostly along the fast directions."""
    rng = np.random.default_rng(seed)
    base = random_quadratic(seed, kappa, 1.0)
    direction = base.tangency.U @ (rng.uniform(size=_N) * np.array([1.0, 0.3, 0.02]))
    return replace(base, y=direction, name=f"aligned map {seed}")


@functools.cache
def network(alpha: float = 1.0) -> LazyProblem:
    """A mirrored two-layer tanh network with 40 neurons on 6 inputs of dimension 5, with 4 test inputs."""
    rng = np.random.default_rng(0)
    X, half = rng.normal(size=(10, 5)), rng.normal(size=(20, 5))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    signs = np.repeat([1.0, -1.0], 20)
    net = Shallow(jnp.asarray(np.concatenate([half, half])), jnp.asarray(signs), activation("tanh"), 1 / math.sqrt(40))
    return shallow_problem(net, X[:6], np.array([1.0, -1.0] * 3), alpha, X_test=X[6:])
