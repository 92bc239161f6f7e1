"""Claims about deep networks at initialisation: how fast variances, angles and gradients go where they go."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.measure import strength
from widthwise.networks import MLP
from widthwise.numerics import Estimate

from ..infinite_width.setups import networks
from ..infinite_width.setups import to_infinity as extrapolated
from .curve import edge_of_chaos
from .maps import dual_at, trajectory
from .moments import moments, second_slope, values_and_slopes
from .phases import depth_scales
from .setups import FIELD, Deep, deep, generator, mean_covariances, to_infinity

_HE = (1.0, 4.0, 2.0)  # weight variances by layer, whose product is 2^3
_EDGES = np.array([0.5, 1.0, 2.0])
_BETWEEN = (500, 2000)  # layers


def _linear() -> Deep:
    return deep("identity", 1.0, depth=10, width=64)


def _ends(case: Deep, key: Array, **changed) -> np.ndarray:
    """Mean covariances half-way and at the end."""
    path = mean_covariances(case.but(**changed), key)
    return path[[case.depth // 2, -1]]


def _predict_linear(case: Deep, power=1.0, bias=True) -> Estimate:
    r"""$K^{(l)} = C_w^{l-1}K^{(1)} + C_b(1 + C_w + \dots + C_w^{l-2})$ for all pairs, exact at any width."""
    first, found = case.variance * np.array([1.0, 1.0, case.correlation]), []
    for steps in (case.depth // 2, case.depth - 1):
        sums = sum(case.weight**k for k in range(steps)) if bias else 1.0
        found.append(case.weight ** (power * steps) * first + case.bias * sums)
    return Estimate(np.array(found), 1e-12)


def _relu() -> Deep:
    return deep("relu", 2.0, correlation=0.5, depth=4, width=64, nets=1500)


def _by_layer(case: Deep, key: Array, weights: tuple[float, ...] = _HE) -> np.ndarray:
    return to_infinity(case, key, weights)[1:, [0, 2]]


def _predict_he(case: Deep, kept=False) -> Estimate:
    r"""Variances by products of $C_w/2$, angles by $\cos\theta' = \frac1\pi(\sin\theta + (\pi - \theta)\cos\theta)$."""
    angle, q, found = math.acos(case.correlation), case.variance, []
    for weight in _HE:
        q *= weight / 2.0
        cosine = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
        angle = angle if kept else math.acos(cosine)
        found.append((q, q * math.cos(angle)))
    # What is of second order in depth/width stays.
    return Estimate(np.array(found), (case.depth / case.width) ** 2 * np.max(found))


def _only_relu(case: Deep) -> str | None:
    """The activation is the rectifier."""
    return None if case.act.name == "relu" else f"the formulas are those of the rectifier, not of {case.act.name}"


def _predict_exponents(_case: None, kink=-2.0) -> Estimate:
    # Corrections are of the order log(l)/l, 0.004 to 0.012 there, with factors of a few.
    return Estimate(np.array([kink, -1.0, -1.0]), 0.06)


def _exponents(_case: None, _key: Array, factor=1.0) -> np.ndarray:
    """Slopes of logarithms over log depth: gaps of the rectifier and of tanh on its edge, and a variance of tanh."""
    edge = edge_of_chaos("tanh").at_bias_variance(0.05)
    weight, q = float(edge.weight_variance.value[0]), float(edge.variances[0])
    depth = _BETWEEN[1]
    paths = (
        trajectory("relu", 2.0 * factor, depth=depth, correlation=0.5).gap * factor**depth,
        trajectory("tanh", weight * factor, 0.05, depth=depth, variance=q, correlation=0.5).gap,
        trajectory("tanh", factor, depth=depth).variance,
    )
    early, late = (np.log([path[layer - 1] for path in paths]) for layer in _BETWEEN)
    return (late - early) / math.log(_BETWEEN[1] / _BETWEEN[0])


def _erf() -> Deep:
    return deep("erf", 1.0, nets=100_000)


def _on_edge(case: Deep, key: Array, steep=4.0, biased=1.0) -> np.ndarray:
    r"""$q'/q$ and $\chi_\perp$ of random layers whose variances are those of the closed form."""
    x, found = generator(key).standard_normal(case.nets), []
    for q in _EDGES:
        weight = math.pi / 4 * math.sqrt(1.0 + steep * q)
        bias = biased * (q - weight * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)))
        value, slope = values_and_slopes(case.act, math.sqrt(q) * x)
        found.append(((bias + weight * np.mean(value**2)) / q, weight * np.mean(slope**2)))
    return np.array(found)


