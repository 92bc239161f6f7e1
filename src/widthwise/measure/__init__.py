"""Instruments for any model: what is counted, trained, differentiated and compared, never predicted."""

from .covariances import covariances_from, flat, hidden_sizes, layer_covariances
from .dynamics import Method
from .eigenpairs import Eigenpairs, top_eigenpairs
from .flow import gradient_flow, tangent_flow
from .flow_result import Flow, FlowCode
from .kernels import Deviation, WidthStudy, alignment, empirical_nngp, empirical_ntk, narrowed, width_study
from .lanczos import (
    Quadrature,
    Tridiagonal,
    drawn_trace,
    extreme_eigenvalues,
    quadrature,
    top_eigenvalue,
    top_pair,
    tridiagonalise,
)
from .ntk_spectrum import (
    NTKSpectrum,
    SpectralDensity,
    ntk_condition,
    ntk_density,
    ntk_eigenpairs,
    ntk_solve,
    ntk_spectrum,
    ntk_trace,
)
from .objective import Objective
from .propagated import Propagated, propagated
from .recorder import KernelRecorder
from .regime import LAZY, RICH, LazyOrRich, Moved, lazy_or_rich
from .rescaled import Rescaled, rescaled
from .sampled import SampledKernels, sampled_kernel
from .sharpness import Risk, hessian_sharpness, ntk_quadrature, ntk_sharpness
from .signal import Signals, SignalStrength, signal_strength, signals, strength
from .stability import StabilityMonitor
from .stable_rate import StableRate, stable_rate
from .taps import Seen, Tap, Taps, find_taps, read_taps
from .traced import Inside, Trace, TracedLayer, parameter_names, trace
from .training import DIVERGED, Run, moments, train
from .width_inputs import Optimizer, adapted_models, demand_data, loss_for, made
from .widths import SizedTap, WidthRuns, role_of, train_widths, trained_tree

__all__ = [
    "DIVERGED",
    "LAZY",
    "RICH",
    "Deviation",
    "Eigenpairs",
    "Flow",
    "FlowCode",
    "Inside",
    "KernelRecorder",
    "LazyOrRich",
    "Method",
    "Moved",
    "NTKSpectrum",
    "Objective",
    "Optimizer",
    "Propagated",
    "Quadrature",
    "Rescaled",
    "Risk",
    "Run",
    "SampledKernels",
    "Seen",
    "SignalStrength",
    "Signals",
    "SizedTap",
    "SpectralDensity",
    "StabilityMonitor",
    "StableRate",
    "Tap",
    "Taps",
    "Trace",
    "TracedLayer",
    "Tridiagonal",
    "WidthRuns",
    "WidthStudy",
    "adapted_models",
    "alignment",
    "covariances_from",
    "demand_data",
    "drawn_trace",
    "empirical_nngp",
    "empirical_ntk",
    "extreme_eigenvalues",
    "find_taps",
    "flat",
    "gradient_flow",
    "hessian_sharpness",
    "hidden_sizes",
    "layer_covariances",
    "lazy_or_rich",
    "loss_for",
    "made",
    "moments",
    "narrowed",
    "ntk_condition",
    "ntk_density",
    "ntk_eigenpairs",
    "ntk_quadrature",
    "ntk_sharpness",
    "ntk_solve",
    "ntk_spectrum",
    "ntk_trace",
    "parameter_names",
    "propagated",
    "quadrature",
    "read_taps",
    "rescaled",
    "role_of",
    "sampled_kernel",
    "signal_strength",
    "signals",
    "stable_rate",
    "strength",
    "tangent_flow",
    "top_eigenpairs",
    "top_eigenvalue",
    "top_pair",
    "trace",
    "train",
    "train_widths",
    "trained_tree",
    "tridiagonalise",
    "width_study",
]
