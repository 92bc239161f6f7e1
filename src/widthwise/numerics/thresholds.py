r"""When gradient descent with momentum and weight decay is stable, and how fast it then converges, mode by mode.

Legend: on a mode of curvature $\lambda$ (an eigenvalue of the Hessian) with minimum 0 the gradient is $g = \lambda w$.
$\eta$ the rate, $\beta$ the momentum, $\omega$ the weight decay, m the running gradient:

    g = lambda w          + omega w  where the decay is coupled (L2),
    m = beta m + c g,       c = 1, or 1 - beta where m is an average (as in Adam),
    u = m,                  or c g + beta m for Nesterov,
    w = w - eta u         - eta omega w  where the decay is decoupled (as in AdamW).

This is a linear map of (w, m), the companion matrix $C$, with
$\mathrm{tr}\,C = 1 + \beta - \eta(\omega_d + \nu ca)$, where $a = \lambda + \omega_c$ and $\nu = 1$, or $1 + \beta$ for
Nesterov, and $\det C = \beta(1 - \eta\omega_d)$, or $\beta(1 - \eta\omega_d - \eta ca)$ for Nesterov. It is stable iff
$1 - \mathrm{tr} + \det > 0$, $1 + \mathrm{tr} + \det > 0$ and $\det < 1$; the second of these bounds the rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy.optimize is loaded when it is first used
from jaxtyping import Array, Float

from .errors import reject

Reals = float | int | np.ndarray | np.generic | Array | Sequence


@dataclass(frozen=True)
class UpdateRule:
    r"""How a gradient becomes a step: the momentum $\beta$ and the weight decay $\omega$, apart from the rate.

    Args:
        momentum: $\beta$ in [0, 1); heavy ball by itself.
        nesterov: Nesterov's momentum, as ``optax.sgd(rate, momentum, nesterov=True)``.
        weight_decay: $\omega \ge 0$.
        decoupled: the decay is $\eta\omega w$ beside the gradient (AdamW), not $\omega w$ added to it (L2).
        averaged: the momentum is an average, $m = \beta m + (1-\beta)g$, as in Adam and ``optax.ema``.

    Raises ``ValueError`` for a momentum outside [0, 1) and a decay that is negative or not finite.
    Source: polyak1964methods, nesterov1983method, loshchilov2019decoupled.

    >>> UpdateRule(momentum=0.9).largest_rate(2.0)
    1.9
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled: bool = False
    averaged: bool = False

    def __post_init__(self):
        if not (_is_real(self.momentum) and 0 <= self.momentum < 1):
            reject(
                f"momentum={self.momentum!r}", "A momentum is at least 0 and below 1", "Give for example momentum=0.9"
            )
        if not (_is_real(self.weight_decay) and 0 <= self.weight_decay < math.inf):
            reject(
                f"weight_decay={self.weight_decay!r}",
                "A weight decay is at least 0 and finite",
                "Give for example weight_decay=1e-4",
            )

    def largest_rate(self, curvature: Reals) -> Any:
        r"""The rate below which a mode is stable; infinite for a mode on which nothing acts, 0 where no rate is stable.

        $\eta < \frac{2(1+\beta)}{c\,a + (1+\beta)\omega_d}$ for the heavy ball and
        $\frac{2(1+\beta)}{(1+2\beta)c\,a + (1+\beta)\omega_d}$ for Nesterov. A curvature may be negative.
        """
        pull = self._gain * self._coupled(curvature)
        turned = self._steepness * pull + (1 + self.momentum) * self._decoupled
        held = pull + (1 - self.momentum) * self._decoupled
        with np.errstate(divide="ignore"):
            stable = 2.0 * (1 + self.momentum) / np.where(held > 0, turned, 1.0)
        return _plain(np.where(held > 0, stable, np.where(held == 0, np.inf, 0.0)))

    def largest_curvature(self, rate: Reals) -> Any:
        r"""The curvature below which a mode is stable at a rate, the inverse of `largest_rate`.

        $\frac{(1+\beta)(2/\eta - \omega_d)}{\nu'c} - \omega_c$, $\nu' = 1$, or $1 + 2\beta$ for Nesterov; where it is
        negative the decay alone is unstable.

        >>> UpdateRule().largest_curvature(0.1)
        20.0
        """
        most = (1 + self.momentum) * (2.0 / _rates(rate) - self._decoupled) / (self._steepness * self._gain)
        return _plain(most - (0.0 if self.decoupled else self.weight_decay))

    def companion(self, rate: Reals, curvature: Reals) -> Float[np.ndarray, "*modes 2 2"]:
        """The matrix that maps (w, m) before a step to those after it, for every mode.

        >>> UpdateRule(momentum=0.5).companion(0.1, 2.0).tolist()
        [[0.8, -0.05], [2.0, 0.5]]
        """
        rate, pull = np.broadcast_arrays(_rates(rate), self._gain * self._coupled(curvature))
        beta = self.momentum
        from_gradient, from_running = (1 + beta, beta**2) if self.nesterov else (1.0, beta)
        stay = 1.0 - rate * self._decoupled - rate * from_gradient * pull
        return np.stack(
            [np.stack([stay, -rate * from_running], -1), np.stack([pull, np.full_like(pull, beta)], -1)], -2
        )

    def spectral_radius(self, rate: Reals, curvature: Reals) -> Any:
        r"""$\rho$, by which the error of a mode shrinks in every step in the long run; below 1 iff it is stable.

        >>> UpdateRule().spectral_radius(1.9, [1.0, 0.1]).round(12).tolist()
        [0.9, 0.81]
        """
        return _plain(1.0 - np.asarray(self.gap(rate, curvature)))

    def gap(self, rate: Reals, curvature: Reals) -> Any:
        r"""$1 - \rho$, to all digits also for a mode so slow that $\rho$ is rounded to 1; negative where it grows.

        >>> f"{UpdateRule(momentum=0.9).gap(1e-3, 1e-18):.12g}"
        '1e-20'
        """
        rate, curvature = np.broadcast_arrays(_rates(rate), _curvatures(curvature))
        pull, decay = self._gain * self._coupled(curvature), self._decoupled
        trace = (1 + self.momentum) - rate * (decay + (1 + self.momentum * self.nesterov) * pull)
        det = self.momentum * (1.0 - rate * (decay + self.nesterov * pull))
        # The values of the characteristic polynomial at 1 and at -1: (1 - r)(1 - s) and (1 + r)(1 + s).
        at_one = rate * ((1 - self.momentum) * decay + pull)
        at_minus_one = 1.0 + trace + det
        root = np.sqrt(np.maximum(det, 0.0))
        split = np.where(det > 0, (trace - 2 * root) * (trace + 2 * root), trace**2 - 4 * det)
        spread = np.sqrt(np.maximum(split, 0.0))
        real = _over(np.where(trace >= 0, at_one, at_minus_one), 1.0 - 0.5 * (np.abs(trace) - spread))
        real = np.where(np.isnan(real), 1.0 - 0.5 * (np.abs(trace) + spread), real)
        turning = (1.0 - det) / (1.0 + root)
        return _plain(np.where(split >= 0, real, turning))

    def decay_rate(self, rate: Reals, curvature: Reals) -> Any:
        r"""$-\log\rho$ per step: after k steps the error of a mode is of the order $e^{-k\cdot\text{this}}$.

        >>> round(UpdateRule().decay_rate(0.5, 1.0), 12) == round(math.log(2.0), 12)
        True
        """
        with np.errstate(divide="ignore"):
            return _plain(-np.log1p(-np.asarray(self.gap(rate, curvature))))

    @property
    def _gain(self) -> float:
        return 1.0 - self.momentum if self.averaged else 1.0

    @property
    def _steepness(self) -> float:
        return 1.0 + 2.0 * self.momentum if self.nesterov else 1.0

    @property
    def _decoupled(self) -> float:
        return float(self.weight_decay) if self.decoupled else 0.0

    def _coupled(self, curvature: Reals) -> Any:
        return _curvatures(curvature) + (0.0 if self.decoupled else self.weight_decay)