def _predict_edge(_case: Deep) -> Estimate:
    return Estimate(np.ones((len(_EDGES), 2)), 1e-12)


def _only_erf(case: Deep) -> str | None:
    """The activation is the error function."""
    return None if case.act.name == "erf" else f"the curve is that of erf, not of {case.act.name}"


@dataclass(frozen=True)
class Phases:
    """Pairs of weight and bias variances of tanh networks in the two phases, and how deep they are followed."""

    weights: tuple[float, ...] = (1.0, 2.5)
    bias: float = 0.05
    depths: tuple[tuple[int, int], ...] = ((15, 40), (10, 100))


def _predict_rates(case: Phases, which="fixed point") -> Estimate:
    r"""$e^{-1/\xi_q}$ and $e^{-1/\xi_c}$."""
    found = depth_scales("tanh", case.weights, case.bias)
    angle = np.exp(-1.0 / found.xi_c.value)
    if which == "equal inputs":
        angle = found.chi_perp.value
    if which == "parallel":
        angle = found.chi_parallel.value
    # The deviations that are compared are of this size relative to their scale.
    return Estimate(np.stack([np.exp(-1.0 / found.xi_q.value), angle], axis=1), 2e-3)


def _rates(case: Phases, _key: Array) -> np.ndarray:
    """Ratios of deviations in neighbouring layers of the exact recursion."""
    fixed, rows = depth_scales("tanh", case.weights, case.bias), []
    for number, (weight, depths) in enumerate(zip(case.weights, case.depths, strict=True)):
        path = trajectory("tanh", weight, case.bias, depth=max(depths) + 2, correlation=0.6)
        q = path.variance - fixed.variance.value[number]
        gap = path.gap - (1.0 - fixed.correlation.value[number])
        rows.append((q[depths[0] + 1] / q[depths[0]], gap[depths[1] + 1] / gap[depths[1]]))
    return np.array(rows)


_FAR = 3000
_OUTPUTS, _ONE = 16, np.ones((1, 4))


def _predict_collapse(_case: None, smooth=2.0, kink=3.0) -> Estimate:
    edge = edge_of_chaos("tanh").at_bias_variance(0.05)
    q = float(edge.variances[0])
    beta = float(edge.weight_variance.value[0]) * q * float(second_slope(edge.activation, q).value)
    # Corrections are of the order log(l)/l.
    return Estimate(
        np.array([smooth / beta, kink * math.pi]), 4 * math.log(_FAR) / _FAR * np.array([2 / beta, 3 * math.pi])
    )


def _collapse(_case: None, _key: Array) -> np.ndarray:
    r"""$l(1 - \rho^{(l)})$ of tanh on its edge of chaos, and $l\theta_l$ of the rectifier."""
    edge = edge_of_chaos("tanh").at_bias_variance(0.05)
    weight, q = float(edge.weight_variance.value[0]), float(edge.variances[0])
    smooth = trajectory("tanh", weight, 0.05, depth=_FAR, variance=q, correlation=0.5).gap[-1]
    kinked = trajectory("relu", 2.0, depth=_FAR, correlation=0.5).gap[-1]
    return _FAR * np.array([smooth, 2 * math.asin(math.sqrt(kinked / 2))])


def _predict_ntk(_case: None, smooth=1 / 3) -> Estimate:
    return Estimate(np.array([0.25, smooth]), 0.25 * 8 * math.log(_FAR) / _FAR)


def _ntk_ratios(_case: None, _key: Array) -> np.ndarray:
    r"""$\Theta^{(l+1)} = K^{(l+1)} + C_wD^{(l)}\Theta^{(l)}$ off the diagonal over that on it, deep in a network."""
    q = 1.0
    erf = edge_of_chaos("erf", [q])
    pairs = (("relu", 2.0, 0.0), ("erf", float(erf.weight_variance.value[0]), float(erf.bias_variance.value[0])))
    return np.array([_ratio(*one, q) for one in pairs])


def _ratio(name: str, weight: float, bias: float, q: float) -> float:
    act = deep(name, weight, bias).act
    gap = trajectory(act, weight, bias, depth=_FAR, variance=q, correlation=math.cos(1.0)).gap
    slopes = weight * dual_at(act, np.full(_FAR, q), gap)[2].value
    equal = weight * float(moments(act, np.array([q])).slope.value[0])
    off, on = q * (1.0 - gap[0]), q
    for layer in range(1, _FAR):
        off, on = q * (1.0 - gap[layer]) + slopes[layer - 1] * off, q + equal * on
    return off / on


