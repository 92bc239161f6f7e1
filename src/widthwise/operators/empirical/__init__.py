"""The empirical NTK of any model within a limit of memory."""

from .intermediates import Steps, intermediates, steps
from .ntk import empirical_kernel, entk, entk_plan
from .plan import Cost, Plan

__all__ = ["Cost", "Plan", "Steps", "empirical_kernel", "entk", "entk_plan", "intermediates", "steps"]
