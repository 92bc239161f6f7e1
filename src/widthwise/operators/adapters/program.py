"""A function as a list of steps, each of which applies an operation to results of earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from widthwise.numerics import reject

from .adapted import precision


class Ref(NamedTuple):
    """The result of a step, or an input, by its name."""

    name: str


class Step(NamedTuple):
    """``operation(*args, **options)``, whose results are of the given types; None where one is no array."""

    name: str
    operation: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    kinds: Any


@dataclass(frozen=True, eq=False)
class Program:
    r"""A function ``(parameters, fixed, x)`` of two dictionaries of arrays and a batch; two are equal when the same.

    ``x`` names the batch, whose examples have the given shape; ``aliases`` says by which names the other inputs go in
    ``parameters`` and ``fixed``, and ``kinds`` are their types. Operands of different types meet by JAX's standard
    promotion, and the result gets the type that it has where the program comes from. Parameters in another precision
    than ``real`` change that precision throughout. ``alone`` says that the steps are those for a batch of one.

    >>> double = Step("y", lambda x, factor: x * factor, (Ref("w"), Ref("x")), {}, "float32")
    >>> kinds = {"w": "float32", "x": "int32"}
    >>> program = Program((double,), Ref("y"), "x", (), {"w": "weight"}, kinds, "float32")
    >>> program({"weight": jnp.ones(2)}, {}, jnp.array([3, 4])).tolist()
    [3.0, 4.0]
    """

    steps: tuple[Step, ...]
    result: Ref
    x: str
    shape: tuple[int, ...]
    aliases: Mapping[str, str]
    kinds: Mapping[str, str]
    real: str
    alone: bool = False

    def __call__(self, parameters: Mapping[str, Array], fixed: Mapping[str, Array], x: Array) -> Array:
        if self.alone and len(x) != 1:
            return jax.vmap(lambda one: self(parameters, fixed, one[None])[0])(x)
        own = precision(parameters)
        real = self.real if own is None else own.name
        values = {name: parameters[alias] for name, alias in self.aliases.items() if alias in parameters}
        others = {name: fixed[alias] for name, alias in self.aliases.items() if name not in values}
        values |= {name: self._typed(one, self.kinds[name], real) for name, one in others.items()}
        values[self.x] = self._typed(self._admitted(x), self.kinds[self.x], real)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for step in self.steps:
                values[step.name] = self._typed(self._apply(step, values, real), step.kinds, real)
        return values[self.result.name]

    def _admitted(self, x: Array) -> Array:
        kind = self.kinds[self.x]
        counts = jnp.issubdtype(x.dtype, jnp.inexact) and not jnp.issubdtype(jnp.dtype(kind), jnp.inexact)
        if x.shape[1:] != self.shape or counts:
            reject(
                f"an example of shape {x.shape[1:]} and type {x.dtype}",
                f"The model was brought with examples of shape {self.shape} and type {kind}",
                "Give one example without a batch axis (jax.vmap takes a batch), or bring the model with such examples",
            )
        return x

    def _typed(self, value: Any, kind: Any, real: str) -> Any:
        if isinstance(kind, tuple):
            return tuple(self._typed(*one, real) for one in zip(value, kind, strict=True))
        if kind is None or value is None:
            return value
        dtype = self._dtype(kind, real)
        return value if isinstance(value, jax.Array) and value.dtype == dtype else jnp.asarray(value, dtype)

    def _dtype(self, kind: str, real: str) -> Any:
        return jax.dtypes.canonicalize_dtype(real if kind == self.real else kind)

    def _apply(self, step: Step, values: Mapping[str, Any], real: str) -> Any:
        args, options = resolve(step.args, values), resolve(step.options, values)
        kind = options.pop("dtype", None)
        if kind is not None:  # operands are converted first
            dtype = self._dtype(str(kind), real)
            args = tuple(one.astype(dtype) if isinstance(one, jax.Array) else one for one in args)
        return step.operation(*args, **options)


def resolve(value: Any, values: Mapping[str, Any]) -> Any:
    """Put results in the place of references to them, also within lists and dictionaries.

    >>> resolve(([Ref("x"), 2], {"dim": Ref("y")}), {"x": 1, "y": 0})
    ([1, 2], {'dim': 0})
    """
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, list | tuple):
        return type(value)(resolve(one, values) for one in value)
    return {key: resolve(one, values) for key, one in value.items()} if isinstance(value, dict) else value


def needed(steps: list[Step], result: Ref) -> tuple[Step, ...]:
    """Leave out the steps on which the result does not depend.

    >>> [step.name for step in needed([Step("y", abs, (Ref("x"),), {}, None), Step("z", abs, (), {}, None)], Ref("y"))]
    ['y']
    """
    wanted, kept = {result.name}, []
    for step in reversed(steps):
        if step.name in wanted:
            wanted |= _references((step.args, step.options))
            kept.append(step)
    return tuple(reversed(kept))


def _references(value: Any) -> set[str]:
    if isinstance(value, Ref):
        return {value.name}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(_references, parts))
