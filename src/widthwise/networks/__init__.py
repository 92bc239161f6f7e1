"""Networks: layers that can be sampled and propagated, and the kernels of their infinite width."""

from .apply import Apply
from .attention import Attention
from .builders import MLP, sample
from .chain import Chain, Composed, Residual, Shortcut
from .combine import Dropout, Parallel, Scale
from .conv import Conv
from .dense import Affine, Dense
from .expression import parse_network
from .kernel import Kernels, kernel
from .layer import AbstractLayer
from .norm import LayerNorm, RMSNorm
from .pair import Pair
from .pool import Flatten, GlobalPool, Pool
from .positions import Mix, PositionalEmbedding, Resize, Slice

__all__ = [
    "MLP",
    "AbstractLayer",
    "Affine",
    "Apply",
    "Attention",
    "Chain",
    "Composed",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Kernels",
    "LayerNorm",
    "Mix",
    "Pair",
    "Parallel",
    "Pool",
    "PositionalEmbedding",
    "RMSNorm",
    "Residual",
    "Resize",
    "Scale",
    "Shortcut",
    "Slice",
    "kernel",
    "parse_network",
    "sample",
]