def _graded() -> Deep:
    return deep("tanh", 2.5, 0.1, depth=4, width=48, nets=150)


def _predict_gradients(case: Deep, which="slope") -> Estimate:
    r"""$\frac1k\|\partial f/\partial z^{(l)}\|^2$: products of $C_wm_1(K^{(l)})$, the readout with $C_w = 1$."""
    q = trajectory(case.act, case.weight, case.bias, depth=case.depth, variance=case.bias + case.weight).variance
    factors = getattr(moments(case.act, q), which).value * np.array([case.weight] * (case.depth - 1) + [1.0])
    value = np.cumprod(factors[::-1])[::-1]
    return Estimate(value, (case.depth / case.width) ** 2 * value)


def _gradients(case: Deep, key: Array) -> np.ndarray:
    """By automatic differentiation through sampled networks, extrapolated from two widths."""

    def at(width: int, part: Array) -> np.ndarray:
        network = MLP(width, case.depth, case.act, case.weight, case.bias).network(_OUTPUTS)
        drawn = networks(network, _ONE.shape[1], part, case.nets)
        return np.mean(np.asarray(_squared_gradients(drawn)), axis=0)[:-1]

    return extrapolated(at, case.width, key)


@eqx.filter_jit
def _squared_gradients(models: Callable) -> Float[Array, "nets layers"]:
    return eqx.filter_vmap(lambda model: strength(model, jnp.asarray(_ONE))[1])(models)


