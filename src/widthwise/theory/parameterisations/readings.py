r"""Exponents of every operation of a model, and of its parameter by itself, apart from what other tensors do to it.

Legend: as in ``measure.widths``; for a tap, $p(\cdot)$ is the exponent of a size in the width n.

What an update adds, $p(\text{own})$, depends on the layers before through h and, for SGD, on those after through
$\partial L/\partial z$. The *local* exponents leave both out (derived in this project). With m a tap's multiplier,
$|\cdot|$ the RMS entry, g the gradient, and $N_{in}$, $N_{out}$ fan-in and fan-out: the gain $p(m|w|\sqrt{N_{in}})$ at
the start, which is $p(z) - p(h)$ for a random w, and the rate $p(m|\Delta w|N_{in})$ for Adam and
$p(m^2\frac{|\Delta w|}{|g|}\frac{N_{in}}{N_{out}})$ for SGD, which is $p(\text{own})$ where the layers before and after
are scaled well. Under muP the gain is 0, and -1/2 in a readout, and the rate is 0 everywhere: $a + b$ is
$\frac12 1[\text{fan-in grows}]$ minus the gain, and a + c (Adam), 2a + c (SGD) follow from the rate. Of an attention,
which joins two values a and b, whatever made them change, the gain is $p(z) - p(|a||b|)$ at the start and the rate
$p(\Delta z) - p(|\Delta a||b| + |a_0||\Delta b|)$.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from widthwise.measure import SizedTap, WidthRuns

from .abc import PARAMETERISATIONS, ROLES, Exponents, Optimiser, Parameterisation, Prediction, predict
from .slopes import ZERO, Slope, fitted

_SAME = 0.25  # half of the step between exponents, which are multiples of 1/2
_MATRICES = ("product", "convolution", "lookup")


@dataclass(frozen=True)
class Reading:
    """The exponents of one tap: of z at the start, of the change of z and of the own part of it, at a moment;
    of the entries of its parameter, its update and its gradient; of the spectral norms; the local gain and rate."""

    name: str
    kind: str
    role: str
    optimiser: Optimiser
    start: Slope
    change: Slope
    own: Slope
    weight: Slope
    update: Slope
    gradient: Slope
    norm: Slope
    norm_update: Slope
    gain: Slope
    rate: Slope

    @property
    def invariants(self) -> tuple[float, float]:
        """a + b, and a + c (Adam) or 2a + c (SGD)."""
        summed = self.role in ("hidden", "output")
        start = 0.5 * summed - self.gain.value
        if self.optimiser == "adam":
            return start, float(summed) - self.rate.value
        return start, {"input": -1.0, "output": 1.0}.get(self.role, 0.0) - self.rate.value


def moment_of_reading(runs: WidthRuns, confidence: float) -> int:
    """After how many steps exponents are read: at the end, or in time when the outputs explode with the width."""
    moved = np.all(runs.taps["own"][:, :, 1:, _trained(runs)] > 0, axis=(0, 1, 3))
    first = 1 + int(np.argmax(moved)) if np.any(moved) else runs.steps
    finite = np.all(np.isfinite(runs.outputs["change"]), axis=(0, 1))
    last = max(1, int(np.max(np.flatnonzero(finite))))
    for step in range(1, last + 1):
        slope = fitted(runs.widths, runs.outputs["change"][:, :, step], confidence)
        if slope.value > _SAME and slope.value > slope.half:
            return min(max(step, first), last)
    return last


def _trained(runs: WidthRuns) -> list[int]:
    """The taps whose parameter moves at all."""
    end = runs.taps["own"][:, :, 1:]
    return [at for at in range(end.shape[3]) if np.any(end[..., at] > 0)]


def optimisers(runs: WidthRuns) -> tuple[Optimiser, ...]:
    """For each parameter, whether its update follows the size of its gradient ("sgd") or not ("adam")."""
    widest = -1 if np.any(np.isfinite(runs.degree[-1])) else 0
    far = runs.degree[widest, 1]
    common = np.nanmedian(far) if np.any(np.isfinite(far)) else 1.0
    here = runs.degree[widest, 0]
    chosen = [at_here if runs.coupled else at_far for at_here, at_far in zip(here, far, strict=True)]
    return tuple("sgd" if (one if np.isfinite(one) else common) >= 0.5 else "adam" for one in chosen)


def readings(runs: WidthRuns, moment: int, confidence: float) -> tuple[Reading, ...]:
    """The exponents of every tap after ``moment`` steps."""
    kinds = optimisers(runs)
    return tuple(_reading(runs, at, one, moment, confidence, kinds) for at, one in enumerate(runs.sized))


def _reading(
    runs: WidthRuns, at: int, sized: SizedTap, moment: int, confidence: float, kinds: Sequence[Optimiser]
) -> Reading:
    def slope(values: Float[np.ndarray, "w s"]) -> Slope:
        return fitted(runs.widths, values, confidence)

    tap, places = sized.tap, [*sized.tap.leaves]
    z, change, own = (runs.taps[name][..., at] for name in ("z", "change", "own"))
    read, moved = (runs.taps[name][..., at] for name in ("read", "moved"))
    optimiser: Optimiser = kinds[places[0]] if places else "adam"
    entries = {
        name: _root_mean(runs.weights[name][:, :, step][..., places]) if places else np.zeros_like(z[:, :, 0])
        for name, step in (("weight", 0), ("update", moment), ("gradient", 0))
    }
    if places:
        flow = np.sqrt(np.mean(_root_mean(runs.weights["gradient"][:, :, :moment][..., places]) ** 2, axis=2))
        gain, rate = _local(runs, at, optimiser, entries, flow)
    else:
        gain, rate = (
            _over(part, below)
            for part, below in ((z[:, :, 0], read[:, :, 0]), (change[:, :, moment], moved[:, :, moment]))
        )
    return Reading(
        tap.name,
        tap.kind,
        sized.role,
        optimiser,
        slope(z[:, :, 0]),
        slope(change[:, :, moment]),
        slope(own[:, :, moment]) if places else ZERO,
        slope(entries["weight"]),
        slope(entries["update"]),
        slope(entries["gradient"]),
        slope(runs.spectral["weight"][:, :, at]),
        slope(runs.spectral["update"][:, :, at]),
        slope(gain),
        slope(rate),
    )


def _local(
    runs: WidthRuns, at: int, optimiser: Optimiser, entries: dict[str, np.ndarray], flow: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gain and rate, up to constants; ``flow``: the gradients of all steps."""
    m, fans = np.abs(runs.factor[:, at, None]), runs.fans[:, at, None]
    gain = m * entries["weight"] * np.sqrt(fans[..., 0])
    if optimiser == "adam":
        return gain, m * entries["update"] * fans[..., 0]
    return gain, m**2 * _over(entries["update"], flow) * fans[..., 0] / fans[..., 1]


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A ratio of sizes, 0 where the upper one is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == 0, 0.0, above / below)


