"""What PyTorch's operations compute, in JAX: one table, grouped by idea."""

from . import elementwise, layers, recurrent, shapes
from .registry import known, register_aten, unknown

__all__ = ["elementwise", "known", "layers", "recurrent", "register_aten", "shapes", "unknown"]
