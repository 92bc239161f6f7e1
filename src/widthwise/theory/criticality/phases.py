r"""Where deep networks go: fixed points of variance and correlation, phases, and the depths that matter.

Legend: $q_*$ the variance to which layers lead, $\chi_\parallel = C_wm_2(q_*)$, $\chi_\perp = C_wm_1(q_*)$;
$\rho_*$ the correlation to which they lead: at $0 < q_* < \infty$ it is 1 where $\chi_\perp \le 1$ (ordered) and less
elsewhere (chaotic);
$|q^{(l)} - q_*| \sim e^{-l/\xi_q}$ with $\xi_q = -1/\log\chi_\parallel$, and $|\rho^{(l)} - \rho_*| \sim e^{-l/\xi_c}$
with $\xi_c = -1/\log(C_wD(\rho_*))$. The map of correlations is a power series with coefficients of at least 0, so it
is convex on [0, 1] and has exactly one fixed point below 1 where its slope at 1 is above 1.

Where the variance goes to zero or infinity, biases add nothing and a layer maps $\rho' = F(\rho)/F(1)$, whatever $C_w$
is. The slope of this map at 1 is $qm_1/m_0$, which is not $\chi_\perp$: it is 1 for what is homogeneous of degree one
there. If that is linear every correlation is kept, and $\rho_*$ depends on where it starts; if it has a kink, as the
rectifier, $\rho$ goes to 1 like a power of the depth, in each of the phases.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as find_activation
from widthwise.numerics import Estimate, reject, shown

from ..signal import Response
from .maps import check_variances, dual_at
from .moments import check_signal, hermite_squares, moments
from .origin import origin

_LOW, _HIGH = 1e-6, 1e6  # variances beyond are zero and infinity
_PER_DECADE = 40
_STILL = 1e-11  # a relative change of the variance that is rounding
_STEPS = 80
_TERMS, _KINKED_TERMS = 200, 400  # of the Hermite series
_POLISH = 12  # Newton steps after it
_AT_ONCE = 128  # pairs whose series are in memory together
_CHAOS = 1e-12  # chi_perp above one by less is rounding
_ALMOST = 1.0 - 2.0**-40  # of a gap, so that no power of zero is taken
_ENOUGH = 1e-8  # a relative error of 1 - rho
_AT_ZERO, _AT_INFINITY = (1e-12, 1e-6, 1e-7), (1e20, 1e20, 1e18)  # where ends are told apart, and where maps are taken
_DEGREE_ONE = 1e-5  # of the slope at equal inputs: a kink of the second derivative leaves 1e-6 at a variance of 1e-12
_LINEAR = 1e-9  # of the share of what is not linear
_STEADY = 1e-9  # chi_parallel this near one: variances grow by the biases alone
_EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class DepthScales:
    r"""Fixed points, responses and depth scales of repeated layers, of one (scalars) or many pairs $(C_w, C_b)$.

    ``variance`` $q_*$, 0 and inf included; ``correlation`` $\rho_*$; ``xi_q`` and ``xi_c`` in layers, inf where the
    approach is no exponential. ``everywhere``: the variance stays where it starts. At $q_* = \infty$ the responses are
    those at a variance of a million, with an infinite error. Where $\rho_*$ depends on the correlation of the first
    layer it is nan, with an infinite error, and ``xi_c`` is inf: linear layers, or variances that vanish without
    biases where the activation has a slope. `trajectory` follows correlations there.
    """

    activation: Activation
    weight_variance: Shaped[np.ndarray, "..."]
    bias_variance: Shaped[np.ndarray, "..."]
    variance: Estimate
    correlation: Estimate
    chi_parallel: Estimate
    chi_perp: Estimate
    xi_q: Estimate
    xi_c: Estimate
    everywhere: Shaped[np.ndarray, "..."]

    def __repr__(self) -> str:
        parts = ("variance", "correlation", "chi_parallel", "chi_perp", "xi_q", "xi_c")
        given = f"weight_variance={shown(self.weight_variance)}, bias_variance={shown(self.bias_variance)}"
        found = ", ".join(f"{name}={shown(getattr(self, name).value)}" for name in parts)
        return f"DepthScales({self.activation.name}, {given}, {found})"

    @property
    def phase(self) -> Shaped[np.ndarray, "..."]:
        r""" "ordered", "critical" or "chaotic", by $\chi_\perp$: whether gradients vanish or explode.

        It decides $\rho_*$ too where $q_*$ is neither zero nor infinite.
        """
        told = [Response(1.0, float(chi)).phase for chi in np.ravel(self.chi_perp.value)]
        return np.array(told).reshape(np.shape(self.chi_perp.value))


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """`DepthScales` on a grid: fields of shape (bias variances, weight variances)."""

    weight_variances: Float[np.ndarray, " m"]
    bias_variances: Float[np.ndarray, " k"]
    scales: DepthScales


def depth_scales(
    activation: str | Activation | Callable,
    weight_variance: ArrayLike,
    bias_variance: ArrayLike = 0.0,
    *,
    start: float = 1.0,
) -> DepthScales:
    r"""Find where repeated layers lead, and over how many layers.

    Args:
        activation: a name, an `Activation` or a function.
        weight_variance: $C_w$, above 0; a number or an array.
        bias_variance: $C_b$, at least 0; a number or an array that broadcasts with it.
        start: the variance of the first layer, which decides between several fixed points. Half-stable ones, which
            the least change of $C_w$ removes, are passed by; `critical_init` finds them.

    Raises ``ValueError`` for what is no activation, and for arguments outside of these ranges.
    Sources: poole2016exponential, schoenholz2017deep.

    >>> found = depth_scales("tanh", 1.0, 0.05)
    >>> [round(float(part.value), 5) for part in (found.variance, found.xi_q, found.xi_c)], str(found.phase)
    ([0.19359, 1.74763, 3.62698], 'ordered')
    """
    act = find_activation(activation)
    check_signal(act)
    check_variances(weight_variance, bias_variance)
    if not _LOW < start < _HIGH:
        reject(f"start={start}", "A start lies between 1e-6 and 1e6", "Scale the inputs, or give start=1.0")
    weight, bias = np.broadcast_arrays(np.asarray(weight_variance, dtype=float), np.asarray(bias_variance, dtype=float))
    found = _flat(act, weight.ravel(), bias.ravel(), float(start))
    shaped = [Estimate(*(np.reshape(part, weight.shape) for part in (one.value, one.error))) for one in found[:-1]]
    return DepthScales(act, weight, bias, *shaped, everywhere=np.reshape(found[-1], weight.shape))


def phase_diagram(
    activation: str | Activation | Callable,
    weight_variances: ArrayLike,
    bias_variances: ArrayLike,
    *,
    start: float = 1.0,
) -> PhaseDiagram:
    r"""Phases, fixed points and depth scales on the grid of all pairs of weight and bias variances.

    Arguments as for `depth_scales`, the variances one-dimensional. Raises ``ValueError`` as it does.
    Sources: poole2016exponential, schoenholz2017deep.

    >>> found = phase_diagram("erf", [0.5, 3.0], [0.1])
    >>> found.scales.phase.tolist()
    [['ordered', 'chaotic']]
    """
    weight, bias = (np.asarray(part, dtype=float) for part in (weight_variances, bias_variances))
    if weight.ndim != 1 or bias.ndim != 1 or not weight.size or not bias.size:
        reject(
            f"grids of shapes {weight.shape} and {bias.shape}",
            "The axes of a phase diagram are one-dimensional",
            "Give weight_variances=np.linspace(0.5, 4, 30), bias_variances=np.linspace(0, 0.3, 20)",
        )
    return PhaseDiagram(weight, bias, depth_scales(activation, weight[None, :], bias[:, None], start=start))


def _flat(act: Activation, weight: np.ndarray, bias: np.ndarray, start: float):
    q, everywhere = _fixed_variances(act, weight, bias, start)
    finite = (q > 0.0) & np.isfinite(q)
    parallel, perpendicular, off = _responses(act, weight, np.where(finite, q, _HIGH))
    at_zero = q == 0.0
    if at_zero.any():
        parallel, perpendicular = (
            _with(part, at_zero, weight * origin(act).slope) for part in (parallel, perpendicular)
        )
    infinite = np.where(np.isfinite(q), 0.0, np.inf)
    parallel, perpendicular = (Estimate(one.value, one.error + infinite) for one in (parallel, perpendicular))
    rho, slope = _correlations(act, weight, np.where(finite, q, 1.0), perpendicular, finite & ~everywhere)
    _at_ends(act, q, everywhere, rho, slope)
    _slowly(act, q, bias, parallel, perpendicular, rho)
    variance = Estimate(q, np.where(finite & ~everywhere, off, 0.0))
    return variance, rho, parallel, perpendicular, _scale(parallel), _scale(slope), everywhere


def _with(part: Estimate, where: np.ndarray, value: np.ndarray) -> Estimate:
    return Estimate(np.where(where, value, part.value), np.where(where, 8 * _EPS * value, part.error))


def _scale(chi: Estimate) -> Estimate:
    r"""$\xi = 1/|\log|\chi||$, infinite where $\chi$ is one within its error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.abs(np.log(np.abs(chi.value)))
        critical = np.abs(chi.value - 1.0) <= chi.error + 4 * _EPS
        xi = np.where(critical, np.inf, 1.0 / rate)
        error = np.where(critical, 0.0, xi**2 * chi.error / np.abs(chi.value))
    return Estimate(xi, np.where(np.isnan(error), np.inf, error))


