r"""How fast gradient flow decreases a risk: Gronwall, the PL inequality, strong convexity.

Legend: $R$ a risk with infimum $R_*$, $\lambda$ strong convexity, $\mu$ the PL constant in one of two
conventions that differ by a factor 2 and are told apart by name:
``"squared"``  $\|\nabla R\|^2 \ge \mu(R - R_*)$,  rate $e^{-\mu t}$;
``"half"``     $\tfrac12\|\nabla R\|^2 \ge \mu(R - R_*)$,  rate $e^{-2\mu t}$.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate, reject

from .integrate import FLOW_ERROR, integrate, risk_flow
from .landscapes import WAVY_PL, random_rotation, slow_landscape, wavy_parabola

PL_CONVENTIONS = {"squared": 1.0, "half": 2.0}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def gronwall(rate: Callable, initial, times: Float[Array, " T"]) -> Float[Array, " T"]:
    r"""Bound u(t) by $u(0)\exp\int_0^t\theta(s)\,ds$ where $\dot u \le \theta(t)\,u$; u may have any sign.

    The integral is a Gauss-Legendre sum of 48 nodes, right to rounding for a smooth ``rate``.
    Source: gronwall1919note.

    >>> round(gronwall(lambda t: -2.0 / (1.0 + t), 16.0, jnp.array([3.0])).item(), 12)
    1.0
    """
    nodes = 0.5 * jnp.outer(times, jnp.asarray(_NODES + 1.0))
    integrals = 0.5 * times * (jax.vmap(jax.vmap(rate))(nodes) @ jnp.asarray(_WEIGHTS))
    return initial * jnp.exp(integrals)


def decay_rate(times, values) -> float:
    r"""The largest rate $\hat\mu$ with $u(t) \le u(s)e^{-\hat\mu(t-s)}$ for all recorded $s \le t$.

    Values below $10^{-14}u(0)$ are rounding and are left out. Raises ``ValueError`` for values that
    are not positive at the start.

    >>> t = np.linspace(0.0, 3.0, 4)
    >>> round(decay_rate(t, np.exp(-0.5 * t)), 12)
    0.5
    """
    times, values = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    if times.shape != values.shape or times.size < 2 or not values[0] > 0:
        reject(
            f"times of shape {times.shape} and values of shape {values.shape}",
            "A rate needs at least two times and as many values, the first one positive",
            "Record u before it has vanished",
        )
    kept = values > 1e-14 * values[0]
    kept = np.arange(times.size) < (times.size if kept.all() else int(np.argmin(kept)))
    return float(np.min(-np.diff(np.log(values[kept])) / np.diff(times[kept])))


def pl_constant(risk: Callable[[Array], Array], point: Float[Array, " d"], infimum=0.0, convention="squared"):
    r"""The PL constant at one point, $\mu = \|\nabla R\|^2/(R - R_*)$ or, in the convention ``"half"``, half of it.

    Source: polyak1963gradient, karimi2016linear.

    >>> pl_constant(lambda w: 0.5 * w @ w, jnp.array([3.0]), convention="half").item()
    1.0
    """
    value, slope = jax.value_and_grad(risk)(point)
    return jnp.sum(slope**2) / (value - infimum) / _convention(convention)


def pl_decay(pl, time, convention="squared"):
    r"""Bound $(R(\theta_t)-R_*)/(R(\theta_0)-R_*)$ by $e^{-\mu t}$, or $e^{-2\mu t}$ in the ``"half"`` convention.

    >>> round(float(pl_decay(0.5, 2.0)), 10), round(float(pl_decay(0.5, 2.0, "half")), 10)
    (0.3678794412, 0.1353352832)
    """
    return jnp.exp(-_convention(convention) * pl * time)


def network_pl(sigma_min, count: int, alpha=1.0, loss: str = "half-sum", convention="squared"):
    r"""The PL constant that the tangent kernel guarantees at $w$.

    $2\alpha^2\sigma_{min}(J_w)^2$ under the loss ``"half-sum"``, divided by the number of outputs
    n = ``count`` under ``"half-mean"``; half of it in the convention ``"half"``.

    >>> network_pl(3.0, 2, loss="half-mean")
    9.0
    """
    clock = count if loss == "half-mean" else 1
    return 2.0 * (alpha * sigma_min) ** 2 / clock / _convention(convention)


def strongly_convex_decay(convexity, time):
    r"""Bound $F(w_t)-F_*$ and $\frac12\|w_t-\bar w\|^2$, each over its initial value, by $e^{-2\lambda t}$.

    Source: nesterov2018lectures.

    >>> round(float(strongly_convex_decay(1.0, 1.0)), 10)
    0.1353352832
    """
    return jnp.exp(-2.0 * convexity * time)


def _convention(name: str) -> float:
    if name not in PL_CONVENTIONS:
        reject(
            f"convention={name!r}", f"The conventions are {', '.join(map(repr, PL_CONVENTIONS))}", "Choose one by name"
        )
    return PL_CONVENTIONS[name]


class Forced(eqx.Module):
    r"""$\dot u = \theta(t)u - s(t)$ with a random loss $s(t) = a\sin^2(\omega t+\phi)$, $0 \le a \le$ ``loss``."""

    rate: Callable = eqx.field(static=True)
    times: Float[Array, " T"]
    initial: float = 2.0
    loss: float = 0.01


def _fading(t):
    return -2.0 / (1.0 + t)


def _forced() -> Forced:
    return Forced(_fading, jnp.array([0.1, 0.5, 1.0, 3.0]))


@eqx.filter_jit
def _forced_solution(setup: Forced, key):
    size, frequency, phase = jr.uniform(key, (3,)) * jnp.array([setup.loss, 5.0, jnp.pi])

    def field(t, u):
        return setup.rate(t) * u - size * jnp.sin(frequency * t + phase) ** 2

    return integrate(field, jnp.asarray(setup.initial), setup.times)


def _predict_forced(setup: Forced, doubled=1.0, start=None) -> Estimate:
    value = gronwall(lambda t: doubled * setup.rate(t), setup.initial if start is None else start, setup.times)
    return Estimate(value, FLOW_ERROR * setup.initial)


def _predict_frozen(setup: Forced) -> Estimate:
    return Estimate(setup.initial * jnp.exp(setup.rate(0.0) * setup.times), 0.0)


class Valley(eqx.Module):
    """A risk of one variable with its PL constant (``"squared"``) on the interval up to ``reach``."""

    risk: Callable = eqx.field(static=True)
    pl: float
    times: Float[Array, " T"]
    reach: float = 4.0


def _valley() -> Valley:
    return Valley(wavy_parabola, WAVY_PL, jnp.array([0.02, 0.1, 0.5, 1.0]))


@eqx.filter_jit
def _slowest(setup: Valley, key):
    """The largest risk ratio over 256 random starts."""
    starts = jr.uniform(key, (256, 1), minval=-setup.reach, maxval=setup.reach)
    paths = jax.vmap(lambda start: risk_flow(setup.risk, start, setup.times)["point"])(starts)
    risks, before = jax.vmap(jax.vmap(setup.risk))(paths), jax.vmap(setup.risk)(starts)
    return jnp.max(risks / before[:, None], axis=0)


def _predict_valley(setup: Valley, convention="squared") -> Estimate:
    return Estimate(pl_decay(setup.pl, setup.times, convention), 10 * FLOW_ERROR)


def _least_at_zero(setup: Valley) -> str | None:
    value = float(setup.risk(jnp.zeros(1)))
    return (
        None if value == 0.0 else f"the ratio refers to the infimum 0 at 0 because R_* is not given; R(0) = {value:.3g}"
    )


def _pl_everywhere(setup: Valley) -> str | None:
    """The inequality on a grid; its minimum is smooth, so a grid of 4001 misses it by less than 1e-5."""
    grid = jnp.linspace(0.001, setup.reach, 4001)[:, None]
    least = float(jnp.min(jax.jit(jax.vmap(partial(pl_constant, setup.risk)))(jnp.concatenate([grid, -grid]))))
    if least >= setup.pl * (1 - 1e-5):
        return None
    return f"mu = {setup.pl:.6g} is no PL constant because |R'|^2/R falls to {least:.6g}"


class Bowl(eqx.Module):
    """Flows on random strongly convex landscapes, started near their slow direction."""

    times: Float[Array, " T"]
    convexity: float = 0.5


def _bowl() -> Bowl:
    return Bowl(jnp.array([0.1, 0.5, 1.0, 4.0]))


@eqx.filter_jit
def _bowl_ratios(setup: Bowl, key, relative=True):
    """Gap and squared distance along the flow, over their initial values."""
    landscape, start = slow_landscape(key, setup.convexity)
    points = risk_flow(landscape, start, setup.times)["point"]
    ratios = jax.vmap(lambda w: _gap_and_distance(landscape, w))(points)
    return ratios / (_gap_and_distance(landscape, start)[None] if relative else 1.0)


def _gap_and_distance(risk, w):
    return jnp.stack([risk(w), 0.5 * jnp.vdot(w, w)])


def _predict_bowl(setup: Bowl, factor=1.0) -> Estimate:
    decay = strongly_convex_decay(factor * setup.convexity, setup.times)
    return Estimate(jnp.stack([decay, decay], axis=1), 10 * FLOW_ERROR)


@eqx.filter_jit
def _slow_direction(setup: Bowl, key):
    """The same ratios for a quadratic with eigenvalues lambda, 3 lambda, 9 lambda along its slowest direction."""
    frame = random_rotation(key, 3)
    stretch = setup.convexity * jnp.array([1.0, 3.0, 9.0])

    def risk(w):
        return jnp.sum(stretch * (frame @ w) ** 2) / setup.convexity

    points = risk_flow(lambda w: 0.5 * setup.convexity * risk(w), frame[0], setup.times)["point"]
    return jax.vmap(lambda w: jnp.stack([risk(w), jnp.vdot(w, w)]))(points)


def _strongly_convex(setup: Bowl) -> str | None:
    return None if setup.convexity > 0 else f"the risk is not strongly convex because lambda = {setup.convexity:g}"


CLAIMS = (
    Claim(
        id="OPT-2",
        name="gronwall",
        statement=r"If $\dot u\le\theta(t)\,u$ then $u(t)\le u(0)\exp\int_0^t\theta(s)\,ds$, "
        "whatever the sign of $u$.",
        sources=("gronwall1919note", "bartlett2021deep"),
        setup=_forced,
        predict=_predict_forced,
        measure=_forced_solution,
        relation=AtMost(),
        draws=8,
        mutants=(
            Mutant("rate doubled", {"predict": partial(_predict_forced, doubled=2.0)}),
            Mutant("initial value lost", {"predict": partial(_predict_forced, start=1.0)}),
            Mutant("rate frozen at the start", {"predict": _predict_frozen}),
        ),
    ),
    Claim(
        id="OPT-3",
        name="pl-gives-exponential-decay",
        statement=r"If $R-R_*\le\frac1\mu\|\nabla R\|^2$ everywhere then gradient flow satisfies "
        r"$R(\theta_t)-R_*\le e^{-\mu t}(R(\theta_0)-R_*)$, convex or not.",
        sources=("polyak1963gradient", "karimi2016linear", "bartlett2021deep"),
        setup=_valley,
        predict=_predict_valley,
        measure=_slowest,
        relation=AtMost(),
        assumptions=(_least_at_zero, _pl_everywhere),
        draws=2,
        mutants=(Mutant("rate of the other convention", {"predict": partial(_predict_valley, convention="half")}),),
    ),
    Claim(
        id="OPT-5",
        name="strong-convexity-gives-exponential-decay",
        statement=r"On a $\lambda$-strongly convex $F$ gradient flow satisfies "
        r"$F(w_t)-F_*\le e^{-2\lambda t}(F(w_0)-F_*)$ and $\|w_t-\bar w\|^2\le e^{-2\lambda t}\|w_0-\bar w\|^2$.",
        sources=("telgarsky2021deep", "nesterov2018lectures"),
        setup=_bowl,
        predict=_predict_bowl,
        measure=_bowl_ratios,
        relation=AtMost(),
        assumptions=(_strongly_convex,),
        draws=8,
        mutants=(
            Mutant("rate 4 lambda", {"predict": partial(_predict_bowl, factor=2.0)}),
            Mutant("initial gap lost", {"measure": partial(_bowl_ratios, relative=False)}),
        ),
    ),
    Claim(
        id="OPT-5b",
        name="strong-convexity-rate-is-attained",
        statement=r"The rate $e^{-2\lambda t}$ of $F(w_t)-F_*$ and of $\|w_t-\bar w\|^2$ is attained: a quadratic "
        "decays exactly so along its slowest direction.",
        sources=("telgarsky2021deep",),
        setup=_bowl,
        predict=_predict_bowl,
        measure=_slow_direction,
        relation=Equal(),
        assumptions=(_strongly_convex,),
        mutants=(Mutant("rate lambda", {"predict": partial(_predict_bowl, factor=0.5)}),),
    ),
)
