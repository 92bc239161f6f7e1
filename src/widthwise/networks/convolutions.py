r"""Kernel matrices of convolutional networks that pool or flatten all positions, displacement by displacement.

Convolutions move both positions of a pair alike, so that pairs of one displacement are a world of their own; they are
done in batches that fit a processor's cache. What the network does once its positions are gone is done layer by layer.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation
from widthwise.grams import Progress

from .chain import Chain
from .combine import Scale
from .dense import Dense
from .displacement import Moments, Numbers, begun, flattened, pooled
from .inputs import Directions
from .layer import AbstractLayer
from .mixing import from_covariance
from .pair import Pair
from .pool import Flatten, GlobalPool
from .positional import Own, Tile, kernels, propagated
from .recursion import run
from .steps import Applied, Axes, Joined, Step, flat, held, planned

Work = TypeVar("Work")
Result = TypeVar("Result")

_ENTRIES = 2**20  # pairs of positions in a batch: some of its arrays fit a cache
_WORK = 2**32  # pairs of positions in a minute, roughly, for ten layers on two cores
_ROUNDING = {"float64": 1e-13, "float32": 2e-5}  # ten times what is seen against single pairs
_KEPT = 31 * 2**20  # bytes, just below what is always returned
_RANGE = 1e-15, 1e15  # mean squares whose products with each other and with small angles float32 can hold


@dataclass(frozen=True)
class Plan:
    """The steps up to the head, where positions end, the axes before and after them, and the layers after the head."""

    steps: tuple[Step, ...]
    before: Axes
    after: Axes
    head: Flatten | GlobalPool
    rest: tuple[AbstractLayer, ...]

    @property
    def linear(self) -> bool:
        """Whether everything after the head is linear in the kernels."""
        return all(isinstance(layer, Dense | Scale) for layer in self.rest)

    @property
    def method(self) -> str:
        """How the kernels are computed, in words."""
        return "displacement by displacement" if self.before.crossed else "position by position"

    @property
    def side(self) -> int:
        """A tile of so many inputs squared takes a minute or so."""
        pairs = _WORK // (
            math.prod(self.before.periods) * (math.prod(self.before.lengths) if self.before.crossed else 1)
        )
        return math.isqrt(max(1, pairs))

    def precision(self, dtype: str, power: np.ndarray) -> str:
        """What is computed in: float32 if that is asked for and enough."""
        some = power[power > 0]
        within = not len(some) or (some.min() > _RANGE[0] and some.max() < _RANGE[1])
        return dtype if self.linear and _rectifiers(self.steps) and within else "float64"


def _rectifiers(steps: tuple[Step, ...]) -> bool:
    inner = (step.branch for step in steps if isinstance(step, Joined))
    return not any(isinstance(step, Applied) for step in steps) and all(map(_rectifiers, inner))


def plan(network: AbstractLayer, positions: tuple[int, ...], size: int) -> Plan | None:
    """How to compute the kernels of a network so; none where that is not possible."""
    leaves = jax.tree.leaves(network, is_leaf=lambda node: isinstance(node, Activation))
    if not positions or any(isinstance(leaf, Activation) and leaf.closed is None for leaf in leaves):
        return None
    layers = flat(network)
    done = len(planned(layers, Axes(False, positions, positions, size))[0])
    if not done or done == len(layers) or not isinstance(head := layers[done], Flatten | GlobalPool):
        return None
    crossed = isinstance(head, GlobalPool)
    before = held(layers[:done], positions, size) if crossed else Axes(False, positions, positions, size)
    if before is None:
        return None
    steps, after = planned(layers[:done], before)
    return Plan(steps, before, after, head, tuple(layers[done + 1 :]))


def convolutional(
    plan: Plan, X: Directions, Y: Directions | None, dtype: str, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """NNGP and NTK of all pairs, each (n, m), and their relative error; ``Y=None`` means X with itself."""
    power = X.power if Y is None else np.concatenate([X.power, Y.power])
    dtype = plan.precision(dtype, power)
    _keep_memory()
    tile = (_pooled if plan.before.crossed else _flattened)(plan, X, Y, dtype, progress or _silent)
    tile = propagated(Chain(plan.rest), tile) if plan.rest else tile
    *found, error = kernels(tile)
    nngp, ntk, own_nngp, own_ntk = (np.array(part) for part in found)
    if Y is None:
        for matrix, own in ((nngp, own_nngp), (ntk, own_ntk)):
            matrix[np.tril_indices(len(X), -1)] = matrix.T[np.tril_indices(len(X), -1)]
            np.fill_diagonal(matrix, own)
    return nngp, ntk, _ROUNDING[dtype] + (0.0 if plan.linear else float(error))


def _keep_memory() -> None:
    """Free a large block: the C library then keeps blocks up to this size, where it would return each to the system
    and have every page of the next one cleared, at half the time of all."""
    np.empty(_KEPT, np.int8)


def _silent(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _pooled(plan: Plan, X: Directions, Y: Directions | None, dtype: str, progress: Progress) -> Tile:
    """The tile after a pooling of all positions; what is asked twice, as for equal inputs, is computed once."""
    n, m = len(X), len(X if Y is None else Y)
    sets = [X] if Y is None else [X, Y]
    both, same = _different(
        Directions(np.concatenate([one.power for one in sets]), np.concatenate([one.unit for one in sets]))
    )
    i, j = np.indices((n, m))
    first = np.concatenate([i.reshape(-1), np.arange(len(same))])
    second = np.concatenate([j.reshape(-1) + (0 if Y is None else n), np.arange(len(same))])
    asked, where = np.unique(np.sort(np.stack([same[first], same[second]]), axis=0), axis=1, return_inverse=True)
    sums = _sums(plan, both, (asked[0], asked[1]), dtype, progress)[:, where.reshape(-1)]
    own = sums[:, n * m :]
    return _correlated(plan, sums[:, : n * m].reshape(2, n, m), own[:, :n], own[:, -m:])


def _different(X: Directions) -> tuple[Directions, np.ndarray]:
    """The inputs without repetitions, and for each input its place among them."""
    places: dict[tuple[bytes, bytes], int] = {}
    power, unit = X.power + 0.0, X.unit + 0.0  # no negative zeros
    each = zip(power, unit, strict=True)
    same = np.array([places.setdefault((one.tobytes(), other.tobytes()), len(places)) for one, other in each])
    return X[np.unique(same, return_index=True)[1]], same


def _sums(
    plan: Plan, X: Directions, pairs: tuple[np.ndarray, np.ndarray], dtype: str, progress: Progress
) -> np.ndarray:
    """Kernel and tangent kernel (2, k) of the pooled signals of pairs of inputs, given by their places."""
    periods, displaced = plan.before.periods, len(plan.before.lengths) - 1
    counts = plan.after.periods[:displaced]
    moves = np.array(list(np.ndindex(counts)), int).reshape(math.prod(counts), displaced)
    number = {tuple(move): at for at, move in enumerate(moves.tolist())}
    back = np.array([number[tuple(move)] for move in (-moves % np.array(counts, int)).tolist()])
    steps = np.array([before // after for before, after in zip(periods, counts, strict=False)], int)
    inputs, (left, right) = _Held.of(X, periods, dtype), pairs
    pair, move = (part.reshape(-1) for part in np.indices((len(left), len(moves))))
    same = left[pair] == right[pair]  # an input with itself: the pairs of a displacement are those of its opposite
    pair, move, twice = (part[~same | (move <= back[move])] for part in (pair, move, same & (move < back[move])))
    batches = list(_batches(len(pair), math.prod(periods) * periods[-1]))

    def summed(chosen: np.ndarray) -> np.ndarray:
        at, moved = pair[chosen], moves[move[chosen]] * steps
        return np.stack(pooled(run(plan.steps, inputs.begun(left[at], right[at], moved))))

    found = []
    for done, sums in enumerate(_two_at_once(summed, batches), 1):
        found.append(sums)
        progress(done, len(batches))
    each = np.concatenate(found, axis=1)[:, : len(pair)] * (1 + twice)
    average = isinstance(plan.head, GlobalPool) and plan.head.kind == "average"
    factor = math.prod(plan.after.lengths) ** 2 if average else 1
    return np.stack([np.bincount(pair, one, len(left)) for one in each]) / factor


def _two_at_once(function: Callable[[Work], Result], items: Sequence[Work]) -> Iterator[Result]:
    """The results in order: where one batch leaves a core idle, for short loops or for the next call, another does not.

    The first is done alone, as it compiles. What JAX is told for a time, it is told for one thread.
    """

    def alike(item: Work) -> Result:
        with jax.enable_x64(True):
            return function(item)

    yield function(items[0])
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(alike, items[1:])


def _batches(count: int, entries: int) -> Iterator[np.ndarray]:
    """Batches of one size, the last filled up with its end."""
    number = -(-count // max(1, _ENTRIES // entries))
    side = -(-count // number)
    for start in range(0, count, side):
        yield np.minimum(np.arange(start, start + side), count - 1)


@dataclass(frozen=True, eq=False)
class _Held:
    r"""Variances (n, \*p) and unit vectors (c, n, \*p) of inputs, with zeros up to the periods."""

    lengths: tuple[int, ...]
    power: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, X: Directions, periods: tuple[int, ...], dtype: str) -> "_Held":
        more = [(0, 0), *((0, period - n) for period, n in zip(periods, X.positions, strict=True))]
        unit = np.pad(np.moveaxis(X.unit, -1, 0), [(0, 0), *more])
        return cls(X.positions, np.pad(X.power, more).astype(dtype), np.ascontiguousarray(unit.astype(dtype)))

    def begun(self, left: np.ndarray, right: np.ndarray, moved: np.ndarray) -> Moments:
        """The grid of pairs of inputs, the positions of y moved along all axes but the last."""
        held, displaced = self.power.shape[1:], moved.shape[1]
        places = [right.reshape(-1, *(1,) * displaced)]
        for at in range(displaced):
            row = (np.arange(held[at])[None, :] + moved[:, at, None]) % held[at]
            places.append(row.reshape(len(row), *(held[at] if axis == at else 1 for axis in range(displaced))))
        y, index = tuple(places), (slice(None), *places)
        x = self.power[left][..., None], self.unit[:, left][..., None]
        there = self.lengths[:displaced]
        return begun(there, x[0], self.power[y][..., None, :], x[1], self.unit[index][..., None, :], moved)


def _correlated(plan: Plan, between: np.ndarray, x: np.ndarray, y: np.ndarray) -> Tile:
    """A tile without positions from kernels and tangent kernels (2, n, m), (2, n) and (2, m)."""
    size, gaussian = plan.after.size, plan.after.gaussian
    gap, cogap, error = _gaps(x[0], y[0], *between)
    return Tile(_own(*x), _own(*y), gap, cogap, jnp.asarray(between[1]), jnp.max(error), size, gaussian)


@jax.jit
def _gaps(x: Numbers, y: Numbers, xy: Numbers, ntk: Numbers) -> tuple[Array, Array, Array]:
    """Gap, cogap and their error, each (n, m), from variances (n,), (m,) and covariances (n, m)."""

    def one(xx, yy, xy, ntk):
        moved = from_covariance(Pair(xx, yy, xy, xy, ntk, jnp.zeros(()), None), xx, yy, xy, ntk)
        return moved.gap, moved.cogap, moved.error

    rows = jax.vmap(jax.vmap(one, in_axes=(None, 0, 0, 0)), in_axes=(0, None, 0, 0))
    return rows(*map(jnp.asarray, (x, y, xy, ntk)))


def _own(power: np.ndarray, ntk: np.ndarray) -> Own:
    power = np.maximum(power, 0.0)
    gap, cogap = np.where(power > 0.0, 0.0, 1.0), np.where(power > 0.0, 2.0, 1.0)
    return Own(*map(jnp.asarray, (power, gap, cogap, ntk)))


def _flattened(plan: Plan, X: Directions, Y: Directions | None, dtype: str, progress: Progress) -> Tile:
    """The tile after a flattening of all positions; equal inputs are taken together where that keeps symmetry."""
    inputs, rows = _different(X) if Y is None else (X, np.arange(len(X)))
    left = _Held.of(inputs, X.positions, dtype)
    right, columns = (left, rows) if Y is None else (_Held.of(Y, Y.positions, dtype), np.arange(len(Y)))
    tiles = list(_tiles(len(left.power), len(right.power), _side(X), Y is None))
    moments = _matrices(plan, left, right, tiles, Y is None, progress)
    gap, cogap, ntk = (jnp.asarray(part[np.ix_(rows, columns)]) for part in moments)
    x = _alone(plan, left, _side(X))
    y = x if Y is None else _alone(plan, right, _side(X))
    x, y = (Own(*(part[places] for part in own)) for own, places in ((x, rows), (y, columns)))
    size = None if plan.after.size is None else plan.after.size * math.prod(plan.after.lengths)
    return Tile(x, y, gap, cogap, ntk, jnp.zeros(()), size, plan.after.gaussian)


def _matrices(plan: Plan, X: _Held, Y: _Held, tiles: list, symmetric: bool, progress: Progress) -> list[np.ndarray]:
    """Gap, cogap and tangent kernel, each (n, m)."""
    found, rank = [np.zeros((len(X.power), len(Y.power))) for _ in range(3)], X.power.ndim - 1

    def moments(place: tuple[np.ndarray, np.ndarray]) -> tuple:
        rows, columns = place
        after = run(plan.steps, _grid(X, Y, rows[:, None], columns[None]))
        return place, [np.asarray(part) for part in flattened(rank, after)[1:]]

    for done, ((rows, columns), parts) in enumerate(_two_at_once(moments, tiles), 1):
        for matrix, part in zip(found, parts, strict=True):
            matrix[np.ix_(rows, columns)] = part
            if symmetric:
                matrix[np.ix_(columns, rows)] = part.T
        progress(done, len(tiles))
    return [np.triu(part) + np.triu(part, 1).T for part in found] if symmetric else found


def _side(X: Directions) -> int:
    """How many pairs of inputs fit a batch."""
    return max(1, _ENTRIES // math.prod(X.positions))


def _grid(left: _Held, right: _Held, rows: np.ndarray, columns: np.ndarray) -> Moments:
    """The grid of equal positions of inputs given by their places, (b, 1) or (1, k) of x and (1, k) of y."""

    def last(values: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.moveaxis(values[..., places], (-2, -1), (0, values.ndim))

    x, y = rows, columns
    powers = (last(np.moveaxis(part.power, 0, -1), at) for part, at in ((left, x), (right, y)))
    units = (np.moveaxis(np.moveaxis(part.unit, 1, -1)[..., at], -2, 1) for part, at in ((left, x), (right, y)))
    return begun((), *powers, *units, np.zeros((len(rows), 0), int))


def _alone(plan: Plan, X: _Held, side: int) -> Own:
    """Inputs with themselves."""
    found = []
    for start in range(0, len(X.power), side):
        same = np.minimum(np.arange(start, start + min(side, len(X.power))), len(X.power) - 1)[None]
        found.append(flattened(X.power.ndim - 1, run(plan.steps, _grid(X, X, same, same))))
    power, _, _, ntk = (np.concatenate([np.asarray(one[at])[0] for one in found])[: len(X.power)] for at in range(4))
    return _own(power, ntk)


def _tiles(n: int, m: int, side: int, symmetric: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of tiles of one shape; of a symmetric matrix for each row half of the others, in a circle."""

    def reach(rows: int) -> int:
        return min(m, n // 2 + rows) if symmetric else m

    most = max((rows for rows in range(1, n + 1) if rows * reach(rows) <= side), default=1)
    rows = -(-n // -(-n // most))
    number = -(-reach(rows) // max(1, side // rows))
    columns = -(-reach(rows) // number)
    for top in range(0, n, rows):
        for left in range(0, reach(rows), columns):
            first = top if symmetric else 0
            seen = np.minimum(np.arange(left, left + columns), reach(rows) - 1)
            yield np.minimum(np.arange(top, top + rows), n - 1), (first + seen) % m
