"""Plots of results outside of a report; a file for each kind of result registers how it is drawn."""

from .certificate import certificate_figures
from .criticality import criticality_figures
from .deviation import deviation_figures
from .gaps import gap_figures
from .lazy_phases import grokking_figures, lazy_phase_figures
from .overparameterisation import needed_figures
from .plot import draw, figures, plot
from .rates import rate_table_figures
from .recorder import recorder_figures
from .regime import regime_figures
from .signal import signal_figures
from .stability import monitor_figures, rate_figures
from .steps import layer_figures, path_figures, schedule_figures
from .width import transfer_figures, width_figures

__all__ = [
    "certificate_figures",
    "criticality_figures",
    "deviation_figures",
    "draw",
    "figures",
    "gap_figures",
    "grokking_figures",
    "layer_figures",
    "lazy_phase_figures",
    "monitor_figures",
    "needed_figures",
    "path_figures",
    "plot",
    "rate_figures",
    "rate_table_figures",
    "recorder_figures",
    "regime_figures",
    "schedule_figures",
    "signal_figures",
    "transfer_figures",
    "width_figures",
]
