"""Networks sampled through their covariances; that their law is the right one is the claim INIT-9."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import covariances_from, flat, hidden_sizes, layer_covariances
from widthwise.networks import MLP, Apply, Chain, Dense, Residual, kernel

X = jnp.asarray([[1.0, -0.5, 0.8], [0.2, 1.1, 0.9], [1.0, -0.5, 0.8]])
NETWORK = MLP(width=6, depth=2, activation="tanh", weight_variance=1.5, bias_variance=0.2).network()


def test_the_first_covariance_is_that_of_the_inputs():
    first = layer_covariances(NETWORK, X, jr.key(0))[0]
    np.testing.assert_allclose(first, 0.2 + 1.5 * X @ X.T / 3, rtol=1e-15)


def test_equal_inputs_stay_equal():
    """The covariance is singular then; its root must not be NaN, and the signals must agree."""
    for K in layer_covariances(NETWORK, X, jr.key(0)):
        # The root of an eigenvalue that is zero up to rounding is as large as the root of that rounding.
        np.testing.assert_allclose(K[0], K[2], rtol=0, atol=1e-6)
        assert np.all(np.isfinite(K))


def test_a_wide_network_comes_near_its_kernel():
    wide = MLP(width=40_000, depth=2, activation="tanh", weight_variance=1.5, bias_variance=0.2).network()
    K, limit = layer_covariances(wide, X, jr.key(3))[-1], kernel(wide, X).nngp
    # Fluctuations are below one over the root of the width, here 1/200.
    np.testing.assert_allclose(K, limit, rtol=0, atol=5 / 200)


def test_given_normals_decide_the_draw():
    normals = jnp.zeros((3, 12))
    found = covariances_from(NETWORK, X, normals)
    np.testing.assert_array_equal(found[1], np.full((3, 3), 0.2))


def test_layers_are_listed_through_nested_chains():
    inner = Chain((Apply("relu"), Dense(size=5)))
    assert [type(layer) for layer in flat(Chain((Dense(size=4), inner)))] == [Dense, Apply, Dense]
    assert hidden_sizes(Chain((Dense(), inner)), width=7) == [7]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Chain((Dense(size=3), Residual(Dense(size=3)))),
            r"a network with Residual.*\. .* Dense and Apply .*\. Sample",
        ),
        (Chain((Dense(), Apply("relu"), Dense())), r"open size and no width\. .* needs every size\. Give width=256"),
    ],
)
def test_other_networks_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        layer_covariances(network, X, jr.key(0))
