"""Figures as plotly sees them: the only file that knows plotly.

A figure becomes a plain dictionary for plotly.js.  Colours are names ("var(--c1)") that the page
resolves, so that a plot changes with the theme.  plotly.js reads a few HTML-like tags in its text;
`plain` turns them off.  There is no `$...$` in any text, which would ask for MathJax.
"""

import math
from collections.abc import Sequence

from plotly.offline import get_plotlyjs

from .digits import format_number
from .palette import DIVERGING, SERIES
from .section import Figure, Grid, Mark, Series

_FEW = 30  # up to so many points are drawn one by one
_SPOKEN = 400  # up to so many points carry their own words in the hover label
_DASHES = {"measured": "solid", "predicted": "dash", "bound": "dashdot", "reference": "dot"}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")


def javascript() -> str:
    """Return the source of plotly.js, to be inlined once."""
    return get_plotlyjs()


def plain(text: str) -> str:
    """Return the text so that plotly.js shows it as it is, tags and all."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def specification(figure: Figure) -> dict:
    """Return the data and the layout of a figure, ready for `Plotly.newPlot`."""
    if isinstance(figure.series[0], Grid):
        return {"data": [_heatmap(figure.series[0])], "layout": _layout(figure, "closest")}
    groups = colours(figure)
    data = [trace for series in _curves(figure) for trace in _traces(series, groups[series.group], figure)]
    return {"data": data, "layout": _layout(figure, "closest")}


def colours(figure: Figure) -> dict[str, int]:
    """Return the number of the colour of each group, in the order of appearance."""
    groups = dict.fromkeys(series.group for series in _curves(figure))
    return {group: index % len(SERIES) for index, group in enumerate(groups)}


def legend(figure: Figure) -> list[dict]:
    """Return what the legend shows for each series: name, role, colour, the traces it switches."""
    entries, start = [], 0
    groups = colours(figure)
    for series in _curves(figure):
        size = 2 if _has_band(series, figure) else 1
        entries.append(
            {
                "name": series.name,
                "role": series.role,
                "colour": SERIES[groups[series.group]],
                "traces": list(range(start, start + size)),
            }
        )
        start += size
    return entries


def _curves(figure: Figure) -> list[Series]:
    return [series for series in figure.series if isinstance(series, Series)]


def _finite(values: Sequence) -> list:
    return [value if isinstance(value, str) or math.isfinite(value) else None for value in values]


def _words(values: Sequence) -> list:
    return [plain(value) if isinstance(value, str) else value for value in values]


def _ends(series: Series) -> tuple[Sequence[float], Sequence[float]] | None:
    if series.interval is not None:
        return series.interval
    if series.error is None or not any(series.error):
        return None
    pairs = list(zip(series.y, series.error, strict=True))
    return [y - e for y, e in pairs], [y + e for y, e in pairs]


def _has_band(series: Series, figure: Figure) -> bool:
    return figure.kind == "line" and _ends(series) is not None and len(series.x) > _FEW


def _traces(series: Series, index: int, figure: Figure) -> list[dict]:
    trace = _bars(series, index) if figure.kind == "bar" else _line(series, index, figure.kind)
    trace |= _hover(series)
    ends = _ends(series)
    if ends is not None and not _has_band(series, figure):
        trace["error_y"] = _error_bars(series, ends, index)
    if figure.kind == "dot":
        trace["x"], trace["y"] = trace["y"], trace["x"]
        if "error_y" in trace:
            trace["error_x"] = trace.pop("error_y")
    band = [_band(series, ends, index, figure)] if ends and _has_band(series, figure) else []
    return [*band, trace]


def _line(series: Series, index: int, kind: str) -> dict:
    colour = f"var(--{SERIES[index]})"
    points = kind == "dot" or (series.role == "measured" and len(series.x) <= _FEW)
    mode = "markers" if kind == "dot" else "lines+markers" if points else "lines"
    return {
        "type": "scatter",
        "mode": mode,
        "x": _words(_finite(series.x)),
        "y": _finite(series.y),
        "line": {"color": colour, "width": 2, "dash": _DASHES[series.role]},
        "marker": {"color": colour, "size": 8, "symbol": _SYMBOLS[index]},
    }


def _bars(series: Series, index: int) -> dict:
    return {
        "type": "bar",
        "x": _words(_finite(series.x)),
        "y": _finite(series.y),
        "marker": {"color": f"var(--{SERIES[index]})"},
    }


def _hover(series: Series) -> dict:
    value = "%{y:.4g}"
    extra = {}
    if len(series.x) <= _SPOKEN:
        value = "%{customdata[1]}"
        extra = {"customdata": [[_spoken_x(x), _spoken_y(series, i)] for i, x in enumerate(series.x)]}
        place = "%{customdata[0]}"
    else:
        place = "%{x:.4g}"
    template = f"%{{meta[0]}}<br>{place}: {value}<extra></extra>"
    return {"name": plain(series.name), "meta": [plain(series.name)], "hovertemplate": template, **extra}


def _spoken_x(x: float | str) -> str:
    return plain(x) if isinstance(x, str) else format_number(x)


def _spoken_y(series: Series, index: int) -> str:
    if series.interval is not None:
        low, high = (end[index] for end in series.interval)
        return format_number(series.y[index], interval=(low, high))
    return format_number(series.y[index], series.error[index] if series.error else None)


def _error_bars(series: Series, ends: tuple, index: int) -> dict:
    low, high = ends
    return {
        "type": "data",
        "symmetric": False,
        "array": _finite([h - y for h, y in zip(high, series.y, strict=True)]),
        "arrayminus": _finite([y - b for b, y in zip(low, series.y, strict=True)]),
        "color": f"var(--{SERIES[index]})",
        "thickness": 1.5,
        "width": 4,
    }


def _band(series: Series, ends: tuple, index: int, figure: Figure) -> dict:
    """Draw the interval as one closed outline: along the upper end and back along the lower."""
    floor = _floor(figure)
    rows = [
        (x, max(low, floor), max(high, floor))
        for x, low, high in zip(series.x, *ends, strict=True)
        if math.isfinite(low) and math.isfinite(high)
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _, _ in rows] + [x for x, _, _ in reversed(rows)],
        "y": [high for _, _, high in rows] + [low for _, low, _ in reversed(rows)],
        "fill": "toself",
        "fillcolor": f"var(--{SERIES[index]}-band)",
        "line": {"width": 0},
        "name": plain(series.name),
        "hoverinfo": "skip",
    }


def _floor(figure: Figure) -> float:
    """Return where a band that reaches zero ends on a logarithmic axis: a third below the data."""
    if figure.y_scale == "linear":
        return -math.inf
    positive = [y for series in _curves(figure) for y in series.y if 0 < y < math.inf]
    return min(positive, default=1.0) / 3


def _heatmap(grid: Grid) -> dict:
    rows = [_finite(row) for row in grid.z]
    values = [value for row in rows for value in row if value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    signed = low < 0 < high
    return {
        "type": "heatmap",
        "x": _words(grid.x),
        "y": _words(grid.y),
        "z": rows,
        "colorscale": [list(stop) for stop in DIVERGING] if signed else "Cividis",
        **({"zmid": 0} if signed else {}),
        "meta": [plain(grid.name)],
        "hovertemplate": "%{meta[0]}<br>(%{x}, %{y}): %{z:.4g}<extra></extra>",
        "colorbar": {"thickness": 12, "outlinewidth": 0},
    }


def _layout(figure: Figure, hovermode: str) -> dict:
    across = _axis(figure.x_label, figure.x_scale, figure.series, "x")
    along = _axis(figure.y_label, figure.y_scale, figure.series, "y")
    if figure.kind == "dot":
        across, along = along, across | {"autorange": "reversed", "title": {"text": ""}}
    elif isinstance(figure.series[0], Grid):
        along["autorange"] = "reversed"
    return {
        "xaxis": across,
        "yaxis": along,
        "shapes": [_shape(mark) for mark in figure.marks],
        "hovermode": hovermode,
        "barmode": "group",
    }


def _axis(label: str, scale: str, series: Sequence, letter: str) -> dict:
    worded = any(isinstance(value, str) for item in series for value in getattr(item, letter))
    axis = {
        "title": {"text": plain(label)},
        "type": "category" if worded else scale,
        "color": "var(--soft-ink)",
        "gridcolor": "var(--grid)",
        "linecolor": "var(--rule)",
    }
    return axis | ({"exponentformat": "power", "dtick": 1} if scale == "log" else {})


def _shape(mark: Mark) -> dict:
    value = float(mark.value)
    vertical = mark.axis == "x"
    along = {"x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper"}
    across = {"y0": value, "y1": value, "x0": 0, "x1": 1, "xref": "paper"}
    return {
        "type": "line",
        **(along if vertical else across),
        "line": {"color": "var(--soft-ink)", "width": 1.2, "dash": "dot"},
        "label": {
            "text": plain(mark.label),
            "textposition": "end",
            "font": {"color": "var(--soft-ink)", "size": 12},
        },
    }
