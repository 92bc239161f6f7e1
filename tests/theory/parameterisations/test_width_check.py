"""Planted mistakes are found and named; muP passes; bad input is refused."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import widthwise as ww
from widthwise.claims import Status
from widthwise.theory.parameterisations.check import _demand_tame, _undecided
from widthwise.theory.parameterisations.slopes import Slope

WIDTHS = (32, 64, 128, 256)


@pytest.fixture(autouse=True)
def optax_promotes():
    """Optax's Adam raises a float to the power of a whole number."""
    with jax.numpy_dtype_promotion("standard"):
        yield


X = np.random.default_rng(0).normal(size=(8, 10))
X *= np.sqrt(10) / np.linalg.norm(X, axis=1, keepdims=True)
Y = (np.sin(X[:, 0]) + 0.5 * X[:, 1])[:, None]
SGD = {"w0": 1, "w1": 0, "w2": 0, "w3": -1}
ADAM = {"w0": 0, "w1": -1, "w2": -1, "w3": -1}
SGD_BIASES = {**SGD, "b0": 1, "b1": 1, "b2": 1, "b3": 0}


def mlp(width, seed, *, powers=(0.0, -0.5, -0.5, -1.0), multiplier=0.0, biases=False):
    """Three hidden layers with standard deviations that go as these powers of the width."""
    sizes = (10, width, width, width, 1)
    keys, p = jr.split(jr.key(seed), 4), {}
    for at, (key, power) in enumerate(zip(keys, powers, strict=True)):
        scale = 10**-0.5 if at == 0 else 1.0
        p[f"w{at}"] = 0.0 if power is None else scale * width**power
        p[f"w{at}"] = p[f"w{at}"] * jr.normal(key, sizes[at : at + 2])
        p |= {f"b{at}": jnp.zeros(sizes[at + 1])} if biases else {}

    def f(p, x):
        for at in range(4):
            x = x @ p[f"w{at}"] * (width**multiplier if at == 3 else 1.0)
            x = x + p[f"b{at}"] if biases else x
            x = 1.5 * jnp.tanh(x) if at < 3 else x
        return x

    return f, p


def layerwise(base, rate, powers):
    """The rate of each tensor goes as a power of the width."""

    def optimizer(width):
        transforms = {name: base(rate * float(width) ** power) for name, power in powers.items()}
        return optax.multi_transform(transforms, {name: name for name in powers})

    return optimizer


def model(**fields):
    return lambda width, seed: mlp(width, seed, **fields)


def coarse(rate):
    return optax.adam(rate, eps=1e-3)


