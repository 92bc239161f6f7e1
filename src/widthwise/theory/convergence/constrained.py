r"""Optimality and gradient flow on a convex set S: the normal cone, and the flow that is projected back.

Legend: F the loss, $\Pi$ the projection on S, $N_S(w) = \{v: \langle v,s-w\rangle \le 0\ \forall s \in S\}$ the normal
cone, $\bar w$ the minimiser on S, $\lambda$ strong convexity, $\beta$ smoothness, $\eta$ the step.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate, reject

from .landscapes import Bowl, bowl, generator
from .record import ULPS

_COUNT = 400  # steps to a minimiser


class Ball(eqx.Module):
    r"""The projection on $\{\|w\| \le \text{radius}\}$.

    >>> [round(one, 6) for one in Ball(1.0)(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """

    radius: float

    def __check_init__(self):
        if not 0 < self.radius < np.inf:
            reject(f"radius={self.radius}", "A ball has a finite radius above 0", "Give for example radius=1.0")

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, " d"]:
        # The square of a large entry overflows, that of its share does not.
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(w), initial=0.0))
        unit = jnp.where(largest > 0, largest, 1.0)
        square = jnp.vdot(w / unit, w / unit)
        outside = unit * jnp.sqrt(square) > self.radius
        size = unit * jnp.sqrt(jnp.where(outside, square, 1.0))
        return w * jnp.where(outside, self.radius / size, 1.0)


class Box(eqx.Module):
    r"""The projection on $\{\text{low} \le w \le \text{high}\}$, in every coordinate.

    >>> Box(-1.0, 1.0)(jnp.array([3.0, 0.5])).tolist()
    [1.0, 0.5]
    """

    low: float | Float[Array, " d"]
    high: float | Float[Array, " d"]

    def __check_init__(self):
        if not np.all(np.asarray(self.low) <= np.asarray(self.high)):
            reject(f"low={self.low}, high={self.high}", "The lower sides lie below the upper ones", "Exchange them")

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.clip(w, self.low, self.high)


def optimality_residual(loss: Callable, point: Float[Array, " d"], project: Callable) -> Float[Array, ""]:
    r"""$\|w-\Pi(w-\nabla F(w))\|$: zero iff $-\nabla F(w) \in N_S(w)$.

    ``project`` is the projection on a closed convex set, such as `Ball` or `Box`. That is necessary for a minimum on S,
    and sufficient where F is convex. Source: telgarsky2021deep.

    >>> def loss(w):
    ...     return 0.5 * jnp.sum((w - jnp.array([2.0, 1.0])) ** 2)
    >>> round(optimality_residual(loss, jnp.array([2.0, 1.0]) / 5**0.5, Ball(1.0)).item(), 6)
    0.0
    """
    away = point - project(point - jax.grad(loss)(point))
    return jnp.sqrt(jnp.vdot(away, away))


@eqx.filter_jit
def projected_descent(
    loss: Callable, start: Float[Array, " d"], project: Callable, rate: float | Float[Array, ""], count: int
) -> Float[Array, " d"]:
    r"""The last of ``count`` steps $w \leftarrow \Pi(w-\eta\nabla F(w))$; with small steps the projected gradient flow.

    >>> projected_descent(lambda w: jnp.sum((w - 3.0) ** 2), jnp.zeros(1), Box(-1.0, 1.0), 0.1, 50).tolist()
    [1.0]
    """
    slope = jax.grad(loss)
    return jax.lax.fori_loop(0, count, lambda _, w: project(w - rate * slope(w)), start)


class Shifted(eqx.Module):
    """A bowl around another point."""

    bowl: Bowl
    centre: Float[Array, " d"]

    def __call__(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        return self.bowl(w - self.centre)


class Constrained(eqx.Module):
    """Random bowls around a point at this distance from 0, on the unit ball and on the cube of half-width 1."""

    convexity: float = 0.5
    smoothness: float = 5.0
    distance: float = 8.0
    dim: int = eqx.field(static=True, default=3)


@eqx.filter_jit
def _minimised(loss: Shifted, rate: float) -> dict[str, Array]:
    """On both sets the minimiser, the gradient there and the residual."""

    def on(project):
        point = projected_descent(loss, jnp.zeros_like(loss.centre), project, rate, _COUNT)
        return {"point": point, "slope": jax.grad(loss)(point), "off": optimality_residual(loss, point, project)}

    return jax.tree.map(lambda *rows: jnp.stack(rows), on(Ball(1.0)), on(Box(-1.0, 1.0)))


def _optimal(setup: Constrained, key: Array, sign: float = 1.0, condition: str = "cone") -> Float[np.ndarray, " 4"]:
    r"""One plus: the residual over $\|\nabla F\|$; how much farther than $\bar w$ members of S go along $-\nabla F$."""
    rng = generator(key)
    way = rng.normal(size=setup.dim)
    centre = jnp.asarray(setup.distance * way / np.linalg.norm(way))
    loss = Shifted(bowl(rng, setup.convexity, setup.smoothness, setup.dim), centre)
    found = {name: np.asarray(one) for name, one in _minimised(loss, 1.0 / setup.smoothness).items()}
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * setup.dim), axis=-1).reshape(-1, setup.dim)
    points = rng.normal(size=(1000, setup.dim))
    members = (
        np.concatenate([points / np.linalg.norm(points, axis=1, keepdims=True), found["point"][:1]]),
        np.concatenate([corners, rng.uniform(-1.0, 1.0, size=(1000, setup.dim))]),
    )
    size = np.linalg.norm(found["slope"], axis=1)
    # Half of -grad F is a member of the cone too.
    between = np.linalg.norm(found["slope"] - 0.5 * found["slope"], axis=1)
    residual = {"cone": found["off"], "zero": size, "single": between}[condition]
    pairs = zip(members, found["point"], found["slope"], strict=True)
    reach = [np.max((s - w) @ -(sign * g)) / abs(w @ g) for s, w, g in pairs]
    return 1.0 + np.concatenate([residual / size, reach])


class Sliding(eqx.Module):
    r"""Projected flow in a box at whose wall the flow slides along the slow direction, until these times."""

    times: tuple[float, ...] = eqx.field(static=True, default=(0.5, 2.0, 4.0))
    convexity: float = 0.5
    smoothness: float = 5.0
    steps: int = eqx.field(static=True, default=2000)


_WALL = Box(jnp.array([-9.0, -9.0, -1.0]), jnp.array([9.0, 9.0, 1.0]))
_BEYOND = np.array([0.0, 0.0, 3.0])


@partial(jax.jit, static_argnums=(4,))
def _slid(loss: Shifted, start: Array, project: Box, rates: Array, count: int) -> Array:
    return jax.vmap(lambda rate: projected_descent(loss, start, project, rate, count))(rates)


def _contracted(setup: Sliding, key: Array, projected: bool = True) -> Float[np.ndarray, " T"]:
    r"""$\|w_t-\bar w\|^2$ over its first value; $\bar w = (0, 0, 1)$ by symmetry."""
    rng = generator(key)
    start = np.array([3.0, 0.1 * rng.normal(), rng.uniform(0.9, 1.0)])
    loss = Shifted(Bowl(jnp.eye(3), setup.convexity, setup.smoothness), jnp.asarray(_BEYOND))
    box = _WALL if projected else Box(jnp.full(3, -np.inf), jnp.full(3, np.inf))
    rates = jnp.asarray(np.array(setup.times) / setup.steps)
    ends = np.asarray(_slid(loss, jnp.asarray(start), box, rates, setup.steps))
    end = np.array([0.0, 0.0, 1.0])
    return np.sum((ends - end) ** 2, axis=1) / np.sum((start - end) ** 2)


def _predict_contracted(setup: Sliding, factor: float = 2.0) -> Estimate:
    # A step is a contraction by 1 - lambda eta <= exp(-lambda eta): there is no error of the steps.
    return Estimate(np.exp(-factor * setup.convexity * np.array(setup.times)), ULPS * 2.0**-52)


def _convex(setup: Constrained | Sliding) -> str | None:
    if 0 < setup.convexity <= setup.smoothness:
        return None
    return f"the minimiser is unique for 0 < lambda <= beta because F then is strongly convex; {setup.convexity:g}"


def _active(setup: Constrained) -> str | None:
    """The ball and the cube do not hold the unconstrained minimiser."""
    if setup.distance > np.sqrt(setup.dim):
        return None
    return f"the gradient may vanish on S because its minimiser is only {setup.distance:g} from the centre"


def _arrives(setup: Constrained) -> str | None:
    """The steps end at the minimiser up to rounding."""
    if (1.0 - setup.convexity / setup.smoothness) ** _COUNT < 2.0**-52:
        return None
    return f"{_COUNT} steps do not arrive because lambda = {setup.convexity:g}, beta = {setup.smoothness:g}"


def _short(setup: Sliding) -> str | None:
    r"""Each step contracts by $1-\lambda\eta$."""
    rate = max(setup.times) / setup.steps
    if rate * (setup.convexity + setup.smoothness) <= 2.0:
        return None
    return f"{setup.steps} steps are too long for the flow because their rate {rate:.3g} is above 2/(lambda + beta)"


CLAIMS = (
    Claim(
        id="OPT-9",
        name="constrained-optimality",
        statement=r"At the minimiser $\bar w$ of F on a convex set S the vector $-\nabla F(\bar w)$ is a member of the "
        r"normal cone $\{v:\langle v,s-\bar w\rangle\le0\ \forall s\in S\}$, that is "
        r"$\bar w=\Pi_S(\bar w-\nabla F(\bar w))$.",
        sources=("telgarsky2021deep",),
        setup=Constrained,
        predict=lambda setup: Estimate(np.ones(4), ULPS * 2.0**-52 * setup.smoothness / setup.convexity),
        measure=_optimal,
        relation=AtMost(),
        assumptions=(_convex, _active, _arrives),
        draws=4,
        mutants=(
            Mutant("gradient zero", {"measure": partial(_optimal, condition="zero")}),
            Mutant("every normal vector is the gradient", {"measure": partial(_optimal, condition="single")}),
            Mutant("sign of the gradient", {"measure": partial(_optimal, sign=-1.0)}),
        ),
    ),
    Claim(
        id="OPT-9b",
        name="projected-flow-contracts",
        statement=r"Gradient flow projected on a convex set, of a $\lambda$-strongly convex F with the minimiser "
        r"$\bar w$ on it, satisfies $\|w_t-\bar w\|^2\le e^{-2\lambda t}\|w_0-\bar w\|^2$ as without the set.",
        sources=("telgarsky2021deep",),
        setup=Sliding,
        predict=_predict_contracted,
        measure=_contracted,
        relation=AtMost(),
        assumptions=(_convex, _short),
        draws=4,
        mutants=(
            Mutant("twice the rate", {"predict": partial(_predict_contracted, factor=4.0)}),
            Mutant("projection lost", {"measure": partial(_contracted, projected=False)}),
        ),
    ),
)
