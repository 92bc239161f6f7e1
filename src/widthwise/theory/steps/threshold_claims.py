"""Claims about the largest stable rate, the best one, and what momentum, decay and rates per parameter do to it."""

from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import MLP, sample
from widthwise.numerics import Estimate, Loss, UpdateRule
from widthwise.operators import empirical_kernel, jacobian_matrix, linearize, parameters

from .setups import FIELD, THRESHOLD_ERROR, Quadratic, largest_stable, rule_step, start_of, steady_factor


class Regression(eqx.Module):
    r"""Linear regression with realisable targets: columns of X (p, N), $f = \theta^\top X$, $Y = \theta_*^\top X$."""

    X: Float[Array, "p N"]
    losses: tuple[str, ...] = eqx.field(static=True, default=("half-sum", "half-mean"))


def _regression() -> Regression:
    return Regression(jnp.asarray(np.random.default_rng(0).normal(size=(7, 4))))


def _step_on(loss: str, rate: Array, X: Array):
    scale = Loss(loss, X.shape[1]).scale

    def value(error):
        return 0.5 * scale * jnp.sum((error @ X) ** 2)

    return lambda error: error - rate * jax.grad(value)(error)


def _stable_rates(setup: Regression, key: Array) -> np.ndarray:
    """Where descent in the parameters begins to diverge, from a random error in the span of the data."""
    start = setup.X @ jr.normal(key, (setup.X.shape[1],))
    most = 5.0 * setup.X.shape[1] / jnp.linalg.norm(setup.X, 2) ** 2
    return np.array([largest_stable(_step_on, loss, start, most, setup.X) for loss in setup.losses])


def _predict_stable(setup: Regression, numerator=1.0, counted=True) -> Estimate:
    top, count = float(jnp.linalg.norm(setup.X, 2) ** 2), setup.X.shape[1] if counted else 1
    value = np.array([numerator * Loss(loss, count).largest_rate(top) for loss in setup.losses])
    return Estimate(value, THRESHOLD_ERROR * value)


def _some_data(setup: Regression) -> str | None:
    return None if float(jnp.max(jnp.abs(setup.X))) > 0 else "no rate diverges because the inputs are zero"


class Speeds(eqx.Module):
    """Descent of some rates on a quadratic."""

    loss: Quadratic
    rates: Float[Array, " r"]


def _speeds() -> Speeds:
    return Speeds(Quadratic(jnp.array([1.0, 0.1])), jnp.array([1.0, 20.0 / 11.0, 1.9, 2.0, 2.05]))


@eqx.filter_jit
def _factors(setup: Speeds, key: Array) -> Array:
    """The factors per step in the long run, by which the distance to the minimum changes."""
    H = setup.loss.turned(key)
    start = jr.normal(key, (len(H),))
    return jax.vmap(lambda rate: steady_factor(lambda w: w - rate * (H @ w), start))(setup.rates)


def _predict_factors(setup: Speeds, only_slowest=False) -> Estimate:
    modes = np.min(setup.loss.spectrum) if only_slowest else np.asarray(setup.loss.spectrum)[:, None]
    found = np.abs(1.0 - np.asarray(setup.rates) * modes)
    return Estimate(found if only_slowest else found.max(axis=0), 1e-12)


def _predict_best_given(setup: Speeds) -> Estimate:
    """The best rate's factor for every rate."""
    kappa = float(jnp.max(setup.loss.spectrum) / jnp.min(setup.loss.spectrum))
    return Estimate(np.full(len(setup.rates), (kappa - 1) / (kappa + 1)), 1e-12)


def _definite(setup: Speeds) -> str | None:
    least = float(jnp.min(setup.loss.spectrum))
    return None if least > 0 else f"modes that do not move have no rate of convergence because lambda_min = {least:g}"


class Rules(eqx.Module):
    """Rules of a step on a quadratic."""

    loss: Quadratic
    rules: tuple[UpdateRule, ...] = eqx.field(static=True)


