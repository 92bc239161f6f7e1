r"""What each way to an empirical kernel costs, before it is gone: operations, bytes and time.

Legend: n and m inputs, k outputs, p parameters, F the operations of one forward pass. Per example, forming the Jacobian
takes $(1 + 2k)F$ operations and k p numbers, the factors of the structured way $(1 + k)F$ and what the uses of the
parameters keep; k m products of the kernel with a vector take $(2n + 3)F$ each and p numbers.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.numerics import reject

from .contract import Outputs, Step, operations, steps
from .factors import Piece, Structure
from .memory import spoken
from .uses import Convolution

ALGORITHMS = ("auto", "structured", "jacobian", "products")
_PROBE, _REPEATS = 1024, 3  # of the matrix product by which the time is estimated
_CACHED = 0.8  # of the time, where outputs are taken one after the other
_COPIES = 3  # of a tile of the kernel while something is added to it
_AT_ONCE = 2**22  # numbers of the overlaps that are formed at a time, where one row of inputs has no more
# How much longer operations take than in one large matrix product, as measured: the last two go example by example.
_SLOWER = {"structured": 2.0, "jacobian": 6.0, "products": 4.0}


@dataclass(frozen=True)
class Cost:
    """Of one algorithm: tiles of so many inputs squared, operations, peak memory in bytes, seconds, estimated.

    ``memory`` counts arrays, the matrix itself included where it stays in memory, and not the program.
    ``one_output``: of traces and diagonals, the outputs one after the other, each with its own way back.
    """

    algorithm: str
    side: int
    operations: float
    memory: float
    seconds: float
    one_output: bool = False


@dataclass(frozen=True)
class Plan:
    """The costs of all algorithms, the best that fits first; printed, a table."""

    costs: tuple[Cost, ...]
    limit: int

    @property
    def chosen(self) -> Cost:
        return self.costs[0]

    def __repr__(self) -> str:
        return f"Plan({self.chosen.algorithm} of {spoken(self.chosen.memory)}, limit {spoken(self.limit)})"

    def __str__(self) -> str:
        head = f"{'algorithm':<12}{'tile':>8}{'operations':>13}{'memory':>10}{'seconds, compiled':>20}"
        rows = [
            f"{one.algorithm:<12}{one.side:>8}{one.operations:>13.3g}{spoken(one.memory):>10}{one.seconds:>20.3g}"
            + ("  above the limit" if one.memory > self.limit else "")
            for one in self.costs
        ]
        return "\n".join([head, *rows, f"limit {spoken(self.limit)}; chosen: {self.chosen.algorithm}"])


@dataclass(frozen=True)
class Work:
    """A kernel to compute: of which inputs (m=None: symmetric), of which outputs, and whether it is held in memory."""

    found: Structure
    n: int
    m: int | None
    outputs: Outputs
    held: bool
    matrices: int

    @property
    def columns(self) -> int:
        return self.n if self.m is None else self.m

    @property
    def pairs(self) -> int:
        """Numbers for a pair of inputs."""
        k = self.found.outputs
        return {"all": k * k, "trace": 1, "diagonal": k}[self.outputs]

    @property
    def bytes(self) -> int:
        return np.dtype(self.found.dtype).itemsize

    @property
    def result(self) -> int:
        return self.n * self.columns * self.pairs * self.bytes * self.matrices if self.held else 0

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(math.prod(leaf.shape) for leaf in self.found.leaves)


def planned(work: Work, plain: Structure, algorithm: str, limit: int) -> Plan:
    """The costs of the algorithms with tiles that fit, the best first; of one alone where it is asked for."""
    names = ALGORITHMS[1:] if algorithm == "auto" else (algorithm,)
    costs = [_cheapest(work, plain, name, limit) for name in names]
    fit = sorted((cost for cost in costs if cost.memory <= limit), key=lambda cost: cost.seconds)
    if not fit:
        least = min(cost.memory for cost in costs)
        reject(
            f"A limit of {spoken(limit)} for {work.n} x {work.columns} inputs with {work.found.outputs} outputs",
            f"At least {spoken(least)} are needed, of which the kernel itself takes {spoken(work.result)}",
            "Give more, such as memory='8GB' (a number: bytes), outputs='trace', or a folder for it (out='kernel')",
        )
    return Plan((*fit, *(cost for cost in costs if cost not in fit)), limit)


def _cheapest(work: Work, plain: Structure, algorithm: str, limit: int) -> Cost:
    """The cheaper of both ways to take the outputs, all at once or one by one, if it fits."""
    both = (False, True) if algorithm == "structured" and work.outputs != "all" else (False,)
    costs = [_largest(work, plain, algorithm, limit, one_output) for one_output in both]
    # Arrays of one output stay in the cache: it is taken where it needs hardly more operations.
    return min(costs, key=lambda cost: (cost.memory > limit, cost.seconds * (_CACHED if cost.one_output else 1.0)))


def _largest(work: Work, plain: Structure, algorithm: str, limit: int, one_output: bool) -> Cost:
    """The largest tiles that fit, or the smallest there are."""
    most = max(work.n, work.columns)
    sides = sorted({-(-most // parts) for parts in range(1, min(most, 512) + 1)}, reverse=True)
    fits = (side for side in sides if work.result + _memory(work, plain, algorithm, side, one_output) <= limit)
    side = next(fits, 1)
    memory = work.result + _memory(work, plain, algorithm, side, one_output)
    count = _operations(work, plain, algorithm, side, one_output)
    seconds = _SLOWER[algorithm] * count / speed(str(np.dtype(work.found.dtype)))
    return Cost(algorithm, side, count, memory, seconds, one_output)


def _memory(work: Work, plain: Structure, algorithm: str, side: int, one_output: bool) -> float:
    """Bytes beside the result; the factors of one output at a time are those of a model with one output."""
    n, m = min(side, work.n), min(side, work.columns)
    own = work.m is None and n == work.n
    both = n if own else n + m
    tile = _COPIES * (0.5 if own else 1.0) * n * m * work.pairs * work.matrices * work.bytes
    if algorithm == "products":
        k = work.found.outputs
        return tile + (n * m * k * k + 3 * work.size + 4 * n * _made(work.found)) * work.bytes
    found = plain if algorithm == "jacobian" else work.found
    found = replace(found, outputs=1) if one_output else found
    pieces = steps(found, found.pieces(range(len(found.leaves))), n, m, work.outputs)
    most = max((_step_memory(found, step, both, m) for step in pieces), default=0)
    back = found.back * (both if one_output else n)
    # Where the factors of all outputs are held, what a way back needs is gone before a step begins.
    working = max(back, most * work.bytes) if not one_output else back + most * work.bytes
    return tile + both * kept(found) + working


def kept(found: Structure) -> float:
    """Bytes of the factors of one input."""
    direct = sum(math.prod(found.leaves[at].shape) for at in found.direct)
    numbers = found.outputs * (direct + _made(found)) + _made(found)
    return numbers * np.dtype(found.dtype).itemsize


def _made(found: Structure) -> int:
    return sum(math.prod(use.output.shape) for use in found.uses if use.output is not None)


def _step_memory(found: Structure, step: Step, both: int, m: int) -> float:
    """Numbers that are held while a step adds to the kernel."""
    if not step.pieces[0].uses:
        return both * found.outputs * sum(math.prod(found.leaves[piece.leaves[0]].shape) for piece in step.pieces)
    return sum(_piece_memory(found, piece, both, m, step.gradients) for piece in step.pieces)


def _piece_memory(found: Structure, piece: Piece, both: int, m: int, gradients: bool) -> float:
    k, uses = found.outputs, [found.uses[at] for at in piece.uses]
    b, i, o = uses[0].blocks
    s = sum(use.positions for use in uses)
    read = b * s * i * (2 if isinstance(uses[0].kind, Convolution) else 1)
    if gradients:
        return both * (read + k * b * s * o + k * b * i * o)
    if b * s == 1:
        return both * (read + k * o)
    row = b * s * m * (s + k * o)
    return both * (read + 2 * k * b * s * o) + row * max(1, min(both, _AT_ONCE // row))


def _operations(work: Work, plain: Structure, algorithm: str, side: int, one_output: bool) -> float:
    k, F, m = work.found.outputs, work.found.forward, work.columns
    half = 0.5 * (1.0 + min(side, m) / m) if work.m is None else 1.0
    if algorithm == "products":
        return half * m * k * (2.0 * work.n + 3.0) * F
    tiles = math.ceil(work.n / side) * math.ceil(m / side) * half
    rows = tiles * min(side, work.n) if one_output else work.n
    seen = work.n if work.m is None and side >= work.n else rows + tiles * min(side, m)
    found = plain if algorithm == "jacobian" else work.found
    passes = seen * (1.0 + (2.0 if algorithm == "jacobian" else 1.0) * k) * F
    rounds, found = (k, replace(found, outputs=1)) if one_output else (1, found)
    sides = min(side, work.n), min(side, m)
    each = steps(found, found.pieces(range(len(found.leaves))), *sides, work.outputs)
    contracted = sum(_step_operations(found, step, *sides, work.outputs) for step in each)
    return passes + tiles * rounds * contracted


def _step_operations(found: Structure, step: Step, n: int, m: int, outputs: Outputs) -> float:
    return sum(operations(found, piece, n, m, outputs, step.gradients) for piece in step.pieces)


@cache
def speed(dtype: str) -> float:
    """Operations a second in a matrix product, measured once."""
    with jax.enable_x64(True):
        matrix = jnp.ones((_PROBE, _PROBE), dtype)
        product = jax.jit(jnp.matmul)
        product(matrix, matrix).block_until_ready()
        taken = []
        for _ in range(_REPEATS):
            begun = time.perf_counter()
            product(matrix, matrix).block_until_ready()
            taken.append(time.perf_counter() - begun)
    return 2.0 * _PROBE**3 / min(taken)
