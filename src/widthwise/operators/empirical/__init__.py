"""The empirical NTK of any model within a limit of memory."""

from .ntk import empirical_kernel, entk, entk_plan
from .plan import Cost, Plan

__all__ = ["Cost", "Plan", "empirical_kernel", "entk", "entk_plan"]
