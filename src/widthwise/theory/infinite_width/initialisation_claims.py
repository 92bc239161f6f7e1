"""Claims about networks at initialisation: Gaussian in the limit, and Gaussian given the layer before at any width."""

from functools import partial

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import MLP, Chain
from widthwise.numerics import Estimate, normal_rule

from .fluctuations import second_moment_growth
from .setups import (
    FIELD,
    Case,
    covariances,
    draws,
    exactly_solvable,
    inputs,
    limit,
    limit_variance,
    networks,
    one_input,
    outputs,
    polynomially_bounded,
    to_infinity,
    upper,
    wide_enough,
)

_OUTPUTS = 24


def _case(nets: int = 250, **fields) -> Case:
    return Case(
        MLP(**{"width": 24, "depth": 2, "activation": "erf", "weight_variance": 1.5, "bias_variance": 0.1, **fields}),
        inputs(),
        nets,
    )


def _second_moments(case: Case, width: int, key: Array, readout: float) -> np.ndarray:
    """Mean products of the outputs: of one neuron at two inputs, and of two neurons."""
    f = readout * draws(case.mlp.at_width(width), case.X, key, case.nets, _OUTPUTS)
    others = [f, np.roll(f, 1, axis=2)]
    return np.concatenate([upper(np.einsum("nak,nbk->ab", f, other)) / f[:, 0].size for other in others])


def _output_covariance(case: Case, key: Array, fan_out=False) -> np.ndarray:
    def at(width, key):
        # The readout alone has another fan-out than fan-in.
        readout = np.sqrt(width / _OUTPUTS) if fan_out else 1.0
        return _second_moments(case, width, key, readout)

    return to_infinity(at, case.mlp.width, key)


def _predict_outputs(case: Case, shared=0.0) -> Estimate:
    same = limit(case)
    # What extrapolation leaves is of the order (depth/width)^2.
    error = same.error + (case.mlp.depth / case.mlp.width) ** 2 * np.max(same.value)
    return Estimate(np.concatenate([same.value, shared * same.value]), error)


def _integrated(case: Case, key: Array, biased=1.0, coupled=True) -> np.ndarray:
    r"""The recursion by a plain integral over $u=\sqrt{q_1}X$, $v=\sqrt{q_2}(\rho X+\sqrt{1-\rho^2}Y)$."""
    X, (weight, bias) = np.asarray(case.X), case.mlp.variances
    K = biased * bias + weight * X @ X.T / X.shape[1]
    for layer in range(case.mlp.depth):
        weight, bias = case.mlp.variances if layer + 1 < case.mlp.depth else (1.0, 0.0)
        K = biased * bias + weight * _mean_products(case.act, K, coupled)
    return upper(K)


def _mean_products(act: Activation, K: np.ndarray, coupled: bool) -> np.ndarray:
    (x, w), found = normal_rule(200), np.zeros_like(K)
    for i, j in zip(*np.triu_indices(len(K)), strict=True):
        rho = np.clip(K[i, j] / np.sqrt(K[i, i] * K[j, j]), -1.0, 1.0) if coupled else 0.0
        u, v = np.sqrt(K[i, i]) * x, np.sqrt(K[j, j]) * (rho * x[:, None] + np.sqrt(1 - rho**2) * x)
        first, second = (np.asarray(act(jnp.asarray(part))) for part in (u, v))
        found[i, j] = found[j, i] = (w * first) @ second @ w
    return found


def _predict_recursion(case: Case) -> Estimate:
    found = limit(case)
    # The covariance from which the measurement takes an angle has lost half of its digits where inputs are near.
    return Estimate(found.value, found.error + 1e-10 * np.max(np.abs(found.value)))


def _smooth(case: Case) -> str | None:
    """The activation is smooth, so that the plain integral is accurate."""
    return None if case.act.smooth else f"the trapezoid rule is not accurate because {case.act.name} has a kink"


def _by_weights(case: Case, key: Array) -> np.ndarray:
    r"""$\hat K$ of the outputs of networks whose weights are drawn."""
    hidden = Chain(case.mlp.network().layers[:-1])
    z = np.asarray(outputs(networks(hidden, case.X.shape[1], key, case.nets), case.X))
    return _moments(np.einsum("nak,nbk->nab", z, z) / z.shape[2])


def _by_covariances(case: Case, key: Array, width: int | None = None) -> np.ndarray:
    network = case.mlp.at_width(width or case.mlp.width).network()
    return _moments(covariances(network, case.X, key, case.nets)[:, -1])


def _moments(K: Float[np.ndarray, "nets n n"]) -> Float[np.ndarray, " k"]:
    """The means of all entries of a covariance and of all their products."""
    entries = K.reshape(len(K), -1)
    return np.concatenate([np.mean(entries, axis=0), (entries.T @ entries).ravel() / len(K)])


def _difference(case: Case, key: Array, width: int | None = None) -> np.ndarray:
    first, second = jr.split(key)
    return _by_weights(case, first) - _by_covariances(case, second, width)


