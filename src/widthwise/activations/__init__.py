"""Activation functions and their Gaussian duals."""

from .activation import Activation
from .catalogue import ACTIVATIONS, activation
from .dual import Dual, angle, superpose
from .families import (
    error_function,
    exponential,
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
    "error_function",
    "exponential",
    "gaussian",
    "hermite",
    "leaky_relu",
    "monomial",
    "polynomial",
    "rbf",
    "rectified_monomial",
    "rectifier",
    "sinusoid",
    "superpose",
]
