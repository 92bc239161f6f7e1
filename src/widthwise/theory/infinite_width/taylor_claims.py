"""Claims about the Taylor model of a shallow network: what it is, and how near."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation
from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from ..lazy import Shallow
from ..lazy.lipschitz import curvature_unknown
from ..lazy.shallow import jacobian
from .setups import FIELD, normals, to_infinity
from .shallow_model import (
    rectifier_error_bound,
    taylor_error_bound,
    taylor_model,
    worst_rectifier_constant,
    worst_rectifier_error,
)
from .shallow_setups import Shallows, is_rectifier, shallows, signs

_STEPS = (1e-3, 0.1, 1.0, 10.0)


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
    z, a, scale = np.asarray(case.draw(key).W)[:, 0], np.asarray(signs(case.width)), 1.0 / math.sqrt(case.width)
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
        return width**power * worst_rectifier_error(z, np.asarray(signs(width)), 1.0)

    return to_infinity(at, round(case.width ** (1 / 3)), key)


def _predict_worst(case: Shallows, balanced=True) -> Estimate:
    value = worst_rectifier_constant(balanced)
    # Extrapolation leaves what is of the order of the square of m^(-1/3).
    return Estimate(np.asarray(value), value * case.width ** (-2 / 3))


CLAIMS = (
    Claim(
        id="KERN-34",
        name="taylor-model-of-a-shallow-network",
        statement=r"To first order around $W_0$, $\tilde f(x;W)=\frac1{\sqrt m}\sum_ja_j\{\sigma(z_j)-\sigma'(z_j)z_j+"
        r"\sigma'(z_j)w_j^\top x\}$ with $z_j=w_{0,j}^\top x$: affine in W, but not in x.",
        sources=("bartlett2021deep",),
        field=FIELD,
        setup=shallows,
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
        setup=partial(shallows, "relu"),
        predict=partial(_predict_taylor, homogeneous=True),
        measure=_linearised,
        relation=Equal(),
        assumptions=(is_rectifier,),
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
        setup=shallows,
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
        r"$|f-\tilde f|\le(2B^{4/3}+B\ln(1/\delta)^{1/4})/m^{1/6}$; three times the first and twice the second term "
        r"bound the error of an expansion at any point of the ball.",
        sources=("telgarsky2021deep",),
        field=FIELD,
        setup=partial(shallows, "relu", width=10_000),
        predict=_predict_ball_errors,
        measure=_ball_errors,
        relation=AtMost(),
        assumptions=(is_rectifier,),
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
        setup=partial(shallows, "relu", width=15625),
        predict=_predict_worst,
        measure=_scaled_worst,
        relation=Equal(resolution=0.02),
        assumptions=(is_rectifier,),
        draws=16,
        mutants=(
            Mutant("all signs equal", {"predict": partial(_predict_worst, balanced=False)}),
            Mutant("the power 1/3 of the width", {"measure": partial(_scaled_worst, power=1 / 3)}),
        ),
    ),
)
