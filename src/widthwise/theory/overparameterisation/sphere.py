r"""The two-layer network on the sphere of Bartlett, Montanari and Rakhlin: how everything scales with n, d and m.

Legend: $f(x) = \frac1{\sqrt m}\sum_ja_j\sigma(\langle w_j, x\rangle)$, half of the fixed $a_j$ are +1 and half -1,
$w_j$ uniform on the unit sphere in d dimensions, n inputs $x_i \sim N(0, I_d)$, targets $\pm1$; $r_0 = \|f - y\|$,
$\sigma_{min}, \sigma_{max}$ of the Jacobian in the first layer, $\beta$ (their $L_n$) its Lipschitz constant, $h =
2\beta r_0/\sigma_{min}^2$, $s_1 = \sup|\sigma'|$, $s_2 = \sup|\sigma''|$.
"""

import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from widthwise.activations import Activation, activation
from widthwise.numerics import reject
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.lipschitz import shallow

from .examples import network
from .runs import look

# The chance that a draw exceeds a bound that is said to hold with high probability.
CHANCE = 1e-9


@dataclass(frozen=True)
class SphereNumbers:
    """The four numbers of the theorem for one network on the sphere: r_0, sigma_min, sigma_max, beta."""

    r0: float
    sigma_min: float
    sigma_max: float
    beta: float

    @property
    def h(self) -> float:
        r"""$\frac{2\beta r_0}{\sigma_{min}^2}$."""
        return 2 * self.beta * self.r0 / self.sigma_min**2


