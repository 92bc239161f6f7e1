"""Plots of the stability of a training: sharpness and loss over its steps, and the rates that are stable."""

import numpy as np

from widthwise.measure import StabilityMonitor, StableRate

from ..section import Figure, Mark, Series
from .plot import figures

_MOST_MARKS = 6


@figures.register
def monitor_figures(result: StabilityMonitor) -> tuple[Figure, ...]:
    """The sharpness against the threshold, and the loss, with the steps at which the status changed."""
    seen = result.records
    known = np.isfinite(seen["sharpness"]) & np.isfinite(seen["threshold"])
    steps = seen["step"][known]
    lines = [
        Series("sharpness of the Hessian", steps, seen["sharpness"][known], seen["error"][known]),
        Series("threshold of the optimiser", steps, seen["threshold"][known], role="bound"),
    ]
    if np.any(np.isfinite(seen["ntk_sharpness"][known])):
        lines.insert(1, Series("sharpness of the empirical NTK", steps, seen["ntk_sharpness"][known]))
    marks = tuple(Mark("x", step, status) for step, status in result.events[:_MOST_MARKS])
    sharp = Figure(
        key="sharpness",
        title="Sharpness and what the optimiser bears",
        caption="Above the threshold the linearised training is unstable.",
        series=tuple(lines),
        x_label="step",
        y_label="sharpness",
        marks=marks,
        claims=("HESS-28",),
    )
    return sharp, _losses(result, marks)


def _losses(result: StabilityMonitor, marks: tuple[Mark, ...]) -> Figure:
    seen, (steps, values) = result.records, result.losses
    shown = np.isfinite(seen["loss"]) & (seen["loss"] > 0)
    lines = [Series("loss on the monitor's batch", seen["step"][shown], seen["loss"][shown])]
    given = np.isfinite(values) & (values > 0)
    if np.any(given):
        lines.append(Series("loss of the loop", steps[given], values[given], role="reference"))
    return Figure(
        key="loss",
        title="Loss",
        caption="In a catapult it rises before it falls; at the edge of stability it falls on the whole.",
        series=tuple(lines),
        x_label="step",
        y_label="loss",
        y_scale="log",
        marks=marks,
        claims=("CATA-1",),
    )


@figures.register
def rate_figures(result: StableRate) -> tuple[Figure, ...]:
    """The largest stable rate by each kind of curvature, and the rate in use."""
    words = {"hessian": "Hessian", "ntk": "empirical NTK"}
    finite = {kind: one for kind, one in result.largest.items() if np.isfinite(one.value)}
    names = [words[kind] for kind in finite]
    rates, errors = [float(one.value) for one in finite.values()], [float(one.error) for one in finite.values()]
    lines = [Series("largest stable rate", names, rates, errors)]
    if result.rate is not None:
        lines.append(Series("rate in use", names, [result.rate] * len(names), role="reference"))
    return (
        Figure(
            key="stable-rate",
            title="Rates that are stable at this moment",
            caption=result.sentence,
            series=tuple(lines),
            x_label="curvature of the",
            y_label="rate",
            kind="dot",
            claims=("HESS-27",),
        ),
    )
