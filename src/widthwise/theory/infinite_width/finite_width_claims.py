"""Claims about how the tangent kernel of a finite network comes to its limit: all its outputs, and at which rate."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import MLP, kernel
from widthwise.numerics import Estimate
from widthwise.operators import empirical_kernel

from .setups import FIELD, Case, inputs, limit, networks, polynomially_bounded, to_infinity, wide_enough

_OUTPUTS = 3
_WIDTHS = (12, 24, 48)


@eqx.filter_jit
def _kernels(models: Callable, X: Float[Array, "n d"]) -> Float[Array, "nets n k n k"]:
    return eqx.filter_vmap(lambda model: empirical_kernel(model, X, outputs="all"))(models)


def _drawn(case: Case, width: int, outputs: int, key: Array) -> np.ndarray:
    network = case.mlp.at_width(width).network(outputs)
    return np.asarray(_kernels(networks(network, case.X.shape[1], key, case.nets), case.X))


def _several() -> Case:
    return Case(MLP(width=24, depth=2, activation="erf", weight_variance=1.5, bias_variance=0.1), inputs(), 300)


def _mean(case: Case, key: Array) -> np.ndarray:
    """The mean kernel of all outputs, extrapolated to infinite width."""
    return to_infinity(lambda width, one: _drawn(case, width, _OUTPUTS, one).mean(axis=0), case.mlp.width, key)


def _predict_blocks(case: Case, shared=0.0, which="ntk") -> Estimate:
    found = limit(case, which)
    matrix = np.zeros((len(case.X), len(case.X)))
    matrix[np.triu_indices(len(case.X))] = found.value
    matrix += np.triu(matrix, 1).T
    blocks = np.eye(_OUTPUTS) + shared * (1.0 - np.eye(_OUTPUTS))
    # Extrapolation leaves what is of the order (depth/width)^2.
    left = (case.mlp.depth / case.mlp.width) ** 2 * np.max(matrix)
    return Estimate(np.einsum("nm,jl->njml", matrix, blocks), float(np.max(found.error)) + left)


def square_network_bias(weight_variance: float, first: float) -> float:
    r"""How far the mean NTK of two hidden layers of squares, $\sigma(z) = z^2$, lies above its limit, times n.

    $n(E\hat\Theta(x,x) - \Theta(x,x)) = 1344\,C_w^2\,(K^{(1)}(x,x))^4$, exact at any width n, for a readout of variance
    1 without a bias. Given the first layer, the mean is $7\hat K^2 + \frac{4C_w}n\sum_is_i(\hat K +
    \frac{2C_w}nz_i^4)$ with $\hat K = C_b + \frac{C_w}n\sum_iz_i^4$ and $s_i = 4z_i^2K^{(1)}$, whose deviations are
    those of averages over n Gaussian $z_i$: $7\cdot 96$ and $4(48 + 120)$.

    >>> square_network_bias(0.5, 2.0)
    5376.0
    """
    return 1344.0 * weight_variance**2 * first**4


def _squares() -> Case:
    square = Activation("square", jnp.square)
    return Case(MLP(depth=2, activation=square, weight_variance=1.0, bias_variance=1.0), inputs(), 1000)


def _mean_deviation(case: Case, key: Array) -> np.ndarray:
    """The mean of the diagonal of the kernel over its limit less 1, at each width."""
    exact = np.trace(kernel(case.mlp.at_width(1).network(), case.X).ntk)
    return np.array([np.einsum("anjnj->", _drawn(case, width, 1, key)) for width in _WIDTHS]) / case.nets / exact - 1.0


def _predict_deviation(case: Case, power=1.0, factor=1.0) -> Estimate:
    """The law c/n; with another power it agrees at the smallest width."""
    weight, bias = case.mlp.variances
    first = bias + weight * np.mean(np.asarray(case.X) ** 2, axis=1)
    found = kernel(case.mlp.at_width(1).network(), case.X)
    whole = sum(square_network_bias(weight, float(one)) for one in first) / np.trace(found.ntk) / _WIDTHS[0]
    return Estimate(factor * whole * (_WIDTHS[0] / np.array(_WIDTHS)) ** power, found.error * len(case.X))


def _of_squares(case: Case) -> str | None:
    """Two hidden layers of squares, for which the mean is known at any width."""
    act, z = case.act, jnp.asarray([-2.0, 0.5, 3.0])
    if case.mlp.depth == 2 and np.array_equal(act(z), np.square(z)):
        return None
    return f"the mean is known for two hidden layers of squares, and not for {case.mlp.depth} of {act.name}"


CLAIMS = (
    Claim(
        id="KERN-2",
        name="tangent-kernel-of-several-outputs",
        statement=r"The empirical NTK of a finite network with several outputs is, up to $O(1/n)$ in the mean, "
        r"$\Theta_{jk}(x,y)=\delta_{jk}\Theta(x,y)$: every output has the kernel of infinite width, and two of them "
        r"share none.",
        sources=("jacot2018neural", "lee2019wide"),
        field=FIELD,
        setup=_several,
        predict=_predict_blocks,
        measure=_mean,
        relation=Equal(resolution=0.03),
        assumptions=(polynomially_bounded, wide_enough),
        draws=16,
        mutants=(
            Mutant("hidden layers shared by all outputs", {"predict": partial(_predict_blocks, shared=1.0)}),
            Mutant("only the readout learns", {"predict": partial(_predict_blocks, which="nngp")}),
        ),
    ),
    Claim(
        id="KERN-2b",
        name="mean-tangent-kernel-at-rate-one-over-width",
        statement=r"The mean of the empirical NTK deviates from its limit by $c/n$, not by $n^{-1/2}$ as a single "
        r"network does; for two hidden layers of squares $c=1344\,C_w^2(K^{(1)})^4$, at any width.",
        sources=("jacot2018neural",),
        field=FIELD,
        derived_here=True,
        setup=_squares,
        predict=_predict_deviation,
        measure=_mean_deviation,
        relation=Equal(resolution=0.1),
        assumptions=(_of_squares,),
        draws=24,
        mutants=(
            Mutant("rate of a single network", {"predict": partial(_predict_deviation, power=0.5)}),
            # 7*96 + 4*48: without the squared weights meeting the outputs that they make.
            Mutant(
                "weights taken as independent of the layer", {"predict": partial(_predict_deviation, factor=864 / 1344)}
            ),
            Mutant("no deviation", {"predict": partial(_predict_deviation, factor=0.0)}),
        ),
    ),
)
