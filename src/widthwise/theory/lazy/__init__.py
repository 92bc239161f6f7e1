"""Lazy training: when a network trains like its linearisation, and how near to it."""

from .bounds import AbstractBounds, BallBounds, TheoremBounds
from .certificates import Certificate, certify, certify_theorem
from .checkpoints import certify_from, laziness_along
from .comparison import Comparison, compare
from .curvature import attack, difference_quotient, estimate_smoothness
from .deep import certified_smoothness
from .descent import path_bound, residual_decay, risk_decay, travel_bound
from .drift import certify_drift
from .euler import acceleration, arc_length, descend, euler_error_bound, length_bounds
from .function_space import output_velocity, risk_velocity
from .influence import cross_entropy_slopes, output_step
from .linearised import Tangent, tangent
from .lipschitz import Smoothness
from .monitor import CertificateMonitor, Checkpoint
from .problem import LazyProblem, Probe, model_problem, shallow_problem
from .rates import decay_rate, gronwall, network_pl, pl_constant, pl_decay, strongly_convex_decay
from .reference import reference_problem, sweep
from .shallow import Shallow, draw_shallow, tangent_gram
from .shallow_limits import lazy_width, limit_gram, mean_initial_risk, singular_limits
from .spectral import SpectralBounds, certify_spectrum
from .steps import DescentBounds, DescentCertificate, certify_descent, largest_step
from .steps_claims import Descended, Descent, descended
from .stochastic import StochasticBounds, StochasticCertificate, certify_sgd
from .stochastic_claims import Walks, walk
from .tangency import Tangency
from .trajectory import Trajectory, follow

__all__ = [
    "AbstractBounds",
    "BallBounds",
    "Certificate",
    "CertificateMonitor",
    "Checkpoint",
    "Comparison",
    "Descended",
    "Descent",
    "DescentBounds",
    "DescentCertificate",
    "LazyProblem",
    "Probe",
    "Shallow",
    "Smoothness",
    "SpectralBounds",
    "StochasticBounds",
    "StochasticCertificate",
    "Tangency",
    "Tangent",
    "TheoremBounds",
    "Trajectory",
    "Walks",
    "acceleration",
    "arc_length",
    "attack",
    "certified_smoothness",
    "certify",
    "certify_descent",
    "certify_drift",
    "certify_from",
    "certify_sgd",
    "certify_spectrum",
    "certify_theorem",
    "compare",
    "cross_entropy_slopes",
    "decay_rate",
    "descend",
    "descended",
    "difference_quotient",
    "draw_shallow",
    "estimate_smoothness",
    "euler_error_bound",
    "follow",
    "gronwall",
    "largest_step",
    "laziness_along",
    "lazy_width",
    "length_bounds",
    "limit_gram",
    "mean_initial_risk",
    "model_problem",
    "network_pl",
    "output_step",
    "output_velocity",
    "path_bound",
    "pl_constant",
    "pl_decay",
    "reference_problem",
    "residual_decay",
    "risk_decay",
    "risk_velocity",
    "shallow_problem",
    "singular_limits",
    "strongly_convex_decay",
    "sweep",
    "tangent",
    "tangent_gram",
    "travel_bound",
    "walk",
]
