r"""Randomly projected gradients: features whose inner products are the empirical NTK, for many examples.

Legend: n examples, k outputs, P parameters, $J_x = Df(x)$ (k, P), m the number of features, S (P, m) random
with independent entries of mean 0 and variance 1, never held as a whole: column c of the block of a parameter
is drawn anew from the key, the parameter's place and c wherever it is needed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from widthwise.grams import Progress
from widthwise.numerics import Estimate, nearest, reject

from .adapters import adapt, examples
from .parameters import parameters

KINDS, WAYS, OUTPUTS = ("signs", "normal"), ("auto", "forward", "reverse"), ("all", "trace")
_COLUMNS_BYTES, _ROWS_BYTES = 2**26, 2**28  # of random columns, and of gradients, that are held at once


@dataclass(frozen=True, eq=False)
class ProjectedGradients:
    r"""Features $\Phi$ (n, k, m), or (n, m) of the mean over outputs, with $E[\Phi\Phi^\top] = \Theta$.

    ``error``: the measured relative error of $\Phi\Phi^\top$ in the Frobenius norm, with its standard error,
    from entries at random; None where none were asked for. ``algorithm``: "forward" or "reverse".
    """

    features: Float[np.ndarray, "n *k m"]
    error: Estimate | None
    algorithm: str


@dataclass(frozen=True)
class _Sketch:
    """What is drawn: the number of columns, their kind, and whether outputs are averaged."""

    size: int
    kind: str
    outputs: str

    def column(self, key: Array, place: int, like: Array, number: Int[Array, ""]) -> Array:
        """One column of the block of a parameter, in the parameter's shape."""
        key = jr.fold_in(jr.fold_in(key, place), number)
        return _signs(key, like) if self.kind == "signs" else jr.normal(key, like.shape, like.dtype)

    def direction(self, key: Array, leaves: tuple[Array, ...], number: Int[Array, ""]) -> tuple[Array, ...]:
        """One column of S, as a tuple of parameters."""
        return tuple(self.column(key, place, leaf, number) for place, leaf in enumerate(leaves))

    def finished(self, key: Array, places: int, found: Float[Array, "m b k"]) -> Array:
        r"""Scale by $1/\sqrt m$; sum the outputs with random signs over $\sqrt k$ where they are averaged."""
        found = found / math.sqrt(self.size)
        if self.outputs == "trace":
            signs = jax.vmap(lambda c: _signs(jr.fold_in(jr.fold_in(key, places), c), found[0, 0]))
            found = jnp.einsum("mbk,mk->mb", found, signs(jnp.arange(self.size))) / math.sqrt(found.shape[2])
        return jnp.moveaxis(found, 0, -1)

    def chunk(self, leaves: tuple[Array, ...]) -> int:
        """How many columns are held at once."""
        return max(1, min(self.size, _COLUMNS_BYTES // sum(leaf.nbytes for leaf in leaves)))


def _signs(key: Array, like: Array) -> Array:
    """Random signs, of which one drawn integer gives 32."""
    bits = jr.bits(key, (-(-like.size // 32), 1), jnp.uint32) >> jnp.arange(32, dtype=jnp.uint32)[None]
    return (1 - 2 * (bits & 1).astype(like.dtype)).ravel()[: like.size].reshape(like.shape)


def projected_gradients(
    model: Any,
    X: ArrayLike,
    size: int,
    key: Array,
    *,
    outputs: str = "all",
    kind: str = "signs",
    batch: int = 64,
    algorithm: str = "auto",
    pairs: int = 256,
    progress: Progress | None = None,
) -> ProjectedGradients:
    r"""Project the gradients of n examples at random: $\Phi_x = J_xS/\sqrt m$, $E[\Phi_x\Phi_y^\top] = \Theta(x, y)$.

    An entry of $\Phi\Phi^\top$ has the standard deviation $\sqrt{(1+\rho^2)/m}\,\sqrt{\Theta_{xx}\Theta_{yy}}$ with
    $\rho$ the cosine of the two gradients for ``kind="normal"``, and no more for random signs. The same key
    gives the same S: features of test examples, or of a further batch, belong to those of the training examples.

    Args:
        model: what `adapt` takes.
        X: examples (n, ...), of which ``batch`` are worked on at once; only the features of all are held.
        size: m.
        key: of the random numbers.
        outputs: "all" gives (n, k, m); "trace" gives (n, m) for the mean over outputs $\frac1k\sum_j\Theta_{jj}$.
        kind: "signs" or "normal", the law of the entries of S.
        algorithm: "forward" takes m directional derivatives, "reverse" k gradients (k P numbers for each example)
            and multiplies them; "auto" counts which is less work.
        pairs: so many random entries are computed exactly, to measure the error; 0 for none.
        progress: called with the number of finished examples and n.

    Raises ``ValueError`` for counts below 1 and unknown words. Source: park2023trak.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 3)))
    >>> found = projected_gradients(model, jnp.eye(3), 1024, jr.key(0))
    >>> found.features.shape, bool(found.error.value < 0.1)
    ((3, 1, 1024), True)
    """
    _demand(size=size, batch=batch, outputs=outputs, kind=kind, algorithm=algorithm, pairs=pairs)
    X = examples(X)
    model = adapt(model, X)
    leaves, _ = parameters(model)
    shape = jax.eval_shape(model, X[0]).shape
    sketch = _Sketch(size, kind, outputs)
    way = _cheapest(model, X[0], leaves, shape[0], size) if algorithm == "auto" else algorithm
    if way == "reverse":
        batch = max(1, min(batch, _ROWS_BYTES // (shape[0] * sum(leaf.nbytes for leaf in leaves))))
    features = _in_batches(partial(_forward if way == "forward" else _reverse, model, key, sketch), X, batch, progress)
    error = _measured(model, X, features, outputs, pairs, jr.fold_in(key, len(leaves) + 1)) if pairs else None
    return ProjectedGradients(features, error, way)


def _in_batches(one: Callable[[Array], Array], X: Array, batch: int, progress: Progress | None) -> np.ndarray:
    """All features; a last batch that is smaller is filled up, so that nothing is compiled twice."""
    batch, found = min(batch, len(X)), None
    for at in range(0, len(X), batch):
        part = X[at : at + batch]
        filled = jnp.concatenate([part, jnp.broadcast_to(part[:1], (batch - len(part), *part.shape[1:]))])
        rows = np.asarray(one(filled))[: len(part)]
        found = np.empty((len(X), *rows.shape[1:]), rows.dtype) if found is None else found
        found[at : at + batch] = rows
        if progress is not None:
            progress(at + len(part), len(X))
    assert found is not None  # there is at least one example
    return found


@eqx.filter_jit
def _forward(model: Callable, key: Array, sketch: _Sketch, X: Array) -> Array:
    """By m directional derivatives of the whole batch."""
    leaves, rebuild = parameters(model)
    _, push = jax.linearize(lambda new: jax.vmap(rebuild(new))(X), leaves)
    numbers = jnp.arange(sketch.size)
    found = jax.lax.map(lambda c: push(sketch.direction(key, leaves, c)), numbers, batch_size=sketch.chunk(leaves))
    return sketch.finished(key, len(leaves), found)


@eqx.filter_jit
def _reverse(model: Callable, key: Array, sketch: _Sketch, X: Array) -> Array:
    """By the gradients of the batch, one parameter after the other times the random columns."""
    leaves, rebuild = parameters(model)
    rows = jax.vmap(jax.jacrev(lambda new, x: rebuild(new)(x)), (None, 0))(leaves, X)
    total = jnp.zeros(())
    for place, (leaf, row) in enumerate(zip(leaves, rows, strict=True)):
        flat = row.reshape(*row.shape[:2], -1)

        def product(c, flat=flat, leaf=leaf, place=place):
            return flat @ sketch.column(key, place, leaf, c).ravel()

        part = jax.lax.map(product, jnp.arange(sketch.size), batch_size=sketch.chunk((leaf,)))
        total = part if total.ndim == 0 else total + part
    return sketch.finished(key, len(leaves), total)


def _cheapest(model: Callable, x: Array, leaves: tuple[Array, ...], outputs: int, size: int) -> str:
    """Forward costs about a call for each column, reverse k gradients and 2 k P operations for each column."""
    counted = jax.jit(lambda one: model(one)).lower(x).cost_analysis() or {}
    call, P = float(counted.get("flops", 0.0)), sum(leaf.size for leaf in leaves)
    return "forward" if size * call <= 2 * size * outputs * P + 3 * outputs * call else "reverse"


def _measured(model: Callable, X: Array, features: np.ndarray, outputs: str, pairs: int, key: Array) -> Estimate:
    r"""$\|\Phi\Phi^\top - \Theta\|_F/\|\Theta\|_F$ from random entries; the error by the law of a ratio of means."""
    i, j = jr.randint(key, (2, pairs), 0, len(X))
    exact = np.asarray(_exact(model, X[i], X[j]), dtype=float)
    left, right = (features[np.asarray(one)].astype(float) for one in (i, j))
    if outputs == "trace":
        exact = np.trace(exact, axis1=1, axis2=2)[:, None, None] / exact.shape[1]
        left, right = left[:, None], right[:, None]
    off = np.sum((np.einsum("pkm,plm->pkl", left, right) - exact) ** 2, axis=(1, 2))
    size = np.sum(exact**2, axis=(1, 2))
    ratio, scale = np.sum(off) / np.sum(size), np.mean(size)
    spread = np.std(off - ratio * size, ddof=1) / (math.sqrt(pairs) * scale) if pairs > 1 else math.inf
    return Estimate(math.sqrt(ratio), float(spread / (2.0 * math.sqrt(ratio)) if ratio > 0 else 0.0))


@eqx.filter_jit
def _exact(model: Callable, X: Array, Y: Array) -> Float[Array, "pairs k k"]:
    """Entries of the kernel, pair by pair."""
    leaves, rebuild = parameters(model)
    derivative = jax.jacrev(lambda new, x: rebuild(new)(x))

    def entry(pair):
        rows, columns = (derivative(leaves, one) for one in pair)
        parts = [a.reshape(len(a), -1) @ b.reshape(len(b), -1).T for a, b in zip(rows, columns, strict=True)]
        return sum(parts[1:], parts[0])

    return jax.lax.map(entry, (X, Y))


def _demand(**given: Any) -> None:
    for name, least in (("size", 1), ("batch", 1), ("pairs", 0)):
        if isinstance(given[name], bool) or given[name] < least:
            reject(f"{name}={given[name]}", f"It is a whole number of at least {least}", "Give for example size=1024")
    for name, known in (("outputs", OUTPUTS), ("kind", KINDS), ("algorithm", WAYS)):
        if given[name] not in known:
            came = f"{name}={given[name]!r}{nearest(given[name], known)}"
            reject(came, f"Known are {', '.join(map(repr, known))}", "Choose one of them")
