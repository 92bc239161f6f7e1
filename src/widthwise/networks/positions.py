"""Layers that act on positions alone: slices, resizing, fixed mixtures, and embeddings of the position."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.numerics import nearest, reject

from .layer import AbstractLayer, Role, Shape
from .mixing import combined, picked
from .pair import Pair, add
from .pool import demand_positions

_METHODS = ("nearest", "linear", "cubic", "lanczos3", "lanczos5")


def _each(index: int | slice | tuple[int | slice, ...]) -> tuple[int | slice, ...]:
    return index if isinstance(index, tuple) else (index,)


class Slice(AbstractLayer):
    r"""Some of the positions, chosen by an index or a slice for each axis: $x' = x[\text{index}]$.

    An index takes its axis away. Raises ``ValueError`` for an index outside the positions it sees.

    >>> import jax
    >>> Slice((0, slice(1, 3))).sample(jax.random.key(0), (4, 5, 2))[1]
    (2, 2)
    """

    index: tuple[int | slice, ...] = eqx.field(static=True, converter=_each)
    role: ClassVar[Role] = "linear"

    def __check_init__(self):
        if not all(isinstance(one, int | slice) and not isinstance(one, bool) for one in self.index):
            reject(
                f"index={self.index!r}", "An index is a whole number or a slice for each axis", "Give for example (0,)"
            )

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return partial(_taken, self.index), (*self._left(shape[:-1]), shape[-1])

    def propagate(self, pair: Pair) -> Pair:
        self._left(pair.positions)
        return picked(pair, partial(_taken, self.index))

    def _left(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """The positions that are left."""
        demand_positions(self, positions)
        outside = len(self.index) > len(positions) or any(
            isinstance(one, int) and not -length <= one < length
            for one, length in zip(self.index, positions, strict=False)
        )
        left = () if outside else np.empty(positions)[self.index].shape
        if outside or 0 in left:
            reject(
                f"{self!r} saw positions of shape {positions}",
                "It must choose positions that exist, at least one",
                "Give indices within that shape",
            )
        return left


def _taken(index: tuple[int | slice, ...], values: Float[Array, "..."]) -> Float[Array, "..."]:
    return values[index]


class Resize(AbstractLayer):
    r"""Images or sequences interpolated to another number of positions, $x' = M x$ along every axis.

    ``method`` is that of ``jax.image.resize``; $K' = MKM^\top$ and $\Theta' = M\Theta M^\top$.
    Raises ``ValueError`` for counts below 1, an unknown method and another number of axes.

    >>> Resize((8, 8), "nearest").shape
    (8, 8)
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True, default="linear")
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        if not (
            isinstance(self.shape, tuple) and self.shape and all(type(one) is int and one >= 1 for one in self.shape)
        ):
            reject(f"shape={self.shape!r}", "A shape holds whole numbers of at least 1", "Give for example (16, 16)")
        if self.method not in _METHODS:
            came = f"method={self.method!r}{nearest(str(self.method), _METHODS)}"
            reject(came, f"Known are {', '.join(_METHODS)}", "Choose one of them")

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        self._demand(shape[:-1])
        return self._resized, (*self.shape, shape[-1])

    def propagate(self, pair: Pair) -> Pair:
        self._demand(pair.positions)
        return combined(pair, self._resized, self._resized)

    def _demand(self, positions: tuple[int, ...]) -> None:
        if len(positions) != len(self.shape):
            reject(
                f"{self!r} saw positions of shape {positions}",
                "The new shape needs one number for each axis of positions",
                "Give shape as many numbers as the inputs have axes of positions",
            )

    def _resized(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.image.resize(values, (*self.shape, *values.shape[len(self.shape) :]), self.method)


def _floats(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=float)


class Mix(AbstractLayer):
    r"""A fixed matrix along one axis of positions, $x'_o = \sum_pM_{op}x_p$: a contraction, or the edges of a graph.

    $K' = MKM^\top$ and $\Theta' = M\Theta M^\top$ along that axis. With the adjacency matrix of a graph it sums the
    neighbours of every node (Du et al. 2019). Raises ``ValueError`` for a matrix that is not finite or not
    two-dimensional, and for positions of another number than its columns.

    >>> Mix([[0.0, 1.0], [1.0, 0.0]]).matrix.shape
    (2, 2)
    """

    matrix: np.ndarray = eqx.field(converter=_floats)
    axis: int = eqx.field(static=True, default=0)
    role: ClassVar[Role] = "linear"

    def __check_init__(self):
        if self.matrix.ndim != 2 or 0 in self.matrix.shape or not np.all(np.isfinite(self.matrix)):
            reject(
                f"a matrix of shape {self.matrix.shape}",
                "It has finite entries, a row for each output and a column for each position",
                "Give for example the adjacency matrix of a graph",
            )

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        self._demand(shape[:-1])
        out = list(shape)
        out[self.axis] = len(self.matrix)
        return _mixing(self.matrix, self.axis), tuple(out)

    def propagate(self, pair: Pair) -> Pair:
        self._demand(pair.positions)
        mix = _mixing(self.matrix, self.axis)
        return combined(pair, mix, mix)

    def _demand(self, positions: tuple[int, ...]) -> None:
        if not 0 <= self.axis < len(positions) or positions[self.axis] != self.matrix.shape[1]:
            reject(
                f"a {type(self).__name__} of {self.matrix.shape[1]} positions along axis {self.axis} "
                f"saw positions of shape {positions}",
                "The matrix needs a column for each position along its axis",
                "Give another matrix or axis",
            )


def _mixing(matrix: np.ndarray | Array, axis: int) -> Callable:
    """Multiplication by a matrix along an axis; a function, so that the matrix is no parameter of a finite network."""

    def mixed(values: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix, values.dtype), values, axes=(1, axis)), 0, axis)

    return mixed


