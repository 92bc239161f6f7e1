"""How the dials between lazy and rich training are drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from widthwise.measure import LAZY, RICH, LazyOrRich, Moved
from widthwise.numerics import mean_and_sem

from ..section import Figure, Mark, Series
from .plot import figures

_SHOWN: tuple[tuple[str, Callable[[Moved], Any]], ...] = (
    ("function gap", lambda point: point.gap),
    ("kernel", lambda point: point.kernel),
    ("weights", lambda point: point.weights),
    ("hidden features", lambda point: point.hidden),
)


@figures.register
def regime_figures(result: LazyOrRich) -> tuple[Figure, ...]:
    """Draw how far training moves a model, along each dial that was turned."""
    drawn = []
    if result.dial:
        places = [point.alpha for point in result.dial]
        drawn.append(
            _figure("dial", "What a factor on the outputs does", "factor α on the outputs", places, result.dial)
        )
    if result.widths:
        places = [float(point.width or 0) for point in result.widths]
        drawn.append(_figure("dial-width", "What the width does", "width", places, result.widths))
    return tuple(drawn) or (_layers(result),)


def _figure(key: str, title: str, label: str, places: Sequence[float], points: tuple[Moved, ...]) -> Figure:
    series = []
    for name, read in _SHOWN:
        found = [mean_and_sem(read(point)) for point in points]
        errors = [float(one.error) for one in found]
        shown = errors if np.all(np.isfinite(errors)) else None
        series.append(Series(name, places, [float(one.value) for one in found], shown))
    caption = "Relative changes at the end of training, the outputs at the start subtracted, with standard errors."
    marks = (Mark("y", LAZY, "lazy below"), Mark("y", RICH, "rich above"))
    return Figure(key, title, caption, tuple(series), label, "relative change", "log", "log", marks=marks)


def _layers(result: LazyOrRich) -> Figure:
    """Without a dial: how far the features of each layer moved."""
    place = np.arange(1, len(result.names) + 1)
    series = (Series("features", place, np.mean(result.own.features, axis=0)),)
    caption = "Relative changes of the pre-activations at the end of training."
    return Figure("moved-by-layer", "How far each layer moved", caption, series, "layer", "relative change")