def _rules() -> Rules:
    rules = (
        UpdateRule(),
        UpdateRule(0.5),
        UpdateRule(0.9),
        UpdateRule(0.5, nesterov=True),
        UpdateRule(0.9, nesterov=True),
    )
    return Rules(Quadratic(jnp.array([3.0, 1.0, 0.2])), rules)


def _decays() -> Rules:
    decays = tuple(
        UpdateRule(beta, nesterov, 0.5, decoupled)
        for beta, nesterov, decoupled in (
            (0.0, False, True),
            (0.9, False, False),
            (0.9, False, True),
            (0.9, True, True),
        )
    )
    return Rules(Quadratic(jnp.array([3.0, 1.0, 0.2])), (*decays, UpdateRule(0.9, averaged=True)))


def _thresholds(setup: Rules, key: Array) -> np.ndarray:
    """Where runs with each rule begin to diverge, in units of 2 over the sharpness."""
    H, start = setup.loss.turned(key), start_of(key, len(setup.loss.spectrum))
    unit = 2.0 / jnp.max(setup.loss.spectrum)
    most = [2.5 * unit / (1.0 - rule.momentum if rule.averaged else 1.0) for rule in setup.rules]
    found = [largest_stable(rule_step, rule, start, top, H) for rule, top in zip(setup.rules, most, strict=True)]
    return np.array(found) / float(unit)


def _predict_thresholds(setup: Rules, **changes) -> Estimate:
    top = float(jnp.max(setup.loss.spectrum))
    found = np.array([replace(rule, **changes).largest_rate(top) for rule in setup.rules])
    return Estimate(found * top / 2.0, THRESHOLD_ERROR * found * top)


def _predict_slowed(setup: Rules) -> Estimate:
    """Momentum as a rate longer by 1/(1 - beta), which it is for slow modes only."""
    found = np.array([1.0 - rule.momentum for rule in setup.rules])
    return Estimate(found, THRESHOLD_ERROR)


def _sharp(setup: Rules) -> str | None:
    top = float(jnp.max(setup.loss.spectrum))
    return None if top > 0 else f"no rate diverges because the sharpness is {top:g}"


class Rated(eqx.Module):
    """The linearised twin of a network, and a rate for every parameter up to a common factor."""

    jacobian: Float[Array, "N p"]
    rates: Float[Array, " p"]


def _rated() -> Rated:
    twin = linearize(sample(MLP(width=8, depth=2).network(outputs=2), jr.key(0), in_size=3))
    J = jacobian_matrix(twin, jr.normal(jr.key(1), (4, 3)))
    J = J.reshape(-1, J.shape[-1])
    return Rated(J, jnp.exp(jr.normal(jr.key(2), (J.shape[1],))))


def _rated_step(_: None, rate: Array, J: Array, rates: Array):
    slope = jax.grad(lambda change: 0.5 * jnp.sum((J @ change) ** 2))
    return lambda change: change - rate * rates * slope(change)


def _rated_threshold(setup: Rated, key: Array) -> np.ndarray:
    J, start = setup.jacobian, setup.jacobian.T @ jr.normal(key, (len(setup.jacobian),))
    most = 4.0 / (jnp.linalg.norm(J, 2) ** 2 * jnp.min(setup.rates))
    return np.array(largest_stable(_rated_step, None, start * setup.rates, most, J, setup.rates))


def _predict_rated(setup: Rated, power=0.5) -> Estimate:
    effective = setup.jacobian * setup.rates[None] ** power
    value = 2.0 / float(jnp.linalg.norm(effective, 2)) ** 2
    return Estimate(value, THRESHOLD_ERROR * value)


def _predict_common(setup: Rated) -> Estimate:
    value = 2.0 / float(jnp.linalg.norm(setup.jacobian, 2) ** 2 * jnp.mean(setup.rates))
    return Estimate(value, THRESHOLD_ERROR * value)


def _rates_positive(setup: Rated) -> str | None:
    least = float(jnp.min(setup.rates))
    return None if least > 0 else f"a parameter moves away from the minimum because its rate is {least:g}"


class Contraction(eqx.Module):
    r"""The linearised twin of a network on n inputs, and rates in units of $n/\lambda_\infty$."""

    twin: Any
    X: Float[Array, "n d"]
    rates: Float[Array, " r"]


