"""Activation functions and their Gaussian duals."""

from .activation import Activation
from .catalogue import ACTIVATIONS, activation
from .closed import negative_slope
from .dual import Dual, angle, between, ratio, root, superpose
from .families import (
    error_function,
    exponential,
    gabor,
    gaussian,
    hermite,
    leaky_relu,
    monomial,
    polynomial,
    rbf,
    rectified_monomial,
    rectifier,
    sinusoid,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Dual",
    "activation",
    "angle",
    "between",
    "error_function",
    "exponential",
    "gabor",
    "gaussian",
    "hermite",
    "leaky_relu",
    "monomial",
    "negative_slope",
    "polynomial",
    "ratio",
    "rbf",
    "rectified_monomial",
    "rectifier",
    "root",
    "sinusoid",
    "superpose",
]
