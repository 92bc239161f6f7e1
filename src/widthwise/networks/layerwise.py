"""What each layer's own parameters contribute to the neural tangent kernel."""

from dataclasses import replace

import jax
import numpy as np
from numpy.typing import ArrayLike

from .conv import Conv
from .dense import Dense
from .kernel import kernel
from .layer import AbstractLayer, check_network


def ntk_by_layer(
    network: AbstractLayer, X: ArrayLike, Y: ArrayLike | None = None, **options
) -> tuple[tuple[str, np.ndarray], ...]:
    r"""The NTK split by layers, $\Theta = \sum_l\Theta_l$, with $\Theta_l$ the kernel when layer l alone is trained.

    For each Dense and Conv in their order a description and its part (n, m), rates included; parts of other layers
    with parameters (attention, embeddings) come last, together, under the name ``"others"``. The inputs and the options
    are those of `kernel`, and so are the errors raised.

    >>> from widthwise.networks import MLP
    >>> network = MLP(depth=1, activation="relu").network()
    >>> [(name, part.tolist()) for name, part in ntk_by_layer(network, [[1.0, 1.0]])]
    [('Dense(weight_variance=2.0, size=256)', [[1.0]]), ('Dense(size=1)', [[1.0]])]
    """
    check_network(network)
    count = len(_weighted(network))
    parts = [_only(network, place) for place in range(count)]
    others = kernel(_only(network, None), X, Y, **options).ntk
    found = [kernel(part, X, Y, **options).ntk - others for part in parts]
    named = [(repr(layer), part) for layer, part in zip(_weighted(network), found, strict=True)]
    return (*named, ("others", others)) if np.any(others) else tuple(named)


def _is_weighted(node) -> bool:
    return isinstance(node, Dense | Conv)


def _weighted(network: AbstractLayer) -> list[Dense | Conv]:
    return [leaf for leaf in jax.tree.leaves(network, is_leaf=_is_weighted) if isinstance(leaf, Dense | Conv)]


def _only(network: AbstractLayer, place: int | None) -> AbstractLayer:
    """The network with every Dense and Conv frozen but the one at this place."""
    places = iter(range(len(_weighted(network))))

    def frozen(leaf):
        if not _is_weighted(leaf) or next(places) == place:
            return leaf
        return replace(leaf, weight_rate=0.0, bias_rate=0.0)

    return jax.tree.map(frozen, network, is_leaf=_is_weighted)
