r"""Critical initialisations of any activation, found by a scan over the variance.

Legend as in ``moments``: $m_0, m_1, m_2$ and $h = m_2/m_1 - 1$ at the variance K. A network is critical where
$K_* = C_b + C_wm_0(K_*)$ is kept, $\chi_\parallel = C_wm_2 = 1$ and $\chi_\perp = C_wm_1 = 1$: $h(K_*) = 0$,
$C_w = 1/m_1(K_*)$, $C_b = K_* - C_wm_0(K_*) \ge 0$.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from widthwise.activations import Activation
from widthwise.activations import activation as find_activation
from widthwise.networks import MLP
from widthwise.numerics import Estimate, reject

from .moments import Moments, check_signal, moments, quotient, times
from .origin import attracts, origin

Kind = Literal["scale-invariant", "half-stable", "vanishing", "unstable", "semi-critical"]
Class = Literal["scale-invariant", "half-stable", "vanishing", "unstable", "none"]

_SEARCH, _COUNT = (1e-4, 1e3), 400
_SAME = 1e-10  # h is zero where it is below this everywhere
_NOISE = 1e-9  # a sign of h counts where h exceeds this, and its error
GAP = 3  # so many grid steps apart two signs enclose a root, and not a plateau of noise
_NEIGHBOURS = 3
_COARSE = 1e-4  # variances whose h is known worse than this are left out
_LEVEL = 1e-9  # |chi_parallel - 1| that differ by less are equal: the variance nearest 1 is taken
_BORDER = 1e-9  # of the logarithm of a variance
_EPS = 2.0**-52

_EXPLAINED = {
    "scale-invariant": "critical at every variance, which is kept as it is",
    "half-stable": "critical at one variance, which attracts from one side",
    "vanishing": "critical in the limit of variance zero, which is approached like a power of the depth",
    "unstable": "critical only at variance zero, from which variances grow away",
    "semi-critical": "no critical point: chi_perp = 1, and chi_parallel as near 1 as it gets",
    "none": "no critical point, and none on the edge of chaos with a bias variance of at least 0",
}


@dataclass(frozen=True)
class CriticalPoint:
    r"""Variances of weights and biases, and what layers initialised so do to a signal of variance ``variance``.

    ``variance`` $K_*$ is kept by a layer; it is nan for ``kind="scale-invariant"``, where every variance is.
    ``chi_parallel`` multiplies a deviation from it, ``chi_perp`` a small angle between inputs and a squared gradient.
    ``bend`` $a_1 = \frac12C_wm_0''(K_*)$: a deviation goes $\delta' = \delta + a_1\delta^2$. At $K_* = 0$ it is that of
    $K' = K + a_1K^p$ with ``power`` p, 2 or, for a kink at zero, 3/2. ``at_border``: a semi-critical point at an end
    of the variances searched, beyond which $\chi_\parallel$ may come nearer to 1.
    """

    kind: Kind
    weight_variance: Estimate
    bias_variance: Estimate
    variance: Estimate
    chi_parallel: Estimate
    chi_perp: Estimate
    bend: Estimate
    power: float = 2.0
    at_border: bool = False

    @property
    def depth_scale(self) -> float:
        r"""$\xi_q = 1/|\log\chi_\parallel|$, the layers in which a deviation changes by a factor e."""
        rate = abs(math.log(abs(self.chi_parallel.value) or math.inf))
        return math.inf if rate <= max(self.chi_parallel.error, 4 * _EPS) else 1.0 / rate

    @property
    def side(self) -> str:
        """From where the variance is approached: "above", "below", "both" or "neither" (and "everywhere")."""
        if self.kind == "scale-invariant":
            return "everywhere"
        if math.isfinite(self.depth_scale):
            return "both" if self.chi_parallel.value < 1.0 else "neither"
        if self.kind == "vanishing":
            return "above"
        if self.kind == "unstable" or abs(self.bend.value) <= self.bend.error:
            return "neither"
        return "above" if self.bend.value < 0.0 else "below"

    @property
    def input_mean_square(self) -> float | None:
        r"""$\|x\|^2/d = (K_* - C_b)/C_w$, at which a network starts at $K_*$; None where no input scale is special."""
        if self.kind in ("scale-invariant", "vanishing", "unstable"):
            return None
        return (self.variance.value - self.bias_variance.value) / self.weight_variance.value


@dataclass(frozen=True, eq=False, repr=False)
class Criticality:
    """What is known of the critical initialisation of an activation: its class, and its points, the best one first."""

    activation: Activation
    kind: Class
    points: tuple[CriticalPoint, ...]

    @property
    def best(self) -> CriticalPoint:
        """The first point. Raises ``ValueError`` where there is none."""
        if not self.points:
            reject(
                f"activation {self.activation.name!r}, which has {_EXPLAINED['none']}",
                "A point is needed here",
                "Subtract the mean from the activation, or normalise the layers",
            )
        return self.points[0]

    @property
    def weight_variance(self) -> Estimate:
        """$C_w$ of the best point."""
        return self.best.weight_variance

    @property
    def bias_variance(self) -> Estimate:
        """$C_b$ of the best point."""
        return self.best.bias_variance

    @property
    def variance(self) -> Estimate:
        """$K_*$ of the best point."""
        return self.best.variance

    @property
    def input_mean_square(self) -> float | None:
        """The mean square of an input from which a network starts at the variance of the best point."""
        return self.best.input_mean_square

    def network(self, width: int = 256, depth: int = 2, parameterisation: str = "ntk") -> MLP:
        r"""A multilayer perceptron initialised at the best point.

        It starts *at* $K_*$ on inputs scaled to $\|x\|^2/d$ = ``input_mean_square``, which is not $K_*$: the first
        layer maps it to $K^{(1)} = C_b + C_w\|x\|^2/d$. Raises ``ValueError`` for a width or depth below 1, and where
        there is no point.
        """
        best = self.best
        variances = float(best.weight_variance.value), float(best.bias_variance.value)
        return MLP(width, depth, self.activation, *variances, parameterisation)

    def __repr__(self) -> str:
        kind = self.points[0].kind if self.points else self.kind
        head = f"{self.activation.name}: {self.kind}, {_EXPLAINED[kind]}"
        return "\n".join([head, *map(_told, self.points)])


def critical_init(activation: str | Activation | Callable, *, search: Sequence[float] = _SEARCH) -> Criticality:
    r"""Find the weight and bias variances at which a deep network with this activation is critical.

    Scans $h(K) = \chi_\parallel/\chi_\perp - 1$ and returns, in this order of preference,

    - ``"scale-invariant"``: $h = 0$ everywhere; $C_w = 1/m_1$, $C_b = 0$, any variance;
    - ``"half-stable"``: roots of h with $C_b \ge 0$, those that bend least first;
    - ``"vanishing"``: $K_* = 0$, if variances fall to it; ``"unstable"`` if they grow from it;
    - ``"none"``: the semi-critical point, $\chi_\perp = 1$ with $C_b \ge 0$ and $|\chi_\parallel - 1|$ least, of equals
      the one nearest $K = 1$.

    All points found are listed. Every number is an `Estimate` whose error bounds that of quadrature, rounding and root.

    Args:
        activation: a name of the catalogue, an `Activation`, or a function of an array.
        search: the variances between which points are sought, for 400 places; activations whose scale is far from 1
            need another range.

    Raises ``ValueError`` for what is no activation, for one that is constant or jumps, and for an empty range.
    Sources: roberts2022principles, hayou2019impact, poole2016exponential.

    >>> found = critical_init("gelu")
    >>> found.kind, round(found.weight_variance.value, 10), round(found.bias_variance.value, 10)
    ('half-stable', 1.9830582574, 0.1729223908)
    >>> found.network(width=64, depth=30).depth
    30
    """
    act, K = find_activation(activation), _places(search)
    check_signal(act)
    scan = moments(act, K)
    imbalance = scan.imbalance
    known = _runs(imbalance.error < _COARSE)
    if not known.any():
        reject(
            f"activation {act.name!r}, whose moments are not known to 4 digits at any variance in {search}",
            "The activation is resolved by quadrature there",
            "Search at other variances, or name the kinks: activation(fn, kinks=(...))",
        )
    if np.all(np.abs(imbalance.value[known]) < np.maximum(_SAME, imbalance.error[known])):
        return Criticality(act, "scale-invariant", (_invariant(scan, int(np.flatnonzero(known)[0])),))
    points = sorted((_half_stable(act, *ends) for ends in _brackets(K[known], imbalance, known)), key=_bending)
    points = [point for point in points if point.bias_variance.value >= -point.bias_variance.error] + _at_zero(act)
    if points:
        return Criticality(act, _class(points[0]), tuple(points))
    return Criticality(act, "none", _semi_critical(act, K[known]))


def _class(best: CriticalPoint) -> Class:
    return "none" if best.kind == "semi-critical" else best.kind


def root(miss: Callable[[float], float], low: float, high: float) -> float:
    """A zero between two ends with different signs, to rounding."""
    found = brentq(miss, low, high, xtol=1e-14)
    assert isinstance(found, float)
    return found


def _places(search: Sequence[float]) -> np.ndarray:
    if np.shape(search) != (2,) or not 0.0 < search[0] < search[1] < math.inf:
        reject(f"search={search}", "A range of variances is a pair, from above 0 to more", "Give search=(1e-4, 1e3)")
    return np.geomspace(search[0], search[1], _COUNT)


def _runs(known: np.ndarray) -> np.ndarray:
    """Those that are known together with some neighbours: a single small error may be chance."""
    window = np.lib.stride_tricks.sliding_window_view
    inside = np.all(window(np.pad(known, _NEIGHBOURS, mode="edge"), 2 * _NEIGHBOURS + 1), axis=1)
    return np.any(window(np.pad(inside, _NEIGHBOURS), 2 * _NEIGHBOURS + 1), axis=1)


def _brackets(K: np.ndarray, imbalance: Estimate, known: np.ndarray) -> list[tuple[float, float]]:
    """Neighbours between which h changes its sign by more than noise."""
    turns = sign_changes(Estimate(imbalance.value[known], np.maximum(_NOISE, imbalance.error[known])))
    return [(float(K[i]), float(K[j])) for i, j in turns]


def sign_changes(values: Estimate) -> list[tuple[int, int]]:
    """Places near each other, between which values (n,) change their sign by more than their errors."""
    value = values.value
    pairs = itertools.pairwise(np.flatnonzero(np.abs(value) > values.error).tolist())
    return [(i, j) for i, j in pairs if value[i] * value[j] < 0.0 and j - i <= GAP]


def _half_stable(act: Activation, low: float, high: float) -> CriticalPoint:
    def imbalance(log_K: float) -> float:
        return float(moments(act, np.array([math.exp(log_K)])).imbalance.value[0])

    K = math.exp(root(imbalance, math.log(low), math.log(high)))
    slope = (imbalance(math.log(K) + 1e-4) - imbalance(math.log(K) - 1e-4)) / 2e-4
    error = float(moments(act, np.array([K])).imbalance.error[0])
    return _on_curve(act, "half-stable", Estimate(K, K * min(error / abs(slope) + 1e-14, 0.5)))


def _on_curve(act: Activation, kind: Kind, variance: Estimate) -> CriticalPoint:
    r"""The point of the edge of chaos at a variance, its numbers with what the error of the variance makes of them."""
    found = moments(act, variance.value + variance.error * np.array([0.0, 1.0, -1.0]))
    weight, bias, parallel, bend = map(_spread, edge(found))
    return CriticalPoint(kind, weight, bias, variance, parallel, _unit(found), bend)


def edge(found: Moments) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    r"""$C_w = 1/m_1$, $C_b = K - C_wm_0$, $\chi_\parallel = m_2/m_1$ and $\frac12C_wm_0''$ at every variance."""
    weight = quotient(Estimate.exact(np.ones_like(found.variances)), found.slope)
    used = times(weight, found.square)
    bias = Estimate(found.variances - used.value, used.error + _EPS * found.variances)
    return weight, bias, quotient(found.growth, found.slope), times(weight, found.bend)


def _spread(many: Estimate) -> Estimate:
    """The first of several values, its error with the way to the others."""
    value = many.value
    return Estimate(float(value[0]), float(many.error[0] + np.max(np.abs(value - value[0]))))


def _unit(found: Moments) -> Estimate:
    r"""$\chi_\perp = C_wm_1$ at $C_w = 1/m_1$: one up to the error of $m_1$."""
    return Estimate(1.0, float(found.slope.error[0] / found.slope.value[0]) + 2 * _EPS)


def _invariant(scan: Moments, at: int) -> CriticalPoint:
    weight, _, parallel, _ = (Estimate(float(part.value[at]), float(part.error[at])) for part in edge(scan))
    nothing, one = Estimate.exact(0.0), Estimate(1.0, weight.error / weight.value)
    return CriticalPoint("scale-invariant", weight, nothing, Estimate(math.nan, math.inf), parallel, one, nothing)


def _bending(point: CriticalPoint) -> float:
    """How fast relative deviations change at second order."""
    return abs(point.bend.value) * point.variance.value


def _at_zero(act: Activation) -> list[CriticalPoint]:
    r"""The critical point $K_* = 0$, if there is one."""
    found = origin(act)
    if not found.critical:
        return []
    one, nothing = Estimate.rounded(1.0, 4), Estimate.exact(0.0)
    weight, bend = Estimate.rounded(1.0 / found.slope, 8), Estimate.rounded(found.leading, 64)
    kind = "vanishing" if attracts(act, found) else "unstable"
    return [CriticalPoint(kind, weight, nothing, nothing, one, one, bend, found.power)]


def _semi_critical(act: Activation, K: np.ndarray) -> tuple[CriticalPoint, ...]:
    r"""The point of the edge of chaos with $C_b \ge 0$ and $|\chi_\parallel - 1|$ least, by grids within the grid."""
    low, high = ends = K[0], K[-1]
    best = math.nan
    while high > low * (1 + 1e-12):
        _, bias, parallel, _ = edge(moments(act, K))
        badness = np.where((bias.value >= 0.0) & np.isfinite(parallel.error), np.abs(parallel.value - 1.0), math.inf)
        if not np.isfinite(badness).any():
            return ()
        least = int(np.argmin(badness))
        equal = np.flatnonzero(badness <= badness[least] + _LEVEL + parallel.error[least])
        at = int(equal[np.argmin(np.abs(np.log(K[equal])))])
        best = float(K[at])
        low, high = K[max(at - 1, 0)], K[min(at + 1, len(K) - 1)]
        K = np.geomspace(low, high, 33)
    found = _on_curve(act, "semi-critical", Estimate(best, 1e-8 * best))
    return (replace(found, at_border=bool(np.min(np.abs(np.log(np.divide(ends, best)))) < _BORDER)),)


def _told(point: CriticalPoint) -> str:
    rows = [
        ("weight variance C_w", point.weight_variance),
        ("bias variance C_b", point.bias_variance),
        ("variance K*", point.variance),
        ("chi_parallel", point.chi_parallel),
        ("chi_perp", point.chi_perp),
        (f"bend (of power {point.power:g})", point.bend),
    ]
    lines = [f"  {name:<24}{_number(value)}" for name, value in rows]
    scale = point.input_mean_square
    lines += [f"  {'input mean square':<24}{'any' if scale is None else format(scale, '.12g')}"]
    lines += [f"  {'depth scale xi_q':<24}{point.depth_scale:.6g}"]
    border = ", at the border of the search: another range may hold a better one" if point.at_border else ""
    return "\n".join([f" {point.kind}, approached from {point.side}{border}", *lines])


def _number(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return "any"
    return f"{estimate.value:.12g}" + (f" ± {estimate.error:.0e}" if estimate.error else "")
