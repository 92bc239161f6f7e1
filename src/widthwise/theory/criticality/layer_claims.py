"""Claims about one layer at initialisation: what it does to variances, covariances and angles."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation
from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import MLP, Chain
from widthwise.numerics import Estimate, normal_rule

from ..signal import equal
from .moments import moments, values_and_slopes
from .phases import depth_scales
from .setups import FIELD, Deep, deep, generator


def _covariance_map() -> Deep:
    return deep("tanh", 1.5, 0.05)


_AT = np.array([0.7, 1.1, 0.4])  # variances of two inputs and their covariance


def _jacobian(case: Deep, _key: Array) -> np.ndarray:
    """The derivative of a plain integral in two dimensions, by automatic differentiation."""
    x, w = (jnp.asarray(part) for part in normal_rule(160))
    s = case.act.fn

    def mapped(K):
        a, b, c = K
        u, v = jnp.sqrt(a) * x, jnp.sqrt(b) * x
        mixed = (c / jnp.sqrt(a) * x)[:, None] + jnp.sqrt(b - c**2 / a) * x[None, :]
        cross = jnp.einsum("i,j,i,ij", w, w, s(u), s(mixed))
        return case.bias + case.weight * jnp.stack([jnp.sum(w * s(u) ** 2), jnp.sum(w * s(v) ** 2), cross])

    return np.asarray(jax.jit(jax.jacobian(mapped))(jnp.asarray(_AT)))


def _predict_jacobian(case: Deep, half=0.5, parallel=True) -> Estimate:
    a, b, c = _AT
    found = moments(case.act, _AT[:2])
    diagonal = case.weight * (found.growth if parallel else found.slope).value
    matrix = np.diag([*diagonal, case.weight * _expected(case.act, (1, 1), a, b, c)])
    matrix[2, :2] = half * case.weight * np.array([_expected(case.act, k, a, b, c) for k in ((2, 0), (0, 2))])
    return Estimate(matrix, 1e-9)


def _expected(act: Activation, orders: tuple[int, int], a: float, b: float, c: float) -> float:
    r"""$E\,\sigma^{(i)}(u)\sigma^{(j)}(v)$."""
    (x, w), rows = normal_rule(160), [act.fn]
    for _ in range(2):
        rows.append(jax.grad(rows[-1]))
    u = np.sqrt(a) * x
    v = (c / np.sqrt(a) * x)[:, None] + np.sqrt(b - c**2 / a) * x[None, :]
    first = np.asarray(jax.vmap(rows[orders[0]])(jnp.asarray(u)))
    second = np.asarray(jax.vmap(rows[orders[1]])(jnp.asarray(v.ravel()))).reshape(v.shape)
    return float((w * first) @ second @ w)


def _resting() -> Deep:
    return deep("tanh", 1.5, 0.05, depth=20)


def _variances_by_layer(case: Deep, _key: Array, scaled="first layer") -> np.ndarray:
    """The variances of every hidden layer for an input scaled to start at the fixed point."""
    q = float(depth_scales(case.act, case.weight, case.bias).variance.value)
    square = {"first layer": (q - case.bias) / case.weight, "itself": q, "no bias": q / case.weight}[scaled]
    mlp = MLP(depth=case.depth, activation=case.act, weight_variance=case.weight, bias_variance=case.bias)
    first, *rest = mlp.network().layers
    pair, found = first.propagate(equal(jnp.asarray(square))), []
    one_more = eqx.filter_jit(Chain((rest[0], first)).propagate)
    for _ in range(case.depth):
        found.append(float(pair.xx))
        pair = one_more(pair)
    return np.array(found)


def _predict_rest(case: Deep) -> Estimate:
    q = depth_scales(case.act, case.weight, case.bias).variance
    return Estimate(np.full(case.depth, float(q.value)), float(q.error) + 1e-13)


def _responding(variance: float = 0.7) -> Deep:
    return deep("tanh", 1.5, 0.05, variance=variance, nets=400_000)


def _common_numbers(case: Deep, key: Array, step=1e-3) -> np.ndarray:
    """How the mean square of the next layer changes with that of this one, all weights the same."""
    x, q = generator(key).standard_normal(case.nets), case.variance
    above, below = (
        np.mean(values_and_slopes(case.act, np.sqrt(q * (1 + sign * step)) * x)[0] ** 2) for sign in (1, -1)
    )
    return np.array([case.weight * (above - below) / (2 * step * q)])


def _predict_parallel(case: Deep, which="parallel") -> Estimate:
    found = moments(case.act, np.array([case.variance]))
    x, w = normal_rule(400)
    fourth = w @ values_and_slopes(case.act, np.sqrt(case.variance) * x)[0] ** 4
    factor = {"parallel": found.growth.value[0], "twice": 2 * found.growth.value[0], "no derivative": 0.5 * fourth}
    return Estimate(case.weight * np.array([{**factor, "slope": found.slope.value[0]}[which]]), 1e-5)


_NEAR = 1e-3


def _angles(case: Deep, key: Array) -> np.ndarray:
    """The mean squared singular value of a layer's Jacobian, and how the difference of near inputs shrinks."""
    rng, n = generator(key), 200
    z = np.sqrt(case.variance) * rng.standard_normal(n)
    J = np.sqrt(case.weight / n) * rng.standard_normal((n, n)) * values_and_slopes(case.act, z)[1]
    x, y = np.sqrt(case.variance) * rng.standard_normal((2, case.nets))
    v = (1 - _NEAR) * x + np.sqrt(_NEAR * (2 - _NEAR)) * y
    gap = 0.5 * np.mean((values_and_slopes(case.act, x)[0] - values_and_slopes(case.act, v)[0]) ** 2)
    return np.array([np.sum(J**2) / n, case.weight * gap / (case.variance * _NEAR)])