STANDARD = (0.0, -0.5, -0.5, -0.5)
# What is planted: the model, the optimiser, and tensors with the cause that has to be found, and no others.
PLANTED = {
    "standard with SGD": (model(powers=STANDARD), optax.sgd(1e-3), {("w3", "multiplier"), ("w0", "learning rate")}),
    "readout too large at the start": (
        model(powers=STANDARD),
        layerwise(optax.adam, 0.05, ADAM),
        {("w3", "initial scale")},
    ),
    "readout without its multiplier": (
        model(powers=(0.0, -0.5, -0.5, 0.0)),
        layerwise(optax.adam, 5e-4, {**ADAM, "w3": 0}),
        {("w3", "multiplier")},
    ),
    "input rate falls": (model(), layerwise(optax.adam, 0.3, {**ADAM, "w0": -1}), {("w0", "learning rate")}),
    "epsilon that stays": (model(), layerwise(coarse, 0.05, ADAM), {(f"w{at}", "epsilon") for at in range(3)}),
    "zero readout hides a rate": (
        model(powers=(0.0, -0.5, -0.5, None)),
        layerwise(optax.adam, 5e-3, {**ADAM, "w1": 0}),
        {("w1", "learning rate")},
    ),
    "hidden rate not scaled": (model(), layerwise(optax.adam, 3e-3, {**ADAM, "w2": 0}), {("w2", "learning rate")}),
    "hidden layers too small": (
        model(powers=(0.0, -1.0, -1.0, -1.0)),
        layerwise(optax.sgd, 0.5, SGD),
        {("w1", "initial scale"), ("w2", "initial scale")},
    ),
    "fan-out for fan-in": (
        model(powers=(-0.5, -0.5, -0.5, -1.0)),
        layerwise(optax.adam, 0.05, ADAM),
        {("w0", "initial scale")},
    ),
    "bias rates not scaled": (
        model(biases=True),
        layerwise(optax.sgd, 0.3, {**SGD_BIASES, "b0": 0, "b1": 0, "b2": 0}),
        {(f"b{at}", "learning rate") for at in range(3)},
    ),
}
GOOD = {
    "SGD": (model(), layerwise(optax.sgd, 0.3, SGD)),
    "Adam": (model(), layerwise(optax.adam, 0.05, ADAM)),
    "Adam with a multiplier": (
        model(powers=(0.0, -0.5, -0.5, 0.0), multiplier=-1.0),
        layerwise(optax.adam, 0.05, {**ADAM, "w3": 0}),
    ),
    "zero readout": (model(powers=(0.0, -0.5, -0.5, None)), layerwise(optax.adam, 0.05, ADAM)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name):
    make_model, optimizer, wanted = PLANTED[name]
    found = ww.width_check(make_model, optimizer, (X, Y), widths=WIDTHS)
    assert found.status is Status.VIOLATED, str(found)
    assert {(fault.tensor, fault.cause) for fault in found.faults} == wanted, str(found)
    assert found.culprit in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_mup_passes(name):
    found = ww.width_check(*GOOD[name], (X, Y), widths=WIDTHS)
    assert found.status is Status.HOLDS, str(found)
    assert found.identity.name == "mup"
    assert found.identity.prediction.regime == found.regime == "feature learning"


@pytest.mark.slow
def test_the_ntk_parameterisation_is_stable_and_stands_still():
    found = ww.width_check(model(powers=STANDARD), lambda n: optax.sgd(0.5 / n), (X, Y), widths=WIDTHS)
    assert (found.verdict, found.regime, found.identity.name) == ("FAIL", "kernel", "standard, rate 1/n")


def transformer(power):
    """One block with two heads, in muP for Adam but for the scale of its scores."""

    def make_model(n, seed):
        keys, d = jr.split(jr.key(seed), 6), n // 2
        p = {name: jr.normal(key, (n, n)) / n**0.5 for name, key in zip("qkvo", keys, strict=False)}
        p |= {"embed": jr.normal(keys[4], (5, n)), "head": jr.normal(keys[5], (n, 5)) / n}

        def f(p, x):
            h = p["embed"][x]
            q, k, v = ((h @ p[name]).reshape(6, 2, d) for name in "qkv")
            a = jax.nn.softmax(jnp.einsum("ihd,jhd->hij", q, k) * float(d) ** power)
            h = h + jnp.einsum("hij,jhd->ihd", a, v).reshape(6, n) @ p["o"]
            return h @ p["head"]

        return f, p

    return make_model


@pytest.mark.slow
@pytest.mark.parametrize("power", [-1.0, -0.5])
def test_the_scale_of_attention_is_judged(power):
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, 5, (8, 6)), rng.integers(0, 5, (8, 6))
    optimizer = layerwise(optax.adam, 0.1, {**dict.fromkeys("qkvo", -1), "embed": 0, "head": -1})
    found = ww.width_check(transformer(power), optimizer, (tokens, labels), widths=WIDTHS, steps=3)
    causes = {(fault.tensor, fault.cause) for fault in found.faults}
    assert causes == (set() if power == -1.0 else {("attention (1)", "attention scale")}), str(found)


