"""Linear operators of any model: Jacobian, empirical NTK, Hessian, Gauss-Newton."""

from .adapters import adapt, from_torch, register_aten
from .linear import entk, gauss_newton, hessian, jacobian, jacobian_matrix, ntk_operator
from .parameters import Frozen, flatten, parameters

__all__ = [
    "Frozen",
    "adapt",
    "entk",
    "flatten",
    "from_torch",
    "gauss_newton",
    "hessian",
    "jacobian",
    "jacobian_matrix",
    "ntk_operator",
    "parameters",
    "register_aten",
]
