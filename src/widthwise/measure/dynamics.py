r"""One network and its tangent model, moved by the same method on the same data.

Legend: w the network's parameters (a tuple of arrays), $w_0$ the initial ones, u those of the
tangent model $f^{lin}(x; u) = f(x; w_0) + J(x)(u - w_0)$, of which the displacement $u - w_0$ is
held, and R the risk $\frac1{2n}\sum_i\|f(x_i) - t_i\|^2$.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int

from widthwise.numerics import nearest, reject
from widthwise.operators import parameters

Leaves = tuple[Array, ...]
Name = Literal["gd", "flow", "sgd", "adam"]
_FLOW_STEPS = 24  # integrator steps between two looks at the clock


@dataclass(frozen=True)
class Method:
    r"""How to train: the name of the method, its learning rate, the number of steps, the size of a batch.

    "gd" $w \leftarrow w - \eta\nabla R(w)$; "flow" $\dot w = -\nabla R(w)$ up to time steps * rate, of
    which one step of gradient descent is the Euler approximation; "sgd" and "adam" with
    mini-batches drawn without replacement in each epoch (Adam with its usual $\beta_1 = 0.9$,
    $\beta_2 = 0.999$, $\epsilon = 10^{-8}$). Raises ``ValueError`` for values out of range.

    >>> Method("gd", rate=0.5, steps=10).full_batch
    True
    """

    name: str
    rate: float
    steps: int
    batch: int = 32

    def __post_init__(self):
        if self.name not in get_args(Name):
            known = get_args(Name)
            came = f"the method {self.name!r}{nearest(str(self.name), known)}"
            reject(came, f"Known are {', '.join(known)}", "Choose one of them")
        if not self.rate > 0 or self.steps < 1 or self.batch < 1:
            reject(
                f"rate={self.rate}, steps={self.steps}, batch={self.batch}",
                "A rate is above 0; steps and batch are at least 1",
                "Give for example rate=0.1, steps=400, batch=32",
            )

    @property
    def full_batch(self) -> bool:
        """Whether every step sees all inputs."""
        return self.name in ("gd", "flow")


class State(eqx.Module):
    """Where both models are after ``step`` steps, or at ``time`` of the flow."""

    network: Leaves
    twin: Leaves
    memory: tuple[Any, Any]
    order: Int[Array, " n"]
    step: Int[Array, ""]
    time: Float[Array, ""]
    losses: Float[Array, " steps"]
    twin_losses: Float[Array, " steps"]
    alive: Array
    twin_alive: Array


class Pair(eqx.Module):
    """A network, its data and how it is trained: everything that stays as it is in training.

    The rate is an array, so that another rate compiles nothing anew.
    """

    model: Callable
    X: Float[Array, "n d"]
    T: Float[Array, "n k"]
    limit: Float[Array, ""]
    rate: Float[Array, ""]
    name: str = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    @property
    def full_batch(self) -> bool:
        """Whether every step sees all inputs."""
        return self.name in ("gd", "flow")

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """The method as optax knows it."""
        return optax.adam(self.rate) if self.name == "adam" else optax.sgd(self.rate)

    def outputs(self, leaves: Leaves, X: Float[Array, "b d"]) -> Float[Array, "b k"]:
        """The network's outputs on a batch with other parameters."""
        return jax.vmap(parameters(self.model)[1](leaves))(X)

    def tangent(self, X: Float[Array, "b d"]) -> tuple[Array, Callable, Callable]:
        """The outputs at the start, their derivative and its transpose, on a batch."""
        base, _ = parameters(self.model)
        outputs, derivative = jax.linearize(lambda leaves: self.outputs(leaves, X), base)
        return outputs, derivative, lambda cotangent: jax.linear_transpose(derivative, base)(cotangent)[0]

    def network_gradient(self, leaves: Leaves, X: Array, T: Array) -> tuple[Array, Leaves]:
        """The risk on a batch and its gradient."""
        return jax.value_and_grad(lambda new: risk(self.outputs(new, X), T))(leaves)

    def start(self, steps: int, key: Array) -> State:
        """Both models at the initial parameters."""
        leaves, _ = parameters(self.model)
        still = tuple(jnp.zeros_like(leaf) for leaf in leaves)
        memory = (self.optimiser.init(leaves), self.optimiser.init(still))
        empty = jnp.full((steps,), jnp.nan, dtype=float)
        order = jr.permutation(jr.fold_in(key, 0), len(self.X))
        yes = jnp.asarray(True)
        return State(leaves, still, memory, order, jnp.zeros((), int), jnp.zeros(()), empty, empty, yes, yes)


