"""A layer norm straight after an activation."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from widthwise.activations import activation, polynomial
from widthwise.networks import Apply, Chain, Dense, LayerNorm, kernel, pair_kernel
from widthwise.theory.infinite_width import normalised_covariance

NORMED = ("relu", "gelu", "tanh", "sigmoid", "hard_tanh", "exp", "cos")


def normed(function, epsilon=1e-12):
    return Chain((Dense(), Apply(function), LayerNorm(epsilon)))


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one == "hard_tanh")) for one in NORMED])
def test_the_covariance_is_that_of_quadrature(name):
    q, rho = (1.3, 0.6), np.array([-0.9, 0.0, 0.4, 0.999])
    x = np.sqrt(2 * q[0]) * np.array([[1.0, 0.0]])
    y = np.sqrt(2 * q[1]) * np.stack([rho, np.sqrt(1 - rho**2)], axis=1)
    found = kernel(normed(name, 1e-3), x, y)
    wanted = [normalised_covariance(activation(name), q, one, 1e-3) for one in rho]
    for one, two in zip(found.nngp[0], wanted, strict=True):
        assert abs(one - float(two.value)) < found.error + float(two.error)


def test_odd_functions_have_no_mean():
    X = np.random.default_rng(0).normal(size=(4, 3))
    X = np.concatenate([X, -X[:1], 1e-3 * X[:1], X[:1] + 1e-9])
    bare = Chain((Dense(), Apply("erf")))
    plain, centred = kernel(bare, X), kernel(normed("erf", 0.0), X)
    size = np.sqrt(np.diagonal(plain.nngp))
    np.testing.assert_allclose(centred.nngp, plain.nngp / size / size[:, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("gap", [1e-14, 1e-10, 1e-5, 0.3])
def test_near_inputs_keep_their_digits(gap):
    """ReLU, whose mean is proportional to the norm, and another layer, in fifty digits."""
    network = Chain((Dense(), Apply("relu"), LayerNorm(0.0), Dense(2.0), Apply("relu"), Dense()))
    angle = 2 * np.arcsin(np.sqrt(gap / 2))
    x, y = np.array([1.0, 0.0]), 3.0 * np.array([np.cos(angle), np.sin(angle)])
    with mp.workdps(50):
        first = mp.atan2(*map(mp.mpf, y[::-1]))
        left = mp.mpf(1) / 2 - 1 / (2 * mp.pi)
        rho = (arccosine(first) / 2 - 1 / (2 * mp.pi)) / left
        second = mp.acos(rho)
        inner = 2 * rho + (mp.pi - first) / mp.pi * mp.cos(first) / left
        nngp, ntk = arccosine(second), arccosine(second) + (mp.pi - second) / (2 * mp.pi) * inner
    found = kernel(network, x[None], y[None])
    assert found.nngp[0, 0] == pytest.approx(float(nngp), rel=1e-13)
    assert found.ntk[0, 0] == pytest.approx(float(ntk), rel=1e-13)


def arccosine(theta):
    return (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / mp.pi


@pytest.mark.slow
def test_functions_without_variance_and_gradients():
    X = np.array([[1.0, 0.5], [1.0, 0.5], [-1.0, 0.0], [0.0, 0.0]])
    constant = kernel(Chain((Dense(), Apply(polynomial([2.0])), LayerNorm(), Dense())), X)
    assert np.array_equal(constant.nngp, np.zeros((4, 4)))
    network = Chain((Dense(), Apply("gelu"), LayerNorm(), Dense(2.0), Apply("relu"), Dense()))
    slope = jax.grad(lambda x: pair_kernel(network, x, jnp.asarray(X[1]))[1])
    assert all(np.all(np.isfinite(slope(jnp.asarray(x)))) for x in X)


@pytest.mark.slow
def test_the_profile_agrees_with_single_pairs():
    network = Chain((Dense(1.5, 0.1), Apply("gelu"), LayerNorm(), Dense(1.5), Apply("tanh"), LayerNorm(), Dense()))
    X = np.random.default_rng(1).normal(size=(12, 4)) * np.linspace(0.5, 2.0, 12)[:, None]
    found, single = (kernel(network, X, method=method) for method in ("profile", "pairs"))
    np.testing.assert_allclose(found.ntk, single.ntk, rtol=0, atol=1e-10 * single.ntk.max())
