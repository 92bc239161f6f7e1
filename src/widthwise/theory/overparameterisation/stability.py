r"""The argument of Du and others: the kernel is stable while the weights stay, and they stay while it is stable.

Legend: as in ``runs``; $\Delta$ a bound on the move of every neuron, $c = \gamma\sqrt N\max_i|a_i|$, $s_1 =
\sup|\sigma'|$, $s_2$ the Lipschitz constant of $\sigma'$ (``curvature_bound``), $R = \max_\alpha\|x_\alpha\|$. The
lectures have $\gamma = 1/\sqrt N$ and $|a_i|, s_1, s_2, R \le 1$, so that $c \le 1$.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.numerics import reject
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.bounds import Numbers
from widthwise.theory.lazy.lipschitz import curvature_unknown

# The forms of the width condition, see ``sufficient_width``.
CONDITIONS = ("du", "data", "simple", "printed")


@dataclass(frozen=True)
class Sizes:
    r"""What the argument needs to know of a network and its data: n, $c$, $s_1$, $s_2$, $R$, $\lambda_{max}(G\circ G)$.

    Made by `sizes`.

    >>> unit = Sizes(count=6, readout=1.0, slope=1.0, curvature=1.0, radius=1.0, squares=1.7)
    >>> round(float(unit.kernel_change(0.1)), 9), round(unit.allowed_move(0.054), 5)
    (1.2, 0.00225)
    """

    count: int
    readout: float
    slope: float
    curvature: float
    radius: float
    squares: float

    def kernel_change(self, move: ArrayLike) -> Numbers:
        r"""$\|K - K_0\| \le 2nc^2s_1s_2R^3\Delta$, when no neuron moves by more than $\Delta$.

        Each entry changes by at most a $2c^2s_1s_2R^3\Delta$, and a symmetric n by n matrix has a norm of at most n
        times its largest entry. Source: du2019gradient.
        """
        return self.count * self.entry_change(move)

    def entry_change(self, move: ArrayLike) -> Numbers:
        r"""The bound $2c^2s_1s_2R^3\Delta$ on the change of one entry of the kernel."""
        return 2 * self.readout**2 * self.slope * self.curvature * self.radius**3 * np.asarray(move)

    def allowed_move(self, lambda0: float) -> float:
        r"""$\Delta = \frac{\lambda_0}{4nc^2s_1s_2R^3}$, within which $K \succeq \frac{\lambda_0}2$.

        It is infinite for $s_2 = 0$. The lectures' $\frac{\lambda_0}{8n}$ keeps more than is needed,
        $K \succeq \frac34\lambda_0$.
        """
        unit = float(self.kernel_change(1.0))
        return lambda0 / (2 * unit) if unit else math.inf

    def speed(self, loss: ArrayLike, width: int) -> Numbers:
        r"""$\|\dot w_i\| \le \frac{cs_1R}{\sqrt N}\sqrt{2\mathcal L}$; the lectures drop the root of 2."""
        return self.readout * self.slope * self.radius * np.sqrt(2 * np.asarray(loss, dtype=float) / width)

    def travel(self, loss: float, lambda0: float, width: int) -> float:
        r"""$\Delta^* = \frac{2ncs_1R}{\lambda_0}\sqrt{\frac{2\mathcal L(0)}N}$.

        No neuron moves by more while $K \succeq \frac{\lambda_0}2$: it is the integral of ``speed`` with $\mathcal
        L^{1/2} \le e^{-\lambda_0t/(2n)}\mathcal L(0)^{1/2}$.
        """
        return 2 * self.count / lambda0 * float(self.speed(loss, width))


def slope_unknown(s: Activation) -> str | None:
    """Why the slope of an activation has no known Lipschitz constant, or nothing; kinks of the slope do no harm."""
    return None if math.isfinite(s.slope_bound * s.curvature_bound) else curvature_unknown(s)


def sizes(X: ArrayLike, readout: ArrayLike, s: Activation, scale: float | None = None) -> Sizes:
    r"""Measure inputs X (n, d) and a readout (N,) for the argument; ``scale`` is $\gamma$, by default $1/\sqrt N$.

    Raises ``ValueError`` for an activation whose slope is not known to be bounded and Lipschitz, such as relu.

    >>> from widthwise.activations import activation
    >>> sizes(np.eye(3), [1.0, -0.5], activation("sin"))
    Sizes(count=3, readout=1.0, slope=1.0, curvature=1.0, radius=1.0, squares=1.0)
    """
    X, a = np.asarray(X, dtype=float), np.asarray(readout, dtype=float)
    if why := slope_unknown(s):
        reject(
            why, "The argument needs a Lipschitz slope", "Take tanh, sin, erf, softplus or another smooth activation"
        )
    scale = 1 / math.sqrt(a.size) if scale is None else scale
    squares = float(np.linalg.eigvalsh((X @ X.T) ** 2)[-1])
    radius = float(np.linalg.norm(X, axis=1).max())
    readout = scale * math.sqrt(a.size) * float(np.abs(a).max())
    return Sizes(len(X), readout, s.slope_bound, s.curvature_bound, radius, squares)


def sizes_of(net: Shallow, X: ArrayLike) -> Sizes:
    """`sizes` of a network."""
    return sizes(X, np.asarray(net.signs), net.activation, float(net.scale))


def sufficient_width(condition: str, seen: Sizes, loss: float, lambda0: float) -> float:
    r"""The width N beyond which the flow of $\mathcal L = \frac1{2n}\|f - y\|^2$ surely stays lazy.

    ``"du"``: $\frac{128n^4c^6s_1^4s_2^2R^8\mathcal L(0)}{\lambda_0^4}$, from $\Delta^* < \Delta$: every neuron moves by
    at most $\Delta^*$, $K \succeq \frac{\lambda_0}2$, $\mathcal L \le e^{-\lambda_0t/n}\mathcal L(0)$. The share of
    $\lambda_0$ that the kernel may lose is best a half.

    The others are $h < 1$ of the sharp ball certificate (LAZY-C1), which needs no move of single neurons:
    ``"data"``: $\frac{8nc^2s_2^2\lambda_{max}(G\circ G)\mathcal L(0)}{\lambda_0^2}$; ``"simple"``: the same with
    $\lambda_{max}(G\circ G) \le nR^4$; ``"printed"``: twice that, as lectures print it, from an algebra that lost
    powers.

    $\lambda_0$ and $\mathcal L(0)$ are those of the network at its start, or of its limit. Infinite for
    $\lambda_0 = 0$. Raises ``ValueError`` for an unknown condition, and for negative numbers. Source: du2019gradient;
    derived here.

    >>> unit = Sizes(6, 1.0, 1.0, 1.0, 1.0, 1.7019909)
    >>> [float(f"{sufficient_width(one, unit, 0.2021738099, 0.0540368515):.4g}") for one in CONDITIONS]
    [3934000000.0, 5656.0, 19940.0, 39880.0]
    """
    if condition not in CONDITIONS:
        reject(f"condition={condition!r}", f"The conditions are {', '.join(CONDITIONS)}", "Choose one by name")
    if not (loss >= 0 and lambda0 >= 0):
        reject(f"loss={loss}, lambda0={lambda0}", "Both are at least 0", "Check where they came from")
    if loss == 0.0:
        return 0.0
    if lambda0 == 0.0:
        return math.inf
    n, c, R = seen.count, seen.readout, seen.radius
    if condition == "du":
        return 128 * n**4 * c**6 * seen.slope**4 * seen.curvature**2 * R**8 * loss / lambda0**4
    squares = {"data": seen.squares, "simple": n * R**4, "printed": 2 * n * R**4}[condition]
    return 8 * n * (c * seen.curvature) ** 2 * squares * loss / lambda0**2