def _root_mean(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=-1))


@dataclass(frozen=True)
class Identity:
    """Which parameterisation was found: the measured invariants by role, the nearest named one and how far it is.

    ``name`` is that of the nearest one where no invariant differs by more than 1/4, and "none of these" otherwise.
    """

    name: str
    nearest: str
    distance: float
    invariants: dict[str, tuple[float, float]]
    optimiser: Optimiser
    prediction: Prediction | None


def identify(found: Sequence[Reading]) -> Identity:
    """Name the parameterisation by what was measured, whatever multipliers it is written with."""
    matrices = [one for one in found if one.kind in _MATRICES and one.role in ROLES]
    optimiser: Optimiser = "adam" if sum(one.optimiser == "adam" for one in matrices) * 2 > len(matrices) else "sgd"
    measured = {}
    for role in ROLES:
        pairs = [one.invariants for one in matrices if one.role == role]
        pairs = [pair for pair in pairs if np.isfinite(pair[1])]
        if pairs:
            start = [first for first, _ in pairs if np.isfinite(first)]
            measured[role] = (float(np.median(start)) if start else np.inf, float(np.median([c for _, c in pairs])))
    far = sorted((_distance(one, measured), one.name) for one in PARAMETERISATIONS if one.optimiser == optimiser)
    distance, name = far[0]
    return Identity(
        name if distance <= _SAME else "none of these",
        name,
        distance,
        measured,
        optimiser,
        _predicted(measured, optimiser),
    )


def _distance(one: Parameterisation, measured: dict[str, tuple[float, float]]) -> float:
    """The largest difference of an invariant; a readout that starts at zero counts as small enough."""
    gaps = [0.0 if measured else np.inf]
    for role, pair in measured.items():
        known = one.of(role).invariants(one.optimiser)
        gaps += [abs(a - b) for a, b in zip(pair, known, strict=True) if np.isfinite(a)]
    return max(gaps)


def _predicted(measured: dict[str, tuple[float, float]], optimiser: Optimiser) -> Prediction | None:
    """What theory predicts for the measured invariants, rounded to halves, where its assumptions are met."""
    if not {"input", "output"} <= measured.keys():
        return None
    rounded = {role: tuple(0.5 * round(2 * min(one, 8.0)) + 0.0 for one in pair) for role, pair in measured.items()}
    layers = [Exponents(0.0, *rounded[role]) for role in ROLES if role in rounded]
    try:
        return predict(layers, optimiser)
    except ValueError:
        return None
