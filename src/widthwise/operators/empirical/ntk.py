r"""The empirical NTK of any model: chosen by cost, in tiles, within a limit of memory."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from widthwise.grams import Grid, Progress, fingerprint, in_memory, on_disk
from widthwise.numerics import demand_classes, demand_numbers, nearest, reject

from ..adapters import adapt
from ..parameters import groups, parameters
from .blocks import Blocks
from .contract import Outputs, Step, add, start, steps
from .factors import Factors, Structure, factors, pulled, structure
from .memory import bytes_of
from .plan import ALGORITHMS, Cost, Plan, Work, planned
from .products import by_products

OUTPUTS = ("all", "trace", "diagonal")  # and "per-class", which is made of these
_PROBED = 3
Group = Callable[[str], str]


def entk(
    model: Any,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    outputs: str = "all",
    algorithm: str = "auto",
    memory: str | float | None = None,
    by: str | Group | None = None,
    labels: Any = None,
    out: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Any:
    r"""The empirical NTK of any model, $\Theta_{jl}(x, y) = \sum_p\partial_{\theta_p}f_j(x)\partial_{\theta_p}f_l(y)$.

    ``model`` is anything that `adapt` takes: of Equinox, Flax, Haiku or PyTorch, or a function with its parameters;
    ``X`` (n, ...) and ``Y`` (m, ...) are its inputs, ``Y=None`` means X with itself and an exactly symmetric result.
    ``outputs="all"`` gives (n, k, m, k); ``"trace"`` the mean over outputs $\frac1k\sum_j\Theta_{jj}$, (n, m);
    ``"diagonal"`` each output with itself $\Theta_{jj}$, (n, m, k); ``"per-class"``, with the ``labels`` (n,) of X or a
    tuple of those of X and of Y, the blocks of a classifier: for each class c the kernel $\Theta_{cc}$ of its inputs.

    ``algorithm="structured"`` perturbs the output of each step that uses a parameter and multiplies what the steps read
    with what flows back, without forming the Jacobian; ``"jacobian"`` forms it; ``"products"`` takes a product with a
    vector for every output of Y; ``"auto"`` takes the cheapest that fits (`entk_plan` tells the costs). Tiles of the
    matrix are planned below ``memory``, such as "8GB" (half of what is free if not given; the program is not counted).

    ``by="parameter"``, or a function from the names of parameters to those of groups, splits the kernel: a dictionary
    of kernels, which add up to the whole. ``out`` names a folder for a matrix larger than memory, (n k, m k) for all
    outputs, which is continued where it was cut off. ``progress(done, total)`` is called after each tile.

    Raises ``ValueError`` for a model or inputs that `adapt` refuses, for unknown words, and for a limit below what is
    needed, which is said. Jacot, Gabriel & Hongler (2018); Novak, Sohl-Dickstein & Schoenholz (2022); the choice by
    parameter and by counted operations is derived in this project.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> entk(model, jnp.eye(2), outputs="trace").tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if outputs == "per-class":
        words = {"algorithm": algorithm, "memory": memory, "by": by, "progress": progress}
        return per_class(model, X, Y, labels, out, words)
    job = _Job.of(model, X, Y, outputs, by, held=out is None)
    cost = job.plan(algorithm, memory).chosen
    grid, tile = job.tiles(cost)
    if out is None:
        return job.shaped(in_memory(grid, tile, job.dtype, len(job.names), progress))
    request = {"algorithm": cost.algorithm, "outputs": outputs} | job.request()
    return job.named(on_disk(out, grid, tile, job.names, job.dtype, request, progress)[0])


