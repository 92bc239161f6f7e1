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
from .rows import Row
from .table import RateTable, table

__all__ = [
    "Constant",
    "RateTable",
    "Row",
    "convex_bound",
    "last_iterate_bound",
    "length_bound",
    "pl_factor",
    "stationarity_bound",
    "strongly_convex_factor",
    "table",
]
