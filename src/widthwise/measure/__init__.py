"""Instruments for any model: what is counted, trained, differentiated and compared, never predicted."""

from widthwise.numerics import Spectrum, spectrum

from .covariances import covariances_from, flat, hidden_sizes, layer_covariances
from .dynamics import Method
from .flow import Flow, FlowCode, gradient_flow
from .kernels import Deviation, WidthStudy, alignment, empirical_nngp, empirical_ntk, narrowed, width_study
from .lanczos import Quadrature, Tridiagonal, quadrature, top_eigenvalue, tridiagonalise
from .sampled import SampledKernels, sampled_kernel
from .sharpness import Risk, hessian_sharpness, ntk_quadrature, ntk_sharpness
from .signal import Signals, SignalStrength, signal_strength, signals, strength
from .training import DIVERGED, Run, moments, train

__all__ = [
    "DIVERGED",
    "Deviation",
    "Flow",
    "FlowCode",
    "Method",
    "Quadrature",
    "Risk",
    "Run",
    "SampledKernels",
    "SignalStrength",
    "Signals",
    "Spectrum",
    "Tridiagonal",
    "WidthStudy",
    "alignment",
    "covariances_from",
    "empirical_nngp",
    "empirical_ntk",
    "flat",
    "gradient_flow",
    "hessian_sharpness",
    "hidden_sizes",
    "layer_covariances",
    "moments",
    "narrowed",
    "ntk_quadrature",
    "ntk_sharpness",
    "quadrature",
    "sampled_kernel",
    "signal_strength",
    "signals",
    "spectrum",
    "strength",
    "top_eigenvalue",
    "train",
    "tridiagonalise",
    "width_study",
]