def largest_rate(
    curvature: Reals,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    averaged: bool = False,
) -> Any:
    r"""The rate below which descent is stable on a mode of curvature $\lambda$; for a loss, give its sharpness.

    $2/\lambda$ for gradient descent, $2(1+\beta)/\lambda$ for the heavy ball, $\frac{2(1+\beta)}{(1+2\beta)\lambda}$
    for Nesterov, and with the factor $1/(1-\beta)$ where the momentum is an average, as in Adam. A coupled decay
    $\omega$ counts as curvature; a decoupled one gives $2/(\lambda + \omega)$ without momentum and
    $\frac{2(1+\beta)}{\lambda + (1+\beta)\omega}$ for the heavy ball. The arguments are those of `UpdateRule`; numbers
    give a float, arrays an array. Source: polyak1964methods, cohen2021gradient; with decoupled decay derived here.

    >>> largest_rate(1.0), largest_rate(1.0, momentum=0.9), round(largest_rate(1.0, momentum=0.9, nesterov=True), 6)
    (2.0, 3.8, 1.357143)
    """
    return UpdateRule(momentum, nesterov, weight_decay, decoupled, averaged).largest_rate(curvature)


def largest_curvature(
    rate: Reals,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    averaged: bool = False,
) -> Any:
    r"""The sharpness up to which a rate is stable: the inverse of `largest_rate`, with the same arguments.

    >>> largest_curvature(0.1, momentum=0.9)
    38.0
    """
    return UpdateRule(momentum, nesterov, weight_decay, decoupled, averaged).largest_curvature(rate)