def risk(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Float[Array, ""]:
    r"""$\frac1{2n}\sum_i\|f_i - t_i\|^2$."""
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=1))


def tangent_gradient(tangent: tuple[Array, Callable, Callable], displacement: Leaves, T: Array) -> tuple[Array, Leaves]:
    """The tangent model's risk on a batch and its gradient."""
    outputs, derivative, transpose = tangent
    residual = outputs + derivative(displacement) - T
    return 0.5 * jnp.mean(jnp.sum(residual**2, axis=1)), transpose(residual / len(T))


@eqx.filter_jit
def advance(pair: Pair, state: State, end: Int[Array, ""], key: Array) -> State:
    """Make steps until step ``end``, or until the network's loss is above the limit."""
    whole = pair.tangent(pair.X) if pair.full_batch else None

    def step(state: State) -> State:
        order = _shuffled(state, pair, key)
        if whole is not None:
            X, T, tangent = pair.X, pair.T, whole
        else:
            rows = _rows(order, state.step, pair.batch)
            X, T = pair.X[rows], pair.T[rows]
            tangent = pair.tangent(X)
        loss, gradient = pair.network_gradient(state.network, X, T)
        twin_loss, twin_gradient = tangent_gradient(tangent, state.twin, T)
        alive, twin_alive = loss <= pair.limit, state.twin_alive & (twin_loss <= pair.limit)
        network, memory = _update(pair, gradient, state.memory[0], state.network, alive)
        twin, twin_memory = _update(pair, twin_gradient, state.memory[1], state.twin, twin_alive)
        return State(
            network,
            twin,
            (memory, twin_memory),
            order,
            state.step + jnp.where(alive, 1, 0),
            state.time,
            state.losses.at[state.step].set(loss),
            state.twin_losses.at[state.step].set(jnp.where(twin_alive, twin_loss, jnp.nan)),
            alive,
            twin_alive,
        )

    return jax.lax.while_loop(lambda state: (state.step < end) & state.alive, step, state)


def _update(pair: Pair, gradient: Leaves, memory: Any, leaves: Leaves, alive: Array) -> tuple[Leaves, Any]:
    """One step of the optimiser; a model whose loss is above the limit stays where it is."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises Adam's decay, a float, to a whole power
        change, after = pair.optimiser.update(gradient, memory, leaves)
    moved = optax.apply_updates(leaves, change)
    return jax.tree.map(lambda new, old: jnp.where(alive, new, old), (moved, after), (leaves, memory))


def _shuffled(state: State, pair: Pair, key: Array) -> Int[Array, " n"]:
    """The order of the rows: a new one at the beginning of every epoch."""
    if pair.full_batch:
        return state.order
    batches = max(1, len(state.order) // pair.batch)
    epoch, within = state.step // batches, state.step % batches

    def fresh():
        return jr.permutation(jr.fold_in(key, epoch), len(state.order))

    return jax.lax.cond(within == 0, fresh, lambda: state.order)


def _rows(order: Int[Array, " n"], step: Int[Array, ""], batch: int) -> Int[Array, " b"]:
    size = min(batch, len(order))
    first = (step % (len(order) // size)) * size
    return jax.lax.dynamic_slice(order, (first,), (size,))


@eqx.filter_jit
def flow(pair: Pair, state: State, end: Float[Array, ""], step: Float[Array, ""], scale: Array):
    """Follow the gradient flow of both models towards time ``end``, for a limited number of steps.

    Returns the state at the time reached and the mean step. Tsit5 with relative tolerance 1e-5 of
    the displacement; ``scale`` is the typical displacement of one parameter.
    """
    base, _ = parameters(pair.model)
    tangent = pair.tangent(pair.X)

    def field(_, displaced, __):
        network = jax.tree.map(jnp.add, base, displaced[0])
        slopes = pair.network_gradient(network, pair.X, pair.T)[1], tangent_gradient(tangent, displaced[1], pair.T)[1]
        return jax.tree.map(jnp.negative, slopes)

    displaced = jax.tree.map(jnp.subtract, state.network, base), state.twin
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0=state.time,
        t1=end,
        dt0=jnp.minimum(step, end - state.time),
        y0=displaced,
        stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5 * scale),
        max_steps=_FLOW_STEPS,
        throw=False,
    )
    assert solution.ts is not None  # the final time is kept by default
    reached = solution.ts[-1]
    network, twin = jax.tree.map(lambda part: part[-1], solution.ys)
    made = jnp.maximum(solution.stats["num_accepted_steps"], 1)
    after = eqx.tree_at(
        lambda s: (s.network, s.twin, s.time), state, (jax.tree.map(jnp.add, base, network), twin, reached)
    )
    return after, (reached - state.time) / made
