"""Linear operators of any model: Jacobian, empirical NTK, Hessian, Gauss-Newton."""

from .linear import entk, gauss_newton, hessian, jacobian, jacobian_matrix, ntk_operator
from .parameters import flatten, parameters

__all__ = [
    "entk",
    "flatten",
    "gauss_newton",
    "hessian",
    "jacobian",
    "jacobian_matrix",
    "ntk_operator",
    "parameters",
]
