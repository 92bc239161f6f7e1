"""How the lazy-to-rich transition is drawn: its areas over width and output scale, and the changes along the scale."""

import numpy as np

from widthwise.theory.regimes import MEASURES, Grokking, LazyPhaseDiagram

from ..section import Figure, Mark, Series
from .plot import figures

_POINTS = 41  # of an edge: beyond thirty points areas are filled
_CLAIMS = ("LAZY-3", "LAZY-3b", "LAZY-3d", "LAZY-C1")
_RATIO = "α / label scale"


@figures.register
def lazy_phase_figures(result: LazyPhaseDiagram) -> tuple[Figure, ...]:
    """The three areas where there are several widths, what decides between them along alpha, and the index h."""
    areas = (_areas(result),) if len(result.widths) > 1 else ()
    return (*areas, _changes(result), _index(result))


def _areas(result: LazyPhaseDiagram) -> Figure:
    """Areas are drawn between edges: h = 1, and where the change crosses its threshold."""
    low, high = float(result.ratios[0]), float(result.ratios[-1])
    certified = np.nan_to_num(result.certified_from, nan=np.inf)
    lazy = np.minimum(np.nan_to_num(result.lazy_from, nan=np.inf), certified)
    edges = [np.clip(edge, low, high) for edge in (certified, lazy)]
    widths = np.geomspace(result.widths[0], result.widths[-1], _POINTS)
    top, middle = (_between(widths, result.widths, edge) for edge in edges)
    roof, floor = np.full(_POINTS, high), np.full(_POINTS, low)
    series = (
        Series("certified lazy (above)", widths, top, interval=(top, roof), role="bound"),
        Series("measured lazy (above)", widths, middle, interval=(middle, top)),
        Series("rich (below)", widths, floor, interval=(floor, middle), role="reference"),
    )
    caption = (
        f"{result.name[0].upper()}{result.name[1:]}. Certified: h at most 1. Measured: of every network the "
        f"{MEASURES[result.by]} stays below {result.threshold:g}. Rich: the rest."
    )
    title = "Lazy and rich training"
    return Figure("lazy-phases", title, caption, series, "width", _RATIO, "log", "log", claims=_CLAIMS)


def _between(places: np.ndarray, widths: tuple[int, ...], edge: np.ndarray) -> np.ndarray:
    """A power law between neighbouring widths."""
    return np.exp(np.interp(np.log(places), np.log(np.asarray(widths, dtype=float)), np.log(edge)))


def _changes(result: LazyPhaseDiagram) -> Figure:
    trained = np.all(result.along(result.trained), axis=-1)
    shown = result.along(result.measured)
    series = tuple(
        _spread(f"width {width}", result.ratios[trained[:, at]], shown[trained[:, at], at])
        for at, width in enumerate(result.widths)
        if trained[:, at].any()
    )
    if not series:
        series = (Series("no training reached its risk", result.ratios, np.full(result.ratios.size, np.nan)),)
    caption = "The median over networks with the smallest and the largest, where all reached the risk."
    marks = (Mark("y", result.threshold, "lazy below"),)
    return Figure(
        "lazy-change",
        "What leaves the tangent model",
        caption,
        series,
        _RATIO,
        MEASURES[result.by],
        "log",
        "log",
        marks=marks,
        claims=("LAZY-3", "LAZY-3c"),
    )


def _index(result: LazyPhaseDiagram) -> Figure:
    shown = result.along(result.h)
    series = tuple(_spread(f"width {width}", result.ratios, shown[:, at]) for at, width in enumerate(result.widths))
    caption = "The index of the sharp certificate, over the networks; training is certified lazy where it is at most 1."
    marks = (Mark("y", 1.0, "certified below"),)
    return Figure(
        "lazy-index",
        "The index h",
        caption,
        series,
        _RATIO,
        "h = 2β r₀ / (α σ²)",
        "log",
        "log",
        marks=marks,
        claims=("LAZY-C1",),
    )


def _spread(name: str, places: np.ndarray, values: np.ndarray) -> Series:
    return Series(name, places, np.median(values, axis=1), interval=(values.min(axis=1), values.max(axis=1)))


@figures.register
def grokking_figures(result: Grokking) -> tuple[Figure, ...]:
    """Training and test risks over time, and the test risk of the tangent model."""
    series = []
    for one in result.courses:
        name = f"α = {one.alpha:g}"
        shown = one.train > 1e-6
        series.append(Series(f"training, {name}", one.times[shown], one.train[shown]))
        series.append(Series(f"test, {name}", one.times, one.test))
    first = result.courses[0]
    series.append(Series("test, tangent model", first.times, first.twin, role="reference"))
    caption = (
        "Both risks as parts of those at the start. The larger α, the later the test risk follows the training risk."
    )
    return (
        Figure(
            "grokking",
            "Delayed generalisation",
            caption,
            tuple(series),
            "time, in units of the fastest decay of the tangent model",
            "risk / risk at the start",
            "log",
            "log",
            marks=(Mark("y", first.level, "fallen below"),),
            claims=("LAZY-3",),
        ),
    )
