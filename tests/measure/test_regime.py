"""Lazy or rich: the verdict at both ends of the dial, the laws along it, and refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import widthwise as ww
from widthwise.measure import lazy_or_rich

X = np.random.default_rng(3).normal(size=(8, 4))
Y = np.array([0, 1] * 4)


def shallow(seed, width=32):
    return eqx.nn.MLP(4, 1, width, 1, activation=jnp.tanh, key=jr.key(seed))


@pytest.fixture(scope="module")
def dialled():
    return lazy_or_rich(shallow, (X, Y), draws=3, steps=40, alphas=(1.0, 8.0, 64.0, 512.0))


def test_every_change_falls_like_one_over_alpha(dialled):
    for name, found in dialled.exponents().items():
        assert abs(found.value + 1.0) < 5 * found.error + 0.02, name  # 1/alpha corrections beyond the fitted one
    last = dialled.dial[-1]
    assert last.flips.shape == last.features.shape == (3, 2)
    assert np.all(np.maximum(last.gap, last.kernel) < 0.1)


def test_the_words_follow_the_distance(dialled):
    assert dialled.word in ("rich", "in between")
    assert "lazier" in dialled.sentence
    assert str(dialled).count("alpha") == 4
    assert len(ww.plot(dialled).data) == 4


def test_a_linear_model_is_lazy_and_does_not_move_its_kernel():
    found = lazy_or_rich((lambda w, x: w @ x, 0.1 * np.ones((1, 4))), (X, X[:, :1]), steps=50, alphas=())
    assert found.word == "lazy"
    # the tangent model is the model itself: only rounding of 50 steps
    assert found.own.kernel[0] < 1e-12
    assert found.own.gap[0] < 1e-12
    assert found.own.left[0] < 1.0
    assert len(ww.plot(found).data) == 1


def test_the_movement_of_a_layer_is_that_of_its_pre_activations():
    params = {"w": np.ones((1, 4))}
    found = lazy_or_rich((lambda p, x: p["w"] @ x, params), (X, X[:, :1]), steps=1, alphas=())
    fit = np.arange(8) % 5 != 4
    A, T = X[fit], X[fit][:, :1]
    rate = 1.0 / np.linalg.eigvalsh(A @ A.T / len(A))[-1]
    w = np.ones(4) - rate * A.T @ (A @ np.ones(4) - T[:, 0]) / len(A)
    before, after = X @ np.ones(4), X @ w
    assert np.isclose(found.own.features[0, 0], np.linalg.norm(after - before) / np.linalg.norm(before), rtol=1e-9)
    assert np.isclose(found.own.flips[0, 0], np.mean(np.sign(before) != np.sign(after)))
    assert np.isclose(found.own.weights[0], np.linalg.norm(w - 1) / 2, rtol=1e-9)


@pytest.mark.slow
def test_width_makes_the_ntk_parameterisation_lazy_and_not_the_mean_field_one():
    """INIT-38: features like the root of the width, the kernel like the width; mean field moves at every width."""
    inputs = X / np.linalg.norm(X, axis=1, keepdims=True) * 2

    def make(parameterisation):
        network = ww.MLP(depth=1, weight_variance=1.5, parameterisation=parameterisation)
        return lambda width, seed: ww.sample(network.at_width(width).network(), jr.key(seed), in_size=4)

    widths = (64, 128, 256, 512)
    found = lazy_or_rich(make("ntk"), (inputs, Y), draws=6, widths=widths, alphas=(), steps=60).exponents("width")
    assert abs(found["features"].value + 0.5) < 5 * found["features"].error + 0.05
    assert abs(found["kernel"].value + 1.0) < 5 * found["kernel"].error + 0.1
    rich = lazy_or_rich(make("mean_field"), (inputs, Y), draws=6, widths=widths, alphas=(), steps=60)
    assert rich.widths[-1].kernel.mean() > 0.5 * rich.widths[0].kernel.mean()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": (X[:1], Y[:1])}, "n >= 2"),
        ({"data": (X, Y[:3])}, "one label"),
        ({"draws": 1}, "at least two of them"),
        ({"widths": (32, 64), "draws": None}, "make_model"),
        ({"alphas": (0.0,)}, "positive numbers"),
        ({"data": (np.where(np.arange(len(X))[:, None] == 2, np.nan, X), Y)}, "row 2 that is not finite"),
        ({"data": (X, np.full(len(X), np.inf))}, "y with a number"),
        ({"model": eqx.nn.MLP(4, 1, 8, 1, key=jr.key(0))}, "instead of a function that makes models"),
        ({"data": (X, np.ones((8, 3)))}, "one target for each output"),
        ({"model": (lambda w, x: w @ x, np.ones((3, 4))), "draws": None}, "one target for each output"),
    ],
)
def test_bad_input_is_refused(change, said):
    given = {"model": shallow, "data": (X, Y), "draws": 2, "steps": 2, "alphas": ()} | change
    with pytest.raises(ValueError, match=said):
        lazy_or_rich(given.pop("model"), given.pop("data"), **given)


def test_a_training_that_diverges_and_exponents_of_too_few_points_are_refused():
    linear = (lambda w, x: w @ x, 0.1 * np.ones((1, 4)))
    with pytest.raises(ValueError, match="diverges at step"):
        lazy_or_rich(linear, (X, X[:, :1]), alphas=(), method=ww.measure.Method("gd", 1e3, 50))
    with pytest.raises(ValueError, match="at least 4 points and 2 draws"):
        lazy_or_rich(linear, (X, X[:, :1]), steps=2, alphas=()).exponents()
    assert jax.config.jax_enable_x64
