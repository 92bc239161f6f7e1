"""How wide a network must be to be lazy: width conditions, stopping times, and the width that is measured."""

from .families import INITS, Family
from .measured import CRITERIA, MeasuredWidth, laziness, measured_width
from .needed import WidthNeeded, width_needed
from .runs import Run, record
from .sphere import SphereNumbers, draw_sphere, sphere_bounds, sphere_numbers
from .stability import CONDITIONS, Sizes, sizes, sufficient_width
from .statistical import StatisticalBounds, Trace, certify_statistical, trace
from .stopping import StoppingTimes, stopping_times
from .theorems import TheoremWidth, theorem_widths

__all__ = [
    "CONDITIONS",
    "CRITERIA",
    "INITS",
    "Family",
    "MeasuredWidth",
    "Run",
    "Sizes",
    "SphereNumbers",
    "StatisticalBounds",
    "StoppingTimes",
    "TheoremWidth",
    "Trace",
    "WidthNeeded",
    "certify_statistical",
    "draw_sphere",
    "laziness",
    "measured_width",
    "record",
    "sizes",
    "sphere_bounds",
    "sphere_numbers",
    "stopping_times",
    "sufficient_width",
    "theorem_widths",
    "trace",
    "width_needed",
]
