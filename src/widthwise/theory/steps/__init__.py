"""Learning rates: which are stable, what an optimiser's steps do to a linear model, and which schedules converge."""

from .layers import LayerRate, LayerRates, depth_rates, layer_rates, rate_weighted_ntk
from .recursion import BatchNoise, Modes, spread
from .robbins_monro import ScheduleCheck, check_schedule, late_variance, stationary_variance, variances
from .training import StepPath, StepTraining, trained_by_steps

__all__ = [
    "BatchNoise",
    "LayerRate",
    "LayerRates",
    "Modes",
    "ScheduleCheck",
    "StepPath",
    "StepTraining",
    "check_schedule",
    "depth_rates",
    "late_variance",
    "layer_rates",
    "rate_weighted_ntk",
    "spread",
    "stationary_variance",
    "trained_by_steps",
    "variances",
]
