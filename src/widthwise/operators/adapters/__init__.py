"""Models of other libraries as callable PyTrees of one example."""

from .adapt import adapt
from .adapted import Adapted
from .aten import register_aten
from .replaced import replaced
from .torch import from_torch

__all__ = ["Adapted", "adapt", "from_torch", "register_aten", "replaced"]
