"""Layers: finite samples, sizes, refusals, and that a finite network converges to its kernel."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.activations import ACTIVATIONS
from widthwise.networks import MLP, Apply, Chain, Conv, Dense, Flatten, Residual, kernel, sample
from widthwise.numerics import mean_and_sem
from widthwise.operators import entk, flatten


def test_sizes_follow_the_chain():
    f = sample(Chain([Dense(size=5), Apply("tanh"), Dense(size=2)]), jr.key(0), in_size=3)
    assert f(jnp.ones(3)).shape == (2,)
    assert flatten(f)[0].size == 5 * 3 + 2 * 5


@pytest.mark.parametrize("parameterisation", ["ntk", "standard"])
def test_parameters_have_the_stated_variances(parameterisation):
    layer = Dense(2.0, 0.5, 400, parameterisation)
    f = sample(layer, jr.key(1), in_size=300)
    weight, bias = f.weight_scale * f.weight, f.bias_scale * f.bias
    # chi-squared: relative standard error sqrt(2 / count)
    assert abs(float(jnp.var(weight)) * 300 / 2.0 - 1) < 5 * np.sqrt(2 / weight.size)
    assert abs(float(jnp.mean(bias**2)) / 0.5 - 1) < 5 * np.sqrt(2 / bias.size)
    stored = float(jnp.var(f.weight))
    assert stored == pytest.approx(1.0 if parameterisation == "ntk" else 2.0 / 300, rel=0.03)


NETWORKS = {
    **{name: MLP(depth=2, activation=name, width=192, bias_variance=0.2).network() for name in sorted(ACTIVATIONS)},
    "residual": Chain(
        [Dense(1.5, 0.1, 192), Residual(Chain([Apply("relu"), Dense(1.2, 0.1, 192)]), 0.7), Apply("erf"), Dense(size=1)]
    ),
    "standard": MLP(depth=1, activation="gelu", width=192, bias_variance=0.3, parameterisation="standard").network(),
}


# One of each kind: closed forms with a kink, a bump, a wave; a series; cells; the ways to put layers together.
QUICK = ("relu", "residual")
# Left out: jumps, whose kernels converge slowly in the width, and fast growth, whose draws have heavy tails.
LONG = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in sorted({*NETWORKS} - {*QUICK, "sign", "step", "exp", "squared_relu"})
]


@pytest.mark.parametrize("name", [*QUICK, *LONG])
def test_finite_networks_have_the_kernel_on_average(name):
    """The mean over draws is off by O(1/width) and the standard error; both are seen here."""
    network, X = NETWORKS[name], jnp.asarray([[1.0, 0.2, -0.5], [0.4, -1.0, 0.8]])
    limit = kernel(network, X)
    keys = jr.split(jr.key(7), 100)
    empirical = jax.jit(lambda key: _entk(sample(network, key, in_size=3), X))
    draws = np.stack([empirical(key) for key in keys])
    measured = mean_and_sem(draws)
    scale = limit.ntk.max()
    assert np.all(measured.error < 0.05 * scale)
    # 1/width corrections have relative constants of a few units: 5/192 = 0.026
    assert np.all(np.abs(measured.value - limit.ntk) < 5 * measured.error + 0.026 * scale)


def _entk(f, X):
    vector, rebuild = flatten(f)
    J = jax.jacrev(lambda v: jax.vmap(rebuild(v))(X)[:, 0])(vector)
    return J @ J.T


@pytest.mark.slow
def test_outputs_have_the_nngp_covariance():
    network, X = MLP(depth=1, activation="relu", width=64).network(), jnp.asarray([[1.0, 0.0], [0.6, 0.8]])
    outputs = jax.jit(lambda key: jax.vmap(sample(network, key, in_size=2))(X)[:, 0])
    draws = np.stack([outputs(key) for key in jr.split(jr.key(3), 4000)])
    limit = kernel(network, X).nngp
    products = mean_and_sem(draws[:, :, None] * draws[:, None, :])
    # For one hidden layer the covariance is exact at every width.
    assert np.all(np.abs(products.value - limit) < 5 * products.error)
    assert np.all(products.error < 0.03 * limit.max())


def test_the_empirical_kernel_helper_agrees_with_the_jacobian():
    f = sample(MLP(width=16).network(outputs=3), jr.key(0), in_size=4)
    X = jr.normal(jr.key(1), (5, 4))
    full, traced = entk(f, X), entk(f, X, outputs="trace")
    assert full.shape == (5, 3, 5, 3)
    np.testing.assert_allclose(np.einsum("ikjk->ij", full) / 3, traced, rtol=1e-13)


RATED = {
    "ntk": Chain([Dense(2.0, 0.1, 6, weight_rate=4.0, bias_rate=0.25), Apply("tanh"), Dense(size=1, weight_rate=0.5)]),
    "standard": Chain([Dense(2.0, 0.1, 6, "standard", bias_rate=3.0), Apply("tanh"), Dense(size=1, weight_rate=0.0)]),
    "convolution": Chain(
        [
            Conv(2, 2.0, 0.1, 4, weight_rate=4.0),
            Apply("tanh"),
            Conv(2, size=3, shared=False, weight_rate=0.5),
            Flatten(),
        ]
    ),
}


@pytest.mark.parametrize("name", ["ntk", "standard", pytest.param("convolution", marks=pytest.mark.slow)])
def test_a_small_step_moves_the_outputs_by_the_kernel_with_its_rates(name):
    X = jr.normal(jr.key(1), (2, 3, 2) if name == "convolution" else (2, 3))
    vector, rebuild = flatten(sample(RATED[name], jr.key(0), in_size=X.shape[1:]))
    outputs = jax.jit(lambda v: jax.vmap(rebuild(v))(X).ravel())
    J = jax.jacrev(outputs)(vector)
    step = 1e-5 * J[0]  # of gradient ascent on the first output
    moved = (outputs(vector + step) - outputs(vector - step)) / 2e-5
    np.testing.assert_allclose(moved, J @ J[0], atol=1e-6 * jnp.max(J @ J[0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(width=0), "width=0"),
        (lambda: MLP(depth=0), "depth=0"),
        (lambda: MLP(depth=10**9), "at most 1,000"),
        (lambda: MLP(weight_variance=-1.0), "weight_variance=-1.0"),
        (lambda: MLP(bias_variance=float("nan")), "bias_variance=nan"),
        (lambda: MLP(activation="thanh"), "did you mean 'tanh'"),
        (lambda: MLP(parameterisation="stadnard"), "did you mean 'standard'"),
        (lambda: Dense(1.0, 0.1, use_bias=False), "use_bias=False"),
        (lambda: Chain([]), "without layers"),
        (lambda: Chain([Dense(), jnp.tanh]), "holds layers"),
        (lambda: Residual(Chain([Dense(), Apply("relu")])), "must end in a layer with weights"),
        (lambda: sample(Dense(), jr.key(0), in_size=3), "no width"),
        (lambda: sample(Residual(Dense(size=4)), jr.key(0), in_size=3), "from 3 coordinates to 4"),
        (lambda: kernel(Apply("relu"), [[1.0]]), "not Gaussian in the limit"),
        (lambda: kernel(Chain([Dense(), Apply("relu"), Apply("tanh")]), [[1.0]]), "pass their composition"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_standard_parameterisation_needs_sizes():
    network = Chain([Dense(parameterisation="standard"), Apply("relu"), Dense(parameterisation="standard")])
    with pytest.raises(ValueError, match="unknown size"):
        kernel(network, [[1.0, 2.0]])


def test_the_spec_of_a_network_prints_as_it_is_read():
    assert str(MLP(width=8, depth=1, activation="relu")) == (
        "mlp(width=8, depth=1, activation=relu, weight_variance=2, bias_variance=0)"
    )
