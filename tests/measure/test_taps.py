"""Taps are what a model computes, and the own part of an update is what it adds there."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import find_taps, read_taps, role_of
from widthwise.operators import adapt, parameters

KEYS = jr.split(jr.key(0), 8)


def network(n, multiplier=1.0):
    p = {"a": jr.normal(KEYS[0], (3, n)), "b": jr.normal(KEYS[1], (n,)), "c": jr.normal(KEYS[2], (n, n))}
    p |= {"g": jr.normal(KEYS[3], (n,)), "out": jr.normal(KEYS[4], (n, 2))}

    def f(p, x):
        h = jnp.tanh(x @ p["a"] + p["b"])
        h = jax.nn.relu((h / n**0.5) @ p["c"]) * p["g"]
        return multiplier * (h @ p["out"])

    return f, p


def moved(model):
    leaves = parameters(model)[0]
    return leaves, tuple(0.9 * leaf + 0.1 for leaf in leaves)


def test_names_kinds_and_fans():
    taps = find_taps(adapt(network(5), jnp.ones((2, 3))), jnp.ones(3)).taps
    assert [(one.name, one.kind, one.fan_in, one.fan_out) for one in taps] == [
        ("a", "product", 3, 5),
        ("b", "sum", 1, 5),
        ("c", "product", 5, 5),
        ("g", "scaling", 1, 5),
        ("out", "product", 5, 2),
    ]


def test_values_are_those_of_the_model_and_own_parts_those_of_the_update():
    model = adapt(network(5, multiplier=0.25), jnp.ones((2, 3)))
    start, now = moved(model)
    x = jr.normal(KEYS[5], (3,))
    out, seen = read_taps(model, now, start, x)
    a, b, c, g, last = now
    h1 = jnp.tanh(x @ a + b)
    h2 = jax.nn.relu(h1 / 5**0.5 @ c)
    expected = [x @ a, b, h1 / 5**0.5 @ c, h2 * g, 0.25 * (h2 * g) @ last]
    own = [x @ (a - start[0]), b - start[1], h1 / 5**0.5 @ (c - start[2]), h2 * (g - start[3])]
    own.append(0.25 * (h2 * g) @ (last - start[4]))
    # A few dozen additions of numbers of order one in float64.
    for found, wanted in zip((*seen.z, *seen.own, out), (*expected, *own, expected[-1]), strict=True):
        assert np.allclose(found, wanted, rtol=1e-13, atol=1e-13)
    assert np.allclose(seen.read[2], jnp.mean(h1**2), rtol=1e-13)  # before its multiplier
    assert [float(one) for one in seen.factor] == [1.0, 1.0, 1.0, 1.0, 0.25]


def test_shifts_give_the_derivatives_of_what_taps_make():
    model = adapt(network(5, multiplier=0.25), jnp.ones((2, 3)))
    leaves, x = parameters(model)[0], jr.normal(KEYS[5], (3,))
    zeros = [jnp.zeros(one.shape) for one in find_taps(model, x).shapes]
    back = jax.grad(lambda shifts: read_taps(model, leaves, leaves, x, shifts)[0][0])(zeros)
    assert np.allclose(back[4], [0.25, 0.0])
    _, _, _, g, last = leaves
    assert np.allclose(back[3], 0.25 * last[:, 0], rtol=1e-13)
    z = read_taps(model, leaves, leaves, x)[1].z[2]
    assert np.allclose(back[2], jnp.where(z > 0, 0.25 * last[:, 0] * g, 0.0), rtol=1e-13)


def test_scores_of_attention_and_their_scale():
    p = {"q": jr.normal(KEYS[0], (3, 4)), "k": jr.normal(KEYS[1], (3, 4))}

    def f(p, x):
        q, k = x @ p["q"] / 4, x @ p["k"]
        return jax.nn.softmax(q @ k.T).ravel()

    model = adapt(f, jnp.ones((1, 5, 3)), params=p)
    leaves, x = parameters(model)[0], jr.normal(KEYS[2], (5, 3))
    taps = find_taps(model, x).taps
    seen = read_taps(model, leaves, leaves, x)[1]
    assert [one.name for one in taps] == ["k", "q", "attention"] or [one.name for one in taps] == [
        "q",
        "k",
        "attention",
    ]
    at = [one.name for one in taps].index("q")
    # The scale of the queries belongs to the scores.
    assert np.allclose(seen.z[at], x @ p["q"], rtol=1e-13)
    assert np.allclose(seen.z[2], (x @ p["q"]) @ (x @ p["k"]).T / 4, rtol=1e-12)
    queries, keys = seen.joined[2]
    assert np.allclose(queries, x @ p["q"], rtol=1e-13)
    assert np.allclose(keys.reshape(4, 5), (x @ p["k"]).T, rtol=1e-13)
    assert seen.joined[:2] == [(), ()]


def test_a_loop_over_stacked_layers_is_unrolled():
    stack = jr.normal(KEYS[0], (3, 4, 4))

    def f(p, x):
        return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["w"])[0]

    model = adapt(f, jnp.ones((2, 4)), params={"w": stack})
    (leaf,), x = parameters(model)[0], jr.normal(KEYS[1], (4,))
    assert [one.name for one in find_taps(model, x).taps] == ["w (1)", "w (2)", "w (3)"]
    out, seen = read_taps(model, (leaf,), (0.5 * leaf,), x)
    assert np.allclose(out, model(x), rtol=1e-14)
    assert np.allclose(seen.own[1], 0.5 * jnp.tanh(x @ stack[0]) @ stack[1], rtol=1e-13)


def test_parameters_in_steps_that_are_not_looked_into_are_named():
    def f(p, x):
        return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * p["w"], c[1] + 1), (x, 0))[0]

    found = find_taps(adapt(f, jnp.ones((2, 4)), params={"w": jnp.ones(4)}), jnp.ones(4))
    assert [found.names[at] for at in found.hidden] == ["w"]


def test_a_sum_of_scaled_entries_is_a_product():
    model = adapt(
        lambda p, x: jnp.mean(p["a"] * jnp.tanh(x @ p["w"])),
        jnp.ones((2, 3)),
        params={"a": jnp.ones(6), "w": jnp.ones((3, 6))},
    )
    last = find_taps(model, jnp.ones(3)).taps[-1]
    assert (last.name, last.kind, last.fan_in, last.fan_out) == ("a", "product", 6, 1)


@pytest.mark.parametrize(
    ("narrow", "wide", "roles"),
    [(4, 8, ["input", "vector", "hidden", "vector", "output"]), (4, 4, ["fixed"] * 5)],
)
def test_roles_come_from_two_widths(narrow, wide, roles):
    taps = [find_taps(adapt(network(n), jnp.ones((2, 3))), jnp.ones(3)).taps for n in (narrow, wide)]
    assert [role_of(a, b) for a, b in zip(*taps, strict=True)] == roles
