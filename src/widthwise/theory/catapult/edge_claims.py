r"""Claims about the edge of stability.

Legend: S the sharpness, the largest eigenvalue of the Hessian, $\eta$ the rate; x, y, $\alpha$, $\beta$ as in ``maps``.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.numerics import Estimate

from .growth_claims import FIELD
from .maps import stabilisation_energy


@dataclass(frozen=True)
class Edge:
    """A tanh network 3-20-20-1 on 20 points with signs as labels, by full-batch gradient descent."""

    rate: float = 0.2
    steps: int = 3000
    late: int = 200
    seed: int = 0


def _network(setup: Edge):
    """The loss as a function of the vector of parameters, and where it starts."""
    rng = np.random.default_rng(setup.seed)
    X, y = jnp.asarray(rng.standard_normal((20, 3))), jnp.asarray(np.sign(rng.standard_normal(20)))
    sizes = ((3, 20), (20, 20), (20, 1))
    layers = [(jnp.asarray(rng.standard_normal((b, a)) / a**0.5), jnp.zeros(b)) for a, b in sizes]
    start, unravel = ravel_pytree(layers)

    def loss(w):
        (A, a), (B, b), (C, c) = unravel(w)
        hidden = jnp.tanh(jnp.tanh(X @ A.T + a[None]) @ B.T + b[None])
        return 0.5 * jnp.mean(((hidden @ C.T)[:, 0] + c - y) ** 2)

    return loss, start


def sharpness_by_step(setup: Edge, every: int = 10) -> Float[np.ndarray, " t"]:
    """The sharpness by the whole Hessian, each so many steps of gradient descent, from the start on."""
    loss, start = _network(setup)

    def chunk(w, _):
        top = jnp.linalg.eigvalsh(jax.hessian(loss)(w))[-1]
        return jax.lax.fori_loop(0, every, lambda _, w: w - setup.rate * jax.grad(loss)(w), w), top

    count = (setup.steps + setup.late) // every
    return np.asarray(jax.jit(lambda w: jax.lax.scan(chunk, w, length=count)[1])(start))


def _late(setup: Edge, key: Array, normalised=1.0) -> np.ndarray:
    """The mean of $S\\eta/2$ over the last steps."""
    loss, w = _network(setup)
    step = jax.jit(lambda w, k: jax.lax.fori_loop(0, k, lambda _, w: w - setup.rate * jax.grad(loss)(w), w))
    top = jax.jit(lambda w: jnp.linalg.eigvalsh(jax.hessian(loss)(w))[-1])
    w, found = step(w, setup.steps), []
    for _ in range(setup.late // 10):
        w = step(w, 10)
        found.append(float(top(w)))
    return np.array([normalised * np.mean(found) * setup.rate / 2.0])


def _predict_edge(setup: Edge, of=2.0) -> Estimate:
    # The tolerance of the specification; the average over part of a cycle is not exactly that over all.
    return Estimate(np.array([of / 2.0]), 0.05)


def _sharpens(setup: Edge) -> str | None:
    """At half of the rate, training for as long sharpens beyond the threshold of the rate."""
    loss, start = _network(setup)
    small, count = setup.rate / 2.0, 2 * setup.steps
    end = jax.jit(lambda w: jax.lax.fori_loop(0, count, lambda _, w: w - small * jax.grad(loss)(w), w))(start)
    top = float(jnp.linalg.eigvalsh(jax.jit(jax.hessian(loss))(end))[-1])
    if top > 2.0 / setup.rate:
        return None
    return f"the gradient flow sharpens to {top:.3g} only, below 2/rate = {2.0 / setup.rate:.3g}"


@dataclass(frozen=True)
class Stabilised:
    r"""The loss $\frac12(2/\eta + \sqrt\beta w)x^2 - \alpha w/\sqrt\beta$, whose curvature along x rises with w."""

    alpha: float = 1.0
    beta: float = 4.0
    rate: float = 2e-3
    start: tuple[float, float] = (0.3, 0.0)
    time: float = 40.0

    @property
    def orbit(self) -> Float[np.ndarray, "t 2"]:
        """Displacement and sharpness above the threshold, by gradient descent on the loss."""
        root = self.beta**0.5

        def loss(point):
            x, w = point
            return 0.5 * (2.0 / self.rate + root * w) * x**2 - self.alpha / root * w

        def step(point, _):
            return point - self.rate * jax.grad(loss)(point), point

        first = jnp.array([self.start[0], self.start[1] / root])
        points = jax.lax.scan(step, first, length=round(self.time / self.rate))[1]
        return np.asarray(points) * np.array([1.0, root])


def whole_cycles(orbit: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "s 2"]:
    """The part between the first and the last time that the sharpness rises through the threshold.

    >>> whole_cycles(np.array([[0.0, -1.0], [0.0, 1.0], [0.0, -1.0], [0.0, 1.0]])).shape
    (2, 2)
    """
    y = orbit[:, 1]
    up = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    return orbit[up[0] + 1 : up[-1] + 1] if len(up) > 1 else orbit[:0]


def _averages(setup: Stabilised, key: Array) -> np.ndarray:
    cycles = whole_cycles(setup.orbit)
    return np.array([np.mean(cycles[:, 0] ** 2), np.mean(cycles[:, 1])])


def _predict_averages(setup: Stabilised, square=2.0, above=0.0) -> Estimate:
    r"""What is left at a finite rate, with $y_m$ the largest y that the energy allows.

    In a whole cycle y comes back within $\eta|\alpha - \beta x^2/2|$, and $\log|x|$ within what the spiral adds,
    $\eta\alpha$ for each unit of time, beside $\eta y^2/2$ of $\log(1+\eta y)$.
    """
    at = stabilisation_energy(np.array([setup.start]), setup.alpha, setup.beta)[0]
    lowest = 0.5 * setup.alpha * (1.0 - np.log(2.0 * setup.alpha / setup.beta))
    largest = 2.0 * (at - lowest) + 2.0 * setup.rate * setup.alpha * setup.time * at
    left = setup.rate * (setup.alpha + largest)
    value = np.array([square * setup.alpha / setup.beta, above])
    return Estimate(value, np.array([2.0 * left / setup.beta, 2.0 * left]))


def _slow(setup: Stabilised) -> str | None:
    """The rate is so small that the spiral stays near a closed curve."""
    grown = setup.rate * setup.alpha * setup.time
    return None if grown < 0.2 else f"the orbit spirals outwards by a factor of {np.exp(grown):.2g} in this time"


CLAIMS = (
    Claim(
        id="HESS-28",
        name="edge-of-stability",
        statement=r"Where the gradient flow would sharpen beyond $2/\eta$, full-batch gradient descent ends with a "
        r"sharpness that stays near $2/\eta$.",
        sources=("cohen2021gradient",),
        field=FIELD,
        setup=Edge,
        predict=_predict_edge,
        measure=_late,
        relation=Equal(resolution=0.06),
        assumptions=(_sharpens,),
        mutants=(
            Mutant("1/rate for 2/rate", {"predict": partial(_predict_edge, of=1.0)}),
            Mutant("sharpness of the loss without 1/2", {"measure": partial(_late, normalised=2.0)}),
        ),
    ),
    Claim(
        id="HESS-29",
        name="self-stabilisation",
        statement=r"Where the curvature rises along the flow and falls with the oscillation, gradient descent cycles "
        r"with averages $\langle x^2\rangle=2\alpha/\beta$ and $\langle S\rangle=2/\eta$.",
        sources=("damian2023self",),
        field=FIELD,
        setup=Stabilised,
        predict=_predict_averages,
        measure=_averages,
        relation=Equal(resolution=0.1),
        assumptions=(_slow,),
        mutants=(
            Mutant("alpha/beta for 2 alpha/beta", {"predict": partial(_predict_averages, square=1.0)}),
            Mutant("half of alpha above the threshold", {"predict": partial(_predict_averages, above=0.5)}),
        ),
    ),
)
