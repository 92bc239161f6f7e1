r"""Networks in an abc-parameterisation, trained by full-batch descent: what the claims measure.

Legend: as in ``abc``; N inputs x of size d with $\|x\|^2 = d$, activation $\frac32\tanh$, half the mean square of
$f - f_0 - y$: centred, since a random $f_0$ blurs the exponents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float

from widthwise.numerics import exponent

from .abc import Exponents, Optimiser

_POINTS, _SIZE = 8, 10


@dataclass(frozen=True)
class Run:
    """Exponents of the L + 1 layers, the constant of the rate, how many steps, and with biases or without."""

    layers: tuple[Exponents, ...]
    rate: float
    optimiser: Optimiser = "sgd"
    steps: int = 5
    biases: bool = False

    @property
    def depth(self) -> int:
        """The number L of hidden layers."""
        return len(self.layers) - 1


@dataclass(frozen=True)
class Case:
    """Runs whose exponents are measured, at some widths, each from several seeds for one draw."""

    runs: tuple[Run, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    seeds: int = 1
    first_step: bool = False


class Weights(NamedTuple):
    """Matrices (fan-in, fan-out) and biases of the L + 1 layers."""

    w: tuple[Array, ...]
    b: tuple[Array, ...]


def problem() -> tuple[Float[Array, "8 10"], Float[Array, " 8"]]:
    """Inputs with $|x|^2 = 10$ and smooth targets."""
    X = np.random.default_rng(0).normal(size=(_POINTS, _SIZE))
    X *= np.sqrt(_SIZE) / np.linalg.norm(X, axis=1, keepdims=True)
    return jnp.asarray(X), jnp.asarray(np.sin(X[:, 0]) + 0.5 * X[:, 1])


def draw(key: Array, n: int, depth: int, biases: bool) -> Weights:
    """Standard normal weights; biases start at a third of that, that of the readout at zero."""
    sizes = (_SIZE, *[n] * depth, 1)
    keys = jr.split(key, 2 * (depth + 1))
    w = tuple(jr.normal(k, sizes[at : at + 2]) for at, k in enumerate(keys[: depth + 1]))
    b = tuple(0.3 * biases * (at < depth) * jr.normal(k, (sizes[at + 1],)) for at, k in enumerate(keys[depth + 1 :]))
    return Weights(w, b)


def forward(weights: Weights, multipliers: Sequence[Array] | Array, X: Float[Array, "n d"]) -> list[Array]:
    """Pre-activations of every layer, the last of which are the outputs."""
    z, h = [], X / np.sqrt(_SIZE)
    for w, b, m in zip(*weights, multipliers, strict=True):
        z.append(m * (h @ w) + b[None])
        h = 1.5 * jnp.tanh(z[-1])
    return z


@partial(jax.jit, static_argnames=("n", "depth", "optimiser", "biases"))
def changes(
    keys: Array, abc: Array, rate: Array, steps: Array, n: int, depth: int, optimiser: str, biases: bool
) -> Float[Array, "seeds k"]:
    r"""RMS of $\Delta z^{(l)}$, l = 1..L, of $\Delta f$ and, with biases, of $\Delta b^{(l)}$; ``abc`` (L + 1, 3).

    Biases of hidden layers have the rate of the first layer, that of the readout has $\eta$.
    """
    X, y = problem()
    a, b, c = (jnp.exp(-column * np.log(n)) for column in abc.T)
    of_bias = rate * float(biases)
    rates = Weights(tuple(rate * one for one in c), (*[of_bias * c[0]] * depth, of_bias))
    inner = optax.identity() if optimiser == "sgd" else optax.scale_by_adam(eps=0.0, eps_root=1e-60)

    def one(key: Array) -> Array:
        unit = draw(key, n, depth, biases)
        start = Weights(tuple(s * w for s, w in zip(b, unit.w, strict=True)), unit.b)
        z0 = forward(start, a, X)

        def loss(weights: Weights) -> Array:
            return 0.5 * jnp.mean((forward(weights, a, X)[-1] - z0[-1] - y[:, None]) ** 2)

        def step(_: Array, carry: Any) -> Any:
            gradient = jax.grad(loss)(carry[0])
            with jax.numpy_dtype_promotion("standard"):  # optax raises Adam's decay, a float, to a whole power
                updates, state = inner.update(gradient, carry[1])
            return jax.tree.map(lambda w, r, u: w - r * u, carry[0], rates, updates), state

        weights, _ = jax.lax.fori_loop(0, steps, step, (start, inner.init(start)))
        moved = [p - q for p, q in zip(forward(weights, a, X), z0, strict=True)]
        moved += [p - q for p, q in zip(weights.b[:-1], start.b[:-1], strict=True)] if biases else []
        return jnp.stack([jnp.sqrt(jnp.mean(part**2)) for part in moved])

    return jax.vmap(one)(keys)


def measured_exponents(case: Case, key: Array) -> np.ndarray:
    """The exponents of all runs, one after the other, of the root mean square over one draw of the seeds."""
    keys = jr.split(key, case.seeds)
    return np.concatenate([_exponents(run, case.widths, keys) for run in case.runs])


def _exponents(run: Run, widths: Sequence[int], keys: Array) -> np.ndarray:
    abc = jnp.asarray([(one.a, one.b, one.c) for one in run.layers])
    given = keys, abc, jnp.asarray(run.rate), jnp.asarray(run.steps)
    settings = {"depth": run.depth, "optimiser": run.optimiser, "biases": run.biases}
    squares = [np.mean(np.asarray(changes(*given, n=n, **settings)) ** 2, axis=0) for n in widths]
    return np.array([exponent(widths, column) for column in np.sqrt(squares).T])


@partial(jax.jit, static_argnames=("n",))
def kernel_regime(keys: Array, a: Array, n: int, rate: Array, steps: Array) -> Float[Array, "seeds 5"]:
    r"""Two hidden layers in the NTK parameterisation, the readout with multiplier $n^{-a}$, a = 1/2 for the NTK.

    One rate for all, $\eta n^{2a-1}$. Of each seed: RMS of $\Delta z^{(1)}$ and $\Delta z^{(2)}$,
    $\|\Delta w^{(2)}\|_F$, $\|\Delta\Theta\|/\|\Theta_0\|$ on the inputs, and $\|f_T-f^{lin}_T\|/\|y\|$, where
    $f^{lin}_T = y - (1-\eta\Theta_0/N)^Ty$.
    """
    X, y = problem()
    root = jnp.exp(-0.5 * np.log(n))
    multipliers = (jnp.ones(()), root, root * jnp.exp((0.5 - a) * np.log(n)))

    def one(key: Array) -> Array:
        start = draw(key, n, 2, False).w
        unbiased = tuple(jnp.zeros(w.shape[1]) for w in start)

        def z(w: Any) -> list[Array]:
            return forward(Weights(w, unbiased), multipliers, X)

        def kernel(w: Any) -> Array:
            pre, K, back = z(w), jnp.zeros((_POINTS, _POINTS)), jnp.ones((_POINTS, 1))
            read = [X / np.sqrt(_SIZE), *(1.5 * jnp.tanh(one) for one in pre[:-1])]
            for at in (2, 1, 0):
                K = K + multipliers[at] ** 2 * (read[at] @ read[at].T) * (back @ back.T)
                if at:
                    back = multipliers[at] * (back @ w[at].T) * 1.5 * (1.0 - jnp.tanh(pre[at - 1]) ** 2)
            return K

        z0, K0 = z(start), kernel(start)
        speed = rate / multipliers[2] ** 2 / n

        def step(_: Array, w: Any) -> Any:
            gradient = jax.grad(lambda w: 0.5 * jnp.mean((z(w)[-1] - z0[-1] - y[:, None]) ** 2))(w)
            return jax.tree.map(lambda p, g: p - speed * g, w, gradient)

        end = jax.lax.fori_loop(0, steps, step, start)
        values, modes = jnp.linalg.eigh(K0)
        left = modes @ ((1.0 - speed * values / _POINTS) ** steps * (modes.T @ y))
        z1, K1 = z(end), kernel(end)
        return jnp.stack(
            [
                *(jnp.sqrt(jnp.mean((p - q) ** 2)) for p, q in zip(z1[:2], z0[:2], strict=True)),
                jnp.linalg.norm(end[1] - start[1]),
                jnp.linalg.norm(K1 - K0) / jnp.linalg.norm(K0),
                jnp.linalg.norm((z1[-1] - z0[-1])[:, 0] - y + left) / jnp.linalg.norm(y),
            ]
        )

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames=("m",))
def scaled_shallow(keys: Array, power: Array, m: int, steps: Array) -> Float[Array, "seeds 3"]:
    r"""$f = \frac\alpha m\sum_ja_j\tanh(w_j\cdot x)$, $\alpha = m^{power}$, $a_j = \pm1$ fixed.

    Only $w$ is trained, with the rate $\frac{m}{4\alpha^2}$. Of each seed: $\|W_T-W_0\|_F/\|W_0\|_F$,
    $\|\Delta K\|/\|K_0\|$ with $K = JJ^\top$, and the RMS of $f_0$.
    """
    X, y = problem()
    X, alpha = X / np.sqrt(_SIZE), jnp.exp(power * np.log(m))

    def one(key: Array) -> Array:
        first, second = jr.split(key)
        signs, start = jr.rademacher(first, (m,), float), jr.normal(second, (m, _SIZE))

        def f(W: Array) -> Array:
            return alpha / m * jnp.tanh(X @ W.T) @ signs

        def kernel(W: Array) -> Array:
            slopes = (1.0 - jnp.tanh(X @ W.T) ** 2) * (alpha / m)
            return (X @ X.T) * (slopes @ slopes.T)

        f0, K0 = f(start), kernel(start)

        def step(_: Array, W: Array) -> Array:
            return W - 0.25 * m / alpha**2 * jax.grad(lambda W: 0.5 * jnp.sum((f(W) - f0 - y) ** 2))(W)

        end = jax.lax.fori_loop(0, steps, step, start)
        moved = jnp.linalg.norm(end - start) / jnp.linalg.norm(start)
        drift = jnp.linalg.norm(kernel(end) - K0) / jnp.linalg.norm(K0)
        return jnp.stack([moved, drift, jnp.sqrt(jnp.mean(f0**2))])

    return jax.vmap(one)(keys)
