"""What the steps that use a parameter read and make, with shifts of what they make."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from widthwise.numerics import reject

from ..parameters import parameters
from .factors import key_of, remembered
from .uses import Origin, Use

_graph: Any = None
with suppress(ImportError):  # a JAX without the names it needs
    from . import graph

    _graph = graph


_seen: dict[Any, "Steps"] = {}


@dataclass(frozen=True, eq=False)
class Steps:
    """The uses of parameters by a model, in the order of execution; its outputs, how many and of what type.

    By the number of the use: ``scales``, by which known number what it makes is multiplied, and ``biases``, which
    parameter times which number is added to it.
    """

    uses: tuple[Use, ...]
    scales: dict[int, float]
    biases: dict[int, tuple[int, float]]
    outputs: int
    dtype: Any

    def zeros(self) -> list[Array]:
        """No shifts: zeros of the shape of what each use makes, of a loop all rounds together."""
        return [jnp.zeros(use.output.shape, use.output.dtype) for use in self.uses if use.output is not None]


def steps(model: Callable, x: jax.ShapeDtypeStruct) -> Steps:
    """Find the uses of parameters by a model for an input like x; for models that differ in values only, once.

    >>> model = jax.tree_util.Partial(lambda p, x: p["w"] @ x + p["b"], {"w": jnp.ones((2, 3)), "b": jnp.ones(2)})
    >>> found = steps(model, jax.eval_shape(lambda: jnp.ones(3)))
    >>> len(found.uses), found.biases
    (1, {0: (0, 1.0)})
    """
    if _graph is None:
        reject(
            f"JAX {jax.__version__}, in which jax.extend.core lacks what is needed",
            "Signals are read off the steps of a model",
            "Install the version of JAX that this library was tested with",
        )
    return remembered(_seen, key_of(model, x, plain=False), lambda: _explored(model, x))


def _explored(model: Callable, x: jax.ShapeDtypeStruct) -> Steps:
    tape = _graph.Tape(outputs=[])
    out = eqx.filter_eval_shape(_walked, model, x, tape)
    return Steps(tuple(tape.uses), dict(tape.scales), dict(tape.biases), out.size, out.dtype)


def intermediates(
    model: Callable, x: Array, found: Steps, shifts: Sequence[Array]
) -> tuple[Array, list[Array], list[Array]]:
    """The outputs (k,) for one input with shifts of what the uses make, and what each use reads and makes.

    What a use makes is scaled by known numbers that follow, and has what is added to it without varying with x, such
    as a bias.
    """
    unscaled = [shift / found.scales.get(at, 1.0) for at, shift in enumerate(shifts)]
    tape = _graph.Tape(iter(unscaled), outputs=[])
    out = _walked(model, x, tape)
    return out, tape.kept, tape.outputs


def _walked(model: Callable, x: Array, tape: Any) -> Array:
    leaves, rebuild = parameters(model)
    closed = jax.make_jaxpr(lambda leaves, x: jnp.ravel(rebuild(leaves)(x)))(leaves, x)
    values = [_graph.Value(leaf, origin=Origin(at)) for at, leaf in enumerate(leaves)]
    (out,) = _graph.run(closed, [*values, _graph.Value(x, varies=True)], tape)
    return out.array