def _contraction() -> Contraction:
    X = jr.normal(jr.key(1), (6, 4))
    return Contraction(
        linearize(sample(MLP(width=32, depth=1).network(), jr.key(0), in_size=4)), X, jnp.array([0.5, 1.0, 1.9, 2.1])
    )


def _spectrum_of(setup: Contraction) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.eigh(np.asarray(empirical_kernel(setup.twin, setup.X)).reshape(len(setup.X), -1))


@eqx.filter_jit
def _one_step_factors(twin, X, rates, directions):
    """The largest factor over the residuals given as columns, by a step in the parameters."""
    leaves, rebuild = parameters(twin)
    before = jax.vmap(twin)(X)[:, 0]

    def factor(rate, residual):
        def loss(new):
            return 0.5 * jnp.mean((jax.vmap(rebuild(new))(X)[:, 0] - before + residual) ** 2)

        slope = jax.grad(loss)(leaves)
        moved = rebuild(tuple(leaf - rate * part for leaf, part in zip(leaves, slope, strict=True)))
        after = jax.vmap(moved)(X)[:, 0] - before + residual
        return jnp.linalg.norm(after) / jnp.linalg.norm(residual)

    return jax.vmap(lambda rate: jnp.max(jax.vmap(lambda r: factor(rate, r))(directions.T)))(rates)


def _contracted(setup: Contraction, key: Array, counted=True) -> Array:
    values, vectors = _spectrum_of(setup)
    unit = (len(setup.X) if counted else 1) / values[-1]
    return _one_step_factors(setup.twin, setup.X, unit * setup.rates, jnp.asarray(vectors))


def _predict_contraction(setup: Contraction, only_slowest=False) -> Estimate:
    values, _ = _spectrum_of(setup)
    shares = np.array([values[0]] if only_slowest else [values[0], values[-1]]) / values[-1]
    return Estimate(np.abs(1.0 - np.outer(np.asarray(setup.rates), shares)).max(axis=1), 1e-10)


def _kernel_definite(setup: Contraction) -> str | None:
    values, _ = _spectrum_of(setup)
    if values[0] > 1e-12 * values[-1]:
        return None
    return f"a residual that the kernel does not see stays because lambda_0 = {values[0]:.3g}"


