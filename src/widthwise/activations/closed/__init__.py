"""Closed-form duals: functions (xx, yy, gap, cogap) -> Dual, exact to rounding, and ways to combine them."""

from .combine import constant, scaled, stretched, summed
from .error_function import erf
from .gelu import gelu
from .polynomials import hermite, polynomial
from .rectifiers import linear, negative_slope, rectified_power, rectifier, sign
from .waves import bump, cosine, exponential, fourier, packet, sine

__all__ = [
    "bump",
    "constant",
    "cosine",
    "erf",
    "exponential",
    "fourier",
    "gelu",
    "hermite",
    "linear",
    "negative_slope",
    "packet",
    "polynomial",
    "rectified_power",
    "rectifier",
    "scaled",
    "sign",
    "sine",
    "stretched",
    "summed",
]
