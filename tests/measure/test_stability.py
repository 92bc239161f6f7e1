"""The monitor on the two-layer reference network and at the edge of stability, in loops of several kinds."""

import dataclasses
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray
from flax import nnx
from jax.flatten_util import ravel_pytree

import widthwise as ww
from widthwise.theory.catapult.edge_claims import Edge, sharpness_by_step

ONE = np.ones((1, 1)), np.zeros((1, 1))


def product(params, x):
    return params["v"] @ params["u"] / len(params["u"]) ** 0.5 * x


def two_layers(width):
    u, v = np.random.default_rng(0).normal(size=(2, width))
    return {"u": jnp.asarray(u), "v": jnp.asarray(v)}, (u @ u + v @ v) / width


def watched(params, rate, steps, **words):
    monitor = ww.StabilityMonitor(product, ONE, params=params, **({"rate": rate, "every": 1} | words))
    step = jax.jit(jax.grad(lambda p: 0.5 * jnp.sum(product(p, jnp.ones(1)) ** 2)))
    for t in range(steps):
        monitor(t, params)
        params = {name: params[name] - rate * one for name, one in step(params).items()}
    return monitor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "status"), [(0.9, "stable"), (1.1, "catapult"), (1.9, "catapult"), (2.5, "divergent")]
)
def test_the_phases_of_the_reference_network_are_told_before_step_20(ratio, status):
    params, kernel = two_layers(1000)
    monitor = watched(params, ratio * 2.0 / kernel, 20)
    assert monitor.events[0] == (0, status)
    assert monitor.records["ntk_margin"][0] == pytest.approx(ratio, rel=1e-9)
    assert not {name for _, name in monitor.events} & ({"catapult", "divergent"} - {status})


@cache
def edge():
    """A network at the edge of stability: its true sharpness by the whole Hessian, and what the monitor says."""
    setup, every = Edge(steps=600, late=0), 10
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), np.sign(rng.standard_normal(20))[:, None]
    sizes = ((3, 20), (20, 20), (20, 1))
    params = [(jnp.asarray(rng.standard_normal((b, a)) / a**0.5), jnp.zeros(b)) for a, b in sizes]

    def model(params, x):
        (A, a), (B, b), (C, c) = params
        return C @ jnp.tanh(B @ jnp.tanh(A @ x + a) + b) + c

    @jax.jit
    def step(params):
        gradient = jax.grad(lambda p: 0.5 * jnp.mean((jax.vmap(model, (None, 0))(p, X) - y) ** 2))(params)
        return jax.tree.map(lambda one, two: one - setup.rate * two, params, gradient)

    monitor = ww.StabilityMonitor(model, (X, y), rate=setup.rate, every=every, params=params)
    for t in range(setup.steps):
        monitor(t, params, loss=0.5)
        params = step(params)
    return sharpness_by_step(setup, every), monitor


@pytest.mark.slow
def test_the_sharpness_is_that_of_the_whole_hessian():
    true, monitor = edge()
    # The bound of a residual below 3 % leaves about its square.
    np.testing.assert_allclose(monitor.records["sharpness"], true, rtol=3e-3)


@pytest.mark.slow
def test_the_crossing_is_where_the_true_sharpness_crosses():
    true, monitor = edge()
    crossed = 10.0 * np.argmax(true > 10.0)
    assert abs(monitor.crossing - crossed) <= 0.1 * crossed
    names = [name for _, name in monitor.events]
    assert names[:3] == ["stable", "progressive sharpening", "edge of stability"]
    assert "catapult" not in names and "divergent" not in names


@pytest.mark.slow
def test_the_monitor_is_drawn_and_keeps_the_losses_of_the_loop():
    _, monitor = edge()
    steps, losses = monitor.losses
    assert len(steps) == 600 and np.all(losses == 0.5)
    for which, title in enumerate(("Sharpness and what the optimiser bears", "Loss")):
        assert ww.plot(monitor, which).layout.title.text == title
    assert monitor.records.keys() >= {"status", "sharpness", "threshold"}


def test_the_budget_decides_when_to_look():
    params, kernel = two_layers(8)
    now = [0.0]

    monitor = ww.StabilityMonitor(product, ONE, rate=1.0 / kernel, budget=0.1, params=params, clock=lambda: now[0])
    look = monitor._lens

    def slow(*words):
        """A look takes as long as a step of the training."""
        now[0] += 1.0
        return look(*words)

    monitor._lens = slow
    seen = []
    for step in range(60):
        seen.append(monitor(step, params))
        now[0] += 1.0
    assert seen[0] and 5 <= sum(seen) <= 7 and monitor.share <= 0.1
    monitor.record(60, params)
    assert not monitor.record(monitor.records["step"][-1], params)
    with pytest.raises(ValueError, match="after step"):
        monitor.record(0, params)


