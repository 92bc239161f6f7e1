r"""How far the covariances of a finite network lie from those of infinite width.

Legend: one input; $K^{(l)}$ the variance of a pre-activation of layer l at infinite width, $\hat K^{(l)}$ that of a
finite network given the layer before, $n_l$ the widths, $q = \|x\|^2/d$, $G(K) = E\,\sigma(z)^2$ and
$M(K) = E\,\sigma(z)^4$ over $z \sim N(0, K)$, $\chi_\parallel = C_wG'(K)$. Derivatives in K are expectations too, with
Hermite polynomials of $u = z/\sqrt K$, so that a kink does no harm: $G' = \frac1{2K}E\,\sigma^2He_2(u)$ and
$G'' = \frac1{4K^2}E\,\sigma^2He_4(u)$.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.measure import flat
from widthwise.networks import AbstractLayer, Apply, Dense
from widthwise.numerics import Estimate, reject, unit_rule

_REACH = 13.0


@dataclass(frozen=True, eq=False)
class Fluctuations:
    r"""One input's $\hat K^{(l)}$ of every layer, l = 1..L+1: its limit, and what finite widths make of it.

    ``limit`` $K^{(l)}$; ``variance`` $\mathrm{Var}\,\hat K^{(l)}$ and ``bias`` $E\hat K^{(l)} - K^{(l)}$, each to first
    order in the inverse widths; ``response`` $\chi_\parallel$ of the step to each layer, 0 for the first. Errors are
    those of the quadrature, not of what is of second order.
    """

    limit: Estimate
    variance: Estimate
    bias: Estimate
    response: Estimate

    @property
    def kurtosis(self) -> Float[np.ndarray, " layers"]:
        r"""The excess kurtosis of a pre-activation, $3\,\mathrm{Var}\hat K/(E\hat K)^2$, to first order."""
        return 3.0 * self.variance.value / self.limit.value**2


def fluctuations(network: AbstractLayer, mean_square: float, width: int | None = None) -> Fluctuations:
    r"""Predict mean and variance of $\hat K^{(l)}$ for an input of mean square q, to first order in the inverse widths.

    $K^{(1)} = C_b + C_wq$, $K^{(l+1)} = C_b + C_wG(K^{(l)})$,
    $\mathrm{Var}\hat K^{(l+1)} = \frac{C_w^2}{n_l}(M - G^2) + \chi_\parallel^2\,\mathrm{Var}\hat K^{(l)}$ and
    $E\hat K^{(l+1)} - K^{(l+1)} = \chi_\parallel(E\hat K^{(l)} - K^{(l)}) + \frac12C_wG''\,\mathrm{Var}\hat K^{(l)}$.

    Args:
        network: dense layers and activations by turns, a dense layer first and last.
        mean_square: q, above 0.
        width: the size of hidden layers that leave theirs open.

    Raises ``ValueError`` for other networks, a missing size and a mean square that is not positive.
    Sources: roberts2022principles, yaida2020non.

    >>> from widthwise.networks import MLP
    >>> found = fluctuations(MLP(width=64, depth=3, activation="relu").network(), 1.0)
    >>> np.round(64 * found.variance.value, 9).tolist()  # 5 for each hidden layer, times the square of the limit
    [0.0, 20.0, 40.0, 15.0]
    """
    layers = hidden_layers(network)
    if not (np.isfinite(mean_square) and mean_square > 0):
        reject(f"mean_square={mean_square!r}", "A mean square is a finite number above 0", "Give mean_square=1.0")
    with jax.enable_x64(True):
        fine, coarse = (_recursion(layers, mean_square, width, count) for count in (64, 48))
    error = np.abs(fine - coarse) + 64 * 2.0**-52 * np.abs(fine)
    return Fluctuations(*(Estimate(value, off) for value, off in zip(fine, error, strict=True)))


def second_moment_growth(network: AbstractLayer, width: int | None = None) -> float:
    r"""$E(\hat K^{(L+1)})^2/(K^{(L+1)})^2$, exact at any width, for homogeneous activations without biases.

    $\prod_{l=1}^L(1 + c/n_l)$ with $c = E\sigma^4/(E\sigma^2)^2 - 1$: 5 for a rectifier, 2 for a linear network.
    The mean is exact as well, $E\hat K = K$, so a pre-activation has the excess kurtosis
    $3(\prod_l(1 + c/n_l) - 1)$.

    Raises ``ValueError`` for a bias and for an activation that is not positively homogeneous.
    Source: roberts2022principles.

    >>> from widthwise.networks import MLP
    >>> round(second_moment_growth(MLP(width=64, depth=3, activation="relu").network()), 4)
    1.2532
    """
    layers, growth = hidden_layers(network), 1.0
    for dense, apply, _ in layers:
        if dense.bias_variance > 0 or not homogeneous(apply.activation):
            reject(
                f"a layer {dense!r} with {apply.activation!r}",
                "The moments are exact for positively homogeneous activations, s(2z) = 2 s(z), without biases",
                "Use `fluctuations`, which is right to first order in the inverse width",
            )
        second, fourth, *_ = _moments(apply.activation, 1.0, 64)
        growth *= 1.0 + (fourth / second**2 - 1.0) / _width(dense, width)
    return growth


def characteristic_function(network: AbstractLayer, mean_square: float, xi: ArrayLike, width: int | None = None):
    r"""$E\,e^{-i\xi f(x)}$ over networks with one hidden layer, exact at any width.

    $e^{-\frac12C_b\xi^2}\left(E\exp\left(-\frac{C_w}{2n}\xi^2\sigma(z)^2\right)\right)^n$, $z \sim N(0, K^{(1)})$,
    because the output is Gaussian given the hidden layer: $E\,e^{-i\xi f} = E\,e^{-\frac12\xi^2\hat K}$.
    It tends to $e^{-\frac12\xi^2K}$. Real, as f is symmetric.

    Raises ``ValueError`` for a network with another number of hidden layers, and where ``fluctuations`` does.
    Source: hanin2023random.

    >>> from widthwise.networks import MLP
    >>> network = MLP(width=2, depth=1, activation="relu", weight_variance=1.0).network()
    >>> float(characteristic_function(network, 1.0, 1.0).round(12)), round((0.5 + 0.5 / 1.5**0.5) ** 2, 12)
    (0.824914957131, 0.824914957131)
    """
    layers = hidden_layers(network)
    if len(layers) != 1:
        reject(
            f"a network with {len(layers)} hidden layers",
            "The characteristic function is known for one hidden layer",
            "Give a network with one hidden layer",
        )
    dense, apply, readout = layers[0]
    variance, n = dense.bias_variance + dense.weight_variance * mean_square, _width(dense, width)
    square = np.asarray(xi, dtype=float)[..., None] ** 2
    u, weight = normal_panels(apply.activation.kinks, float(np.sqrt(variance)), 64)
    with jax.enable_x64(True):
        values = np.asarray(apply.activation(jnp.asarray(np.sqrt(variance) * u)))
    one = np.exp(-0.5 * readout.weight_variance / n * square * values**2) @ weight
    return np.exp(-0.5 * readout.bias_variance * square[..., 0]) * one**n


def hidden_layers(network: AbstractLayer) -> list[tuple[Dense, Apply, Dense]]:
    """List the hidden layers of a fully connected network as (dense, activation, next dense).

    Raises ``ValueError`` where dense layers and activations do not take turns.
    """
    layers = flat(network)
    turns = [isinstance(layer, Dense) for layer in layers]
    if turns != [place % 2 == 0 for place in range(len(layers))] or len(layers) % 2 == 0:
        reject(
            f"a network of {', '.join(type(layer).__name__ for layer in layers)}",
            "Dense layers and activations take turns here, a dense layer first and last",
            "Give for example MLP(depth=2).network()",
        )
    triples = zip(layers[::2], layers[1::2], layers[2::2], strict=False)
    return [(a, b, c) for a, b, c in triples if isinstance(a, Dense) and isinstance(b, Apply) and isinstance(c, Dense)]


def homogeneous(activation: Activation) -> bool:
    """Whether s(c z) = c s(z) for c > 0, as seen at some points."""
    z = jnp.asarray([-3.0, -1.5, -0.75, 0.75, 1.5, 3.0])
    with jax.enable_x64(True):
        values, doubled = (np.asarray(activation(factor * z), dtype=float) for factor in (1.0, 2.0))
    return bool(np.allclose(doubled, 2.0 * values, rtol=1e-6, atol=0.0))


def _recursion(layers: list[tuple[Dense, Apply, Dense]], mean_square: float, width: int | None, count: int):
    first = layers[0][0]
    rows = [(float(first.bias_variance + first.weight_variance * mean_square), 0.0, 0.0, 0.0)]
    for dense, apply, after in layers:
        K, variance, bias, _ = rows[-1]
        second, fourth, slope, curvature = _moments(apply.activation, K, count)
        weight, shift = float(after.weight_variance), float(after.bias_variance)
        spread = weight**2 * (fourth - second**2) / _width(dense, width)
        rows.append(
            (
                shift + weight * second,
                spread + (weight * slope) ** 2 * variance,
                weight * (slope * bias + 0.5 * curvature * variance),
                weight * slope,
            )
        )
    return np.array(rows).T


def _moments(activation: Activation, K: float, count: int) -> tuple[float, float, float, float]:
    r"""$E\sigma^2$, $E\sigma^4$ and the first two derivatives of $E\sigma^2$ in the variance K."""
    u, weight = normal_panels(activation.kinks, float(np.sqrt(K)), count)
    with jax.enable_x64(True):
        square = np.asarray(activation(jnp.asarray(np.sqrt(K) * u)), dtype=float) ** 2
    rows = np.stack([square, square**2, square * (u**2 - 1) / (2 * K), square * (u**4 - 6 * u**2 + 3) / (4 * K**2)])
    second, fourth, slope, curvature = map(float, rows @ weight)
    return second, fourth, slope, curvature


def normal_panels(kinks: tuple[float, ...], scale: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for a standard normal u, by Gauss rules on panels that end at the kinks of s(scale u)."""
    inner = [kink / scale for kink in kinks if abs(kink) < _REACH * scale]
    ends = np.unique(np.concatenate([np.linspace(-_REACH, _REACH, 14), inner]))
    t, w = unit_rule(count)
    lengths = np.diff(ends)[:, None]
    u, weight = (ends[:-1, None] + lengths * t).ravel(), (lengths * w).ravel()
    return u, weight * np.exp(-0.5 * u**2) / np.sqrt(2.0 * np.pi)


def _width(dense: Dense, width: int | None) -> int:
    size = dense.size or width
    if size is None:
        reject("a hidden layer of open size and no width", "Fluctuations depend on every size", "Give width=256")
    return size
