"""One model of the zoo, and how it is entered."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class Case(NamedTuple):
    """A model as a user has it, three inputs, and the outputs (3, ...) that its framework gives."""

    model: Any
    X: Array
    own: Callable[[], Array]
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)


def lenient() -> ExitStack:
    """The promotions that a user's JAX allows and that some layers of Flax need, inside the strict tests."""
    stack = ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


def collection(cases: dict[str, Callable[[], Case]]) -> Callable:
    """A decorator that enters a constructor under its name; what it makes is made once, and never changed."""

    def enter(make: Callable[[], Case]) -> Callable[[], Case]:
        cases[make.__name__] = functools.cache(make)
        return make

    return enter


def inputs(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(7).normal(size=(3, *shape)))


def tokens(length: int, vocabulary: int) -> Array:
    return jnp.asarray(np.random.default_rng(7).integers(vocabulary, size=(3, length)))


def weights(*, seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Standard normal arrays over the square root of their first axis."""
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5) for name, shape in shapes.items()}


def double(tree: Any) -> Any:
    """Every real array in float64, as Flax makes float32 parameters even where JAX holds 64-bit numbers."""
    real = jnp.floating
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, real) else leaf, tree)
