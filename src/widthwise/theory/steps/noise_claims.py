r"""Claims about descent with noisy gradients: variances, schedules, batches, and the bound for convex losses.

Legend: $w_{t+1} = w_t - \eta_t(\lambda w_t + s\xi_t)$ with standard normal $\xi_t$, $v_t = E\,w_t^2$.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.networks import MLP, sample
from widthwise.numerics import Estimate
from widthwise.operators import Taylor, linearize, parameters

from .robbins_monro import stationary_variance, variances
from .setups import FIELD
from .training import trained_by_steps


class Chains(eqx.Module):
    r"""Independent chains on one mode, one row of rates (schedules, steps) for each schedule; $v_0$ = ``start``."""

    rates: Float[Array, "schedules steps"]
    curvature: float = 1.0
    noise: float = 1.0
    start: float = 1.0
    chains: int = 2000


def _schedules() -> Chains:
    """Constant rates, a/t on both sides of 2a = 1, a power, and one whose sum is finite."""
    t = np.arange(200) + 1.0
    rows = [0.1 + 0 * t, 0.5 + 0 * t, 1.0 + 0 * t, 1 / t, 2 / t, 0.3 / t, t**-0.75, 0.9 / t**2]
    return Chains(jnp.asarray(np.array(rows)))


def _constants() -> Chains:
    """Plain noise, and that of Langevin at temperature 1/4, both at rate 0.1."""
    return Chains(jnp.full((1, 160), 0.1), chains=6000)


@eqx.filter_jit
def _squares(setup: Chains, key: Array) -> Array:
    """The mean square of the chains at the end of each schedule."""

    def end(rates, key):
        begin, noise = jr.split(key)

        def step(w, at):
            rate, key = at
            return w - rate * (setup.curvature * w + setup.noise * jr.normal(key, w.shape)), None

        start = setup.start**0.5 * jr.normal(begin, (setup.chains,))
        return jnp.mean(jax.lax.scan(step, start, (rates, jr.split(noise, len(rates))))[0] ** 2)

    return jax.vmap(end)(setup.rates, jr.split(key, len(setup.rates)))


def _sizes(setup: Chains) -> np.ndarray:
    """The exact variances, as units in which all schedules count alike."""
    rows = np.asarray(setup.rates)
    return np.array([variances(row, np.array([setup.curvature]), setup.noise, setup.start)[-1, 0] for row in rows])


def _relative(setup: Chains, key: Array) -> np.ndarray:
    return np.asarray(_squares(setup, key)) / _sizes(setup)


def _predict_relative(setup: Chains, power=2) -> Estimate:
    """The recursion again, or with the noise entering by another power of the rate."""
    found = np.full(len(setup.rates), setup.start)
    for rates in np.asarray(setup.rates).T:
        found = (1.0 - rates * setup.curvature) ** 2 * found + rates**power * setup.noise**2
    return Estimate(found / _sizes(setup), 1e-12)


def _stable(setup: Chains) -> str | None:
    top = float(jnp.max(setup.rates[:, -1])) * setup.curvature
    return None if top < 2 else f"the chains run away because eta lambda = {top:g} is not below 2"


def _forgotten(setup: Chains) -> str | None:
    """The constant rates forget the start to below 1e-12 in these steps."""
    left = float(jnp.max(jnp.prod((1.0 - setup.rates * setup.curvature) ** 2, axis=1)))
    return None if left < 1e-12 else f"the variance is not stationary yet because {left:.2g} of the start is left"


def _stationary(setup: Chains, key: Array, bare=False) -> np.ndarray:
    rate = float(setup.rates[0, 0])
    langevin = eqx.tree_at(lambda one: one.noise, setup, setup.noise if bare else (2.0 / (rate * 4.0)) ** 0.5)
    first, second = jr.split(key)
    return np.concatenate([_squares(setup, first), _squares(langevin, second)])


def _predict_stationary(setup: Chains, discrete=True) -> Estimate:
    rate = float(setup.rates[0, 0])
    noises = (setup.noise, (2.0 / (rate * 4.0)) ** 0.5)
    exact = [stationary_variance(rate, setup.curvature, noise) for noise in noises]
    small = [rate * noise**2 / (2.0 * setup.curvature) for noise in noises]
    return Estimate(np.array(exact if discrete else small), 1e-12)


class Kink(eqx.Module):
    r"""$F(w) = |w|$ from $w_0 = 1$ with standard normal noise on the slope, so that $G^2 = 2$; $\eta = 1/\sqrt T$."""

    horizons: tuple[int, ...] = eqx.field(static=True, default=(100, 1600))
    start: float = 1.0
    chains: int = 500


@eqx.filter_jit
def _mean_value(setup: Kink, key: Array) -> Array:
    """The mean of $F(\\bar w_T)$ over the chains, $\\bar w_T$ the mean of the iterates before each step."""

    def run(steps, key):
        def step(w, key):
            return w - (jnp.sign(w) + jr.normal(key, w.shape)) / steps**0.5, w

        path = jax.lax.scan(step, jnp.full((setup.chains,), setup.start), jr.split(key, steps))[1]
        return jnp.mean(jnp.abs(jnp.mean(path, axis=0)))

    return jnp.stack([run(steps, one) for steps, one in zip(setup.horizons, jr.split(key, 2), strict=True)])


def _predict_kink(setup: Kink, second=2.0, root=0.5) -> Estimate:
    T = np.array(setup.horizons, dtype=float)
    return Estimate((setup.start**2 + second) / (2.0 * T**root), 0.0)


class Step(eqx.Module):
    """One step from w along a gradient g, and a reference z: rows of ``points`` (3, d)."""

    points: Float[Array, "3 d"]
    rate: float = 0.3


def _step() -> Step:
    return Step(jr.normal(jr.key(0), (3, 5)))


def _one_step(setup: Step, key: Array) -> Array:
    """The change of the squared distance to z."""
    w, g, z = setup.points
    return jnp.sum((w - setup.rate * g - z) ** 2) - jnp.sum((w - z) ** 2)


def _predict_step(setup: Step, power=2) -> Estimate:
    w, g, z = np.asarray(setup.points)
    return Estimate(-2.0 * setup.rate * (g @ (w - z)) + setup.rate**power * (g @ g), 1e-12)


class Batches(eqx.Module):
    """The linearised twin of a network, trained by batches with replacement."""

    twin: Taylor
    X: Float[Array, "n d"]
    Y: Float[Array, "n k"]
    batch: int = eqx.field(static=True, default=2)
    steps: int = eqx.field(static=True, default=8)
    rate: float = 0.15
    momentum: float = eqx.field(static=True, default=0.5)
    weight_decay: float = 0.1
    chains: int = eqx.field(static=True, default=800)


def _batches() -> Batches:
    X = jr.normal(jr.key(1), (4, 3))
    twin = linearize(sample(MLP(width=4, depth=1).network(), jr.key(0), in_size=3))
    return Batches(twin, X, jnp.sin(3.0 * X[:, :1]))


@eqx.filter_jit
def _batch_moments(setup: Batches, key: Array, replace=True) -> Array:
    """Means and mean squares of the outputs' distance from the targets, over chains of real steps."""
    leaves, rebuild = parameters(setup.twin)

    def loss(new, rows):
        return 0.5 * jnp.mean(jnp.sum((jax.vmap(rebuild(new))(setup.X[rows]) - setup.Y[rows]) ** 2, axis=1))

    def step(state, key):
        rows = jr.choice(key, len(setup.X), (setup.batch,), replace=replace)
        slope = jax.grad(loss)(state[0], rows)
        slope = tuple(part + setup.weight_decay * leaf for part, leaf in zip(slope, state[0], strict=True))
        m = tuple(setup.momentum * old + part for old, part in zip(state[1], slope, strict=True))
        return (tuple(leaf - setup.rate * part for leaf, part in zip(state[0], m, strict=True)), m), None

    def chain(key):
        state = (leaves, tuple(map(jnp.zeros_like, leaves)))
        end = jax.lax.scan(step, state, jr.split(key, setup.steps))[0][0]
        return (jax.vmap(rebuild(end))(setup.X) - setup.Y).ravel()

    r = jax.vmap(chain)(jr.split(key, setup.chains))
    return jnp.concatenate([jnp.mean(r, axis=0), jnp.mean(r[:, :, None] * r[:, None, :], axis=0).ravel()])


