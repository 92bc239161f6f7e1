r"""Gradient descent as Euler's method for gradient flow: errors, the better flow, arc lengths.

Legend: $R$ a risk, $\eta$ the step, $\theta_k$ gradient descent, $\theta(t)$ gradient flow, $\beta$
the Lipschitz constant of $\nabla R$, $\mu$ with $\|\nabla R\|^2 \ge \mu(R - R_*)$.
"""

import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from .integrate import FLOW_ERROR, risk_flow
from .landscapes import log_cosh, slow_landscape

Risk = Callable[[Array], Array]


@eqx.filter_jit
def descend(risk: Risk, start: Float[Array, " d"], step, count: int) -> Float[Array, "k d"]:
    r"""Run $\theta_{k+1} = \theta_k - \eta\nabla R(\theta_k)$ and return $\theta_0, \dots, \theta_{count}$.

    >>> descend(lambda w: 0.5 * w @ w, jnp.array([1.0]), 0.5, 2).ravel().tolist()
    [1.0, 0.5, 0.25]
    """
    slope = jax.grad(risk)

    def advance(point, _):
        new = point - step * slope(point)
        return new, new

    return jnp.concatenate([start[None], jax.lax.scan(advance, start, length=count)[1]])


def arc_length(path: Float[Array, "k d"]) -> Float[Array, ""]:
    r"""The length of a polygon; for gradient descent it is $\eta\sum_k\|\nabla R(\theta_k)\|$."""
    return jnp.sum(jnp.linalg.norm(jnp.diff(path, axis=0), axis=1))


class Penalised(eqx.Module):
    r"""$R + c\|\nabla R\|^2$; with $c = \eta/4$ gradient descent follows its flow up to $O(\eta^2)$.

    Source: barrett2021implicit.

    >>> Penalised(lambda w: 0.5 * w @ w, 0.1)(jnp.array([1.0])).item()
    0.6
    """

    risk: Risk
    weight: float | Float[Array, ""]

    def __call__(self, point: Float[Array, " d"]) -> Float[Array, ""]:
        return self.risk(point) + self.weight * jnp.sum(jax.grad(self.risk)(point) ** 2)


