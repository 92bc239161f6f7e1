"""Numbers with their errors, Gaussian expectations and statistics; knows no networks."""

from .arrays import demand_classes, demand_numbers, demand_pair
from .errors import nearest, reject
from .estimate import Estimate, shown
from .gaussian import hermite_rule, normal_rule, unit_rule
from .losses import CONVENTIONS, Loss, counted_loss, demand_count, meant_loss
from .phi import phi
from .relaxation import Steps, gain, gone, left
from .spectrum import Spectrum, spectrum
from .statistics import binomial_interval, bootstrap_interval, exponent, exponent_estimate, mean_and_sem
from .thresholds import UpdateRule, best_momentum, best_rate, demand_rate, largest_curvature, largest_rate

__all__ = [
    "CONVENTIONS",
    "Estimate",
    "Loss",
    "Spectrum",
    "Steps",
    "UpdateRule",
    "best_momentum",
    "best_rate",
    "binomial_interval",
    "bootstrap_interval",
    "counted_loss",
    "demand_classes",
    "demand_count",
    "demand_numbers",
    "demand_pair",
    "demand_rate",
    "exponent",
    "exponent_estimate",
    "gain",
    "gone",
    "hermite_rule",
    "largest_curvature",
    "largest_rate",
    "left",
    "mean_and_sem",
    "meant_loss",
    "nearest",
    "normal_rule",
    "phi",
    "reject",
    "shown",
    "spectrum",
    "unit_rule",
]
