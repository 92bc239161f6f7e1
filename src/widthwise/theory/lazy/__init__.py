"""Lazy training: when a network trains like its linearisation, and how near to it."""

from .descent import path_bound, residual_decay, risk_decay, travel_bound
from .euler import acceleration, arc_length, descend, euler_error_bound, length_bounds
from .function_space import output_velocity, risk_velocity
from .linearised import Steps, Tangent, tangent
from .rates import decay_rate, gronwall, network_pl, pl_constant, pl_decay, strongly_convex_decay
from .shallow import Shallow, draw_shallow, tangent_gram
from .shallow_limits import lazy_width, limit_gram, mean_initial_risk, singular_limits

__all__ = [
    "Shallow",
    "Steps",
    "Tangent",
    "acceleration",
    "arc_length",
    "decay_rate",
    "descend",
    "draw_shallow",
    "euler_error_bound",
    "gronwall",
    "lazy_width",
    "length_bounds",
    "limit_gram",
    "mean_initial_risk",
    "network_pl",
    "output_velocity",
    "path_bound",
    "pl_constant",
    "pl_decay",
    "residual_decay",
    "risk_decay",
    "risk_velocity",
    "singular_limits",
    "strongly_convex_decay",
    "tangent",
    "tangent_gram",
    "travel_bound",
]
