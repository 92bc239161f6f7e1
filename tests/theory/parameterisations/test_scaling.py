"""muP for models of one's own: roles, factors, optimisers, refusals; and the transfer of rates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import widthwise as ww
from widthwise.theory.parameterisations.rules import rule_of

X = np.random.default_rng(0).normal(size=(4, 3))


def equinox(width, seed):
    return eqx.nn.MLP(3, 2, width, 2, key=jr.key(seed))


def factors(found):
    return {one.name: (one.role, one.initial, one.rate) for one in found.tensors}


def test_roles_and_factors_of_adam():
    found = factors(ww.mup(equinox, X, width=128, base_width=32))
    assert found["layers.0.weight"] == ("input", 1.0, 1.0)
    assert found["layers.1.weight"] == ("hidden", 1.0, 0.25)
    assert found["layers.2.weight"] == ("output", 0.5, 0.25)
    assert found["layers.2.bias"][::2] == ("fixed", 1.0)
    # Equinox draws biases on the scale of 1/sqrt(fan-in), which falls with the width.
    assert found["layers.1.bias"] == ("vector", 2.0, 1.0)


def test_factors_of_sgd():
    rates = {
        name: rate
        for name, (_, _, rate) in factors(ww.mup(equinox, X, width=128, base_width=32, optimizer="sgd")).items()
    }
    assert [rates[f"layers.{at}.weight"] for at in range(3)] == [4.0, 1.0, 0.25]
    assert [rates[f"layers.{at}.bias"] for at in range(3)] == [4.0, 4.0, 1.0]


def test_nothing_changes_at_the_base_width():
    found = ww.mup(equinox, X, width=32, base_width=32)
    assert {(one.initial, one.rate) for one in found.tensors} == {(1.0, 1.0)}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_below_the_base_width_factors_are_the_inverse_ones(optimizer):
    up = ww.mup(equinox, X, width=16, base_width=8, optimizer=optimizer)
    down = ww.mup(equinox, X, width=8, base_width=16, optimizer=optimizer)
    for one, other in zip(up.tensors, down.tensors, strict=True):
        assert (one.name, one.role, one.shape, one.base_shape) == (
            other.name,
            other.role,
            other.base_shape,
            other.shape,
        )
        assert (one.initial * other.initial, one.rate * other.rate) == pytest.approx((1.0, 1.0), rel=1e-12)
    # The readout: rates go as 1/n, and standard deviations as 1/n where Equinox draws them on the scale of n^(-1/2).
    assert factors(down)["layers.2.weight"] == ("output", pytest.approx(2**0.5), 2.0)
    assert down.rescale(equinox(8, 0)).layers[2].weight.shape == (2, 8)


@pytest.mark.parametrize("way", ["transformation", "factory"])
def test_updates_are_those_of_the_base_times_the_factor(way):
    found, model = ww.mup(equinox, X, width=64, base_width=32, optimizer="sgd"), equinox(64, 0)
    params = eqx.filter(model, eqx.is_inexact_array)
    chosen = found.optimizer(optax.sgd(0.1)) if way == "transformation" else found.optimizer(optax.sgd, rate=0.1)
    updates, _ = chosen.update(jax.tree.map(jnp.ones_like, params), chosen.init(params), params)
    for one, update in zip(found.tensors, jax.tree.leaves(updates), strict=True):
        assert np.allclose(update, -0.1 * one.rate, rtol=1e-12)


def test_a_model_is_rescaled_in_its_own_structure():
    found, model = ww.mup(equinox, X, width=64, base_width=32), equinox(64, 0)
    scaled = found.rescale(model)
    assert np.allclose(scaled.layers[2].weight, model.layers[2].weight * 2**-0.5)
    assert np.array_equal(scaled.layers[1].weight, model.layers[1].weight)
    assert scaled.activation is model.activation
    assert "layers.2.weight" in str(found)


def linen(width, seed):
    import flax.linen as nn

    module = nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(2)])
    return module, module.init(jr.key(seed), X[:1].astype("float32"))


def nnx(width, seed):
    from flax import nnx

    rngs = nnx.Rngs(seed)
    return nnx.Sequential(nnx.Embed(5, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs))


def test_linen_and_nnx():
    rates = {name: (role, rate) for name, (role, _, rate) in factors(ww.mup(linen, X, width=64, base_width=32)).items()}
    assert sorted(rates.values()) == [("fixed", 1.0), ("input", 1.0), ("output", 0.5), ("vector", 1.0)]
    tokens = np.arange(4).reshape(2, 2) % 5
    found = factors(ww.mup(nnx, tokens, width=64, base_width=16))
    # Flax draws an embedding on the scale of 1/sqrt(features).
    assert found["layers.0.embedding"] == ("input", 2.0, 1.0)
    assert found["layers.1.kernel"] == ("output", 0.5, 0.25)


def scores(power, tied=False):
    def make_model(width, seed):
        q, k, e = (jr.normal(key, (5, width)) for key in jr.split(jr.key(seed), 3))

        def f(p, x):
            a = jax.nn.softmax((x @ p["q"]) @ (x @ p["k"]).T * width**power) @ x
            return (a @ p["q"] @ p["q"].T if tied else jnp.mean(a @ p["e"], axis=1)).ravel()

        return f, {"q": q, "k": k, "e": e}

    return make_model


def test_the_scale_of_attention_is_told():
    tokens = np.random.default_rng(0).normal(size=(2, 4, 5))
    (told,) = ww.mup(scores(-0.5), tokens, width=64, base_width=32).advice
    assert "attention" in told
    assert "d^-0.5" in told
    assert ww.mup(scores(-1.0), tokens, width=64, base_width=32).advice == ()


@pytest.mark.parametrize("name", ["width", "base_width"])
@pytest.mark.parametrize("value", [0, -8, 64.0, "64", True])
def test_widths_are_whole_numbers_from_one_on(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}. {name} is a whole number of at least 1. Give"):
        ww.mup(equinox, X, **{"width": 16, "base_width": 8, name: value})


def test_refusals():
    with pytest.raises(ValueError, match=r"with the same shapes .*layers.0.weight"):
        ww.mup(lambda width, seed: equinox(8, seed), X, width=64, base_width=32)
    with pytest.raises(ValueError, match="in the roles input, output"):
        ww.mup(scores(-1.0, tied=True), np.ones((2, 4, 5)), width=64, base_width=32)
    with pytest.raises(
        ValueError, match=r"optimizer='adm'.*did you mean 'adam'.*Known are.*hand your optimiser to the"
    ):
        ww.mup(equinox, X, width=64, base_width=32, optimizer="adm")
    with pytest.raises(ValueError, match="grow with the gradient at every size"):
        ww.mup(equinox, X, width=64, base_width=32, optimizer=optax.set_to_zero())
    found = ww.mup(equinox, X, width=64, base_width=32)
    with pytest.raises(ValueError, match="This scaling is for width 64"):
        found.rescale(equinox(32, 0))
    with pytest.raises(ValueError, match="without a rate"):
        found.optimizer(optax.adam)
    for chosen in ((optax.sgd(0.1),), (optax.sgd, 0.1)):
        with pytest.raises(ValueError, match=r"like sgd for a scaling that is made for adam.*optimizer='sgd' to mup"):
            found.optimizer(*chosen)


def warm(rate):
    return optax.adam(optax.linear_schedule(0.0, rate, 100))


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [
        ("AdamW", "adam"),
        ("lion", "adam"),
        ("SGD", "sgd"),
        (optax.adamw(1e-3), "adam"),
        (optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, momentum=0.9)), "sgd"),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)), "adam"),
        (optax.radam(1e-3), "adam"),
        (optax.lars(0.1), "adam"),
        (optax.MultiSteps(optax.adam(1e-3), 16), "adam"),
        (optax.adamw, "adam"),
        (optax.sgd, "sgd"),
        (warm(1e-3), "adam"),
        (lambda width: optax.sgd(1.0 / width), "sgd"),
    ],
)
def test_the_rule_of_an_optimiser_is_found(optimizer, rule):
    assert rule_of(optimizer, {"w": jnp.ones((2, 3))}) == rule


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        optax.adam(1e-3, eps=1e-2),
        optax.multi_transform({"a": optax.adam(1e-3), "b": optax.sgd(1.0)}, {"w": "a", "b": "b"}),
        optax.lbfgs(),
        optax.set_to_zero(),
    ],
)
def test_an_optimiser_between_the_rules_has_to_be_told(optimizer):
    with pytest.raises(ValueError, match="whose updates grow with the gradient at every size of it, or at none"):
        rule_of(optimizer, {"w": jnp.ones((2, 3)), "b": jnp.ones(2)})


def test_the_drift_of_the_best_rate_is_that_of_a_known_problem():
    def make_model(width, seed):
        return lambda w, x: width * jnp.sum(w)[None] + 0.0 * jnp.sum(x), jnp.full((1,), 0.01 * (1 + seed))

    rates = np.logspace(-5, -1, 41)
    found = ww.transfer(
        make_model, optax.sgd, (np.ones((3, 2)), np.ones((3, 1))), widths=(8, 16, 32), rates=rates, seeds=2, steps=1
    )
    # The grid has ten rates to a decade.
    assert found.drift.value == pytest.approx(-2.0, abs=0.1)
    assert np.allclose(found.best, np.array([8.0, 16.0, 32.0]) ** -2, rtol=0.13)
    assert found.at_edge == ()
    assert "Transfer" in ww.plot(found).layout.title.text
    scaled = ww.transfer(
        make_model,
        lambda rate, width: optax.sgd(rate / width**2),
        (np.ones((3, 2)), np.ones((3, 1))),
        widths=(8, 16, 32),
        rates=np.logspace(-1, 1, 8),
        seeds=2,
        steps=1,
    )
    assert scaled.drift.value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.sgd(0.1), "whose rate is chosen already. Each rate is tried"),
        (None, "optimizer=None. Each rate is tried"),
    ],
)
def test_transfer_demands_a_function_of_the_rate(optimizer, message):
    with pytest.raises(ValueError, match=message):
        ww.transfer(equinox, optimizer, (X, X[:, :2]), widths=(8, 16, 32), rates=(0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": (0.1, 0.2, np.nan)}, "rate=nan. A learning rate is a finite number above 0"),
        ({"rates": (0.1, 0.2, np.inf)}, "rate=inf. A learning rate"),
        ({"rates": (0.0, 0.1, 0.2)}, "rate=0.0. A learning rate"),
        ({"rates": (0.1, 0.2, "0.3")}, "rate='0.3'. A learning rate"),
        ({"rates": (0.1, 0.2, 0.2)}, "2 different rates"),
        ({"steps": 0}, "At least one step is trained"),
        ({"steps": 2.5}, "steps is a whole number"),
        ({"seeds": 1}, "at least two of them"),
        ({"widths": (32, 16, 8)}, "A drift needs three widths or more, .* in rising order"),
        ({"widths": (8, 16, 16, 32)}, "in rising order"),
        ({"widths": (8, 16, 32.0)}, "whole numbers"),
        ({"confidence": 95}, "between 0 and 1"),
    ],
)
def test_transfer_refuses_bad_input(fields, message):
    given = {"widths": (8, 16, 32), "rates": (0.1, 0.2, 0.3), "seeds": 2, "steps": 1, **fields}
    with pytest.raises(ValueError, match=message):
        ww.transfer(equinox, optax.sgd, (X, X[:, :2]), **given)


def test_transfer_refuses_too_little():
    with pytest.raises(ValueError, match="A drift needs three widths"):
        ww.transfer(equinox, optax.sgd, (X, X[:, :2]), widths=(8, 16), rates=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="not finite at width 8"):
        ww.transfer(
            equinox, optax.sgd, (X, X[:, :2]), widths=(8, 16, 32), rates=(1e200, 1e250, 1e300), seeds=2, steps=2
        )
