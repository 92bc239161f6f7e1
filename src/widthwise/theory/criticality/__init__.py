"""Criticality of any activation: the variances of weights and biases at which depth does no harm."""

from .curve import EdgeOfChaos, edge_of_chaos
from .maps import CorrelationMap, Trajectory, VarianceMap, correlation_map, trajectory, variance_map
from .origin import Origin, decay_logarithm, origin, second_term
from .phases import DepthScales, PhaseDiagram, depth_scales, phase_diagram
from .solve import Criticality, CriticalPoint, critical_init

__all__ = [
    "CorrelationMap",
    "CriticalPoint",
    "Criticality",
    "DepthScales",
    "EdgeOfChaos",
    "Origin",
    "PhaseDiagram",
    "Trajectory",
    "VarianceMap",
    "correlation_map",
    "critical_init",
    "decay_logarithm",
    "depth_scales",
    "edge_of_chaos",
    "origin",
    "phase_diagram",
    "second_term",
    "trajectory",
    "variance_map",
]
