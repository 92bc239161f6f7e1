r"""Empirical kernels of finite networks, and how far they are from those of infinite width.

Legend: $\hat\Theta$ the empirical NTK and $\hat K$ the empirical NNGP kernel of one finite network on N
inputs, $\Theta$, $K$ their limits, $D = (\hat\Theta - \Theta)/\|\Theta\|_F$ the relative deviation of one
draw, $E\|D\|_F^2 = \|E D\|_F^2 + E\|D - ED\|_F^2$ its squared bias and its squared fluctuation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.networks import Affine, Chain, Composed, Dense, Kernels, sample
from widthwise.numerics import Estimate, exponent_estimate, mean_and_sem, reject
from widthwise.operators import empirical_kernel

from .signal import layers, pieces, signals


def empirical_ntk(model: Callable, X: Float[Array, "n d"]) -> Float[Array, "n n"]:
    r"""The empirical NTK of any model, the mean of $\partial_\theta f_j(x)\cdot\partial_\theta f_j(y)$ over outputs j.

    By `empirical_kernel`, which forms no Jacobian where it knows how a parameter is used, and can be traced.

    >>> from widthwise.networks import MLP
    >>> f = sample(MLP(width=4).network(outputs=2), jr.key(0), in_size=3)
    >>> empirical_ntk(f, jnp.eye(3)).shape
    (3, 3)
    """
    return empirical_kernel(model, X, outputs="trace")


def _is_affine(model: Callable) -> bool:
    try:
        return all(isinstance(layer, Affine) for layer in layers(model))
    except ValueError:
        return False


def empirical_nngp(network: Chain, model: Callable, X: Float[Array, "n d"]) -> Float[Array, "n n"]:
    r"""The covariance of an output given the hidden layers, $\hat K = C_b + \frac{C_w}{n_L}a(x)\cdot a(y)$.

    $a$ are the inputs of the last layer, a ``Dense`` with variances $C_w$, $C_b$. Raises ``ValueError`` for a
    network that does not end in one.
    """
    last = network.layers[-1]
    if not isinstance(last, Dense):
        reject(
            f"a network that ends in {last!r}",
            "The covariance of the outputs is that of a last Dense layer",
            "Append Dense(size=1)",
        )
    before = jax.vmap(lambda x: signals(model, x).inputs[-1])(X)
    return last.bias_variance + last.weight_variance * before @ before.T / before.shape[1]


@dataclass(frozen=True, eq=False)
class Deviation:
    r"""Relative deviations of M independent draws from a limit: inner products $\langle D_a, D_b\rangle_F$ (M, M)."""

    gram: Float[np.ndarray, "draws draws"]

    @property
    def draws(self) -> Float[np.ndarray, " draws"]:
        r"""The relative deviation $\|D_a\|_F$ of each draw."""
        return np.sqrt(np.diag(self.gram))

    @property
    def mean(self) -> Estimate:
        """The mean relative deviation, with its standard error."""
        return mean_and_sem(self.draws)

    @property
    def squared(self) -> Estimate:
        r"""The mean squared deviation $E\|D\|_F^2$, bias and fluctuation together, with its standard error."""
        return mean_and_sem(np.diag(self.gram))

    @property
    def squared_bias(self) -> Estimate:
        r"""The squared bias $\|E D\|_F^2$, estimated unbiased by $\frac1{M(M-1)}\sum_{a\ne b}\langle D_a, D_b\rangle$.

        It may come out negative where it is below its error, a jackknife over draws.
        """
        count = len(self.gram)
        across = self.gram.sum(axis=1) - np.diag(self.gram)
        total = across.sum()
        left_out = (total - 2 * across) / ((count - 1) * (count - 2))
        error = np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2))
        return Estimate(float(total / (count * (count - 1))), float(error))


@dataclass(frozen=True, eq=False)
class WidthStudy:
    """Deviations of both kernels at several widths, from so many draws of the widest network."""

    widths: tuple[int, ...]
    ntk: tuple[Deviation, ...]
    nngp: tuple[Deviation, ...]
    draws: int

    def of(self, kernel: str) -> tuple[Deviation, ...]:
        """The deviations of "ntk" or "nngp", one per width."""
        return {"ntk": self.ntk, "nngp": self.nngp}[kernel]

    def rate(self, kernel: str) -> Estimate:
        r"""The exponent p of the root mean square deviation, $\propto n^p$ (in theory -1/2).

        Networks cut from one draw count as one: its bootstrap error is over the draws of the widest.
        """
        squares = [np.diag(part.gram).reshape(self.draws, -1).mean(axis=1) for part in self.of(kernel)]
        return exponent_estimate(self.widths, np.sqrt(np.stack(squares, axis=1)))

    def bias(self, kernel: str) -> tuple[Estimate, float]:
        r"""Fit the law $\|E D\|_F = c/n$ to the squared biases: $c^2$, and $\chi^2$ per degree of freedom."""
        found = [part.squared_bias for part in self.of(kernel)]
        value, error = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
        law = 1.0 / np.square(np.asarray(self.widths, dtype=float))
        precision = np.sum((law / error) ** 2)
        squared = float(np.sum(law * value / error**2) / precision)
        misfit = float(np.sum(((value - squared * law) / error) ** 2)) / (len(found) - 1)
        return Estimate(squared, float(1.0 / np.sqrt(precision))), misfit


def width_study(
    family: Callable[[int], Chain],
    limit: Callable[[int], Kernels],
    X: ArrayLike,
    widths: Sequence[int],
    draws: int,
    key: Array,
    tick: Callable[[], None] = lambda: None,
) -> WidthStudy:
    """Draw networks of several widths and hold their empirical kernels against their limits.

    A network of the largest width m is drawn ``draws`` times; m // n networks of width n are cut
    out of each, which share no weight, so that narrow networks, which deviate more, are also seen
    more often. Arguments: ``family(width)`` is the network and ``limit(width)`` its limiting kernels
    on the inputs ``X`` (n, d) (the same for every width in the NTK parameterisation); ``tick`` is
    called after each draw. Raises ``ValueError`` for fewer than three draws: bias and fluctuation
    could not be told apart with an error.
    """
    if draws < 3:
        reject(f"draws={draws}", "Bias and fluctuation need at least three draws", "Give for example draws=16")
    X, networks = jnp.asarray(X), [family(width) for width in widths]
    limits = [limit(width) for width in widths]
    apart = [([], []) for _ in widths]
    for draw_key in jr.split(key, draws):
        batches = _family(networks, widths, draw_key, X.shape[1])
        for network, batch, exact, kept in zip(networks, batches, limits, apart, strict=True):
            for found, one, whole in zip(kept, _empirical(network, batch, X), (exact.ntk, exact.nngp), strict=True):
                found.append((np.asarray(one) - whole).reshape(len(one), -1) / np.linalg.norm(whole))
        tick()
    ntk, nngp = zip(*([Deviation(all_ @ all_.T) for all_ in map(np.concatenate, kept)] for kept in apart), strict=True)
    return WidthStudy(tuple(widths), ntk, nngp, draws)


@eqx.filter_jit
def _empirical(network: Chain, batch: Callable, X: Array) -> tuple[Array, Array]:
    """Both kernels of a batch of networks, each (networks, n, n)."""
    return eqx.filter_vmap(lambda model: (empirical_ntk(model, X), empirical_nngp(network, model, X)))(batch)


def _family(networks: Sequence[Chain], widths: Sequence[int], key: Array, in_size: int) -> list[Callable]:
    """Draw one network and cut the narrower ones out of it; of layers that cannot be cut, draw one of each width."""
    widest = max(widths)
    model = sample(networks[int(np.argmax(widths))], key, in_size)
    if not _is_affine(model):
        return [_stacked([sample(network, key, in_size)]) for network in networks]
    shapes = [eqx.filter_eval_shape(sample, network, key, in_size) for network in networks]
    return [
        _stacked([narrowed(model, shape, block) for block in range(widest // width)])
        for width, shape in zip(widths, shapes, strict=True)
    ]


def _stacked(models: Sequence[Callable]) -> Callable:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *models)


def narrowed(model: Callable, shape: Callable, block: int = 0) -> Composed:
    """Cut a smaller network of affine layers and activations out of a sampled one.

    ``shape`` is the smaller network with or without values. Taken are the ``block``-th neurons of
    each hidden layer, on the scale of the smaller fan-in, so the result has the law of a sampled
    network, and different blocks share no weight.

    >>> from widthwise.networks import MLP
    >>> wide, small = (sample(MLP(width=width).network(), jr.key(0), in_size=3) for width in (8, 4))
    >>> narrowed(wide, small, block=1).pieces[0].weight.shape
    (4, 3)
    """
    return Composed(tuple(_cut(*pair, block) for pair in zip(pieces(model), pieces(shape), strict=True)))


def _cut(wide: Any, shape: Any, block: int) -> Callable:
    if not isinstance(wide, Affine):
        return wide
    (rows, columns), (every_row, every_column) = shape.weight.shape, wide.weight.shape
    row, column = _block(rows, every_row, block), _block(columns, every_column, block)
    fan_in = math.sqrt(every_column / columns) * wide.weight_scale / shape.weight_scale
    # Cut by NumPy, which compiles nothing for a new shape.
    weight = fan_in * np.asarray(wide.weight)[row, column]
    bias = None if wide.bias is None else jnp.asarray(np.asarray(wide.bias)[row])
    return Affine(jnp.asarray(weight), bias, shape.weight_scale, shape.bias_scale, shape.trained)


def _block(size: int, every: int, block: int) -> slice:
    """Where a block lies; inputs and outputs, which both networks have in full, are not cut."""
    start = 0 if size == every else block * size
    return slice(start, start + size)


def alignment(K: Float[np.ndarray, "n n"], T: Float[np.ndarray, "n k"]) -> float:
    r"""Centred kernel alignment with targets, the cosine between $HKH$ and $HTT^\top H$, $H = I - \frac1n11^\top$.

    It is 1 for the kernel that the targets themselves make, and 0 where they are orthogonal to the
    centred kernel (Cortes, Mohri & Rostamizadeh 2012); nan when either is constant.

    >>> T = np.array([[1.0], [-1.0], [1.0]])
    >>> round(alignment(T @ T.T, T), 12)
    1.0
    """
    centred, targets = _centre(_centre(K).T), _centre(T)
    inner = np.sum(targets * (centred @ targets))
    norms = np.linalg.norm(centred) * np.linalg.norm(targets.T @ targets)
    return float(inner / norms) if norms > 0 else float("nan")


def _centre(matrix: np.ndarray) -> np.ndarray:
    return matrix - matrix.mean(axis=0, keepdims=True)
