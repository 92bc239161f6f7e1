"""How a table of convergence rates is drawn: every row's measured value over its bound, along the training."""

import numpy as np

from widthwise.numerics import reject
from widthwise.theory.convergence import RateTable

from ..section import Figure, Mark, Series
from .plot import figures


@figures.register
def rate_table_figures(result: RateTable) -> tuple[Figure, ...]:
    """Measured/bound of every row whose assumption is met; below 1 where its theorem is right."""
    series = []
    for row in result.rows.values():
        shown = np.isfinite(row.ratios) & (row.ratios > 0)
        if not row.reason and np.any(shown):
            series.append(Series(row.name, row.clock[shown], row.ratios[shown]))
    if not series:
        why = "; ".join(dict.fromkeys(row.reason for row in result.rows.values() if row.reason))
        reject(
            f"a table without a row that can be drawn{': ' * bool(why)}{why}",
            "Rows whose assumption is met are drawn over the clock",
            "Print the table, which has the constants; give times or rate where there are no rows",
        )
    return (
        Figure(
            key="measured-over-bound",
            title="Measured over bound",
            caption="Each row of the table of rates along the recorded training; near 1, its bound is tight.",
            series=tuple(series),
            x_label="time" if result.kind == "flow" else "step",
            y_label="measured / bound",
            y_scale="log",
            marks=(Mark("y", 1.0, "the bound"),),
        ),
    )
