"""A model's trainable parameters as a plain tuple or one vector, and the way back."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from widthwise.numerics import reject


def parameters(model: Callable) -> tuple[tuple[Array, ...], Callable[[tuple[Array, ...]], Any]]:
    """Take the trainable leaves (inexact arrays) of a callable PyTree as a tuple, and the way back.

    Lineax compares PyTree structures with ``!=``, which is identity for some nodes; a plain tuple
    is safe. Raises ``ValueError`` for a model without trainable parameters.

    >>> import jax.numpy as jnp
    >>> leaves, rebuild = parameters(jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(3)))
    >>> rebuild((2 * leaves[0],))(jnp.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """
    trainable, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(trainable)
    if not leaves:
        reject(
            f"a model of type {type(model).__name__} without a single array of real numbers",
            "A model is a callable PyTree x -> f(x) whose inexact arrays are its parameters",
            "Wrap a function f(params, x) as jax.tree_util.Partial(f, params)",
        )
    return tuple(leaves), lambda new: eqx.combine(jax.tree.unflatten(structure, list(new)), static)


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
