"""A model's trainable parameters as a plain tuple or one vector, and the way back."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from widthwise.numerics import reject


class Frozen(eqx.Module):
    """What a model holds without training it: running statistics, fixed tables, random keys.

    `parameters` leaves its arrays out, and no derivative flows through `value`.

    >>> import jax.numpy as jnp
    >>> model = jax.tree_util.Partial(lambda w, fixed, x: w * fixed.value * x, jnp.ones(2), Frozen(jnp.ones(2)))
    >>> len(parameters(model)[0])
    1
    """

    tree: Any

    @property
    def value(self) -> Any:
        """The arrays, in a new container, constant under differentiation."""
        return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, self.tree)


def is_frozen(node: Any) -> bool:
    """Whether a node of a model is `Frozen`.

    >>> is_frozen(Frozen(1.0)), is_frozen(1.0)
    (True, False)
    """
    return isinstance(node, Frozen)


def demand_drawn(model: Any) -> None:
    """Refuse the description of a network of this package, which has no weights, and say how one is drawn from it."""
    in_words = hasattr(model, "network") and hasattr(model, "at_width")
    if in_words or (hasattr(model, "propagate") and hasattr(model, "sample")):
        network = "mlp.network(outputs=1)" if in_words else "network"
        reject(
            f"{type(model).__name__}, the description of a network without its weights",
            "A model is a network with its weights",
            f"Draw one by ww.sample({network}, jax.random.key(0), in_size=X.shape[1:])",
        )


def parameters(model: Callable) -> tuple[tuple[Array, ...], Callable[[tuple[Array, ...]], Any]]:
    """Take the trainable leaves (inexact arrays outside `Frozen`) of a callable PyTree as a tuple, and the way back.

    Lineax compares PyTree structures with ``!=``, which is identity for some nodes; a plain tuple
    is safe. Raises ``ValueError`` for a model without trainable parameters.

    >>> import jax.numpy as jnp
    >>> leaves, rebuild = parameters(jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(3)))
    >>> rebuild((2 * leaves[0],))(jnp.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """
    trainable, static = eqx.partition(model, eqx.is_inexact_array, is_leaf=is_frozen)
    leaves, structure = jax.tree.flatten(trainable)
    if not leaves:
        demand_drawn(model)
        reject(
            f"a model of type {type(model).__name__} without a single array of real numbers",
            "A model is a callable PyTree x -> f(x) whose inexact arrays are its parameters",
            "Wrap a function f(params, x) as jax.tree_util.Partial(f, params)",
        )

    def rebuild(new: tuple[Array, ...]) -> Any:
        return eqx.combine(jax.tree.unflatten(structure, list(new)), static, is_leaf=is_frozen)

    return tuple(leaves), rebuild


def flatten(model: Callable) -> tuple[Float[Array, " p"], Callable[[Float[Array, " p"]], Any]]:
    """Take the trainable parameters as one vector of length p, and the way back.

    >>> import jax.numpy as jnp
    >>> vector, rebuild = flatten(jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((2, 3))))
    >>> vector.shape
    (6,)
    """
    leaves, rebuild = parameters(model)
    vector, unravel = ravel_pytree(leaves)
    return vector, lambda new: rebuild(unravel(new))


def groups(model: Callable, by: str | Callable[[str], str] | None = None) -> dict[str, set[int]]:
    """Places in `parameters` by group: all as "entk", each under its own name, or under what ``by`` makes of its name.

    >>> import jax.numpy as jnp
    >>> model = jax.tree_util.Partial(lambda p, x: p["w"] @ x, {"w": jnp.ones((1, 2))})
    >>> groups(model, "parameter")
    {'0.0.w': {0}}
    """
    trainable, _ = eqx.partition(model, eqx.is_inexact_array, is_leaf=is_frozen)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(trainable)]
    if by is None:
        return {"entk": {*range(len(paths))}}
    if isinstance(by, str) and by != "parameter":
        reject(f"by={by!r}", "Known is by='parameter'", "Give that, or a function from names of parameters to groups")
    found: dict[str, set[int]] = {}
    for at, path in enumerate(paths):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        found.setdefault(name if isinstance(by, str) else by(name), set()).add(at)
    return found