def per_class(model: Any, X: ArrayLike, Y: ArrayLike | None, labels: Any, out: Any, words: dict[str, Any]) -> Any:
    """For each class the kernel of its output between its inputs."""
    sets = [_inputs("X", X), *([] if Y is None else [_inputs("Y", Y)])]
    given = [np.asarray(one) for one in (labels if Y is not None and isinstance(labels, tuple) else (labels,))]
    if any(one.ndim != 1 for one in given) or [len(one) for one in given] != [len(one) for one in sets]:
        reject(
            f"outputs='per-class' with labels of shape {[one.shape for one in given]}",
            "Each input has a whole number, its class, which is the place of its output",
            "Give labels=y, or labels=(y, other) for X and Y",
        )
    model = adapt(model, sets[0])
    k = jax.eval_shape(model, jax.eval_shape(lambda: jnp.asarray(sets[0][0]))).size
    demand_classes(np.concatenate(given), k)
    classes = sorted({*np.concatenate(given).tolist()})
    found = {}
    for one in classes:
        parts = [values[own == one] for values, own in zip(sets, given, strict=True)]
        if all(map(len, parts)):
            folder = None if out is None else os.path.join(out, str(one))
            found[one] = entk(Output(model, one), *parts, outputs="trace", out=folder, **words)
    return found