def _predict_batches(setup: Batches, batch: int | None = 0, **changes: Any) -> Estimate:
    options = {"momentum": setup.momentum, "weight_decay": setup.weight_decay, **changes}
    found = trained_by_steps(
        setup.twin,
        setup.X,
        setup.Y,
        steps=setup.steps,
        rate=setup.rate,
        batch=setup.batch if batch == 0 else batch,
        **options,
    )
    r = (found.outputs - found.training.targets).ravel()
    return Estimate(np.concatenate([r, (found.covariance + np.outer(r, r)).ravel()]), 1e-12)


CLAIMS = (
    Claim(
        id="INIT-33",
        name="variance-under-a-schedule-of-rates",
        statement=r"With independent noise of variance $s^2$ the mean square of a mode follows "
        r"$v_{t+1}=(1-\eta_t\lambda)^2v_t+\eta_t^2s^2$: it tends to 0 iff $\eta_t\to0$ and $\sum_t\eta_t=\infty$ (for "
        r"$\eta_t\lambda<2$), like $\frac{a^2s^2}{(2a\lambda-1)t}$ for $\eta_t=a/t$, $2a\lambda>1$, and stays above 0 "
        r"for constant rates and for a finite sum.",
        sources=("robbins1951stochastic", "bartlett2021deep"),
        field=FIELD,
        setup=_schedules,
        predict=_predict_relative,
        measure=_relative,
        relation=Equal(resolution=0.03),
        assumptions=(_stable,),
        draws=16,
        mutants=(
            Mutant("noise by the rate, not its square", {"predict": partial(_predict_relative, power=1)}),
            Mutant("noise by the cube", {"predict": partial(_predict_relative, power=3)}),
        ),
    ),
    Claim(
        id="OPT-8",
        name="averaged-noisy-descent-of-a-convex-loss",
        statement=r"With $E\|g\|^2\le G^2$ and a convex F the mean of the iterates has "
        r"$EF(\bar w_T)-F(z)\le\frac{\|w_0-z\|^2}{2\eta T}+\frac{\eta G^2}2$, which is "
        r"$\frac{\|w_0-z\|^2+G^2}{2\sqrt T}$ for $\eta=1/\sqrt T$.",
        sources=("telgarsky2021deep", "nesterov2018lectures"),
        setup=Kink,
        predict=_predict_kink,
        measure=_mean_value,
        relation=AtMost(of="mean"),
        draws=16,
        mutants=(
            Mutant("noise left out", {"predict": partial(_predict_kink, second=0.0)}),
            Mutant("1/T", {"predict": partial(_predict_kink, root=1.0)}),
        ),
    ),
    Claim(
        id="OPT-8b",
        name="one-step-and-the-distance-to-a-reference",
        statement=r"A step changes the distance to any z by "
        r"$\|w-\eta g-z\|^2-\|w-z\|^2=-2\eta\langle g,w-z\rangle+\eta^2\|g\|^2$.",
        sources=("telgarsky2021deep",),
        setup=_step,
        predict=_predict_step,
        measure=_one_step,
        relation=Equal(),
        mutants=(Mutant("1/eta^2 for eta^2", {"predict": partial(_predict_step, power=-2)}),),
    ),
    Claim(
        id="OPT-10",
        name="stationary-variance-of-noisy-descent",
        statement=r"On $\frac\lambda2w^2$ descent with gradient noise $\tau$ has the stationary variance "
        r"$\frac{\eta\tau^2}{\lambda(2-\eta\lambda)}$, and Langevin's $\sqrt{2\eta/b}\,\xi$ the variance "
        r"$\frac1{b\lambda(1-\eta\lambda/2)}$, which is the temperature $1/b$ over $\lambda$ for small rates only.",
        sources=("robbins1951stochastic",),
        derived_here=True,
        setup=_constants,
        predict=_predict_stationary,
        measure=_stationary,
        relation=Equal(resolution=0.03),
        assumptions=(_stable, _forgotten),
        draws=16,
        mutants=(
            Mutant("the limit of small rates", {"predict": partial(_predict_stationary, discrete=False)}),
            Mutant("Langevin's noise without its scale", {"measure": partial(_stationary, bare=True)}),
        ),
    ),
    Claim(
        id="OPT-10b",
        name="moments-of-descent-by-batches",
        statement=r"Mean and covariance of a linear model trained by batches of B examples drawn with replacement, "
        r"with momentum and weight decay, follow a closed recursion: the gradient's coefficients have the covariance "
        r"$\frac{s^2}B(n\,\mathrm{blockdiag}(R)-R)$, $R=E\,rr^\top$ the second moment of the residual.",
        derived_here=True,
        setup=_batches,
        predict=_predict_batches,
        measure=_batch_moments,
        relation=Equal(resolution=0.03),
        draws=16,
        mutants=(
            Mutant("full batches", {"predict": partial(_predict_batches, batch=None)}),
            Mutant("batches without replacement", {"measure": partial(_batch_moments, replace=False)}),
            Mutant("decoupled decay", {"predict": partial(_predict_batches, decoupled=True)}),
        ),
    ),
)
