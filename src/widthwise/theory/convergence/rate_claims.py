r"""Claims about the table of rates: gradient descent with step $1/\beta$ and gradient flow on convex losses.

Legend: F the loss, $\beta$ smoothness, $\lambda$ strong convexity, R the distance of the start to the minimiser 0,
t the number of steps or the time. The Huber functions have the slope uR/t up to their bend, so that with
$u = \frac12$ the last of t iterates is worst, and with u near 1 the slope lasts for the whole time.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy.integrate import FLOW_ERROR

from .bounds import convex_bound, last_iterate_bound, stationarity_bound, strongly_convex_factor
from .landscapes import Bowl, Huber, bowl, flow_of, generator, steps_of, unit

# Of the Huber functions that the flow meets: so steep at the bottom that the bend is near 0.
STEEP = 400.0


class Table(eqx.Module):
    """Losses of these constants, numbers of steps and times at which the bounds are tried."""

    smoothness: float = 5.0
    convexity: float = 0.25
    distance: float = 3.0
    steps: tuple[int, ...] = eqx.field(static=True, default=(1, 5, 20))
    times: tuple[float, ...] = eqx.field(static=True, default=(0.5, 2.0, 8.0))


def _hubers(direction, smoothness: float, bends: Float[np.ndarray, " k"]) -> Huber:
    """A batch of Huber functions along one direction."""
    one = jnp.asarray(np.broadcast_to(direction, (len(bends), direction.size)))
    return Huber(one, jnp.full(len(bends), smoothness), jnp.asarray(bends))


@eqx.filter_jit
def _descend(losses: Huber, start: Array, counts: Array, points: Array, most: int) -> dict[str, Array]:
    """Each loss: its first value, the least squared slope before the last step, the last value, those at ``points``."""

    def one(loss, count):
        run = steps_of(loss, start, 1.0 / loss.smoothness, most)
        least = jnp.min(jnp.where(jnp.arange(most + 1) < count, run["slope"], jnp.inf))
        return {"first": run["value"][0], "slope": least, "last": run["value"][count], "others": jax.vmap(loss)(points)}

    return jax.vmap(one)(losses, counts)


@eqx.filter_jit
def _follow(losses: Huber, start: Array, times: Array, points: Array) -> dict[str, Array]:
    """The same along the flow; the slope of a convex loss does not grow, so that the last one is the least."""

    def one(loss, time):
        last, slope = jax.value_and_grad(loss)(flow_of(loss, start, time, 20))
        return {"first": loss(start), "slope": jnp.vdot(slope, slope), "last": last, "others": jax.vmap(loss)(points)}

    return jax.vmap(one)(losses, times)


def _seen(setup: Table, key: Array, quantity) -> Float[np.ndarray, " rows"]:
    """The largest quantity(run, |start - points|^2) over four Huber functions, for all steps and then all times."""
    rng = generator(key)
    direction, start = (way := unit(rng)), jnp.asarray(setup.distance * way)
    points = np.concatenate([np.zeros((1, 3)), rng.normal(size=(63, 3))])
    squares = np.sum((points - setup.distance * way) ** 2, axis=1)
    shares = np.array([0.5, 0.95, rng.uniform(0.2, 0.95)])
    # The last bend is beyond the start, where the loss is quadratic.
    steps, times = (np.repeat(one, 4) for one in (setup.steps, setup.times))
    bends = setup.distance * np.tile([*shares, np.inf], len(setup.steps)) / (steps + 0.5)
    bends = np.where(np.isinf(bends), 2.0 * setup.distance, bends)
    slopes = setup.distance * np.tile([*shares, 0.3], len(setup.times)) / times
    descents = _hubers(direction, setup.smoothness, bends)
    descent = _descend(descents, start, jnp.asarray(steps), jnp.asarray(points), max(setup.steps))
    flow = _follow(_hubers(direction, STEEP, slopes / STEEP), start, jnp.asarray(times), jnp.asarray(points))
    found = [quantity({name: np.asarray(one) for name, one in run.items()}, squares) for run in (descent, flow)]
    return np.concatenate([np.max(one.reshape(-1, 4), axis=1) for one in found])


def _stationary(setup: Table, key: Array, relative: bool = True) -> np.ndarray:
    """The least squared slope on the way over the gap at the start."""
    return _seen(setup, key, lambda run, _: run["slope"] / (run["first"] if relative else 1.0))


def _last_values(setup: Table, key: Array, others: bool = False, relative: bool = True) -> np.ndarray:
    r"""$(F(w_t)-F(z))/\|w_0-z\|^2$ for the minimiser z = 0 or, with ``others``, the worst of 64 points z too."""

    def worst(run, squares):
        above = (run["last"][:, None] - run["others"]) / (squares if relative else 1.0)
        return np.max(above if others else above[:, :1], axis=1)

    return _seen(setup, key, worst)


def _both(setup: Table, bound, *of, factor=1.0) -> Estimate:
    """A bound for descent at all numbers of steps, then for the flow at all times."""
    rows = [bound(*of, np.array(setup.steps, dtype=float), setup.smoothness), bound(*of, np.array(setup.times))]
    return Estimate(factor * np.concatenate(rows), 10 * FLOW_ERROR)


def _predict_stationary(setup: Table, factor=1.0) -> Estimate:
    return _both(setup, stationarity_bound, 1.0, factor=factor)


def _predict_convex(setup: Table, factor=1.0) -> Estimate:
    return _both(setup, convex_bound, 1.0, factor=factor)


def _predict_last(setup: Table, factor=1.0) -> Estimate:
    return _both(setup, last_iterate_bound, 1.0, factor=factor)


@eqx.filter_jit
def _ratios(loss: Bowl, start: Array, times: Array, steps: tuple[int, ...]) -> Float[Array, "rows 2"]:
    """Value and squared distance over their first ones."""
    descent = steps_of(loss, start, 1.0 / loss.smoothness, max(steps))["point"][jnp.array(steps)]
    flow = jax.vmap(lambda t: flow_of(loss, start, t))(times)

    def seen(w):
        return jnp.stack([loss(w), jnp.vdot(w, w)])

    return jax.vmap(seen)(jnp.concatenate([descent, flow])) / seen(start)[None]


def _slow_ratios(setup: Table, key: Array, noise: float = 0.1) -> Float[Array, "rows 2"]:
    """The ratios from near (or along) the slow direction of a bowl."""
    rng = generator(key)
    loss = bowl(rng, setup.convexity, setup.smoothness)
    start = setup.distance * np.asarray(loss.Q)[0] + noise * rng.normal(size=4)
    return _ratios(loss, jnp.asarray(start), jnp.asarray(setup.times), setup.steps)


def _predict_slow(setup: Table, factor=1.0) -> Estimate:
    found = _both(setup, strongly_convex_factor, factor * setup.convexity)
    return Estimate(np.stack([found.value, found.value], axis=1), found.error)


def _predict_without_smoothness(setup: Table) -> Estimate:
    r"""The unreadable entry of the table, $e^{-\lambda t/2}$ for t steps."""
    found = np.exp(-0.5 * setup.convexity * np.array([*setup.steps, *(4.0 * t for t in setup.times)]))
    return Estimate(np.stack([found, found], axis=1), 10 * FLOW_ERROR)


def _attained(setup: Table, key: Array) -> Float[np.ndarray, " rows"]:
    """$F(w_t)$ over the squared distance at the start on the Huber function of slope R/(2t+1), or R/(2t)."""
    direction, steps, times = unit(generator(key)), np.array(setup.steps), np.array(setup.times)
    start, origin = jnp.asarray(setup.distance * direction), jnp.zeros((1, 3))
    losses = _hubers(direction, setup.smoothness, setup.distance / (2.0 * steps + 1.0))
    descent = _descend(losses, start, jnp.asarray(steps), origin, max(setup.steps))
    losses = _hubers(direction, STEEP**2, setup.distance / (2.0 * times * STEEP**2))
    flow = _follow(losses, start, jnp.asarray(times), origin)
    return np.concatenate([np.asarray(run["last"]) for run in (descent, flow)]) / setup.distance**2


def _predict_attained(setup: Table, bound=last_iterate_bound) -> Estimate:
    found = _both(setup, bound, 1.0)
    # The bend takes s^2/(2 beta) off the value, with the slope s = R/(2t).
    bend = [0.0] * len(setup.steps) + [1.0 / (8.0 * t**2 * STEEP**2) for t in setup.times]
    return Estimate(found.value, found.error + np.array(bend))


@eqx.filter_jit
def _runs(loss: Huber, start: Array, z: Array, times: Array) -> tuple[Array, Array]:
    """Along descent and flow, gap to z and squared distance."""
    flow = jax.vmap(lambda t: flow_of(loss, start, t, 200))(times)
    descent = steps_of(loss, start, 1.0 / loss.smoothness, len(times) - 1)["point"]
    points = jnp.stack([descent, flow])
    return jax.vmap(jax.vmap(loss))(points) - loss(z), jnp.sum((points - z[None, None]) ** 2, axis=-1)


def _growth(setup: Table, key: Array, times_value: float = 1.0) -> Float[np.ndarray, " 2"]:
    r"""One plus the largest increase of $t(F(w_t)-F(z))+\frac12\|w_t-z\|^2$ over $R^2$; t over $\beta$ for descent."""
    rng = generator(key)
    loss = Huber(jnp.asarray(way := unit(rng)), setup.smoothness, 0.05 * setup.distance)
    start, z = setup.distance * way + 0.1 * rng.normal(size=3), 0.3 * rng.normal(size=3)
    clocks = np.stack([np.arange(41.0) / setup.smoothness, np.linspace(0.0, setup.times[1], 41)])
    gaps, squares = _runs(loss, jnp.asarray(start), jnp.asarray(z), jnp.asarray(clocks[1]))
    potential = times_value * clocks * np.asarray(gaps) + 0.5 * np.asarray(squares)
    return 1.0 + np.max(np.diff(potential, axis=1), axis=1) / setup.distance**2


def _positive(setup: Table) -> str | None:
    if 0 < setup.convexity <= setup.smoothness:
        return None
    return f"the rates need 0 < lambda <= beta because they divide by them; {setup.convexity:g}, {setup.smoothness:g}"


def _followed(setup: Table) -> str | None:
    """The steps of the flow are short enough for its error."""
    if setup.smoothness * max(setup.times) <= 40.0:
        return None
    return f"the steps of the flow are too long because beta t is {setup.smoothness * max(setup.times):.4g}, above 40"


def _steep(setup: Table) -> str | None:
    """The Huber function across its direction is no steeper than along it."""
    if setup.smoothness >= 1.0:
        return None
    return f"a Huber function is not {setup.smoothness:g}-smooth because it has curvature 1 across its direction"


CLAIMS = (
    Claim(
        id="OPT-6",
        name="rate-table-stationarity",
        statement=r"Gradient descent with step $1/\beta$ on a $\beta$-smooth F has "
        r"$\min_{i<t}\|\nabla F(w_i)\|^2\le\frac{2\beta}t(F(w_0)-\inf F)$, and gradient flow "
        r"$\inf_{s\le t}\|\nabla F\|^2\le\frac1t(F(w_0)-\inf F)$.",
        sources=("telgarsky2021deep", "nesterov2018lectures"),
        setup=Table,
        predict=_predict_stationary,
        measure=_stationary,
        relation=AtMost(),
        assumptions=(_positive,),
        draws=4,
        mutants=(
            Mutant("initial gap lost", {"measure": partial(_stationary, relative=False)}),
            Mutant("half of the bound", {"predict": partial(_predict_stationary, factor=0.5)}),
        ),
    ),
    Claim(
        id="OPT-6b",
        name="rate-table-convex",
        statement=r"On a convex F and for any point z gradient descent with step $1/\beta$ has "
        r"$F(w_t)-F(z)\le\frac\beta{2t}\|w_0-z\|^2$, and gradient flow $F(w_t)-F(z)\le\frac1{2t}\|w_0-z\|^2$.",
        sources=("telgarsky2021deep", "nesterov2018lectures"),
        setup=Table,
        predict=_predict_convex,
        measure=partial(_last_values, others=True),
        relation=AtMost(),
        assumptions=(_positive,),
        draws=4,
        mutants=(
            Mutant("distance to the start lost", {"measure": partial(_last_values, others=True, relative=False)}),
            Mutant("a quarter of the bound", {"predict": partial(_predict_convex, factor=0.25)}),
        ),
    ),
    Claim(
        id="OPT-6c",
        name="rate-table-strongly-convex",
        statement=r"On a $\lambda$-strongly convex, $\beta$-smooth F both $F(w_t)-F_*$ and $\|w_t-\bar w\|^2$ fall at "
        r"least like $(1-\lambda/\beta)^{2t}$ over t steps of gradient descent, and like $e^{-2\lambda t}$ over the "
        r"time t of gradient flow.",
        sources=("taylor2018exact", "telgarsky2021deep"),
        setup=Table,
        predict=_predict_slow,
        measure=_slow_ratios,
        relation=AtMost(),
        assumptions=(_positive, _followed),
        draws=8,
        mutants=(
            Mutant("rate without the smoothness", {"predict": _predict_without_smoothness}),
            Mutant("twice the rate", {"predict": partial(_predict_slow, factor=2.0)}),
        ),
    ),
    Claim(
        id="OPT-6d",
        name="rate-table-strongly-convex-is-attained",
        statement=r"The strongly convex rows $(1-\lambda/\beta)^{2t}$ and $e^{-2\lambda t}$ are attained "
        "along a quadratic direction of least curvature.",
        sources=("taylor2018exact", "telgarsky2021deep"),
        setup=Table,
        predict=_predict_slow,
        measure=partial(_slow_ratios, noise=0.0),
        relation=Equal(),
        assumptions=(_positive, _followed),
        mutants=(Mutant("rate lambda for 2 lambda", {"predict": partial(_predict_slow, factor=0.5)}),),
    ),
    Claim(
        id="OPT-6e",
        name="last-iterate-of-convex-descent",
        statement=r"On a convex F with the minimiser $\bar w$ the last of t steps $1/\beta$ of gradient descent has "
        r"$F(w_t)-F_*\le\frac{\beta\|w_0-\bar w\|^2}{4t+2}$, and gradient flow "
        r"$F(w_t)-F_*\le\frac{\|w_0-\bar w\|^2}{4t}$.",
        sources=("drori2014performance",),
        setup=Table,
        predict=_predict_last,
        measure=_last_values,
        relation=AtMost(),
        assumptions=(_positive,),
        draws=4,
        mutants=(Mutant("half of the bound", {"predict": partial(_predict_last, factor=0.5)}),),
    ),
    Claim(
        id="OPT-6f",
        name="last-iterate-of-convex-descent-is-attained",
        statement=r"A Huber function attains $\frac{\beta\|w_0-\bar w\|^2}{4t+2}$, and in the limit of a sharp bend "
        r"$\frac{\|w_0-\bar w\|^2}{4t}$ of the flow.",
        sources=("drori2014performance",),
        setup=Table,
        predict=_predict_attained,
        measure=_attained,
        relation=Equal(),
        assumptions=(_positive,),
        mutants=(Mutant("bound of the table", {"predict": partial(_predict_attained, bound=convex_bound)}),),
    ),
    Claim(
        id="OPT-6g",
        name="potential-of-the-convex-rate",
        statement=r"Along gradient flow of a convex F, $t(F(w_t)-F(z))+\frac12\|w_t-z\|^2$ does not grow, for any z; "
        r"nor does it along steps $1/\beta$ of gradient descent with $t/\beta$ for t.",
        sources=("telgarsky2021deep",),
        setup=Table,
        predict=lambda _: Estimate(np.ones(2), 10 * FLOW_ERROR),
        measure=_growth,
        relation=AtMost(),
        assumptions=(_positive, _steep),
        draws=4,
        mutants=(Mutant("twice the value", {"measure": partial(_growth, times_value=2.0)}),),
    ),
)
