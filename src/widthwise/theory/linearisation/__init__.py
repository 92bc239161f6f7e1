"""Linearisation: how far a network is from its first-order Taylor model within a ball, certified and measured."""

from .expansion import expansion_at_zero, feature_map, least_norm_solution, start_scales
from .flips import FlipMonitor, expected_flips, flip_fraction
from .gaps import Gap, GapCurve, certified_gap, gap, gap_curve
from .rectifier import WorstCase, rectifier_worst_case
from .search import Found, adversarial_gap, departure, sampled_gaps
from .subjects import remainder_bound

__all__ = [
    "FlipMonitor",
    "Found",
    "Gap",
    "GapCurve",
    "WorstCase",
    "adversarial_gap",
    "certified_gap",
    "departure",
    "expansion_at_zero",
    "expected_flips",
    "feature_map",
    "flip_fraction",
    "gap",
    "gap_curve",
    "least_norm_solution",
    "rectifier_worst_case",
    "remainder_bound",
    "sampled_gaps",
    "start_scales",
]
