"""Signals of finite networks, against linear networks, whose laws are known exactly, and against autodiff."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import signal_strength, signals
from widthwise.networks import MLP, Apply, Chain, Dense, Residual, sample

LINEAR = MLP(width=16, depth=2, activation="identity", weight_variance=1.5)
DRAWS = 800


@pytest.fixture(scope="module")
def linear():
    return signal_strength(LINEAR.network(outputs=2), np.array([[1.0, 2.0, 2.0]]), jr.key(0), draws=DRAWS)


@pytest.mark.slow
def test_variance_of_a_linear_network_is_a_product(linear):
    """E|z|^2/n = q C_w^l at every width, here q = |x|^2/d = 3."""
    exact = 3.0 * np.array([1.5, 1.5**2, 1.5**2])
    assert np.all(np.abs(linear.variance.value - exact) < 5 * linear.variance.error)
    assert np.all(linear.variance.error < 0.05 * exact)


def test_scatter_of_a_linear_network_is_that_of_chi_squares(linear):
    """|z|^2/(n q) is a product of independent chi^2_n/n, of variance (1 + 2/n)^l - 1 (the output has n = 2)."""
    mean = 3.0 * np.array([1.5, 1.5**2])
    exact = mean * np.sqrt((1 + 2 / LINEAR.width) ** np.array([1, 2]) - 1)
    # The standard deviation of 800 draws with a kurtosis below 6 is right to sqrt((6 - 1) / 4 / 800) = 4 %.
    np.testing.assert_allclose(linear.variance.error[:2] * np.sqrt(DRAWS), exact, rtol=5 * 0.04)


def test_gradient_of_a_linear_network_is_a_product(linear):
    exact = np.array([1.5, 1.0, 1.0])
    assert np.all(np.abs(linear.gradient.value - exact)[:2] < 5 * linear.gradient.error[:2])
    assert linear.gradient.value[2] == 1.0
    assert linear.gradient.error[2] == 0.0


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_sensitivities_are_derivatives_of_the_rest_of_the_network(name):
    model = sample(MLP(width=5, activation=name, bias_variance=0.3).network(outputs=3), jr.key(1), in_size=4)
    x = jr.normal(jr.key(2), (4,))
    seen = signals(model, x)
    first = model.pieces[0](x)
    np.testing.assert_array_equal(seen.outputs[0], first)
    np.testing.assert_array_equal(seen.outputs[-1], model(x))

    def rest(z):
        for piece in model.pieces[1:]:
            z = piece(z)
        return z

    np.testing.assert_allclose(seen.sensitivities[0], jax.jacrev(rest)(first), rtol=1e-13)
    np.testing.assert_array_equal(seen.sensitivities[-1], np.eye(3))


def test_a_shortcut_counts_as_one_layer_and_nested_chains_are_taken_apart():
    branch = Residual(Chain((Apply("tanh"), Dense(1.0))))
    network = Chain((Dense(1.0, size=6), Chain((branch, Apply("tanh"))), Dense(1.0, size=2)))
    seen = signals(sample(network, jr.key(0), in_size=3, width=6), jnp.ones(3))
    assert [len(part) for part in seen.outputs] == [6, 6, 2]


def test_a_model_without_pieces_is_refused():
    with pytest.raises(ValueError, match="between the pieces"):
        signals(jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2)), jnp.ones(2))


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="at least two draws"):
        signal_strength(LINEAR.network(), np.ones((1, 3)), jr.key(0), draws=1)
