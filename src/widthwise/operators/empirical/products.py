r"""Empirical kernels by products with vectors: $J(X)\,(J(y)^\top e_j)$ for every output j of every second input y."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ..parameters import parameters


@eqx.filter_jit
def by_products(model: Callable, X: Shaped[Array, "n ..."], Y: Shaped[Array, "m ..."]) -> Float[Array, "n k m k"]:
    """The whole kernel, one column after the other."""
    leaves, rebuild = parameters(model)

    def outputs(leaves):
        return jax.vmap(lambda x: jnp.ravel(rebuild(leaves)(x)))(X)

    def columns(y):
        out, pullback = jax.vjp(lambda leaves: jnp.ravel(rebuild(leaves)(y)), leaves)
        unit = jnp.eye(out.size, dtype=out.dtype)
        return jax.lax.map(lambda one: jax.jvp(outputs, (leaves,), pullback(one))[1], unit)

    return jnp.transpose(jax.lax.map(columns, Y), (2, 3, 0, 1))
