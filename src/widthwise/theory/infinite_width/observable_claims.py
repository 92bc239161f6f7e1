"""Claims about collective observables: averages over neurons, how they fluctuate, and why the limit is Gaussian."""

import dataclasses
import math
from functools import partial

import numpy as np
from jaxtyping import Array

from widthwise.activations import monomial
from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.networks import MLP, Apply, Chain
from widthwise.numerics import Estimate

from .fluctuations import characteristic_function, fluctuations, second_moment_growth
from .setups import (
    FIELD,
    Case,
    covariances,
    draws,
    exactly_solvable,
    limit_variance,
    one_input,
    polynomially_bounded,
    to_infinity,
    wide_enough,
)

_FREQUENCIES = np.array([0.5, 1.0, 2.0])
_LOW = np.array([0.5, 0.75, 1.0])
_WIDTHS = (16.0, 32.0, 64.0, 128.0)
_SQUARE = Apply(monomial(2))
_EXACT = 1e-12  # what quadrature leaves


def _few() -> Case:
    return Case(MLP(width=3, depth=1, activation="relu"), one_input(), nets=8000)


def _characteristic(case: Case, key: Array) -> np.ndarray:
    f = draws(case.mlp, case.X, key, case.nets)[:, 0, 0]
    return np.mean(np.cos(_FREQUENCIES[:, None] * f), axis=1)


def _predict_characteristic(case: Case, half=0.5) -> Estimate:
    xi = _FREQUENCIES * math.sqrt(2.0 * half)
    return Estimate(characteristic_function(case.mlp.network(), case.mean_square, xi), _EXACT)


def _predict_gaussian(case: Case) -> Estimate:
    return Estimate(np.exp(-0.5 * _FREQUENCIES**2 * limit_variance(case)), _EXACT)


def _one_hidden_layer(case: Case) -> str | None:
    """There is one hidden layer."""
    depth = case.mlp.depth
    return None if depth == 1 else f"the characteristic function is known for one hidden layer, not for {depth}"


def _rectifiers() -> Case:
    return Case(MLP(width=64, depth=3, activation="relu"), one_input(), nets=2500)


def _two_moments(case: Case, key: Array) -> np.ndarray:
    K = covariances(case.mlp.network(), case.X, key, case.nets)[:, -1, 0, 0]
    return np.array([np.mean(K), np.mean(K**2)])


def _predict_two_moments(case: Case, **changed) -> Estimate:
    growth = second_moment_growth(dataclasses.replace(case.mlp, **changed).network())
    K = limit_variance(case)
    return Estimate(np.array([K, K**2 * growth]), _EXACT * K**2 * growth)


def _saturating() -> Case:
    mlp = MLP(width=32, depth=3, activation="tanh", weight_variance=1.5, bias_variance=0.05)
    return Case(mlp, one_input(), nets=3000)


def _scaled_variances(case: Case, key: Array, power=1.0) -> np.ndarray:
    r"""$n\,\mathrm{Var}\,\hat K^{(l)}$ of every layer but the first, which does not fluctuate."""

    def at(width, key):
        K = covariances(case.mlp.at_width(width).network(), case.X, key, case.nets)[:, 1:, 0, 0]
        return width**power * np.var(K, axis=0, ddof=1)

    return to_infinity(at, case.mlp.width, key)


def _predict_variances(case: Case, passed_on=True) -> Estimate:
    found = fluctuations(case.mlp.network(), case.mean_square)
    variance = found.variance.value[1:]
    if not passed_on:
        variance = variance - found.response.value[1:] ** 2 * found.variance.value[:-1]
    value = case.mlp.width * variance
    # Extrapolation leaves what is of the order (depth/width)^2.
    return Estimate(value, (case.mlp.depth / case.mlp.width) ** 2 * value)


def _observed(case: Case, key: Array) -> np.ndarray:
    r"""The root mean square deviation of $\frac1n\sum_jz_j^4$ in the last hidden layer, at each width."""
    mean = 3.0 * float(fluctuations(case.mlp.network(), case.mean_square).limit.value[-2]) ** 2
    found = [
        covariances(_fourth_powers(case, int(width)), case.X, key, case.nets)[:, -1, 0, 0] - mean for width in _WIDTHS
    ]
    return np.array([np.sqrt(np.mean(off**2)) for off in found])


def _predict_rate(case: Case) -> Estimate:
    # The fit has the first correction; the next one, (depth/width)^2, bends the line by that much at most.
    return Estimate(-0.5, (case.mlp.depth / _WIDTHS[0]) ** 2)


def _fourth_powers(case: Case, width: int) -> Chain:
    """The network whose last activation is the square: the variance of its output is the mean fourth power."""
    layers = case.mlp.at_width(width).network().layers
    return Chain((*layers[:-2], _SQUARE, layers[-1]))


def _gap_case() -> Case:
    return Case(MLP(width=32, depth=2, activation="abs"), one_input(), nets=3000)


def _gap(case: Case, key: Array, power=1.0) -> np.ndarray:
    r"""$n(E e^{-\frac12\xi^2\hat K} - e^{-\frac12\xi^2K})$, the part linear in $\hat K - K$, of mean zero, left out."""
    K, square = limit_variance(case), _LOW[:, None] ** 2

    def at(width, key):
        off = covariances(case.mlp.at_width(width).network(), case.X, key, case.nets)[:, -1, 0, 0] - K
        gaps = np.expm1(-0.5 * square * off) + 0.5 * square * off
        return width**power * np.exp(-0.5 * square[:, 0] * K) * np.mean(gaps, axis=1)

    return to_infinity(at, case.mlp.width, key)


