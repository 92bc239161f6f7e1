"""Claims about the laws at initialisation: which weights, how Gaussian, and how averages concentrate."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Array

from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.numerics import Estimate, normal_rule

from .maps import trajectory
from .moments import values_and_slopes
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
)
