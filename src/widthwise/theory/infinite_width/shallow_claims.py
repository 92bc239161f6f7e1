"""Claims about the Taylor model of a shallow network: how near it is, and to which kernel its features tend."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation
from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.measure import empirical_ntk
from widthwise.networks import Apply, Chain, Dense
from widthwise.numerics import Estimate

from ..lazy import Shallow, limit_gram, tangent_gram
from ..lazy.lipschitz import curvature_unknown
from ..lazy.shallow import jacobian, slopes
from .setups import FIELD, networks, normals, to_infinity, upper
from .shallow_model import (
    kernel_spread,
    rectifier_error_bound,
    rectifier_kernel,
    taylor_error_bound,
    taylor_model,
    worst_rectifier_constant,
    worst_rectifier_error,
)

_STEPS = (1e-3, 0.1, 1.0, 10.0)


class Shallows(eqx.Module):
    """A kind of shallow network with the factor one over root m, and the inputs it is looked at on."""

    X: Float[Array, "n d"]
    activation: Activation
    width: int = 50
    nets: int = 100

    def draw(self, key: Array) -> Shallow:
        """One network: Gaussian weights, as many signs +1 as -1."""
        W = normals(key, (self.width, self.X.shape[1]))
        return Shallow(W, _signs(self.width), self.activation, 1.0 / math.sqrt(self.width))


def _signs(width: int) -> Float[Array, " m"]:
    return jnp.asarray(np.where(np.arange(width) % 2 == 0, 1.0, -1.0))


def _inputs(spread: float = 0.0) -> Float[Array, "5 3"]:
    """Five unit vectors, or vectors whose norms differ by such powers."""
    X = np.array([[1.0, 0.2, -0.4], [0.3, -1.0, 0.5], [-0.6, 0.7, 0.9], [0.1, 0.4, -1.2], [1.0, 1.0, 0.3]])
    norms = np.linspace(1.0, 2.0, 5) ** spread
    return jnp.asarray(norms[:, None] * X / np.linalg.norm(X, axis=1)[:, None])


def _case(name: str = "tanh", spread: float = 0.0, **fields) -> Shallows:
    return Shallows(_inputs(spread), activation(name), **fields)


def _moved(case: Shallows) -> tuple[Shallow, Array]:
    net = case.draw(jax.random.key(3))
    return net, net.W + 0.7 * normals(jax.random.key(4), net.W.shape)


def _predict_taylor(case: Shallows, scale=1.0, homogeneous=False) -> Estimate:
    net, W = _moved(case)
    net = Shallow(net.W, net.signs, net.activation, scale * net.scale)
    if homogeneous:
        return Estimate.rounded(jacobian(net, case.X) @ W.ravel(), ulps=64.0 + case.width)
    return Estimate.rounded(taylor_model(net, case.X, W), ulps=64.0 + case.width)


def _linearised(case: Shallows, key: Array) -> np.ndarray:
    net, W = _moved(case)
    value, along = jax.jvp(lambda w: net.at(w).outputs(case.X), (net.W.ravel(),), ((W - net.W).ravel(),))
    return np.asarray(value + along)


def _expanded_at_zero(case: Shallows, key: Array) -> np.ndarray:
    net, W = _moved(case)
    nothing = jnp.zeros_like(net.W.ravel())
    return np.sum(jax.jvp(lambda w: net.at(w).outputs(case.X), (nothing,), (W.ravel(),)), axis=0)


def _is_rectifier(case: Shallows) -> str | None:
    """The activation is the rectifier."""
    name = case.activation.name
    return None if name == "relu" else f"this is about the rectifier, not about {name}"


def _worst_point(act: Activation) -> float:
    """Where the second derivative is largest."""
    z = jnp.linspace(-8.0, 8.0, 16001)
    return float(z[jnp.argmax(jnp.abs(jax.vmap(jax.grad(jax.grad(act.fn)))(z)))])


def _pairs(case: Shallows, key: Array) -> list[tuple[Shallow, Array]]:
    """Networks and other weights at the distances of ``_STEPS`` a neuron: all as bad as can be, and random ones."""
    x, point = case.X[0], _worst_point(case.activation)
    bad = Shallow(
        jnp.outer(jnp.full(case.width, point), x), jnp.ones(case.width), case.activation, case.draw(key).scale
    )
    found = [(bad, bad.W + step * x[None, :]) for step in _STEPS]
    net, U = case.draw(key), normals(jax.random.fold_in(key, 1), bad.W.shape)
    U = U * (math.sqrt(case.width) / jnp.linalg.norm(U))
    return found + [(net, net.W + step * U) for step in _STEPS]


def _taylor_errors(case: Shallows, key: Array, to_value=False) -> np.ndarray:
    X, found = case.X[:1], []
    for net, W in _pairs(case, key):
        near = net.outputs(X) if to_value else taylor_model(net, X, W)
        found.append(abs(float(net.at(W.ravel()).outputs(X)[0]) - float(near[0])))
    return np.array(found)


def _predict_taylor_errors(case: Shallows, factor=1.0) -> Estimate:
    net = case.draw(jax.random.key(0))
    distances = [step * math.sqrt(case.width) for step in _STEPS] * 2
    bounds = np.array([factor * taylor_error_bound(net, case.X[0], distance) for distance in distances])
    # Sums of m terms of size one, with the factor one over root m.
    return Estimate(bounds, 64 * 2.0**-52 * math.sqrt(case.width))


def _curvature_is_bounded(case: Shallows) -> str | None:
    """The second derivative of the activation is bounded."""
    why = curvature_unknown(case.activation)
    return None if why is None else f"there is no such bound because {why}"


def _ball_errors(case: Shallows, key: Array, sign=1.0, radius=1.0) -> np.ndarray:
    r"""The largest $|f - \tilde f|$ in the ball, and the error at one point of it of an expansion at another one."""
    z, a, scale = np.asarray(case.draw(key).W)[:, 0], np.asarray(_signs(case.width)), 1.0 / math.sqrt(case.width)
    w, v = z + a * radius * scale, z - a * radius * scale
    value = scale * float(a @ np.maximum(v, 0.0))
    near = scale * float(a @ (np.maximum(w, 0.0) + sign * (w >= 0) * (v - w)))
    return np.array([worst_rectifier_error(z, a, radius), abs(value - near)])


def _predict_ball_errors(case: Shallows) -> Estimate:
    return Estimate(np.array([rectifier_error_bound(case.width, 1.0, pair=pair) for pair in (False, True)]), 0.0)


def _predict_wrong_power(case: Shallows) -> Estimate:
    return Estimate(case.width ** (-1 / 3) * np.ones(2), 0.0)


def _scaled_worst(case: Shallows, key: Array, power=1 / 6) -> np.ndarray:
    r"""$m^{1/6}\sup|f-\tilde f|$ over a ball of radius 1, its correction of order $m^{-1/3}$ removed."""

    def at(root, key):
        width = root**3
        z = np.asarray(normals(key, (width,)))
        return width**power * worst_rectifier_error(z, np.asarray(_signs(width)), 1.0)

    return to_infinity(at, round(case.width ** (1 / 3)), key)


def _predict_worst(case: Shallows, balanced=True) -> Estimate:
    value = worst_rectifier_constant(balanced)
    # Extrapolation leaves what is of the order of the square of m^(-1/3).
    return Estimate(np.asarray(value), value * case.width ** (-2 / 3))


@eqx.filter_jit
def _mean_gram(case: Shallows, W: Float[Array, "nets m d"]) -> Float[Array, "n n"]:
    scale = 1.0 / math.sqrt(case.width)
    gram = jax.vmap(lambda one: tangent_gram(Shallow(one, _signs(case.width), case.activation, scale), case.X))
    return jnp.mean(gram(W), axis=0)


def _random_kernel(case: Shallows, key: Array) -> np.ndarray:
    return upper(_mean_gram(case, normals(key, (case.nets, case.width, case.X.shape[1]))))


def _predict_kernel(case: Shallows, over_inputs=False) -> Estimate:
    found = limit_gram(case.X, case.activation)
    G = np.asarray(case.X @ case.X.T) if over_inputs else 1.0
    return Estimate(upper(found.value / G), float(np.max(found.error)))


@eqx.filter_jit
def _grams(case: Shallows, W: Float[Array, "nets m d"]) -> Float[Array, "nets n n"]:
    def one(weights):
        slope = slopes(Shallow(weights, _signs(case.width), case.activation), case.X)
        return (case.X @ case.X.T) * (slope @ slope.T) / case.width

    return jax.vmap(one)(W)


def _spreads(case: Shallows, key: Array) -> np.ndarray:
    r"""$m\,\mathrm{Var}\,k_m$ over many networks."""
    grams = np.asarray(_grams(case, normals(key, (case.nets, case.width, case.X.shape[1]))))
    return upper(case.width * np.var(grams, axis=0, ddof=1))


def _predict_spread(case: Shallows, centred=True) -> Estimate:
    found = kernel_spread(case.X, case.activation)
    value = found.value if centred else found.value + limit_gram(case.X, case.activation).value ** 2
    return Estimate(upper(value), float(np.max(found.error)))


def _predict_single(case: Shallows) -> Estimate:
    return Estimate(_predict_spread(case).value / case.width, 0.0)


def _half_planes(case: Shallows, key: Array) -> np.ndarray:
    """The inner product times the fraction of random half-spaces that contain both inputs."""
    X = np.asarray(case.X)
    active = X @ np.asarray(normals(key, (case.nets * case.width, X.shape[1]))).T > 0
    return upper(X @ X.T * (active.astype(float) @ active.T) / active.shape[1])


def _predict_half_planes(case: Shallows, factor=1.0, outside=False) -> Estimate:
    X = np.asarray(case.X)
    value = 0.5 * X @ X.T - rectifier_kernel(X, X) if outside else factor * rectifier_kernel(X, X)
    return Estimate.rounded(upper(value))


@eqx.filter_jit
def _mean_ntk(models, X: Float[Array, "n d"]) -> Float[Array, "n n"]:
    return jnp.mean(eqx.filter_vmap(lambda model: empirical_ntk(model, X))(models), axis=0)


def _both_layers(case: Shallows, key: Array) -> np.ndarray:
    d = case.X.shape[1]
    network = Chain((Dense(float(d), size=case.width), Apply(case.activation), Dense(1.0, size=1)))
    return upper(_mean_ntk(networks(network, d, key, case.nets), case.X))


def _predict_both_layers(case: Shallows, first=1.0, second=1.0) -> Estimate:
    X = np.asarray(case.X)
    norms = np.linalg.norm(X, axis=1)
    theta = np.arccos(np.clip(X @ X.T / np.outer(norms, norms), -1.0, 1.0))
    features = np.outer(norms, norms) * (np.sin(theta) + (math.pi - theta) * np.cos(theta)) / (2.0 * math.pi)
    # The angle from its cosine has lost half of its digits on the diagonal.
    return Estimate(upper(first * rectifier_kernel(X, X) + second * features), 1e-7)


CLAIMS = (
    Claim(
        id="KERN-34",
        name="taylor-model-of-a-shallow-network",
        statement=r"To first order around $W_0$, $\tilde f(x;W)=\frac1{\sqrt m}\sum_ja_j\{\sigma(z_j)-\sigma'(z_j)z_j+"
        r"\sigma'(z_j)w_j^\top x\}$ with $z_j=w_{0,j}^\top x$: affine in W, but not in x.",
        sources=("bartlett2021deep",),
        field=FIELD,
        setup=_case,
        predict=_predict_taylor,
        measure=_linearised,
        relation=Equal(),
        mutants=(
            Mutant("only the gradient's part", {"predict": partial(_predict_taylor, homogeneous=True)}),
            Mutant("root of the width lost", {"predict": partial(_predict_taylor, scale=50**0.5)}),
            Mutant("expanded at zero", {"measure": _expanded_at_zero}),
        ),
    ),
    Claim(
        id="KERN-34b",
        name="rectifiers-are-linear-in-their-gradient",
        statement=r"For a rectifier the terms without W cancel: $\tilde f(x;W)=\langle\nabla f(x;W_0),W\rangle$.",
        sources=("bartlett2021deep",),
        field=FIELD,
        setup=partial(_case, "relu"),
        predict=partial(_predict_taylor, homogeneous=True),
        measure=_linearised,
        relation=Equal(),
        assumptions=(_is_rectifier,),
        mutants=(
            Mutant("root of the width lost", {"predict": partial(_predict_taylor, scale=50**0.5, homogeneous=True)}),
            Mutant("expanded at zero", {"measure": _expanded_at_zero}),
        ),
    ),
    Claim(
        id="KERN-35",
        name="smooth-networks-are-near-their-taylor-model",
        statement=r"If $|\sigma''|\le L$, $|a_j|\le1$ and $\|x\|\le1$, then for all W and V "
        r"$|f(x;W)-f(x;V)-\langle\nabla f(x;V),W-V\rangle|\le\frac L{2\sqrt m}\|W-V\|_F^2$, and the constant is sharp.",
        sources=("bartlett2021deep",),
        field=FIELD,
        setup=_case,
        predict=_predict_taylor_errors,
        measure=_taylor_errors,
        relation=AtMost(),
        assumptions=(_curvature_is_bounded,),
        draws=2,
        mutants=(
            Mutant("half the curvature", {"predict": partial(_predict_taylor_errors, factor=0.5)}),
            Mutant("1/m for one over root m", {"predict": partial(_predict_taylor_errors, factor=50**-0.5)}),
            Mutant("gradient left out", {"measure": partial(_taylor_errors, to_value=True)}),
        ),
    ),
    Claim(
        id="KERN-36",
        name="rectifier-networks-are-near-their-taylor-model",
        statement=r"For a rectifier and Gaussian $W_0$, with probability $1-\delta$ for all W within B of it, "
        r"$|f-\tilde f|\le(2B^{4/3}+B\ln(1/\delta)^{1/4})/m^{1/6}$, and three times the first and twice the second term "
        r"bound the error of an expansion at one point of the ball at another one.",
        sources=("telgarsky2021deep",),
        field=FIELD,
        setup=partial(_case, "relu", width=10_000),
        predict=_predict_ball_errors,
        measure=_ball_errors,
        relation=AtMost(),
        assumptions=(_is_rectifier,),
        draws=4,
        mutants=(
            Mutant("the power 1/3 of the width", {"predict": _predict_wrong_power}),
            Mutant("minus for plus in the expansion", {"measure": partial(_ball_errors, sign=-1.0)}),
        ),
    ),
    Claim(
        id="KERN-36b",
        name="worst-case-of-a-rectifier-network",
        statement=r"The largest $|f-\tilde f|$ over a ball of radius B is $cB^{4/3}m^{-1/6}(1+o(1))$ with "
        r"$c=\frac382^{2/3}(2\pi)^{-1/6}$ for signs $\pm1$ in equal numbers.",
        derived_here=True,
        field=FIELD,
        setup=partial(_case, "relu", width=9261),
        predict=_predict_worst,
        measure=_scaled_worst,
        relation=Equal(resolution=0.02),
        assumptions=(_is_rectifier,),
        draws=24,
        mutants=(
            Mutant("all signs equal", {"predict": partial(_predict_worst, balanced=False)}),
            Mutant("the power 1/3 of the width", {"measure": partial(_scaled_worst, power=1 / 3)}),
        ),
    ),
    Claim(
        id="KERN-37",
        name="kernel-of-random-features",
        statement=r"The kernel of the features of a shallow network is an average over neurons, of mean "
        r"$k(x,x')=x^\top x'\,E[\sigma'(w^\top x)\sigma'(w^\top x')]$ at any width.",
        sources=("jacot2018neural", "bartlett2021deep"),
        field=FIELD,
        setup=_case,
        predict=_predict_kernel,
        measure=_random_kernel,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("inner product of the inputs lost", {"predict": partial(_predict_kernel, over_inputs=True)}),
            Mutant("probability for slopes", {"predict": _predict_half_planes}),
        ),
    ),
    Claim(
        id="LAZY-15",
        name="spread-of-the-kernel-of-random-features",
        statement=r"$m\,\mathrm{Var}\,k_m(x,x')=(x^\top x')^2\,\mathrm{Var}[\sigma'(w^\top x)\sigma'(w^\top x')]$; for a "
        r"rectifier $(x^\top x')^2p(1-p)$ with $p=\frac{\pi-\theta}{2\pi}$.",
        sources=("bartlett2021deep",),
        field=FIELD,
        setup=partial(_case, "relu", width=4, nets=5000),
        predict=_predict_spread,
        measure=_spreads,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("mean not subtracted", {"predict": partial(_predict_spread, centred=False)}),
            Mutant("of the mean over neurons", {"predict": _predict_single}),
        ),
    ),
    Claim(
        id="KERN-38",
        name="kernel-of-a-rectifier-by-geometry",
        statement=r"For a rectifier $k(x,x')=x^\top x'\,\frac{\pi-\theta}{2\pi}$: the probability that a random "
        r"half-space contains both inputs, at any norms.",
        sources=("cho2009kernel", "du2019gradient"),
        field=FIELD,
        setup=partial(_case, "relu", 0.5, nets=400),
        predict=_predict_half_planes,
        measure=_half_planes,
        relation=Equal(),
        assumptions=(_is_rectifier,),
        draws=16,
        mutants=(
            Mutant("pi for 2 pi", {"predict": partial(_predict_half_planes, factor=2.0)}),
            Mutant("the angle for its supplement", {"predict": partial(_predict_half_planes, outside=True)}),
        ),
    ),
    Claim(
        id="LAZY-16",
        name="kernel-of-both-layers-of-a-rectifier-network",
        statement=r"Training the readout too adds $E[\sigma(w^\top x)\sigma(w^\top x')]=\frac{\|x\|\|x'\|}{2\pi}"
        r"(\sin\theta+(\pi-\theta)\cos\theta)$ to $x^\top x'\,\frac{\pi-\theta}{2\pi}$.",
        sources=("cho2009kernel", "jacot2018neural"),
        field=FIELD,
        setup=partial(_case, "relu", 0.5, nets=250),
        predict=_predict_both_layers,
        measure=_both_layers,
        relation=Equal(),
        assumptions=(_is_rectifier,),
        draws=16,
        mutants=(
            Mutant("the first layer alone", {"predict": partial(_predict_both_layers, second=0.0)}),
            Mutant("the readout alone", {"predict": partial(_predict_both_layers, first=0.0)}),
        ),
    ),
)
