"""Claims about the lazy-to-rich transition: what alpha, the label scale and pairs of neurons do to it."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from widthwise.activations import activation
from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.measure import Flow, gradient_flow
from widthwise.numerics import Estimate, exponent

from ..lazy import LazyProblem, certify, follow
from ..lazy.examples import extremal, random_quadratic
from ..lazy.landscapes import unit_inputs
from ..lazy.setups import certified_by, followed, problems, stack
from .flows import Task, departures

_TIMES = (0.3, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """Problems, the factors alpha and the label scales under which each is trained."""

    problems: tuple[LazyProblem, ...]
    pairs: tuple[tuple[float, float], ...] = ((6.0, 3.0), (0.5, 0.25), (10.0, 4.0))


def _flow(problem: LazyProblem, alpha: float, labels: float, clock: float) -> Flow:
    """The flow to the labels times a factor, at three times in seconds: ``clock`` over the rate of the problem."""
    rate = problem.at(1.0).rate
    return gradient_flow(
        problem.f, problem.w0, labels * problem.y, alpha, times=np.array(_TIMES) * clock, rate=rate, rtol=1e-10
    )


@functools.cache
def _rescaled() -> Rescaled:
    """A map whose outputs start at zero, and the same from elsewhere."""
    return Rescaled((random_quadratic(7, 3.0, 0.5), random_quadratic(7, 3.0, 0.5).moved(0.05 * np.ones(7))))


def _given(setup: Any) -> Rescaled:
    """A user's problem, or several, with the pairs of the claim."""
    return setup if isinstance(setup, Rescaled) else Rescaled(problems(setup))


def _starts_at_zero(problem: LazyProblem) -> bool:
    return not np.any(np.abs(problem.tangency.f0) > 1e-12)


def _predict_rescaled(setup: Any, power: float = -1.0, clock: float = 2.0) -> Estimate:
    """The way of the model with factor alpha/scale to the labels as they are, and h over alpha/scale.

    The arguments are mistakes.
    """
    setup = _given(setup)
    values, errors = [], []
    for problem in setup.problems:
        for alpha, labels in setup.pairs:
            ratio = alpha * labels**power
            flow = _flow(problem, ratio, 1.0, labels**clock / alpha**2)
            values.append(flow.displacements.ravel())
            errors.append(np.full(flow.displacements.size, 2.0 * flow.error))
        if _starts_at_zero(problem):
            ones = problem.at(1.0).h
            index = np.array([ones / (alpha * labels**power) for alpha, labels in setup.pairs])
            values.append(index)
            errors.append(1e-9 * index)  # the rounding of outputs that start at zero, over the labels
    return Estimate(np.concatenate(values), np.concatenate(errors))


def _measure_rescaled(setup: Any, key: Array) -> np.ndarray:
    setup, found = _given(setup), []
    for problem in setup.problems:
        for alpha, labels in setup.pairs:
            found.append(_flow(problem, alpha, labels, 1.0 / alpha**2).displacements.ravel())
        if _starts_at_zero(problem):
            found.append([replace(problem, y=labels * problem.y).at(alpha).h for alpha, labels in setup.pairs])
    return np.concatenate(found)


LABELS = Claim(
    id="LAZY-3b",
    name="label-scale-is-an-inverse-alpha",
    statement=(
        r"Training $\alpha f$ to the targets $sy$ takes the way of $\frac\alpha sf$ to $y$, $s^2$ times as fast, "
        r"whatever $f(w_0)$; so certificates and relative changes depend on $\alpha/s$ alone, and on $h = "
        r"\frac s\alpha\cdot2\beta\|y\|/\sigma_{min}^2$ where $f(w_0) = 0$."
    ),
    sources=("chizat2019lazy", "geiger2020disentangling"),
    setup=_rescaled,
    predict=_predict_rescaled,
    measure=_measure_rescaled,
    relation=Equal(),
    mutants=(
        Mutant("alpha times the label scale", {"predict": functools.partial(_predict_rescaled, power=1.0)}),
        Mutant("the clock runs with the label scale", {"predict": functools.partial(_predict_rescaled, clock=1.0)}),
    ),
    derived_here=True,
)


@dataclass(frozen=True, eq=False)
class Dial:
    """Networks of one width whose factor alpha is turned up, with plain neurons and with mirrored ones."""

    alphas: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0)
    width: int = 64
    networks: int = 16
    kinds: tuple[str, ...] = ("centred", "mirrored")


def _is_dial(setup: Any) -> str | None:
    """It is about networks of its own."""
    if isinstance(setup, Dial):
        return None
    return "it is about networks of its own; lazy_phase_diagram(X, y, alphas, widths) measures those on any data"


