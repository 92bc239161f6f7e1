r"""Where a model's steps use its parameters: the outputs of those steps are perturbed and their inputs are kept.

A model is traced into its elementary steps. A value *varies* when it depends on the input x; a value that comes from
one parameter alone, by moving, selecting and scaling its entries, is *drawn* from it. A step that joins the two is a
*use* of the parameter, and its output z gets a zero added, by which the outputs are differentiated:
$\partial f/\partial W$ follows from $\partial f/\partial z$ and the step's other input. A parameter that is used in any
other way is *direct*: the zero is added to the parameter itself.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from ..jaxprs import evaluated, walked
from .uses import Origin, Use, shifted, use_of

_CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}
_MOVES = {
    *("transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "rev", "slice"),
    *("copy", "copy_p", "convert_element_type", "reduce_precision"),
}


class Value(NamedTuple):
    """An array of the trace, whether it varies with x, of what it is drawn if it does not, and which use made it.

    ``source``: the use that made it, also where it was moved since then.
    """

    array: Any
    varies: bool = False
    origin: Origin | None = None
    made: int | None = None
    source: int | None = None


@dataclass
class Tape:
    """What is seen on the way: uses with their kept inputs, and parameters that have to be direct.

    ``zeros`` are added to the outputs of the uses, one after the other; without them new ones are made.
    ``outputs``: what the uses make, where a list is given to keep it, scaled by numbers and with what is added to it
    that does not vary. By the number of the use ``scales`` holds these numbers, and ``biases`` the parameters that are
    added, each with the number by which it is multiplied.
    """

    zeros: Iterator[Any] | None = None
    uses: list[Use] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    direct: set[int] = field(default_factory=set)
    outputs: list[Any] | None = None
    biases: dict[int, tuple[int, float]] = field(default_factory=dict)
    scales: dict[int, float] = field(default_factory=dict)

    def perturbed(self, use: Use, kept: Any, output: Any) -> Any:
        self.uses.append(replace(use, output=jax.ShapeDtypeStruct(output.shape, output.dtype)))
        self.kept.append(kept)
        moved = output + self.zero(output)
        if self.outputs is not None:
            self.outputs.append(moved)
        return moved

    def took(self, uses: list[Use], kept: list[Any], outputs: list[Any] | None, seen: "Tape") -> None:
        """Add what a loop used, with all rounds stacked, to what was seen; ``seen`` is that of one round."""
        before = len(self.uses)
        self.biases |= {before + use: bias for use, bias in seen.biases.items()}
        self.scales |= {before + use: scale for use, scale in seen.scales.items()}
        self.uses += uses
        self.kept += kept
        if self.outputs is not None:
            self.outputs += outputs or []

    def inside(self, zeros: Iterator[Any] | None = None) -> "Tape":
        """A tape for one round of a loop, which sees as much as this one."""
        return Tape(zeros, outputs=None if self.outputs is None else [])

    def zero(self, like: Any) -> Any:
        return jnp.zeros(like.shape, like.dtype) if self.zeros is None else next(self.zeros)

    def refuse(self, values: Sequence[Value]) -> None:
        """These come into a step that has no rule."""
        self.direct |= {value.origin.leaf for value in values if value.origin is not None}


def run(closed: ClosedJaxpr, values: Sequence[Value], tape: Tape) -> list[Value]:
    """The outputs of traced steps."""
    return walked(
        closed.jaxpr,
        closed.consts,
        values,
        Value,
        lambda eqn, given: _followed(eqn, given, _step(eqn, given, tape), tape),
        lambda value: value._replace(made=None, source=None),
    )


def _step(eqn: JaxprEqn, values: list[Value], tape: Tape) -> list[Value]:
    name, varies = eqn.primitive.name, any(value.varies for value in values)
    if all(value.origin is None for value in values):
        return [Value(array, varies) for array in _constants(eqn, values) or _evaluated(eqn, values)]
    if name in _CALLS:
        return run(_inside(eqn), values, tape)
    if name == "scan" and varies:
        return _scanned(eqn, values, tape)
    if varies:
        return [_used(eqn, values, tape)] if len(eqn.outvars) == 1 else _refused(eqn, values, tape)
    origin = _drawn(eqn, values)
    if origin is None:
        return _refused(eqn, values, tape)
    return [Value(array, origin=origin) for array in _evaluated(eqn, values)]


def _followed(eqn: JaxprEqn, values: list[Value], found: list[Value], tape: Tape) -> list[Value]:
    """Keep what a use made while it is moved and scaled, and together with what is added to it."""
    there = [value.source for value in values if value.source is not None]
    if tape.outputs is None or len(there) != 1 or any(value.varies and value.source is None for value in values):
        return found
    (source,), name = there, eqn.primitive.name
    factor = _factor(name, values)
    if name == "add":
        added = next((value.origin for value in values if value.origin is not None), None)
        if added is not None:
            tape.biases[source] = (added.leaf, added.scale)
    elif factor is not None and source not in tape.biases:
        tape.scales[source] = factor * tape.scales.get(source, 1.0)
    elif name not in _MOVES or math.prod(_shape(eqn.outvars[0])) != math.prod(_shape(eqn.invars[0])):
        return found
    tape.outputs[source] = found[0].array
    return [found[0]._replace(source=None if name == "add" else source)]


def _factor(name: str, values: list[Value]) -> float | None:
    """The known number by which a value is multiplied."""
    numbers = [_number(value.array) for value in values if value.source is None]
    if name not in ("mul", "div") or len(numbers) != 1 or not numbers[0] or (name == "div" and not values[0].varies):
        return None
    return numbers[0] if name == "mul" else 1.0 / numbers[0]


def _evaluated(eqn: JaxprEqn, values: Sequence[Value]) -> list[Any]:
    return evaluated(eqn, [value.array for value in values])


def _constants(eqn: JaxprEqn, values: Sequence[Value]) -> list[Any]:
    """The outputs as numbers where all inputs are known ones."""
    if eqn.effects or any(value.varies or _number(value.array) is None for value in values):
        return []
    if any(math.prod(_shape(output)) != 1 for output in eqn.outvars):
        return []
    with jax.ensure_compile_time_eval():
        return _evaluated(eqn, values)


def _shape(output: Any) -> tuple[int, ...]:
    return getattr(output.aval, "shape", ())


def _refused(eqn: JaxprEqn, values: list[Value], tape: Tape) -> list[Value]:
    tape.refuse(values)
    return [Value(array, any(value.varies for value in values)) for array in _evaluated(eqn, values)]


def _inside(eqn: JaxprEqn) -> ClosedJaxpr:
    inner = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _used(eqn: JaxprEqn, values: list[Value], tape: Tape) -> Value:
    """A step that joins a parameter and what varies."""
    if eqn.primitive.name == "add" and (added := _added(eqn, values, tape)):
        return added
    use = use_of(eqn.primitive.name, eqn.params, [(value.array, value.origin) for value in values])
    if use is None:
        return _refused(eqn, values, tape)[0]
    (output,) = _evaluated(eqn, values)
    if not use.origin.scale:  # nothing flows back to the parameter
        return Value(output, varies=True)
    kept = values[use.varying].array
    return Value(tape.perturbed(use, kept, output), varies=True, made=len(tape.uses) - 1, source=len(tape.uses) - 1)


def _added(eqn: JaxprEqn, values: list[Value], tape: Tape) -> Value | None:
    """A bias that is added to the output of a use."""
    made, origin = (
        next((x for one in values if (x := getattr(one, name)) is not None), None) for name in ("made", "origin")
    )
    use = None if made is None or origin is None else shifted(tape.uses[made], origin, _shape(eqn.outvars[0]))
    if use is None or made is None:
        return None
    tape.uses[made] = use
    return Value(_evaluated(eqn, values)[0], varies=True)


def _drawn(eqn: JaxprEqn, values: list[Value]) -> Origin | None:
    """Of what the output of a step is drawn whose inputs do not vary, if that is as simple as that."""
    name, shape = eqn.primitive.name, _shape(eqn.outvars[0])
    first, *others = values
    if len(eqn.outvars) > 1 or not jnp.issubdtype(getattr(eqn.outvars[0].aval, "dtype", int), jnp.floating):
        return None
    if any(one.origin is not None and one.origin.spread is not None for one in values):
        return None
    if name == "broadcast_in_dim" and not others and first.origin is not None and math.prod(shape) != first.array.size:
        axes = zip(eqn.params["broadcast_dimensions"], first.array.shape, strict=True)
        return replace(first.origin, spread=tuple(axis for axis, size in axes if size == shape[axis]))
    if name == "stop_gradient" and first.origin is not None:
        return replace(first.origin, scale=0.0)
    if name in _MOVES and not others and first.origin is not None:
        same = math.prod(shape) == first.array.size or name == "slice"
        return first.origin.moved(eqn.primitive, eqn.params) if same else None
    factors = {"neg": (-1.0,), "add": (1.0, 1.0), "add_any": (1.0, 1.0), "sub": (1.0, -1.0)}.get(name)
    if name in ("mul", "div"):
        return _scaled(name, values, shape)
    if factors is None or any(value.origin is not None and value.array.shape != shape for value in values):
        return None
    return _summed([value.origin for value in values], factors)


def _summed(origins: list[Origin | None], factors: tuple[float, ...]) -> Origin | None:
    """The same entries of the same parameter, several times; what is constant does not matter."""
    there = [(one, factor) for one, factor in zip(origins, factors, strict=True) if one is not None]
    first = there[0][0]
    if any(one.place != first.place for one, _ in there):
        return None
    return replace(first, scale=sum(factor * one.scale for one, factor in there))


def _scaled(name: str, values: list[Value], shape: tuple[int, ...]) -> Origin | None:
    """A parameter times or over a constant."""
    x, y = values
    if (name == "div" and y.origin is not None) or (x.origin is not None and y.origin is not None):
        return None
    drawn, factor = (x, y) if x.origin is not None else (y, x)
    number = _number(factor.array)
    if number is None or drawn.array.shape != shape or drawn.origin is None:
        return None
    return replace(drawn.origin, scale=drawn.origin.scale * (number if name == "mul" else 1.0 / number))


def _number(array: Any) -> float | None:
    """A constant of one entry that is known while tracing."""
    if np.size(array) != 1 or not jnp.issubdtype(jnp.result_type(array), np.number):  # such as a random key
        return None
    try:
        return float(np.asarray(array).reshape(()))
    except jax.errors.TracerArrayConversionError:
        return None


def _scanned(eqn: JaxprEqn, values: list[Value], tape: Tape) -> list[Value]:
    """A loop: its body's uses are perturbed in every round, and what they keep is stacked."""
    body, length, consts = eqn.params["jaxpr"], eqn.params["length"], eqn.params["num_consts"]
    before = consts + eqn.params["num_carry"]
    tape.refuse([*values[consts:before], *filter(_is_bound, values)])
    held, carried, given = values[:consts], values[consts:before], values[before:]
    rows = [one._replace(origin=one.origin and one.origin.in_rounds(), made=None, source=None) for one in given]
    kinds = [
        *(one._replace(made=None, source=None) for one in held),
        *(one._replace(varies=True, origin=None, made=None, source=None) for one in carried),
        *rows,
    ]

    def round_(arrays: Sequence[Any], inner: Tape) -> list[Any]:
        found = run(body, [kind._replace(array=array) for kind, array in zip(kinds, arrays, strict=True)], inner)
        inner.refuse(found)
        return [value.array for value in found]

    constant, start, each = ([one.array for one in group] for group in (held, carried, given))
    seen = tape.inside()
    jax.eval_shape(lambda first: round_(first, seen), [*constant, *start, *(one[0] for one in each)])
    # A parameter with a row for each round of an inner loop has the same rows in every round of this one.
    again = {use.origin.leaf for use in seen.uses if use.rounds and use.origin.stacked is not None}
    tape.direct |= seen.direct | again
    uses = [_in_loop(use, length) for use in seen.uses]
    zeros = [tape.zero(use.output) for use in uses]

    def step(carry: list[Any], now: tuple[list[Any], list[Any]]):
        inner = tape.inside(iter(now[1]))
        found = round_([*constant, *carry, *now[0]], inner)
        return found[: len(carry)], (found[len(carry) :], inner.kept, inner.outputs)

    words = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    last, (stacked, kept, made) = jax.lax.scan(step, start, (each, zeros), **words)
    tape.took(uses, kept, made, seen)
    return [Value(array, varies=True) for array in (*last, *stacked)]


def _is_bound(value: Value) -> bool:
    """Whether a value has its place in a loop or on positions already."""
    return value.origin is not None and (value.origin.stacked, value.origin.spread) != (None, None)


def _in_loop(use: Use, length: int) -> Use:
    """The same use once in every round, its output stacked."""
    made = use.output
    stacked = None if made is None else jax.ShapeDtypeStruct((length, *made.shape), made.dtype)
    return replace(use, output=stacked, rounds=(length, *use.rounds))
