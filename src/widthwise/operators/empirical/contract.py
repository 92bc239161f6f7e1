r"""Empirical kernels from the factors of gradients, one parameter after the other, by the cheaper of two ways.

Legend: n and m inputs, k outputs (l of the second input), b blocks, s and t positions, a block's matrix (i, o);
$A$ (n, b, s, i) and $G$ (n, k, b, s, o). A parameter adds $\langle M(x), M(y)\rangle$ to the kernel, where
$M = \sum_s a_sg_s^\top$ (n, k, b i o) are the *gradients*; without forming them it is the sum over pairs of positions
of products of *overlaps*, $\sum_{b,s,t}\langle a_s(x), a_t(y)\rangle\langle g_s(x), g_t(y)\rangle$.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

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
    """What is added for some parameters: the uses of one of them, or the gradients of direct ones; and how."""

    pieces: tuple[Piece, ...]
    gradients: bool


def steps(
    found: Structure, pieces: Sequence[Piece], n: int, m: int, outputs: Outputs, prefer: bool | None = None
) -> list[Step]:
    """The cheapest steps, or all that can with gradients or without; direct parameters are taken together."""
    direct = tuple(piece for piece in pieces if not piece.uses)
    used = [Step((piece,), by_gradients(found, piece, n, m, outputs, prefer)) for piece in pieces if piece.uses]
    return [*used, *([Step(direct, True)] if direct else [])]


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


def add(total: Array, step: Step, found: Structure, x: Factors, y: Factors, outputs: Outputs) -> Array:
    """The kernel (n, k, m, k), (n, m) or (n, m, k), and what a step adds to it."""
    if step.gradients:
        M = _gradients(step, found, x)
        return _inner(total, M, M if y is x else _gradients(step, found, y), outputs)
    own, others = (_chosen(step.pieces[0], one) for one in (x, y))
    return _overlaps(Uses.of(found, step.pieces[0]), outputs, total, *own, *others)


def _chosen(piece: Piece, one: Factors) -> tuple[list[Array], list[Array]]:
    """What was kept and what flowed back for one parameter."""
    return [one.kept[at] for at in piece.uses], [one.back[at] for at in piece.uses]


def _gradients(step: Step, found: Structure, one: Factors) -> Float[Array, "n k p"]:
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
    """The gradients (n, k, p): in the order of the uses where they share it, else in that of the parameter."""
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


def _of_place(uses: Uses, kept: list[Array], back: list[Array]) -> Float[Array, "n k b i o"]:
    A, G = joined(uses, kept, back)
    return _looked_up(uses.each[0], A, G) if isinstance(uses.each[0].kind, Lookup) else _multiplied(A, G)


def _returned(use: Use, shape: tuple[int, ...], M: Array) -> Array:
    leaf = jax.ShapeDtypeStruct(shape, M.dtype)
    return jax.vmap(jax.vmap(lambda one: use.origin.returned(use.weight(one), leaf)))(M)


def _multiplied(A: Array, G: Array) -> Float[Array, "n k b i o"]:
    """One input after the other, all outputs in one product: wide products are faster than many narrow ones."""

    def one(each: tuple[Array, Array]) -> Array:
        wide = jnp.einsum("bsi,bskp->bikp", each[0], jnp.moveaxis(each[1], 0, 2))
        return jnp.moveaxis(wide, 2, 0)

    return jax.lax.map(one, (A, G)) if A.shape[2] > 1 else jnp.einsum("nbsi,nkbso->nkbio", A, G)


def _looked_up(use: Use, A: Array, G: Array) -> Array:
    """Rows of the table that were looked up get what flowed back."""
    rows = use.kind.w_shape[0]

    def one(places, back):
        return jnp.zeros((rows, back.shape[-1]), back.dtype).at[places].add(back, mode="drop")

    places = jnp.where(A < 0, rows, A)
    each = jax.vmap(one)  # blocks
    return jax.vmap(lambda a, g: jax.vmap(lambda h: each(a, h))(g))(places, G)


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


@partial(jax.jit, static_argnums=3)
def _inner(total: Array, M: Array, N: Array, outputs: Outputs) -> Array:
    rule = {"all": "nkp,mlp->nkml", "trace": "nkp,mkp->nm", "diagonal": "nkp,mkp->nmk"}[outputs]
    return total + jnp.einsum(rule, M, N)


@partial(jax.jit, static_argnums=(0, 1))
def _overlaps(uses: Uses, outputs: Outputs, total: Array, kept, back, other_kept, other_back) -> Array:
    (A, G), (C, H) = joined(uses, kept, back), joined(uses, other_kept, other_back)
    if A.shape[1] * A.shape[2] == 1 and A.ndim == 4:
        return total + _at_one_position(A[:, 0, 0], G[:, :, 0, 0], C[:, 0, 0], H[:, :, 0, 0], outputs)
    carried = 0 if outputs == "trace" else H.shape[1] * H.shape[4]
    entries = A.shape[1] * A.shape[2] * C.shape[0] * (C.shape[2] + carried)
    rows = max(1, min(len(A), _AT_ONCE // entries))
    return total + jax.lax.map(lambda row: _row(row[0], row[1], C, H, outputs), (A, G), batch_size=rows)


def _at_one_position(a: Array, g: Array, c: Array, h: Array, outputs: Outputs) -> Array:
    inputs = a @ c.T
    if outputs == "all":
        return inputs[:, None, :, None] * jnp.einsum("nko,mlo->nkml", g, h)
    if outputs == "trace":
        return inputs * jnp.einsum("nko,mko->nm", g, h)
    return inputs[:, :, None] * jnp.einsum("nko,mko->nmk", g, h)


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


def start(found: Structure, n: int, m: int, outputs: Outputs) -> Array:
    """The kernel of no parameters."""
    k = found.outputs
    shape = {"all": (n, k, m, k), "trace": (n, m), "diagonal": (n, m, k)}[outputs]
    return jnp.zeros(shape, found.dtype)
