r"""Empirical kernels from the factors of gradients, one parameter after the other, by the cheaper of two ways.

Legend: n and m inputs, k outputs (l of the second input), b blocks, s and t positions, a block's matrix (i, o);
$A$ (n, b, s, i) and $G$ (k, n, b, s, o). A parameter adds $\langle M(x), M(y)\rangle$ to the kernel, where
$M = \sum_s a_sg_s^\top$ (k, n, b i o) are the *gradients*; without forming them it is the sum over pairs of positions
of products of *overlaps*, $\sum_{b,s,t}\langle a_s(x), a_t(y)\rangle\langle g_s(x), g_t(y)\rangle$.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from .blocks import Blocks
from .factors import Factors, Piece, Structure
from .uses import Lookup, Use

Outputs = Literal["all", "trace", "diagonal"]
_AT_ONCE = 2**22  # entries of an overlap of some rows with all columns


@dataclass(frozen=True)
class Uses:
    """The uses of a piece, which of them have a bias that counts, and whether the weights count."""

    each: tuple[Use, ...]
    shifts: tuple[int, ...]
    weights: bool

    @classmethod
    def of(cls, found: Structure, piece: Piece) -> "Uses":
        shifts = tuple(piece.uses.index(at) for at in piece.shifts)
        return cls(tuple(found.uses[at] for at in piece.uses), shifts, piece.weights)


@dataclass(frozen=True)
class Step:
    """What is added for some parameters, with gradients or without: for one, for all direct ones, or for all that are
    used at a single position, without gradients."""

    pieces: tuple[Piece, ...]
    gradients: bool


def steps(
    found: Structure, pieces: Sequence[Piece], n: int, m: int, outputs: Outputs, prefer: bool | None = None
) -> list[Step]:
    """The cheapest steps, or all that can with gradients or without; direct parameters are taken together."""
    direct = tuple(piece for piece in pieces if not piece.uses)
    used = [Step((piece,), by_gradients(found, piece, n, m, outputs, prefer)) for piece in pieces if piece.uses]
    single = [step for step in used if not step.gradients and _at_a_single_position(found, step.pieces[0])]
    together = [Step(tuple(step.pieces[0] for step in single), False)] if single else []
    return [*together, *(step for step in used if step not in single), *([Step(direct, True)] if direct else [])]


def _at_a_single_position(found: Structure, piece: Piece) -> bool:
    uses = [found.uses[at] for at in piece.uses]
    lookup = isinstance(uses[0].kind, Lookup)
    return not lookup and uses[0].blocks[0] * sum(use.positions for use in uses) == 1


def by_gradients(found: Structure, piece: Piece, n: int, m: int, outputs: Outputs, prefer: bool | None = None) -> bool:
    """Whether forming a parameter's gradients is cheaper, in operations; uses in several places need it."""
    uses = [found.uses[at] for at in piece.uses]
    if len({use.place for use in uses}) > 1:
        return True
    if prefer is not None:
        return prefer
    return operations(found, piece, n, m, outputs, True) <= operations(found, piece, n, m, outputs, False)


def operations(found: Structure, piece: Piece, n: int, m: int, outputs: Outputs, gradients: bool) -> float:
    """Additions and multiplications for a tile of n x m inputs, two for each product of numbers."""
    k, uses = found.outputs, [found.uses[at] for at in piece.uses]
    pairs = k * k if outputs == "all" else k
    if not uses:
        return 2.0 * n * m * pairs * math.prod(found.leaves[piece.leaves[0]].shape)
    b, i, o = uses[0].blocks
    i = i * piece.weights + len(piece.shifts)
    s = sum(use.positions for use in uses)
    table = isinstance(uses[0].kind, Lookup)
    if gradients:
        return 2.0 * b * o * ((n + m) * k * s * (1 if table else i) + n * m * pairs * i)
    first = s * s * (1 if table else i)
    if s == 1 or outputs == "trace":
        return 2.0 * n * m * b * (first + s * s * pairs * o)
    return 2.0 * n * m * b * (first + s * s * k * o + s * pairs * o)


def add(total: Array, step: Step, found: Structure, x: Factors, y: Factors, outputs: Outputs, blocks: Blocks) -> Array:
    """The blocks of the kernel, and what a step adds to them."""
    if step.gradients:
        M = _gradients(step, found, x)
        return _inner(total, M, None if y is x else _gradients(step, found, y), outputs, blocks)
    uses = tuple(Uses.of(found, piece) for piece in step.pieces)
    own = [_chosen(piece, x) for piece in step.pieces]
    return _overlaps(
        uses, outputs, blocks, total, own, None if y is x else [_chosen(piece, y) for piece in step.pieces]
    )