def _fixed_variances(
    act: Activation, weight: np.ndarray, bias: np.ndarray, start: float
) -> tuple[np.ndarray, np.ndarray]:
    """The fixed point that is reached from ``start`` for every pair, and whether every variance is one."""
    low = min(_LOW, 0.5 * np.min(bias[bias > 0], initial=np.inf))
    grid = np.geomspace(low, _HIGH, int(_PER_DECADE * np.log10(_HIGH / low)) + 1)
    grid = np.unique(np.append(grid, start))
    square = moments(act, grid).square.value
    # What overflows grows.
    change = np.nan_to_num((bias[:, None] + weight[:, None] * square) / grid - 1.0, nan=np.inf)
    here = int(np.searchsorted(grid, start))
    ends = np.array([_next_turn(row, here) for row in change])
    still, up = np.abs(change[:, here]) < _STILL, change[:, here] > 0.0
    found = np.where(still, start, np.where(up, np.inf, 0.0))
    seek = ~still & (ends[:, 1] >= 0)
    if seek.any():
        low, high = np.sort(grid[ends[seek]], axis=1).T
        found[seek] = _refined(act, weight[seek], bias[seek], low, high)
    return found, still & np.all(np.abs(change) < _STILL, axis=1)


def _next_turn(change: np.ndarray, here: int) -> tuple[int, int]:
    """The two places of the grid between which the change first turns, on the way it points to; or (0, -1)."""
    up = change[here] > 0.0
    path = np.arange(here, change.size) if up else np.arange(here, -1, -1)
    turned = np.flatnonzero((change[path] if up else -change[path]) < -_STILL)
    return (int(path[turned[0] - 1]), int(path[turned[0]])) if turned.size else (0, -1)


