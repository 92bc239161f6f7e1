"""Kernels of finite networks near their limits: how near, and how far the limits are from being singular."""

from .alignment import Alignment, align
from .bernstein import Bernstein, bernstein
from .definiteness import Definiteness, positive_definite
from .deviation import KernelDeviation, kernel_deviation
from .expansion import Expansion, expand, hermite_coefficients
from .kernels import hidden_kernel, limit_kernel, readout_kernel
from .structure import Structure, structure
from .universality import Interpolant, SliceApproximation, approximate_on_slice, interpolate, on_slice

__all__ = [
    "Alignment",
    "Bernstein",
    "Definiteness",
    "Expansion",
    "Interpolant",
    "KernelDeviation",
    "SliceApproximation",
    "Structure",
    "align",
    "approximate_on_slice",
    "bernstein",
    "expand",
    "hermite_coefficients",
    "hidden_kernel",
    "interpolate",
    "kernel_deviation",
    "limit_kernel",
    "on_slice",
    "positive_definite",
    "readout_kernel",
    "structure",
]
