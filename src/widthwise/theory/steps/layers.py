r"""Learning rates for each layer of an infinitely wide network: what each contributes, and which are stable.

Legend: $\Theta_W^{(l)}, \Theta_b^{(l)}$ (n, n) what the weights and biases of layer l add to the tangent kernel at
rate 1, $\eta_W^{(l)}, \eta_b^{(l)}$ their rates, s the scale of the loss, L the number of hidden layers, $n_{l-1}$ the
fan-in. Outputs move in one step by $-s\Theta^\eta(f - Y)$ with
$\Theta^\eta = \sum_l\eta_W^{(l)}\Theta_W^{(l)} + \eta_b^{(l)}\Theta_b^{(l)}$, stable iff
$s\lambda_{max}(\Theta^\eta) < 2$.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.measure import flat
from widthwise.networks import MLP, AbstractLayer, Chain, Dense
from widthwise.numerics import Estimate, Loss, nearest, reject
from widthwise.theory.infinite_width import LayerShare, ntk_by_parameter

WAYS = ("equal", "depth", "uniform")


@dataclass(frozen=True)
class LayerRate:
    r"""The learning rates of one layer, and the share of the curvature that its parameters have at them.

    A share is $s\eta\lambda_{max}(\Theta)$ of these parameters alone; all shares together are at least the largest
    curvature. Parameters that do not exist have rate 0.
    """

    layer: str
    weight: float
    bias: float
    weight_share: float
    bias_share: float


@dataclass(frozen=True, eq=False)
class LayerRates:
    r"""Rates for each layer, made by `layer_rates`.

    ``kernel`` $\Theta^\eta$ (n, n); ``curvature`` $s\lambda_{max}(\Theta^\eta)$, stable below 2 and best for its own
    mode at 1; ``uniform`` the rate below which one rate for all parameters is stable; ``network`` the same network with
    these rates: gradient descent of rate 1 trains its samples by them, and its `widthwise.kernel` is ``kernel``.
    """

    layers: tuple[LayerRate, ...]
    kernel: Float[np.ndarray, "n n"]
    curvature: Estimate
    uniform: float
    network: Chain

    def __repr__(self) -> str:
        return f"LayerRates({len(self.layers)} layers, curvature {float(self.curvature.value):.4g})"

    def __str__(self) -> str:
        head = f"{'layer':<44}{'rate of W':>12}{'rate of b':>12}{'share of W':>12}{'share of b':>12}"
        rows = [
            f"{one.layer:<44}{one.weight:>12.4g}{one.bias:>12.4g}{one.weight_share:>12.3g}{one.bias_share:>12.3g}"
            for one in self.layers
        ]
        return "\n".join([head, *rows, f"curvature {float(self.curvature.value):.4g} (stable below 2)"])


def layer_rates(
    network: AbstractLayer | MLP, X: ArrayLike, how: str = "equal", *, fraction: float = 0.5, loss: str = "half-mean"
) -> LayerRates:
    r"""Learning rates for the weights and the biases of each layer at infinite width, for the inputs X.

    ``how="equal"``   $\eta\propto1/\lambda_{max}(\Theta^{(l)})$: every W and b contributes as much to the change of the
    outputs; where the covariance dies out (tanh at $C_b = 0$) that is $\eta_b\propto1/l$, $\eta_W\propto1/n_{l-1}$;
    ``how="depth"``   $\eta_W\propto\frac1{(L+1)n_{l-1}}$, $\eta_b\propto\frac1{L+1}$ in the standard parameterisation
    and $\frac1{L+1}$ for all in the NTK one: the curvature depends neither on width nor, at criticality, much on depth;
    ``how="uniform"`` one rate.

    All are scaled together so that $s\lambda_{max}(\Theta^\eta) = 2\cdot$``fraction``, where 1 is the threshold.

    Args:
        network: dense layers and activations, each with its parameterisation (and rates, which are set aside), or an
            `MLP`, which is taken with one output.
        X: inputs (n, d).
        loss: a convention of `widthwise.numerics.Loss`.

    Raises ``ValueError`` for other layers and other words, a fraction outside (0, 1], the mean-field parameterisation
    (its rates are scaled already), and in the standard parameterisation for a layer without a size.
    Source: sohldickstein2020infinite, bartlett2021deep; the equal rates are derived in this project.

    >>> from widthwise.networks import MLP
    >>> found = layer_rates(MLP(width=64, depth=1, activation="relu").network(), [[1.0, 1.0]])
    >>> [round(layer.weight, 12) for layer in found.layers], round(found.uniform, 12)
    ([0.5, 0.5], 1.0)
    """
    if how not in WAYS:
        reject(f"how={how!r}{nearest(how, WAYS)}", f"The ways are {', '.join(map(repr, WAYS))}", "Choose one by name")
    if not 0 < fraction <= 1:
        reject(f"fraction={fraction}", "A fraction of the threshold is above 0 and at most 1", "Give fraction=0.5")
    network = network.network() if isinstance(network, MLP) else network
    plain = _with_rates(network, lambda index: (1.0, 1.0))
    shares = ntk_by_parameter(plain, X)
    scale = Loss(loss, len(np.asarray(X)), dense_layers(plain)[-1].size or 1).scale
    tops = [tuple(scale * _top(part.value) for part in (share.weight, share.bias)) for share in shares]
    raw = _raw(plain, tops, np.shape(X)[1], how)
    if (most := _top(_weighted(shares, raw))) == 0.0:
        reject(
            "a tangent kernel that is zero on these inputs",
            "Some parameter moves the outputs on the inputs X",
            "Give inputs that are not all zero, or a network with biases",
        )
    factor = 2.0 * fraction / (scale * most)
    rates = [(factor * weight, factor * bias) for weight, bias in raw]
    kernel = _weighted(shares, rates)
    error = (
        scale
        * len(kernel)
        * sum(w * one.weight.error + b * one.bias.error for one, (w, b) in zip(shares, rates, strict=True))
    )
    named = zip(dense_layers(plain), rates, tops, strict=True)
    return LayerRates(
        tuple(LayerRate(repr(layer), w, b, w * top[0], b * top[1]) for layer, (w, b), top in named),
        kernel,
        Estimate(scale * _top(kernel), error),
        2.0 / (scale * _top(_weighted(shares, [(1.0, 1.0)] * len(shares)))),
        _with_rates(network, lambda index: rates[index]),
    )


def rate_weighted_ntk(
    network: AbstractLayer, X: ArrayLike, weight_rates: Sequence[float], bias_rates: Sequence[float] | None = None
) -> Float[np.ndarray, "n n"]:
    r"""The tangent kernel weighted by learning rates, $\Theta^\eta = \tilde J\tilde J^\top$, at infinite width.

    $\tilde J_j = \sqrt{\eta_j}\,\partial_jf$ (the root, not $\eta_j$), so that $\Theta^\eta =
    \sum_l\eta_W^{(l)}\Theta_W^{(l)} + \eta_b^{(l)}\Theta_b^{(l)}$; ``bias_rates`` default to ``weight_rates``.

    Raises ``ValueError`` for other than one rate of at least 0 for each layer, and as `layer_rates` does.

    >>> from widthwise.networks import MLP
    >>> rate_weighted_ntk(MLP(depth=1, activation="relu").network(), [[1.0, 1.0]], [0.5, 0.0]).round(12).tolist()
    [[0.5]]
    """
    biases = weight_rates if bias_rates is None else bias_rates
    plain = _with_rates(network, lambda index: (1.0, 1.0))
    count = len(dense_layers(plain))
    for rates in (weight_rates, biases):
        if len(rates) != count or not all(0 <= rate < np.inf for rate in rates):
            reject(f"rates {list(rates)}", f"There are {count} layers, each with a rate of at least 0", "Give as many")
    return _weighted(ntk_by_parameter(plain, X), list(zip(weight_rates, biases, strict=True)))


def depth_rates(network: AbstractLayer, in_size: int) -> list[tuple[float, float]]:
    r"""$(\eta_W, \eta_b)$ per layer: $\big(\frac1{(L+1)n_{l-1}}, \frac1{L+1}\big)$, or $\frac1{L+1}$ twice in "ntk".

    >>> from widthwise.networks import MLP
    >>> depth_rates(MLP(width=8, depth=1, parameterisation="standard").network(), in_size=4)
    [(0.125, 0.5), (0.0625, 0.5)]
    """
    layers = dense_layers(network)
    sizes = [in_size, *(layer.size for layer in layers[:-1])]
    fans = [size if layer.parameterisation == "standard" else 1 for layer, size in zip(layers, sizes, strict=True)]
    return [(1.0 / (len(layers) * fan), 1.0 / len(layers)) for fan in fans]


def dense_layers(network: AbstractLayer) -> list[Dense]:
    """The layers with parameters, in order."""
    return [layer for layer in flat(network) if isinstance(layer, Dense)]


def _raw(network: Chain, tops: list, in_size: int, how: str) -> list[tuple[float, float]]:
    """Rates up to a common factor; 0 for parameters without any influence, as a bias that does not exist."""
    if how == "equal":
        wanted = [(1.0 / (weight or np.inf), 1.0 / (bias or np.inf)) for weight, bias in tops]
    else:
        wanted = depth_rates(network, in_size) if how == "depth" else [(1.0, 1.0)] * len(tops)
    return [(w * (top[0] > 0), b * (top[1] > 0)) for (w, b), top in zip(wanted, tops, strict=True)]


def _weighted(shares: Sequence[LayerShare], rates: Sequence[tuple[float, float]]) -> Float[np.ndarray, "n n"]:
    pairs = zip(shares, rates, strict=True)
    return np.sum([w * one.weight.value + b * one.bias.value for one, (w, b) in pairs], axis=0)


def _top(kernel: Float[np.ndarray, "n n"]) -> float:
    return max(float(np.linalg.eigvalsh(0.5 * (kernel + kernel.T))[-1]), 0.0)


def _with_rates(network: AbstractLayer, of: Callable[[int], tuple[float, float]]) -> Chain:
    """The same layers in one chain, with the rates of the index of each dense layer."""
    found, index = [], 0
    for layer in flat(network):
        if isinstance(layer, Dense):
            _demand_usual(layer)
            weight, bias = of(index)
            layer, index = replace(layer, weight_rate=float(weight), bias_rate=float(bias)), index + 1
        found.append(layer)
    if not index:
        reject("a network without a dense layer", "Learning rates belong to parameters", "Add a Dense layer")
    return Chain(tuple(found))


def _demand_usual(layer: Dense) -> None:
    if layer.parameterisation == "mean_field":
        reject(
            f"{layer!r}",
            "Rates are found for the standard and the NTK parameterisation",
            "The mean-field one has its rates, the fan-in times those of 'ntk', within the kernel already",
        )