CLAIMS = (
    Claim(
        id="INIT-31",
        name="largest-stable-rate-of-descent",
        statement=r"Gradient descent on a linear model converges from every start iff "
        r"$\eta<2/\lambda_{max}(\Theta)$ under the sum loss $\frac12\|f-Y\|^2$, and iff "
        r"$\eta<2N/\lambda_{max}(\Theta)$ under the mean loss $\frac1{2N}\|f-Y\|^2$; "
        r"$\lambda_{max}(\Theta)=\lambda_{max}(XX^\top)$.",
        sources=("nesterov2018lectures", "bartlett2021deep"),
        field=FIELD,
        setup=_regression,
        predict=_predict_stable,
        measure=_stable_rates,
        relation=Equal(),
        assumptions=(_some_data,),
        draws=4,
        mutants=(
            Mutant("1/lambda for 2/lambda", {"predict": partial(_predict_stable, numerator=0.5)}),
            Mutant("mean loss without N", {"predict": partial(_predict_stable, counted=False)}),
        ),
    ),
    Claim(
        id="INIT-32",
        name="speed-of-descent-and-its-best-rate",
        statement=r"In the long run descent with rate $\eta$ shrinks the distance to the minimum by "
        r"$\max_i|1-\eta\lambda_i|$ per step, least at $\eta=2/(\lambda_{max}+\lambda_{min})$, where it is "
        r"$(\kappa-1)/(\kappa+1)$; beyond that the steepest mode is the slowest.",
        sources=("nesterov2018lectures", "polyak1964methods"),
        field=FIELD,
        setup=_speeds,
        predict=_predict_factors,
        measure=_factors,
        relation=Equal(),
        assumptions=(_definite,),
        draws=4,
        mutants=(
            Mutant("1 - eta lambda_min at every rate", {"predict": partial(_predict_factors, only_slowest=True)}),
            Mutant("the best factor at every rate", {"predict": _predict_best_given}),
        ),
    ),
    Claim(
        id="INIT-34",
        name="rates-per-parameter-weight-the-kernel",
        statement=r"With a rate $\eta_j$ for every parameter, descent on a linear model under $\frac12\|f-Y\|^2$ is "
        r"stable iff $\lambda_{max}(\Theta^\eta)<2$, $\Theta^\eta=J\,\mathrm{diag}(\eta)J^\top=\tilde J\tilde J^\top$ "
        r"with $\tilde J_j=\sqrt{\eta_j}\,\partial_jf$.",
        sources=("bartlett2021deep", "sohldickstein2020infinite"),
        field=FIELD,
        setup=_rated,
        predict=_predict_rated,
        measure=_rated_threshold,
        relation=Equal(),
        assumptions=(_rates_positive,),
        draws=2,
        mutants=(
            Mutant("eta for its root in the Jacobian", {"predict": partial(_predict_rated, power=1.0)}),
            Mutant("the mean rate for all", {"predict": _predict_common}),
        ),
    ),
    Claim(
        id="HESS-27",
        name="sharpness-that-a-rate-allows",
        statement=r"On a quadratic of sharpness S descent is stable iff $\eta S<2$, with the momentum $\beta$ of the "
        r"heavy ball iff $\eta S<2(1+\beta)$, and with Nesterov's iff $\eta S<2(1+\beta)/(1+2\beta)$.",
        sources=("polyak1964methods", "nesterov1983method", "cohen2021gradient"),
        field=FIELD,
        setup=_rules,
        predict=_predict_thresholds,
        measure=_thresholds,
        relation=Equal(),
        assumptions=(_sharp,),
        draws=2,
        mutants=(
            Mutant("Nesterov's as the heavy ball's", {"predict": partial(_predict_thresholds, nesterov=False)}),
            Mutant("momentum as a longer rate", {"predict": _predict_slowed}),
        ),
    ),
    Claim(
        id="HESS-27b",
        name="sharpness-that-a-rate-allows-with-decay",
        statement=r"A coupled weight decay $\omega$ counts as curvature. A decoupled one gives "
        r"$\eta<2(1+\beta)/(S+(1+\beta)\omega)$ for the heavy ball and "
        r"$\eta<2(1+\beta)/((1+2\beta)S+(1+\beta)\omega)$ for Nesterov; a momentum that is an "
        r"average allows $\eta S<2(1+\beta)/(1-\beta)$.",
        sources=("loshchilov2019decoupled", "cohen2021gradient"),
        derived_here=True,
        field=FIELD,
        setup=_decays,
        predict=_predict_thresholds,
        measure=_thresholds,
        relation=Equal(),
        assumptions=(_sharp,),
        draws=2,
        mutants=(
            Mutant("all decays coupled", {"predict": partial(_predict_thresholds, decoupled=False)}),
            Mutant("no decay", {"predict": partial(_predict_thresholds, weight_decay=0.0)}),
            Mutant("the average as a sum", {"predict": partial(_predict_thresholds, averaged=False)}),
        ),
    ),
    Claim(
        id="LAZY-32",
        name="fixed-kernel-contracts-in-every-step",
        statement=r"Under $L=\frac1{2n}\|z-Y\|^2$ a step with a fixed kernel maps the residual by "
        r"$I-\frac\gamma nK$, so that it shrinks at least by "
        r"$\max(|1-\gamma\lambda_0/n|,|1-\gamma\lambda_\infty/n|)$, which is below 1 iff $\gamma<2n/\lambda_\infty$.",
        sources=("bartlett2021deep", "lee2019wide"),
        setup=_contraction,
        predict=_predict_contraction,
        measure=_contracted,
        relation=Equal(),
        assumptions=(_kernel_definite,),
        mutants=(
            Mutant("1/n lost", {"measure": partial(_contracted, counted=False)}),
            Mutant("the slow end alone", {"predict": partial(_predict_contraction, only_slowest=True)}),
        ),
    ),
)
