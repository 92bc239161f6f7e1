"""Models of other libraries as callable PyTrees of one example."""

from .adapt import adapt
from .adapted import Adapted

__all__ = ["Adapted", "adapt"]
