r"""Every operation of a model that joins what varies with the input and a parameter, and what its update adds there.

Legend: for one input, a *tap* is such an operation, $z = op(h, w)$: $h$ what it reads, $w$ the parameter; or the
product of two values that both vary (a score of attention). With parameters $w$ now and $w_0$ at the start,
$\delta = op(h, w) - op(h, w_0)$ is the *own* contribution of the update: what $z$ owes to it at the $h$ of now.
Constants by which $z$ or $h$ are multiplied beside the operation (multipliers) count as parts of it: $z$ stands after
them, $h$ before them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.operators import evaluated, parameters, walked

from .traced import parameter_names

_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
}
_CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
_MOVES = {
    *("transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "rev", "copy", "copy_p"),
    *("convert_element_type", "reduce_precision", "stop_gradient"),
}
_MOST_ROUNDS = 256  # a loop over stacked layers is unrolled


class Value(NamedTuple):
    """An array now; and what it would be with the parameters of the start, where it is made of parameters alone.

    ``made``: the taps that made it; ``scale``: the constant by which it was multiplied since it was made;
    ``number``: the entry of a constant whose entries are all equal.
    """

    now: Any
    start: Any = None
    varies: bool = False
    leaves: frozenset[int] = frozenset()
    made: tuple[int, ...] = ()
    scale: Any = 1.0
    number: Any = None


@dataclass(frozen=True)
class Tap:
    """What is known of an operation before it is run: its names, sizes and the places of its parameters.

    ``kind``: "product" (with a matrix), "convolution", "lookup", "sum" (a bias), "scaling" (elementwise),
    "attention" (of two values that vary) or the name of another operation. ``fan_in``, ``fan_out``: how many numbers
    are summed for each that is made, and how many the parameter makes.
    """

    name: str
    kind: str
    leaves: tuple[int, ...]
    fan_in: int
    fan_out: int


class Seen(eqx.Module):
    """Of each tap, for one input: z, the mean square of h (1 where nothing real is read), delta, and the factor.

    ``joined``: the two values that an attention joins, before constant multipliers; nothing of other taps.
    """

    z: list[Array]
    read: list[Array]
    own: list[Array]
    factor: list[Array]
    joined: list[tuple[Array, ...]]


@dataclass
class Record:
    """What is written down on the way; ``shifts`` are added to what the taps make."""

    names: tuple[str, ...]
    shifts: Iterator[Any] | None = None
    taps: list[Tap] = field(default_factory=list)
    z: list[Any] = field(default_factory=list)
    read: list[Any] = field(default_factory=list)
    own: list[Any] = field(default_factory=list)
    factor: list[Any] = field(default_factory=list)
    joined: list[tuple[Any, ...]] = field(default_factory=list)
    matrices: dict[int, list[tuple[Any, Any]]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)

    def add(self, tap: Tap, z: Any, read: Any, own: Any, joined: tuple[Any, ...] = ()) -> Value:
        self.taps.append(tap)
        self.joined.append(joined)
        shifted = z if self.shifts is None else z + next(self.shifts)
        for kept, one in ((self.z, z), (self.read, read), (self.own, own), (self.factor, jnp.ones((), z.dtype))):
            kept.append(one)
        return Value(shifted, varies=True, made=(len(self.taps) - 1,))

    def seen(self) -> Seen:
        z = [one * factor.astype(one.dtype) for one, factor in zip(self.z, self.factor, strict=True)]
        own = [one * factor.astype(one.dtype) for one, factor in zip(self.own, self.factor, strict=True)]
        return Seen(z, self.read, own, self.factor, self.joined)


@dataclass(frozen=True)
class Taps:
    """The taps of a model in the order of execution; ``hidden``: places of parameters in steps not looked into."""

    taps: tuple[Tap, ...]
    hidden: tuple[int, ...]
    names: tuple[str, ...]
    shapes: tuple[jax.ShapeDtypeStruct, ...]

    def zeros(self, count: int) -> list[Array]:
        """No shifts, for so many inputs."""
        return [jnp.zeros((count, *one.shape), one.dtype) for one in self.shapes]


def find_taps(model: Callable, x: Any) -> Taps:
    """Find the taps of a model that `adapt` returned, by one input or its shape and type.

    >>> from widthwise.operators import adapt
    >>> p = {"in": jnp.ones((3, 2)), "out": jnp.ones((1, 3))}
    >>> model = adapt(lambda p, x: p["out"] @ jnp.tanh(p["in"] @ x) / 3, params=p)
    >>> [(tap.name, tap.kind, tap.fan_in, tap.fan_out) for tap in find_taps(model, jnp.ones(2)).taps]
    [('in', 'product', 2, 3), ('out', 'product', 3, 1)]
    """
    record = Record(parameter_names(model))
    leaves, _ = parameters(model)
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    seen = jax.eval_shape(lambda leaves, x: _walked(model, leaves, leaves, x, record)[1], leaves, like)
    return Taps(tuple(_numbered(record.taps)), tuple(sorted(record.hidden)), record.names, tuple(seen.z))


def read_taps(
    model: Callable, leaves: Sequence[Array], start: Sequence[Array], x: Array, shifts: Sequence[Array] | None = None
) -> tuple[Array, Seen]:
    """The outputs (k,) with parameters ``leaves`` and shifts added to what the taps make, and what is seen there."""
    record = Record(parameter_names(model), None if shifts is None else iter(shifts))
    return _walked(model, leaves, start, x, record)


def matrices(model: Callable, leaves: Sequence[Array], start: Sequence[Array], x: Array) -> dict[int, list[Any]]:
    """For each tap that is a product or convolution: the matrix (fan-in, fan-out) now and at the start."""
    record = Record(parameter_names(model))
    _walked(model, leaves, start, x, record)
    return record.matrices


def _walked(model: Callable, leaves: Sequence[Array], start: Sequence[Array], x: Array, record: Record) -> Any:
    _, rebuild = parameters(model)
    closed = jax.make_jaxpr(lambda leaves, x: jnp.ravel(rebuild(leaves)(x)))(tuple(leaves), x)
    pairs = enumerate(zip(leaves, start, strict=True))
    given = [Value(now, before, leaves=frozenset({at})) for at, (now, before) in pairs]
    (out,) = _run(closed.jaxpr, closed.consts, [*given, Value(x, varies=True)], record)
    return out.now, record.seen()


def _run(jaxpr: Any, consts: Sequence[Any], values: Sequence[Value], record: Record) -> list[Value]:
    """The outputs of traced steps."""
    return walked(
        jaxpr,
        consts,
        values,
        _constant,
        lambda eqn, given: _step(eqn, given, record),
        lambda value: value._replace(made=()),  # a multiplier belongs to what was made only if nothing else reads it
    )


def _constant(array: Any) -> Value:
    return Value(array, number=jnp.ravel(jnp.asarray(array))[0] if np.size(array) == 1 else None)


def _step(eqn: Any, values: list[Value], record: Record) -> list[Value]:
    name, varies = eqn.primitive.name, any(value.varies for value in values)
    trained = any(value.start is not None for value in values)
    if name in _CALLS and (trained or (varies and name not in _CUSTOM)):
        return _run(*_inside(eqn), values, record)
    if name == "scan" and trained and eqn.params["length"] <= _MOST_ROUNDS:
        return _unrolled(eqn, values, record)
    if not trained:
        return _untrained(eqn, values, varies, record)
    leaves = frozenset().union(*(value.leaves for value in values))
    if not varies:
        pairs = zip(_now(eqn, values), _at_start(eqn, values), strict=True)
        return [Value(now, start, leaves=leaves) for now, start in pairs]
    if len(eqn.outvars) > 1 or not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        record.hidden |= leaves
        return [Value(one, varies=True) for one in _now(eqn, values)]
    return [_used(eqn, values, leaves, record)]


def _inside(eqn: Any) -> tuple[Any, Sequence[Any]]:
    inner = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params)
    return (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())


def _now(eqn: Any, values: Sequence[Value]) -> list[Any]:
    return evaluated(eqn, [value.now for value in values])


def _at_start(eqn: Any, values: Sequence[Value]) -> list[Any]:
    """With the parameters of the start and everything else as it is now."""
    return evaluated(eqn, [value.now if value.start is None else value.start for value in values])


def _untrained(eqn: Any, values: list[Value], varies: bool, record: Record) -> list[Value]:
    """A step without parameters: multipliers and moves are followed."""
    name, found = eqn.primitive.name, _now(eqn, values)
    if not varies:
        number = values[0].number if name in _MOVES and values else None
        return [Value(one, number=number) if number is not None else _constant(one) for one in found]
    moving = [value for value in values if value.varies]
    if name == "dot_general" and len(moving) == 2:
        return [_attention(eqn, values, found[0], record)]
    if name in _MOVES:
        return [moving[0]._replace(now=found[0], start=None, number=None)]
    if name in ("mul", "div") and len(moving) == 1 and (factor := _factor(name, values)) is not None:
        for at in moving[0].made:
            record.factor[at] = record.factor[at] * factor.astype(record.factor[at].dtype)
        return [moving[0]._replace(now=found[0], scale=moving[0].scale * factor)]
    if name == "neg" or (name in ("add", "sub") and len(moving) == 1):
        return [moving[0]._replace(now=found[0])]
    if name == "reduce_sum" and moving[0].made and all(record.taps[at].kind == "scaling" for at in moving[0].made):
        return [_summed(eqn, moving[0], found[0], record)]
    return [Value(one, varies=True) for one in found]


def _factor(name: str, values: Sequence[Value]) -> Any:
    """The constant in a product or quotient, where it is one number."""
    first, second = values
    if name == "div":
        return None if second.varies or second.number is None else 1.0 / second.number
    return second.number if first.varies else first.number


def _summed(eqn: Any, value: Value, found: Any, record: Record) -> Value:
    """A sum of scaled entries is a product with a vector."""
    for at in value.made:
        many = np.prod(np.shape(value.now)) / max(1.0, np.prod(np.shape(found)))
        old = record.taps[at]
        record.taps[at] = Tap(old.name, "product", old.leaves, round(many), max(1, round(old.fan_out / many)))
        record.z[at], record.own[at] = (evaluated(eqn, [one])[0] for one in (record.z[at], record.own[at]))
    return value._replace(now=found)


def _attention(eqn: Any, values: list[Value], z: Any, record: Record) -> Value:
    (summed, _), _ = eqn.params["dimension_numbers"]
    fan_in = math.prod(np.shape(values[0].now)[axis] for axis in summed)
    joined = tuple(_unscaled(value) for value in values)
    read = jnp.prod(jnp.stack([jnp.mean(one**2) for one in joined]))
    for value in values:  # a scale of queries is one of scores
        for at in value.made:
            record.factor[at] = record.factor[at] / jnp.asarray(value.scale, record.factor[at].dtype)
    return record.add(Tap("attention", "attention", (), fan_in, 1), z, read, jnp.zeros_like(z), joined)


def _used(eqn: Any, values: list[Value], leaves: frozenset[int], record: Record) -> Value:
    """A step that joins a parameter and what varies."""
    (now,), (start,) = _now(eqn, values), _at_start(eqn, values)
    kind, fan_in, fan_out = _sizes(eqn, values)
    moving = next(value for value in values if value.varies)
    name = "+".join(record.names[at] for at in sorted(leaves))
    trained = next(value for value in values if value.start is not None)
    z = trained.now + jnp.zeros_like(now) if kind == "sum" and np.shape(trained.now) == np.shape(now) else now
    value = record.add(Tap(name, kind, tuple(sorted(leaves)), fan_in, fan_out), z, _read(kind, moving), now - start)
    if kind == "sum":  # what is added to stands before the sum, and a multiplier after it is one of both
        added = value.now if z is now else now + (value.now - z)
        return Value(added, varies=True, made=(*moving.made, *value.made), scale=moving.scale)
    if kind in ("product", "convolution"):
        made = len(record.taps) - 1
        record.matrices[made] = [_matrix(eqn, values, one, fan_in) for one in (trained.now, trained.start)]
    return value


def _read(kind: str, moving: Value) -> Array:
    if kind in ("sum", "lookup"):
        return jnp.ones((), jnp.float32)
    return _mean_square(moving)


def _mean_square(value: Value) -> Array:
    """The mean square before constant multipliers."""
    return jnp.mean(_unscaled(value) ** 2)


def _unscaled(value: Value) -> Array:
    return value.now / jnp.asarray(value.scale, value.now.dtype)


_KINDS: dict[str, str] = {"dot_general": "product", "conv_general_dilated": "convolution", "gather": "lookup"}
_KINDS |= {"add": "sum", "add_any": "sum", "sub": "sum", "mul": "scaling", "div": "scaling"}


def _sizes(eqn: Any, values: Sequence[Value]) -> tuple[str, int, int]:
    """The kind, and how many numbers are summed and made."""
    name = eqn.primitive.name
    at = next(at for at, value in enumerate(values) if value.start is not None)
    shape = np.shape(values[at].now)
    kind = str(_KINDS.get(name, name))
    if kind == "product":
        summed, blocks = (side[at] for side in eqn.params["dimension_numbers"])
        fan_in = math.prod(shape[axis] for axis in summed)
        shared = math.prod(shape[axis] for axis in blocks)
        return kind, fan_in, math.prod(shape) // (fan_in * shared)
    if kind == "convolution" and at == 1:
        made = shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return kind, math.prod(shape) // made, made
    if kind == "lookup" and at == 0:
        return kind, 1, math.prod(eqn.params["slice_sizes"])
    return kind, 1, math.prod(shape)


def _matrix(eqn: Any, values: Sequence[Value], w: Any, fan_in: int) -> Any:
    """The parameter as a matrix (..., fan-in, fan-out)."""
    at = next(at for at, value in enumerate(values) if value.start is not None)
    if eqn.primitive.name == "dot_general":
        summed, blocks = (side[at] for side in eqn.params["dimension_numbers"])
        rest = [axis for axis in range(np.ndim(w)) if axis not in (*summed, *blocks)]
        fan_out = math.prod(w.shape[axis] for axis in rest)
        return jnp.reshape(jnp.transpose(w, (*blocks, *summed, *rest)), (-1, fan_in, fan_out))
    return jnp.reshape(jnp.moveaxis(w, eqn.params["dimension_numbers"].rhs_spec[0], -1), (1, fan_in, -1))


def _unrolled(eqn: Any, values: list[Value], record: Record) -> list[Value]:
    """A loop, round by round."""
    (jaxpr, fixed), params = _inside(eqn), eqn.params
    consts, carry = params["num_consts"], params["num_carry"]
    held, carried, given = values[:consts], values[consts : consts + carry], values[consts + carry :]
    rounds = range(params["length"])
    stacked: dict[int, list[Value]] = {}
    for at in reversed(rounds) if params["reverse"] else rounds:
        now = [_row(value, at) for value in given]
        found = _run(jaxpr, fixed, [*held, *carried, *now], record)
        carried, stacked[at] = [one._replace(made=()) for one in found[:carry]], found[carry:]
    columns = [[stacked[at][column] for at in rounds] for column in range(len(eqn.outvars) - carry)]
    return [*carried, *map(_stacked, columns)]


def _row(value: Value, at: int) -> Value:
    return value._replace(now=value.now[at], start=None if value.start is None else value.start[at], made=())


def _stacked(column: Sequence[Value]) -> Value:
    first = column[0]
    start = None if first.start is None else jnp.stack([one.start for one in column])
    return Value(jnp.stack([one.now for one in column]), start, first.varies, first.leaves)


def _numbered(taps: Sequence[Tap]) -> Iterator[Tap]:
    """Names that say the how-manieth use it is, where there are several."""
    total, counts = Counter(tap.name for tap in taps), Counter()
    for tap in taps:
        counts[tap.name] += 1
        name = f"{tap.name} ({counts[tap.name]})" if total[tap.name] > 1 else tap.name
        yield Tap(name, tap.kind, tap.leaves, tap.fan_in, tap.fan_out)
