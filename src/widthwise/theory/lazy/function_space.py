r"""Training seen in function space: how the outputs move, the tangent model's path, the nearest interpolator.

Legend: $f: \mathbb R^p \to \mathbb R^n$ the outputs on the training set, $J = Df(w)$, $K = JJ^\top$,
$r = \alpha f(w) - y$, flow $\dot w = -\nabla\hat R$ with $\hat R$ the loss ``"half-sum"``
$\tfrac12\|r\|^2$ or ``"half-mean"`` $\tfrac1{2n}\|r\|^2$; u the parameters of the tangent model at $w_0$.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import activation
from widthwise.claims import AtLeast, Claim, Equal, Mutant
from widthwise.numerics import Estimate, Steps

from .euler import descend
from .integrate import FLOW_ERROR, integrate, risk_flow
from .landscapes import unit_inputs
from .linearised import Tangent, tangent
from .maps import ShallowMap
from .rates import network_pl
from .shallow import draw_shallow


def output_velocity(K: Float[Array, "n n"], residual: Float[Array, " n"], alpha=1.0, loss: str = "half-sum"):
    r"""How the outputs move: $\frac d{dt}\alpha f = -\alpha^2Kr$, divided by n under ``"half-mean"``.

    Source: jacot2018neural, bartlett2021deep.

    >>> output_velocity(jnp.eye(2), jnp.array([1.0, 3.0]), alpha=2.0, loss="half-mean").tolist()
    [-2.0, -6.0]
    """
    return -(alpha**2) * (K @ residual) / _clock(residual, loss)


def risk_velocity(K: Float[Array, "n n"], residual: Float[Array, " n"], alpha=1.0, loss: str = "half-sum"):
    r"""How the risk falls: $\frac d{dt}\hat R = -\|\dot w\|^2 = -\alpha^2r^\top Kr$, over $n^2$ under ``"half-mean"``.

    >>> risk_velocity(jnp.eye(2), jnp.array([1.0, 3.0]), alpha=2.0, loss="half-mean").item()
    -10.0
    """
    return jnp.vdot(residual, output_velocity(K, residual, alpha, loss)) / _clock(residual, loss)


def _clock(residual: Array, loss: str) -> int:
    return residual.size if loss == "half-mean" else 1


class Training(eqx.Module):
    r"""A map from parameters to outputs, where it starts, its targets, the factor alpha and the loss."""

    f: Callable
    start: Float[Array, " p"]
    y: Float[Array, " n"]
    alpha: float = 1.0
    loss: str = eqx.field(static=True, default="half-sum")

    def risk_of(self, outputs: Float[Array, " n"]) -> Float[Array, ""]:
        """The loss of given outputs of f."""
        residual = self.alpha * outputs - self.y
        return 0.5 * jnp.vdot(residual, residual) / _clock(residual, self.loss)

    @property
    def linearised(self) -> Callable:
        """The tangent map at the start, by forward differentiation and without a Jacobian."""
        outputs, push = jax.linearize(self.f, self.start)
        return lambda u: outputs + push(u - self.start)


class TangentPath(eqx.Module):
    """Training, other inputs on which the tangent model predicts, times at which to look, and steps of descent."""

    training: Training
    f_test: Callable
    times: Float[Array, " T"]
    step: float = 0.3
    steps: int = 25


@eqx.filter_jit
def _at_start(f, start: Float[Array, " p"]) -> tuple[Float[Array, " n"], Float[Array, "n p"]]:
    """Outputs and Jacobian, by reverse differentiation."""
    return f(start), jax.jacrev(f)(start)


def _tangent(training: Training, loss: str | None = None) -> Tangent:
    f0, J = _at_start(training.f, training.start)
    return tangent(J, f0, training.y, training.alpha, training.loss if loss is None else loss)


def _network_on(X: Float[Array, "n d"]) -> tuple[ShallowMap, Float[Array, " p"]]:
    """A small tanh network on these inputs, and its start."""
    net = draw_shallow(jr.key(3), 8, 3, activation("tanh"), scale=0.6)
    return ShallowMap(net, X), net.W.ravel()


def _training(count: int = 5, loss: str = "half-mean", copies: int = 0) -> Training:
    """``copies`` of the inputs come twice, with different targets."""
    X = unit_inputs(count, 3)
    f, start = _network_on(jnp.concatenate([X, X[:copies]]))
    return Training(f, start, jnp.cos(1.0 + 2.0 * jnp.arange(count + copies, dtype=float)), 1.5, loss)


def _watched() -> TangentPath:
    f_test, _ = _network_on(unit_inputs(3, 3, seed=1))
    return TangentPath(_training(4, copies=1), f_test, jnp.array([0.5, 2.0, 10.0]))


@eqx.filter_jit
def _moving(training: Training, key):
    """Derivatives of outputs and risk along the negative gradient, by forward over reverse differentiation."""
    velocity = -jax.grad(lambda w: training.risk_of(training.f(w)))(training.start)

    def both(w):
        outputs = training.f(w)
        return jnp.append(training.alpha * outputs, training.risk_of(outputs))

    return jax.jvp(both, (training.start,), (velocity,))[1]


def _predict_motion(training: Training, sign=1.0, square=2, loss=None) -> Estimate:
    f0, J = _at_start(training.f, training.start)
    loss, residual = training.loss if loss is None else loss, training.alpha * f0 - training.y
    laws = (output_velocity, risk_velocity)
    rates = [sign * law(J @ J.T, residual, training.alpha ** (square / 2), loss) for law in laws]
    # Sums of p and n terms in different orders.
    return Estimate.rounded(jnp.append(rates[0], rates[1]), ulps=8.0 * training.start.size)


@eqx.filter_jit
def _tangent_path(setup: TangentPath, key):
    """Displacement, training and test outputs of the simulated tangent flow, then outputs after descent."""
    training, lin = setup.training, setup.training.linearised
    u = risk_flow(lambda w: training.risk_of(lin(w)), training.start, setup.times)["point"]
    end = descend(lambda w: training.risk_of(lin(w)), training.start, setup.step, setup.steps)[-1]
    return _recorded(setup, u, end)


@eqx.filter_jit
def _network_driven_path(setup: TangentPath, key):
    """The same with the residual of the network, f(u), in place of that of the tangent model."""
    training, lin = setup.training, setup.training.linearised
    pull = jax.linear_transpose(lambda d: lin(training.start + d) - lin(training.start), training.start)

    def field(_, u):
        return -pull(jax.grad(training.risk_of)(training.f(u)))[0]

    u = integrate(field, training.start, setup.times)
    return _recorded(setup, u, u[-1])


def _recorded(setup: TangentPath, u, end):
    alpha, lin = setup.training.alpha, setup.training.linearised
    test = Training(setup.f_test, setup.training.start, setup.training.y).linearised
    parts = (u - setup.training.start[None], alpha * jax.vmap(lin)(u), alpha * jax.vmap(test)(u), alpha * lin(end))
    return jnp.concatenate([part.ravel() for part in parts])


def _predict_path(setup: TangentPath, loss=None, slower=1.0) -> Estimate:
    training, times = setup.training, setup.times / slower
    model = _tangent(training, loss)
    f_test, J_test = _at_start(setup.f_test, training.start)
    descent = model.predictions(Steps(setup.steps, setup.step / slower))
    parts = (model.displacement(times), model.predictions(times), model.test_predictions(f_test, J_test, times))
    value = np.concatenate([np.ravel(part) for part in (*parts, descent)])
    # Errors of u reach the outputs through J.
    return Estimate(value, FLOW_ERROR * (1.0 + training.alpha * model.sigma_max))


def _predict_path_alpha_once(setup: TangentPath) -> Estimate:
    return _predict_path(setup, slower=setup.training.alpha)


@eqx.filter_jit
def _nearest_drawn(training: Training, key):
    """The least distance from the start among 64 interpolators of the tangent model, each of least weighted norm."""
    J, start = jax.jacrev(training.f)(training.start), training.start
    missing = training.y / training.alpha - training.f(start)

    def distance(k):
        A = jr.normal(k, (start.size, start.size))
        M = jnp.eye(start.size) + 0.02 * A @ A.T
        return jnp.linalg.norm(M @ J.T @ jnp.linalg.solve(J @ M @ J.T, missing))

    return jnp.min(jax.vmap(distance)(jr.split(key, 64)))


def _predict_distance(training: Training, times_alpha=False) -> Estimate:
    return Estimate.rounded(_tangent(training).distance() * (training.alpha if times_alpha else 1.0), ulps=1e4)


def _predict_path_bound(training: Training) -> Estimate:
    return Estimate.exact(_tangent(training).path_bound)


_HORIZON = 40.0


@eqx.filter_jit
def _endpoint(training: Training, key):
    """Where the simulated tangent flow ends: all that could still move has decayed by exp(-40)."""
    J, lin = jax.jacrev(training.f)(training.start), training.linearised
    slowest = (training.alpha * jnp.linalg.svd(J, compute_uv=False)[-1]) ** 2 / _clock(training.y, training.loss)
    times = jnp.array([_HORIZON]) / slowest
    return risk_flow(lambda w: training.risk_of(lin(w)), training.start, times)["point"][0]


def _predict_endpoint(training: Training, sign=1.0) -> Estimate:
    return Estimate(training.start + sign * _tangent(training).displacement(jnp.inf), 2 * FLOW_ERROR)


def _predict_least_norm(training: Training) -> Estimate:
    f0, J = (np.asarray(part) for part in _at_start(training.f, training.start))
    target = training.y / training.alpha - f0 + J @ training.start
    return Estimate(np.linalg.pinv(J) @ target, 2 * FLOW_ERROR)


@eqx.filter_jit
def _least_pl(training: Training, key):
    """The least of 4000 PL constants at the start, for targets drawn at random, by reverse differentiation."""
    outputs = training.alpha * training.f(training.start)

    def pl(residual):
        drawn = Training(training.f, training.start, outputs - residual, training.alpha, training.loss)
        value, slope = jax.value_and_grad(lambda w: drawn.risk_of(drawn.f(w)))(training.start)
        return jnp.vdot(slope, slope) / value

    return jnp.min(jax.vmap(pl)(jr.normal(key, (4000, training.y.size))))


def _predict_pl(training: Training, loss=None, which="sigma_min") -> Estimate:
    sigma = getattr(_tangent(training), which)
    pl = network_pl(sigma, training.y.size, training.alpha, training.loss if loss is None else loss)
    return Estimate(pl, 1e-12 * pl)


def _full_rank(training: Training) -> str | None:
    model = _tangent(training)
    if model.sigma_min > 0:
        return None
    return f"no parameters interpolate because the Jacobian has rank {model.rank} with n = {training.y.size} outputs"


CLAIMS = (
    Claim(
        id="LAZY-4",
        name="outputs-move-by-the-tangent-kernel",
        statement=r"Under gradient flow of $\frac1{2n}\|\alpha f-y\|^2$ the outputs obey "
        r"$\frac d{dt}\alpha f=-\frac{\alpha^2}nK(\alpha f-y)$ and the risk falls by "
        r"$\frac{\alpha^2}{n^2}r^\top Kr=\|\dot w\|^2$ per time; without $\frac1n$ under $\frac12\|\alpha f-y\|^2$.",
        sources=("jacot2018neural", "bartlett2021deep"),
        setup=_training,
        predict=_predict_motion,
        measure=_moving,
        relation=Equal(),
        mutants=(
            Mutant("lost 1/n", {"predict": partial(_predict_motion, loss="half-sum")}),
            Mutant("alpha not squared", {"predict": partial(_predict_motion, square=1)}),
            Mutant("wrong sign", {"predict": partial(_predict_motion, sign=-1.0)}),
        ),
    ),
    Claim(
        id="LAZY-5",
        name="tangent-flow-in-closed-form",
        statement=r"The tangent model trains along $u(t)=w_0-\frac1\alpha J^\top K^{-1}(I-e^{-\alpha^2Kt})r_0$ with "
        r"$\alpha f^{lin}(u(t))=y+e^{-\alpha^2Kt}r_0$, with $t/n$ for $t$ under the mean loss, "
        r"with $(I-\eta\alpha^2K)^k$ for the exponential under gradient descent, and at any rank of $J$.",
        sources=("bartlett2021deep", "chizat2019lazy", "lee2019wide"),
        setup=_watched,
        predict=_predict_path,
        measure=_tangent_path,
        relation=Equal(),
        mutants=(
            Mutant("lost 1/n", {"predict": partial(_predict_path, loss="half-sum")}),
            Mutant("alpha not squared", {"predict": _predict_path_alpha_once}),
            Mutant("residual of the network", {"measure": _network_driven_path}),
        ),
    ),
    Claim(
        id="LAZY-6",
        name="nearest-interpolator",
        statement=r"No parameters that interpolate with the tangent model are nearer to $w_0$ than "
        r"$\frac1\alpha\sqrt{r_0^\top K^{-1}r_0}$.",
        sources=("bartlett2021deep",),
        setup=_training,
        predict=_predict_distance,
        measure=_nearest_drawn,
        relation=AtLeast(),
        assumptions=(_full_rank,),
        draws=4,
        mutants=(
            Mutant("alpha lost", {"predict": partial(_predict_distance, times_alpha=True)}),
            Mutant("bound on the path for the distance", {"predict": _predict_path_bound}),
        ),
    ),
    Claim(
        id="LAZY-6b",
        name="tangent-flow-ends-at-the-nearest-interpolator",
        statement=r"The tangent flow ends at $w_0+J^+(y/\alpha-f(w_0))$, the interpolator nearest to $w_0$, which is "
        r"not the one of least norm.",
        sources=("bartlett2021deep",),
        setup=_training,
        predict=_predict_endpoint,
        measure=_endpoint,
        relation=Equal(),
        assumptions=(_full_rank,),
        mutants=(
            Mutant("least norm for least distance", {"predict": _predict_least_norm}),
            Mutant("wrong sign", {"predict": partial(_predict_endpoint, sign=-1.0)}),
        ),
    ),
    Claim(
        id="OPT-3b",
        name="tangent-kernel-gives-a-pl-constant",
        statement=r"Under $\hat R=\frac1{2n}\|\alpha f-y\|^2$ a network satisfies "
        r"$\|\nabla\hat R\|^2\ge\frac{2\alpha^2\lambda_{min}(K)}n\hat R$ whatever the targets.",
        sources=("liu2022loss", "bartlett2021deep"),
        setup=partial(_training, count=3),
        predict=_predict_pl,
        measure=_least_pl,
        relation=AtLeast(),
        draws=2,
        mutants=(
            Mutant("lost 1/n", {"predict": partial(_predict_pl, loss="half-sum")}),
            Mutant("largest for least eigenvalue", {"predict": partial(_predict_pl, which="sigma_max")}),
        ),
    ),
)