TRANSFORMERS = {
    "embedding with Adam": (layerwise(optax.adam, 0.1, {**dict.fromkeys("qkvo", -1), "embed": -1, "head": -1}), "E"),
    "embedding with SGD": (layerwise(optax.sgd, 1.0, {**dict.fromkeys("qkvo", 0), "embed": 0, "head": -1}), "E"),
    # Queries and keys that move too far make scores that move too far, which is not the fault of their scale.
    "one rate for all with Adam": (optax.adam(1e-3), "qkvoH"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_wrong_rates_in_a_transformer_are_named(name):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 5, (8, 6)), rng.integers(0, 5, (8, 6))
    optimizer, blamed = TRANSFORMERS[name]
    found = ww.width_check(transformer(-1.0), optimizer, data, widths=(16, 32, 64, 128), seeds=3, steps=2)
    wanted = {({"E": "embed", "H": "head"}.get(one, one), "learning rate") for one in blamed}
    assert {(fault.tensor, fault.cause) for fault in found.faults} == wanted, str(found)
    assert found.verdict == "FAIL"


def convolutional(width, seed):
    keys = jr.split(jr.key(seed), 3)
    p = {"first": jr.normal(keys[0], (width, 1, 3, 3)) / 3, "second": jr.normal(keys[1], (width, width, 3, 3))}
    p = {**p, "second": p["second"] / (9 * width) ** 0.5, "last": jr.normal(keys[2], (width, 2)) / width}

    def f(p, x):
        for name in ("first", "second"):
            x = jnp.tanh(jax.lax.conv_general_dilated(x[None], p[name], (1, 1), "SAME")[0])
        return jnp.mean(x, axis=(1, 2)) @ p["last"]

    return f, p


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [0, -1])
def test_convolutions(hidden):
    images = np.random.default_rng(0).normal(size=(8, 1, 5, 5))
    optimizer = layerwise(optax.sgd, 0.3, {"first": 1, "second": hidden, "last": -1})
    found = ww.width_check(convolutional, optimizer, (images, np.arange(8) % 2), widths=(16, 32, 64, 128), seeds=10)
    wanted = [] if hidden == 0 else [("second", "learning rate")]
    assert [(fault.tensor, fault.cause) for fault in found.faults] == wanted, str(found)
    assert found.verdict == ("FAIL" if wanted else "PASS")


def tiny(width, seed):
    keys = jr.split(jr.key(seed), 2)
    w = {"in": jr.normal(keys[0], (2, width)), "out": jr.normal(keys[1], (width, 1)) / width}
    return lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"], w


SMALL = np.random.default_rng(1).normal(size=(4, 2))
DATA = (SMALL, SMALL[:, :1])


def test_a_small_check_says_what_it_sees():
    found = ww.width_check(tiny, optax.sgd(0.01), DATA, widths=(8, 16, 32, 64), seeds=3, steps=2)
    rates = {one.name: one.rate for one in found.readings}
    # One rate for all: the input layer falls as 1/n, the readout grows as n, exactly, step by step.
    assert rates["in"].value == pytest.approx(-1.0, abs=0.1)
    assert rates["out"].value == pytest.approx(1.0, abs=0.1)
    assert found.verdict == "FAIL"
    assert {fault.tensor for fault in found.faults} == {"in", "out"}
    assert found.runs.taps["z"].shape == (4, 3, 3, 2)
    # Spectral norms are those of the matrices.
    w = tiny(8, 0)[1]["in"]
    assert found.runs.spectral["weight"][0, 0, 0] == pytest.approx(np.linalg.norm(w, 2), rel=1e-3)
    figure = ww.plot(found)
    assert "FAIL" in figure.layout.title.text


def test_too_high_a_rate_is_reported_with_the_width():
    def hot(width):
        return optax.sgd(0.01 if width < 64 else 1e200)

    found = ww.width_check(tiny, hot, DATA, widths=(8, 16, 32, 64), seeds=2, steps=3)
    assert found.verdict == "FAIL"
    assert "no longer finite after step" in found.reasons[0]
    assert "at width 64" in found.reasons[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 16, 32)}, "four widths or more"),
        ({"widths": (8, 16, 16, 32)}, "rising order"),
        ({"widths": (8, 16.5, 32, 64)}, "whole numbers"),
        ({"widths": 64}, "widths=64. An exponent"),
        ({"seeds": 1}, "at least two of them"),
        ({"seeds": "4"}, "seeds='4'. seeds is a whole number"),
        ({"seeds": 2.5}, "seeds=2.5. seeds is a whole number"),
        ({"steps": 1.5}, "steps=1.5. steps is a whole number"),
        ({"steps": 0}, "At least one step"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"data": (SMALL, SMALL[:3])}, "each with its label"),
        ({"data": SMALL}, "a pair"),
        ({"data": (np.where(SMALL > 0, np.nan, 1.0), SMALL)}, "X with entries that are not finite"),
        ({"data": (SMALL, SMALL)}, "labels of shape"),
        ({"make_model": lambda width, seed: tiny(8, seed)}, "with the same shapes .*in .2, 8."),
        ({"make_model": lambda width, seed: tiny(width, 0)}, "equal parameters for seeds 0 and 1"),
    ],
)
def test_bad_input_is_refused(fields, message):
    given = {"make_model": tiny, "data": DATA, "widths": (8, 16, 32, 64), "seeds": 2, **fields}
    make_model, data = given.pop("make_model"), given.pop("data")
    with pytest.raises(ValueError, match=message):
        ww.width_check(make_model, optax.sgd(0.1), data, **given)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.sgd, "a learning rate first, .* a function optimizer.width."),
        (optax.inject_hyperparams(optax.adam), "a learning rate first"),
        (functools.partial(optax.adam, 0.1), "a learning rate first"),
        (lambda: optax.sgd(0.1), "takes no arguments"),
        (lambda width: 1.0 / width, r"optimizer\(8\) of type float"),
        (None, "optimizer=None"),
        ("adam", "optimizer='adam'. An optimizer is an optax transformation"),
    ],
)
def test_what_is_no_optimizer_of_the_width_is_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        ww.width_check(tiny, optimizer, DATA, widths=(8, 16, 32, 64), seeds=2, steps=1)