def _refined(act: Activation, weight: np.ndarray, bias: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Newton steps towards $q' = q$, kept inside brackets that may begin with growth or with decay."""
    rising = bias + weight * moments(act, low).square.value > low
    q = np.sqrt(low * high)
    for _ in range(_STEPS):
        found = moments(act, q)
        off, slope = bias + weight * found.square.value - q, weight * found.growth.value - 1.0
        above = (off > 0.0) == rising
        low, high = np.where(above, q, low), np.where(above, high, q)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = q - off / slope
        inside = (step > low) & (step < high)
        before, q = q, np.where(off == 0.0, q, np.where(inside, step, np.sqrt(low * high)))
        if np.all(np.abs(q - before) <= 2 * _EPS * q):
            break
    return q


def _responses(act: Activation, weight: np.ndarray, q: np.ndarray) -> tuple[Estimate, Estimate, np.ndarray]:
    r"""$\chi_\parallel$ and $\chi_\perp$ at the fixed points, and the error of these."""
    found = moments(act, q)
    with np.errstate(divide="ignore"):
        off = (weight * found.square.error + 2 * _EPS * q) / np.abs(1.0 - weight * found.growth.value)
    off = np.minimum(off, 0.5 * q)
    beside = moments(act, q + off)
    return _moved(weight, found.growth, beside.growth), _moved(weight, found.slope, beside.slope), off


def _moved(weight: np.ndarray, here: Estimate, beside: Estimate) -> Estimate:
    error = here.error + np.abs(beside.value - here.value) + 2 * _EPS * np.abs(here.value)
    return Estimate(weight * here.value, weight * error)


def _correlations(
    act: Activation, weight: np.ndarray, q: np.ndarray, perpendicular: Estimate, finite: np.ndarray
) -> tuple[Estimate, Estimate]:
    r"""$\rho_*$ and the slope $C_wD(\rho_*)$ of the map there."""
    rho, slope = (Estimate(one.copy(), np.zeros_like(q)) for one in (np.ones_like(q), perpendicular.value))
    slope = Estimate(slope.value, np.array(perpendicular.error))
    chaotic = np.flatnonzero(finite & (perpendicular.value > 1.0 + perpendicular.error + _CHAOS))
    if chaotic.size:
        gap, turn = _fixed_gap(act, weight[chaotic], q[chaotic])
        rho.value[chaotic], rho.error[chaotic] = 1.0 - gap.value, gap.error
        slope.value[chaotic], slope.error[chaotic] = turn.value, turn.error
    return rho, slope


def _at_ends(act: Activation, q: np.ndarray, everywhere: np.ndarray, rho: Estimate, slope: Estimate) -> None:
    """Set what becomes of correlations where the variance vanishes, grows beyond all bounds or is kept everywhere."""
    kept = float(q[everywhere][0]) if everywhere.any() else 1.0
    for where, places in (
        (q == 0.0, _AT_ZERO),
        (np.isinf(q), _AT_INFINITY),
        (everywhere, (kept, kept, kept)),
    ):
        if where.any():
            for part, told in zip((rho, slope), _without_biases(act, *places), strict=True):
                part.value[where], part.error[where] = told.value, told.error


def _without_biases(act: Activation, at: float, near: float, beside: float) -> tuple[Estimate, Estimate]:
    r"""$\rho_*$ and the slope there of $\rho' = F(\rho)/F(1)$ in a limit of variances, seen ``at`` one close to it.

    What is no homogeneous function of degree one there is taken at two variances, whose difference is an error.
    """
    unknown, one = Estimate(math.nan, math.inf), Estimate.exact(1.0)
    found = moments(act, np.array([at]))
    steep = at * float(found.slope.value[0]) / float(found.square.value[0])
    if not math.isfinite(steep):
        return unknown, unknown
    if abs(steep - 1.0) < _DEGREE_ONE:
        linear = float(hermite_squares(act, found.variances, 2)[0, 1] / found.square.value[0])
        return (unknown if 1.0 - linear < _LINEAR else one), one
    q = np.array([near, beside])
    gap, slope = _fixed_gap(act, q / moments(act, q).square.value, q)
    return _limit(Estimate(1.0 - gap.value, gap.error)), _limit(slope)


def _limit(pair: Estimate) -> Estimate:
    off = float(pair.error[0] + abs(pair.value[0] - pair.value[1]))
    return Estimate(float(pair.value[0]), off if math.isfinite(off) else math.inf)


def _slowly(
    act: Activation, q: np.ndarray, bias: np.ndarray, parallel: Estimate, perpendicular: Estimate, rho: Estimate
) -> None:
    r"""Set $\rho_*$ where a map that tends to the identity does so too slowly to keep correlations.

    Biases that alone make a variance grow like the depth l multiply a gap by 1 - 1/l. A variance that falls like 1/l
    with $\sigma_2 \ne 0$ moves $\rho$ by $\frac K4(\sigma_2/\sigma_1)^2(1 - \rho)(1 - 2\rho)$, to one half.
    """
    grows = np.isinf(q) & (bias > 0.0) & (np.abs(parallel.value - 1.0) < _STEADY) & np.isnan(rho.value)
    rho.value[grows], rho.error[grows] = 1.0, 0.0
    falls = (q == 0.0) & (np.abs(perpendicular.value - 1.0) <= perpendicular.error) & np.isnan(rho.value)
    if falls.any() and 4.0 * (origin(act).angle - origin(act).leading) > _CHAOS:
        rho.value[falls], rho.error[falls] = 0.5, 0.0


def _fixed_gap(act: Activation, weight: np.ndarray, q: np.ndarray) -> tuple[Estimate, Estimate]:
    r"""$1 - \rho_*$ and the slope there: by the Hermite series, and by the dual where that leaves too much."""
    parts = [_by_series(act, weight[i : i + _AT_ONCE], q[i : i + _AT_ONCE]) for i in range(0, q.size, _AT_ONCE)]
    gap, slope = (
        Estimate(np.concatenate([one.value for one in part]), np.concatenate([one.error for one in part]))
        for part in zip(*parts, strict=True)
    )
    rest = np.flatnonzero(gap.error > _ENOUGH * np.maximum(gap.value, _ENOUGH))
    if rest.size:
        finer, turn = _by_dual(act, weight[rest], q[rest], gap.value[rest])
        gap.value[rest], gap.error[rest] = finer.value, finer.error
        slope.value[rest], slope.error[rest] = turn.value, turn.error
    return gap, slope


def _by_series(act: Activation, weight: np.ndarray, q: np.ndarray) -> tuple[Estimate, Estimate]:
    r"""Newton steps for $1 - \rho_*$ from $\rho = 0$ on $\sum_ka_k^2\rho^k$: it is convex, so they come from one side.

    What the series leaves out lies between 0 and $\rho^N$ times its share at $\rho = 1$.
    """
    terms, found = _TERMS if act.smooth else _KINKED_TERMS, moments(act, q)
    mean, power = np.split(hermite_squares(act, q, terms) * (weight / q)[:, None], [1], axis=1)
    spread, k = weight / q * found.square.value - mean[:, 0], np.arange(1.0, terms)
    left = np.maximum(spread - power.sum(axis=1), 0.0) + 4 * _EPS
    steep = np.maximum(weight * found.slope.value - power @ k, 0.0) + 4 * _EPS

    def mapped(gap: np.ndarray, factor: np.ndarray, lower: float) -> np.ndarray:
        return np.sum(factor * power * np.exp((k - lower) * np.log1p(-np.minimum(gap, _ALMOST))[:, None]), axis=1)

    def step(gap: np.ndarray) -> np.ndarray:
        after = power.sum(axis=1) - mapped(gap, np.ones_like(k), 0.0) + left
        return (after - gap) / (1.0 - mapped(gap, k, 1.0))

    gap = _newton(step, np.ones_like(q), _STEPS)
    turn, tail = mapped(gap, k, 1.0), (1.0 - gap) ** terms
    off = (left * tail + 8 * _EPS) / np.abs(1.0 - turn) + np.abs(step(gap))
    bent = mapped(gap, k * (k - 1.0), 2.0)
    return Estimate(gap, off), Estimate(turn, steep * tail + bent * off + 8 * _EPS * turn)


def _by_dual(act: Activation, weight: np.ndarray, q: np.ndarray, gap: np.ndarray) -> tuple[Estimate, Estimate]:
    r"""The same by Newton steps on the dual, from a gap that is nearly right."""

    def step(gap: np.ndarray) -> np.ndarray:
        power, new, slope = dual_at(act, q, gap)
        return (weight * power / q * new.value - gap) / (1.0 - weight * slope.value)

    gap = _newton(step, gap, _POLISH)
    power, new, slope = dual_at(act, q, gap)
    turn = weight * slope.value
    off = weight * power / q * new.error / np.abs(1.0 - turn) + np.abs(step(gap))
    beside = dual_at(act, q, np.clip(gap + off, 0.0, 2.0))[2]
    return Estimate(gap, off), Estimate(turn, weight * (slope.error + np.abs(beside.value - slope.value)))


def _newton(step: Callable[[np.ndarray], np.ndarray], gap: np.ndarray, most: int) -> np.ndarray:
    for _ in range(most):
        move = step(gap)
        gap = np.clip(gap + move, 0.0, 1.0)
        if np.all(np.abs(move) <= 1e-14 + 1e-9 * gap):  # the next step would be rounding
            break
    return gap
