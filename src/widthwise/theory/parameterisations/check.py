"""Is a model scaled with its width as muP demands, and if not, which tensor is to blame?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array

from widthwise.claims import Status
from widthwise.measure import Optimizer, WidthRuns, train_widths
from widthwise.numerics import reject

from .faults import TOLERANCE, Fault, faults, significant
from .readings import Identity, Reading, identify, moment_of_reading, readings
from .slopes import Slope, demand_counts, demand_widths, fitted

_LEAST_RANGE = 4  # octaves are counted from the narrowest to the widest: fewer than two tell exponents badly
_WIDE = 2 * TOLERANCE  # an interval in which two neighbouring multiples of 1/2 lie
_STEPS, _MOST_SEEDS = 5, 32
_BLOWN = 1e4  # times the loss at the start


@dataclass(frozen=True, eq=False)
class WidthCheck:
    r"""What a model does as its width grows, and whether that is muP.

    ``status``: HOLDS ("PASS") where every pre-activation and the outputs move by $\Theta(1)$ and nothing grows,
    VIOLATED ("FAIL"), or INCONCLUSIVE where intervals are too wide. ``regime``: "feature learning", "kernel" (stable,
    but features stand still), "unstable" or "trivial". ``identity``: the parameterisation that was found. ``readings``:
    exponents of every operation after ``moment`` steps. ``faults``: the tensor to blame first.
    """

    runs: WidthRuns
    confidence: float
    moment: int
    readings: tuple[Reading, ...]
    outputs: dict[str, Slope]
    identity: Identity
    faults: tuple[Fault, ...]
    status: Status
    regime: str
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "PASS", "FAIL" or "INCONCLUSIVE"."""
        return {Status.HOLDS: "PASS", Status.VIOLATED: "FAIL"}.get(self.status, "INCONCLUSIVE")

    @property
    def culprit(self) -> str | None:
        """The name of the tensor to blame."""
        return self.faults[0].tensor if self.faults else None

    def __repr__(self) -> str:
        blamed = f", to blame: {self.culprit}" if self.faults else ""
        return f"WidthCheck({self.verdict}, {self.regime}, widths {', '.join(map(str, self.runs.widths))}{blamed})"

    def __str__(self) -> str:
        identity = self.identity
        named = (
            identity.name if identity.name != "none of these" else f"none of the known (nearest: {identity.nearest})"
        )
        lines = [
            f"{self.verdict}: {self.regime}; parameterisation: {named}, optimiser like {identity.optimiser}",
            *self.reasons,
            *(f"- {fault}" for fault in self.faults),
            f"exponents in the width after {self.moment} step{'s' * (self.moment > 1)}:",
            f"{'tensor':<28}{'role':<10}" + "".join(f"{name:>15}" for name in self._columns()),
        ]
        for one in self.readings:
            cells = "".join(f"{getattr(one, field)!s:>15}" for field in self._columns().values())
            lines.append(f"{one.name:<28}{one.role:<10}{cells}")
        lines.append(f"{'outputs':<38}{self.outputs['output']!s:>15}{self.outputs['change']!s:>15}")
        return "\n".join(lines)

    def _columns(self) -> dict[str, str]:
        """What is printed of each tensor: among it every exponent that a fault names."""
        told = {"z at start": "start", "change of z": "change", "own update": "own"}
        told |= {"local gain": "gain", "local rate": "rate"}
        return told | ({"gradient": "gradient"} if any(one.cause == "epsilon" for one in self.faults) else {})