def _chosen(piece: Piece, one: Factors) -> tuple[list[Array], list[Array]]:
    """What was kept and what flowed back for one parameter."""
    return [one.kept[at] for at in piece.uses], [one.back[at] for at in piece.uses]


def _gradients(step: Step, found: Structure, one: Factors) -> Float[Array, "k n p"]:
    place = {leaf: at for at, leaf in enumerate(found.direct)}
    if not step.pieces[0].uses:
        return _flat([one.direct[place[piece.leaves[0]]] for piece in step.pieces])
    (piece,) = step.pieces
    return _formed(Uses.of(found, piece), found.leaves[piece.leaves[0]].shape, *_chosen(piece, one))


@jax.jit
def _flat(parts: list[Array]) -> Array:
    return jnp.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)


@partial(jax.jit, static_argnums=(0, 1))
def _formed(uses: Uses, shape: tuple[int, ...], kept: list[Array], back: list[Array]) -> Array:
    """The gradients (k, n, p): in the order of the uses where they share it, else in that of the parameter."""
    places = list(dict.fromkeys(use.place for use in uses.each))
    if len(places) == 1:
        M = _of_place(uses, kept, back)
        return M.reshape(*M.shape[:2], -1)
    total = jnp.zeros(())
    for place in places:
        same = [at for at, use in enumerate(uses.each) if use.place == place]
        some = Uses(tuple(uses.each[at] for at in same), (), True)
        M = _of_place(some, [kept[at] for at in same], [back[at] for at in same])
        M = _returned(some.each[0], shape, M)
        total = total + M.reshape(*M.shape[:2], -1)
    return total


def _of_place(uses: Uses, kept: list[Array], back: list[Array]) -> Float[Array, "k n b i o"]:
    A, G = joined(uses, kept, back)
    return _looked_up(uses.each[0], A, G) if isinstance(uses.each[0].kind, Lookup) else _multiplied(A, G)


def _returned(use: Use, shape: tuple[int, ...], M: Array) -> Array:
    leaf = jax.ShapeDtypeStruct(shape, M.dtype)
    return jax.vmap(jax.vmap(lambda one: use.origin.returned(use.weight(one), leaf)))(M)


def _multiplied(A: Array, G: Array) -> Float[Array, "k n b i o"]:
    """One output after the other: a product for each input. Products are faster without axes of one entry."""
    if A.shape[2] == 1:
        return jnp.einsum("nbi,knbo->knbio", A[:, :, 0], G[:, :, :, 0])
    if len(G) == 1:
        return _of_output(A, G[0])[None]
    return jax.lax.map(lambda g: _of_output(A, g), G)


def _of_output(A: Array, g: Array) -> Float[Array, "n b i o"]:
    if A.shape[1] == 1:
        return jnp.einsum("nsi,nso->nio", A[:, 0], g[:, 0])[:, None]
    return jnp.einsum("nbsi,nbso->nbio", A, g)


def _looked_up(use: Use, A: Array, G: Array) -> Array:
    """Rows of the table that were looked up get what flowed back."""
    rows = use.kind.w_shape[0]

    def one(places, back):
        return jnp.zeros((rows, back.shape[-1]), back.dtype).at[places].add(back, mode="drop")

    places = jnp.where(A < 0, rows, A)
    each = jax.vmap(jax.vmap(one))  # inputs and blocks
    return jax.vmap(lambda g: each(places, g))(G)


def joined(uses: Uses, kept: Sequence[Array], back: Sequence[Array]) -> tuple[Array, Array]:
    """A and G of uses of one place, one after the other along the positions; A has a column for each bias."""
    lefts = [jax.vmap(partial(_left, uses, at))(one) for at, one in enumerate(kept)]
    rights = [jax.vmap(jax.vmap(use.right))(one) for use, one in zip(uses.each, back, strict=True)]
    return jnp.concatenate(lefts, axis=2), jnp.concatenate(rights, axis=3)


def _left(uses: Uses, at: int, kept: Array) -> Array:
    use, found = uses.each[at], []
    if uses.weights:
        found.append(use.left(kept))
    for shift in uses.shifts:
        beside = use.shift if shift == at else None
        size = 0.0 if beside is None else beside.scale / use.origin.scale
        found.append(jnp.full((use.blocks[0], use.positions, 1), size, use.output.dtype if use.output else None))
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=2)


