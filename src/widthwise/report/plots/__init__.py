"""Plots of results outside of a report; a file for each kind of result registers how it is drawn."""

from .plot import draw, figures, plot
from .signal import signal_figures

__all__ = ["draw", "figures", "plot", "signal_figures"]