def _difference_to_limit(case: Case, key: Array) -> np.ndarray:
    K = _full_limit(case)
    return _by_weights(case, key) - np.concatenate([K, np.outer(K, K).ravel()])


def _full_limit(case: Case) -> np.ndarray:
    matrix = np.zeros((len(case.X), len(case.X)))
    matrix[np.triu_indices(len(case.X))] = limit(case).value
    return (matrix + matrix.T - np.diag(np.diag(matrix))).ravel()


def _predict_no_difference(case: Case) -> Estimate:
    return Estimate(np.zeros(len(case.X) ** 2 + len(case.X) ** 4), 0.0)


def _split_case() -> Case:
    return Case(MLP(width=16, depth=2, activation="relu"), one_input(), nets=3000)


def _split(case: Case, key: Array, shared=False) -> np.ndarray:
    """The variance of an output within and between networks, and how squares of two outputs vary together."""
    f = draws(case.mlp, case.X, key, case.nets, _OUTPUTS)[:, 0]
    f = f + f[:, :1] if shared else f
    k, squares = _OUTPUTS, f**2
    within = np.mean(np.var(f, axis=1, ddof=1))
    pairs = np.mean(np.sum(squares, axis=1) ** 2 - np.sum(squares**2, axis=1)) / (k * (k - 1))
    return np.array([within, np.mean(squares) - within, pairs])


def _predict_split(case: Case, independent=False) -> Estimate:
    K = limit_variance(case)
    growth = 1.0 if independent else second_moment_growth(case.mlp.network())
    return Estimate(np.array([K, 0.0, K**2 * growth]), 1e-12 * K**2 * growth)


CLAIMS = (
    Claim(
        id="INIT-7",
        name="wide-networks-are-gaussian-processes",
        statement=r"As the widths grow, the outputs of a network at initialisation become Gaussian with covariance "
        r"$\mathrm{Cov}(f_i(x),f_j(x'))=\delta_{ij}K(x,x')$.",
        sources=("neal1996bayesian", "lee2018deep", "matthews2018gaussian", "hanin2023random"),
        field=FIELD,
        setup=_case,
        predict=_predict_outputs,
        measure=_output_covariance,
        relation=Equal(resolution=0.03),
        assumptions=(polynomially_bounded, wide_enough),
        draws=16,
        mutants=(
            Mutant("fan-out for fan-in", {"measure": partial(_output_covariance, fan_out=True)}),
            Mutant("outputs not independent", {"predict": partial(_predict_outputs, shared=0.5)}),
        ),
    ),
    Claim(
        id="INIT-8",
        name="recursion-of-the-covariance",
        statement=r"$K^{(1)}(x,x')=C_b+\frac{C_w}dx\cdot x'$ and "
        r"$K^{(l+1)}=C_b+C_wE[\sigma(u)\sigma(v)]$ with $(u,v)\sim N(0,K^{(l)})$.",
        sources=("neal1996bayesian", "williams1997computing", "lee2018deep"),
        field=FIELD,
        setup=_case,
        predict=_predict_recursion,
        measure=_integrated,
        relation=Equal(),
        assumptions=(_smooth,),
        mutants=(
            Mutant("bias forgotten", {"measure": partial(_integrated, biased=0.0)}),
            Mutant("inputs taken as independent", {"measure": partial(_integrated, coupled=False)}),
        ),
    ),
    Claim(
        id="INIT-9",
        name="gaussian-given-the-layer-before",
        statement=r"Given one layer the next has independent Gaussian neurons with covariance "
        r"$\hat K=C_b+\frac{C_w}n\sum_j\sigma(z_j)\sigma(z_j)^\top$, so that a network of any width is a Markov chain "
        r"of covariances, and sampling it needs no weights.",
        sources=("hanin2023random",),
        field=FIELD,
        setup=partial(_case, 2500, width=4),
        predict=_predict_no_difference,
        measure=_difference,
        relation=Equal(scale=1.0),
        draws=16,
        mutants=(
            Mutant("twice the width", {"measure": partial(_difference, width=8)}),
            Mutant("no fluctuations", {"measure": _difference_to_limit}),
        ),
    ),
    Claim(
        id="INIT-13",
        name="total-covariance-of-the-outputs",
        statement=r"All of the variance of an output is $E\hat K$, the mean of that given the last hidden layer; none "
        r"is the variance of a conditional mean. Outputs share $\hat K$: $E f_i^2f_j^2=E\hat K^2$, which for a "
        r"rectifier without biases is $K^2\prod_l(1+5/n_l)$.",
        sources=("hanin2023random", "roberts2022principles"),
        field=FIELD,
        setup=_split_case,
        predict=_predict_split,
        measure=_split,
        relation=Equal(resolution=0.03),
        assumptions=(exactly_solvable,),
        draws=16,
        mutants=(
            Mutant("outputs independent at finite width", {"predict": partial(_predict_split, independent=True)}),
            Mutant("one weight for all outputs", {"measure": partial(_split, shared=True)}),
        ),
    ),
)
