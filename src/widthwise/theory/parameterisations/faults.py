r"""Which tensor is to blame, and what to do about it.

Legend: n the width; local gain g and rate $\rho$ of a tap as in ``readings``: 0 under muP, and g at most -1/2 in a
readout.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from widthwise.measure import WidthRuns

from .readings import Reading
from .slopes import Slope

TOLERANCE = 0.25
_ORDER = ("epsilon", "attention scale", "multiplier", "initial scale", "learning rate")


@dataclass(frozen=True)
class Fault:
    """A tensor that is not scaled with the width as muP demands.

    ``cause``: "initial scale", "learning rate", "multiplier" (both at once), "attention scale" or "epsilon";
    ``measured`` is the exponent in the width and ``expected`` what it should be.
    """

    tensor: str
    role: str
    cause: str
    measured: Slope
    expected: float
    advice: str

    @property
    def excess(self) -> float:
        """How far the exponent is above the expected one."""
        return self.measured.value - self.expected

    def __str__(self) -> str:
        what = {
            "initial scale": "what it makes at the start",
            "learning rate": "what its update adds",
            "multiplier": "what it makes, at the start and by its update,",
            "attention scale": "its scores, for what they are made of,",
            "epsilon": "its gradient, which its update follows,",
        }[self.cause]
        verb = "grows" if self.measured.value > TOLERANCE else "falls" if self.measured.value < -TOLERANCE else "goes"
        return (
            f"{self.tensor} ({self.role}): {what} {verb} as n^{self.measured.value:.2f} (± {self.measured.half:.2f}), "
            f"expected n^{self.expected:g}: {self.advice}"
        )


def faults(found: Sequence[Reading], runs: WidthRuns) -> tuple[Fault, ...]:
    """All faults, the one to blame first: those that grow before those that fade, the largest first."""
    all_ = [fault for one in found for fault in _of(one, runs)]
    merged = {
        (fault.tensor.split(" (")[0] if fault.role != "attention" else fault.tensor, fault.cause): fault
        for fault in reversed(all_)
    }
    return tuple(sorted(merged.values(), key=_rank))


def _rank(fault: Fault) -> tuple[bool, bool, float, int]:
    at = _ORDER.index(fault.cause)
    return fault.cause != "epsilon", fault.excess < 0, -abs(round(4 * fault.excess)), at


def _of(one: Reading, runs: WidthRuns) -> list[Fault]:
    if one.role == "attention":
        return _attention(one, runs)
    gain, rate = _gain(one), _rate(one)
    if (bitten := _epsilon(one, runs)) is not None:
        return [bitten, *([gain] if gain else [])]
    if gain and rate and _is_multiplier(one, gain, rate):
        m = gain.excess
        advice = f"multiply what it makes by n^{_half(-m)}{_times(one, -m)}"
        return [Fault(one.name, one.role, "multiplier", gain.measured, gain.expected, advice)]
    return [fault for fault in (gain, rate) if fault]


def significant(measured: Slope, expected: float) -> bool:
    """Whether an exponent differs from the expected one by more than the tolerance and more than its own error."""
    gap = abs(measured.value - expected)
    return math.isfinite(gap) and gap > max(TOLERANCE, measured.half)


def _gain(one: Reading) -> Fault | None:
    """The size at the start; what starts at zero is well."""
    if one.role == "fixed":
        return None
    expected = -0.5 if one.role == "output" else 0.0
    if not significant(one.gain, expected) or (
        one.gain.value < expected and (one.role == "output" or one.kind == "sum")
    ):
        return None
    power = _half(expected - one.gain.value)
    return Fault(
        one.name,
        one.role,
        "initial scale",
        one.gain,
        expected,
        f"multiply its initial values by n^{power}{_wanted(one)}",
    )


def _wanted(one: Reading) -> str:
    """The initial standard deviation in words."""
    return {
        "input": " (a standard deviation that does not depend on the width: 1/sqrt(fan-in), not the fan-out)",
        "hidden": " (a standard deviation proportional to 1/sqrt(fan-in))",
        "output": " (a standard deviation proportional to 1/fan-in), or start it at zero",
    }.get(one.role, " (values that do not depend on the width)")


def _rate(one: Reading) -> Fault | None:
    """The size of the update."""
    if one.role == "fixed" or not significant(one.rate, 0.0):
        return None
    advice = f"multiply its learning rate by n^{_half(-one.rate.value)} ({_wanted_rate(one)})"
    return Fault(one.name, one.role, "learning rate", one.rate, 0.0, advice)


def _wanted_rate(one: Reading) -> str:
    if one.optimiser == "adam":
        return "with Adam a rate " + (
            "proportional to 1/fan-in" if one.role in ("hidden", "output") else "that does not depend on n"
        )
    return {
        "hidden": "with SGD a rate that does not depend on n",
        "output": "with SGD a rate proportional to 1/fan-in",
    }.get(one.role, "with SGD a rate proportional to n") + ", where it has no multiplier"


def _is_multiplier(one: Reading, gain: Fault, rate: Fault) -> bool:
    """Gain and rate are off as by one missing factor."""
    times = 2.0 if one.optimiser == "sgd" else 1.0
    return abs(rate.excess - times * gain.excess) <= TOLERANCE + rate.measured.half + gain.measured.half


def _attention(one: Reading, runs: WidthRuns) -> list[Fault]:
    """At the start scores are of size m sqrt(d), later, of aligned queries and keys, m d: m is to be 1/d.

    A product over what does not grow, such as the weighted sum over positions, has no such scale.
    """
    at = next(at for at, tap in enumerate(runs.sized) if tap.tap.name == one.name)
    sizes = runs.fans[[0, -1], at, 0]
    if sizes[0] == sizes[1]:
        return []
    growth = math.log(sizes[1] / sizes[0]) / math.log(runs.widths[-1] / runs.widths[0])
    advice = "scale its scores by 1/d, not 1/sqrt(d), where d is the size of a head"
    for measured, expected in ((one.gain, -0.5 * growth), (one.rate, 0.0)):
        if significant(measured, expected) and measured.value > expected:
            return [Fault(one.name, one.role, "attention scale", measured, expected, advice)]
    return []


def _epsilon(one: Reading, runs: WidthRuns) -> Fault | None:
    """Updates that follow the gradient although far larger gradients would leave them as they are."""
    place = next(at for at, tap in enumerate(runs.sized) if tap.tap.name == one.name)
    leaves = [*runs.sized[place].tap.leaves]
    here, far = (np.max(runs.degree[:, which][:, leaves], axis=1) for which in (0, 1))
    if runs.coupled or not (far[-1] < 0.05 and here[-1] > 0.1 and here[-1] > here[0]):
        return None
    measured = Slope(one.gradient.value, one.gradient.half)
    advice = (
        f"its gradients fall to the optimiser's epsilon (at the largest width the update follows them to the power "
        f"{here[-1]:.2f}): scale epsilon as n^{_half(measured.value)}, or make it far smaller"
    )
    return Fault(one.name, one.role, "epsilon", measured, 0.0, advice)


def _half(power: float) -> str:
    """The nearest multiple of 1/2, for a reader."""
    return f"{0.5 * round(2 * power) or 0.5 * math.copysign(1, power):g}"


def _times(one: Reading, power: float) -> str:
    return " (the readout's multiplier 1/n is missing)" if one.role == "output" and power < -0.75 else ""
