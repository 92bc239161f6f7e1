r"""The Taylor model of a shallow network, and the kernel of its features.

Legend: $f(x; W) = \gamma\sum_{j=1}^ma_j\sigma(w_j^\top x)$ with fixed $a_j$ and the factor $\gamma$ ($1/\sqrt m$ here),
$z_j = w_{0,j}^\top x$, $\tilde f$ the expansion of f to first order in W at $W_0$, $\theta$ the angle between two
inputs, $\varphi$ the density of $N(0, 1)$, $k(x, x') = x^\top x'\,E[\sigma'(w^\top x)\sigma'(w^\top x')]$ over
$w \sim N(0, I)$.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.networks import Apply, Chain, Dense, kernel
from widthwise.numerics import Estimate, reject

from ..lazy import Shallow, limit_gram
from ..lazy.lipschitz import curvature_unknown
from ..lazy.shallow import slopes


def taylor_model(net: Shallow, X: ArrayLike, W: ArrayLike) -> Float[np.ndarray, " n"]:
    r"""$\tilde f(x; W) = \gamma\sum_ja_j\{\sigma(z_j) - \sigma'(z_j)z_j + \sigma'(z_j)\,w_j^\top x\}$.

    The expansion is at $W_0$ = ``net.W``. Affine in W (m, d), not in the inputs X (n, d); for a homogeneous
    activation the first two terms cancel.
    Source: bartlett2021deep.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.ones(2), activation(lambda z: z**2))
    >>> taylor_model(net, [[1.0, 2.0]], 2 * np.eye(2)).tolist()  # f itself is 4 + 16
    [15.0]
    """
    X, W = jnp.asarray(X, dtype=net.W.dtype), jnp.asarray(W, dtype=net.W.dtype)
    z, moved, slope = X @ net.W.T, X @ W.T, slopes(net, X)
    return np.asarray(net.scale * ((net.activation(z) - slope * z + slope * moved) @ net.signs))


def taylor_error_bound(net: Shallow, x: ArrayLike, distance: float) -> float:
    r"""Bound $|f(x; W) - f(x; V) - \langle\nabla f(x; V), W - V\rangle|$ for $\|W-V\|_F \le$ ``distance``.

    $\frac12\gamma\,\sup|\sigma''|\,\max_j|a_j|\,\|x\|^2\,\|W-V\|_F^2$, for all W and V, random or not.

    Raises ``ValueError`` for an activation whose second derivative is not bounded. Source: bartlett2021deep.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(4), jnp.ones(4), activation("tanh"), 0.5)
    >>> round(taylor_error_bound(net, [1.0, 0.0, 0.0, 0.0], 1.0), 6)
    0.19245
    """
    if (why := curvature_unknown(net.activation)) is not None:
        reject(
            f"no bound on the second derivative because {why}",
            "The bound is for smooth activations",
            "Use `rectifier_error_bound`",
        )
    largest = float(jnp.max(jnp.abs(net.signs))) * float(np.sum(np.asarray(x, dtype=float) ** 2))
    return 0.5 * net.scale * net.activation.curvature_bound * largest * distance**2


def rectifier_error_bound(width: int, radius: float, failure: float = 0.05, *, pair: bool = False) -> float:
    r"""Bound $|f - \tilde f|$ of a rectifier network for all W within B of a Gaussian $W_0$, but for a probability.

    $\frac{2B^{4/3}+B\ln(1/\delta)^{1/4}}{m^{1/6}}$ for $\|x\| \le 1$, $|a_j| \le 1$, $\gamma = 1/\sqrt m$; it
    fails with probability at most $\delta$. With
    ``pair=True`` the expansion is at any V in the ball and evaluated at any W in it:
    $\frac{6B^{4/3}+2B\ln(1/\delta)^{1/4}}{m^{1/6}}$.

    Raises ``ValueError`` for a width below 1, a negative radius and a probability outside (0, 1). Source:
    telgarsky2021deep.

    >>> round(rectifier_error_bound(1000, 1.0), 4)
    1.0485
    """
    if width < 1 or not radius >= 0 or not 0 < failure < 1:
        reject(
            f"width={width}, radius={radius}, failure={failure}",
            "A width is at least 1, a radius at least 0, a probability of failure between 0 and 1",
            "Give for example width=1000, radius=1.0, failure=0.05",
        )
    first, second = (6.0, 2.0) if pair else (2.0, 1.0)
    return (first * radius ** (4 / 3) + second * radius * math.log(1 / failure) ** 0.25) / width ** (1 / 6)


def worst_rectifier_error(z: Float[np.ndarray, " m"], signs: Float[np.ndarray, " m"], radius: float) -> float:
    r"""The largest $|f(x; W) - \tilde f(x; W)|$ over $\|W-W_0\|_F \le B$ for a rectifier network and a unit input.

    A neuron moved by $\delta$ along the input is off by $(|\delta|-|z_j|)_+$ if it flips, so the worst W moves the k
    neurons of one sign nearest to their kink by $B/\sqrt k$:
    $\max_k\frac1{\sqrt m}(\sqrt kB - \sum_{i\le k}|z|_{(i)})$. For all $a_j = \pm1$.

    >>> worst_rectifier_error(np.array([0.1, -0.2, 5.0, 1.0]), np.array([1.0, 1.0, 1.0, -1.0]), 1.0)
    0.55710678...
    """
    found = 0.0
    for sign in (1.0, -1.0):
        near = np.sort(np.abs(z[signs == sign]))
        counts = np.arange(1, len(near) + 1)
        found = max(found, float(np.max(np.sqrt(counts) * radius - np.cumsum(near), initial=0.0)))
    return found / math.sqrt(len(z))


def worst_rectifier_constant(balanced: bool = True) -> float:
    r"""The c in $\sup|f-\tilde f| = c\,B^{4/3}m^{-1/6}(1 + o(1))$ over a ball around a Gaussian $W_0$.

    $\frac382^{2/3}\varphi(0)^{1/3}$ for as many $a_j = 1$ as $-1$, $\frac34\varphi(0)^{1/3}$ where all are equal: the
    exponent 1/6 of ``rectifier_error_bound`` cannot be improved.

    >>> round(worst_rectifier_constant(), 7), round(worst_rectifier_constant(balanced=False), 7)
    (0.4382157, 0.5521172)
    """
    return (0.375 * 2 ** (2 / 3) if balanced else 0.75) * (2.0 * math.pi) ** (-1 / 6)


def kernel_spread(X: ArrayLike, activation: Activation) -> Estimate:
    r"""$m\,\mathrm{Var}\,k_m$ of the kernel $k_m = x^\top x'\frac1m\sum_j\sigma'(w_j^\top x)\sigma'(w_j^\top x')$.

    $(x^\top x')^2\{E[\sigma'(u)^2\sigma'(v)^2] - E[\sigma'(u)\sigma'(v)]^2\}$, exact at any width m; for a rectifier
    $(x^\top x')^2p(1-p)$ with $p = \frac{\pi-\theta}{2\pi}$. X (n, d); the result is (n, n).

    Source: bartlett2021deep.

    >>> from widthwise.activations import activation
    >>> spread = kernel_spread([[1.0, 0.0], [0.5, np.sqrt(0.75)]], activation("relu"))
    >>> bool(abs(spread.value[0, 1] - 0.25 * (1 / 3) * (2 / 3)) <= spread.error[0, 1])
    True
    """
    X = np.asarray(X, dtype=float)
    squares = kernel(Chain((Dense(float(X.shape[1])), Apply(_squared_slope(activation)), Dense(1.0))), X)
    with jax.enable_x64(True):
        mean = limit_gram(X, activation)
    G = X @ X.T
    value = G**2 * squares.nngp - mean.value**2
    error = (squares.error + 64 * 2.0**-52) * float(np.max(squares.nngp))
    return Estimate(value, G**2 * error + 2 * np.abs(mean.value) * mean.error)


@functools.lru_cache(maxsize=16)
def _squared_slope(activation: Activation) -> Activation:
    """The square of the slope as an activation of its own; one value for each, so that it is compiled once."""
    slope = jax.grad(activation.fn)

    def squared(z):
        return jax.vmap(slope)(jnp.ravel(z)).reshape(jnp.shape(z)) ** 2

    return Activation(f"squared slope of {activation.name}", squared, kinks=activation.kinks)


def rectifier_kernel(X: ArrayLike, Y: ArrayLike) -> Float[np.ndarray, "n m"]:
    r"""$k(x, x') = x^\top x'\,\frac{\pi-\theta}{2\pi}$: a random half-plane contains both inputs with this probability.

    Source: cho2009kernel, du2019gradient.

    >>> half = np.array([[1.0, 0.0]]), np.array([[0.5, np.sqrt(0.75)], [1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    >>> np.round(rectifier_kernel(*half), 12).tolist()
    [[0.166666666667, 0.5, 0.0, -0.0]]
    """
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    units = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-300) for part in (X, Y)]
    away, along = (np.linalg.norm(units[0][:, None] + sign * units[1][None], axis=2) for sign in (-1.0, 1.0))
    # pi minus the angle, with its own digits where the inputs are nearly opposite.
    return X @ Y.T * np.arctan2(along, away) / math.pi


def slice_coefficients(height: float, count: int) -> Float[np.ndarray, " k"]:
    r"""Taylor coefficients in $s = u\cdot v$ of the rectifier kernel between $(u, c)$ and $(v, c)$ on the unit sphere.

    $k = \frac t4 + \frac{t\arcsin t}{2\pi}$ with $t = s + c^2$. For $0 < c < 1$ all of them are positive, which makes
    the kernel universal on this slice; for c = 0 all odd ones from the third on are zero.

    Args:
        height: c, in [0, 1).
        count: how many coefficients.

    Raises ``ValueError`` outside of this range. Sources: steinwart2008support, bartlett2021deep.

    >>> np.round(slice_coefficients(3**-0.5, 5), 8).tolist()
    [0.10136224, 0.36035649, 0.17935989, 0.0461588, 0.0542778]
    """
    if not 0 <= height < 1 or count < 1:
        reject(
            f"height={height}, count={count}",
            "The height lies in [0, 1), and at least one coefficient is asked for",
            "Give for example height=0.5, count=10",
        )
    t = height**2
    # g = arcsin' solves (1 - x^2) g' = x g, here around x = t.
    g = [1.0 / math.sqrt(1.0 - t * t)]
    for j in range(count):
        before = g[j - 1] if j else 0.0
        g.append((t * (2 * j + 1) * g[j] + j * before) / ((1.0 - t * t) * (j + 1)))
    arcsin = np.array([math.asin(t), *(g[j] / (j + 1) for j in range(count - 1))])[:count]
    shifted = np.concatenate([[0.0], arcsin[:-1]])
    linear = np.zeros(count)
    linear[:2] = np.array([t, 1.0])[:count]
    return 0.25 * linear + (t * arcsin + shifted) / (2.0 * math.pi)
