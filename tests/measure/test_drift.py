"""One look at a model in training, against the empirical NTK itself and numbers known beforehand."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure.drift import columns, cross_entropy, instrument, layers_of, loss_of, ranks, similarity
from widthwise.networks import MLP, sample
from widthwise.numerics import spectrum
from widthwise.operators import adapt, entk

X = np.random.default_rng(0).normal(size=(5, 4))
PARAMS = {"hidden": {"w": jr.normal(jr.key(0), (4, 6)), "b": jnp.zeros(6)}, "out": jr.normal(jr.key(1), (6, 3))}


def net(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return {"hidden": hidden, "logits": hidden @ params["out"]}


def looks(model, moved, **options):
    made = instrument(model, jnp.asarray(X), None, **options)
    return made, made(moved, made.start(model))


@pytest.fixture(scope="module")
def model():
    return adapt(net, X, params=PARAMS, output="logits")


def scaled(factor):
    return adapt(net, X, params={**PARAMS, "out": factor * PARAMS["out"]}, output="logits")


def test_the_kernel_is_the_traced_empirical_ntk(model):
    made, seen = looks(model, scaled(1.5))
    np.testing.assert_allclose(seen["kernel"], entk(scaled(1.5), X, outputs="trace"), rtol=1e-13)
    np.testing.assert_allclose(made.start(model).kernel, entk(model, X, outputs="trace"), rtol=1e-13)


def test_changes_are_those_that_were_made(model):
    """The readout grows by a half, and with it the outputs; nothing else moves."""
    made, seen = looks(model, scaled(1.5))
    assert [*made.layers] == ["hidden", "out"] and [*made.features] == ["outputs"]
    np.testing.assert_allclose(seen["weight_change"], [0.0, 0.5], atol=1e-15)
    np.testing.assert_allclose(seen["feature_change"], [0.5], rtol=1e-14)


@pytest.mark.parametrize("features", [["hidden", "logits"], lambda params, x: net(params, x)])
def test_features_by_names_of_outputs_or_by_a_function(model, features):
    made, seen = looks(model, scaled(1.5), features=features)
    assert [*made.features] == ["hidden", "logits"]
    np.testing.assert_allclose(seen["feature_change"], [0.0, 0.5], atol=1e-14)


def test_features_of_a_network_are_the_inputs_of_its_layers():
    network = sample(MLP(width=7, depth=2, activation="tanh").network(2), jr.key(0), in_size=4)
    first = network.pieces[2].weight
    moved = jax.tree.map(lambda leaf: 0.5 * leaf if leaf is first else leaf, network)
    made, seen = looks(adapt(network, X), adapt(moved, X))
    assert [*made.features] == ["hidden 1", "hidden 2"] and len(made.layers) == 3
    a = [jnp.tanh(network.pieces[0](x)) for x in jnp.asarray(X)]
    z = np.array([network.pieces[2](one) for one in a])
    expected = np.linalg.norm(np.tanh(0.5 * z) - np.tanh(z)) / np.linalg.norm(np.tanh(z))
    np.testing.assert_allclose(seen["feature_change"], [0.0, expected], atol=1e-14)
    np.testing.assert_allclose(seen["weight_change"], [0.0, 0.5, 0.0], atol=1e-15)


def test_what_is_relative_to_nothing_is_nan():
    def affine(p, x):
        return x @ p["w"] + p["b"]

    start, moved = (adapt(affine, params={"w": jnp.ones((4, 2)), "b": jnp.full(2, bias)}) for bias in (0.0, 1.0))
    made, seen = looks(start, moved)
    assert [*made.layers] == ["b", "w"]
    np.testing.assert_array_equal(seen["weight_change"], [np.nan, 0.0])
    assert np.isnan(similarity(np.eye(2), np.zeros((2, 2)))).all() and np.isnan(ranks(np.zeros((2, 2)))).all()
    assert np.isnan(ranks(np.full((2, 2), np.nan))).all()


def test_layers_keep_the_weights_and_biases_of_a_layer_together(model):
    assert layers_of(model) == {"hidden": [0, 1], "out": [2]}
    assert layers_of(adapt(lambda w, x: w * x, params=jnp.ones(4))) == {"parameters": [0]}


def test_distance_and_cosine_of_a_scaled_and_of_an_orthogonal_kernel():
    K = np.diag([1.0, 0.0])
    assert similarity(3.0 * K, K) == (2.0, 1.0)
    assert similarity(np.diag([0.0, 1.0]), K) == pytest.approx((2.0**0.5, 0.0))


def test_ranks_of_known_spectra():
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    values = np.array([4.0, 2.0, 1.0, 1.0, 0.0, 0.0])
    K = (Q * values) @ Q.T
    top, participation, entropy = ranks(K)
    assert top == pytest.approx(4.0, rel=1e-13)
    assert participation == pytest.approx(spectrum(K).effective_rank, rel=1e-13) == pytest.approx(64 / 22, rel=1e-13)
    # Entropy of (1/2, 1/4, 1/8, 1/8): 7/4 bits.
    assert entropy == pytest.approx(2.0**1.75, rel=1e-12)
    assert ranks(np.ones((3, 3)))[1:] == pytest.approx((1.0, 1.0))


def test_losses():
    f, classes = np.random.default_rng(2).normal(size=(4, 3)), np.array([0, 2, 1, 2])
    expected = np.mean(np.log(np.exp(f).sum(axis=1)) - f[np.arange(4), classes])
    assert float(cross_entropy(jnp.asarray(f), jnp.asarray(classes))) == pytest.approx(expected, rel=1e-14)
    assert loss_of(classes, 3, None) is cross_entropy
    half = loss_of(np.ones((4, 3)), 3, None)
    assert half is not None and float(half(jnp.zeros((4, 3)), jnp.ones((4, 3)))) == 1.5
    assert loss_of(None, 3, cross_entropy) is None
    assert loss_of(np.ones(4), 3, cross_entropy) is cross_entropy
    assert columns(np.array([1.0, 2.0])).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            np.array([0, 3]),
            r"the label 3 \(1 of 2 is wrong\),.*from 0 to 2.*Number the classes",
        ),
        (np.array([-1, 2]), "the label -1"),
        (np.ones((2, 2)), r"labels of shape \(2, 2\).*one for each output.*such targets"),
        (np.ones((2, 3), int), "type int64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        loss_of(labels, 3, None)
