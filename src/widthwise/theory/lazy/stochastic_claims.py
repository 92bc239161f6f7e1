"""Certified stochastic gradient descent, held against many runs of it (LAZY-C6)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate

from .examples import extremal, random_quadratic
from .problem import LazyProblem
from .setups import problems, stack
from .steps_claims import SquareLoss
from .stochastic import StochasticBounds, StochasticCertificate, certify_sgd

_CHAINS, _COUNT = 1000, 50
# When the risk is looked at.
_TIMES = (2, 5, 10, 50)


@dataclass(frozen=True, eq=False)
class Walks:
    r"""Means over many runs: ``risk`` (k,) of $\hat R_k1_{k<\tau}$, ``path`` until $\tau$, ``exits`` their part."""

    risk: Float[np.ndarray, " k"]
    path: float
    exits: float


def walk(
    problem: LazyProblem,
    bounds: StochasticBounds,
    key: Array,
    *,
    chains: int = _CHAINS,
    count: int = _COUNT,
    weight: float = 1.0,
) -> Walks:
    """Run stochastic gradient descent; ``weight`` multiplies the gradient, and 1 is the unbiased one.

    >>> problem = extremal(y=0.002)
    >>> walk(problem, certify_sgd(problem).demand(), jr.key(0), chains=8, count=4).exits
    0.0
    """
    with jax.enable_x64(True):
        loss = SquareLoss(problem.f, jnp.asarray(problem.y), jnp.asarray(problem.alpha))
        numbers = jnp.asarray([bounds.step * weight, bounds.radius])
        shape = chains, count, bounds.batch
        found = _walks(loss, jnp.asarray(problem.w0), numbers, key, shape)
        risk, path, exits = (np.asarray(part) for part in found)
    return Walks(risk, float(path), float(exits))


@eqx.filter_jit
def _walks(loss: SquareLoss, w0: Array, numbers: Array, key: Array, shape: tuple[int, int, int]):
    chains, count, batch = shape
    step, radius = numbers
    examples = jr.randint(key, (count + 1, chains, batch), 0, loss.y.size)

    def advance(state, chosen):
        """The risk before the step comes out."""
        w, path, inside = state
        r, pull = jax.vjp(loss.residual, w)
        share = jnp.zeros_like(r).at[chosen].add(r.size / batch)
        move = step * pull(share * r)[0]
        still = inside & (jnp.linalg.norm(w - move - w0) <= radius)
        length = path + jnp.where(inside, jnp.linalg.norm(move), 0.0)
        return (w - move, length, still), jnp.where(inside, 0.5 * jnp.sum(r**2), 0.0)

    start = jnp.tile(w0[None], (chains, 1)), jnp.zeros(chains), jnp.ones(chains, bool)
    (_, path, inside), risks = jax.lax.scan(jax.vmap(advance), start, examples)
    return jnp.mean(risks, axis=1), jnp.mean(path), jnp.mean((~inside).astype(float))


def _certified(setup) -> str | None:
    """The certificate applies: full row rank, a certified Lipschitz constant, and a residual that is small enough."""
    return next((why for problem in problems(setup) if (why := certify_sgd(problem).reason)), None)


@functools.cache
def _default() -> tuple[LazyProblem, ...]:
    """Orthogonal gradients, for which the bound on the risk is nearly attained, and a random map."""
    return extremal(1.0, 1e-3, 0.01, others=1.0), random_quadratic(1, 1.5, 0.002)


# From a certificate to the bounds that are claimed.
BoundsOf = Callable[[StochasticCertificate], StochasticBounds]


def _honest(certificate: StochasticCertificate) -> StochasticBounds:
    """The bounds with six tenths of the largest step, where the means of runs can be told from them."""
    bounds = certificate.demand()
    return replace(bounds, step=0.6 * bounds.step)


def _wide_steps(certificate: StochasticCertificate) -> StochasticBounds:
    r"""$\eta \le \sigma_*^2/(HB^2)$, without n."""
    bounds = _honest(certificate)
    return replace(bounds, step=bounds.n * bounds.step)


def _twice_as_fast(certificate: StochasticCertificate) -> Any:
    r"""$(1-2\eta\sigma_*^2)^k$, the rate of the risk under the flow."""
    bounds = _honest(certificate)
    return replace(bounds, sigma=bounds.sigma * 2**0.5)


def _predict(bounds_of: BoundsOf) -> Callable[..., Estimate]:
    def predict(setup) -> Estimate:
        rows = []
        for problem in problems(setup):
            bounds = bounds_of(certify_sgd(problem))
            rows += [bounds.risk(np.array(_TIMES)) / bounds.risk(0), bounds.path, bounds.exit_probability]
        return Estimate(stack(rows), 0.0)

    return predict


def _measure(setup, key: Array, bounds_of: BoundsOf = _honest, biased: bool = False) -> np.ndarray:
    rows = []
    for problem, inner in zip(problems(setup), jr.split(key, len(problems(setup))), strict=True):
        bounds = bounds_of(certify_sgd(problem))
        seen = walk(problem, bounds, inner, weight=1.0 / bounds.n if biased else 1.0)
        rows += [seen.risk[list(_TIMES)] / seen.risk[0], seen.path, seen.exits]
    return stack(rows)


CLAIMS = (
    Claim(
        id="LAZY-C6",
        name="stochastic-descent-certificate",
        statement=(
            r"One-sample stochastic gradient descent with $\eta \le \sigma_*^2/(HnB^2)$, whose constants hold on a "
            r"ball of radius R enlarged by one step, has $E[\hat R_k1_{k<\tau}] \le (1-\eta\sigma_*^2)^k\hat R_0$ "
            r"until it leaves the ball at $\tau$, an expected path until then of at most $2\sqrt nBr_0/\sigma_*^2$, "
            r"and $P(\tau < \infty) \le 2\sqrt nBr_0/(\sigma_*^2R)$."
        ),
        sources=("oymak2019overparameterized", "liu2022loss"),
        setup=_default,
        predict=_predict(_honest),
        measure=_measure,
        relation=AtMost(of="mean"),
        assumptions=(_certified,),
        mutants=(
            Mutant("the rate of the flow", {"predict": _predict(_twice_as_fast)}),
            Mutant("a gradient without n", {"measure": functools.partial(_measure, biased=True)}),
            Mutant(
                "steps without n",
                {"predict": _predict(_wide_steps), "measure": functools.partial(_measure, bounds_of=_wide_steps)},
            ),
        ),
        derived_here=True,
        draws=10,
    ),
)
