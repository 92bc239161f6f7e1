"""Activation functions and their Gaussian duals."""

from .activation import Activation
from .catalogue import ACTIVATIONS, activation, leaky_relu
from .dual import Dual, angle

__all__ = ["ACTIVATIONS", "Activation", "Dual", "activation", "angle", "leaky_relu"]