def _predict_gap(case: Case, eighth=0.125) -> Estimate:
    K, variance = limit_variance(case), fluctuations(case.mlp.network(), case.mean_square).variance.value[-1]
    square = _LOW**2
    value = eighth * square**2 * np.exp(-0.5 * square * K) * case.mlp.width * variance
    # Extrapolation leaves what is of the order of the squared variance.
    return Estimate(value, (variance / K**2) ** 2 * float(np.max(value)))


CLAIMS = (
    Claim(
        id="INIT-10",
        name="characteristic-function-of-an-output",
        statement=r"$E e^{-i\xi f(x)}=E e^{-\frac12\xi^2\hat K}$, because an output is Gaussian given the last hidden "
        r"layer; with one hidden layer of width n it is $(E e^{-\frac{C_w}{2n}\xi^2\sigma(z)^2})^n$.",
        sources=("hanin2023random",),
        field=FIELD,
        setup=_few,
        predict=_predict_characteristic,
        measure=_characteristic,
        relation=Equal(),
        assumptions=(_one_hidden_layer,),
        draws=16,
        mutants=(
            Mutant("already Gaussian", {"predict": _predict_gaussian}),
            Mutant("a half lost", {"predict": partial(_predict_characteristic, half=1.0)}),
        ),
    ),
    Claim(
        id="INIT-11",
        name="moments-of-a-random-rectifier-network",
        statement=r"For rectifiers with $C_w=2$ and no biases $E\hat K=K$ and "
        r"$E\hat K^2=K^2\prod_{l=1}^L(1+5/n_l)$ at any width, so an output has the excess kurtosis "
        r"$3(\prod_l(1+5/n_l)-1)$.",
        sources=("roberts2022principles", "hanin2023random"),
        field=FIELD,
        setup=_rectifiers,
        predict=_predict_two_moments,
        measure=_two_moments,
        relation=Equal(resolution=0.02),
        assumptions=(exactly_solvable,),
        draws=16,
        mutants=(
            Mutant("one layer lost", {"predict": partial(_predict_two_moments, depth=2)}),
            Mutant("the factor of a linear network", {"predict": partial(_predict_two_moments, activation="identity")}),
        ),
    ),
    Claim(
        id="INIT-11b",
        name="variance-of-the-covariance-by-layer",
        statement=r"To first order in 1/n, $\mathrm{Var}\,\hat K^{(l+1)}=\frac{C_w^2}n(E\sigma^4-(E\sigma^2)^2)"
        r"+\chi_\parallel^2\,\mathrm{Var}\,\hat K^{(l)}$.",
        sources=("roberts2022principles", "yaida2020non"),
        field=FIELD,
        setup=_saturating,
        predict=_predict_variances,
        measure=_scaled_variances,
        relation=Equal(resolution=0.1),
        assumptions=(polynomially_bounded, wide_enough),
        draws=16,
        mutants=(
            Mutant("nothing passed on", {"predict": partial(_predict_variances, passed_on=False)}),
            Mutant("rate 1/n^2", {"measure": partial(_scaled_variances, power=2.0)}),
        ),
    ),
    Claim(
        id="INIT-11c",
        name="collective-observables-stop-fluctuating",
        statement=r"An average over the neurons of a layer, $\frac1n\sum_jg(z_j)$ with g polynomially bounded, "
        r"deviates from its limit by $O(n^{-1/2})$; here $g(z)=z^4$.",
        sources=("hanin2023random",),
        field=FIELD,
        setup=lambda: Case(MLP(depth=2, activation="tanh", weight_variance=1.5), one_input(), nets=400),
        predict=_predict_rate,
        measure=_observed,
        relation=Scaling(sizes=_WIDTHS),
        assumptions=(polynomially_bounded,),
        draws=16,
        mutants=(
            Mutant("rate 1/n", {"predict": lambda case: Estimate(-1.0, 0.0)}),
            Mutant("no averaging", {"predict": lambda case: Estimate(0.0, 0.0)}),
        ),
    ),
    Claim(
        id="INIT-12",
        name="the-fluctuating-covariance-decides-the-law",
        statement=r"The law of an output tends to a Gaussian because $\hat K\to K$: to first order in 1/n, "
        r"$E e^{-\frac12\xi^2\hat K}-e^{-\frac12\xi^2K}=\frac18\xi^4e^{-\frac12\xi^2K}\,\mathrm{Var}\,\hat K$ "
        r"where $E\hat K=K$.",
        sources=("hanin2023random",),
        field=FIELD,
        setup=_gap_case,
        predict=_predict_gap,
        measure=_gap,
        relation=Equal(resolution=0.05),
        assumptions=(exactly_solvable, wide_enough),
        draws=16,
        mutants=(
            Mutant("1/4 for 1/8", {"predict": partial(_predict_gap, eighth=0.25)}),
            Mutant("rate n^-1/2", {"measure": partial(_gap, power=0.5)}),
        ),
    ),
)
