"""How a width check and a transfer of rates are drawn: sizes over the width with muP's slopes, losses over rates."""

import math
from collections.abc import Sequence

import numpy as np

from widthwise.theory.parameterisations import Transfer, WidthCheck

from ..section import Figure, Series
from .plot import figures, some

MOST = 8  # lines in one figure
_AXES = ("width", "root mean square", "log", "log")


@figures.register
def width_figures(result: WidthCheck) -> tuple[Figure, ...]:
    """The coordinate check, the outputs, and the sizes at the start."""
    moved = [at for at, one in enumerate(result.readings) if one.role in ("input", "hidden")]
    blamed = [at for at, one in enumerate(result.readings) if one.name == result.culprit and at not in moved]
    places = [*moved, *blamed]
    chosen = [places[at] for at in some(len(places), MOST)]
    change = [result.runs.taps["change"][:, :, result.moment, at] for at in chosen]
    start = [result.runs.taps["z"][:, :, 0, at] for at in chosen]
    names = [*(result.readings[at].name for at in chosen), "outputs"]
    outputs = result.runs.outputs
    moment = f"after {result.moment} step{'s' if result.moment > 1 else ''}"
    return (
        Figure(
            "coordinate-check",
            f"Coordinate check: {result.verdict}",
            f"How far pre-activations and outputs move {moment}, over the width; under muP every line is level.",
            lines(
                result.runs.widths, names, [*change, outputs["change"][:, :, result.moment]], [0.0] * len(names), "muP"
            ),
            *_AXES,
        ),
        Figure(
            "sizes-at-the-start",
            "Sizes at the start",
            "Pre-activations at the start, over the width; under muP they are level, and outputs fall as its root.",
            lines(
                result.runs.widths,
                names,
                [*start, outputs["output"][:, :, 0]],
                [0.0] * (len(names) - 1) + [-0.5],
                "muP",
            ),
            *_AXES,
        ),
    )


def lines(
    widths: Sequence[int], names: Sequence[str], sizes: Sequence[np.ndarray], slopes: Sequence[float], who: str
) -> tuple[Series, ...]:
    """Root mean squares (width, seed) over seeds with two standard errors, and ``who``'s slopes through the first."""
    n = np.asarray(widths, dtype=float)
    series = []
    for name, size, slope in zip(names, sizes, slopes, strict=True):
        squares = np.asarray(size) ** 2
        mean = np.mean(squares, axis=1)
        line = np.sqrt(mean)
        if np.all(np.isfinite(line) & (line > 0)):
            # Two standard errors of the logarithm: an interval that ends above zero.
            factor = np.exp(np.std(squares, axis=1, ddof=1) / math.sqrt(squares.shape[1]) / mean)
            series.append(Series(name, n, line, group=name, interval=(line / factor, line * factor)))
            series.append(Series(f"{name} ({who})", n, line[0] * (n / n[0]) ** slope, role="predicted", group=name))
    return tuple(series)


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
