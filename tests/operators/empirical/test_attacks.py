"""Models that are built to deceive the structured empirical NTK, against their dense Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.operators import empirical_kernel

ROUNDING = 1e-13  # sums of some hundred products, relative to the largest entry


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def read_again_inside_a_call(p, x):
    """What the bias is added to flows on beside it, and only the inner function sees that."""
    inner = jax.jit(lambda z, b: jnp.tanh(z + b) + jnp.sin(z))
    return inner(x @ p["W"], p["b"])


def layers_in_every_round(p, x):
    """All layers, one after the other, again in every round of an outer loop."""

    def layer(h, rows):
        return jnp.tanh(h @ rows[0] + rows[1]), None

    def round_(h, _):
        return jax.lax.scan(layer, h, (p["Ws"], p["bs"]))[0], None

    return jax.lax.scan(round_, x, None, length=2)[0]


def whole_numbers_of_few_bits(p, x):
    numbers = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, p["W"], numbers, preferred_element_type="float64") / 100


def rows_beyond_the_bits_of_their_numbers(p, x):
    rows = jnp.take(p["E"], x, axis=0, mode="clip")
    return jnp.tanh(rows).sum(0)


def one_scaled_and_one_unused(p, x):
    """No use is known, and not every parameter is direct."""
    return p["b"] * x


P = {"W": numbers(0, 4, 4), "b": numbers(1, 4), "Ws": numbers(2, 3, 4, 4), "bs": numbers(3, 3, 4)}
REAL = numbers(4, 3, 4)
WHOLE = jnp.asarray([[100, -3, 90, 5], [99, 120, 7, -8]], "int8")
CASES = [
    (read_again_inside_a_call, ("W", "b"), REAL),
    (layers_in_every_round, ("Ws", "bs"), REAL),
    (whole_numbers_of_few_bits, ("W",), WHOLE),
    (one_scaled_and_one_unused, ("b", "W"), REAL),
    (rows_beyond_the_bits_of_their_numbers, ("E",), abs(WHOLE)),
]


@pytest.mark.parametrize(("f", "names", "X"), CASES)
def test_no_use_is_mistaken(f, names, X):
    p = {name: {**P, "E": numbers(5, 200, 3)}[name] for name in names}
    gradients = jax.vmap(jax.jacrev(lambda p, x: f(p, x)), (None, 0))(p, X)
    wanted = sum(jnp.einsum("ikp,jlp->ikjl", *[one.reshape(*one.shape[:2], -1)] * 2) for one in gradients.values())
    found = empirical_kernel(jax.tree_util.Partial(f, p), X)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING * float(jnp.max(jnp.abs(wanted))))