def width_check(
    make_model: Callable[[int, int], Any],
    optimizer: Optimizer | Any,
    data: Any,
    *,
    widths: Sequence[int] | Any = (64, 128, 256, 512, 1024),
    seeds: int | Any = 4,
    steps: int | Any = 5,
    loss: Callable[[Array, Any], Array] | None = None,
    centred: bool = True,
    confidence: float = 0.95,
    progress: Callable[[int, int], Any] | None = None,
) -> WidthCheck:
    r"""Train a model at several widths, fit how every tensor scales, and say whether that is muP and what is to blame.

    Sizes are fitted as $C_0n^pe^{C_1/n}$ in the width n. PASS: every pre-activation's change and that of the outputs is
    $\Theta(1)$, and no tensor's initial scale or update is off by a power of n. Arguments: ``make_model(width, seed)``
    returns any model that `adapt` takes; ``optimizer`` is an optax transformation or a function ``optimizer(width)``
    that returns one, applied to the trainable arrays in the structure of the model's own library; ``data`` the inputs
    (N, ...) and labels, all of them in each step; ``steps`` after the first show what a readout that starts at zero
    hides; ``loss(outputs, labels)`` by default the cross-entropy of classes or half the mean square of targets, of
    $f - f_0$ when ``centred``; ``confidence`` that of the intervals over seeds; ``progress(done,
    total)`` is called after each run.

    Raises ``ValueError`` for fewer than four widths or two seeds, for models that do not grow with the width or ignore
    the seed, for wrong data, for what is no such optimizer (``optax.sgd`` is a function of the rate), and for a
    loss that is not finite at the start.

    >>> import jax, numpy as np, optax, widthwise as ww
    >>> def make_model(width, seed):
    ...     keys, sizes = jax.random.split(jax.random.key(seed), 3), (2, width, width, 1)
    ...     scales = (1.0, width**-0.5, 1.0 / width)
    ...     w = [s * jax.random.normal(k, two) for s, k, two in zip(scales, keys, zip(sizes, sizes[1:]))]
    ...     return lambda w, x: jax.numpy.tanh(jax.numpy.tanh(x @ w[0]) @ w[1]) @ w[2], w
    >>> X = np.random.default_rng(0).normal(size=(8, 2))
    >>> found = ww.width_check(make_model, optax.sgd(0.1), (X, X[:, :1]), widths=(32, 64, 128, 256))
    >>> found.verdict, sorted({fault.tensor for fault in found.faults})
    ('FAIL', ['0', '2'])

    Sources: yang2021tensor, yang2022tuning.
    """
    widths = demand_widths(widths, 4, "An exponent with its correction needs four widths or more")
    demand_counts(seeds, steps, confidence)
    runs = train_widths(
        make_model,
        optimizer,
        data,
        widths=widths,
        seeds=seeds,
        steps=steps,
        loss=loss,
        centred=centred,
        progress=progress,
    )
    return judge(runs, confidence)


def judge(runs: WidthRuns, confidence: float = 0.95) -> WidthCheck:
    """The verdict on runs that `train_widths` returned."""
    _demand_start(runs)
    _demand_tame(runs.outputs["loss"])
    moment = moment_of_reading(runs, confidence)
    found = readings(runs, moment, confidence)
    outputs = {
        name: fitted(runs.widths, runs.outputs[name][:, :, at], confidence)
        for name, at in (("output", 0), ("change", moment))
    }
    wrong = faults(found, runs)
    status, regime, reasons = _status(runs, found, outputs, wrong, moment)
    return WidthCheck(runs, confidence, moment, found, outputs, identify(found), wrong, status, regime, reasons)


def _demand_start(runs: WidthRuns) -> None:
    for step in (0, 1):
        bad = np.any(runs.diverged == step, axis=1)
        if bad.all() or (step == 0 and bad.any()):
            width = runs.widths[int(np.argmax(bad))]
            reject(
                f"a loss that is not finite {'at the start' if step == 0 else 'after one step'} at width {width}",
                "Exponents are read while numbers are finite",
                "Look for NaN in the data or the model" if step == 0 else "Lower the learning rate",
            )


def _demand_tame(loss: np.ndarray) -> None:
    """Refuse a rate at which every width blows up: what is read then is overflow and not the width."""
    with np.errstate(over="ignore", invalid="ignore"):
        grown = np.median(loss[:, :, 1] / loss[:, :, 0], axis=1)
    if np.all(grown > _BLOWN):
        reject(
            f"losses that grow {grown.min():.1e} times or more in the first step at every width",
            "Exponents are read while training is stable at the narrowest width at least",
            "Lower the learning rate",
        )


