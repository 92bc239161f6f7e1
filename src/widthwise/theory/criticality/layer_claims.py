"""Claims about one layer at initialisation: what its weights have to be, and what it does to variances and angles."""

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation
from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.networks import MLP, Chain
from widthwise.numerics import Estimate, normal_rule

from ..signal import equal
from .maps import trajectory
from .moments import moments, values_and_slopes
from .phases import depth_scales
from .setups import FIELD, Deep, deep, generator, layers, mean_covariances

_WIDTHS = (32.0, 64.0, 128.0, 256.0)
_RANK_TWO = np.array([[1.0, 0.5, 1.0], [0.5, 2.0, 0.5], [1.0, 0.5, 1.0]])  # the first and last input are equal
_ALONG = np.array([[1.0, 1.0, 0.0], [1.0, -2.0, 0.5]])


def _laws() -> Deep:
    return deep("tanh", 2.0, depth=3, width=400, nets=25)


_INPUTS = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.5]])


def _drawn(rng: np.random.Generator, law: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of mean square 1 (but for the law "narrow")."""
    if law == "gauss":
        return rng.standard_normal(shape)
    if law == "signs":
        return rng.choice([-1.0, 1.0], shape)
    return rng.uniform(-1.0, 1.0, shape) * (np.sqrt(3.0) if law == "uniform" else 1.0)


def _third_covariance(case: Deep, key: Array, first="gauss", second="uniform") -> np.ndarray:
    """The covariances after two hidden layers of networks whose weights have these laws."""
    rng, n, found = generator(key), case.width, []
    for _ in range(case.nets):
        z = np.sqrt(case.weight / 3) * _drawn(rng, first, (n, 3)) @ _INPUTS.T
        z = np.sqrt(case.weight / n) * _drawn(rng, second, (n, n)) @ values_and_slopes(case.act, z)[0]
        s = values_and_slopes(case.act, z)[0]
        found.append(case.weight * np.array([np.mean(s[:, 0] ** 2), np.mean(s[:, 0] * s[:, 1])]))
    return np.mean(found, axis=0)


def _predict_third(case: Deep) -> Estimate:
    first = case.weight * _INPUTS @ _INPUTS.T / 3
    K = _mapped(case, _mapped(case, first))
    return Estimate(np.array([K[0, 0], K[0, 1]]), 2.0 / case.width * K[0, 0])


def _mapped(case: Deep, K: np.ndarray) -> np.ndarray:
    """One layer of infinite width, by a plain integral in two dimensions."""
    (x, w), after = normal_rule(120), np.zeros((2, 2))
    for i, j in ((0, 0), (1, 1), (0, 1)):
        u = np.sqrt(K[i, i]) * x[:, None] + 0.0 * x
        v = K[i, j] / np.sqrt(K[i, i]) * x[:, None] + np.sqrt(max(K[j, j] - K[i, j] ** 2 / K[i, i], 0.0)) * x
        first, second = (values_and_slopes(case.act, part)[0] for part in (u, v))
        after[i, j] = after[j, i] = case.bias + case.weight * np.einsum("i,j,ij,ij", w, w, first, second)
    return after


def _gram_by_layer(case: Deep, key: Array) -> np.ndarray:
    return mean_covariances(case, key)[1:, [0, 2]]


def _predict_gram(case: Deep, kept=False, bias=1.0) -> Estimate:
    path = trajectory(
        case.act,
        case.weight,
        bias * case.bias,
        depth=case.depth,
        variance=case.variance,
        correlation=case.correlation,
    )
    found = np.stack([path.variance, path.variance * path.correlation], axis=1)
    found = np.broadcast_to(found[0], found.shape) if kept else found
    return Estimate(found[1:], 1.5 * case.depth / case.width)


def _spread_of_products(case: Deep, _key: Array, power=0.0) -> np.ndarray:
    r"""Root mean square deviation of $\frac1n\langle\sigma(z_1),\sigma(z_2)\rangle$, at each width."""
    limit, found = float(_predict_gram(case).value[-1, 1]), []
    for width in _WIDTHS:
        *_, last = layers(case.but(width=int(width)), _key)
        found.append(width**power * np.sqrt(np.mean((last[:, 2] - limit) ** 2)))
    return np.array(found)


@dataclass(frozen=True)
class Neuron:
    """One neuron with fixed inputs, and the variances of its weights and its bias."""

    x: tuple[float, ...] = (1.0, 2.0, 2.0)
    weight: float = 0.5
    bias: float = 0.1
    draws: int = 40_000


def _squares(case: Neuron, key: Array) -> np.ndarray:
    rng = generator(key)
    w = np.sqrt(case.weight) * rng.standard_normal((case.draws, len(case.x)))
    z = w @ np.array(case.x) + np.sqrt(case.bias) * rng.standard_normal(case.draws)
    return np.mean(z**2, keepdims=True)


def _predict_square(case: Neuron, power=2.0, bias=1.0) -> Estimate:
    value = bias * case.bias + case.weight * np.sum(np.abs(case.x) ** power)
    return Estimate(np.array([value]), 1e-12)


def _process() -> np.ndarray:
    return _RANK_TWO


def _projections(K: np.ndarray, key: Array, shared=True) -> np.ndarray:
    """The covariance of samples, and excess fourth moments along two directions."""
    values, vectors = np.linalg.eigh(K)
    rng = generator(key)
    samples = rng.standard_normal((100_000, len(K))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if not shared:  # every coordinate keeps its normal law
        samples[:, 1] = (
            samples[:, 0] * np.sqrt(K[1, 1] / K[0, 0]) * rng.choice([-1.0, 1.0], len(samples), p=[0.32, 0.68])
        )
    along = samples @ _ALONG.T
    excess = np.mean(along**4, axis=0) / np.mean(along**2, axis=0) ** 2 - 3.0
    return np.concatenate([np.ravel(samples.T @ samples / len(samples)), excess])


def _predict_projections(K: np.ndarray) -> Estimate:
    return Estimate(np.concatenate([np.ravel(K), np.zeros(len(_ALONG))]), 1e-12)


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
        id="INIT-2",
        name="only-the-variance-of-hidden-weights-matters",
        statement=r"In layers of large fan-in weights of any law with variance $C_w/n$ give the same covariances; in "
        r"the first layer, whose fan-in stays, the law matters.",
        sources=("hanin2023random", "matthews2018gaussian"),
        field=FIELD,
        setup=_laws,
        predict=_predict_third,
        measure=_third_covariance,
        relation=Equal(resolution=0.03),
        draws=16,
        mutants=(
            Mutant("signs as weights of the first layer", {"measure": partial(_third_covariance, first="signs")}),
            Mutant("uniform weights of variance 1/3", {"measure": partial(_third_covariance, second="narrow")}),
        ),
    ),
    Claim(
        id="INIT-3",
        name="gram-matrices-of-one-wide-network",
        statement=r"The Gram matrices $\frac1n\langle z^{(l)}_\alpha,z^{(l)}_\beta\rangle$ of one wide network follow "
        r"the recursion of the covariances layer by layer; they are conserved for all pairs in linear networks alone.",
        sources=("hanin2023random", "poole2016exponential"),
        field=FIELD,
        setup=lambda: deep("tanh", 1.5, 0.05, depth=6, width=4000, nets=1),
        predict=_predict_gram,
        measure=_gram_by_layer,
        relation=Equal(resolution=0.03),
        draws=16,
        mutants=(
            Mutant("conserved for all pairs", {"predict": partial(_predict_gram, kept=True)}),
            Mutant("bias forgotten", {"predict": partial(_predict_gram, bias=0.0)}),
        ),
    ),
    Claim(
        id="INIT-4",
        name="averages-over-neurons-concentrate",
        statement=r"The averaged dot product of two inputs in a layer deviates from its limit by $O(n^{-1/2})$.",
        sources=("hanin2023random",),
        field=FIELD,
        setup=lambda: deep("tanh", 1.5, 0.05, depth=3, nets=1500),
        predict=lambda case: Estimate(-0.5, (case.depth / _WIDTHS[0]) ** 2),
        measure=_spread_of_products,
        relation=Scaling(sizes=_WIDTHS),
        draws=12,
        mutants=(
            Mutant("like 1/n", {"predict": lambda _: Estimate(-1.0, 0.01)}),
            Mutant("sum in place of the average", {"measure": partial(_spread_of_products, power=1.0)}),
        ),
    ),
    Claim(
        id="INIT-5",
        name="variance-of-a-neuron",
        statement=r"Of a neuron $z=w\cdot x+b$ with fixed x the variance is $V_b+V_w\|x\|^2$, so that $V_w=C_w/n$ "
        r"keeps it of order one.",
        sources=("glorot2010understanding", "he2015delving"),
        field=FIELD,
        setup=Neuron,
        predict=_predict_square,
        measure=_squares,
        relation=Equal(resolution=0.01),
        draws=16,
        mutants=(
            Mutant("absolute values for squares", {"predict": partial(_predict_square, power=1.0)}),
            Mutant("bias forgotten", {"predict": partial(_predict_square, bias=0.0)}),
        ),
    ),
    Claim(
        id="INIT-6",
        name="gaussian-vectors-along-every-direction",
        statement=r"A centred Gaussian process is determined by its covariance, which may be singular: along every "
        r"direction it is normal, with no excess of the fourth moment.",
        sources=("williams1997computing",),
        field=FIELD,
        setup=_process,
        predict=_predict_projections,
        measure=_projections,
        relation=Equal(resolution=0.02),
        draws=12,
        mutants=(
            Mutant("normal coordinates that are not jointly so", {"measure": partial(_projections, shared=False)}),
        ),
    ),
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