def draw_sphere(
    rng: np.random.Generator, count: int, dim: int, width: int, s: str | Activation = "tanh", mirrored: bool = False
) -> tuple[Shallow, Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    r"""Draw a network on the sphere with Gaussian inputs X (n, d) and targets $\pm1$.

    ``mirrored``: every neuron comes with both signs, so that the outputs start at zero. Raises ``ValueError`` for an
    odd width and for sizes below 1. Source: bartlett2021deep.

    >>> net, X, y = draw_sphere(np.random.default_rng(0), 3, 4, 10)
    >>> net.W.shape, X.shape, float(np.abs(net.signs).min()), float(np.round(np.linalg.norm(net.W[0]), 6))
    ((10, 4), (3, 4), 1.0, 1.0)
    """
    if min(count, dim, width) < 1 or width % 2:
        reject(
            f"n={count}, d={dim}, m={width}",
            "Sizes are at least 1, and the width is even for half of the signs to be positive",
            "Give for example 20 inputs, 20 dimensions, width 400",
        )
    X = rng.normal(size=(count, dim))
    W = rng.normal(size=(width // 2 if mirrored else width, dim))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    signs = np.repeat([1.0, -1.0], width // 2)
    y = rng.choice([-1.0, 1.0], size=count)
    return network(np.concatenate([W, W]) if mirrored else W, signs, s), X, y


def sphere_numbers(net: Shallow, X: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> SphereNumbers:
    r"""$r_0$, $\sigma_{min}$, $\sigma_{max}$, and the certified $\beta = s_2\sqrt{\lambda_{max}(G\circ G)/m}$ of a
    network.

    >>> net, X, y = draw_sphere(np.random.default_rng(0), 3, 40, 1000)
    >>> seen = sphere_numbers(net, X, y)
    >>> 0.3 < seen.sigma_min / 40**0.5 < 1.0, round(seen.h * 1000**0.5 / sphere_numbers(net, X, y).h) == 32
    (True, True)
    """
    with jax.enable_x64(True):
        start = look(net, X, np.asarray(net.W))
        beta = shallow(X, np.asarray(net.signs), net.activation, float(net.scale)).value
    ends = np.sqrt(np.maximum(np.linalg.eigvalsh(start.gram)[[0, -1]], 0.0))
    return SphereNumbers(float(np.linalg.norm(start.outputs - y)), float(ends[0]), float(ends[1]), float(beta))


def sphere_bounds(
    count: int, dim: int, width: int, s: str | Activation = "tanh", chance: float = CHANCE
) -> SphereNumbers:
    r"""Bounds that hold but with five times this ``chance``, whatever the width.

    $r_0 \le \sqrt n\big(1+\sup|\sigma|\sqrt{2\ln(2n/\delta)}\big)$ by Hoeffding's inequality; with $t =
    \sqrt{2\ln(1/\delta)}$, $\|X\| \le \sqrt n+\sqrt d+t$ and $\max\|x_i\| \le \sqrt d+\sqrt{2\ln(n/\delta)}$:
    $\sigma_{max} \le s_1\|X\|$ and $\beta \le \frac{s_2}{\sqrt m}\|X\|\max\|x_i\|$; and, where n is well below d,
    $\sigma_{min} \ge (\sqrt d-\sqrt n-t)\sqrt{q-s_1^2\sqrt{\ln(n/\delta)/(2m)}}$ with q the mean of $\sigma'(\langle
    w,x\rangle)^2$ at the largest $\|x\|$ (0 where this is nothing); q is right for slopes that fall with the size of
    their argument. So $r_0 \lesssim \sqrt n$, $\sigma_{max} \lesssim \sqrt n+\sqrt d$, $\beta \lesssim \sqrt{d/m}(\sqrt
    n+\sqrt d)$, $\sigma_{min} \gtrsim \sqrt d$. For n beyond d the last needs more than this (bartlett2021deep).
    Derived here.

    Raises ``ValueError`` for an activation that is not bounded with two bounded derivatives.

    >>> bounds = sphere_bounds(6, 256, 400)
    >>> bounds.sigma_min > 2.0, bounds.sigma_max < 25.0
    (True, True)
    """
    s = activation(s)
    if not math.isfinite(s.value_bound * s.slope_bound * s.curvature_bound):
        reject(f"activation {s.name}", "It is bounded, with two bounded derivatives", "Take tanh, erf, sigmoid or sin")
    t = math.sqrt(2 * math.log(1 / chance))
    longest = math.sqrt(dim) + math.sqrt(2 * math.log(count / chance))
    spectral = math.sqrt(count) + math.sqrt(dim) + t
    lost = s.slope_bound**2 * math.sqrt(math.log(count / chance) / (2 * width))
    mean = max(mean_square_slope(s, dim, longest) - lost, 0.0)
    return SphereNumbers(
        r0=math.sqrt(count) * (1 + s.value_bound * math.sqrt(2 * math.log(2 * count / chance))),
        sigma_min=max(math.sqrt(dim) - math.sqrt(count) - t, 0.0) * math.sqrt(mean),
        sigma_max=s.slope_bound * spectral,
        beta=s.curvature_bound / math.sqrt(width) * spectral * longest,
    )


def mean_square_slope(s: Activation, dim: int, radius: float) -> float:
    r"""$E\,\sigma'(\rho u_1)^2$ for u uniform on the unit sphere in d > 1 dimensions, where $u_1$ has density
    $\propto(1-u^2)^{(d-3)/2}$.

    By Gauss-Gegenbauer quadrature with 200 nodes.

    >>> round(mean_square_slope(activation("sin"), 3, 2.0), 9), round(0.5 + math.sin(4.0) / 8.0, 9)
    (0.405399688, 0.405399688)
    """
    nodes, weights = _sphere_rule(dim)
    with jax.enable_x64(True):
        slopes = look(network(np.ones((1, 1)), [1.0], s, 1.0), radius * nodes[:, None], np.ones((1, 1))).slopes
    return float(weights @ slopes[:, 0] ** 2)


def _sphere_rule(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the first coordinate, by the eigenvalues of the Jacobi matrix of Gegenbauer polynomials."""
    k = np.arange(1, 200)
    a = 0.5 * (dim - 2)  # the Gegenbauer parameter
    # In two dimensions the first step is the limit of its formula.
    steps = (
        np.sqrt(k * (k + 2 * a - 1) / (4 * (k + a) * (k + a - 1))) if a > 0 else np.where(k == 1, math.sqrt(0.5), 0.5)
    )
    values, vectors = np.linalg.eigh(np.diag(steps, 1) + np.diag(steps, -1))
    return values, vectors[0] ** 2
