"""How optimisers answer to gradients, read off their states, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from widthwise.measure.curvature import demand_answer
from widthwise.measure.recurrence import largest_multiple, oscillation
from widthwise.measure.response import is_preconditioned, probe, read_response, unrecognised
from widthwise.numerics import UpdateRule

CURVATURES = np.array([1.0, 4.0, 9.0])
WEIGHTS = {"a": jnp.array([0.5, -1.0]), "b": jnp.array([0.2])}


def flat(tree):
    return np.concatenate([np.ravel(one) for one in jax.tree.leaves(tree)])


def gradient(weights):
    curvatures = {"a": CURVATURES[:2], "b": CURVATURES[2:]}
    return {name: curvatures[name] * one for name, one in weights.items()}


def trained(optimizer, steps=4):
    weights, state = WEIGHTS, optimizer.init(WEIGHTS)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            updates, state = optimizer.update(gradient(weights), state, weights)
            weights = optax.apply_updates(weights, updates)
    return weights, state


def response(optimizer, steps=4):
    weights, state = trained(optimizer, steps)
    assert unrecognised(state) is None
    shapes = [one.shape for one in jax.tree.leaves(weights)]
    return read_response(probe(optimizer, state, gradient(weights), weights), shapes, is_preconditioned(state))


def sgd(rate=0.1, momentum=0.0, nesterov=False):
    return optax.sgd(rate, momentum or None, nesterov)


@pytest.mark.parametrize(
    ("optimizer", "rule", "decay"),
    [
        (sgd(), UpdateRule(), 0.0),
        (sgd(momentum=0.9), UpdateRule(0.9), 0.0),
        (sgd(momentum=0.9, nesterov=True), UpdateRule(0.9, nesterov=True), 0.0),
        (optax.chain(optax.add_decayed_weights(0.3), sgd(momentum=0.5)), UpdateRule(0.5), 0.3),
        (optax.chain(optax.add_decayed_weights(0.3), sgd()), UpdateRule(), 0.3),
        (optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)), UpdateRule(0.9, averaged=True), 0.0),
    ],
)
def test_rules_are_read_off_states(optimizer, rule, decay):
    found = response(optimizer)
    for name in ("nesterov", "averaged", "decoupled"):
        assert getattr(found.rule, name) == getattr(rule, name)
    assert found.rule.momentum == pytest.approx(rule.momentum, abs=1e-12)
    np.testing.assert_allclose(flat(found.gain), 0.1, rtol=1e-12)
    np.testing.assert_allclose(flat(found.decay), decay, atol=1e-12)
    assert found.threshold == pytest.approx(rule.largest_curvature(1.0), rel=1e-12)
    assert found.clipped == pytest.approx(1.0, abs=1e-9)


def test_the_preconditioner_of_adam_is_the_root_of_its_running_squares():
    weights, state = trained(optax.adam(1e-2, b2=0.99))
    nu = 0.99 * flat(state[0].nu) + 0.01 * flat(gradient(weights)) ** 2
    expected = 1e-2 / (np.sqrt(nu / (1 - 0.99**5)) + 1e-8) / (1 - 0.9**5)
    found = response(optax.adam(1e-2, b2=0.99))
    np.testing.assert_allclose(flat(found.gain), expected, rtol=1e-10)
    assert found.rate is None and found.frozen
    assert found.threshold == pytest.approx(2 * 1.9 / 0.1, rel=1e-9)


def test_decoupled_decay_lowers_the_threshold():
    found = response(optax.adamw(1e-2, weight_decay=0.5))
    assert found.rule.decoupled and found.rule.weight_decay == pytest.approx(5e-3, rel=1e-9)
    assert found.threshold == pytest.approx(1.9 * (2 - 5e-3) / 0.1, rel=1e-9)


def test_rms_and_adagrad_have_no_momentum():
    weights, state = trained(optax.rmsprop(1e-2, decay=0.8))
    nu = 0.8 * flat(state[0].nu) + 0.2 * flat(gradient(weights)) ** 2
    found = response(optax.rmsprop(1e-2, decay=0.8))
    np.testing.assert_allclose(flat(found.gain), 1e-2 / np.sqrt(nu + 1e-8), rtol=1e-6)
    assert found.threshold == 2.0
    weights, state = trained(optax.adagrad(1e-2))
    squares = flat(state[0].sum_of_squares) + flat(gradient(weights)) ** 2
    np.testing.assert_allclose(flat(response(optax.adagrad(1e-2)).gain), 1e-2 / np.sqrt(squares + 1e-7), rtol=1e-6)


def test_groups_with_rates_of_their_own_are_a_preconditioner():
    found = response(optax.multi_transform({"x": sgd(0.1), "y": sgd(0.4)}, {"a": "x", "b": "y"}))
    np.testing.assert_allclose(flat(found.gain), [0.1, 0.1, 0.4], rtol=1e-12)
    assert found.rate is None


def test_a_schedule_counts_with_its_rate_of_the_moment():
    found = response(optax.sgd(optax.exponential_decay(0.1, 1, 0.5)), steps=3)
    assert found.rate == pytest.approx(0.1 / 8)


def test_clipping_is_noticed_with_its_factor():
    weights, _ = trained(sgd(), 0)
    size = np.linalg.norm(flat(gradient(weights)))
    found = response(optax.chain(optax.clip_by_global_norm(0.5), sgd()), steps=0)
    assert found.clipped == pytest.approx(0.5 / size, rel=1e-9)
    assert np.isnan(response(optax.chain(optax.clip(0.6), sgd()), steps=0).clipped)


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (optax.chain(optax.scale(-1.0), sgd()), "along the gradient"),
        (optax.chain(optax.trace(0.5), sgd(momentum=0.9)), "several kinds"),
        (optax.multi_transform({"x": sgd(0.1, 0.9), "y": sgd(0.1, 0.5)}, {"a": "x", "b": "y"}), "several kinds"),
    ],
)
def test_what_is_no_rule_says_why(optimizer, reason):
    assert reason in response(optimizer)


@pytest.mark.parametrize("optimizer", [optax.sign_sgd(0.1), optax.lion(0.1), optax.signum(0.1)])
def test_updates_by_signs_are_refused(optimizer):
    weights, state = trained(optimizer)
    with pytest.raises(ValueError, match="does not change with the size of the gradient"):
        demand_answer(optimizer, state, gradient(weights), weights)


def test_steps_that_come_now_and_then_are_refused():
    optimizer = optax.MultiSteps(sgd(), 2)
    with pytest.raises(ValueError, match="MultiStepsState"):
        demand_answer(optimizer, optimizer.init(WEIGHTS), gradient(WEIGHTS), WEIGHTS)


@pytest.mark.parametrize(
    "optimizer", [optax.adabelief(0.1), optax.lion(0.1), optax.adafactor(0.1), optax.novograd(0.1), optax.adadelta(0.1)]
)
def test_other_states_are_not_taken_for_known_ones(optimizer):
    assert "not known" in unrecognised(optimizer.init(WEIGHTS))


def multiple(optimizer, steps):
    weights, state = trained(optimizer, steps)
    model = jax.tree_util.Partial(lambda w, x: flat_jax(w), weights)
    tree = jax.tree.structure(weights)
    return largest_multiple(lambda f: 0.5 * jnp.sum(CURVATURES * f(0.0) ** 2), model, optimizer, state, tree)


def flat_jax(tree):
    return jnp.concatenate([one.ravel() for one in jax.tree.leaves(tree)])


@pytest.mark.parametrize(
    "optimizer", [sgd(0.01), sgd(0.01, 0.9), sgd(0.01, 0.9, True), optax.adamw(1e-3, weight_decay=0.1)]
)
def test_the_whole_step_linearised_agrees_with_the_rule(optimizer):
    rule = response(optimizer, 400)
    expected = rule.rule.largest_rate(np.max(flat(rule.gain) * (CURVATURES + flat(rule.decay))))
    found = multiple(optimizer, 400)
    # At a gradient of zero the running squares of the next step lack its newest square, one in 400 of Adam's or less.
    slack = expected / 800 if rule.frozen else 0.0
    assert abs(found.value - expected) <= found.error + slack


def test_a_loss_that_only_falls_has_no_largest_rate():
    model = jax.tree_util.Partial(lambda w, x: w, jnp.ones(2))
    state = sgd().init((jnp.ones(2),))
    tree = jax.tree.structure((1,))
    found = largest_multiple(lambda f: -jnp.sum(f(0.0) ** 2), model, sgd(), state, tree)
    assert found.value == np.inf


def test_oscillations_of_a_matrix_that_is_not_normal():
    # Eigenvalues -1.2 and 0.5 with a large corner, in the presence of a positive one that does not count.
    A = np.array([[-1.2, 50.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]])
    assert oscillation(lambda v: A @ v, 3) == pytest.approx(1.2, rel=1e-9)
    assert oscillation(lambda v: 0.5 * v, 4) == 0.0
