"""The largest stable rate of models whose curvature is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import widthwise as ww
from widthwise.measure import hessian_sharpness, top_pair

X = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
Y = np.zeros((4, 1))
PARAMS = {"w": jnp.array([[1.0, -1.0]])}


def linear(params, x):
    return params["w"] @ x


def rate(loss="half-mean", data=(X, Y), **words):
    return ww.stable_rate(linear, data, loss, params=PARAMS, **words)


@pytest.mark.parametrize(("loss", "top"), [("half-mean", 1.0), ("half-sum", 4.0)])
def test_the_curvature_of_a_linear_model_follows_the_convention(loss, top):
    found = rate(loss)
    for kind in ("hessian", "ntk"):
        assert abs(found.curvature[kind].value - top) <= found.curvature[kind].error + 1e-12
        assert found.largest[kind].value == pytest.approx(2.0 / top, rel=1e-9)
    assert found.margin == {} and found.threshold is None
    assert ("1/(2n)" in str(found)) == (loss == "half-mean")


def test_a_loss_of_ones_own_has_the_hessian_alone():
    def loss(model, data):
        return jnp.mean(jax.vmap(model)(data) ** 4)

    found = rate(loss, X)
    dense = jax.hessian(lambda w: jnp.mean((X @ w) ** 4))(PARAMS["w"][0])
    assert found.largest.keys() == {"hessian"}
    assert found.curvature["hessian"].value == pytest.approx(float(jnp.linalg.eigvalsh(dense)[-1]), rel=1e-9)
    assert "loss(model, data)" in found.convention


def test_a_second_model_of_the_same_form_compiles_nothing():
    count = []

    def counted(params, x):
        count.append(1)
        return params["w"] @ x

    first = ww.stable_rate(counted, (X, 0.0 * Y), params=PARAMS)
    traced = len(count)
    found = ww.stable_rate(counted, (2.0 * X, 0.0 * Y), params={"w": 3.0 * PARAMS["w"]})
    again = len(count) - traced  # `adapt` tries each model once
    assert 0 < again < traced
    assert found.loss == pytest.approx(36.0 * first.loss, rel=1e-12)
    assert found.curvature["hessian"].value == pytest.approx(4.0 * first.curvature["hessian"].value, rel=1e-9)


def test_a_loss_of_ones_own_may_change_and_branch_on_its_data():
    scale, chosen = {"factor": 1.0}, np.array([True] * 3 + [False] * (len(X) - 3))

    def loss(model, data):
        return scale["factor"] * jnp.mean(jax.vmap(model)(data[0][data[1]]) ** 2)

    first = rate(loss, (X, chosen)).curvature["hessian"].value
    scale["factor"] = 2.0
    assert rate(loss, (X, chosen)).curvature["hessian"].value == pytest.approx(2.0 * first, rel=1e-9)


class Setting:
    """A value that cannot be hashed."""

    __hash__ = None

    def __init__(self, scale):
        self.scale = scale


def test_what_cannot_be_hashed_is_compiled_for_itself():
    def scaled(params, x, setting):
        return setting.scale * (params["w"] @ x)

    for scale in (1.0, 2.0):
        found = ww.stable_rate(scaled, (X, Y), params=PARAMS, call={"setting": Setting(scale)}, at="ntk")
        assert found.largest["ntk"].value == pytest.approx(2.0 / scale**2, rel=1e-9)


def test_the_cross_entropy_has_both():
    X = np.random.default_rng(0).normal(size=(8, 2))
    params = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))}
    found = ww.stable_rate(linear, (X, np.arange(8) % 3), "cross-entropy", params=params)
    # Linear in its parameters, so that both are the same matrix.
    assert found.curvature["hessian"].value == pytest.approx(found.curvature["ntk"].value, rel=1e-9)


@pytest.mark.parametrize("words", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_training_blows_up_above_the_largest_rate_and_not_below(words):
    found = rate(optimizer=optax.sgd(0.1, **words), at="hessian")
    most = found.largest["hessian"].value
    assert found.margin["hessian"] == pytest.approx(0.1 / most) and found.route == "rule"
    assert blows_up(optax.sgd(1.02 * most, **words)) and not blows_up(optax.sgd(0.98 * most, **words))


def blows_up(optimizer):
    def step(held, _):
        params, state = held
        updates, state = optimizer.update(jax.grad(lambda p: jnp.mean((X @ p["w"].T) ** 2) / 2)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), length=2000)
    return float(jnp.max(jnp.abs(params["w"]))) > 1.0


def stepped(optimizer):
    """The state after one step."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update({"w": jnp.ones((1, 2))}, optimizer.init(PARAMS), PARAMS)[1]


def test_the_rate_is_read_where_it_can_be():
    assert rate(optimizer=optax.sgd(0.25), at="hessian").rate == pytest.approx(0.25)
    made = optax.inject_hyperparams(optax.adam)(learning_rate=0.125)
    assert rate(optimizer=made, state=stepped(made), at="hessian").rate == 0.125
    with pytest.raises(ValueError, match=r"and no rate.*inject_hyperparams"):
        rate(optimizer=optax.adam(0.1), state=stepped(optax.adam(0.1)), at="hessian")