def _predict_angles(case: Deep, which="slope") -> Estimate:
    found = moments(case.act, np.array([case.variance]))
    return Estimate(np.full(2, case.weight * float(getattr(found, which).value[0])), 2 * _NEAR)


def _smooth(case: Deep) -> str | None:
    """The activation is smooth, so that second derivatives exist."""
    return None if case.act.smooth else f"Price's formula needs a second derivative, and {case.act.name} has a kink"


CLAIMS = (
    Claim(
        id="INIT-17",
        name="derivative-of-the-covariance-map",
        statement=r"The map of $(K_{\alpha\alpha},K_{\beta\beta},K_{\alpha\beta})$ has a triangular derivative with "
        r"diagonal $(\chi_\parallel,\chi_\parallel,C_wE\sigma'\sigma')$ and "
        r"$\partial K'_{\alpha\beta}/\partial K_{\alpha\alpha}=\frac{C_w}2E\sigma''(u)\sigma(v)$.",
        sources=("poole2016exponential", "roberts2022principles"),
        field=FIELD,
        setup=_covariance_map,
        predict=_predict_jacobian,
        measure=_jacobian,
        relation=Equal(),
        assumptions=(_smooth,),
        mutants=(
            Mutant("1/2 missing", {"predict": partial(_predict_jacobian, half=1.0)}),
            Mutant("chi_perp on the diagonal", {"predict": partial(_predict_jacobian, parallel=False)}),
        ),
    ),
    Claim(
        id="INIT-18",
        name="input-scale-of-the-fixed-point",
        statement=r"The variance stays at $K_*=C_b+C_wE_{K_*}\sigma^2$ from the first layer on if inputs are scaled to "
        r"$\|x\|^2/d=(K_*-C_b)/C_w$.",
        sources=("poole2016exponential",),
        derived_here=True,
        field=FIELD,
        setup=_resting,
        predict=_predict_rest,
        measure=_variances_by_layer,
        relation=Equal(),
        mutants=(
            Mutant("inputs scaled to K* itself", {"measure": partial(_variances_by_layer, scaled="itself")}),
            Mutant("bias forgotten", {"measure": partial(_variances_by_layer, scaled="no bias")}),
        ),
    ),
    Claim(
        id="INIT-19",
        name="parallel-susceptibility",
        statement=r"A small change of the variance is multiplied by "
        r"$\chi_\parallel=\frac{C_w}2E(\sigma^2)''=\frac{C_w}KE\,z\sigma\sigma'$.",
        sources=("poole2016exponential", "roberts2022principles"),
        field=FIELD,
        setup=_responding,
        predict=_predict_parallel,
        measure=_common_numbers,
        relation=Equal(resolution=0.01),
        draws=16,
        mutants=(
            Mutant("1/2 missing", {"predict": partial(_predict_parallel, which="twice")}),
            Mutant("derivatives missing", {"predict": partial(_predict_parallel, which="no derivative")}),
            Mutant("curvature forgotten", {"predict": partial(_predict_parallel, which="slope")}),
        ),
    ),
    Claim(
        id="INIT-20",
        name="perpendicular-susceptibility",
        statement=r"The difference of two near inputs is multiplied by $\chi_\perp=C_wE\sigma'^2$, which is the mean "
        r"squared singular value of the Jacobian of a layer.",
        sources=("poole2016exponential", "schoenholz2017deep", "pennington2017resurrecting"),
        field=FIELD,
        setup=_responding,
        predict=_predict_angles,
        measure=_angles,
        relation=Equal(resolution=0.02),
        draws=24,
        mutants=(
            Mutant("derivative missing", {"predict": partial(_predict_angles, which="square")}),
            Mutant("chi_parallel for chi_perp", {"predict": partial(_predict_angles, which="growth")}),
        ),
    ),
)