class Pair(eqx.Module):
    """A model of two arguments."""

    def __call__(self, x, key):
        return x + key


def no_seed(width):
    return tiny(width, 0)


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (eqx.nn.MLP(2, 1, 8, 1, key=jr.key(0)), "a model of type MLP.* Give make_model.width, seed."),
        (Pair(), "a model of type Pair.* Give make_model.width, seed."),
        (no_seed, r"make_model\(8, 0\) raised TypeError: no_seed.* Give make_model.width, seed."),
    ],
)
def test_what_makes_no_models_is_refused(make_model, message):
    with pytest.raises(ValueError, match=message):
        ww.width_check(make_model, optax.sgd(0.1), DATA, widths=(8, 16, 32, 64), seeds=2, steps=1)
    with pytest.raises(ValueError, match=message):
        ww.mup(make_model, SMALL, width=16, base_width=8)
    with pytest.raises(ValueError, match=message):
        ww.transfer(make_model, optax.sgd, DATA, widths=(8, 16, 32), rates=(0.1, 0.2, 0.3))


def test_widths_that_are_too_close_are_inconclusive_at_best():
    found = ww.width_check(
        tiny, layerwise(optax.sgd, 0.1, {"in": 1, "out": -1}), DATA, widths=(30, 32, 34, 36), seeds=2, steps=1
    )
    assert found.verdict != "PASS"
    said = _undecided(found.runs, [])
    assert "widths 30 to 36 are too close" in said and "call with widths=(30, 60, 120, 240, 480), steps=5" in said
    wide = dataclasses.replace(found.readings[0], rate=Slope(0.0, 1.0), change=Slope(0.0, 0.1))
    assert f"2 seeds the intervals of {wide.name} are too wide (up to ± 1.00" in _undecided(found.runs, [wide])
    assert "call with seeds=8, widths" in _undecided(found.runs, [wide])


def test_every_exponent_that_is_blamed_is_printed():
    told = []
    words = {"widths": WIDTHS, "seeds": 2, "steps": 1, "progress": lambda *call: told.append(call)}
    found = ww.width_check(model(powers=STANDARD), optax.sgd(1e-3), (X, Y), **words)
    assert told == [(done, 8) for done in range(1, 9)]
    assert found.faults
    for fault in found.faults:
        (row,) = [line for line in str(found).splitlines() if line.startswith(f"{fault.tensor:<28}")]
        assert str(fault.measured) in row


def test_closures_of_one_code_share_what_is_compiled():
    text = [str(jax.make_jaxpr(ww.adapt(tiny(8, seed)))(jnp.ones(2)).jaxpr) for seed in (0, 1)]
    assert text[0] == text[1]


def test_a_rate_that_blows_up_every_width_is_refused():
    with pytest.raises(ValueError, match="at every width"):
        _demand_tame(np.array([[[1.0, 1e11]] * 2] * 4))
    _demand_tame(np.array([[[1.0, 10.0**width]] * 2 for width in range(4)]))
