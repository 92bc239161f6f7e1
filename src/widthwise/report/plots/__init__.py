"""Plots of results outside of a report; a file for each kind of result registers how it is drawn."""

from .criticality import criticality_figures
from .lazy_phases import grokking_figures, lazy_phase_figures
from .plot import draw, figures, plot
from .regime import regime_figures
from .signal import signal_figures
from .stability import monitor_figures, rate_figures
from .steps import layer_figures, path_figures, schedule_figures
from .width import transfer_figures, width_figures

__all__ = [
    "criticality_figures",
    "draw",
    "figures",
    "grokking_figures",
    "layer_figures",
    "lazy_phase_figures",
    "monitor_figures",
    "path_figures",
    "plot",
    "rate_figures",
    "regime_figures",
    "schedule_figures",
    "signal_figures",
    "transfer_figures",
    "width_figures",
]