def best_rate(smallest: float, largest: float, rule: UpdateRule | None = None) -> float:
    r"""The constant rate that makes the slowest mode between two curvatures fastest, under a rule.

    $\frac{2(1+\beta)}{c(a_{min} + a_{max})}$ for gradient descent and the heavy ball, whose factor per step is
    $\frac{\kappa-1}{\kappa+1}$ without momentum; otherwise a search. Source: polyak1964methods.

    >>> rate = best_rate(0.1, 1.0)
    >>> round(rate, 12), round(UpdateRule().spectral_radius(rate, 0.1), 12)
    (1.818181818182, 0.818181818182)
    """
    _demand_interval(smallest, largest)
    rule = UpdateRule() if rule is None else rule
    if not rule.nesterov and not (rule.decoupled and rule.weight_decay and rule.momentum):
        return 2.0 * (1 + rule.momentum) / (rule._gain * (smallest + largest + 2.0 * rule.weight_decay))
    most = rule.largest_rate(largest)

    def slowest(rate: float) -> float:
        return max(rule.spectral_radius(rate, smallest), rule.spectral_radius(rate, largest))

    found: Any = scipy.optimize.minimize_scalar(
        slowest, bounds=(0.0, most), method="bounded", options={"xatol": 1e-12 * most}
    )
    return float(found.x)


def best_momentum(
    smallest: float, largest: float, nesterov: bool = False, weight_decay: float = 0.0, averaged: bool = False
) -> tuple[float, UpdateRule]:
    r"""The rate and the rule with the momentum that together make the slowest mode between two curvatures fastest.

    With $\kappa = a_{max}/a_{min}$, heavy ball: $\sqrt\beta = \frac{\sqrt\kappa-1}{\sqrt\kappa+1} = \rho$,
    $\eta = 4/(\sqrt{a_{max}}+\sqrt{a_{min}})^2$; Nesterov: $\beta = \frac{\sqrt{3\kappa+1}-2}{\sqrt{3\kappa+1}+2}$,
    $\eta = \frac4{3a_{max}+a_{min}}$, $\rho = 1 - 2/\sqrt{3\kappa+1}$. The decay is coupled; where the momentum is an
    average the rate is $1/(1-\beta)$ times that. Source: polyak1964methods, lessard2016analysis.

    >>> rate, rule = best_momentum(1.0, 9.0)
    >>> rate, rule.momentum, round(rule.spectral_radius(rate, 3.0), 12)
    (0.25, 0.25, 0.5)
    """
    _demand_interval(smallest, largest)
    low, high = smallest + weight_decay, largest + weight_decay
    if nesterov:
        root = math.sqrt(3.0 * high / low + 1.0)
        beta, rate = (root - 2.0) / (root + 2.0), 4.0 / (3.0 * high + low)
    else:
        root = math.sqrt(high / low)
        beta, rate = ((root - 1.0) / (root + 1.0)) ** 2, 4.0 / (math.sqrt(high) + math.sqrt(low)) ** 2
    rule = UpdateRule(beta, nesterov, weight_decay, averaged=averaged)
    return rate / rule._gain, rule


def demand_rate(rate: Any) -> float:
    """A rate above 0 and finite, as a float.

    >>> demand_rate(1)
    1.0
    """
    if not (_is_real(rate) and 0 < rate < math.inf):
        reject(f"rate={rate!r}", "A learning rate is a finite number above 0", "Give for example rate=0.1")
    return float(rate)


def _is_real(value: Any) -> bool:
    return not isinstance(value, bool) and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiu"


def _rates(rate: Reals) -> Any:
    rate = np.asarray(rate, dtype=float)
    if not np.all((rate > 0) & (rate < np.inf)):
        reject(f"a rate of {_worst(rate, rate > 0)}", "A learning rate is a finite number above 0", "Give rate=0.1")
    return rate


def _curvatures(curvature: Reals) -> Any:
    curvature = np.asarray(curvature, dtype=float)
    if not np.all(np.isfinite(curvature)):
        reject(
            f"a curvature of {_worst(curvature, curvature < np.inf)}",
            "A curvature is an eigenvalue of the Hessian, a finite number",
            "Look for NaN or inf in the model or the data",
        )
    return curvature


def _worst(values: Any, good: Any) -> float:
    """One of the values that are refused."""
    bad = values[~(good & np.isfinite(values))]
    return float(bad.ravel()[0])


def _demand_interval(smallest: float, largest: float) -> None:
    if not 0 < smallest <= largest < math.inf:
        reject(
            f"curvatures from {smallest} to {largest}",
            "The smallest curvature is above 0 and the largest finite, not below it",
            "Give the smallest eigenvalue that is above zero; the modes at zero do not move",
        )


def _over(above: Any, below: Any) -> Any:
    """The ratio, NaN where the denominator is not above zero."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _plain(values: Any) -> Any:
    """A float for a number, else the array."""
    return float(values) if np.ndim(values) == 0 else values
