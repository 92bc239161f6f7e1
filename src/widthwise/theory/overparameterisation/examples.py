r"""Networks, data and runs on which the claims of this package are tried.

Legend: as in ``runs``; the networks have a first layer N(0, 1), and a readout that is uniform on [-1, 1] or $\pm1$.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.activations import Activation, activation
from widthwise.theory.lazy import Shallow

from .runs import Run, look, record

# sup|s'| = sup|s''| = 1, and s' falls with slope 1 from 1 on: the worst case of kernel stability.
STEEPEST = Activation(
    "steepest",
    lambda z: jnp.where(z < 0, z, jnp.where(z > 2, 2.0 - z, z - 0.5 * z**2)),
    kinks=(0.0, 2.0),
    slope_bound=1.0,
    curvature_bound=1.0,
)

# It tends to 1 more slowly than tanh.
ALGEBRAIC = Activation("algebraic", lambda z: z / jnp.sqrt(1 + z**2), slope_bound=1.0, curvature_bound=1.0)


def network(W, readout, name: str | Activation, scale: float | None = None) -> Shallow:
    r"""A network of NumPy arrays, by default with $\gamma = 1/\sqrt N$."""
    with jax.enable_x64(True):
        W, readout = np.asarray(W, dtype=float), np.asarray(readout, dtype=float)
        scale = 1 / math.sqrt(len(readout)) if scale is None else scale
        return Shallow(jnp.asarray(W), jnp.asarray(readout), activation(name), scale)


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Directions that are uniform on the sphere."""
    rows = rng.normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def lecture_case(width: int, count: int = 6, dim: int = 6, seed: int = 1) -> tuple[Shallow, np.ndarray, np.ndarray]:
    r"""The reference experiment of LAZY-42: sin, unit inputs, readout uniform on [-1, 1], targets $\pm\frac12$.

    >>> net, X, y = lecture_case(4096)
    >>> round(float(np.linalg.eigvalsh(look(net, X, np.asarray(net.W)).gram)[0]), 10)
    0.0540368515
    """
    rng = np.random.default_rng(seed)
    X = unit_rows(rng, count, dim)
    readout = rng.uniform(-1, 1, size=width)
    W = rng.normal(size=(width, dim))
    return network(W, readout, "sin"), X, np.where(np.arange(count) % 2 == 0, 0.5, -0.5)


def slowest_targets(net: Shallow, X: np.ndarray, size: float) -> np.ndarray:
    """Targets whose residual at the start has this norm and lies along the kernel's slowest eigenvector."""
    with jax.enable_x64(True):
        start = look(net, X, np.asarray(net.W))
    return start.outputs - size * np.linalg.eigh(start.gram)[1][:, 0]


def clock(net: Shallow, X: np.ndarray, units: float = 6.0, moments: int = 25) -> np.ndarray:
    r"""Moments of a run, up to ``units`` times $n/\lambda_0$."""
    with jax.enable_x64(True):
        lambda0 = float(np.linalg.eigvalsh(look(net, X, np.asarray(net.W)).gram)[0])
    return np.linspace(0.0, units * len(X) / lambda0, moments)


@functools.cache
def lecture_run(width: int = 64, size: float | None = None, count: int = 3, seed: int = 1) -> Run:
    r"""A run of the lectures' network, targets $\pm\frac12$, or a residual of a ``size`` along the slow direction."""
    net, X, y = lecture_case(width, count, 6, seed)
    y = y if size is None else slowest_targets(net, X, size)
    return record(net, X, y, clock(net, X))


@functools.cache
def mirrored_run(width: int = 256, size: float = 0.1, count: int = 2) -> Run:
    r"""A run of a network of mirrored pairs with readout $\pm1$, on orthogonal inputs with targets $\pm$ ``size``."""
    half = np.random.default_rng(2).normal(size=(width // 2, count))
    net = network(np.concatenate([half, half]), np.repeat([1.0, -1.0], width // 2), "tanh")
    X = np.eye(count)
    return record(net, X, np.where(np.arange(count) % 2 == 0, size, -size), clock(net, X))


@functools.cache
def single(start: float, target: float, name: str | Activation = "sin", until: float = 40.0) -> Run:
    r"""One neuron and one input: $f = \sigma(w)$ from w = ``start`` towards ``target``."""
    net = network([[start]], [1.0], name, 1.0)
    times = np.concatenate(
        [np.linspace(0.0, min(2.0, until), 21), np.geomspace(2.0, until, 20)[1:] if until > 2 else []]
    )
    return record(net, np.ones((1, 1)), np.array([target]), times)


@functools.cache
def plateau() -> Run:
    """One neuron, two orthogonal inputs, one target almost out of reach: the weight goes far."""
    net = network([[0.0, 0.0]], [1.0], ALGEBRAIC, 1.0)
    times = np.concatenate([np.linspace(0.0, 4.0, 21), np.geomspace(4.0, 1500.0, 20)[1:]])
    return record(net, np.eye(2), np.array([1.0 - 1e-6, 0.1]), times)