@pytest.mark.slow
def test_an_equinox_loop_with_adam():
    X, y = np.random.default_rng(0).normal(size=(16, 3)), np.arange(16) % 2
    model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    optimizer = optax.adam(1e-2)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    monitor = ww.StabilityMonitor(model, (X, y), "cross-entropy", optimizer=optimizer, rate=1e-2, every=1)

    @eqx.filter_jit
    def step(model, state):
        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(X), y).mean()

        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(eqx.filter_grad(loss)(model), state)
        return eqx.apply_updates(model, updates), state, loss(model)

    for t in range(4):
        model, state, value = step(model, state)
        assert monitor(t, model, state, value)
    found = ww.stable_rate(model, (X, y), "cross-entropy", optimizer=optimizer, rate=1e-2, state=state)
    assert found.margin["hessian"] == pytest.approx(monitor.records["margin"][-1], rel=1e-3)
    leaves, rebuild = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)

    def loss(w):
        outputs = jax.vmap(eqx.combine(rebuild(w), static))(X)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()

    gradient, nu = jax.grad(loss)(leaves), ravel_pytree(state[0].nu)[0]
    P = np.sqrt((0.999 * nu + 0.001 * gradient**2) / (1 - 0.999**5)) + 1e-8
    root = np.sqrt((1 - 0.9**5) * P)
    top = np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(leaves)) / root / root[:, None])[-1]
    assert found.sharpness["hessian"].value == pytest.approx(top, rel=1e-6)


@pytest.mark.slow
def test_a_flax_loop_hands_over_its_own_state():
    X = np.random.default_rng(0).normal(size=(8, 3))
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    optimizer = optax.sgd(0.1, momentum=0.9)
    params = nnx.state(model, nnx.Param)
    monitor = ww.StabilityMonitor(model, (X, X[:, :1]), optimizer=optimizer, every=1)
    assert monitor(0, params, optimizer.init(params))
    A = np.c_[X, np.ones(8)]
    top = np.linalg.eigvalsh(A.T @ A / 8)[-1]
    assert monitor.records["margin"][0] == pytest.approx(0.1 * top / 3.8, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"rate": None}, "neither an optimiser nor a rate"),
        ({"rate": 0.0}, "rate"),
        ({"budget": 0.0}, "budget=0.0"),
        ({"budget": -1}, "budget=-1"),
        ({"every": 0}, "every=0"),
        ({"steps": 0}, "steps=0"),
        ({"optimizer": "sgd"}, "optimiser of type str"),
        ({"optimizer": optax.lion(0.1)}, "size of the gradient"),
        ({"optimizer": optax.adabelief(0.1)}, "stable_rate"),
        ({"params": {"u": jnp.full(8, jnp.inf), "v": jnp.ones(8)}}, "nan|finite|infinity"),
    ],
)
def test_bad_input_is_refused(words, message):
    params, _ = two_layers(8)
    with pytest.raises(ValueError, match=message):
        ww.StabilityMonitor(product, ONE, **({"rate": 0.1, "params": params} | words))


def test_a_loss_that_is_no_longer_finite_is_a_divergence():
    params, kernel = two_layers(8)
    monitor = ww.StabilityMonitor(product, ONE, rate=0.1 / kernel, every=1, params=params)
    monitor(0, params)
    monitor(1, {name: jnp.full_like(one, jnp.nan) for name, one in params.items()})
    assert monitor.status == "divergent" and "look for the first value that is not finite" in monitor.advice
    assert dataclasses.asdict(monitor._phases[-1])["status"] == "divergent"


def test_adam_needs_its_state():
    params, _ = two_layers(8)
    monitor = ww.StabilityMonitor(product, ONE, optimizer=optax.adam(0.1), every=1, params=params)
    with pytest.raises(ValueError, match="without its state"):
        monitor(0, params)


def test_records_are_saved_and_taken_up_again(tmp_path):
    params, kernel = two_layers(50)
    first = watched(params, 1.9 * 2.0 / kernel, 8)
    first.dataset().to_zarr(tmp_path / "records.zarr", consolidated=False)
    kept = xarray.open_zarr(tmp_path / "records.zarr", consolidated=False)
    again = ww.StabilityMonitor(product, ONE, params=params, rate=1.9 * 2.0 / kernel, every=1)
    again.restore(kept)
    assert again.events == first.events and again.status == first.status and again.advice == first.advice
    for name, column in first.records.items():
        np.testing.assert_array_equal(again.records[name], column)
    with pytest.raises(ValueError, match="a monitor with 8 records"):
        again.restore(kept)
    with pytest.raises(ValueError, match="records without loss"):
        watched(params, 0.1, 0).restore({"step": np.arange(3)})
    with pytest.raises(ValueError, match="steps rise"):
        watched(params, 0.1, 0).restore({name: column[::-1] for name, column in first.records.items()})
