"""Models of other libraries as callable PyTrees of one example."""

from .adapt import adapt
from .adapted import Adapted
from .aten import register_aten
from .checks import ADAPTED, demand_options, examples
from .replaced import replaced
from .torch import from_torch

__all__ = ["ADAPTED", "Adapted", "adapt", "demand_options", "examples", "from_torch", "register_aten", "replaced"]