def _measure_dial(setup: Dial, key: Array) -> np.ndarray:
    """Exponents in alpha of movement, gap, kernel change and function gap, of root mean squares over networks."""
    d = 4
    X = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0][:3] + 0.15)
    task = Task(X, jnp.array([1.0, -1.0, 2.0]), unit_inputs(4, d), jnp.asarray(1e-2), jnp.asarray(100.0))
    half = jnp.arange(setup.width) % (setup.width // 2)
    W, signs = jr.normal(key, (setup.networks, setup.width, d)), jnp.where(half == jnp.arange(setup.width), 1.0, -1.0)
    signs = jnp.broadcast_to(signs * setup.width**-0.5, (setup.networks, setup.width))
    found = []
    for kind in setup.kinds:
        drawn = W[:, half] if kind == "mirrored" else W
        rows = []
        for alpha in setup.alphas:
            rho = jnp.asarray(alpha / setup.width**0.5)
            seen = departures(task, drawn, signs, rho, jnp.asarray(1.0), activation("tanh"))
            rows.append([seen.movement, seen.gap, seen.kernel, seen.function])
        sizes = np.sqrt(np.mean(np.asarray(rows) ** 2, axis=2))
        found += [exponent(setup.alphas, column) for column in sizes.T]
    return np.array(found)


def _predict_dial(setup: Dial, plain: float = -1.0, paired: float = -2.0) -> Estimate:
    exponents = {"centred": (-1.0, -1.0, plain, plain), "mirrored": (-1.0, -1.0, paired, paired)}
    # The term beyond the one that is fitted, c width/alpha^2, moves an exponent by 0.021 c here; c = 2 is left.
    return Estimate(np.concatenate([exponents[kind] for kind in setup.kinds]), 0.05)


DIAL = Claim(
    id="LAZY-3c",
    name="pairs-of-neurons-square-the-laziness-of-alpha",
    statement=(
        r"At a fixed width $\|w-w_0\|$ and $\|w-u\|/\|w-w_0\|$ fall as $1/\alpha$; the relative change of the kernel "
        r"and the distance of network and tangent model fall as $1/\alpha$ too for centred outputs, as $1/\alpha^2$ "
        r"only for mirrored pairs of neurons, whose changes of first order cancel."
    ),
    sources=("chizat2019lazy",),
    setup=Dial,
    predict=_predict_dial,
    measure=_measure_dial,
    relation=Equal(scale=1.0, resolution=0.2),
    assumptions=(_is_dial,),
    mutants=(
        Mutant("alpha^-2 without pairs", {"predict": functools.partial(_predict_dial, plain=-2.0)}),
        Mutant("pairs change nothing", {"predict": functools.partial(_predict_dial, paired=-1.0)}),
    ),
    derived_here=True,
)


@functools.cache
def _certified_problems() -> Any:
    """Maps up to the edge of the certified area."""
    sharp = (extremal(y=0.4999, others=1.0), extremal(y=0.25, others=1.0), extremal(y=0.4, others=3.0))
    return (*sharp, random_quadratic(1, 4.0, 0.99, True), random_quadratic(2, 3.0, 0.9))


def kernel_change_bound(h: float, kappa: float) -> float:
    r"""The largest $\|K_t-K_0\|/\|K_0\|$ that $h \le 1$ allows: $(1+q/\kappa)^2-1$, $q = 1-\sqrt{1-h}$.

    From $\|J_t-J_0\| \le \beta\rho_* = \sigma_{min}q$; below $2/\kappa+1/\kappa^2$ however near h is to 1, so that the
    certified area lies in the measured-lazy one for any threshold above that; nan for h > 1. Derived here.

    >>> round(kernel_change_bound(0.75, 4.0), 6), round(kernel_change_bound(1.0, 4.0), 6)
    (0.265625, 0.5625)
    """
    return (1.0 + _drift(h, kappa)) ** 2 - 1.0


def _drift(h: float, kappa: float) -> float:
    return (1.0 - math.sqrt(1.0 - h)) / kappa if h <= 1.0 else math.nan


def _predict_inside(setup: Any, change: Callable[[float, float], float] = kernel_change_bound) -> Estimate:
    found = problems(setup)
    value = stack(np.full(len(one.times), change(min(1.0, certify(one).h), one.tangency.kappa)) for one in found)
    # A distance wrong by e changes the kernel by 2 sigma_max beta e (1 + q/kappa) at most, below 4 beta e / sigma_max.
    errors = [4.0 * certify(one).smoothness.value * follow(one).error / one.tangency.sigma_max for one in found]
    return Estimate(value, stack(np.full(len(one.times), e) for one, e in zip(found, errors, strict=True)))


def _half(h: float, kappa: float) -> float:
    return (1.0 + 0.5 * _drift(h, kappa)) ** 2 - 1.0


def _once(h: float, kappa: float) -> float:
    return kernel_change_bound(h, kappa) - _drift(h, kappa)


def _measure_inside(setup: Any, key: Array) -> np.ndarray:
    return stack(follow(one).kernel_drift / one.tangency.sigma_max**2 for one in problems(setup))


INSIDE = Claim(
    id="LAZY-3d",
    name="certified-lazy-is-measured-lazy",
    statement=(
        r"Where LAZY-C1 certifies ($h \le 1$), the tangent kernel changes by at most $(1+q/\kappa)^2-1 \le "
        r"2/\kappa+1/\kappa^2$ of its norm, $q = 1-\sqrt{1-h}$, $\kappa = \sigma_{max}/\sigma_{min}$: the certified "
        r"area lies inside the measured-lazy one of every threshold from there on."
    ),
    sources=("chizat2019lazy",),
    setup=_certified_problems,
    predict=_predict_inside,
    measure=_measure_inside,
    relation=AtMost(),
    assumptions=(certified_by(certify), followed),
    mutants=(
        Mutant("half of q", {"predict": functools.partial(_predict_inside, change=_half)}),
        Mutant("the first order once", {"predict": functools.partial(_predict_inside, change=_once)}),
    ),
    derived_here=True,
)


CLAIMS = (LABELS, DIAL, INSIDE)
