"""Whether signals survive the depth of a model: measured, predicted where that is possible, and mended."""

from .predicted import PredictedSignals, chain_of, predicted_signals
from .signal_report import SignalReport, Trend, signal_report

__all__ = ["PredictedSignals", "SignalReport", "Trend", "chain_of", "predicted_signals", "signal_report"]
