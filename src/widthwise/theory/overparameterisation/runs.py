r"""Recorded training runs of a two-layer network of which the first layer learns.

Legend: $f(x) = \gamma\sum_{i=1}^Na_i\sigma(w_i\cdot x)$ with fixed $a$ and width N, n inputs (rows of X), residual
$r = f - y$, loss $\mathcal L = \frac1{2n}\|r\|^2$, flow $\dot w = -\nabla\mathcal L$, tangent kernel K (n, n),
$\lambda_0 = \lambda_{min}(K_0)$.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.numerics import reject
from widthwise.theory.lazy import Shallow

from .flows import solve


@dataclass(frozen=True, eq=False)
class Run:
    r"""A training run: the network at its start, the data, and the first layer's weights at k moments.

    Args:
        net: the network at its start; its readout ``signs`` may be any numbers.
        X, y: inputs (n, d) and targets (n,).
        times: rising moments (k,), the first of them 0, in the clock of the flow of $\frac1{2n}\|f - y\|^2$; of
            gradient descent the number of steps times the rate.
        weights: (k, N, d), the first of them those of ``net``.
        error: a bound on the error of a displacement by the integration, 0 for what was recorded elsewhere.
        flow: whether it follows the gradient flow within that error, as what `record` makes does; claims about flows
            are not applied to other runs.

    Raises ``ValueError`` for shapes that do not fit, numbers that are not finite, and a run that starts elsewhere.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("tanh"))
    >>> weights = np.stack([np.eye(2), 0.9 * np.eye(2)])
    >>> run = Run(net, np.eye(2), np.zeros(2), np.array([0.0, 1.0]), weights)
    >>> run, run.moves.round(3).tolist()
    (Run(N=2, n=2, 2 moments), [[0.0, 0.0], [0.1, 0.1]])
    """

    net: Shallow
    X: np.ndarray
    y: np.ndarray
    times: np.ndarray
    weights: np.ndarray
    error: float = 0.0
    flow: bool = False

    def __post_init__(self):
        for name in ("X", "y", "times", "weights"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        _check(self)

    def __repr__(self) -> str:
        return f"Run(N={self.width}, n={len(self.y)}, {len(self.times)} moments)"

    @property
    def width(self) -> int:
        return self.weights.shape[1]

    @functools.cached_property
    def outputs(self) -> Float[np.ndarray, "k n"]:
        """The outputs on the inputs at every moment."""
        return self._seen[0]

    @functools.cached_property
    def grams(self) -> Float[np.ndarray, "k n n"]:
        r"""The tangent kernel at every moment, $K = \gamma^2G\circ\sum_ia_i^2\sigma'\sigma'$."""
        return self._seen[1]

    @functools.cached_property
    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        seen = [look(self.net, self.X, W) for W in self.weights]
        return np.stack([one.outputs for one in seen]), np.stack([one.gram for one in seen])

    @property
    def losses(self) -> Float[np.ndarray, " k"]:
        r"""$\mathcal L = \frac1{2n}\|f - y\|^2$."""
        return 0.5 * np.mean((self.outputs - self.y) ** 2, axis=1)

    @property
    def moves(self) -> Float[np.ndarray, "k N"]:
        r"""$\|w_i(t) - w_i(0)\|$ of every neuron."""
        return np.linalg.norm(self.weights - self.weights[0], axis=2)

    @functools.cached_property
    def least_eigenvalues(self) -> Float[np.ndarray, " k"]:
        r"""$\lambda_{min}(K)$."""
        return np.linalg.eigvalsh(self.grams)[:, 0]

    @property
    def lambda0(self) -> float:
        r"""$\lambda_0 = \lambda_{min}(K_0)$."""
        return float(self.least_eigenvalues[0])


def record(net: Shallow, X: ArrayLike, y: ArrayLike, times: ArrayLike, tolerance: float = 1e-10) -> Run:
    r"""Follow the gradient flow of $\frac1{2n}\|f - y\|^2$ in the first layer, and record it at ``times``, 0 first.

    Raises as `Run` and, for a flow that does not get to its last time, ``RuntimeError``. In float64.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> with jax.enable_x64(True):
    ...     net = Shallow(jnp.zeros((1, 1)), jnp.ones(1), activation("identity"))
    ...     run = record(net, [[1.0]], [1.0], [0.0, 1.0])
    >>> run.weights[-1].round(9).tolist()
    [[0.632120559]]
    """
    X, y, times = (np.asarray(part, dtype=float) for part in (X, y, times))
    with jax.enable_x64(True):
        start = np.asarray(net.W, dtype=float)
        Run(net, X, y, times[:1], start[None])
        speed = np.linalg.norm(velocity(net, X, y, start))
        residual = np.linalg.norm(look(net, X, start).outputs - y)
        # What the loss pays for, over how fast it is paid: a length that the flow covers.
        unit = float(residual**2 / (len(y) * speed)) if speed else 1.0

        def field(v: np.ndarray) -> np.ndarray:
            return velocity(net, X, y, start + v.reshape(start.shape)).ravel()

        steps, _, error = solve(field, start.size, times, unit, tolerance)
    return Run(net, X, y, times, start + steps.reshape(-1, *start.shape), error, flow=True)


@dataclass(frozen=True)
class Look:
    """A network at one moment: outputs (n,), slopes (n, N) and tangent kernel (n, n)."""

    outputs: Float[np.ndarray, " n"]
    slopes: Float[np.ndarray, "n N"]
    gram: Float[np.ndarray, "n n"]


def look(net: Shallow, X: Float[np.ndarray, "n d"], W: Float[np.ndarray, "N d"]) -> Look:
    """Evaluate a network with other first-layer weights."""
    a, gamma = np.asarray(net.signs), float(net.scale)
    values, slopes = evaluate(net.activation, X @ W.T)
    weighted = slopes * a
    return Look(gamma * (values @ a), slopes, gamma**2 * (X @ X.T) * (weighted @ weighted.T))


def velocity(net: Shallow, X: np.ndarray, y: np.ndarray, W: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
    r"""$\dot w_i = -\frac{\gamma a_i}n\sum_\alpha r_\alpha\,\sigma'(w_i\cdot x_\alpha)\,x_\alpha$."""
    a, gamma = np.asarray(net.signs), float(net.scale)
    values, slopes = evaluate(net.activation, X @ W.T)
    residual = gamma * (values @ a) - y
    return -gamma / len(y) * (a[:, None] * ((slopes * residual[:, None]).T @ X))


