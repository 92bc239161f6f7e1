"""What does the theory of wide networks say about this network and this data, and is it so?"""

from ._version import __version__
from .activations import ACTIVATIONS, Activation, activation, leaky_relu
from .claims import AtLeast, AtMost, Claim, Equal, Mutant, Scaling, Status, Verdict, check, find
from .data import Dataset, load
from .networks import MLP, Apply, Chain, Dense, Kernels, Residual, kernel, sample
from .numerics import Estimate
from .operators import entk, gauss_newton, hessian, jacobian, ntk_operator, parameters
from .report import report

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "Apply",
    "AtLeast",
    "AtMost",
    "Chain",
    "Claim",
    "Dataset",
    "Dense",
    "Equal",
    "Estimate",
    "Kernels",
    "Mutant",
    "Residual",
    "Scaling",
    "Status",
    "Verdict",
    "__version__",
    "activation",
    "check",
    "entk",
    "find",
    "gauss_newton",
    "hessian",
    "jacobian",
    "kernel",
    "leaky_relu",
    "load",
    "ntk_operator",
    "parameters",
    "report",
    "sample",
]
