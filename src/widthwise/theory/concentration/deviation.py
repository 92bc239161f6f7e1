r"""How far the kernel of a finite shallow network strays from its limit: bounded, and measured.

Legend: as in ``kernels``, with $a_k = \pm1$ and independent $w_k \sim N(0, I)$; $K_N = \frac1N\sum_kM_k$ with
$M_k = s_ks_k^\top$, $s_k = \sigma(Xw_k)$ (readout), $M_k = D_kGD_k$, $D_k = \mathrm{diag}\,\sigma'(Xw_k)$ (hidden) or
their sum; $EM$ the limit kernel. All $M_k$ are positive semidefinite with $\|M_k\| \le c$.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as look_up
from widthwise.numerics import Estimate, demand_count, mean_and_sem

from ..criticality.moments import values_and_slopes
from .bernstein import Bernstein, bernstein, check_probability
from .expansion import expand
from .kernels import check_kernel, check_rows, hidden_kernel, limit_kernel, readout_kernel

_WORK, _MOST_SAMPLES, _BATCHES = 1_000_000_000, 2**16, 16  # multiplications for the matrix variance, at most so many
_AT_ONCE = 256
_DEGREES = (64, 256)
_SHARP = 1e-10  # the error of the series that is small enough


@dataclass(frozen=True, eq=False)
class KernelDeviation:
    r"""What is known of $\|K_N - EM\|$ (spectral norm) for networks of width N on given data.

    ``limit``: $EM$ (n, n). ``bernstein``: matrix Bernstein with $L = c/N$ and $v \le c\|EM\|/N$; ``variance``: the
    exact $v = \frac1N\|E M^2 - (EM)^2\|$, sampled, with its standard error. ``draws`` (k,): deviations of k networks.
    With probability at least $1 - \delta$ the deviation is at most ``bound``, and at most ``exact_bound``, which is
    known up to the sampling of v. Infinite where M is not bounded. ``kernel`` and ``name``: which kernel of networks of
    which activation.
    """

    width: int
    delta: float
    limit: Estimate
    bernstein: Bernstein
    variance: Estimate
    draws: Float[np.ndarray, " k"]
    kernel: str
    name: str

    @property
    def bound(self) -> float:
        r"""$t_\delta$ with the bounded variance."""
        return self.bernstein.radius(self.delta)

    @property
    def exact_bound(self) -> Estimate:
        r"""$t_\delta$ with the sampled variance, and the change of it by one standard error of that."""
        low, high = (
            Bernstein(float(variance), self.bernstein.bound, self.bernstein.dimension).radius(self.delta)
            for variance in (self.variance.value, self.variance.value + self.variance.error)
        )
        return Estimate(low, high - low if math.isfinite(low) else 0.0)

    @property
    def measured(self) -> Estimate:
        """The mean deviation of the networks that were drawn, with its standard error."""
        return mean_and_sem(self.draws)

    @property
    def quantile(self) -> float:
        r"""The deviation that a share $\delta$ of the networks exceeds; for $\delta < 1/k$ near the largest."""
        return float(np.quantile(self.draws, 1.0 - self.delta))

    def __str__(self) -> str:
        found, exact, share = self.measured, self.exact_bound, f"{1 - self.delta:g}"
        known = f"bounded by {exact.value:.4g} with the sampled variance and by {self.bound:.4g} without sampling"
        bounded = f"{known}, with probability {share}" if math.isfinite(self.bound) else _unbounded(self)
        few = self.delta * len(self.draws) < 1
        least = f"at most {self.quantile:.4g} in a share of {share}"
        most = f"{np.max(self.draws):.4g} in the largest" if few else least
        return (
            f"distance of the kernel of {len(self.limit.value)} inputs at width {self.width} from its limit:\n"
            f"measured {found.value:.4g} +- {found.error:.2g} in the mean of {len(self.draws)} networks, {most}\n"
            f"{bounded}"
        )

    def __repr__(self) -> str:
        found = self.measured
        return (
            f"KernelDeviation({self.kernel} kernel of {self.name}, {len(self.limit.value)} inputs, width {self.width}: "
            f"measured {found.value:.4g} +- {found.error:.2g}, bound {self.bound:.4g})"
        )


def _unbounded(found: KernelDeviation) -> str:
    """Why there is no bound."""
    needs = {
        "readout": "a readout kernel needs a bounded activation",
        "hidden": "a hidden kernel needs one of bounded slope",
        "both": "the sum of both kernels needs a bounded activation of bounded slope",
    }
    return f"no bound: {needs[found.kernel]}; {found.name} is not"


def kernel_deviation(
    activation: Activation | str,
    X: ArrayLike,
    width: int,
    delta: float = 0.05,
    *,
    kernel: str = "readout",
    draws: int = 60,
    seed: int = 0,
) -> KernelDeviation:
    r"""Bound and measure $\|K_N - EK_N\|$ for a shallow network of width N on X (n, d).

    Matrix Bernstein for $S_k = \frac1N(M_k - EM)$: $\|S_k\| \le \frac cN$ and $v \le \frac{c\|EM\|}N$ with
    $c = n\sup|\sigma|^2$ (readout), $\sup|\sigma'|^2\,\|G\|$ (hidden) or their sum; so that with probability $1-\delta$
    the distance is at most $\sqrt{\frac{2c\|EM\|\ell}N} + \frac{2c\ell}{3N}$, $\ell = \ln\frac{2n}\delta$.

    Args:
        activation: an activation or its name.
        X: the inputs.
        width: N.
        delta: the probability with which the bound may fail.
        kernel: "readout", "hidden" or "both".
        draws: how many networks are measured; at least 2.
        seed: of the networks, and of the sampled variance.

    Raises ``ValueError`` for inputs that are not (n, d) and finite, a width below 1, fewer than 2 draws, a
    probability outside (0, 1) and an unknown kernel. Source: tropp2015introduction; c of the hidden kernel is derived
    here.

    >>> found = kernel_deviation("tanh", np.eye(3), 1000, draws=20)
    >>> bool(found.measured.value < found.exact_bound.value < found.bound)
    True
    """
    s, X = look_up(activation), check_rows(X)
    check_kernel(kernel)
    check_probability(delta)
    width, draws = demand_count("width", width, least=1), demand_count("draws", draws, least=2)
    limit = mean_kernel(X, s, kernel)
    rng = np.random.default_rng(seed)
    measured = np.array([norm(difference(rng, s, X, width, limit.value, kernel)) for _ in range(draws)])
    size = summand_bound(s, X, kernel)
    largest = norm(limit.value) + len(X) * float(limit.error)
    v = size * largest / width if size > 0 and largest > 0 else 0.0  # M is zero where its mean is
    found = bernstein(v, size / width, limit.value.shape)
    variance = matrix_variance(rng, s, X, width, limit.value, kernel)
    return KernelDeviation(width, delta, limit, found, variance, measured, kernel, s.name)


def summand_bound(s: Activation, X: Float[np.ndarray, "n d"], kernel: str) -> float:
    r"""The c with $\|M\| \le c$: $n\sup|\sigma|^2$, $\sup|\sigma'|^2\|G\|$ or their sum; infinite where there is none.

    >>> from widthwise.activations import ACTIVATIONS
    >>> [summand_bound(ACTIVATIONS["relu"], np.eye(3), kernel) for kernel in ("readout", "hidden")]
    [inf, 1.0]
    """
    readout = 0.0 if kernel == "hidden" else len(X) * s.value_bound**2
    square = 0.0 if kernel == "readout" else float(np.linalg.norm(X, 2) ** 2)
    # Without inputs other than zero the hidden kernel is zero, whatever the slope.
    return readout + (square * s.slope_bound**2 if square > 0 else 0.0)


def mean_kernel(X: Float[np.ndarray, "n d"], s: Activation, kernel: str) -> Estimate:
    """The limit kernel, by its series where that is sharp enough, else by the dual, else by the series as it is."""
    value, error = np.zeros((0, 0)), math.inf
    layers = ("readout", "hidden") if kernel == "both" else (kernel,)
    for degree in _DEGREES:
        parts = [expand(X, s, layer, degree).gram for layer in layers]
        value, error = sum(part.value for part in parts), sum(float(part.error) for part in parts)
        if error <= _SHARP * np.max(value):
            return Estimate(value, error)
    try:
        return limit_kernel(X, s, kernel)
    except ValueError:  # inputs whose dual has no error that is small enough
        return Estimate(value, error)


def difference(
    rng: np.random.Generator, s: Activation, X: Float[np.ndarray, "n d"], width: int, limit: np.ndarray, kernel: str
) -> Float[np.ndarray, "n n"]:
    r"""$K_N - EM$ of one network that is drawn."""
    W = rng.normal(size=(width, X.shape[1]))
    K = -limit
    if kernel != "hidden":
        K = K + readout_kernel(W, X, s)
    if kernel != "readout":
        K = K + hidden_kernel(W, X, s)
    return K


def norm(symmetric: Float[np.ndarray, "n n"]) -> float:
    """The spectral norm of a symmetric matrix."""
    return float(np.max(np.abs(np.linalg.eigvalsh(symmetric))))


def matrix_variance(
    rng: np.random.Generator, s: Activation, X: Float[np.ndarray, "n d"], width: int, limit: np.ndarray, kernel: str
) -> Estimate:
    r"""$v = \frac1N\|E M^2 - (EM)^2\|$ from sampled w, with the standard error of the form at the largest eigenvector.

    The norm of a noisy mean is too large rather than too small.
    """
    n, d = X.shape
    count = max(min(_MOST_SAMPLES, _WORK // max(n**3 // 8, n * d)) // _BATCHES, 8)
    squares = np.stack([_mean_square(rng, s, X, count, limit, kernel) for _ in range(_BATCHES)])
    values, vectors = np.linalg.eigh(np.mean(squares, axis=0))
    forms = np.einsum("i,bij,j->b", vectors[:, -1], squares, vectors[:, -1])
    return Estimate(float(max(values[-1], 0.0)) / width, float(np.std(forms, ddof=1)) / math.sqrt(_BATCHES) / width)


def _mean_square(
    rng: np.random.Generator, s: Activation, X: np.ndarray, count: int, limit: np.ndarray, kernel: str
) -> np.ndarray:
    """The mean of (M - EM)^2 over so many w, with the known EM: less noisy than that of M^2 less a square."""
    values, slopes = values_and_slopes(s, X @ rng.normal(size=(count, X.shape[1])).T)
    G, total, mean = X @ X.T, np.zeros_like(limit), np.zeros_like(limit)
    if kernel != "hidden":
        mean += values @ values.T / count
    if kernel != "readout":
        mean += G * (slopes @ slopes.T) / count
    if kernel == "readout":
        total = (values * np.sum(values**2, axis=0)) @ values.T / count
    for start in range(0, 0 if kernel == "readout" else count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        M = np.einsum("ik,ij,jk->kij", slopes[:, part], G, slopes[:, part], optimize=True)
        if kernel == "both":
            M += np.einsum("ik,jk->kij", values[:, part], values[:, part])
        total += np.tensordot(M, M, ([0, 2], [0, 2])) / count
    return total - mean @ limit - limit @ mean + limit @ limit
