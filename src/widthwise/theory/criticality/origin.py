r"""What repeated layers do to a variance near zero, from the derivatives of the activation there.

Legend: $\sigma_k = \sigma^{(k)}(0)$; where $\sigma$ has a kink at zero, $\sigma(z) = a_\pm z + b_\pm z^2 + \dots$ on
its two sides. With $\sigma(0) = 0$, no biases and $C_w = 1/m_1(0^+)$, $m_1(0^+) = \frac12(a_+^2 + a_-^2)$, a layer maps
$K' = K + a K^p + \dots$ and multiplies gradients by $\chi_\perp = 1 + b_1K + \dots$.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.activations import Activation

from .moments import moments

_BESIDE = 1e-30
_SMALL = np.geomspace(1e-6, 1.0, 64)
_NEAR, _BALANCED = 1e-8, 1e-2  # h at the first is below the second if it tends to zero at least like the root of K
_NONE = 1e-12  # a smaller coefficient, or a smaller relative change of a variance, is rounding


@dataclass(frozen=True)
class Origin:
    r"""The layer map near $K = 0$: $K' = K + a K^p + \dots$ at the weight variance $1/m_1(0^+)$.

    ``value`` $\sigma(0)$; ``slope`` $m_1(0^+)$; ``imbalance`` h near zero; ``power`` p is 2,
    or 3/2 for a kink at zero; ``leading`` a, which is
    $a_1 = \frac{\sigma_3}{\sigma_1} + \frac34(\frac{\sigma_2}{\sigma_1})^2$ where $\sigma$ is smooth at zero; ``angle``
    $b_1 = \frac{\sigma_3}{\sigma_1} + (\frac{\sigma_2}{\sigma_1})^2$ is nan at a kink.
    """

    value: float
    slope: float
    imbalance: float
    power: float
    leading: float
    angle: float = math.nan

    @property
    def critical(self) -> bool:
        r"""Whether $K_* = 0$ is a critical point at all: $\sigma(0) = 0$, $m_1(0^+) > 0$ and h tends to zero."""
        return abs(self.value) < _NONE and self.slope > 0.0 and abs(self.imbalance) < _BALANCED


def origin(activation: Activation) -> Origin:
    """Expand an activation at zero.

    Source: roberts2022principles; the term of third order is derived in this project.

    >>> from widthwise.activations import ACTIVATIONS
    >>> found = origin(ACTIVATIONS["tanh"])
    >>> found.leading, found.angle
    (-2.0, -2.0)
    """
    imbalance = float(moments(activation, np.array([_NEAR])).imbalance.value[0])
    value = _derivatives(activation, 0.0, 0)[0]
    if 0.0 in activation.kinks:
        (a, curvature), (c, other) = (_derivatives(activation, side, 2)[1:] for side in (_BESIDE, -_BESIDE))
        slope = 0.5 * (a**2 + c**2)
        leading = math.sqrt(2.0 / math.pi) * (a * curvature - c * other) / slope if slope else math.nan
        return Origin(value, slope, imbalance, 1.5, leading)
    _, first, second, third = _derivatives(activation, 0.0, 3)
    if first == 0.0:
        return Origin(value, 0.0, imbalance, 2.0, math.nan)
    bend, twist = second / first, third / first
    return Origin(value, first**2, imbalance, 2.0, twist + 0.75 * bend**2, twist + bend**2)


def second_term(activation: Activation) -> float:
    r"""$a_2$ of $K' = K + a_1K^2 + a_2K^3 + \dots$ for an activation that is smooth at zero.

    $a_2 = \frac{15}{\sigma_1^2}
    \left(\frac{\sigma_1\sigma_5}{60} + \frac{\sigma_2\sigma_4}{24} + \frac{\sigma_3^2}{36}\right)$,
    the coefficient of $z^6$ in $\sigma^2$ times $E z^6 = 15K^3$. Derived in this project.

    >>> from widthwise.activations import ACTIVATIONS
    >>> round(second_term(ACTIVATIONS["tanh"]), 12)  # 17/3
    5.666666666667
    """
    _, first, second, third, fourth, fifth = _derivatives(activation, 0.0, 5)
    return 15.0 / first**2 * (first * fifth / 60.0 + second * fourth / 24.0 + third**2 / 36.0)


def decay_logarithm(activation: Activation) -> float:
    r"""The coefficient of $\log l$ in $1/K^{(l)} = -a_1l + \frac{a_1^2-a_2}{-a_1}\log l + c + o(1)$.

    >>> from widthwise.activations import ACTIVATIONS
    >>> round(decay_logarithm(ACTIVATIONS["tanh"]), 12)  # -5/6
    -0.833333333333
    """
    leading = origin(activation).leading
    return (leading**2 - second_term(activation)) / -leading


def attracts(activation: Activation, found: Origin) -> bool:
    r"""Whether $C_wm_0(K) < K$ for small K, so that variances fall to zero.

    Decided by the leading coefficient, and where there is none by the smallest variance whose change is seen.
    """
    if abs(found.leading) > _NONE:
        return found.leading < 0.0
    square = moments(activation, _SMALL).square
    change = square.value / found.slope / _SMALL - 1.0
    noise = np.maximum(_NONE, 10.0 * square.error / found.slope / _SMALL)
    seen = np.flatnonzero(np.abs(change) > noise)
    return bool(len(seen) and change[seen[0]] < 0.0)


def _derivatives(activation: Activation, place: float, highest: int) -> list[float]:
    with jax.enable_x64(True):
        at = jnp.asarray(place, dtype=jnp.float64)
        return [float(part) for part in _compiled(activation.fn, highest)(at)]


@functools.lru_cache(maxsize=256)
def _compiled(fn: Callable, highest: int) -> Callable:
    chain = [fn]
    for _ in range(highest):
        chain.append(jax.grad(chain[-1]))
    return jax.jit(lambda z: [f(z) for f in chain])
