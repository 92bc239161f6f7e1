"""Networks: layers that can be sampled and propagated, and the kernels of their infinite width."""

from .apply import Apply, Homogeneous
from .attention import Attention
from .builders import MLP, check_key, sample
from .chain import Chain, Composed, Residual, Shortcut
from .combine import Dropout, Parallel, Scale
from .conv import Conv
from .dense import Affine, Dense, check_count
from .differentiable import pair_kernel
from .expression import parse_network
from .inputs import check_inputs
from .kernel import Kernels, kernel
from .layer import AbstractLayer, check_network
from .layerwise import ntk_by_layer
from .norm import LayerNorm, RMSNorm
from .padded import Padded
from .pair import Pair
from .pool import Flatten, GlobalPool, Pool
from .positions import Mix, PositionalEmbedding, Resize, Slice
from .profile import Profile, compile_profile
from .unsolved import BatchNorm, MaxPool

__all__ = [
    "MLP",
    "AbstractLayer",
    "Affine",
    "Apply",
    "Attention",
    "BatchNorm",
    "Chain",
    "Composed",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Homogeneous",
    "Kernels",
    "LayerNorm",
    "MaxPool",
    "Mix",
    "Padded",
    "Pair",
    "Parallel",
    "Pool",
    "PositionalEmbedding",
    "Profile",
    "RMSNorm",
    "Residual",
    "Resize",
    "Scale",
    "Shortcut",
    "Slice",
    "check_count",
    "check_inputs",
    "check_key",
    "check_network",
    "compile_profile",
    "kernel",
    "ntk_by_layer",
    "pair_kernel",
    "parse_network",
    "sample",
]
