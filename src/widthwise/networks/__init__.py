"""Networks: layers that can be sampled and propagated, and the kernels of their infinite width."""

from .apply import Apply
from .builders import MLP, sample
from .chain import Chain, Composed, Residual, Shortcut
from .dense import Affine, Dense
from .expression import parse_network
from .kernel import Kernels, kernel
from .layer import AbstractLayer
from .pair import Pair
from .profile import Profile, compile_profile

__all__ = [
    "MLP",
    "AbstractLayer",
    "Affine",
    "Apply",
    "Chain",
    "Composed",
    "Dense",
    "Kernels",
    "Pair",
    "Profile",
    "Residual",
    "Shortcut",
    "compile_profile",
    "kernel",
    "parse_network",
    "sample",
]
