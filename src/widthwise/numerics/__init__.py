"""Numbers with their errors, Gaussian expectations and statistics; knows no networks."""

from .errors import nearest, reject
from .estimate import Estimate
from .gaussian import hermite_rule, normal_rule, unit_rule
from .statistics import binomial_interval, bootstrap_interval, exponent, exponent_estimate, mean_and_sem

__all__ = [
    "Estimate",
    "binomial_interval",
    "bootstrap_interval",
    "exponent",
    "exponent_estimate",
    "hermite_rule",
    "mean_and_sem",
    "nearest",
    "normal_rule",
    "reject",
    "unit_rule",
]