class Output(eqx.Module):
    """One output of a model, as (1,)."""

    model: Callable
    at: int = eqx.field(static=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.model(x)[self.at : self.at + 1]


def entk_plan(
    model: Any,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    outputs: str = "all",
    algorithm: str = "auto",
    memory: str | float | None = None,
    by: str | Group | None = None,
) -> Plan:
    """What `entk` would do with these arguments, and what it and the other algorithms cost.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> plan = entk_plan(model, jnp.eye(2), memory="1GB")
    >>> len(plan.costs), plan.chosen.side
    (3, 2)
    """
    return _Job.of(model, X, Y, outputs, by, held=True).plan(algorithm, memory)


@dataclass(frozen=True, eq=False)
class _Job:
    """A kernel to compute: the model, its inputs, how it uses its parameters, and which of them make which matrix."""

    model: Callable
    X: np.ndarray
    Y: np.ndarray | None
    found: Structure
    plain: Structure
    outputs: Outputs
    leaves: dict[str, set[int]]
    held: bool

    @classmethod
    def of(cls, model: Any, X: ArrayLike, Y: ArrayLike | None, outputs: str, by: str | Group | None, held: bool):
        _known("outputs", outputs, OUTPUTS)
        left = _inputs("X", X)
        right = None if Y is None else _inputs("Y", Y)
        if right is not None and right.shape[1:] != left.shape[1:]:
            reject(
                f"X with inputs of shape {left.shape[1:]} and Y with inputs of shape {right.shape[1:]}",
                "Both sets of inputs go through the same model",
                "Check the shapes",
            )
        model = adapt(model, left)
        x = jax.eval_shape(lambda: jnp.asarray(left[0]))
        found, plain = structure(model, x), structure(model, x, plain=True)
        return cls(model, left, right, found, plain, cast(Outputs, outputs), groups(model, by), held)

    @property
    def dtype(self) -> str:
        return str(np.dtype(self.found.dtype))

    @property
    def names(self) -> tuple[str, ...]:
        """The matrices: one for each group of parameters and, on the diagonal, each output."""
        each = [""] if self.outputs != "diagonal" else [f" {at}" for at in range(self.found.outputs)]
        return tuple(f"{group}{one}".replace("/", ".") for group in self.leaves for one in each)

    def plan(self, algorithm: str, memory: str | float | None) -> Plan:
        _known("algorithm", algorithm, ALGORITHMS)
        if len(self.leaves) > 1:
            algorithm = "structured" if algorithm == "auto" else algorithm
            _demand_parts(algorithm)
        m = None if self.Y is None else len(self.Y)
        work = Work(self.found, len(self.X), m, self.outputs, self.held, len(self.leaves))
        return planned(work, self.plain, algorithm, bytes_of(memory))

    def tiles(self, cost: Cost):
        """The grid of the matrix's rows and columns, and what computes a tile."""
        k = self.found.outputs if self.outputs == "all" else 1
        inputs = Grid.of(len(self.X), None if self.Y is None else len(self.Y), cost.side)
        rows, columns = (tuple(_times(one, k) for one in parts) for parts in (inputs.rows, inputs.columns))
        compute = self._by_products(inputs) if cost.algorithm == "products" else self._by_factors(cost, inputs)

        def tile(rows: slice, columns: slice):
            return tuple(compute(_times(rows, 1 / k), _times(columns, 1 / k))), 0.0

        return Grid(rows, columns, inputs.symmetric), tile

    def _by_factors(self, cost: Cost, grid: Grid):
        found = self.plain if cost.algorithm == "jacobian" else self.found
        n, m = grid.rows[0].stop, grid.columns[0].stop
        each = 1 if cost.one_output else found.outputs
        parts = tuple(
            tuple(steps(replace(found, outputs=each), found.pieces(leaves), n, m, self.outputs))
            for leaves in self.leaves.values()
        )
        compute = self._output_by_output(found, parts) if cost.one_output else self._at_once(found, parts)

        def tile(rows: slice, columns: slice):
            own = self.Y is None and rows == columns
            blocks = Blocks.of(n, m, found.outputs if self.outputs == "all" else 1, own)
            totals = compute(rows, None if own else columns, blocks)
            for total in totals:
                yield from self._placed(total, blocks, rows.stop - rows.start, columns.stop - columns.start)

        return tile

    def _placed(self, total: jax.Array, blocks: Blocks, n: int, m: int):
        """The matrices of a tile, one for each output on the diagonal."""
        matrix = blocks.placed(total, n, m)
        if self.outputs == "diagonal":
            yield from matrix
        else:
            yield matrix / np.asarray(self.found.outputs, matrix.dtype) if self.outputs == "trace" else matrix

    def _at_once(self, found: Structure, parts: tuple[tuple[Step, ...], ...]):
        """The factors of all outputs; those of a row of tiles are kept."""
        rows: dict[int, Factors] = {}

        def compute(first: slice, second: slice | None, blocks: Blocks):
            if first.start not in rows:
                rows.clear()
                rows[first.start] = factors(self.model, _filled(self.X, first, blocks.n), found)
            left = rows[first.start]
            right = left if second is None else factors(self.model, self._right(second, blocks.m), found)
            return [_summed(found, part, left, right, self.outputs, blocks) for part in parts]

        return compute

    def _output_by_output(self, found: Structure, parts: tuple[tuple[Step, ...], ...]):
        def compute(first: slice, second: slice | None, blocks: Blocks):
            X = _filled(self.X, first, blocks.n)
            Y = None if second is None else self._right(second, blocks.m)
            return output_by_output(self.model, X, Y, found, parts, self.outputs, blocks)

        return compute

    def _right(self, part: slice, count: int) -> jax.Array:
        return _filled(self.X if self.Y is None else self.Y, part, count)

    def _by_products(self, grid: Grid):
        n, m, k = grid.rows[0].stop, grid.columns[0].stop, self.found.outputs

        def tile(rows: slice, columns: slice):
            kernel = np.asarray(by_products(self.model, _filled(self.X, rows, n), self._right(columns, m)))
            kernel = kernel[: rows.stop - rows.start, :, : columns.stop - columns.start]
            if self.outputs == "all":
                yield kernel.reshape(len(kernel) * k, -1)
            elif self.outputs == "trace":
                yield np.einsum("njmj->nm", kernel) / np.asarray(k, kernel.dtype)
            else:
                yield from np.einsum("njmj->jnm", kernel)

        return tile

    def shaped(self, matrices: tuple[np.ndarray, ...]) -> Any:
        n, m, k = len(self.X), len(self.X if self.Y is None else self.Y), self.found.outputs
        if self.outputs == "diagonal":
            apart = [matrices[at : at + k] for at in range(0, len(matrices), k)]
            matrices = tuple(np.moveaxis(np.stack(one), 0, 2) for one in apart)
        elif self.outputs == "all":
            matrices = tuple(matrix.reshape(n, k, m, k) for matrix in matrices)
        return matrices[0] if [*self.leaves] == ["entk"] else dict(zip(self.leaves, matrices, strict=True))

    def named(self, matrices: tuple[Any, ...]) -> Any:
        return matrices[0] if self.names == ("entk",) else dict(zip(self.names, matrices, strict=True))

    def request(self) -> dict[str, Any]:
        """What tells this matrix from others: inputs, parameters, and some outputs."""
        inputs = [self.X] if self.Y is None else [self.X, self.Y]
        values = np.asarray(jax.vmap(self.model)(jnp.asarray(self.X[:_PROBED])))
        held = [fingerprint(np.asarray(leaf)) for leaf in parameters(self.model)[0]]
        return {"inputs": [fingerprint(one) for one in inputs], "parameters": held, "probe": values.ravel().tolist()}


def _summed(
    found: Structure, part: Sequence[Step], left: Factors, right: Factors, outputs: Outputs, blocks: Blocks
) -> jax.Array:
    total = start(found, outputs, blocks)
    for step in part:
        # One after the other: each may take what memory is left.
        total = jax.block_until_ready(add(total, step, found, left, right, outputs, blocks))
    return total


@eqx.filter_jit
def output_by_output(
    model: Callable,
    X: jax.Array,
    Y: jax.Array | None,
    found: Structure,
    parts: tuple[tuple[Step, ...], ...],
    outputs: Outputs,
    blocks: Blocks,
) -> list[jax.Array]:
    """The traces, or the diagonal over outputs, with the factors of no more than one output at a time."""
    left, right = pulled(model, X, found), None if Y is None else pulled(model, Y, found)
    single = replace(found, outputs=1)

    def added(totals: list[jax.Array], unit: jax.Array) -> list[jax.Array]:
        x = left(unit)
        y = x if right is None else right(unit)
        for step_of, part in enumerate(parts):
            for step in part:
                totals[step_of] = add(totals[step_of], step, single, x, y, "trace", blocks)
        return totals

    units, nothing = jnp.eye(found.outputs, dtype=found.dtype), [start(single, "trace", blocks) for _ in parts]
    if outputs == "diagonal":
        each = jax.lax.map(lambda unit: added([*nothing], unit), units)
        return [jnp.moveaxis(one, 0, 1) for one in each]
    return jax.lax.scan(lambda totals, unit: (added([*totals], unit), None), nothing, units)[0]


def empirical_kernel(
    model: Callable, X: jax.Array, Y: jax.Array | None = None, *, outputs: Outputs = "all"
) -> jax.Array:
    """The empirical NTK of an adapted model as `entk` gives it, in one piece and traceable: for jit, vmap and grad.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> jax.jit(lambda X: empirical_kernel(model, X, outputs="trace"))(jnp.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    _known("outputs", outputs, OUTPUTS)
    found = structure(model, jax.ShapeDtypeStruct(X.shape[1:], X.dtype))
    left = factors(model, X, found)
    right = left if Y is None else factors(model, Y, found)
    blocks = Blocks.whole(len(X), len(X if Y is None else Y))
    total = start(found, outputs, blocks)
    for step in steps(found, found.pieces(range(len(found.leaves))), blocks.n, blocks.m, outputs):
        total = add(total, step, found, left, right, outputs, blocks)
    if outputs == "diagonal":
        return jnp.moveaxis(total[0], 0, 2)
    return total[0] / found.outputs if outputs == "trace" else total[0]


def _times(part: slice, factor: float) -> slice:
    return slice(round(part.start * factor), round(part.stop * factor))


def _filled(X: np.ndarray, part: slice, count: int) -> jax.Array:
    """Inputs of a tile, the last one repeated until the tile has its full size: what is compiled fits every tile."""
    return jnp.asarray(X[np.minimum(np.arange(part.start, part.start + count), part.stop - 1)])


def _inputs(name: str, X: ArrayLike) -> np.ndarray:
    demand_numbers(name, X)
    found = np.asarray(X)
    if found.ndim < 1 or len(found) == 0:
        reject(f"{name} of shape {found.shape}", "Inputs have a first axis of at least one example", "Give (n, ...)")
    if np.issubdtype(found.dtype, np.inexact) and not np.all(np.isfinite(found)):
        reject(f"{name} with NaN or infinity", "Inputs are finite", "Remove or mend those rows")
    return found


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        reject(f"{name}={value!r}{nearest(value, known)}", f"Known are {', '.join(known)}", "Choose one of them")


def _demand_parts(algorithm: str) -> None:
    if algorithm == "products":
        reject(
            "algorithm='products' with a kernel in parts",
            "Products with vectors give the whole kernel only",
            "Use algorithm='structured'",
        )
