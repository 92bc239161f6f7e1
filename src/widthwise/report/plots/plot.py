"""Results as plotly figures: the same figures as on the page of a report, with fixed colours.

How a type of result is drawn is registered with ``figures``, in a file of this folder.
"""

import json
from functools import singledispatch
from typing import Any

import numpy as np
from plotly.graph_objects import Figure as PlotlyFigure

from widthwise.numerics import reject

from ..figures import specification
from ..palette import LIGHT
from ..section import Figure


@singledispatch
def figures(result: Any) -> tuple[Figure, ...]:
    """Return the figures that show a result; each type registers its own."""
    known = sorted(kind.__name__ for kind in figures.registry if kind is not object)
    reject(
        f"A result of type {type(result).__name__}",
        f"There are plots of {', '.join(known)}",
        "Pass one of these results itself, or draw the arrays of yours",
    )


@figures.register
def _(result: Figure) -> tuple[Figure, ...]:
    return (result,)


def some(count: int, most: int) -> np.ndarray:
    """The places of at most so many of them, evenly from the first to the last.

    >>> some(10, 4).tolist(), some(2, 4).tolist()
    ([0, 3, 6, 9], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def plot(result: Any, which: int = 0) -> PlotlyFigure:
    """Draw a result as a plotly figure, which a notebook shows and ``.write_html(path)`` saves.

    ``which`` chooses where a result has several figures. Raises ``ValueError`` for a result that has no plot,
    and for a figure that there is not.

    >>> from widthwise.report import Figure, Series
    >>> line = Figure("line", "A line", "It rises.", (Series("y", [0.0, 1.0], [0.0, 2.0]),), "x", "y")
    >>> plot(line).layout.title.text
    'A line'
    """
    found = figures(result)
    if not 0 <= which < len(found):
        names = ", ".join(f"{index}: {figure.title}" for index, figure in enumerate(found))
        reject(f"which={which}", f"This result has the figures {names}", "Choose one of these numbers")
    return draw(found[which])


def draw(figure: Figure) -> PlotlyFigure:
    """Draw the figure of a section with the colours of the light page."""
    text = json.dumps(specification(figure))
    for name, colour in LIGHT.items():
        text = text.replace(f"var(--{name}-band)", _faint(colour)).replace(f"var(--{name})", colour)
    drawn = PlotlyFigure(json.loads(text))
    return drawn.update_layout(paper_bgcolor=LIGHT["paper"], plot_bgcolor=LIGHT["paper"], font_color=LIGHT["ink"])


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.2)"
