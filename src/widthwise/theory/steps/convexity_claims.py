r"""Claims about convexity towards one point: what it gives gradient flow, and which PL constant follows from it.

Legend: R a risk with the minimiser $\theta_*$ and infimum $R_*$, $\langle\theta-\theta_*,\nabla R\rangle \ge
\frac\mu2\|\theta-\theta_*\|^2$ (the restricted secant inequality), L the Lipschitz constant of $\nabla R$.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtLeast, AtMost, Claim, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy import pl_constant
from widthwise.theory.lazy.integrate import FLOW_ERROR, risk_flow
from widthwise.theory.lazy.landscapes import wavy_parabola

# Twice the least R'(x)/x of the wavy parabola, reached at |x| = 2.2467048.
WAVY_SECANT = 2 * 0.6965982307


def one_point_decay(secant, time):
    r"""Bound $\|\theta_t-\theta_*\|^2$ over its initial value by $e^{-\mu t}$.

    >>> round(float(one_point_decay(2.0, 0.5)), 10)
    0.3678794412
    """
    return jnp.exp(-jnp.asarray(secant * time))


def pl_from_secant(secant: float, smoothness: float) -> float:
    r"""The PL constant $\frac{\mu^2}{2L}$ of $\|\nabla R\|^2 \ge \mu_{PL}(R-R_*)$, which smoothness is needed for.

    >>> round(pl_from_secant(2 * 0.6965982307, 8.0), 7)
    0.1213123
    """
    return secant**2 / (2.0 * smoothness)


class Line(eqx.Module):
    """A risk of one variable, least at 0, with its constants up to ``reach``."""

    risk: Callable = eqx.field(static=True)
    secant: float
    smoothness: float
    times: Float[Array, " T"]
    reach: float = 4.0


def _wavy() -> Line:
    return Line(wavy_parabola, WAVY_SECANT, 8.0, jnp.array([0.02, 0.1, 0.5, 1.0]))


@eqx.filter_jit
def _slowest(setup: Line, key: Array) -> Array:
    """The largest ratio of squared distances over 256 random starts."""
    starts = jr.uniform(key, (256, 1), minval=-setup.reach, maxval=setup.reach)
    paths = jax.vmap(lambda start: risk_flow(setup.risk, start, setup.times)["point"])(starts)
    return jnp.max(jnp.sum(paths**2, axis=-1) / jnp.sum(starts**2, axis=-1)[:, None], axis=0)


def _predict_slowest(setup: Line, factor=1.0) -> Estimate:
    return Estimate(one_point_decay(factor * setup.secant, setup.times), 10 * FLOW_ERROR)


def _secant_everywhere(setup: Line) -> str | None:
    """The inequality on a grid; its minimum is smooth, so a grid of 4001 misses it by less than 1e-5."""
    grid = jnp.linspace(0.001, setup.reach, 4001)
    slopes = jax.vmap(jax.grad(lambda x: setup.risk(x[None])))
    least = float(jnp.min(2.0 * jnp.concatenate([slopes(grid), -slopes(-grid)]) / jnp.concatenate([grid, grid])))
    if least >= setup.secant * (1 - 1e-5):
        return None
    return f"mu = {setup.secant:.6g} does not hold because 2R'(x)/x falls to {least:.6g}"


class Pair(eqx.Module):
    """The wavy parabola, where the constant is not sharp, and a parabola, where it is."""

    wavy: Line
    round: Line


def _parabola(x: Float[Array, " 1"]) -> Float[Array, ""]:
    return jnp.sum(x**2)


def _pair() -> Pair:
    return Pair(_wavy(), Line(_parabola, 4.0, 2.0, jnp.array([1.0])))


def _least_pl(setup: Pair, key: Array) -> np.ndarray:
    """The least PL constants at random points."""
    points = jr.uniform(key, (4000, 1), minval=0.01, maxval=setup.wavy.reach)
    return np.array([jnp.min(jax.vmap(partial(pl_constant, line.risk))(points)) for line in (setup.wavy, setup.round)])


def _predict_pl(setup: Pair, power=1, half=2.0) -> Estimate:
    lines = (setup.wavy, setup.round)
    same = np.array([line.secant for line in lines])
    bounds = np.array([2.0 / half * pl_from_secant(line.secant, line.smoothness) for line in lines])
    return Estimate(bounds if power else same, 1e-9)


def _secants(setup: Pair) -> str | None:
    """Both inequalities on a grid."""
    return _secant_everywhere(setup.wavy) or _secant_everywhere(setup.round)


CLAIMS = (
    Claim(
        id="OPT-4",
        name="convexity-towards-one-point",
        statement=r"If $\langle\theta-\theta_*,\nabla R\rangle\ge\frac\mu2\|\theta-\theta_*\|^2$ then gradient flow "
        r"satisfies $\|\theta_t-\theta_*\|^2\le e^{-\mu t}\|\theta_0-\theta_*\|^2$.",
        sources=("karimi2016linear", "bartlett2021deep"),
        setup=_wavy,
        predict=_predict_slowest,
        measure=_slowest,
        relation=AtMost(),
        assumptions=(_secant_everywhere,),
        draws=2,
        mutants=(Mutant("twice the rate", {"predict": partial(_predict_slowest, factor=2.0)}),),
    ),
    Claim(
        id="OPT-4b",
        name="convexity-towards-one-point-gives-pl",
        statement=r"With an L-Lipschitz gradient, convexity towards one point with constant $\mu$ gives "
        r"$\|\nabla R\|^2\ge\frac{\mu^2}{2L}(R-R_*)$, sharp for a parabola; the same constant $\mu$ it does not give.",
        sources=("karimi2016linear",),
        setup=_pair,
        predict=_predict_pl,
        measure=_least_pl,
        relation=AtLeast(),
        assumptions=(_secants,),
        draws=2,
        mutants=(
            Mutant("the same constant", {"predict": partial(_predict_pl, power=0)}),
            Mutant("half lost", {"predict": partial(_predict_pl, half=1.0)}),
        ),
    ),
)
