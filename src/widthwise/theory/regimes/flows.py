r"""Gradient flows of shallow networks down to a stated risk, many at once, beside their tangent models.

Legend: n inputs (rows of X) of dimension d, targets y; $g(W)_i = \sum_ja_j\sigma(w_j^\top x_i)$ with the readout
$a_j$ fixed; outputs $F = \rho(g(W) - o)$ with a factor $\rho$ and an offset o; $r = F - y$,
$R = \tfrac12\|r\|^2$; J the Jacobian of g, $K = JJ^\top$. Integrated is $v = \rho(W - W_0)$ with $\dot v = -J^\top r$:
the flow of R in a clock that runs $\rho^2$ times as fast, so that where a network is lazy neither the way nor the time
depends on $\rho$.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.numerics import gain

from ..lazy.shallow import Shallow, slopes

TOLERANCE = 1e-8  # of one step, relative to the way of the tangent model and to the longest time
MOST_STEPS = 8192
_LEAST = 0.1


class Task(eqx.Module):
    r"""Inputs and targets, test inputs, the part of the initial risk to which to train, and the patience.

    Where the risk falls ``patience`` times as slowly as along the slowest direction of the tangent model, training
    gives up.
    """

    X: Float[Array, "n d"]
    y: Float[Array, " n"]
    X_test: Float[Array, "q d"]
    risk: Float[Array, ""]
    patience: Float[Array, ""]


class Departure(NamedTuple):
    r"""How far a training left its start and its tangent model, whose parameters at the same time are U.

    ``kernel`` $\|K_T-K_0\|/\|K_0\|$ (spectral norms); ``gap`` $\|W_T-U_T\|/\|W_T-W_0\|$; ``movement``
    $\|W_T-W_0\|_F/\|W_0\|_F$; ``function`` $\|F_T-F^{lin}_T\|/\|F^{lin}_T-F_0\|$ on the test inputs and ``difference``,
    the root mean square of $F_T-F^{lin}_T$ there; ``left`` $R_T/R_0$; ``time`` T in the clock of the flow of R.
    """

    kernel: Array
    gap: Array
    movement: Array
    function: Array
    difference: Array
    left: Array
    time: Array


@eqx.filter_jit
def departures(
    task: Task,
    weights: Float[Array, "r m d"],
    readout: Float[Array, "r m"],
    rho: Float[Array, ""],
    centred: Float[Array, ""],
    activation: Activation,
) -> Departure:
    r"""Train r networks with $F = \rho(g(W) - \text{centred}\cdot g(W_0))$ at once; arrays (r,) come back.

    Neurons of readout and weights 0 change nothing: with them networks of several widths share one compilation. The
    clock is $s = \ln(R_0/R)$, so that the flow ends where the risk does.
    """
    return jax.vmap(lambda W, a: _train(task, Shallow(W, a, activation), rho, centred))(weights, readout)


def _train(task: Task, net: Shallow, rho: Array, centred: Array) -> Departure:
    start = net.outputs(task.X)
    offset = centred * start
    r0 = rho * (start - offset) - task.y
    before, G = _rows(net, task.X), task.X @ task.X.T
    rates, Q = jnp.linalg.eigh(G * (before @ before.T))
    rates = jnp.where(rates > 1e-12 * rates[-1], rates, 0.0)
    c = Q.T @ r0
    way = jnp.sqrt(jnp.sum(gain(rates, jnp.inf) * c**2))
    longest = task.patience / (2 * jnp.min(jnp.where(rates > 0, rates, jnp.inf)))

    def field(state: Array) -> Array:
        W = net.W + (way / rho) * state[:-1].reshape(net.W.shape)
        residual, pull = jax.vjp(lambda W: rho * (_at(net, W).outputs(task.X) - offset) - task.y, W)
        push = pull(-residual)[0].ravel() / rho
        squared = jnp.maximum(jnp.sum(push**2), 1e-300)
        speed = jnp.minimum(0.5 * jnp.sum(residual**2) / squared, longest)
        return jnp.append(push * (speed / way), speed / longest)

    # A flow can slide along a kink, where steps would shrink for ever: they stay at part of the fastest decay.
    least = 0.0 if net.activation.smooth else _LEAST / (rates[-1] * longest)
    state = integrate(field, jnp.zeros(net.W.size + 1), jnp.log(1.0 / task.risk), jnp.asarray(least))
    v, t = way * state[:-1].reshape(net.W.shape), longest * state[-1]
    u = (before * (Q @ (-gain(rates, t) * c))[:, None]).T @ task.X
    end = _at(net, net.W + v / rho)
    D = _rows(end, task.X) - before
    went = rho * (end.outputs(task.X_test) - net.outputs(task.X_test))
    twin = jnp.sum(_rows(net, task.X_test) * (task.X_test @ u.T), axis=1)
    residual = rho * (end.outputs(task.X) - offset) - task.y
    return Departure(
        kernel=_spectral(G * (D @ before.T + before @ D.T + D @ D.T)) / rates[-1],
        gap=jnp.linalg.norm(v - u) / jnp.linalg.norm(v),
        movement=jnp.linalg.norm(v) / (rho * jnp.linalg.norm(net.W)),
        function=jnp.linalg.norm(went - twin) / jnp.linalg.norm(twin),
        difference=jnp.sqrt(jnp.mean((went - twin) ** 2)),
        left=jnp.sum(residual**2) / jnp.sum(r0**2),
        time=t / rho**2,
    )


def _at(net: Shallow, W: Float[Array, "m d"]) -> Shallow:
    return Shallow(W, net.signs, net.activation)


def _rows(net: Shallow, X: Float[Array, "n d"]) -> Float[Array, "n m"]:
    r"""$a_j\sigma'(w_j^\top x_i)$; times $x_i$ they are the rows of J."""
    return slopes(net, X) * net.signs[None]


