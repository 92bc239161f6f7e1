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
_FEW_TICKS = 8  # up to so many places on a logarithmic axis get a tick each
_LONGEST_NAME = 28  # of a word on an axis
_SPOKEN = 400  # up to so many points carry their own words in the hover label
_DASHES = {"measured": "solid", "predicted": "dash", "bound": "dashdot", "reference": "dot"}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")


def javascript() -> str:
    """Return the source of plotly.js, to be inlined once."""
    return get_plotlyjs()


def plain(text: str) -> str:
    """Return the text so that plotly.js shows it as it is: no tags, no %{...} filled in.

    >>> plain("<b>%{x}</b>")
    '&lt;b&gt;%&#123;x}&lt;/b&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def shorten(text: str) -> str:
    """Return a name that fits beside an axis; names keep their two ends."""
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 9]}…{text[-8:]}"


def specification(figure: Figure) -> dict:
    """Return the data and the layout of a figure, ready for `Plotly.newPlot`."""
    if isinstance(figure.series[0], Grid):
        return {"data": [_heatmap(figure.series[0])], "layout": _layout(figure)}
    groups = colours(figure)
    data = [trace for series in _curves(figure) for trace in _traces(series, groups[series.group], figure)]
    return {"data": data, "layout": _layout(figure)}


def colours(figure: Figure) -> dict[str, int]:
    """Return the number of the colour of each group, in the order of appearance."""
    groups = dict.fromkeys(series.group for series in _curves(figure))
    return {group: index % len(SERIES) for index, group in enumerate(groups)}


def legend(figure: Figure) -> list[dict]:
    """Return what the legend shows for each series: its name, its looks, the traces it switches."""
    entries, start = [], 0
    groups = colours(figure)
    for series in _curves(figure):
        size = 2 if _has_band(series, figure) else 1
        entries.append(
            {
                "name": series.name,
                "role": series.role,
                "colour": SERIES[groups[series.group]],
                "symbol": _SYMBOLS[groups[series.group]] if _has_points(series, figure.kind) else "",
                "bar": figure.kind == "bar",
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


def _has_points(series: Series, kind: str) -> bool:
    return kind == "dot" or (kind == "line" and series.role == "measured" and len(series.x) <= _FEW)


def _traces(series: Series, index: int, figure: Figure) -> list[dict]:
    trace = _bars(series, index) if figure.kind == "bar" else _line(series, index, figure.kind)
    trace |= _hover(series, figure)
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
    mode = "markers" if kind == "dot" else "lines+markers" if _has_points(series, kind) else "lines"
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


def _hover(series: Series, figure: Figure) -> dict:
    """Say the name, the place and the value; names stand in "meta", where %{...} is not read."""
    place, value, extra = "%{x:.4g}", "%{y:.4g}", {}
    if figure.kind == "dot":
        place, value = value, place
    if len(series.x) <= _SPOKEN:
        place, value = "%{customdata[0]}", "%{customdata[1]}"
        extra = {"customdata": [[_spoken_x(x), _spoken_y(series, i)] for i, x in enumerate(series.x)]}
    template = f"%{{meta[0]}}<br>%{{meta[1]}}: {place}<br>%{{meta[2]}}: {value}<extra></extra>"
    names = [plain(name) for name in (series.name, figure.x_label, figure.y_label)]
    return {"name": names[0], "meta": names, "hovertemplate": template, **extra}


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
        "showlegend": False,
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


def _layout(figure: Figure) -> dict:
    letters = {"x": "x", "y": "y"}
    axes = {letter: _axis(figure, letter) for letter in letters}
    if figure.kind == "dot":
        letters = {"x": "y", "y": "x"}
        axes["x"] |= {"autorange": "reversed", "title": {"text": ""}}
    elif isinstance(figure.series[0], Grid):
        axes["y"]["autorange"] = "reversed"
    marks = [mark for mark in figure.marks if _drawable(mark, figure)]
    return {
        **{f"{letters[letter]}axis": axis for letter, axis in axes.items()},
        "title": {"text": plain(figure.title)},
        "shapes": [_shape(mark, letters[mark.axis]) for mark in marks],
        "annotations": _labels(marks, figure, letters),
        "hovermode": "closest",
        "barmode": "group",
    }


def _scale(figure: Figure, letter: str) -> str:
    return figure.x_scale if letter == "x" else figure.y_scale


def _axis(figure: Figure, letter: str) -> dict:
    values = [value for item in figure.series for value in getattr(item, letter)]
    words = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    scale = "category" if words else _scale(figure, letter)
    ticks = log_ticks(values, at_values=letter == "x") if scale == "log" else {}
    if words:
        ticks = {"tickvals": _words(words), "ticktext": [plain(shorten(word)) for word in words]}
    return {
        "title": {"text": plain(figure.x_label if letter == "x" else figure.y_label)},
        "type": scale,
        "color": "var(--soft-ink)",
        "gridcolor": "var(--grid)",
        "linecolor": "var(--rule)",
        **ticks,
    }


def log_ticks(values: Sequence[float], at_values: bool) -> dict:
    """Return ticks at the few values there are, at 1, 2, 5, 10, ..., or at powers of ten alone."""
    positive = sorted({value for value in values if 0 < value < math.inf})
    if not positive:
        return {}
    decades = math.log10(positive[-1]) - math.log10(positive[0])
    if at_values and 1 < len(positive) <= _FEW_TICKS:
        return _ticks(positive)
    if decades < 2:
        first, last = (math.floor(math.log10(end)) for end in (positive[0], positive[-1]))
        powers = range(first - 1, last + 2)
        return _ticks([float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)])
    # plotly.js draws powers a quarter larger than other ticks.
    return {"dtick": math.ceil(decades / 8), "exponentformat": "power", "tickfont": {"size": 10.5}}


def _ticks(values: Sequence[float]) -> dict:
    return {"tickvals": list(values), "ticktext": [format_number(value) for value in values]}


def _drawable(mark: Mark, figure: Figure) -> bool:
    value = float(mark.value)
    return math.isfinite(value) and (value > 0 or _scale(figure, mark.axis) == "linear")


def _shape(mark: Mark, letter: str) -> dict:
    other = "y" if letter == "x" else "x"
    ends = {f"{letter}0": float(mark.value), f"{letter}1": float(mark.value), f"{other}0": 0, f"{other}1": 1}
    line = {"color": "var(--soft-ink)", "width": 1.2, "dash": "dot"}
    return {"type": "line", **ends, f"{other}ref": "paper", "line": line}


def _labels(marks: Sequence[Mark], figure: Figure, letters: dict[str, str]) -> list[dict]:
    """Label lines that go up above the plot, one above the other, and lines across at the right."""
    labels, above = [], 0
    for mark in marks:
        value = float(mark.value)
        place = math.log10(value) if _scale(figure, mark.axis) == "log" else value
        words = {"text": plain(mark.label), "showarrow": False, "font": {"color": "var(--soft-ink)", "size": 12}}
        if letters[mark.axis] == "x":
            side = "right" if _right_half(value, figure, mark.axis) else "left"
            spot = {"x": place, "y": 1, "yref": "paper", "xanchor": side, "yshift": 15 * above}
            above += 1
        else:
            spot = {"x": 1, "y": place, "xref": "paper", "xanchor": "right"}
        labels.append({**words, **spot, "yanchor": "bottom", "borderpad": 1, "bgcolor": "var(--paper)"})
    return labels


def _right_half(value: float, figure: Figure, letter: str) -> bool:
    values = [x for item in figure.series for x in getattr(item, letter) if not isinstance(x, str)]
    finite = [x for x in values if math.isfinite(x)]
    if _scale(figure, letter) == "log":
        finite, value = [math.log10(x) for x in finite if x > 0], math.log10(value)
    return bool(finite) and value > (min(finite) + max(finite)) / 2
