"""Claims about the shallow case study, on networks drawn at random and differentiated."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation
from widthwise.claims import AtMost, Claim, Equal, Mutant, Scaling
from widthwise.numerics import Estimate

from .landscapes import unit_inputs
from .lipschitz import curvature_unknown
from .lipschitz import shallow as certified
from .shallow import Shallow, draw_shallow, jacobian, slopes, tangent_gram
from .shallow_limits import limit_gram, mean_initial_risk, singular_limits

_BOUNDS = ("frobenius", "schur", "flattened")
_SIZES = (96.0, 384.0, 1536.0, 3072.0)


class Case(eqx.Module):
    """Inputs, targets and the kind of shallow network that is drawn on them."""

    X: Float[Array, "n d"]
    y: Float[Array, " n"]
    activation: Activation
    width: int = 64
    alpha: float = 1.0


def _case(width: int = 64, alpha: float = 1.0) -> Case:
    return Case(unit_inputs(10, 5), jnp.linspace(-2.0, 2.0, 10), activation("tanh"), width, alpha)


class Instance(eqx.Module):
    """One shallow network and its inputs."""

    net: Shallow
    X: Float[Array, "n d"]


def _instance() -> Instance:
    """Signs of all sizes, so that a lost square shows."""
    net = draw_shallow(jr.key(1), 50, 3, activation("tanh"), scale=0.5)
    signs = net.signs * jnp.linspace(0.5, 1.5, 50)
    return Instance(Shallow(net.W, signs, net.activation, net.scale), unit_inputs(7, 3))


@eqx.filter_jit
def _autodiff_gram(instance: Instance, key):
    J = jacobian(instance.net, instance.X)
    return J @ J.T


def _predict_gram(instance: Instance) -> Estimate:
    # Sums of m terms in two orders: m ulps of the largest entry.
    return Estimate.rounded(jax.jit(tangent_gram)(instance.net, instance.X), ulps=64.0 + instance.net.signs.size)


def _predict_unweighted(instance: Instance) -> Estimate:
    net = instance.net
    return _predict_gram(Instance(Shallow(net.W, jnp.sign(net.signs), net.activation, net.scale), instance.X))


def _predict_without_inputs(instance: Instance) -> Estimate:
    G = instance.X @ instance.X.T
    return Estimate.rounded(_predict_gram(instance).value / G)


def _predict_from_values(instance: Instance) -> Estimate:
    net, X = instance.net, instance.X
    features = net.scale * net.activation(X @ net.W.T) * jnp.broadcast_to(net.signs, slopes(net, X).shape)
    return Estimate.rounded((X @ X.T) * (features @ features.T))


@eqx.filter_jit
def _smoothness(case: Case, key):
    """Largest quotients ||J_w - J_v|| / ||w - v||, Frobenius once and spectral twice, over pairs sought by ascent."""
    nets = jr.split(key, 8)
    return jnp.max(jax.vmap(partial(_quotients, case))(nets), axis=0)


def _quotients(case: Case, key):
    draw, climb = jr.split(key)
    net = draw_shallow(draw, 3, case.X.shape[1], case.activation)
    w, u = _steepest(case, climb)
    near = net.W.at[0].set(w)
    pairs = ((near, near.at[0].add(1e-4 * u / jnp.linalg.norm(u))), (net.W, net.W[::-1]))
    changes = [_change(net, case.X, *pair) for pair in pairs]
    return jnp.max(jnp.stack(changes), axis=0)


def _change(net: Shallow, X, W, V):
    difference = jacobian(net.at(W.ravel()), X) - jacobian(net.at(V.ravel()), X)
    spectral, moved = jnp.linalg.norm(difference, 2), jnp.linalg.norm(W - V)
    return jnp.stack([jnp.linalg.norm(difference), spectral, spectral]) / moved


def _steepest(case: Case, key):
    """A neuron w and a direction u in which the Jacobian changes fastest, by 150 steps of ascent."""
    curvature = jax.vmap(jax.grad(jax.grad(case.activation.fn)))

    def speed(pair):
        w, u = pair
        rows = (curvature(case.X @ w) * (case.X @ u) / jnp.linalg.norm(u))[:, None] * case.X
        return jnp.linalg.norm(rows, 2)

    def climb(pair, length):
        slope = jax.grad(speed)(pair)
        return pair + length * slope / jnp.linalg.norm(slope), None

    start = jr.normal(key, (2, case.X.shape[1]))
    return jax.lax.scan(climb, start, 0.2 * 0.97 ** jnp.arange(150.0))[0]


def _predict_smoothness(case: Case, factor=1.0) -> Estimate:
    bounds = [factor * certified(case.X, np.ones(1), case.activation, 1.0, bound).value for bound in _BOUNDS]
    # A difference of Jacobians over 1e-4 loses four digits of sixteen.
    return Estimate(np.array(bounds), 1e-11 * max(bounds))


def _predict_one_input(case: Case) -> Estimate:
    largest = float(jnp.max(jnp.sum(case.X**2, axis=1)))
    return Estimate(np.full(3, case.activation.curvature_bound * largest), 0.0)


def _curvature_is_bounded(case: Case) -> str | None:
    why = curvature_unknown(case.activation)
    return None if why is None else f"there is no such bound because {why}"


def _extremes(net: Shallow, X, parts: list[slice]):
    r"""Least and largest singular value of J for parts of the neurons, from $JJ^\top$: its condition is mild here."""
    J = jacobian(net, X).reshape(X.shape[0], *net.W.shape)
    grams = jnp.stack([jnp.einsum("ijd,kjd->ik", J[:, part], J[:, part]) for part in parts])
    return jnp.sqrt(jnp.linalg.eigvalsh(grams)[:, jnp.array([0, -1])])


@eqx.filter_jit
def _least_singular_values(case: Case, key):
    """sigma_min(J) at each width, of one network to which neurons are added."""
    net = draw_shallow(key, int(_SIZES[-1]), case.X.shape[1], case.activation)
    return _extremes(net, case.X, [slice(int(width)) for width in _SIZES])[:, 0]


@eqx.filter_jit
def _scaled_singular_values(case: Case, key):
    """Extreme singular values over root m, the 1/m term removed with the two halves of the same network."""
    m = case.width
    net = draw_shallow(key, 2 * m, case.X.shape[1], case.activation)
    whole, first, second = _extremes(net, case.X, [slice(2 * m), slice(m), slice(m, 2 * m)]) / math.sqrt(m)
    return 2.0 * whole / math.sqrt(2.0) - 0.5 * (first + second)


def _predict_exponent(case: Case, exponent=0.5) -> Estimate:
    # The fit has the 1/m term; the next one, (n/m)^2, is left and bends the line by that much at most.
    return Estimate(exponent, (case.X.shape[0] / _SIZES[0]) ** 2)


def _predict_limits(case: Case) -> Estimate:
    limits = singular_limits(case.X, case.activation)
    # After extrapolation 1/m^2 is left, with the size of (n/m)^2 where n/m is that of the term removed.
    return Estimate(limits.value, limits.error + (case.X.shape[0] / case.width) ** 2 * limits.value)


def _predict_squares(case: Case) -> Estimate:
    limits = _predict_limits(case)
    return Estimate(limits.value**2, limits.error)


def _predict_without_gram(case: Case) -> Estimate:
    ends = np.linalg.eigvalsh(limit_gram(case.X, case.activation).value / np.asarray(case.X @ case.X.T))[[0, -1]]
    return Estimate(np.sqrt(np.abs(ends)), 0.0)


def _full_rank(case: Case) -> str | None:
    limits = singular_limits(case.X, case.activation)
    if np.min(limits.value) > np.max(limits.error):
        return None
    return "the limiting kernel is singular because inputs are equal, opposite, zero or too many"


def _wide_enough(case: Case) -> str | None:
    count = case.X.shape[0]
    return None if case.width >= 20 * count else f"the limit does not show because m = {case.width} is below 20 n"


@eqx.filter_jit
def _initial_risks(case: Case, key):
    """The mean over 2000 networks."""

    def risk(k):
        net = draw_shallow(k, case.width, case.X.shape[1], case.activation)
        return 0.5 * jnp.sum((case.alpha * net.outputs(case.X) - case.y) ** 2)

    return jnp.mean(jax.lax.map(risk, jr.split(key, 2000), batch_size=250))


def _predict_risk(case: Case, exponent=1.0, half=1.0, targets=1.0) -> Estimate:
    X, y, act = case.X, targets * case.y, case.activation
    risk = mean_initial_risk(X, y, case.width, act, case.alpha**exponent)
    own = 0.5 * float(jnp.sum(y**2))
    return Estimate(own + (risk - own) * half, 1e-12 * risk)


_ALPHAS = (10.0, 30.0, 100.0, 300.0, 1000.0)


@eqx.filter_jit
def _relative_residuals(case: Case, key, centred):
    r"""$r_0/(\alpha\sigma_{min}^2)$ of one network for each alpha."""
    net = draw_shallow(key, case.width, case.X.shape[1], case.activation)
    outputs = jnp.zeros_like(case.y) if centred else net.outputs(case.X)
    residuals = jnp.stack([jnp.linalg.norm(alpha * outputs - case.y) / alpha for alpha in _ALPHAS])
    return residuals / _extremes(net, case.X, [slice(None)])[0, 0] ** 2


def _laziness(case: Case, key, centred=False):
    """The number h at each alpha."""
    smoothness = certified(case.X, np.ones(1), case.activation, 1.0).value
    return 2.0 * smoothness * _relative_residuals(case, key, centred)


def _predict_laziness(case: Case) -> Estimate:
    # r_0/alpha = |f| (1 + O(|y|/(alpha |f|))); the fit has the first term, the square of it is left.
    network = mean_initial_risk(case.X, 0.0 * case.y, case.width, case.activation, _ALPHAS[0])
    return Estimate(0.0, 0.5 * float(jnp.sum(case.y**2)) / network)


CLAIMS = (
    Claim(
        id="LAZY-23",
        name="tangent-gram-of-a-shallow-network",
        statement=r"The tangent kernel of $f(x)=\sum_js_j\sigma(w_j^\top x)$ with fixed $s_j$ is "
        r"$K_{ii'}=x_i^\top x_{i'}\sum_js_j^2\,\sigma'(w_j^\top x_i)\,\sigma'(w_j^\top x_{i'})$.",
        sources=("telgarsky2021deep", "oymak2020toward"),
        setup=_instance,
        predict=_predict_gram,
        measure=_autodiff_gram,
        relation=Equal(),
        mutants=(
            Mutant("square of the signs lost", {"predict": _predict_unweighted}),
            Mutant("inner product of the inputs lost", {"predict": _predict_without_inputs}),
            Mutant("values for slopes", {"predict": _predict_from_values}),
        ),
    ),
    Claim(
        id="LAZY-24",
        name="jacobian-smoothness-of-a-shallow-network",
        statement=r"The Jacobian of $\sum_js_j\sigma(w_j^\top x)$, $s_j=\pm1$, is Lipschitz at any width with the "
        r"constant $s_2\sqrt{\sum_i\|x_i\|^4}$ in the Frobenius norm, and in the spectral norm with "
        r"$s_2\|X\|\max_i\|x_i\|$ and $s_2\sqrt{\lambda_{max}(G\circ G)}$, where $s_2=\sup|\sigma''|$.",
        sources=("telgarsky2021deep", "oymak2020toward"),
        setup=_case,
        predict=_predict_smoothness,
        measure=_smoothness,
        relation=AtMost(),
        assumptions=(_curvature_is_bounded,),
        draws=2,
        derived_here=True,
        mutants=(
            Mutant("half the curvature", {"predict": partial(_predict_smoothness, factor=0.5)}),
            Mutant("one input for all", {"predict": _predict_one_input}),
        ),
    ),
    Claim(
        id="LAZY-25",
        name="singular-values-grow-like-root-width",
        statement=r"The least singular value of the Jacobian of $\sum_{j\le m}s_j\sigma(w_j^\top x)$ "
        r"grows like $\sqrt m$.",
        sources=("telgarsky2021deep", "oymak2020toward"),
        setup=_case,
        predict=_predict_exponent,
        measure=_least_singular_values,
        relation=Scaling(sizes=_SIZES),
        assumptions=(_full_rank,),
        draws=16,
        mutants=(
            Mutant("root lost", {"predict": partial(_predict_exponent, exponent=1.0)}),
            Mutant("independent of the width", {"predict": partial(_predict_exponent, exponent=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-25b",
        name="limits-of-singular-values",
        statement=r"$\sigma_{min}(J)/\sqrt m\to\sqrt{\lambda_{min}(\bar K)}$ and "
        r"$\sigma_{max}(J)/\sqrt m\to\sqrt{\lambda_{max}(\bar K)}$ with $\bar K=G\circ E[\sigma'\sigma']$.",
        sources=("telgarsky2021deep", "oymak2020toward"),
        setup=partial(_case, width=400),
        predict=_predict_limits,
        measure=_scaled_singular_values,
        relation=Equal(),
        assumptions=(_full_rank, _wide_enough),
        draws=24,
        mutants=(
            Mutant("root lost", {"predict": _predict_squares}),
            Mutant("inner product of the inputs lost", {"predict": _predict_without_gram}),
        ),
    ),
    Claim(
        id="LAZY-26",
        name="initial-risk-of-a-shallow-network",
        statement=r"With symmetric signs the mean initial risk $\frac12\|\alpha f(w_0)-y\|^2$ is "
        r"$\frac12\|y\|^2+\frac{\alpha^2m}2\sum_iE\,\sigma(v^\top x_i)^2$, "
        r"so a large $\alpha$ enlarges the residual by itself.",
        sources=("telgarsky2021deep", "chizat2019lazy"),
        setup=partial(_case, width=20, alpha=0.5),
        predict=_predict_risk,
        measure=_initial_risks,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("alpha not squared", {"predict": partial(_predict_risk, exponent=0.5)}),
            Mutant("a half lost", {"predict": partial(_predict_risk, half=2.0)}),
            Mutant("targets forgotten", {"predict": partial(_predict_risk, targets=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-26b",
        name="alpha-cancels-unless-outputs-start-at-zero",
        statement=r"For an uncentred network $h=2\beta\|\alpha f(w_0)-y\|/(\alpha\sigma_{min}^2)$ does not fall with "
        r"$\alpha$ but tends to a constant; only $f(w_0)=0$ gives $h\sim1/\alpha$.",
        sources=("telgarsky2021deep", "chizat2019lazy"),
        setup=_case,
        predict=_predict_laziness,
        measure=_laziness,
        relation=Scaling(sizes=_ALPHAS),
        assumptions=(_curvature_is_bounded, _full_rank),
        draws=8,
        derived_here=True,
        mutants=(
            Mutant("as if centred", {"predict": lambda case: Estimate(-1.0, 0.01)}),
            Mutant("outputs subtracted", {"measure": partial(_laziness, centred=True)}),
        ),
    ),
)