class PositionalEmbedding(AbstractLayer):
    r"""A random signal for each position, the same for all inputs, added to them: $x'_p = x_p + e_p$.

    $e$ is Gaussian with $E[e_pe_{p'}] = s\,e^{-|p-p'|^2/\ell^2}$, variance s and ``length`` $\ell$ in steps between
    positions (0: independent), so $K' = K + R$; if ``trained``, in the NTK parameterisation, also
    $\Theta' = \Theta + R$ (Hron et al. 2020). Raises ``ValueError`` for a variance or a length below zero.

    >>> PositionalEmbedding(0.5, length=2.0).trained
    True
    """

    variance: float = 1.0
    length: float = 0.0
    trained: bool = eqx.field(static=True, default=True)

    def __post_init__(self):
        for name in ("variance", "length"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                reject(f"{name}={value!r}", "It is a finite number of at least 0", f"Give for example {name}=1.0")

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        distance = squared_distances(shape[:-1])
        values, vectors = np.linalg.eigh(self.variance * correlations(distance, self.length))
        draws = jr.normal(key, (len(distance), shape[-1]))
        return Embedded(draws, _mixing(vectors * np.sqrt(np.maximum(values, 0.0)), 0), self.trained), shape

    def propagate(self, pair: Pair) -> Pair:
        demand_positions(self, pair.positions)
        distance = squared_distances(pair.positions)
        if not pair.crossed:
            distance = np.diagonal(distance)
        gap = jnp.asarray(-np.expm1(-distance / self.length**2) if self.length else (distance > 0).astype(float))
        gap = gap.reshape(pair.gap.shape).astype(pair.gap.dtype)
        level = jnp.full_like(pair.xx, self.variance)
        embedding = replace(pair, xx=level, yy=level, gap=gap, cogap=2.0 - gap, error=0.0 * pair.error, within=None)
        return add(pair, replace(embedding, ntk=embedding.xy if self.trained else 0.0 * gap, gaussian=True))


class Embedded(eqx.Module):
    """A finite embedding of the positions, with trainable normal draws (P, channels) or fixed ones."""

    draws: Float[Array, "P c"]
    mixing: Callable
    trained: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p c"]) -> Float[Array, "*p c"]:
        draws = self.draws if self.trained else jax.lax.stop_gradient(self.draws)
        return x + self.mixing(draws).reshape(x.shape)


def squared_distances(positions: tuple[int, ...]) -> Float[np.ndarray, "P P"]:
    """The squared distances of all positions, in steps."""
    places = np.stack(np.meshgrid(*map(np.arange, positions), indexing="ij"), axis=-1).reshape(-1, len(positions))
    return np.sum((places[:, None] - places[None]) ** 2.0, axis=2)


def correlations(distance: Float[np.ndarray, "P P"], length: float) -> Float[np.ndarray, "P P"]:
    """The correlations of embeddings at these squared distances."""
    return np.exp(-distance / length**2) if length else (distance == 0).astype(float)
