"""Through the elementary steps of a traced function, with values of one's own: what all readers of models share."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

V = TypeVar("V")


def walked(
    jaxpr: Any,
    consts: Sequence[Any],
    values: Sequence[V],
    constant: Callable[[Any], V],
    step: Callable[[Any, list[V]], Sequence[V]],
    shared: Callable[[V], V],
) -> list[V]:
    """The outputs of the steps of a jaxpr for these values of its inputs.

    ``constant`` makes the value of an array that is known, ``step`` those of the outputs of an equation from those of
    its inputs, and ``shared`` what becomes of a value that is read more than once or not at all: what flows back to it
    is not what flows back to one of its readers.

    >>> import jax
    >>> closed = jax.make_jaxpr(lambda x: 2.0 * x + 1.0)(3.0)
    >>> walked(closed.jaxpr, closed.consts, [3.0], float, lambda eqn, x: evaluated(eqn, x), lambda x: x)[0].item()
    7.0
    """
    known = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))

    def read(atom: Any) -> V:
        return constant(atom.val) if _is_literal(atom) else known[atom]

    readers = Counter(atom for eqn in jaxpr.eqns for atom in eqn.invars if not _is_literal(atom))
    readers.update(atom for atom in jaxpr.outvars if not _is_literal(atom))

    def once(atom: Any, value: V) -> V:
        return value if readers[atom] == 1 else shared(value)

    known |= {atom: once(atom, value) for atom, value in zip(jaxpr.invars, values, strict=True)}
    for eqn in jaxpr.eqns:
        found = step(eqn, [read(atom) for atom in eqn.invars])
        known |= {output: once(output, value) for output, value in zip(eqn.outvars, found, strict=True)}
    return [read(atom) for atom in jaxpr.outvars]


def evaluated(eqn: Any, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of one equation of a jaxpr for these arrays.

    >>> import jax
    >>> eqn = jax.make_jaxpr(lambda x: 2.0 * x)(3.0).jaxpr.eqns[0]
    >>> evaluated(eqn, [2.0, 4.0])[0].item()
    8.0
    """
    words = eqn.primitive.get_bind_params(eqn.params)
    functions, words = words if isinstance(words, tuple) else ((), words)  # apart in some versions of JAX
    found = eqn.primitive.bind(*functions, *arrays, **words)
    return list(found) if eqn.primitive.multiple_results else [found]


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")
