"""One network for every layer on images, sequences and graphs, with a readout of one output."""

import numpy as np

from widthwise.networks import (
    Apply,
    Attention,
    Chain,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Homogeneous,
    LayerNorm,
    Mix,
    Parallel,
    Pool,
    PositionalEmbedding,
    Residual,
    Resize,
    RMSNorm,
    Scale,
    Slice,
)


def conv(**options) -> Conv:
    return Conv((3,), 1.5, 0.1, **options)


READOUT = (Flatten(), Dense(size=1))
GRAPH = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]) / 2.0

# Inputs are sequences of 5 positions and 2 channels.
NETWORKS = {
    "same": Chain((conv(), Apply("relu"), conv(), Apply("erf"), *READOUT)),
    "global average": Chain((conv(), Apply("relu"), GlobalPool(), Dense(size=1))),
    "global sum": Chain((conv(), Apply("gelu"), GlobalPool("sum"), Scale(0.2), Dense(size=1))),
    "circular": Chain((conv(padding="CIRCULAR"), Apply("relu"), GlobalPool(), Dense(size=1))),
    "valid, strides": Chain((conv(padding="VALID", strides=2), Apply("tanh"), *READOUT)),
    "dilation": Chain((conv(dilation=2), Apply("relu"), *READOUT)),
    "transposed": Chain((Conv((3,), 3.0, 0.1, strides=2, transposed=True), Apply("relu"), GlobalPool(), Dense(size=1))),
    "transposed, valid": Chain(
        (Conv((2,), 3.0, 0.1, strides=3, transposed=True, padding="VALID"), Apply("relu"), *READOUT)
    ),
    "transposed, circular": Chain(
        (Conv((4,), 3.0, 0.1, strides=2, transposed=True, padding="CIRCULAR"), Apply("relu"), *READOUT)
    ),
    "locally connected": Chain((conv(shared=False), Apply("relu"), conv(), Apply("relu"), GlobalPool(), Dense(size=1))),
    "pool": Chain((conv(), Pool((2,)), Apply("relu"), Pool((3,), 1, "SAME"), conv(), Apply("relu"), *READOUT)),
    "pool, edges": Chain(
        (conv(), Apply("relu"), Pool((3,), 1, "SAME", "average", normalise_edges=True), conv(), Apply("relu"), *READOUT)
    ),
    "pool, sum": Chain((conv(), Apply("relu"), Pool((2,), kind="sum"), Scale(0.5), conv(), Apply("erf"), *READOUT)),
    "residual": Chain(
        (conv(), Residual(Chain((Apply("relu"), conv())), 0.7), Apply("relu"), GlobalPool(), Dense(size=1))
    ),
    "sum": Chain((Parallel((conv(), Chain((conv(), Apply("relu"), conv())))), Apply("relu"), *READOUT)),
    "concatenate": Chain(
        (Parallel((conv(size=192), conv(size=96)), "concatenate"), Apply("relu"), conv(), Apply("relu"), *READOUT)
    ),
    "product": Chain((Parallel((conv(), conv()), "product"), conv(), Apply("relu"), *READOUT)),
    "layer norm": Chain(
        (conv(), LayerNorm(), Apply("relu"), conv(), LayerNorm(), Apply("erf"), GlobalPool(), Dense(size=1))
    ),
    "layer norm, activation": Chain(
        (conv(), Apply("relu"), LayerNorm(), conv(), Apply("softplus"), LayerNorm(), GlobalPool(), Dense(size=1))
    ),
    "rms norm": Chain((conv(), Apply("relu"), RMSNorm(), conv(), Apply("relu"), *READOUT)),
    "homogeneous": Chain((conv(), Homogeneous("gelu"), conv(), Apply("relu"), *READOUT)),
    "attention, linear": Chain(
        (conv(), Attention("softmax", "linear", 1.2, 1.1, 0.9, 1.3, 0.1), Apply("relu"), *READOUT)
    ),
    "attention, identity": Chain((conv(), Attention("identity", "root", 0.5, 0.6, 0.7), GlobalPool(), Dense(size=1))),
    "attention, relu": Chain((conv(), Attention("relu", "root", 0.5, 0.6, 0.7, 1.1, 0.1), Apply("relu"), *READOUT)),
    "position": Chain((conv(), PositionalEmbedding(0.5, 2.0), Apply("relu"), GlobalPool(), Dense(size=1))),
    "position, fixed": Chain((conv(), PositionalEmbedding(0.5, trained=False), Apply("relu"), *READOUT)),
    "resize": Chain((conv(), Resize((8,)), Apply("relu"), *READOUT)),
    "slice": Chain((conv(), Slice(slice(1, 4)), Apply("relu"), Slice(0), Dense(size=1))),
    "graph": Chain(
        (Dense(1.5, 0.1), Mix(GRAPH), Apply("relu"), Dense(1.5), Mix(GRAPH), Apply("relu"), GlobalPool(), Dense(size=1))
    ),
    "standard": Chain(
        (
            conv(size=192, parameterisation="standard"),
            Apply("relu"),
            conv(size=192, parameterisation="standard"),
            Apply("relu"),
            Flatten(),
            Dense(size=1, parameterisation="standard"),
        )
    ),
    "rates": Chain(
        (
            conv(weight_rate=0.5, bias_rate=0.0),
            Apply("relu"),
            conv(weight_rate=0.0, bias_rate=3.0),
            Apply("erf"),
            *READOUT,
        )
    ),
}
IMAGES = {
    "image": Chain((Conv((3, 2), 1.5, 0.1), Apply("relu"), Pool((2, 2)), Conv((2, 2), 2.0), Apply("relu"), *READOUT)),
    "image, strides": Chain((Conv((2, 3), 1.5, 0.1, strides=(1, 2)), Apply("erf"), GlobalPool(), Dense(size=1))),
    "image, attention": Chain((Conv((1, 1)), Attention(), Apply("relu"), Resize((3, 2)), *READOUT)),
    "image, slice": Chain((Conv((2, 2)), Slice((0, slice(0, 2))), Apply("relu"), Conv((2,)), Apply("relu"), *READOUT)),
}


def inputs(name: str, count: int = 3, seed: int = 0) -> np.ndarray:
    """Inputs for a network by its name."""
    shape = (4, 4, 2) if name in IMAGES else (5, 2)
    return np.random.default_rng(seed).normal(size=(count, *shape))


ALL = {**NETWORKS, **IMAGES}
EVERY_LAYER = (Dropout, *{type(layer) for network in ALL.values() for layer in network.layers})
