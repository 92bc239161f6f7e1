"""Poolings: averages and sums of neighbouring positions, and of all of them."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from widthwise.numerics import reject

from .conv import neighbourhoods
from .layer import AbstractLayer, Role, Shape
from .mixing import combined, flattened, total
from .pair import Pair
from .window import Counts, Window, check_padding, outputs, places, whole_numbers, windows


class Pool(AbstractLayer):
    r"""The average, or the sum, of the positions in a window: $x'_p = \frac1{|P|}\sum_{\delta \in P}x_{sp+\delta}$.

    $K'_{pp'} = \frac1{|P|^2}\sum_{\delta\delta'}K_{sp+\delta,sp'+\delta'}$, and $\Theta'$ likewise: all pairs of
    positions are needed. ``strides`` are those of the window unless given. With ``padding="SAME"`` the average still
    divides by all places of the window; ``normalise_edges=True`` divides by those inside.
    ``kind`` is ``"average"`` or ``"sum"``. There is no closed limit of a maximum.

    >>> Pool(2, strides=1)
    Pool(filter=2, strides=1)
    """

    filter: Counts = eqx.field(static=True)
    strides: Counts | None = eqx.field(static=True, default=None)
    padding: str = eqx.field(static=True, default="VALID")
    kind: str = eqx.field(static=True, default="average")
    normalise_edges: bool = eqx.field(static=True, default=False)
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        whole_numbers("filter", self.filter)
        if self.strides is not None:
            whole_numbers("strides", self.strides)
        check_padding(self.padding)
        _check_kind(self.kind)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        seen = self._windows(shape[:-1])
        return partial(self._pooled, seen), (*outputs(seen, shape[:-1]), shape[-1])

    def propagate(self, pair: Pair) -> Pair:
        pool = partial(self._pooled, self._windows(pair.positions))
        return combined(pair, pool, pool)

    def _windows(self, positions: tuple[int, ...]) -> tuple[Window, ...]:
        return windows(self, positions, self.filter if self.strides is None else self.strides)

    def _pooled(self, seen: tuple[Window, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Pool along the leading axes."""
        whole = total(neighbourhoods(x, seen))
        if self.kind == "sum":
            return whole
        if not self.normalise_edges:
            return whole / places(seen)
        count = total(neighbourhoods(jnp.ones(x.shape[: len(seen)], x.dtype), seen))
        return whole / jnp.expand_dims(count, tuple(range(count.ndim, x.ndim)))


class GlobalPool(AbstractLayer):
    r"""The average, or the sum, of all positions; what is left has none.

    $K' = \frac1{|P|^2}\sum_{pp'}K_{pp'}$ for the average, and $\Theta'$ likewise (Novak et al. 2019).

    >>> GlobalPool().kind
    'average'
    """

    kind: str = eqx.field(static=True, default="average")
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        _check_kind(self.kind)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        return Pooled(self.kind, len(shape) - 1), shape[-1:]

    def propagate(self, pair: Pair) -> Pair:
        demand_positions(self, pair.positions)
        pool = Pooled(self.kind, len(pair.positions))
        return combined(pair, pool, pool)


class Pooled(eqx.Module):
    """A pooling of the first axes, over the positions that are present if these are given."""

    kind: str = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."], present: Bool[Array, "*p"] | None = None) -> Float[Array, "..."]:
        axes = tuple(range(self.rank))
        if self.kind == "sum":
            return jnp.sum(x, axes)
        if present is None:
            return jnp.mean(x, axes)
        return jnp.sum(x, axes) / jnp.maximum(jnp.sum(present), 1).astype(x.dtype)


class Flatten(AbstractLayer):
    r"""All positions as one list of channels: $K' = \frac1{|P|}\sum_pK_{pp}$, and $\Theta'$ likewise.

    Only equal positions are needed, which makes networks that end so much cheaper than those with a pooling
    (Novak et al. 2019).

    >>> import jax
    >>> piece, shape = Flatten().sample(jax.random.key(0), (4, 4, 3))
    >>> shape
    (48,)
    """

    role: ClassVar[Role] = "linear"

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        return jnp.ravel, (math.prod(shape),)

    def propagate(self, pair: Pair) -> Pair:
        demand_positions(self, pair.positions)
        return flattened(pair)


def demand_positions(layer: AbstractLayer, positions: tuple[int, ...]) -> None:
    """Refuse flat inputs."""
    if not positions:
        reject(
            f"{layer!r} saw inputs without positions",
            "It acts on images (n, height, width, channels) or sequences (n, length, channels)",
            "Leave it out, or give the inputs positions",
        )


def _check_kind(kind: str) -> None:
    if kind in ("max", "maximum"):
        reject(
            "a pooling by the maximum",
            "The maximum of Gaussian signals has no closed kernel; averages and sums have",
            "Use kind='average', or MaxPool, whose kernel can be sampled",
        )
    if kind not in ("average", "sum"):
        reject(f"kind={kind!r}", "Known are average and sum", "Choose one of them")
