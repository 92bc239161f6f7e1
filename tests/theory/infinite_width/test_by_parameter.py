"""The NTK layer by layer against reference numbers, the whole kernel, and the conversion between parameterisations."""

import dataclasses

import numpy as np
import pytest

from widthwise.networks import MLP, Apply, Chain, Dense, Residual, kernel, ntk_by_layer
from widthwise.theory.infinite_width import ntk_by_parameter

X = np.sqrt(2.0) * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)], [0.0, 0.0]])


def network(name, parameterisation="ntk"):
    hidden = (Dense(1.5, 0.1, 50, parameterisation), Apply(name))
    return Chain((*hidden * 3, Dense(1.2, 0.3, 1, parameterisation)))


@pytest.mark.parametrize(
    ("name", "ntk", "standard"),
    [
        ("relu", 1.49971998554338, 40.1720359818778),
        ("erf", 1.26991752071915, 27.0545368721064),
        pytest.param("gelu", 1.14491280350776, 26.5485055702237, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_the_shares_sum_to_the_reference(name, ntk, standard):
    for parameterisation, value in (("ntk", ntk), ("standard", standard)):
        shares = ntk_by_parameter(network(name, parameterisation), X)
        total = sum(part.value for share in shares for part in (share.weight, share.bias))
        error = sum(part.error for share in shares for part in (share.weight, share.bias))
        # Fifteen printed digits.
        assert abs(total[0, 1] - value) < 1e-14 * value + error
        if name == "relu":
            np.testing.assert_allclose(total, kernel(network(name, parameterisation), X).ntk, rtol=0, atol=error)


def test_the_reference_of_every_layer():
    shares = ntk_by_parameter(network("relu"), X)
    found = [(one.weight.value[0, 1], one.bias.value[0, 1]) for one in shares]
    reference = [(0.09607382416, 0.01280984322), (0.1903728948, 0.0251811254), (0.3231581528, 0.04606883488)]
    # Ten printed digits.
    np.testing.assert_allclose(found, [*reference, (0.5060553102, 0.3)], rtol=0, atol=0.6e-10)


def test_the_parameterisations_convert_layer_by_layer():
    ntk, standard = (ntk_by_parameter(network("relu", kind), X) for kind in ("ntk", "standard"))
    sizes, variances = (2, 50, 50, 50), ((1.5, 0.1), (1.5, 0.1), (1.5, 0.1), (1.2, 0.3))
    for one, other, size, (weight, bias) in zip(ntk, standard, sizes, variances, strict=True):
        np.testing.assert_allclose(other.weight.value, size / weight * one.weight.value, rtol=1e-13)
        np.testing.assert_allclose(other.bias.value, one.bias.value / bias, rtol=1e-13)


@pytest.mark.slow
def test_whole_layers_are_the_sums_of_their_parameters():
    shares, layers = ntk_by_parameter(network("relu"), X), ntk_by_layer(network("relu"), X)
    for share, (_, whole) in zip(shares, layers, strict=True):
        error = share.weight.error + share.bias.error
        np.testing.assert_allclose(share.weight.value + share.bias.value, whole, rtol=0, atol=error)


def test_learning_rates_multiply_the_shares():
    layers = list(network("relu").layers)
    layers[2] = dataclasses.replace(layers[2], weight_rate=0.5, bias_rate=0.0)
    plain, slowed = (ntk_by_parameter(Chain(tuple(part)), X)[1] for part in (network("relu").layers, layers))
    np.testing.assert_allclose(slowed.weight.value, 0.5 * plain.weight.value, rtol=1e-14)
    assert not np.any(slowed.bias.value)


def test_a_critical_rectifier_shares_equally():
    shares = ntk_by_parameter(
        MLP(width=256, depth=3, activation="relu", parameterisation="standard").network(), np.ones((1, 20))
    )
    found = [one.weight.value[0, 0] for one in shares]
    # lr.py: 10, 128, 128, 256 for 20 inputs.
    np.testing.assert_allclose(found, [10, 128, 128, 256], rtol=1e-14)
    assert all(one.bias.value[0, 0] == 0 for one in shares)


def test_inputs_of_zero_have_only_biases():
    first = ntk_by_parameter(network("relu"), X)[0]
    assert not np.any(first.weight.value[2])
    assert np.all(first.bias.value[2] > 0)


@pytest.mark.parametrize("X", [np.ones(3), np.full((1, 2), np.nan)])
def test_bad_inputs_are_refused(X):
    with pytest.raises(ValueError, match=r"inputs of shape .*\. Inputs are finite numbers of shape \(n, d\)\. Use"):
        ntk_by_parameter(network("relu"), X)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match=r"a network with Residual"):
        ntk_by_parameter(Chain((Dense(), Residual(Dense()))), X)
    with pytest.raises(ValueError, match=r"standard parameterisation after a layer of unknown size"):
        ntk_by_parameter(Chain((Dense(), Apply("relu"), Dense(parameterisation="standard"))), X)
