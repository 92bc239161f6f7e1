"""Linear operators of any model: Jacobian, empirical NTK, Hessian, Gauss-Newton."""

from .adapters import adapt, from_torch, register_aten
from .empirical import Cost, Plan, empirical_kernel, entk, entk_plan
from .linear import gauss_newton, hessian, jacobian, jacobian_matrix, ntk_operator
from .parameters import Frozen, flatten, parameters

__all__ = [
    "Cost",
    "Frozen",
    "Plan",
    "adapt",
    "empirical_kernel",
    "entk",
    "entk_plan",
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
