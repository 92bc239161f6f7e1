"""What an adapter makes of a user's model, before it is checked."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

Call = Mapping[str, Any]


def no_hint(error: Exception) -> str | None:
    """Nothing to say about an error.

    >>> no_hint(ValueError())
    """
    del error


class Source(NamedTuple):
    """``apply(parameters, frozen, x)``; ``acts_on`` is the custom of the framework and ``hint`` explains its errors."""

    apply: Callable
    parameters: Any
    frozen: Any = None
    acts_on: Literal["one", "batch", "either"] = "either"
    hint: Callable[[Exception], str | None] = no_hint


def family(model: Any) -> set[str]:
    """The full names of a value's classes: a framework is recognised without importing it.

    >>> "builtins.int" in family(3)
    True
    """
    return {f"{one.__module__}.{one.__name__}" for one in type(model).__mro__}


def path_of(keys: Any) -> str:
    """Where a leaf stands in a tree, for messages.

    >>> path_of((jax.tree_util.DictKey("dense"), jax.tree_util.SequenceKey(0)))
    "['dense'][0]"
    """
    return jax.tree_util.keystr(tuple(keys)) or "the model itself"


def arrays(tree: Any) -> Any:
    """Numbers and NumPy arrays as JAX arrays; everything else as it is.

    >>> arrays({"w": 1.0, "name": "dense"})["w"].shape
    ()
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if eqx.is_array(leaf) or _is_number(leaf) else leaf, tree)


def _is_number(leaf: Any) -> bool:
    numbers = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufc"
    return numbers or isinstance(leaf, float | complex)
