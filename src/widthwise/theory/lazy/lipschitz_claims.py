"""Certified Lipschitz constants of the Jacobian, attacked."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from widthwise.activations import activation
from widthwise.claims import AtMost, Claim, Mutant
from widthwise.networks import MLP, Apply, Chain, Dense, sample
from widthwise.numerics import Estimate

from .certificates import uncertain
from .curvature import attack, difference_quotient
from .lipschitz import shallow_local
from .problem import LazyProblem, model_problem, shallow_problem
from .setups import problems
from .shallow import Shallow


@dataclass(frozen=True, eq=False)
class Target:
    """A problem whose Lipschitz constant is attacked within a radius, with ``pairs`` by difference quotients too."""

    problem: LazyProblem
    radius: float
    pairs: bool = True


def targets(setup) -> tuple[Target, ...]:
    """The targets of a setup; a user's problem is attacked at its start and within its certified ball."""
    if isinstance(setup, tuple) and all(isinstance(one, Target) for one in setup):
        return setup
    found = []
    for problem in problems(setup):
        seen = problem.tangency
        reach = seen.residual / (problem.alpha * seen.sigma) if seen.sigma else 1.0
        found += [Target(problem, 0.0), Target(problem, 2 * reach)]
    return tuple(found)


def _certified(setup) -> str | None:
    """Smooth activations, and an architecture for which a bound is known."""
    return next((why for one in targets(setup) if (why := uncertain(one.problem.smoothness(one.radius), np.nan))), None)


@functools.cache
def _default() -> tuple[Target, ...]:
    """A trained first layer, globally and on intervals, both layers of a network, and three layers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = np.array([1.0, -1.0, 1.0, -1.0])
    net = Shallow(jnp.asarray(rng.normal(size=(5, 3))), jnp.ones(5), activation("tanh"), 5**-0.5)
    first = shallow_problem(net, X, y)
    local = LazyProblem(first.f, first.w0, y, 1.0, shallow_local(X, net.W, net.signs, net.activation, net.scale))
    deeper = Chain((Dense(1.5, 0.1, 4), Apply("tanh"), Dense(1.5, 0.1, 4), Apply("sigmoid"), Dense(1.0, 0.0, 1)))
    models = [sample(MLP(6, 1, "gelu").network(), jr.key(0), 3), sample(deeper, jr.key(1), 3)]
    both, deep = (model_problem(model, X, y) for model in models)
    shallow = Target(first, 2.0), Target(local, 0.0), Target(local, 0.3)
    return *shallow, Target(both, 0.0, False), Target(both, 1.0, False), Target(deep, 0.3, False)


def _predict(factor: float) -> Callable[..., Estimate]:
    def predict(setup) -> Estimate:
        beta = np.array([one.problem.smoothness(one.radius).value for one in targets(setup)])
        return Estimate(factor * np.stack([beta, beta]), 1e-12 * np.stack([beta, beta]))

    return predict


def _measure(setup, key: Array) -> np.ndarray:
    """The largest second derivative and the largest difference quotient that were found."""
    found, chosen = [], targets(setup)
    for one, inner in zip(chosen, jr.split(key, len(chosen)), strict=True):
        f, w0 = one.problem.f, one.problem.w0
        search = attack(f, w0, one.radius, inner, restarts=6, rounds=80)
        by_pairs = one.pairs and one.radius > 0
        pairs = difference_quotient(f, w0, one.radius, inner, pairs=4) if by_pairs else search
        found.append((search.value, pairs.value))
    return np.array(found).T


CLAIMS = (
    Claim(
        id="LAZY-C3",
        name="certified-jacobian-lipschitz-constant",
        statement=(
            r"The analytic bounds on the Lipschitz constant $\beta$ of the Jacobian, "
            r"$\gamma\max_j|a_j|\,s_2\sqrt{\lambda_{max}(G\circ G)}$ for a trained first layer, its versions on "
            r"balls and with both layers trained, and the recursion over depth, lie above every "
            r"$\|J_w-J_v\|/\|w-v\|$ in their ball."
        ),
        sources=("liu2020linearity", "telgarsky2021deep"),
        setup=_default,
        predict=_predict(1.0),
        measure=_measure,
        relation=AtMost(),
        assumptions=(_certified,),
        mutants=(Mutant("half the constant", {"predict": _predict(0.5)}),),
        derived_here=True,
        draws=2,
    ),
)
