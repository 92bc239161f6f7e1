"""Linear operators of any model: Jacobian, empirical NTK, Hessian, Gauss-Newton."""

from .adapters import ADAPTED, Adapted, adapt, demand_options, examples, from_torch, register_aten, replaced
from .attribution import Influence, influence, projected_influence
from .empirical import Cost, Plan, Steps, empirical_kernel, entk, entk_plan, intermediates, steps
from .features import ProjectedGradients, projected_gradients
from .jaxprs import evaluated, walked
from .linear import gauss_newton, hessian, jacobian, jacobian_matrix, ntk_operator
from .parameters import Frozen, flatten, parameters
from .taylor import Taylor, linearization_gap, linearize, taylor
from .trained import LinearTraining, linear_training, trained_linearized

__all__ = [
    "ADAPTED",
    "Adapted",
    "Cost",
    "Frozen",
    "Influence",
    "LinearTraining",
    "Plan",
    "ProjectedGradients",
    "Steps",
    "Taylor",
    "adapt",
    "demand_options",
    "empirical_kernel",
    "entk",
    "entk_plan",
    "evaluated",
    "examples",
    "flatten",
    "from_torch",
    "gauss_newton",
    "hessian",
    "influence",
    "intermediates",
    "jacobian",
    "jacobian_matrix",
    "linear_training",
    "linearization_gap",
    "linearize",
    "ntk_operator",
    "parameters",
    "projected_gradients",
    "projected_influence",
    "register_aten",
    "replaced",
    "steps",
    "taylor",
    "trained_linearized",
    "walked",
]
