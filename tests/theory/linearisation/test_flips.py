"""Signs that flip: the expected fraction, the count, and the monitor in a training loop."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import MLP, sample
from widthwise.theory.linearisation import FlipMonitor, expected_flips, flip_fraction

X = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize(("c", "printed"), [(0.5, 0.00199), (1.0, 0.00399), (2.0, 0.00798)])
def test_the_fraction_of_the_reference(c, printed):
    assert float(expected_flips(c / 100)) == pytest.approx(printed, abs=0.5e-5)
    assert float(expected_flips(c / 100)) == pytest.approx(c / 100 / math.sqrt(2 * math.pi), rel=1e-4)


def test_the_expected_fraction_is_that_of_normal_numbers():
    z = np.random.default_rng(1).normal(size=10**6)
    for move in (0.3, -1.0, 5.0):
        found = flip_fraction(z[None], z[None] + move)[0]
        expected = float(expected_flips(move))
        assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / 10**6)


def test_fractions_are_counted_for_each_input():
    before = np.array([[1.0, -1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    after = np.array([[-1.0, 1.0, 2.0, 1e-9], [1.0, 1.0, 1.0, -1.0]])
    assert flip_fraction(before, after).tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"shapes \(2, 3\) and \(2, 4\)"),
        (np.ones(3), np.ones(3), r"They are \(n, m\)"),
        (np.ones((0, 3)), np.ones((0, 3)), r"They are \(n, m\)"),
        (np.ones((1, 2)), np.array([[1.0, np.nan]]), r"with NaN"),
    ],
)
def test_wrong_preactivations_are_refused(before, after, words):
    with pytest.raises(ValueError, match=words):
        flip_fraction(before, after)


def trained(model, rate, steps):
    """Gradient descent, one model for each step."""
    y = jnp.sin(3.0 * jnp.asarray(X[:, :1]))

    @eqx.filter_jit
    def step(model):
        gradient = eqx.filter_grad(lambda model: 0.5 * jnp.mean((jax.vmap(model)(jnp.asarray(X)) - y) ** 2))(model)
        return eqx.apply_updates(model, jax.tree.map(lambda g: -rate * g, gradient))

    for number in range(steps + 1):
        yield number, model
        model = step(model)


@pytest.mark.slow
def test_the_monitor_says_at_which_step_too_many_have_flipped():
    monitor = FlipMonitor(eqx.nn.MLP(3, 1, 64, 2, key=jr.key(0)), X)
    models = dict(trained(eqx.nn.MLP(3, 1, 64, 2, key=jr.key(0)), 1.5, 20))
    for step, model in models.items():
        monitor(step, model)
    records = monitor.records
    assert monitor.thresholds.tolist() == [0.125, 0.125]
    assert records["flips"].shape == records["largest"].shape == (21, 2)
    assert not np.any(records["flips"][0]) and records["distance"][0] == 0.0
    assert np.all(records["largest"] >= records["flips"])
    for place, name in enumerate(monitor.layers):
        above = np.flatnonzero(records["flips"][:, place] > 0.125)
        assert monitor.exceeded[name] == (int(above[0]) if len(above) else None)
    # By hand, at the end, in the first layer.
    first, last = (np.asarray(jax.vmap(models[step].layers[0])(jnp.asarray(X))) for step in (0, 20))
    assert records["flips"][-1, 0] == pytest.approx(np.mean(flip_fraction(first, last)), abs=1e-15)
    assert records["largest"][-1, 0] == pytest.approx(np.max(flip_fraction(first, last)), abs=1e-15)
    moved = jax.tree.map(
        lambda w, v: float(jnp.sum((w - v) ** 2)), *(eqx.filter(models[s], eqx.is_array) for s in (0, 20))
    )
    assert records["distance"][-1] == pytest.approx(math.sqrt(sum(jax.tree.leaves(moved))), rel=1e-12)
    assert repr(monitor).startswith("FlipMonitor(21 records on 6 inputs, exceeded: {")


@pytest.mark.slow
def test_a_wide_lazy_network_stays_below_and_a_small_one_does_not():
    found = {}
    for width in (16, 1024):
        model = sample(MLP(width, 1, "relu").network(), jr.key(3), 3)
        monitor = FlipMonitor(model, X)
        for step, one in trained(model, 0.05, 30):
            monitor(step, one)
        found[width] = monitor.records["flips"][-1, 0] * math.sqrt(width)
    assert found[1024] < 3.0


def test_signs_turned_by_hand():
    p = {"in": jnp.asarray(np.random.default_rng(2).normal(size=(9, 3))), "out": jnp.ones((1, 9))}
    monitor = FlipMonitor(lambda p, x: p["out"] @ jnp.maximum(p["in"] @ x, 0.0), X, params=p)
    assert repr(monitor) == "FlipMonitor(0 records on 6 inputs, exceeded: {'in': None})"
    monitor(0, p)
    monitor(1, p | {"in": p["in"].at[:4].mul(-1.0)})
    assert monitor.records["flips"].ravel() == pytest.approx([0.0, 4 / 9], abs=1e-15)
    assert monitor.exceeded == {"in": 1}
    assert monitor.records["distance"][1] == pytest.approx(2.0 * np.linalg.norm(p["in"][:4]), rel=1e-14)


def test_what_is_refused():
    model = sample(MLP(8, 1, "tanh").network(), jr.key(0), 3)
    with pytest.raises(ValueError, match=r"it needs at least two layers"):
        FlipMonitor(jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 3))), X)
    with pytest.raises(ValueError, match=r"X of shape \(0, 3\)"):
        FlipMonitor(model, X[:0])
    monitor = FlipMonitor(model, X)
    monitor(3, model)
    with pytest.raises(ValueError, match=r"step=3 after step 3"):
        monitor(3, model)
    with pytest.raises(ValueError, match=r"parameters of shapes"):
        monitor(4, sample(MLP(9, 1, "tanh").network(), jr.key(0), 3))
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan if eqx.is_inexact_array(leaf) else leaf, model)
    with pytest.raises(ValueError, match=r"NaN"):
        monitor(5, broken)