def test_other_optimisers_are_linearised_whole():
    optimizer = optax.adabelief(0.1)
    found = rate(optimizer=optimizer, state=stepped(optimizer), rate=0.1)
    assert found.route == "recurrence" and found.sharpness == {} and 0 < found.largest["hessian"].value < np.inf
    assert "linearised" in str(found)


def test_a_loss_without_curvature_bears_every_rate():
    found = ww.stable_rate(linear, X, lambda model, data: jnp.sum(jax.vmap(model)(data)), params=PARAMS)
    assert found.largest["hessian"].value == np.inf and "No rate is too large" in found.sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"optimizer": 0.1}, "optimiser of type float"),
        ({"optimizer": optax.adam(0.1), "rate": 0.1}, "without its state"),
        ({"optimizer": optax.lion(0.1), "rate": 0.1}, "size of the gradient"),
        ({"optimizer": optax.sign_sgd(0.1), "rate": 0.1}, "size of the gradient"),
        ({"at": "nowhere"}, "at='nowhere'"),
        ({"optimizer": optax.sgd(0.1, momentum=0.9), "rate": 0.5}, "rate=0.5 with an optimiser that was made with 0.1"),
        ({"loss": Y}, "one pair"),
        ({"steps": 0}, "steps=0"),
        ({"rate": -1.0}, "rate"),
        ({"loss": "half"}, "did you mean 'half-sum'|did you mean 'half-mean'"),
        ({"loss": lambda model, data: 0.0, "at": "ntk"}, "loss of your own"),
        ({"loss": lambda model, data: jnp.log(-jnp.sum(model(jnp.ones(2)) ** 2) - 1.0)}, "loss is nan"),
        ({"loss": "cross-entropy"}, r"Classes are whole numbers.*Give y\[:, 0\]"),
        ({"data": (X, np.zeros((4, 2)))}, "one target for each output"),
        ({"data": (X, np.full((4, 1), np.nan))}, "NaN"),
        ({"data": (X, Y[:3])}, "Each of n >= 1 inputs"),
        ({"data": X}, "pair"),
        ({"data": (X, np.full(4, 7)), "loss": "cross-entropy"}, r"the label 7 \(4 of 4 are wrong\)"),
    ],
)
def test_bad_input_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        rate(**words)


def test_parameters_that_are_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"real numbers|parameters"):
        ww.stable_rate(linear, (X, Y), params={"w": jnp.array([[1, 2]])})


def test_the_top_pair_survives_breakdowns():
    A = jnp.diag(jnp.array([3.0, 0.0, 0.0, 0.0]))
    value, bound, vector = top_pair(lambda v: A @ v, jnp.ones(4), 4)
    assert float(value) == pytest.approx(3.0) and float(bound) < 1e-12
    np.testing.assert_allclose(jnp.abs(vector), [1, 0, 0, 0], atol=1e-12)
    value, _, _ = top_pair(lambda v: -v, jnp.ones(4), 3)
    assert float(value) == pytest.approx(-1.0)


def test_the_hessian_agrees_with_the_other_instrument():
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(5, 2))), "b": jnp.asarray(rng.normal(size=(1, 5)))}

    def model(p, x):
        return p["b"] @ jnp.tanh(p["a"] @ x)

    data = rng.normal(size=(6, 2)), rng.normal(size=(6, 1))
    found = ww.stable_rate(model, data, params=params)
    other = hessian_sharpness(ww.adapt(model, params=params), jnp.asarray(data[0]), jnp.asarray(data[1]))
    assert found.curvature["hessian"].value == pytest.approx(other.value, rel=1e-6)


def test_the_state_of_another_optimiser_is_refused():
    params = {"w": jnp.ones((1, 2))}
    other = optax.adam(1e-3).init({"w": jnp.ones((1, 3))})
    data = np.ones((4, 2)), np.ones((4, 1))
    with pytest.raises(ValueError, match="fit no state of this optimiser"):
        ww.stable_rate(lambda p, x: p["w"] @ x, data, optimizer=optax.adam(1e-3), state=other, rate=1e-3, params=params)
    given = optax.sgd(0.1).init(params)
    with pytest.raises(ValueError, match="Give the state of this optimiser"):
        ww.stable_rate(lambda p, x: p["w"] @ x, data, optimizer=optax.adam(1e-3), state=given, rate=1e-3, params=params)


def test_a_loss_of_outputs_and_labels_is_told_what_it_is_given():
    with pytest.raises(ValueError, match=r"loss\(model, data\), which raised TypeError"):
        rate(lambda outputs, labels: outputs - labels[0])
    with pytest.raises(ValueError, match="is 'mean-entries'"):
        rate("mse")
    assert repr(rate(rate=0.1)).startswith("StableRate(By the Hessian, rates below")
