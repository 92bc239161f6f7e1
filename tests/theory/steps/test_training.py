"""The closed form of an optimiser's steps against steps made by optax, and against simulated batches."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from widthwise.networks import MLP, sample
from widthwise.numerics import Loss
from widthwise.operators import linear_training, linearize, parameters, trained_linearized
from widthwise.theory.steps import trained_by_steps

MODEL = sample(MLP(width=6, depth=2, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
TEST = jr.normal(jr.key(2), (4, 3))
# Two examples come twice, once with another target: the kernel is singular and the loss does not vanish.
X, Y = jr.normal(jr.key(1), (5, 3)), jr.normal(jr.key(3), (5, 2))
X, Y = jnp.concatenate([X, X[:2]]), jnp.concatenate([Y, 1.0 + Y[:2]])
RULES = [
    {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay, "decoupled": decoupled}
    for momentum, nesterov, (decay, decoupled) in itertools.product(
        (0.0, 0.8), (False, True), ((0.0, False), (0.02, False), (0.02, True))
    )
    if momentum or not nesterov
]


def optimiser(rate, momentum, nesterov, weight_decay, decoupled):
    decay = optax.add_decayed_weights(weight_decay)
    trace = optax.trace(momentum, nesterov=nesterov)
    return optax.chain(*((trace, decay) if decoupled else (decay, trace)), optax.scale_by_learning_rate(rate))


def run(steps, rate, loss="half-mean", batch=None, key=None, replacement=True, **rule):
    """Parameters, outputs for TEST and losses of steps that are really made."""
    leaves, rebuild = parameters(linearize(MODEL, X))
    made = optimiser(rate, **rule)

    def value(new, rows):
        square = jnp.sum((jax.vmap(rebuild(new))(X[rows]) - Y[rows]) ** 2)
        return 0.5 * Loss(loss, len(rows), 2).scale * square

    def step(state, key):
        every = jnp.arange(len(X))
        rows = every if batch is None else jr.choice(key, every, (batch,), replace=replacement)
        update, inner = made.update(jax.grad(value)(state[0], rows), state[1], state[0])
        return (optax.apply_updates(state[0], update), inner), value(state[0], jnp.arange(len(X)))

    keys = jr.split(jr.key(0) if key is None else key, steps)
    (end, _), losses = jax.lax.scan(step, (leaves, made.init(leaves)), keys)
    return end, jax.vmap(rebuild(end))(TEST), losses


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_thousand_steps_of_optax(rule):
    weights, outputs, losses = jax.jit(lambda: run(1000, 0.1, **rule))()
    found = trained_by_steps(MODEL, X, Y, steps=1000, rate=0.1, **rule)
    # A hundredth of the promised 1e-10: rounding of 1000 steps of numbers of order 1.
    np.testing.assert_allclose(jax.vmap(found.model)(TEST), outputs, rtol=0, atol=1e-12)
    for ours, theirs in zip(found.model.moved, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.path().loss[:-1], losses, rtol=0, atol=1e-12)
    assert found.risk == pytest.approx(found.path().loss[-1], rel=1e-12)


@pytest.mark.parametrize("loss", ["half-sum", "half-mean-entries", "sum", "mean", "mean-entries"])
def test_other_conventions_of_the_loss(loss):
    rate = Loss("half-mean", 7, 2).rate(0.1, Loss(loss, 7, 2))
    rule = {"momentum": 0.5, "nesterov": False, "weight_decay": 0.01, "decoupled": False}
    _, outputs, _ = jax.jit(lambda: run(50, rate, loss, **rule))()
    found = trained_by_steps(MODEL, X, Y, steps=50, rate=rate, loss=loss, **rule)
    np.testing.assert_allclose(jax.vmap(found.model)(TEST), outputs, rtol=0, atol=1e-12)


def test_an_averaged_momentum_is_that_of_optax():
    leaves, rebuild = parameters(linearize(MODEL, X))
    made = optax.chain(optax.ema(0.7, debias=False), optax.scale_by_learning_rate(0.2))
    state = made.init(leaves)

    def step(carry, _):
        slope = jax.grad(lambda new: 0.5 * jnp.mean(jnp.sum((jax.vmap(rebuild(new))(X) - Y) ** 2, axis=1)))(carry[0])
        update, inner = made.update(slope, carry[1])
        return (optax.apply_updates(carry[0], update), inner), None

    (end, _), _ = jax.lax.scan(step, (leaves, state), length=40)
    found = trained_by_steps(MODEL, X, Y, steps=40, rate=0.2, momentum=0.7, averaged=True)
    np.testing.assert_allclose(jax.vmap(found.model)(TEST), jax.vmap(rebuild(end))(TEST), rtol=0, atol=1e-12)


def test_a_schedule_of_optax():
    def schedule(step):
        return 0.2 / (1.0 + 0.1 * jnp.asarray(step, float))

    rule = {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "decoupled": True}
    _, outputs, _ = jax.jit(lambda: run(40, schedule, **rule))()
    found = trained_by_steps(MODEL, X, Y, steps=40, rate=schedule, **rule)
    np.testing.assert_allclose(jax.vmap(found.model)(TEST), outputs, rtol=0, atol=1e-12)


def test_plain_descent_is_that_of_the_trained_twin():
    found = trained_by_steps(MODEL, X, Y, steps=17, rate=0.3)
    wanted = trained_linearized(MODEL, X, Y, steps=17, rate=0.3)
    np.testing.assert_allclose(jax.vmap(found.model)(TEST), jax.vmap(wanted)(TEST), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.outputs, jax.vmap(wanted)(X), rtol=0, atol=1e-12)


def test_no_steps_and_infinitely_many():
    assert trained_by_steps(MODEL, X, Y, steps=0, rate=0.3).outputs == pytest.approx(np.asarray(jax.vmap(MODEL)(X)))
    found = trained_by_steps(MODEL, X, Y, steps=10**9, rate=0.3, weight_decay=0.05, momentum=0.5)
    # The end minimises the loss with the L2 penalty, whose ridge acts on the parameters, not on their change.
    _, rebuild = parameters(linearize(MODEL, X))

    def penalised(new):
        risk = 0.5 * jnp.mean(jnp.sum((jax.vmap(rebuild(new))(X) - Y) ** 2, axis=1))
        return risk + 0.025 * sum(jnp.sum(part**2) for part in new)

    for slope in jax.grad(penalised)(found.model.moved):
        np.testing.assert_allclose(slope, 0.0, atol=1e-12)


def within_three_errors(draws, wanted):
    """Each component within three standard errors, but for the share of them that chance allows."""
    error = draws.std(axis=0, ddof=1) / len(draws) ** 0.5
    z = (draws.mean(axis=0) - wanted) / error
    assert np.mean(np.abs(z) > 3) <= 0.02
    assert np.max(np.abs(z)) < 5
    return np.max(np.abs(z))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "batch", "replacement"),
    # 9 are more than the 7 examples: they can only be drawn with replacement.
    [*itertools.product((RULES[0], RULES[4], RULES[-1]), (1, 9), (True,)), (RULES[-1], 4, False)],
    ids=str,
)
def test_mean_and_covariance_of_batches(rule, batch, replacement):
    drawn = {"batch": batch, "replacement": replacement, **rule}
    one = jax.jit(lambda keys: jax.lax.map(lambda key: run(12, 0.06, key=key, **drawn)[1].ravel(), keys))
    draws = np.asarray(one(jr.split(jr.key(4), 8000)))
    mean, covariance = trained_by_steps(MODEL, X, Y, steps=12, rate=0.06, **drawn).predict(TEST)
    within_three_errors(draws, mean.ravel())
    centred = draws - mean.ravel()
    products = (centred[:, :, None] * centred[:, None, :]).reshape(len(draws), -1)
    upper = np.triu_indices(mean.size)
    keep = np.ravel_multi_index(upper, (mean.size, mean.size))
    within_three_errors(products[:, keep], covariance.ravel()[keep])


def test_the_second_moment_of_plain_batches_by_the_formula_of_the_docstring():
    training = linear_training(MODEL, X, Y)
    K = training.kernel.vectors @ np.diag(training.kernel.values) @ training.kernel.vectors.T
    r = (training.start - training.targets).ravel()
    R, n, step = np.outer(r, r), 7, 0.1 / 7
    blocks = np.kron(np.eye(n), np.ones((2, 2)))
    for _ in range(5):
        kept = np.eye(14) - step * K
        R, r = kept @ R @ kept + step**2 / 3 * K @ (n * blocks * R - R) @ K, kept @ r
    found = trained_by_steps(MODEL, X, Y, steps=5, rate=0.1, batch=3)
    np.testing.assert_allclose(found.covariance, R - np.outer(r, r), rtol=0, atol=1e-12)
    assert found.risk == pytest.approx(0.5 / 7 * np.trace(R), rel=1e-12)
    assert found.path().loss[-1] == pytest.approx(found.risk, rel=1e-12)


@pytest.mark.parametrize("rule", [RULES[0], RULES[-1]], ids=str)
@pytest.mark.parametrize("batch", [2, 3])
def test_all_draws_without_replacement(rule, batch):
    """Every sequence of three batches of four examples, each as likely as the others."""
    rows = np.array([*itertools.combinations(range(4), batch)])
    J = np.random.default_rng(0).normal(size=(4, 2, 3)) / 2
    targets = np.random.default_rng(1).normal(size=(4, 2))
    start, rate = np.array([1.0, -0.5, 0.3]), 0.3
    coupled, decoupled = (0.0, rule["weight_decay"]) if rule["decoupled"] else (rule["weight_decay"], 0.0)

    def end(drawn):
        w, m = start, np.zeros(3)
        for some in drawn:
            g = np.einsum("nkp,nk->p", J[some], J[some] @ w - targets[some]) / batch + coupled * w
            m = rule["momentum"] * m + g
            w = w - rate * ((g + rule["momentum"] * m if rule["nesterov"] else m) + decoupled * w)
        return (J @ w).ravel()

    ends = np.array([end(drawn) for drawn in itertools.product(rows, repeat=3)])
    model = jax.tree_util.Partial(lambda w, jacobian: jacobian @ w, jnp.asarray(start))
    found = trained_by_steps(model, J, targets, steps=3, rate=rate, batch=batch, replacement=False, **rule)
    np.testing.assert_allclose(found.outputs.ravel(), ends.mean(axis=0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(ends.T, bias=True), rtol=0, atol=1e-13)
    losses = np.sum((ends - targets.ravel()) ** 2, axis=1) / 8
    assert found.path().loss[-1] == pytest.approx(np.mean(losses), rel=1e-12)
    assert "without replacement" in repr(found)


def test_all_examples_and_enormous_batches_leave_no_noise():
    noisy = trained_by_steps(MODEL, X, Y, steps=5, rate=0.1, batch=10**12)
    assert np.max(np.abs(noisy.covariance)) < 1e-11
    drawn = trained_by_steps(MODEL, X, Y, steps=5, rate=0.1, batch=len(X), replacement=False)
    assert not np.any(drawn.covariance)
    one = trained_by_steps(MODEL, X[:1], Y[:1], steps=5, rate=0.1, batch=1, replacement=False)
    assert not np.any(one.covariance)
    assert not np.any(trained_by_steps(MODEL, X, Y, steps=5, rate=0.1).predict(TEST)[1])


def test_parameters_may_be_given_apart_and_a_loss_by_its_value():
    weights, rest = eqx.partition(MODEL, eqx.is_inexact_array)
    loss = Loss("mean", *np.shape(Y))
    apart = trained_by_steps(
        lambda given, x: eqx.combine(given, rest)(x), X, Y, steps=3, rate=0.1, loss=loss, params=weights
    )
    together = trained_by_steps(MODEL, X, Y, steps=3, rate=0.1, loss="mean")
    np.testing.assert_allclose(apart.outputs, together.outputs, rtol=1e-12)
    assert repr(apart).startswith(f"StepTraining(3 steps on {len(X)} examples")


def test_a_run_beside_its_path():
    path = trained_by_steps(MODEL, X, Y, steps=3, rate=0.1).path()
    assert path.against(path.loss + 1.0).measured.tolist() == (path.loss + 1.0).tolist()
    with pytest.raises(ValueError, match="before the first step and after each"):
        path.against(path.loss[1:])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rate": 0.0}, "finite number above 0"),
        ({"rate": -0.1}, "finite number above 0"),
        ({"rate": math.nan}, "finite number above 0"),
        ({"momentum": 1.0}, "at least 0 and below 1"),
        ({"weight_decay": -1e-3}, "weight decay is at least 0"),
        ({"steps": -1}, "whole number of at least 0"),
        ({"batch": 0}, "whole number of at least 1"),
        ({"batch": 8, "replacement": False}, "batch=8 of 7 examples .* Give a batch of at most 7"),
        ({"replacement": False}, "replacement=False without batch"),
        ({"loss": "mse"}, "conventions are"),
        ({"loss": Loss("mean", 1000)}, "Give loss='mean' alone"),
        ({"rate": lambda step: math.nan if step else 0.1}, "returned nan at step 1"),
        ({"rate": lambda step: np.ones(2)}, "one number"),
        ({"rate": lambda step: -0.1}, "at least 0"),
        ({"rate": 1e4, "steps": 10**6}, "a constant rate is stable below"),
    ],
    ids=lambda case: ", ".join(case) if isinstance(case, dict) else case,
)
def test_bad_input_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        trained_by_steps(MODEL, X, Y, **{"steps": 3, "rate": 0.1, **changed})


def test_the_rate_that_is_named_on_divergence_is_the_threshold():
    most = linear_training(MODEL, X, Y).largest_rate
    assert trained_by_steps(MODEL, X, Y, steps=10**5, rate=0.999 * most).risk < 10
    with pytest.raises(ValueError, match=f"{most:.4g}"):
        trained_by_steps(MODEL, X, Y, steps=10**7, rate=1.001 * most)


def test_noise_that_diverges_is_refused_where_the_mean_is_stable():
    most = linear_training(MODEL, X, Y).largest_rate
    with pytest.raises(ValueError, match="with batches below a smaller one"):
        trained_by_steps(MODEL, X, Y, steps=10**4, rate=0.95 * most, batch=1)