@partial(jax.jit, static_argnums=(3, 4))
def _inner(total: Array, M: Array, N: Array | None, outputs: Outputs, blocks: Blocks) -> Array:
    other = M if N is None else N

    def block(row: Any, column: Any) -> Array:
        a, b = blocks.rows_of(M, row, 1), blocks.columns_of(other, column, 1)
        if outputs == "all":
            return _by_inputs(jnp.einsum("knp,lmp->knlm", a, b))
        each = (a[0] @ b[0].T)[None] if len(a) == 1 else jnp.einsum("knp,kmp->knm", a, b)
        return each if outputs == "diagonal" else jnp.sum(each, axis=0)

    return blocks.added(total, block)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _overlaps(uses: tuple[Uses, ...], outputs: Outputs, blocks: Blocks, total: Array, own: Any, others: Any) -> Array:
    left = [joined(each, *chosen) for each, chosen in zip(uses, own, strict=True)]
    right = left if others is None else [joined(each, *chosen) for each, chosen in zip(uses, others, strict=True)]

    def block(row: Any, column: Any) -> Array:
        found = []
        for (A, G), (C, H) in zip(left, right, strict=True):
            rows = blocks.rows_of(A, row, 0), blocks.rows_of(G, row, 1)
            columns = blocks.columns_of(C, column, 0), blocks.columns_of(H, column, 1)
            single = A.ndim == 4 and A.shape[1] * A.shape[2] == 1
            found.append((_at_one_position if single else _at_positions)(*rows, *columns, outputs))
        total = sum(found[1:], found[0])
        return _by_inputs(total) if outputs == "all" else total

    return blocks.added(total, block)


def _by_inputs(block: Array) -> Float[Array, "h k w l"]:
    """The axes of a block (k, h, l, w) in the order of the kernel."""
    return jnp.transpose(block, (1, 0, 3, 2))


def _at_one_position(A: Array, G: Array, C: Array, H: Array, outputs: Outputs) -> Array:
    inputs, g, h = A[:, 0, 0] @ C[:, 0, 0].T, G[:, :, 0, 0], H[:, :, 0, 0]
    if outputs == "all":
        return inputs[None, :, None, :] * jnp.einsum("kno,lmo->knlm", g, h)
    if outputs == "trace":
        return inputs * jnp.einsum("kno,kmo->nm", g, h)
    return inputs[None] * jnp.einsum("kno,kmo->knm", g, h)


def _at_positions(A: Array, G: Array, C: Array, H: Array, outputs: Outputs) -> Array:
    """Some rows with all columns at a time, as many as the overlaps leave memory for."""
    G, H = jnp.moveaxis(G, 0, 1), jnp.moveaxis(H, 0, 1)
    carried = 0 if outputs == "trace" else H.shape[1] * H.shape[4]
    entries = A.shape[1] * A.shape[2] * C.shape[0] * (C.shape[2] + carried)
    rows = max(1, min(len(A), _AT_ONCE // entries))
    found = jax.lax.map(lambda row: _row(row[0], row[1], C, H, outputs), (A, G), batch_size=rows)
    axes = {"all": (1, 0, 3, 2), "trace": (0, 1), "diagonal": (2, 0, 1)}[outputs]
    return jnp.transpose(found, axes)


def _row(a: Array, g: Array, C: Array, H: Array, outputs: Outputs) -> Array:
    """One input against m: (k, m, k), (m,) or (m, k)."""
    inputs = _overlap(a, C).astype(g.dtype)
    if outputs == "trace":
        return jnp.einsum("bsmt,bsmt->m", inputs, jnp.einsum("kbso,mkbto->bsmt", g, H))
    carried = jnp.einsum("bsmt,mlbto->bsmlo", inputs, H)
    return jnp.einsum("kbso,bsmlo->kml" if outputs == "all" else "kbso,bsmko->mk", g, carried)


def _overlap(a: Array, C: Array) -> Shaped[Array, "b s m t"]:
    if a.ndim == 3:
        return jnp.einsum("bsi,mbti->bsmt", a, C)
    places = jnp.moveaxis(C, 0, 1)  # of a lookup: the same row or not
    return (a[:, :, None, None] == places[:, None]) & (a >= 0)[:, :, None, None]


def start(found: Structure, outputs: Outputs, blocks: Blocks) -> Array:
    """The kernel of no parameters: (b, h, k, w, k) for all outputs, (b, h, w) or (b, k, h, w), b blocks h x w."""
    k, (count, h, w) = found.outputs, (len(blocks.starts), blocks.rows, blocks.columns)
    shape = {"all": (h, k, w, k), "trace": (h, w), "diagonal": (k, h, w)}[outputs]
    return jnp.zeros((count, *shape), found.dtype)
