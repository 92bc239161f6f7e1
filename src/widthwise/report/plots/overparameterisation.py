"""How the width that lazy training needs is drawn: what was measured over the width, and where theorems begin."""

import math

from widthwise.numerics import mean_and_sem
from widthwise.theory.overparameterisation import MeasuredWidth, WidthNeeded

from ..section import Figure, Mark, Series
from .plot import figures


@figures.register
def needed_figures(result: WidthNeeded) -> tuple[Figure, ...]:
    """The widths from which on theorems apply, beside the measured one, and what was measured over the width."""
    theorems = [one for one in result.theorems if one.applies and one.width > 0]
    limit = Series("by the limit", [one.claim_id for one in theorems], [one.width for one in theorems], role="bound")
    series = [limit] if theorems else []
    if sampled := [one for one in theorems if one.sampled is not None]:
        found = [one.sampled for one in sampled if one.sampled is not None]
        values, errors = ([float(getattr(one, part)) for one in found] for part in ("value", "error"))
        series.append(Series("on samples", [one.claim_id for one in sampled], values, errors))
    seen = result.measured
    if seen is not None and 0 < seen.width.value < math.inf:
        series.append(Series("measured", ["measured"], [seen.width.value], [seen.width.error]))
    caption = "From which width on training is lazy, by each theorem that applies and as it was measured."
    drawn = [_measured(seen)] if seen is not None else []
    if series:
        ids = tuple(one.claim_id for one in theorems)
        words = ("The width that lazy training needs", caption, tuple(series), "by", "width")
        drawn.append(Figure("width-needed", *words, y_scale="log", kind="dot", claims=ids))
    return tuple(drawn)


@figures.register
def measured_width_figures(result: MeasuredWidth) -> tuple[Figure, ...]:
    """What was measured over the width."""
    return (_measured(result),)


def _measured(seen: MeasuredWidth) -> Figure:
    found = [mean_and_sem(row) for row in seen.values]
    values, errors = ([float(getattr(one, part)) for one in found] for part in ("value", "error"))
    return Figure(
        key="laziness-by-width",
        title="How lazy training is at each width",
        caption=f"Means over seeds with standard errors; lazy is {seen.says}.",
        series=(Series(seen.criterion, seen.widths, values, errors),),
        x_label="width",
        y_label=seen.criterion,
        x_scale="log",
        y_scale="log" if min(values) > 0 else "linear",
        marks=(Mark("y", seen.threshold, "lazy below"),),
    )
