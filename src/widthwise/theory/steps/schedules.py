r"""Learning rates that change with the step, checked where they come in."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from widthwise.numerics import demand_rate, reject


def checked_rate(rate: Any) -> float | Callable[[int], float]:
    """A constant rate above 0 as a float, or a schedule whose every value is checked when it is used.

    >>> checked_rate(lambda step: 1 / (step + 1))(3)
    0.25
    """
    if not callable(rate):
        return demand_rate(rate)
    return lambda step: checked_value(rate, step)


def checked_value(schedule: Callable[[int], Any], step: int) -> float:
    """The rate of a schedule at a step, a finite number of at least 0 (a warm-up may start at 0).

    >>> checked_value(lambda step: 0.1, 7)
    0.1
    """
    if not callable(schedule):
        reject(
            f"schedule={schedule!r}",
            "A schedule is a function of the step, a whole number",
            "For a constant rate give lambda step: 0.1",
        )
    try:
        value = schedule(step)
    except ZeroDivisionError:
        reject(
            f"the schedule divided by zero at step {step}",
            "Steps count from 0, and each has a rate",
            "Write 1 / (step + 1) in place of 1 / step",
        )
    found = np.asarray(value)
    if found.ndim != 0 or found.dtype.kind not in "fiu":
        reject(
            f"the schedule returned {value!r} at step {step}",
            "A schedule maps a step, a whole number, to one number",
            "Return a number for each step; for rates per parameter use one schedule each",
        )
    if not (math.isfinite(float(found)) and float(found) >= 0):
        reject(
            f"the schedule returned {float(found)} at step {step}",
            "A learning rate is finite and at least 0",
            "Look for a division by zero; steps count from 0",
        )
    return float(found)