def evaluate(s: Activation, Z: Float[np.ndarray, "n N"]) -> tuple[np.ndarray, np.ndarray]:
    """The activation and its slope, entry by entry, in float64."""
    with jax.enable_x64(True):
        values, slopes = _evaluator(s.fn)(Z)
    return np.asarray(values), np.asarray(slopes)


@functools.lru_cache(maxsize=64)
def _evaluator(fn: Callable) -> Callable:
    """Compiled once for each shape, and quick to call: it is called thousands of times."""
    return jax.jit(lambda Z: (fn(Z), jax.vmap(jax.vmap(jax.grad(fn)))(Z)))


def demand_runs(setup: Any) -> tuple[Run, ...]:
    """The runs of a claim's setup: a run, or a tuple of runs."""
    found = (setup,) if isinstance(setup, Run) else tuple(setup) if isinstance(setup, tuple | list) else ()
    if not found or not all(isinstance(one, Run) for one in found):
        reject(
            f"a setup of type {type(setup).__name__}",
            "These claims are about a recorded Run, or a tuple of them",
            "Record one with record(net, X, y, times)",
        )
    return found


def _check(run: Run) -> None:
    N, d = run.net.W.shape
    fits = run.X.ndim == 2 and run.X.shape[1] == d and run.X.size and run.y.shape == run.X.shape[:1]
    if not fits or run.times.ndim != 1 or run.weights.shape != (len(run.times), N, d) or not len(run.times):
        reject(
            f"X {run.X.shape}, y {run.y.shape}, times {run.times.shape}, weights {run.weights.shape}",
            f"For this network they are (n, {d}), (n,), (k,) and (k, {N}, {d}), none empty",
            "Give the first layer's weights at each of the k times",
        )
    for name in ("X", "y", "times", "weights"):
        if not np.all(np.isfinite(getattr(run, name))):
            reject(
                f"{name} with entries that are not finite", "Every entry is a finite number", "Stop before it diverges"
            )
    if run.times[0] != 0.0 or np.any(np.diff(run.times) <= 0):
        reject(f"times {run.times}", "They start at 0 and rise", "Record the network at its start, too")
    if not np.array_equal(run.weights[0], np.asarray(run.net.W, dtype=float)):
        reject("weights[0] that are not the network's", "A run starts at its network", "Give the network at its start")
