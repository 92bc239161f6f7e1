"""Rates of convergence: the table of descent and flow, and what a recorded training says of its constants."""

from .bounds import (
    convex_bound,
    last_iterate_bound,
    length_bound,
    pl_factor,
    stationarity_bound,
    strongly_convex_factor,
)
from .constants import Constant
from .constrained import Ball, Box, optimality_residual, projected_descent
from .coordinates import step_in_outputs
from .decomposition import Decomposition, decompose
from .kernel_conditions import KernelConditions, conditions_along, drift_bound, kernel_conditions
from .rate_table import RateTable, table
from .rows import Row
from .sampled_risk import risk, squared

__all__ = [
    "Ball",
    "Box",
    "Constant",
    "Decomposition",
    "KernelConditions",
    "RateTable",
    "Row",
    "conditions_along",
    "convex_bound",
    "decompose",
    "drift_bound",
    "kernel_conditions",
    "last_iterate_bound",
    "length_bound",
    "optimality_residual",
    "pl_factor",
    "projected_descent",
    "risk",
    "squared",
    "stationarity_bound",
    "step_in_outputs",
    "strongly_convex_factor",
    "table",
]
