"""A user's model as a callable PyTree of one example."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from widthwise.numerics import nearest, reject

from ..parameters import Frozen, is_frozen

# Which entry of a model's outputs: a key, a place, or a path of them.
Selection = str | int | tuple[str | int, ...]


class Adapted(eqx.Module):
    r"""A model $x \mapsto f(x) \in \mathbb R^k$ of one example, whose trainable arrays are `parameters`.

    ``apply(parameters, frozen, x)`` is the user's model, on one example or, when ``batched``, on a
    batch of them. Whatever shape an output has, it is flattened to (k,).

    >>> model = Adapted(lambda w, _, x: {"mean": w * x}, jnp.ones(()), Frozen(None), output="mean")
    >>> model(jnp.array(3.0)).shape
    (1,)
    """

    apply: Callable = eqx.field(static=True)
    parameters: Any
    frozen: Frozen
    batched: bool = eqx.field(static=True, default=False)
    output: Selection | None = eqx.field(static=True, default=None)

    def __call__(self, x: ArrayLike) -> Inexact[Array, " k"]:
        x = self.prepared(x)
        found = self.on_batch(x[None])[0] if self.batched else self.native(x)
        return jnp.reshape(found.astype(jnp.float32) if found.dtype.itemsize < 4 else found, -1)

    def prepared(self, x: ArrayLike) -> Array:
        """The input with real numbers in the precision of the parameters; integers stay what they are."""
        x, own = jnp.asarray(x), precision(self.parameters)
        return x.astype(own) if own is not None and eqx.is_inexact_array(x) else x

    def native(self, x: Array) -> Array:
        """What the model itself returns for its input, one of its outputs selected."""
        return selected(self.outputs(x), self.output)

    def outputs(self, x: Array) -> Any:
        """All that the model returns."""
        return self.apply(self.parameters, self.frozen.value, x)

    def on_batch(self, batch: Array) -> Array:
        """The outputs of a batch, checked to have one entry for each example."""
        out = self.native(batch)
        if out.shape[:1] != batch.shape[:1]:
            reject(
                f"A batch of {len(batch)} examples gives an output of shape {out.shape}",
                "A model that acts on batches returns one entry for each example, along the first axis",
                "If it acts on one example, give batched=False",
            )
        return out


class Held:
    """A function with the user's object as its first argument; two are equal when both are the same.

    Equal ones are compiled once, where a closure would be compiled again for each call of `adapt`.

    >>> Held(pow, 2)(3), Held(pow, 2) == Held(pow, 2)
    (8, True)
    """

    def __init__(self, function: Callable, owner: Any):
        self.function, self.owner = function, owner

    def __call__(self, *args: Any) -> Any:
        return self.function(self.owner, *args)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Held) or self.function is not other.function:
            return False
        return self.owner is other.owner or (_hashable(self.owner) and self.owner == other.owner)

    def __hash__(self) -> int:
        return hash((self.function, self.owner if _hashable(self.owner) else id(self.owner)))


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def precision(parameters: Any) -> Any:
    """The widest real type among the arrays, or None without any.

    >>> precision([jnp.ones(2, jnp.float32), jnp.arange(3)])
    dtype('float32')
    """
    leaves = jax.tree.leaves(eqx.filter(parameters, eqx.is_inexact_array, is_leaf=is_frozen))
    return max((jnp.finfo(leaf.dtype).dtype for leaf in leaves), key=lambda one: one.itemsize, default=None)


def selected(outputs: Any, selection: Selection | None) -> Array:
    """The array that a model returns, or the entry of its outputs that is asked for.

    >>> float(selected({"logits": jnp.ones(()), "hidden": jnp.zeros(3)}, "logits"))
    1.0
    """
    path = () if selection is None else selection if isinstance(selection, tuple) else (selection,)
    for key in path:
        outputs = _entry(outputs, key)
    if not eqx.is_array(outputs):
        _reject_output(outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        reject(
            f"The model's output is of type {outputs.dtype}",
            "An output that has derivatives is an array of real floating-point numbers",
            "Return the real numbers before they are rounded, compared or counted, for example the logits",
        )
    return outputs


def _entry(outputs: Any, key: str | int) -> Any:
    try:
        return outputs[key]
    except (TypeError, KeyError, IndexError):
        if isinstance(key, str) and hasattr(outputs, key):
            return getattr(outputs, key)
    known = _keys(outputs)
    meant = nearest(key, map(str, known)) if isinstance(key, str) else ""
    return reject(
        f"output={key!r}{meant}, which the model does not return",
        f"It returns {_told(outputs)}",
        f"Select one of them, for example output={known[0]!r}" if known else "Leave output out",
    )


def _reject_output(outputs: Any) -> None:
    known = _keys(outputs)
    reject(
        f"The model returns {_told(outputs)}",
        "An instrument looks at one array for each example",
        f"Select one, for example output={known[0]!r}" if known else "Return an array",
    )


def _keys(outputs: Any) -> list[str | int]:
    if isinstance(outputs, Mapping):
        return [key for key in outputs if isinstance(key, str | int)]
    names = getattr(outputs, "_fields", None) or getattr(outputs, "__dataclass_fields__", ())
    if names:
        return [*names]
    return [*range(len(outputs))] if isinstance(outputs, tuple | list) else []


def _told(outputs: Any) -> str:
    """A type and its keys: `a dict with the keys 'logits', 'hidden'`."""
    keys, kind = _keys(outputs), type(outputs).__name__
    if eqx.is_array(outputs):
        return "one array"
    return f"a {kind} with the keys {', '.join(map(repr, keys))}" if keys else f"a {kind}"
