r"""The two lemmas of lazy training: how the risk decays and how far the parameters travel.

Legend: $z(t)$ the outputs with $\dot z = -Q(t)(z - y)$; $v(t)$ the parameters with
$\dot v = -S_t^\top(g(v) - y)$, where $S_t = Dg(v(t))$ is the Jacobian along the way; $\lambda$ and
$\lambda_1$ bound the spectrum of $Q$, or of $S_tS_t^\top$, from below and above;
$r_t = \|g(v(t)) - y\|$. The risk is $\tfrac12\|z - y\|^2$.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate

from .integrate import FLOW_ERROR, integrate
from .landscapes import random_rotation


def risk_decay(rate, time):
    r"""Bound the risk over its initial value by $e^{-2\lambda t}$; $\lambda$ of any sign.

    >>> round(2.5 * risk_decay(1.0, 1.0).item(), 7)
    0.3383382
    """
    return jnp.exp(-2.0 * jnp.asarray(rate * time))


def residual_decay(rate, time):
    r"""Bound the norm $\|z - y\|$ over its initial value by $e^{-\lambda t}$: half the rate of the risk.

    >>> round(residual_decay(1.0, 1.0).item(), 7)
    0.3678794
    """
    return jnp.exp(-jnp.asarray(rate * time))


def travel_bound(residual, least, largest):
    r"""Bound the displacement $\|v(t) - v(0)\|$ by $\frac{\sqrt{\lambda_1}}\lambda r_0$.

    ``least`` $=\lambda$ > 0 and ``largest`` $=\lambda_1$ bound the eigenvalues of $S_tS_t^\top$, not
    the singular values of $S_t$. Source: telgarsky2021deep.

    >>> round(travel_bound(2**0.5, 0.25, 4.0), 7)
    11.3137085
    """
    return largest**0.5 / least * residual


def path_bound(residual, least, remaining=0.0):
    r"""Bound the length of the path of $v$ by $\frac{r_0 - r_t}{\sqrt\lambda}$: sharper, and without $\lambda_1$.

    It holds because $\frac{d}{dt}\|r\| = -\|S^\top r\|^2/\|r\| \le -\sqrt\lambda\,\|\dot v\|$.
    Source: bartlett2021deep.

    >>> round(path_bound(2**0.5, 0.25), 7)
    2.8284271
    """
    return (residual - remaining) / least**0.5


class Decay(eqx.Module):
    r"""Random time-dependent Q(t) (3, 3) whose symmetric part is at least ``rate``, attained in one direction."""

    times: Float[Array, " T"]
    rate: float = 0.8


def _decay() -> Decay:
    return Decay(jnp.array([0.1, 0.5, 1.0, 2.0]))


@eqx.filter_jit
def _decay_ratios(setup: Decay, key):
    """Risk and residual norm over their initial values; the start is near the slow direction."""
    turn, entries, noise = jr.split(key, 3)
    frame, (A, B, C) = random_rotation(turn, 3), jr.normal(entries, (3, 2, 2))

    def Q(t):
        M = A + jnp.sin(t) * B
        fast = setup.rate * jnp.eye(2) + M @ M.T + jnp.cos(t) * (C - C.T)
        return frame.T @ jax.scipy.linalg.block_diag(jnp.array([[setup.rate]]), fast) @ frame

    start = frame[0] + 0.1 * frame[1:].T @ jr.normal(noise, (2,))
    residuals = integrate(lambda t, r: -Q(t) @ r, start, setup.times)
    norms = jnp.linalg.norm(residuals, axis=1) / jnp.linalg.norm(start)
    return jnp.stack([norms**2, norms], axis=1)


def _predict_decay(setup: Decay, residual=residual_decay, factor=1.0) -> Estimate:
    rows = [risk_decay(factor * setup.rate, setup.times), residual(factor * setup.rate, setup.times)]
    # The square doubles the relative error of the norm.
    return Estimate(jnp.stack(rows, axis=1), 2 * FLOW_ERROR)


class Travel(eqx.Module):
    r"""Training of $g(v) = O_1\tilde g(O_2v)$, $\tilde g_i$ with slopes between ``least`` and ``largest``.

    The first coordinate of $\tilde g$ is linear with the least slope, the others bend between the two.
    """

    least: float = 2.0
    largest: float = 2.2
    time: float = 1.0


@eqx.filter_jit
def _travelled(setup: Travel, key):
    r"""Displacement, and path length plus $r_t/\sqrt\lambda$, both over $r_0$."""
    first, second, noise = jr.split(key, 3)
    outer, inner = random_rotation(first, 4), random_rotation(second, 4)
    middle, swing = 0.5 * (setup.largest + setup.least), 0.5 * (setup.largest - setup.least)

    def g(v):
        c = inner @ v
        return outer @ jnp.concatenate([setup.least * c[:1], middle * c[1:] + swing * jnp.sin(c[1:])])

    target = outer @ jnp.array([3.0, 0.3, 0.3, 0.3]) + 0.1 * jr.normal(noise, (4,))

    def field(_, state):
        residual, pull = jax.vjp(g, state[0])
        velocity = -pull(residual - target)[0]
        return velocity, jnp.linalg.norm(velocity)

    v, length = integrate(field, (jnp.zeros(4), jnp.zeros(())), jnp.array([setup.time]))
    before, after = jnp.linalg.norm(target), jnp.linalg.norm(g(v[0]) - target)
    return jnp.stack([jnp.linalg.norm(v[0]), length[0] + after / setup.least]) / before


def _predict_travel(setup: Travel, root=0.5, which="least") -> Estimate:
    low, high = setup.least ** (4 * root), setup.largest ** (4 * root)
    path = path_bound(1.0, low if which == "least" else high)
    return Estimate(jnp.array([travel_bound(1.0, low, high), path]), 10 * FLOW_ERROR)


def _positive(setup: Travel) -> str | None:
    if 0 < setup.least <= setup.largest:
        return None
    return f"the lemma needs 0 < lambda <= lambda_1 because it divides by lambda; slopes {setup.least}, {setup.largest}"


CLAIMS = (
    Claim(
        id="LAZY-19",
        name="kernel-bound-gives-risk-decay",
        statement=r"If $\dot z=-Q(t)(z-y)$ with $\lambda_{min}(Q(t))\ge\lambda$ then the risk falls at least "
        r"as fast as $e^{-2\lambda t}$ and the norm of the residual as $e^{-\lambda t}$.",
        sources=("telgarsky2021deep", "chizat2019lazy"),
        setup=_decay,
        predict=_predict_decay,
        measure=_decay_ratios,
        relation=AtMost(),
        draws=8,
        mutants=(
            Mutant("residual norm at the rate of the risk", {"predict": partial(_predict_decay, residual=risk_decay)}),
            Mutant("twice the rate", {"predict": partial(_predict_decay, factor=2.0)}),
        ),
    ),
    Claim(
        id="LAZY-20",
        name="travel-distance",
        statement=r"If the eigenvalues of $S_tS_t^\top$ lie in $[\lambda,\lambda_1]$ along $\dot v=-S_t^\top(g(v)-y)$, "
        r"$S_t=Dg(v(t))$, then $\|v(t)-v(0)\|\le\frac{\sqrt{\lambda_1}}\lambda r_0$, and even the path is no longer "
        r"than $(r_0-r_t)/\sqrt\lambda$.",
        sources=("telgarsky2021deep", "bartlett2021deep"),
        setup=Travel,
        predict=_predict_travel,
        measure=_travelled,
        relation=AtMost(),
        assumptions=(_positive,),
        draws=8,
        mutants=(
            Mutant("root lost", {"predict": partial(_predict_travel, root=1.0)}),
            Mutant("largest for least", {"predict": partial(_predict_travel, which="largest")}),
        ),
    ),
)