def _status(
    runs: WidthRuns, found: Sequence[Reading], outputs: dict[str, Slope], wrong: Sequence[Fault], moment: int
) -> tuple[Status, str, tuple[str, ...]]:
    reasons = [*_divergence(runs)]
    moved = [one for one in found if one.role in ("input", "hidden", "vector") and one.kind != "sum"]
    explodes = [one.name for one in found if one.role != "fixed" and _above(one.change)]
    explodes += [name for name, one in outputs.items() if _above(one)]
    stands = [
        one.name
        for one in moved
        if (significant(one.change, 0.0) and one.change.value < 0) or one.change.value == -math.inf
    ]
    regime = _regime(bool(explodes or reasons), len(stands) == len(moved), outputs["change"])
    if moment < runs.steps:
        reasons.append(f"exponents are read after step {moment}, where the outputs begin to grow with the width")
    if runs.unseen:
        reasons.append(f"not looked into: {', '.join(runs.unseen)}")
    if wrong or explodes or _divergence(runs):
        return Status.VIOLATED, regime, tuple(reasons)
    judged = [one for one in found if one.role != "fixed"]
    wide = [one for one in judged if _spread(one) > _WIDE]
    if wide or runs.widths[-1] < _LEAST_RANGE * runs.widths[0]:
        return Status.INCONCLUSIVE, regime, (*reasons, _undecided(runs, wide))
    if regime != "feature learning":
        return (
            Status.VIOLATED,
            regime,
            (*reasons, f"changes that fade with the width: {', '.join(stands) or 'outputs'}"),
        )
    return Status.HOLDS, regime, tuple(reasons)


def _divergence(runs: WidthRuns) -> list[str]:
    at = [
        (width, row[row >= 0].min()) for width, row in zip(runs.widths, runs.diverged, strict=True) if np.any(row >= 0)
    ]
    told = ", ".join(f"after step {step} at width {width}" for width, step in at)
    return [f"the loss is no longer finite {told}"] if at else []


def _above(slope: Slope) -> bool:
    return significant(slope, 0.0) and slope.value > 0


def _spread(one: Reading) -> float:
    """The widest interval of a tensor's exponents; of what is zero or not asked for there is none."""
    slopes = (one.rate,) if one.role == "attention" else (one.rate, one.change)
    return max((slope.half for slope in slopes if math.isfinite(slope.value)), default=0.0)


def _undecided(runs: WidthRuns, wide: Sequence[Reading]) -> str:
    """Why exponents cannot be told, and what to call with next, by the numbers of this call."""
    seeds, octaves = len(runs.seeds), [runs.widths[0] * 2**octave for octave in range(5)]
    call = [f"widths={tuple(octaves)}"] if octaves[-1] > runs.widths[-1] else []
    said = f"widths {runs.widths[0]} to {runs.widths[-1]} are too close to each other"
    if wide:
        worst = max(map(_spread, wide))
        names = ", ".join(one.name for one in wide[:4])
        said = f"with {seeds} seeds the intervals of {names} are too wide (up to ± {worst:.2f}, at most ± {_WIDE:g})"
        # An interval shrinks as the root of the number of seeds.
        call.insert(0, f"seeds={max(seeds + 2, min(_MOST_SEEDS, math.ceil(seeds * (worst / _WIDE) ** 2)))}")
    if runs.steps < _STEPS:
        call.append(f"steps={_STEPS}")
    return f"{said} to tell exponents: call with {', '.join(call)}"


def _regime(explodes: bool, stands: bool, outputs: Slope) -> str:
    if explodes:
        return "unstable"
    if outputs.value == -math.inf or (significant(outputs, 0.0) and outputs.value < 0):
        return "trivial"
    return "kernel" if stands else "feature learning"
