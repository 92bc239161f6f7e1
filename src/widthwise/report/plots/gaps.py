"""How the distance of a network from its linearisation is drawn: from both sides, over the radius."""

import math

from widthwise.numerics import reject
from widthwise.theory.linearisation import Gap, GapCurve

from ..section import Figure, Role, Series
from .plot import figures


@figures.register
def gap_figures(result: GapCurve) -> tuple[Figure, ...]:
    """The certified bound, what the adversary found and random points, over the radius."""
    lines: dict[str, tuple[list[float], Role]] = {
        "certified": ([one.certified for one in result.gaps], "bound"),
        "exact": ([math.nan if one.exact is None else one.exact for one in result.gaps], "predicted"),
        "adversarial": ([one.adversarial for one in result.gaps], "measured"),
        "at random": ([one.mean for one in result.gaps], "reference"),
    }
    series = []
    for name, (values, role) in lines.items():
        points = [(r, one) for r, one in zip(result.radii, values, strict=True) if r > 0 and 0 < one < math.inf]
        if points:
            radii, shown = zip(*points, strict=True)
            series.append(Series(name, radii, shown, role=role))
    if not series:
        reject("gaps of zero", "Positive gaps at positive radii are drawn", "Take larger radii")
    return (
        Figure(
            key="gap-by-radius",
            title=f"Distance from the linearisation: {result.gaps[0].name}",
            caption="The largest gap within a radius lies between what the adversary found and the certified bound.",
            series=tuple(series),
            x_label="radius",
            y_label="gap",
            x_scale="log",
            y_scale="log",
        ),
    )


@figures.register
def single_gap_figures(result: Gap) -> tuple[Figure, ...]:
    """The gap at one radius."""
    return gap_figures(GapCurve((result,)))
