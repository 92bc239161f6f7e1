r"""What the kernel of a shallow rectifier network can approximate: interpolants of least norm, at any width.

Legend: $k(x, x') = x\cdot x'\,\frac{\pi-\theta}{2\pi}$ the hidden kernel at infinite width, $k_m$ that of m neurons
with weights $W_0$ (m, d), $x_i$ the N centres, $f = \sum_ic_ik(\cdot, x_i)$ the interpolant of values y at the centres,
$\|f\|_k = \sqrt{c^\top Kc}$ its norm in the space of the kernel. At width m it is the tangent function of a network
that has moved by $\|W - W_0\|_F = \|f\|_k$.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.numerics import Estimate, demand_count, exponent, mean_and_sem, reject

from ..infinite_width import rectifier_kernel
from .kernels import check_rows

_NEURONS = 4096  # at once


@dataclass(frozen=True, eq=False)
class Interpolant:
    r"""$f = \sum_ic_ik(\cdot, x_i)$, of least norm among the functions of its own values at the centres.

    ``centres`` (N, d), ``coefficients`` c (N,), ``norm`` $\sqrt{c^\top Kc}$; ``weights`` $W_0$ (m, d) of the finite
    network whose kernel it is, or None for infinite width; ``residual`` $\max|Kc-y|$, by which it misses the values
    that were asked for, as it must for different ones at equal centres. Called on inputs (k, d) it gives (k,).
    """

    centres: Float[np.ndarray, "N d"]
    coefficients: Float[np.ndarray, " N"]
    norm: float
    weights: Float[np.ndarray, "m d"] | None
    residual: float

    def __call__(self, Z: ArrayLike) -> Float[np.ndarray, " k"]:
        """The interpolant at other inputs (k, d); raises ``ValueError`` for those of another d than the centres."""
        Z, d = check_rows(Z), self.centres.shape[1]
        if Z.shape[1] != d:
            reject(f"inputs of shape {Z.shape}", f"Like the centres they are (k, {d})", f"Give {d} numbers for each")
        return _kernel(self.weights, Z, self.centres) @ self.coefficients

    def __repr__(self) -> str:
        count, d = self.centres.shape
        width = "infinite width" if self.weights is None else f"width {len(self.weights)}"
        return f"Interpolant({count} centres, d={d}, {width}, norm {self.norm:.4g}, residual {self.residual:.2g})"

    def displacement(self) -> Float[np.ndarray, "m d"]:
        r"""$W - W_0 = \frac1{\sqrt m}\sum_ic_i\,1[W_0x_i > 0]\,x_i^\top$ for readout weights of 1, of norm ``norm``.

        Raises ``ValueError`` at infinite width, where no neuron moves.
        """
        if self.weights is None:
            reject(
                "an interpolant at infinite width", "Only the weights of finite networks move", "Interpolate at a width"
            )
        active = self.weights @ self.centres.T > 0
        return active @ (self.coefficients[:, None] * self.centres) / np.sqrt(len(self.weights))


def interpolate(
    X: ArrayLike, y: ArrayLike, *, width: int | None = None, seed: int = 0, cutoff: float = 1e-13
) -> Interpolant:
    r"""Interpolate values y (N,) at the centres X (N, d) by the hidden kernel of a rectifier network.

    $Kc = y$ in least squares of least norm, singular values below ``cutoff`` times the largest left out: so the values
    are met only as far as the kernel allows, to the ``residual``.

    Args:
        X: the centres.
        y: their values.
        width: m, the number of neurons with weights from N(0, I); None for infinite width.
        seed: of the weights.
        cutoff: see above, in [0, 1).

    Raises ``ValueError`` for centres that are not (N, d) and finite, values that are not (N,) and finite, a width
    below 1 and a cutoff outside of [0, 1). Sources: bartlett2021deep, steinwart2008support.

    >>> f = interpolate([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
    >>> np.round(f([[0.6, 0.8]]), 6).tolist(), round(f.norm, 6)
    ([1.695167], 3.162278)
    """
    X, y = check_rows(X), np.asarray(y, dtype=float)
    if y.shape != (len(X),) or not np.all(np.isfinite(y)):
        reject(
            f"values of shape {y.shape} for {len(X)} centres", "Values are (N,) and finite", "Give one for each centre"
        )
    if not 0 <= cutoff < 1:
        reject(f"cutoff={cutoff}", "It is a part of the largest singular value, in [0, 1)", "Give for example 1e-13")
    W = None
    if width is not None:
        shape = demand_count("width", width, least=1), X.shape[1]
        W = np.random.default_rng(seed).normal(size=shape)
    K = _kernel(W, X, X)
    c = np.linalg.lstsq(K, y, rcond=cutoff)[0]
    residual = float(np.max(np.abs(K @ c - y), initial=0.0))
    return Interpolant(X, c, float(np.sqrt(max(float(c @ K @ c), 0.0))), W, residual)


def _kernel(W: Float[np.ndarray, "m d"] | None, X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "k d"]):
    """The kernel between two sets of inputs, of neurons or of infinitely many."""
    if W is None:
        return rectifier_kernel(X, Y)
    both = np.zeros((len(X), len(Y)))
    for start in range(0, len(W), _NEURONS):
        some = W[start : start + _NEURONS].T
        both += (X @ some > 0).astype(float) @ (Y @ some > 0).astype(float).T
    return X @ Y.T * both / len(W)


def on_slice(phi: ArrayLike, height: float = 3**-0.5) -> Float[np.ndarray, "n 3"]:
    r"""Points at the angles $\phi$ (n,) of the circle $\{\|x\| = 1, x_3 = c\}$, c the ``height`` in [0, 1).

    Raises ``ValueError`` for another height.

    >>> np.round(on_slice([0.0], 0.6), 12).tolist()
    [[0.8, 0.0, 0.6]]
    """
    if not 0 <= height < 1:
        reject(f"height={height}", "The height lies in [0, 1)", "Give for example height=0.5")
    phi = np.asarray(phi, dtype=float)
    radius = np.sqrt(1.0 - height**2)
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), np.full_like(phi, height)], axis=1)


@dataclass(frozen=True, eq=False)
class SliceApproximation:
    r"""Errors of interpolants on a circle of fixed height, over the number of centres and over width.

    ``errors`` and ``norms`` belong to ``centres``, at infinite width; ``width_errors`` and ``width_norms`` to
    ``widths``, at as many centres as the last: means over networks, with their standard errors. An error is
    the largest over the angles.
    """

    centres: tuple[int, ...]
    errors: Float[np.ndarray, " c"]
    norms: Float[np.ndarray, " c"]
    widths: tuple[int, ...]
    width_errors: Estimate
    width_norms: Estimate

    @property
    def rate(self) -> float:
        """The exponent of the errors in the number of centres, by at least 4 of them."""
        return exponent(self.centres, self.errors)

    def __str__(self) -> str:
        lines = [f"{'centres':>8} {'width':>8} {'error':>10} {'norm':>10}"]
        rows = zip(self.centres, self.errors, self.norms, strict=True)
        lines += [f"{count:>8} {'infinite':>8} {error:>10.4g} {norm:>10.4g}" for count, error, norm in rows]
        columns = (self.widths, self.width_errors.value, self.width_norms.value)
        for width, error, norm in zip(*columns, strict=True):
            lines.append(f"{self.centres[-1]:>8} {width:>8} {error:>10.4g} {norm:>10.4g}")
        return "\n".join(lines)


def approximate_on_slice(
    function: Callable[[np.ndarray], np.ndarray],
    centres: Sequence[int] = (4, 8, 16, 32),
    widths: Sequence[int] = (),
    *,
    height: float = 3**-0.5,
    angles: int = 4001,
    draws: int = 5,
    seed: int = 0,
    cutoff: float = 1e-13,
) -> SliceApproximation:
    r"""Interpolate a function of the angle on a circle of fixed height, and say how far it is missed, at which norm.

    N centres at $\phi_i = \frac{2\pi i}N + 0.1$; the error is the largest over equally spaced angles. For
    heights in (0, 1) the kernel is universal and every continuous function is approximated; at height 0 the odd waves
    from the third on are missed.

    Args:
        function: of an array of angles.
        centres: numbers N.
        widths: numbers m of neurons, tried with the last number of centres.
        height: c.
        angles: how many angles from 0 to 2 pi are looked at.
        draws: networks for each width.
        seed: of the first network.
        cutoff: as in ``interpolate``.

    Raises ``ValueError`` for a height outside of [0, 1), no centres, and counts below 1. Sources: bartlett2021deep,
    steinwart2008support.

    >>> found = approximate_on_slice(lambda phi: np.cos(3 * phi), (8, 16, 32, 64))
    >>> np.round(found.errors, 4).tolist(), round(found.rate, 1)
    ([0.5835, 0.1478, 0.0373, 0.0093], -2.0)
    """
    if not len(centres):
        reject("no centres", "Functions are interpolated at centres", "Give for example centres=(8, 16, 32)")
    counts = tuple(demand_count("centres", count, least=1) for count in centres)
    phi = np.linspace(0.0, 2.0 * np.pi, demand_count("angles", angles, least=2))
    Z, target = on_slice(phi, height), np.asarray(function(phi), dtype=float)

    def one(count: int, width: int | None, seed: int) -> tuple[float, float]:
        nodes = 2.0 * np.pi * np.arange(count) / count + 0.1
        values = np.asarray(function(nodes), dtype=float)
        f = interpolate(on_slice(nodes, height), values, width=width, seed=seed, cutoff=cutoff)
        return float(np.max(np.abs(f(Z) - target))), f.norm

    infinite = np.array([one(count, None, seed) for count in counts])
    tried = demand_count("draws", draws, least=1)
    finite = [[one(counts[-1], width, seed + k) for width in widths] for k in range(tried)]
    found = mean_and_sem(np.array(finite).reshape(tried, len(widths), 2))
    errors, norms = (Estimate(found.value[:, k], found.error[:, k]) for k in (0, 1))
    return SliceApproximation(counts, infinite[:, 0], infinite[:, 1], tuple(widths), errors, norms)
