"""How the steps of an optimiser are drawn: the loss along a path, and the variance that a schedule leaves."""

import numpy as np

from widthwise.theory.steps import LayerRates, ScheduleCheck, StepPath, StepTraining

from ..section import Figure, Series
from .plot import figures, some

_POINTS = 400  # of a curve; more cannot be seen


@figures.register
def path_figures(result: StepPath) -> tuple[Figure, ...]:
    """The loss along a path, with that of a run where there is one."""
    kept = some(len(result.steps), _POINTS)
    expected = "expected loss (theory)" if result.batch else "loss (theory)"
    series = (Series(expected, result.steps[kept], result.loss[kept], role="predicted", group="loss"),)
    if result.measured is not None:
        series = (Series("loss of a run", result.steps[kept], result.measured[kept], group="loss"), *series)
    caption = "The loss after every step, in closed form" + (" and as a run had it." if len(series) > 1 else ".")
    scale = "log" if np.all(result.loss[kept] > 0) else "linear"
    return (Figure("loss-by-steps", "Loss of the linearised twin", caption, series, "step", "loss", y_scale=scale),)


@figures.register
def training_figures(result: StepTraining) -> tuple[Figure, ...]:
    """The loss along the path of a training."""
    return path_figures(result.path())


@figures.register
def schedule_figures(result: ScheduleCheck) -> tuple[Figure, ...]:
    """The variances that a schedule leaves, and its rates."""
    kept = np.unique(np.geomspace(1, len(result.rates), _POINTS).astype(int))
    curves = [
        Series(f"curvature {value:.3g}", kept, result.variance[kept, mode], role="predicted")
        for mode, value in enumerate(result.curvature)
    ]
    rates = Series("rate", kept, result.rates[kept - 1], role="reference")
    title, caption = "Mean square under a schedule", "The mean square of each mode after every step, and the rates."
    return (Figure("schedule", title, caption, (*curves, rates), "step", "mean square", x_scale="log", y_scale="log"),)


@figures.register
def layer_figures(result: LayerRates) -> tuple[Figure, ...]:
    """What each layer contributes."""
    layers = np.arange(1.0, len(result.layers) + 1)
    series = tuple(
        Series(name, layers, [getattr(layer, f"{name}_share") for layer in result.layers], role="predicted")
        for name in ("weight", "bias")
    )
    caption = "The share of the curvature of each layer's weights and biases alone at these rates; stable below 2."
    return (Figure("layer-shares", "Contribution of every layer", caption, series, "layer", "share of the curvature"),)