def acceleration(risk: Risk, point: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""$\ddot\theta = \nabla^2R\,\nabla R$ of the flow; one step errs by $\frac{\eta^2}2\|\ddot\theta\|$."""
    slope = jax.grad(risk)
    return jax.jvp(slope, (point,), (slope(point),))[1]


def euler_error_bound(step, time, largest_acceleration, smoothness=None):
    r"""Bound $\|\theta_k - \theta(k\eta)\|$ by $\frac\eta2\sup\|\ddot\theta\|\,\frac{e^{\beta t}-1}\beta$.

    Without ``smoothness`` $\beta$ the risk is taken as convex with $\eta \le 2/\beta$; then a step
    does not expand distances and the last factor is $t$.

    >>> round(float(euler_error_bound(0.1, 1.0, 4.0)), 12)
    0.2
    """
    growth = time if smoothness is None else math.expm1(smoothness * time) / smoothness
    return 0.5 * step * largest_acceleration * growth


def length_bounds(gap, time, pl=None):
    r"""Bound the arc length of the flow by $\sqrt{t\,\Delta}$ or, with ``pl`` $=\mu$, by $\frac2{\sqrt\mu}\sqrt\Delta$.

    ``gap`` $\Delta = R(\theta_0) - R_*$.

    >>> length_bounds(4.0, 9.0), length_bounds(4.0, 9.0, pl=1.0)
    (6.0, 4.0)
    """
    return (gap * time) ** 0.5 if pl is None else 2.0 * (gap / pl) ** 0.5


class Race(eqx.Module):
    """Gradient descent with ``steps`` steps against gradient flow over ``time``; ``smoothness`` bounds the Hessian."""

    risk: Risk
    start: Float[Array, " d"]
    smoothness: float
    time: float = 1.0
    steps: int = 64


def _bent(theta):
    """Convex, not quadratic, with a Hessian of norm at most 3 + 2."""
    return 0.5 * (theta[0] ** 2 + 3.0 * theta[1] ** 2) + log_cosh(theta[0] - theta[1])


def _slow(theta):
    return 0.1 * theta[0] ** 2 + 0.05 * theta[1] ** 2


def _race() -> Race:
    return Race(_bent, jnp.array([1.0, 1.0]), smoothness=5.0)


def _slow_race() -> Race:
    return Race(_slow, jnp.array([1.0, 1.0]), smoothness=0.2, steps=16)


def _small_steps(race: Race) -> str | None:
    """Beyond this the higher orders hide the first."""
    product = race.smoothness * race.time / race.steps
    return (
        None
        if product <= 0.2
        else f"the order shows only for eta beta <= 0.2 because it is a limit; it is {product:.3g}"
    )


def _bends(race: Race) -> str | None:
    """Without acceleration descent and flow agree to all orders, and there is no order to see."""
    if float(jnp.linalg.norm(jax.jit(partial(acceleration, race.risk))(race.start))) > 0:
        return None
    return "descent does not part from the flow because the flow starts without acceleration, as at a critical point"


def _convex(race: Race) -> str | None:
    points = jnp.concatenate([race.start[None], _flow_points(race)])
    least = float(np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(race.risk)))(points)).min())
    rounding = 1e-12 * race.smoothness
    return None if least >= -rounding else f"the risk is not convex because its Hessian has the eigenvalue {least:.3g}"


def _stable(race: Race) -> str | None:
    product = race.smoothness * race.time / race.steps
    return None if product <= 2 else f"a step may expand distances because eta beta = {product:.3g} exceeds 2"


def _strongly_convex(setup: "SlowFlow") -> str | None:
    return None if setup.convexity > 0 else f"the risk is not strongly convex because lambda = {setup.convexity:g}"


@eqx.filter_jit
def _ends(race: Race, weights):
    """Where the flows of the risk with these penalties are at the end."""
    times = jnp.array([race.time])
    return jax.vmap(lambda c: risk_flow(Penalised(race.risk, c), race.start, times)["point"][0])(weights)


def _orders(race: Race, key, factor=0.25):
    """Observed orders against the flow and against the modified flow, extrapolated over three halvings."""
    counts = race.steps * np.array([1, 2, 4])
    descents = jnp.stack([descend(race.risk, race.start, race.time / n, int(n))[-1] for n in counts])
    flows = _ends(race, jnp.array([0.0, *(factor * race.time / counts)]))
    errors = np.array([np.linalg.norm(descents - end, axis=1) for end in (flows[:1], flows[1:])])
    orders = -np.diff(np.log2(errors), axis=1)
    return 2.0 * orders[:, 1] - orders[:, 0]


def _predict_orders(race: Race) -> Estimate:
    # The orders seen are p + a/N + b/N^2 + ..., extrapolation leaves the second correction.
    return Estimate(jnp.array([1.0, 2.0]), (race.smoothness * race.time / race.steps) ** 2)


def _flow_points(race: Race):
    moments = jnp.arange(1.0, race.steps + 1) * (race.time / race.steps)
    return risk_flow(race.risk, race.start, moments)["point"]


def _euler_error(race: Race, key):
    """The largest distance between descent and flow along the way, once for each form of the bound."""
    path = descend(race.risk, race.start, race.time / race.steps, race.steps)[1:]
    return np.full(2, np.max(np.linalg.norm(path - _flow_points(race), axis=1)))


def _predict_error(race: Race, half=1.0, power=1) -> Estimate:
    points = jnp.concatenate([race.start[None], _flow_points(race)])
    largest = np.max(np.linalg.norm(jax.jit(jax.vmap(partial(acceleration, race.risk)))(points), axis=1))
    step = (race.time / race.steps) ** power
    bounds = [half * euler_error_bound(step, race.time, largest, beta) for beta in (race.smoothness, None)]
    return Estimate(np.array(bounds), FLOW_ERROR * np.linalg.norm(race.start))


def _descent_length(race: Race, key, divide=False):
    """The length of descent, extrapolated to small steps; divided by the step it is a sum of gradients."""
    counts = (4 * race.steps, 8 * race.steps)
    lengths = [arc_length(descend(race.risk, race.start, race.time / count, count)) for count in counts]
    return (2.0 * lengths[1] - lengths[0]) * (counts[1] / race.time if divide else 1.0)


def _predict_length(race: Race, straight=False, units=1.0) -> Estimate:
    flow = risk_flow(race.risk, race.start, jnp.array([units * race.time]))
    length = jnp.linalg.norm(flow["point"][0] - race.start) if straight else flow["length"][0]
    # Extrapolation leaves the second-order term, (eta beta)^2 of the length at the coarser step.
    return Estimate(length, (race.smoothness * race.time / (4 * race.steps)) ** 2 * length)


class SlowFlow(eqx.Module):
    """Flows on random landscapes of this strong convexity, started near their slow direction."""

    convexity: float = 2.0

    @property
    def times(self) -> Float[Array, " 2"]:
        """When each of the two bounds is nearly attained, in units of 1/convexity."""
        return jnp.array([1.25, 12.0]) / self.convexity


@eqx.filter_jit
def _lengths(setup: SlowFlow, key):
    landscape, start = slow_landscape(key, setup.convexity)
    return risk_flow(landscape, start, setup.times)["length"] / jnp.sqrt(landscape(start))


def _predict_lengths(setup: SlowFlow, root=0.5, factor=1.0) -> Estimate:
    pl = 2.0 * setup.convexity
    general = length_bounds(1.0, setup.times[0] ** (2.0 * root))
    return Estimate(jnp.array([general, factor * length_bounds(1.0, jnp.inf, pl)]), 10 * FLOW_ERROR)


CLAIMS = (
    Claim(
        id="OPT-1",
        name="descent-is-euler-of-flow",
        statement=r"Gradient descent with step $\eta$ follows gradient flow with an error of order exactly $\eta$, "
        r"and the flow of $R+\frac\eta4\|\nabla R\|^2$ with an error of order $\eta^2$.",
        sources=("bartlett2021deep", "barrett2021implicit"),
        setup=_race,
        predict=_predict_orders,
        measure=_orders,
        assumptions=(_small_steps, _bends),
        relation=Equal(),
        mutants=(
            Mutant("penalty eta/2", {"measure": partial(_orders, factor=0.5)}),
            Mutant("penalty with the wrong sign", {"measure": partial(_orders, factor=-0.25)}),
            Mutant("second order", {"predict": lambda race: Estimate(jnp.array([2.0, 2.0]), 0.01)}),
        ),
    ),
    Claim(
        id="OPT-1b",
        name="euler-error-bound",
        statement=r"Gradient descent stays within $\frac\eta2\sup\|\ddot\theta\|\frac{e^{\beta t}-1}\beta$ "
        r"of gradient flow, and for a convex risk and $\eta\le2/\beta$ within "
        r"$\frac\eta2\sup\|\ddot\theta\|\,t$.",
        sources=("bartlett2021deep",),
        setup=_slow_race,
        predict=_predict_error,
        measure=_euler_error,
        assumptions=(_stable, _convex),
        relation=AtMost(),
        mutants=(
            Mutant("a half too much", {"predict": partial(_predict_error, half=0.5)}),
            Mutant("step squared", {"predict": partial(_predict_error, power=2)}),
        ),
    ),
    Claim(
        id="OPT-7",
        name="descent-and-flow-share-their-arc-length",
        statement=r"$k$ steps of gradient descent correspond to the time $\eta k$ of gradient flow: the length "
        r"$\eta\sum_{i<k}\|\nabla F(w_i)\|$ tends to $\int_0^{\eta k}\|\nabla F\|\,ds$ as $\eta\to0$.",
        sources=("telgarsky2021deep",),
        setup=_race,
        predict=_predict_length,
        measure=_descent_length,
        assumptions=(_small_steps, _bends),
        relation=Equal(),
        mutants=(
            Mutant("lost factor eta", {"measure": partial(_descent_length, divide=True)}),
            Mutant("distance for length", {"predict": partial(_predict_length, straight=True)}),
            Mutant("twice the time", {"predict": partial(_predict_length, units=2.0)}),
        ),
    ),
    Claim(
        id="OPT-7b",
        name="arc-length-of-gradient-flow",
        statement=r"The arc length of gradient flow until $t$ is at most $\sqrt{t\,(F(w_0)-\inf F)}$, and, where "
        r"$\|\nabla F\|^2\ge\mu(F-F_*)$, at most $\frac2{\sqrt\mu}\sqrt{F(w_0)-F_*}$.",
        sources=("telgarsky2021deep",),
        setup=SlowFlow,
        predict=_predict_lengths,
        measure=_lengths,
        assumptions=(_strongly_convex,),
        relation=AtMost(),
        draws=8,
        mutants=(
            Mutant("root lost", {"predict": partial(_predict_lengths, root=1.0)}),
            Mutant("factor 2 lost", {"predict": partial(_predict_lengths, factor=0.5)}),
        ),
    ),
)
