r"""How a step uses a parameter: as sums of products $\partial f/\partial W = \sum_s a_s\, g_s^\top$ in blocks.

Legend: of one example, $a$ are what the step reads beside the parameter, $A$ of shape (b, s, i), and $g$ the
derivatives of an output by what the step makes, $G$ of shape (b, s, o): b blocks that share nothing (groups of
channels, heads), s positions, at each of which the block's matrix (i, o) is used once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_MOST_OFFSETS = 512  # entries of a filter: each is a slice of its own


@dataclass(frozen=True)
class Move:
    """A step that moves or selects the entries of one array."""

    primitive: Any
    words: tuple[tuple[str, Any], ...]

    def __call__(self, array: Array) -> Array:
        return self.primitive.bind(array, **dict(self.words))


@dataclass(frozen=True)
class Origin:
    """Entries of one parameter, moved, selected and scaled; ``stacked``: after so many moves, a row for each round.

    ``spread``: then repeated along all axes but these.
    """

    leaf: int
    moves: tuple[Move, ...] = ()
    scale: float = 1.0
    stacked: int | None = None
    spread: tuple[int, ...] | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """Which entries, and where they are."""
        return self.leaf, self.moves, self.stacked

    def moved(self, primitive: Any, words: dict[str, Any]) -> "Origin":
        return replace(self, moves=(*self.moves, Move(primitive, tuple(sorted(words.items())))))

    def in_rounds(self) -> "Origin":
        return replace(self, stacked=len(self.moves))

    def selected(self, leaf: Array) -> Array:
        """The entries, without their scale."""
        outer = len(self.moves) if self.stacked is None else self.stacked
        found = _moved(self.moves[:outer], leaf)
        return found if self.stacked is None else jax.vmap(lambda row: _moved(self.moves[outer:], row))(found)

    def returned(self, gradient: Array, leaf: jax.ShapeDtypeStruct) -> Array:
        """The gradient by the parameter, from that by the entries without their scale."""
        (back,) = jax.linear_transpose(self.selected, leaf)(gradient)
        return back


def _moved(moves: Sequence[Move], array: Array) -> Array:
    for move in moves:
        array = move(array)
    return array


@dataclass(frozen=True)
class Product:
    """A product of what varies with a matrix, over any axes; ``blocks`` are axes that both share."""

    x_blocks: tuple[int, ...]
    x_summed: tuple[int, ...]
    w_blocks: tuple[int, ...]
    w_summed: tuple[int, ...]
    w_shape: tuple[int, ...]
    x_first: bool

    def left(self, x: Array) -> Float[Array, "b s i"]:
        free = _others(x.ndim, self.x_blocks, self.x_summed)
        moved = jnp.transpose(x, (*self.x_blocks, *free, *self.x_summed))
        return moved.reshape(*_sizes(x.shape, self.x_blocks, free, self.x_summed))

    def right(self, z: Array) -> Float[Array, "b s o"]:
        shared, made = len(self.x_blocks), len(self._made)
        axes = [*range(z.ndim)]
        first = z.ndim - made if self.x_first else shared
        own = axes[first : first + made]
        others = [axis for axis in axes[shared:] if axis not in own]
        return jnp.transpose(z, (*axes[:shared], *others, *own)).reshape(*_sizes(z.shape, axes[:shared], others, own))

    def weight(self, matrix: Float[Array, "b i o"]) -> Array:
        """The blocks as an array of the parameter's shape."""
        axes = (*self.w_blocks, *self.w_summed, *self._made)
        return jnp.transpose(matrix.reshape([self.w_shape[axis] for axis in axes]), _inverse(axes))

    def own_axes(self, count: int) -> set[int]:
        """The axes of the output, of so many, that are blocks and what a block makes."""
        shared, made = len(self.x_blocks), len(self._made)
        first = count - made if self.x_first else shared
        return {*range(shared), *range(first, first + made)}

    @property
    def _made(self) -> tuple[int, ...]:
        return _others(len(self.w_shape), self.w_blocks, self.w_summed)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers b, i and o."""
        b, i, o = _sizes(self.w_shape, self.w_blocks, self.w_summed, self._made)
        return b, i, o


@dataclass(frozen=True)
class Convolution:
    """A convolution with a filter: at each position a product of the patch around it with a matrix."""

    numbers: Any
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    x_dilation: tuple[int, ...]
    w_dilation: tuple[int, ...]
    groups: int
    w_shape: tuple[int, ...]

    def own_axes(self, _: int) -> set[int]:
        """The axis of the output with its channels."""
        return {self.numbers.out_spec[1]}

    @property
    def filter(self) -> tuple[int, ...]:
        return tuple(self.w_shape[axis] for axis in self.numbers.rhs_spec[2:])

    def left(self, x: Array) -> Float[Array, "b s i"]:
        x = jnp.moveaxis(jnp.transpose(x, self.numbers.lhs_spec), 1, -1)
        borders = [(low, high, apart - 1) for (low, high), apart in zip(self.padding, self.x_dilation, strict=True)]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
        patches = jnp.stack([self._shifted(x, offset) for offset in np.ndindex(self.filter)], axis=-2)
        offsets, channels = patches.shape[-2:]
        apart = patches.reshape(-1, offsets, self.groups, channels // self.groups)
        return jnp.transpose(apart, (2, 0, 1, 3)).reshape(self.groups, len(apart), -1)

    def _shifted(self, x: Array, offset: tuple[int, ...]) -> Array:
        starts, limits = [0], [x.shape[0]]
        each = zip(offset, self.filter, self.w_dilation, self.strides, x.shape[1:-1], strict=True)
        for at, length, apart, stride, size in each:
            places = (size - (length - 1) * apart - 1) // stride
            starts.append(at * apart)
            limits.append(at * apart + places * stride + 1)
        return jax.lax.slice(x, (*starts, 0), (*limits, x.shape[-1]), (1, *self.strides, 1))

    def right(self, z: Array) -> Float[Array, "b s o"]:
        z = jnp.moveaxis(jnp.transpose(z, self.numbers.out_spec), 1, -1)
        return jnp.moveaxis(z.reshape(-1, self.groups, z.shape[-1] // self.groups), 1, 0)

    def weight(self, matrix: Float[Array, "b i o"]) -> Array:
        """The blocks as an array of the filter's shape."""
        b, _, o = matrix.shape
        apart = matrix.reshape(b, math.prod(self.filter), -1, o)
        filters = jnp.transpose(apart, (0, 3, 2, 1)).reshape(b * o, -1, *self.filter)
        return jnp.transpose(filters, _inverse(self.numbers.rhs_spec))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers b, i and o."""
        made = self.w_shape[self.numbers.rhs_spec[0]] // self.groups
        return self.groups, math.prod(self.w_shape) // (made * self.groups), made


@dataclass(frozen=True)
class Lookup:
    """Rows of a table by their numbers: a product with rows of zeros and a one, of which only the place is kept."""

    w_shape: tuple[int, ...]
    clipped: bool

    def left(self, x: Array) -> Array:
        last, bits = self.w_shape[0] - 1, jnp.iinfo(x.dtype)
        # Numbers of few bits have no place for -1 or for the number of rows.
        numbers = jnp.clip(x.reshape(1, -1), max(bits.min, -1), min(bits.max, last + 1)).astype("int32")
        if self.clipped:
            return jnp.clip(numbers, 0, last)
        return jnp.where((numbers < 0) | (numbers > last), -1, numbers)  # -1: no row, and no gradient

    def right(self, z: Array) -> Float[Array, "b s o"]:
        return z.reshape(1, -1, math.prod(self.w_shape[1:]))

    def weight(self, matrix: Float[Array, "b i o"]) -> Array:
        """The one block as an array of the table's shape."""
        return matrix.reshape(self.w_shape)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers b, i and o."""
        return 1, self.w_shape[0], math.prod(self.w_shape[1:])


Kind = Product | Convolution | Lookup


@dataclass(frozen=True)
class Shift:
    """A second parameter, a bias, that is added to what a use makes, the same at every position."""

    leaf: int
    scale: float


@dataclass(frozen=True)
class Use:
    """One use of a parameter: how, which of the step's inputs varies, what it makes, and how often in which loops.

    ``shift``: a bias that is added and has no other use; it shares all that flows back.
    """

    kind: Kind
    origin: Origin
    varying: int
    output: jax.ShapeDtypeStruct | None = field(default=None, compare=False)
    rounds: tuple[int, ...] = ()
    shift: Shift | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """Uses of the same place have gradients of the same entries in the same order."""
        return self.kind, self.origin.place

    @property
    def blocks(self) -> tuple[int, int, int]:
        """The numbers b, i and o, the rounds of a stacked parameter included."""
        b, i, o = self.kind.sizes
        return b * (1 if self.origin.stacked is None else math.prod(self.rounds)), i, o

    @property
    def positions(self) -> int:
        """The number s."""
        return 0 if self.output is None else math.prod(self.output.shape) // (self.blocks[0] * self.blocks[2])

    def left(self, kept: Array) -> Array:
        """A (b, s, i) of one example, or of a lookup the numbers (b, s)."""
        # Whole numbers of few bits would overflow in products with each other.
        if not isinstance(self.kind, Lookup) and self.output is not None:
            kept = kept.astype(self.output.dtype)
        return self._over_rounds(self.kind.left, kept)

    def right(self, z: Array) -> Float[Array, "b s o"]:
        """G of one output of one example."""
        return self.origin.scale * self._over_rounds(self.kind.right, z)

    def _over_rounds(self, function: Callable, array: Array) -> Array:
        if not self.rounds:
            return function(array)
        apart = jax.vmap(function)(array.reshape(-1, *array.shape[len(self.rounds) :]))
        if self.origin.stacked is not None:
            return apart.reshape(-1, *apart.shape[2:])
        return jnp.moveaxis(apart, 0, 1).reshape(apart.shape[1], -1, *apart.shape[3:])

    def weight(self, matrix: Float[Array, "b i o"]) -> Array:
        """The gradient by the selected entries of the parameter, without their scale."""
        if self.origin.stacked is None:
            return self.kind.weight(matrix)
        rounds = math.prod(self.rounds)
        return jax.vmap(self.kind.weight)(matrix.reshape(rounds, -1, *matrix.shape[1:]))


def use_of(name: str, words: dict[str, Any], operands: Sequence[tuple[Any, Origin | None]]) -> Use | None:
    """The use of a parameter in a step with this name, if it has a rule."""
    drawn = [at for at, (_, origin) in enumerate(operands) if origin is not None]
    origin = operands[drawn[0]][1]
    if len(drawn) > 1 or origin is None or origin.spread is not None or name not in _RULES:
        return None
    kind = _RULES[name](words, [array for array, _ in operands], drawn[0])
    return None if kind is None else Use(kind, origin, varying=1 - drawn[0])


def shifted(use: Use, origin: Origin, shape: tuple[int, ...]) -> Use | None:
    """A use to whose output a bias is added, if the bias is the same at every position and of its own at none."""
    loose = use.origin.stacked is None, origin.stacked is None
    if isinstance(use.kind, Lookup) or use.shift is not None or loose[0] != loose[1]:
        return None
    long = {axis for axis, size in enumerate(shape) if size > 1}
    spanned = {*range(len(shape))} if origin.spread is None else {*origin.spread}
    if spanned & long != use.kind.own_axes(len(shape)) & long:
        return None
    return replace(use, shift=Shift(origin.leaf, origin.scale))


def _product(words: dict[str, Any], arrays: list[Any], at: int) -> Product:
    summed, blocks = words["dimension_numbers"]
    x = 1 - at
    x_blocks, x_summed, w_blocks, w_summed = (tuple(map(int, one[to])) for to in (x, at) for one in (blocks, summed))
    return Product(x_blocks, x_summed, w_blocks, w_summed, tuple(arrays[at].shape), x == 0)


def _convolution(words: dict[str, Any], arrays: list[Any], at: int) -> Convolution | None:
    if at != 1 or words["batch_group_count"] != 1:
        return None
    found = Convolution(
        words["dimension_numbers"],
        tuple(words["window_strides"]),
        tuple((int(low), int(high)) for low, high in words["padding"]),
        tuple(words["lhs_dilation"]),
        tuple(words["rhs_dilation"]),
        words["feature_group_count"],
        tuple(arrays[1].shape),
    )
    return found if math.prod(found.filter) <= _MOST_OFFSETS else None


def _lookup(words: dict[str, Any], arrays: list[Any], at: int) -> Lookup | None:
    numbers, shape, places = words["dimension_numbers"], tuple(arrays[0].shape), arrays[1]
    last = tuple(range(places.ndim - 1, places.ndim - 1 + len(shape) - 1))
    rows = at == 0 and places.shape[-1] == 1 and numbers.collapsed_slice_dims == (0,)
    whole = words["slice_sizes"] == (1, *shape[1:]) and numbers.offset_dims == last
    return Lookup(shape, "CLIP" in str(words["mode"])) if rows and whole else None


_RULES: dict[str, Callable[[dict[str, Any], list[Any], int], Kind | None]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "gather": _lookup,
}


def _others(count: int, *taken: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(count) if not any(axis in group for group in taken))


def _inverse(axes: Sequence[int]) -> list[int]:
    """The axes that undo a transposition."""
    return sorted(range(len(axes)), key=lambda at: axes[at])


def _sizes(shape: Sequence[int], *groups: Sequence[int]) -> tuple[int, ...]:
    """The number of entries along each group of axes."""
    return tuple(math.prod(shape[axis] for axis in group) for group in groups)