CLAIMS = (
    Claim(
        id="INIT-14",
        name="linear-networks-conserve-all-products",
        statement=r"In deep linear networks with $C_w=1$, $C_b=0$ every pair keeps its covariance, $K^{(l)}=K^{(1)}$.",
        sources=("hanin2023random", "roberts2022principles"),
        field=FIELD,
        setup=_linear,
        predict=_predict_linear,
        measure=_ends,
        relation=Equal(resolution=0.02),
        draws=16,
        mutants=(
            Mutant("weight variance 1.1", {"measure": partial(_ends, weight=1.1)}),
            Mutant("rectifiers of the same variance", {"measure": partial(_ends, act=_relu().act, weight=2.0)}),
        ),
    ),
    Claim(
        id="INIT-15",
        name="linear-networks-off-criticality",
        statement=r"Without biases a deep linear network multiplies covariances by $C_w$ in every layer, "
        r"$K^{(l)}=C_w^{l-1}K^{(1)}$.",
        sources=("roberts2022principles",),
        field=FIELD,
        setup=lambda: deep("identity", 0.9, depth=21, width=128),
        predict=_predict_linear,
        measure=_ends,
        relation=Equal(resolution=0.03),
        draws=16,
        mutants=(Mutant("the square in every layer", {"predict": partial(_predict_linear, power=2.0)}),),
    ),
    Claim(
        id="INIT-15b",
        name="biases-make-linear-networks-forget",
        statement=r"With $C_b>0$ and $C_w<1$ covariances of all pairs of a deep linear network go to "
        r"$K_*=C_b/(1-C_w)$, their differences like $C_w^l$: inputs are forgotten.",
        sources=("roberts2022principles",),
        field=FIELD,
        setup=lambda: deep("identity", 0.8, 0.4, depth=20, width=64),
        predict=_predict_linear,
        measure=_ends,
        relation=Equal(resolution=0.02),
        draws=16,
        mutants=(Mutant("only the last bias", {"predict": partial(_predict_linear, bias=False)}),),
    ),
    Claim(
        id="INIT-16",
        name="he-initialisation",
        statement=r"A rectifier network without biases brings the variance back to its start if "
        r"$\prod_lC_w^{(l)}=2^L$, while angles close by $\cos\theta'=\frac1\pi(\sin\theta+(\pi-\theta)\cos\theta)$.",
        sources=("he2015delving", "cho2009kernel"),
        field=FIELD,
        setup=_relu,
        predict=_predict_he,
        measure=_by_layer,
        relation=Equal(resolution=0.02),
        assumptions=(_only_relu,),
        draws=24,
        mutants=(
            Mutant("weight variance 1", {"measure": partial(_by_layer, weights=(1.0, 1.0, 1.0))}),
            Mutant("angles kept", {"predict": partial(_predict_he, kept=True)}),
        ),
    ),
    Claim(
        id="INIT-21",
        name="criticality-means-powers-of-depth",
        statement=r"At criticality $1-\rho^{(l)}$ falls like $l^{-2}$ for the rectifier and like $l^{-1}$ for smooth "
        r"activations, and the variance of tanh at $K_*=0$ like $l^{-1}$; off it everything is exponential.",
        sources=("schoenholz2017deep", "hayou2019impact", "roberts2022principles"),
        field=FIELD,
        setup=lambda: None,
        predict=_predict_exponents,
        measure=_exponents,
        relation=Equal(resolution=0.05),
        mutants=(
            Mutant("weight variance 2 % too small", {"measure": partial(_exponents, factor=0.98)}),
            Mutant("the rectifier like a smooth activation", {"predict": partial(_predict_exponents, kink=-1.0)}),
        ),
    ),
    Claim(
        id="INIT-27",
        name="edge-of-chaos-of-erf",
        statement=r"For erf the edge of chaos is $C_w=\frac\pi4\sqrt{1+4q}$, "
        r"$C_b=q-C_w\frac2\pi\arcsin\frac{2q}{1+2q}$: there a layer keeps the variance q and $\chi_\perp=1$.",
        sources=("poole2016exponential", "schoenholz2017deep", "williams1997computing"),
        field=FIELD,
        setup=_erf,
        predict=_predict_edge,
        measure=_on_edge,
        relation=Equal(resolution=0.01),
        assumptions=(_only_erf,),
        draws=16,
        mutants=(
            Mutant("2q for 4q", {"measure": partial(_on_edge, steep=2.0)}),
            Mutant("bias forgotten", {"measure": partial(_on_edge, biased=0.0)}),
        ),
    ),
    Claim(
        id="INIT-28",
        name="depth-scales",
        statement=r"Variances approach $q_*$ like $e^{-l/\xi_q}$, $\xi_q^{-1}=-\log\chi_\parallel$, and correlations "
        r"$\rho_*$ like $e^{-l/\xi_c}$, $\xi_c^{-1}=-\log(C_wE\sigma'(u)\sigma'(v))$ at $\rho_*$.",
        sources=("schoenholz2017deep", "poole2016exponential"),
        field=FIELD,
        setup=Phases,
        predict=_predict_rates,
        measure=_rates,
        relation=Equal(),
        mutants=(
            Mutant("slope at equal inputs in both phases", {"predict": partial(_predict_rates, which="equal inputs")}),
            Mutant("chi_parallel for both", {"predict": partial(_predict_rates, which="parallel")}),
        ),
    ),
    Claim(
        id="INIT-29",
        name="collapse-of-angles-on-the-edge-of-chaos",
        statement=r"On the edge of chaos $1-\rho^{(l)}\simeq\frac2{\beta l}$ with $\beta=C_wqE(\sigma'')^2$ for smooth "
        r"activations, and $\theta_l\simeq\frac{3\pi}l$ for the rectifier.",
        sources=("hayou2019impact",),
        field=FIELD,
        setup=lambda: None,
        predict=_predict_collapse,
        measure=_collapse,
        relation=Equal(resolution=0.02),
        mutants=(
            Mutant("1 for 2", {"predict": partial(_predict_collapse, smooth=1.0)}),
            Mutant("2 pi for 3 pi", {"predict": partial(_predict_collapse, kink=2.0)}),
        ),
    ),
    Claim(
        id="INIT-29b",
        name="deep-tangent-kernels-on-the-edge-of-chaos",
        statement=r"Of very deep networks on the edge of chaos the NTK of different inputs is $\frac14$ of that of "
        r"equal ones for the rectifier, and $\frac13$ for smooth activations.",
        sources=("xiao2020disentangling", "hayou2019impact"),
        field=FIELD,
        setup=lambda: None,
        predict=_predict_ntk,
        measure=_ntk_ratios,
        relation=Equal(resolution=0.03),
        mutants=(Mutant("1/4 for smooth activations too", {"predict": partial(_predict_ntk, smooth=0.25)}),),
    ),
    Claim(
        id="INIT-30",
        name="gradients-go-back-by-chi-perp",
        statement=r"On its way back through a layer a squared gradient is multiplied by $\chi_\perp(K^{(l)})$, so that "
        r"$\|\partial f/\partial z^{(l)}\|^2=\prod_{l'\ge l}\chi_\perp(K^{(l')})$ in wide networks.",
        sources=("schoenholz2017deep", "poole2016exponential", "pennington2017resurrecting"),
        field=FIELD,
        setup=_graded,
        predict=_predict_gradients,
        measure=_gradients,
        relation=Equal(resolution=0.03),
        draws=24,
        mutants=(
            Mutant("chi_parallel for chi_perp", {"predict": partial(_predict_gradients, which="growth")}),
            Mutant("derivative missing", {"predict": partial(_predict_gradients, which="square")}),
        ),
    ),
)
