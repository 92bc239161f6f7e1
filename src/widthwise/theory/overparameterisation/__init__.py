"""How wide a network must be to be lazy: width conditions, stopping times, and the width that is measured."""

from .runs import Run, record
from .sphere import SphereNumbers, draw_sphere, sphere_bounds, sphere_numbers
from .stability import CONDITIONS, Sizes, needed_width, sizes
from .statistical import StatisticalBounds, Trace, certify_statistical, trace
from .stopping import StoppingTimes, stopping_times

__all__ = [
    "CONDITIONS",
    "Run",
    "Sizes",
    "SphereNumbers",
    "StatisticalBounds",
    "StoppingTimes",
    "Trace",
    "certify_statistical",
    "draw_sphere",
    "needed_width",
    "record",
    "sizes",
    "sphere_bounds",
    "sphere_numbers",
    "stopping_times",
    "trace",
]