def _spectral(symmetric: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(jnp.linalg.eigvalsh(symmetric)))


# Dormand and Prince's method of order 5; the last row is its difference to the method of order 4.
_TABLE = np.zeros((8, 7))
_TABLE[1, :1] = 1 / 5
_TABLE[2, :2] = 3 / 40, 9 / 40
_TABLE[3, :3] = 44 / 45, -56 / 15, 32 / 9
_TABLE[4, :4] = 19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729
_TABLE[5, :5] = 9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656
_TABLE[6, :6] = 35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84
_TABLE[7] = 71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40


def integrate(
    field: Callable[[Array], Array], start: Float[Array, " k"], end: Float[Array, ""], least: Float[Array, ""]
) -> Float[Array, " k"]:
    r"""Follow an autonomous field from the time 0 to ``end``, each step right to ``TOLERANCE`` in the Euclidean norm.

    The last component of the state is a clock: with ``least`` above 0 no step is made in which it would go on by less.
    In a loop over the stages the field is compiled once: the solvers of diffrax, of order 5 and 8, take two and four
    times as long to compile, which for small networks is most of the time. Gives up after ``MOST_STEPS`` steps.

    >>> with jax.enable_x64(True):
    ...     round(float(integrate(lambda y: -y, jnp.ones(1), jnp.asarray(2.0), jnp.asarray(0.0))[0] * np.exp(2.0)), 6)
    1.0
    """
    table = jnp.asarray(_TABLE)

    def step(carry):
        state, time, size, count, _ = carry
        size = jnp.minimum(size, end - time)

        def stage(at, k):
            return k.at[at].set(field(state + size * jnp.tensordot(table[at], k, 1)))

        k = jax.lax.fori_loop(0, 7, stage, jnp.zeros((7, *state.shape)))
        error = size * jnp.linalg.norm(jnp.tensordot(table[7], k, 1)) / TOLERANCE
        shortest = least / jnp.maximum(k[0, -1], 1e-300)
        good = (error <= 1.0) | (size <= shortest)
        grown = jnp.maximum(size * jnp.clip(0.9 * jnp.maximum(error, 1e-10) ** -0.2, 0.2, 5.0), shortest)
        state = jnp.where(good, state + size * jnp.tensordot(table[6], k, 1), state)
        return state, jnp.where(good, time + size, time), grown, count + 1, good & (time + size >= end)

    def going(carry):
        return ~carry[4] & (carry[3] < MOST_STEPS)

    return jax.lax.while_loop(going, step, (start, 0.0 * end, 1e-3 * end, 0, jnp.array(False)))[0]
