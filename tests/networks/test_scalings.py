"""Activations that scale with their input, and readouts in the mean-field scaling."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.activations import exponential
from widthwise.networks import MLP, Apply, Chain, Conv, Dense, GlobalPool, Homogeneous, kernel, sample
from widthwise.numerics import mean_and_sem
from widthwise.operators import flatten

X = np.array([[3.0, 0.2, -1.0], [0.4, -0.1, 0.8], [0.4, -0.1, 0.8], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_the_normalised_exponential(gamma):
    r"""$K = \sqrt{q_1q_2}e^{\gamma(\rho-1)}$ and $\Theta = K + \gamma e^{\gamma(\rho-1)}c$, at unequal norms."""
    found = kernel(Chain((Dense(), Homogeneous(exponential(gamma**0.5, -gamma)), Dense())), X)
    c, size = X @ X.T / 3, np.sqrt(np.sum(X**2, axis=1) / 3)
    scale = size[:, None] * size[None, :]
    bump = np.exp(gamma * (np.divide(c, scale, out=np.ones_like(c), where=scale > 0) - 1))
    np.testing.assert_allclose(found.nngp, scale * bump, rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(found.ntk, scale * bump + gamma * bump * c, rtol=1e-14, atol=1e-16)


@pytest.mark.slow
def test_a_homogeneous_network_is_one_function_of_the_angle():
    network = Chain((Dense(2.0), Homogeneous("tanh"), Dense(1.5), Homogeneous("gelu"), Dense()))
    many = np.random.default_rng(0).normal(size=(40, 5)) * np.logspace(-2, 2, 40)[:, None]
    found, single = (kernel(network, many, method=method) for method in ("profile", "pairs"))
    assert found.method.endswith("in the angle")
    size = np.sqrt(np.diagonal(single.ntk))
    np.testing.assert_array_less(np.abs(found.ntk - single.ntk) / size / size[:, None], 1e-12)


def test_a_mean_field_readout_has_the_same_tangent_kernel_and_no_signal():
    plain, scaled = (
        MLP(depth=2, activation="relu", bias_variance=0.1, parameterisation=name).network()
        for name in ("ntk", "mean_field")
    )
    wanted, found = kernel(plain, X), kernel(scaled, X)
    np.testing.assert_array_equal(found.nngp, np.zeros((4, 4)))
    np.testing.assert_array_max_ulp(found.ntk, wanted.ntk, 2)
    assert found.error <= 2 * wanted.error


@pytest.mark.parametrize("seen", ["flat", pytest.param("image", marks=pytest.mark.slow)])
def test_finite_mean_field_networks(seen):
    """Outputs fall like n^(-1/2), and n times their empirical kernel has the limit's value, up to O(1/n)."""
    width, outputs = 192, 400
    readout = Dense(1.3, 0.2, 1, "mean_field")
    if seen == "flat":
        network, inputs = Chain((Dense(1.5, 0.1, width), Apply("erf"), readout)), jnp.asarray(X[:2])
    else:
        network = Chain((Conv(2, 1.5, 0.1, width), Apply("erf"), GlobalPool(), readout))
        inputs = jnp.stack([jnp.asarray(X[:, :2]), jnp.asarray(X[::-1, 1:])]).reshape(2, 2, 2, 2)

    @jax.jit
    def draw(key):
        vector, rebuild = flatten(sample(network, key, inputs.shape[1:]))
        jacobian = jax.jacrev(lambda v: jax.vmap(rebuild(v))(inputs)[:, 0])(vector)
        return jax.vmap(rebuild(vector))(inputs)[:, 0], jacobian @ jacobian.T

    drawn = [draw(key) for key in jr.split(jr.key(1), outputs)]
    limit, ntk = kernel(network, inputs).ntk, mean_and_sem(width * np.stack([np.asarray(one[1]) for one in drawn]))
    assert np.all(np.abs(ntk.value - limit) < 5 * ntk.error + 5 / width * limit.max())
    plain = Chain((*network.layers[:-1], Dense(1.3, 0.2, 1)))
    products = mean_and_sem(width * np.stack([np.outer(one[0], one[0]) for one in drawn]))
    assert np.all(np.abs(products.value - kernel(plain, inputs).nngp) < 5 * products.error)
