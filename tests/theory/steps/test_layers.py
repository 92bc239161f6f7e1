"""Rates for each layer against the reference numbers, the kernel of the network that carries them, and finite nets."""

from dataclasses import replace

import jax
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import MLP, Chain, Conv, Dense, kernel, sample
from widthwise.numerics import Loss
from widthwise.operators import entk
from widthwise.theory.infinite_width import ntk_by_parameter
from widthwise.theory.steps import depth_rates, layer_rates, rate_weighted_ntk

RNG = np.random.default_rng(1)
X = RNG.normal(size=(6, 20))
X = X / np.linalg.norm(X, axis=1, keepdims=True) * np.sqrt(20)


def network(depth, width, activation="relu", parameterisation="standard"):
    """A network with trained biases that start at zero."""
    layers = MLP(width, depth, activation, parameterisation=parameterisation).network().layers
    return Chain(tuple(replace(layer, use_bias=True) if isinstance(layer, Dense) else layer for layer in layers))


def top(K):
    return np.linalg.eigvalsh(K)[-1]


def test_the_contributions_of_three_hidden_layers():
    shares = ntk_by_parameter(network(3, 256), X)
    assert [share.weight.value[0, 0] for share in shares] == pytest.approx([10, 128, 128, 256], rel=1e-12)
    assert [share.bias.value[0, 0] for share in shares] == pytest.approx([0.5, 0.5, 0.5, 1.0], rel=1e-12)


def test_the_curvature_grows_with_the_width_and_with_the_depth():
    for width, wanted in ((64, 425.532), (256, 1636.941), (1024, 6482.581), (4096, 25865.141)):
        assert top(rate_weighted_ntk(network(3, width), X, [1.0] * 4)) == pytest.approx(wanted, abs=6e-4)
    for depth, wanted in ((1, 2.735), (2, 4.607), (4, 7.951), (8, 13.829), (16, 24.307), (32, 43.686), (64, 80.875)):
        found = top(rate_weighted_ntk(network(depth, 1024), X, [1.0] * (depth + 1))) / 1024
        assert found == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize(("depth", "wanted"), [(1, 5.53), (3, 4.40), (8, 3.50), (32, 2.71)])
def test_rates_by_fan_in_and_depth_make_it_independent_of_the_width(depth, wanted):
    found = [top(rate_weighted_ntk(net, X, *zip(*depth_rates(net, 20), strict=True))) for net in nets(depth)]
    assert found == pytest.approx([wanted, wanted], abs=6e-3)
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def nets(depth):
    return [network(depth, width) for width in (64, 1024)]


@pytest.mark.slow
def test_a_covariance_that_dies_out_at_depth_800():
    shares = ntk_by_parameter(network(800, 256, "tanh"), np.ones((1, 3)))
    P = np.array([share.bias.value[0, 0] for share in shares])
    assert P[[200, 400, 600]] == pytest.approx([0.24894, 0.49917, 0.74956], abs=6e-6)
    assert P.sum() / 800 == pytest.approx(0.49996, abs=6e-6)
    weights = [share.weight.value[0, 0] for share in ntk_by_parameter(MLP(256, 800, "tanh").network(), np.ones((1, 3)))]
    assert sum(weights) == pytest.approx(0.50346, abs=6e-6)


@pytest.mark.parametrize("parameterisation", ["standard", "ntk"])
@pytest.mark.parametrize("how", ["equal", "depth", "uniform"])
def test_the_rates_reach_the_fraction_and_the_network_carries_them(how, parameterisation):
    net = network(2, 64, "erf", parameterisation)
    found = layer_rates(net, X, how, fraction=0.25, loss="mean")
    scale = Loss("mean", 6).scale
    np.testing.assert_allclose(kernel(found.network, X).ntk, found.kernel, rtol=1e-9)
    assert found.curvature.value == pytest.approx(0.5, rel=1e-12)
    assert scale * top(found.kernel) == pytest.approx(0.5, rel=1e-12)
    assert found.uniform == pytest.approx(2 / scale / top(kernel(net, X).ntk), rel=1e-9)
    shares = [part for layer in found.layers for part in (layer.weight_share, layer.bias_share)]
    assert sum(shares) >= 0.5 - 1e-12
    if how == "equal":
        assert np.ptp([share for share in shares if share]) < 1e-12
    # The rates that the network had are set aside.
    assert layer_rates(found.network, X, how, fraction=0.25, loss="mean").layers[1].weight == found.layers[1].weight


def test_a_bias_that_does_not_exist_has_no_rate():
    found = layer_rates(MLP(8, 1, "relu").network(), X)
    assert [layer.bias for layer in found.layers] == [0.0, 0.0]
    assert all(layer.weight > 0 for layer in found.layers)


def test_equal_rates_where_the_covariance_dies_out():
    found = layer_rates(network(100, 32, "tanh"), X[:1])
    product = [layer.bias * (index + 1) for index, layer in enumerate(found.layers)]
    # l times the rate of the biases settles, and so does the fan-in times that of the weights.
    assert np.ptp(product[50:-1]) < 0.03 * product[-1]
    weights = [layer.weight for layer in found.layers]
    assert np.ptp(weights[50:-1]) < 0.01 * weights[-2]


@pytest.mark.slow
def test_finite_networks_follow_the_rates():
    net = network(2, 1024)
    found = layer_rates(net, X, "depth", loss="half-sum")
    tops = [top(np.asarray(entk(sample(found.network, key, 20), X, outputs="trace"))) for key in jr.split(jr.key(0), 6)]
    # The curvature of a net scatters by about sqrt(L/n), 4 %.
    assert np.mean(tops) == pytest.approx(found.curvature.value, rel=0.06)


def test_an_mlp_is_taken_with_one_output():
    given, built = (layer_rates(net, X) for net in (MLP(8, 1), MLP(8, 1).network()))
    assert given.layers == built.layers
    assert repr(given) == "LayerRates(2 layers, curvature 1)" and "stable below 2" in str(given)


def test_inputs_of_zero_move_nothing_without_biases():
    with pytest.raises(ValueError, match="tangent kernel that is zero"):
        layer_rates(MLP(8, 1, activation="relu").network(), 0 * X)


@pytest.mark.parametrize(
    ("net", "options", "said"),
    [
        (network(1, 8), {"how": "equall"}, "did you mean 'equal'"),
        (network(1, 8), {"fraction": 0.0}, "above 0 and at most 1"),
        (network(1, 8), {"loss": "mse"}, "conventions are"),
        (MLP(8, 1, parameterisation="mean_field").network(), {}, "standard and the NTK"),
        (Chain((Conv(3),)), {}, "chain of Dense and Apply"),
    ],
    ids=range(5),
)
def test_bad_input_is_refused(net, options, said):
    with pytest.raises(ValueError, match=said):
        layer_rates(net, X, **options)


@pytest.mark.parametrize("rates", [[1.0], [1.0, -1.0], [1.0, jax.numpy.nan]])
def test_other_rates_than_one_for_each_layer_are_refused(rates):
    with pytest.raises(ValueError, match="2 layers, each with a rate"):
        rate_weighted_ntk(network(1, 8), X, rates)
