"""How a width check and a transfer of rates are drawn: sizes over the width with muP's slopes, losses over rates."""

from collections.abc import Sequence

import numpy as np

from widthwise.theory.parameterisations import Transfer, WidthCheck

from ..section import Figure, Series
from .plot import figures, some

_MOST = 8  # lines in one figure


@figures.register
def width_figures(result: WidthCheck) -> tuple[Figure, ...]:
    """The coordinate check, the outputs, and the sizes at the start."""
    moved = [at for at, one in enumerate(result.readings) if one.role in ("input", "hidden")]
    blamed = [at for at, one in enumerate(result.readings) if one.name == result.culprit and at not in moved]
    places = [*moved, *blamed]
    chosen = [places[at] for at in some(len(places), _MOST)]
    change = [_mean(result.runs.taps["change"][:, :, result.moment, at]) for at in chosen]
    start = [_mean(result.runs.taps["z"][:, :, 0, at]) for at in chosen]
    names = [result.readings[at].name for at in chosen]
    outputs = result.runs.outputs
    moment = f"after {result.moment} step{'s' if result.moment > 1 else ''}"
    return (
        _figure(
            "coordinate-check",
            f"Coordinate check: {result.verdict}",
            f"How far pre-activations and outputs move {moment}, over the width; under muP every line is level.",
            result,
            [*names, "outputs"],
            [*change, _mean(outputs["change"][:, :, result.moment])],
            [0.0] * (len(names) + 1),
        ),
        _figure(
            "sizes-at-the-start",
            "Sizes at the start",
            "Pre-activations at the start, over the width; under muP they are level, and outputs fall as its root.",
            result,
            [*names, "outputs"],
            [*start, _mean(outputs["output"][:, :, 0])],
            [0.0] * len(names) + [-0.5],
        ),
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """The root mean square over seeds."""
    return np.sqrt(np.mean(values**2, axis=1))


def _figure(
    key: str,
    title: str,
    caption: str,
    result: WidthCheck,
    names: Sequence[str],
    lines: Sequence[np.ndarray],
    slopes: Sequence[float],
) -> Figure:
    """Measured lines, and through the first point of each the slope of muP."""
    widths = np.asarray(result.runs.widths, dtype=float)
    series = []
    for name, line, slope in zip(names, lines, slopes, strict=True):
        if np.all(line > 0):
            series.append(Series(name, widths, line, group=name))
            wanted = line[0] * (widths / widths[0]) ** slope
            series.append(Series(f"{name} (muP)", widths, wanted, role="predicted", group=name))
    return Figure(key, title, caption, tuple(series), "width", "root mean square", "log", "log")


@figures.register
def transfer_figures(result: Transfer) -> tuple[Figure, ...]:
    """Losses over rates, and the best rate over the width."""
    mean = result.losses.mean(axis=2)
    error = result.losses.std(axis=2, ddof=1) / np.sqrt(result.losses.shape[2])
    curves = []
    for width, row, spread in zip(result.widths, mean, error, strict=True):
        there = np.isfinite(row)
        curves.append(Series(f"width {width}", np.asarray(result.rates)[there], row[there], error=spread[there]))
    fitted = result.best[0] * (np.asarray(result.widths) / result.widths[0]) ** result.drift.value
    return (
        Figure(
            "rate-transfer",
            "Transfer of the learning rate",
            "The loss at the end over the rate, for each width; under muP the best rate stays where it is.",
            tuple(curves),
            "learning rate",
            "loss",
            "log",
            "log",
        ),
        Figure(
            "best-rate",
            "The best rate over the width",
            f"The best rate goes as the width to the power {result.drift}.",
            (
                Series("best rate", result.widths, result.best, group="best"),
                Series("fit", result.widths, fitted, role="predicted", group="best"),
            ),
            "width",
            "best learning rate",
            "log",
            "log",
        ),
    )
