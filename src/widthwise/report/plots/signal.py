"""How signals through a model are drawn: mean squares, gradients and correlations, layer by layer."""

import numpy as np

from widthwise.numerics import Estimate
from widthwise.theory.survival import SignalReport

from ..section import Figure, Series
from .plot import figures


@figures.register
def signal_figures(result: SignalReport) -> tuple[Figure, ...]:
    """Draw what was measured of each layer, in the order of execution, beside its prediction."""
    found, predicted = result.measured, result.predicted
    errors = f"over {len(found.variance)} {found.over}"
    names = ", ".join(f"{place} {name}" for place, name in enumerate(result.names, start=1)) if _few(result) else ""
    listed = f" The layers: {names}." if names else ""
    drawn = [
        _figure(
            "signal-forward",
            "How large signals are",
            f"Mean squares of the pre-activations, with standard errors {errors}.{listed}",
            found.mean("variance"),
            None if predicted is None else predicted.variance,
            "mean square",
        ),
        _figure(
            "signal-backward",
            "How strongly the outputs hang on a layer",
            f"Squared sensitivities of the outputs, with standard errors {errors}.",
            found.mean("gradient"),
            None if predicted is None else predicted.gradient,
            "squared sensitivity",
        ),
    ]
    if found.gap is not None:
        gap = None if predicted is None else predicted.gap
        drawn.append(
            _figure(
                "signal-angles",
                "How far apart two inputs are",
                f"One minus the cosine of the pre-activations of two inputs, averaged over pairs, with standard errors "
                f"{errors}.",
                found.mean("gap"),
                gap,
                "1 − correlation",
            )
        )
    return tuple(drawn)


def _few(result: SignalReport) -> bool:
    return len(result.names) <= 12


def _figure(key: str, title: str, caption: str, measured: Estimate, predicted: np.ndarray | None, label: str) -> Figure:
    place = np.arange(1, len(measured.value) + 1)
    series = [Series("measured", place, measured.value, _shown(measured), group="signal")]
    if predicted is not None:
        series.append(Series("infinite width", place, predicted, role="predicted", group="signal"))
    scale = "log" if np.all(np.asarray(measured.value) > 0) else "linear"
    return Figure(key, title, caption, tuple(series), "layer", label, y_scale=scale)


def _shown(measured: Estimate) -> np.ndarray | None:
    return np.asarray(measured.error) if np.all(np.isfinite(measured.error)) else None
