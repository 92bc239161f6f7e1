"""The kernel of a pair as a differentiable function, and the split by layers."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from kinds import NAMES, one_of_each_kind
from networks.architectures import ALL, inputs
from widthwise.activations import ACTIVATIONS, Activation, activation
from widthwise.networks import (
    MLP,
    Apply,
    Attention,
    Chain,
    Dense,
    Flatten,
    GlobalPool,
    PositionalEmbedding,
    kernel,
    ntk_by_layer,
    pair_kernel,
)

SOME = [pytest.param(name, marks=[pytest.mark.slow] * (name != "slice")) for name in ALL]


@pytest.mark.parametrize("name", SOME)
def test_pairs_have_the_numbers_of_matrices(name):
    X = inputs(name, 2)
    found = jax.jit(lambda x, y: pair_kernel(ALL[name], x, y))(*jnp.asarray(X))
    limit = kernel(ALL[name], X[:1], X[1:])
    for one, other in zip(found, (limit.nngp, limit.ntk), strict=True):
        # A tile refines the series of tanh until its error is small; a pair has the terms it was made with.
        np.testing.assert_allclose(one, other[0, 0], rtol=0, atol=(1e-13 + limit.error) * 10 * np.abs(other).max())


def network(name):
    return Chain((Dense(1.5, 0.1), Apply(name), Dense(1.2, 0.1), Apply(name), Dense()))


# Of the numerical duals, a series and one by cells stand for all: the code is the same.
DIFFERENT = [name for name in NAMES if ACTIVATIONS[name].closed or name in ("tanh", "elu")]


@pytest.mark.parametrize("name", one_of_each_kind(DIFFERENT, default=("relu",)))
def test_gradients_equal_differences_and_are_finite_everywhere(name):
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))

    def both(x, y):
        return jnp.stack(pair_kernel(network(name), x, y))

    values, slopes = jax.jit(both), jax.jit(jax.jacfwd(both, argnums=(0, 1)))
    step = 1e-5
    for place, slope in enumerate(slopes(x, y)):
        shift = [step * jnp.eye(3) if place == side else jnp.zeros((3, 3)) for side in (0, 1)]
        ends = [jax.vmap(values)(x[None] + sign * shift[0], y[None] + sign * shift[1]) for sign in (1, -1)]
        wanted = (ends[0] - ends[1]).T / (2 * step)
        # truncation of order step^2 and rounding of order eps / step, both relative to the values
        assert jnp.allclose(slope, wanted, rtol=1e-6, atol=1e-8 * float(jnp.abs(values(x, y)).max()))
    if name == "exp":  # its kernel overflows at these variances
        return
    back = jax.jit(jax.jacrev(both, argnums=(0, 1)))
    for pair in ((x, x), (x, -x), (x, 2 * x), (0 * x, y), (x, 0 * y), (0 * x, 0 * x)):
        assert all(bool(jnp.all(jnp.isfinite(part))) for derivative in (slopes, back) for part in derivative(*pair))


def test_gradients_with_respect_to_variances_and_rates():
    x, y = jnp.asarray([1.0, 0.5]), jnp.asarray([0.2, -0.7])

    def ntk(values):
        weight, bias, rate = values
        layers = (Dense(weight, bias, weight_rate=rate), Apply("erf"), Dense(weight, bias))
        return pair_kernel(Chain(layers), x, y)[1]

    at, step = jnp.asarray([1.5, 0.2, 0.8]), 1e-6
    wanted = [(ntk(at + step * e) - ntk(at - step * e)) / (2 * step) for e in jnp.eye(3)]
    np.testing.assert_allclose(jax.jacrev(ntk)(at), wanted, rtol=1e-8)


@pytest.mark.slow
def test_gradients_with_respect_to_a_parameter_of_an_activation():
    """tanh(az) at variance q is tanh at variance a^2 q, and its slope has one more factor a^2."""
    x, y = jnp.asarray([1.0, 0.5]), jnp.asarray([0.2, -0.7])

    def of_function(a):
        wave = Activation("tanh(az)", lambda z: jnp.tanh(a * z))
        return pair_kernel(Chain((Dense(1.0), Apply(wave), Dense())), x, y)[0]

    def of_variance(a):
        return pair_kernel(Chain((Dense(a**2), Apply(activation("tanh")), Dense())), x, y)[0]

    for function in (lambda f: f(1.3), lambda f: jax.grad(f)(1.3)):
        np.testing.assert_allclose(function(of_function), function(of_variance), rtol=1e-12)


SMOOTH = [pytest.param(name, marks=pytest.mark.slow) for name in ("erf", "sin", "gabor", "gaussian", "tanh", "relu")]


@pytest.mark.parametrize("name", ["gelu", *SMOOTH])
def test_second_derivatives_at_equal_inputs(name):
    """What the covariance of the slopes of a random network is, against central differences."""
    x, a, b = jr.normal(jr.key(0), (3, 3))
    network = Chain((Dense(1.3, 0.1), Apply(name), Dense()))

    def moved(s, t):
        return pair_kernel(network, x + s * a, x + t * b)[0]

    found = jax.jit(jax.grad(jax.grad(moved), argnums=1))(0.0, 0.0)
    h = jnp.asarray([1e-3, -1e-3])
    corners = jax.jit(jax.vmap(jax.vmap(moved, (None, 0)), (0, None)))(h, h)
    differences = (corners[0, 0] - corners[0, 1] - corners[1, 0] + corners[1, 1]) / 4e-6
    # The error of differences falls like h^2, and like h for a kink.
    np.testing.assert_allclose(found, differences, rtol=1e-2 if name == "relu" else 1e-5)


@pytest.mark.slow
def test_gradients_of_images_with_poolings_are_finite():
    layers = ALL["pool"].layers[:-2]
    x = jnp.asarray(inputs("pool", 1)[0])
    found = jax.grad(lambda x, y: pair_kernel(Chain((*layers, GlobalPool(), Dense())), x, y)[1], argnums=(0, 1))
    for pair in ((x, x), (x, -x), (x, 0 * x)):
        assert all(bool(jnp.all(jnp.isfinite(part))) for part in found(*pair))


def test_pairs_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        pair_kernel(Dense(), jnp.ones(2), jnp.ones(3))


@pytest.mark.slow
def test_layers_sum_to_the_tangent_kernel():
    X = np.random.default_rng(0).normal(size=(3, 4))
    net = MLP(depth=3, activation="erf", bias_variance=0.1).network()
    parts = ntk_by_layer(net, X)
    assert [name for name, _ in parts] == [repr(layer) for layer in net.layers if isinstance(layer, Dense)]
    np.testing.assert_allclose(sum(part for _, part in parts), kernel(net, X).ntk, rtol=1e-13)


@pytest.mark.slow
def test_layers_without_rates_come_last():
    X = inputs("same", 2)
    net = Chain((Dense(), PositionalEmbedding(0.5), Attention(), Flatten(), Dense()))
    *named, (name, others) = ntk_by_layer(net, X)
    assert len(named) == 2 and name == "others"
    np.testing.assert_allclose(sum(part for _, part in named) + others, kernel(net, X).ntk, rtol=1e-13)
