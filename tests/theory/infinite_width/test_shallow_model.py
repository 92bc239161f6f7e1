"""The Taylor model of a shallow network and its kernel: reference numbers, identities, and bad input."""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize

from widthwise.activations import activation
from widthwise.theory.infinite_width import (
    kernel_spread,
    rectifier_error_bound,
    rectifier_kernel,
    slice_coefficients,
    taylor_error_bound,
    taylor_model,
    worst_rectifier_constant,
    worst_rectifier_error,
)
from widthwise.theory.infinite_width.universality_claims import Circle, interpolation_error
from widthwise.theory.lazy import Shallow, limit_gram

RNG = np.random.default_rng(0)


def shallow(name, width=30, dim=4):
    signs = np.where(np.arange(width) % 2 == 0, 1.0, -1.0)
    W = jnp.asarray(RNG.normal(size=(width, dim)))
    return Shallow(W, jnp.asarray(signs), activation(name), width**-0.5)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_the_taylor_model_is_the_linearisation(name):
    net, X = shallow(name), jnp.asarray(RNG.normal(size=(5, 4)))
    W = net.W + 1.0
    value, along = jax.jvp(lambda w: net.at(w).outputs(X), (net.W.ravel(),), ((W - net.W).ravel(),))
    np.testing.assert_allclose(taylor_model(net, X, W), value + along, rtol=0, atol=1e-13)


def test_the_bound_is_sharp():
    """The reference: all neurons where tanh bends most, moved together by 1e-3, reach 0.99999967 of the bound."""
    x, z = jnp.asarray([[1.0, 0.0]]), -math.atanh(3**-0.5)
    net = Shallow(jnp.full((16, 2), z) * jnp.asarray([[1.0, 0.0]]), jnp.ones(16), activation("tanh"), 0.25)
    W = net.W + 1e-3 * x
    off = abs(float(net.at(W.ravel()).outputs(x)[0]) - float(taylor_model(net, x, W)[0]))
    assert off / taylor_error_bound(net, x[0], 4e-3) == pytest.approx(0.99999967, abs=1e-7)


def test_the_bound_of_the_reference():
    # L = 4/(3 root 3), m = 400, distance 0.1 root(m d): 0.5 L/20 * 0.01 * 2400.
    net = shallow("tanh", 400, 6)
    assert taylor_error_bound(net, np.eye(6)[0], 0.1 * math.sqrt(2400)) == pytest.approx(0.46188, abs=1e-5)
    with pytest.raises(ValueError, match=r"no bound .* kink .*\. The bound is for smooth activations\. Use"):
        taylor_error_bound(shallow("relu"), np.eye(4)[0], 1.0)


@pytest.mark.parametrize(("width", "value"), [(10**3, 1.0485), (10**4, 0.7143), (10**5, 0.4867), (10**6, 0.3316)])
def test_the_bound_of_a_rectifier(width, value):
    assert rectifier_error_bound(width, 1.0) == pytest.approx(value, abs=0.5e-4)


def test_the_bound_of_a_rectifier_between_two_points():
    assert rectifier_error_bound(10_000, 1.0, pair=True) == pytest.approx(1.8595, abs=0.5e-4)


@pytest.mark.parametrize(("width", "radius", "failure"), [(0, 1.0, 0.1), (9, -1.0, 0.1), (9, 1.0, 0.0), (9, 1.0, 1.0)])
def test_bad_bounds_are_refused(width, radius, failure):
    with pytest.raises(ValueError, match=rf"width={width}, radius={radius}, failure={failure}\. A width .*\. Give"):
        rectifier_error_bound(width, radius, failure)


def test_the_worst_case_is_the_largest_that_a_search_finds():
    z, signs = RNG.normal(size=8), np.where(np.arange(8) < 4, 1.0, -1.0)

    def error(move, sign):
        move = move / np.linalg.norm(move) * 1.3
        change = np.maximum(z + move, 0) - np.maximum(z, 0) - (z >= 0) * move
        return -sign * float(signs @ change) / math.sqrt(8)

    starts = [-np.sign(z) * (np.abs(z) < cut) * (signs == s) + 1e-3 for cut in (0.5, 1.0, 2.0) for s in (1, -1)]
    options = {"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-12}
    found = max(
        -minimize(error, start, args=(sign,), method="Nelder-Mead", options=options).fun
        for start in starts
        for sign in (1.0, -1.0)
    )
    exact = worst_rectifier_error(z, signs, 1.3)
    assert found <= exact + 1e-12
    assert found > 0.999 * exact


@pytest.mark.parametrize(("width", "mean"), [(10**3, 0.14415), (10**4, 0.09647), (10**5, 0.06480)])
def test_the_worst_case_of_random_networks(width, mean):
    signs = np.where(np.arange(width) < width // 2, 1.0, -1.0)
    found = [worst_rectifier_error(RNG.normal(size=width), signs, 1.0) for _ in range(20)]
    # The reference is a mean of 20 draws as well.
    assert abs(np.mean(found) - mean) < 5 * math.sqrt(2) * np.std(found, ddof=1) / math.sqrt(20)


def test_the_constants_of_the_worst_case():
    assert worst_rectifier_constant() == pytest.approx(0.4382157, abs=0.5e-7)
    assert worst_rectifier_constant(balanced=False) == pytest.approx(0.5521172, abs=0.5e-7)


def test_the_kernel_of_a_rectifier():
    rho = np.array([-1.0, -0.5, 0.0, 0.5, 0.9, 1.0])
    Y = np.stack([rho, np.sqrt(1 - rho**2)], axis=1)
    values = [0, -1 / 12, 0, 1 / 6, 0.385395168092, 0.5]
    # Twelve printed decimals; the root of 1 - rho^2 has half of the digits of the angle at 0.9, far more than these.
    np.testing.assert_allclose(rectifier_kernel([[1.0, 0.0]], Y)[0], values, rtol=0, atol=0.6e-12)


def test_the_kernel_of_a_rectifier_is_the_dual():
    X = RNG.normal(size=(6, 3)) * np.linspace(0.1, 3, 6)[:, None]
    X = np.concatenate([X, -X[:1], X[:1] * (1 + 1e-9), np.zeros((1, 3))])
    limit = limit_gram(X, activation("relu"))
    np.testing.assert_allclose(rectifier_kernel(X, X), limit.value, rtol=0, atol=1e-13 * np.max(limit.value))


def test_the_spread_of_a_rectifier():
    X = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    spread = kernel_spread(X, activation("relu"))
    for width, value in ((100, 0.02357), (10**4, 0.002357)):
        assert np.sqrt(spread.value[0, 1] / width) == pytest.approx(value, rel=2e-4)
    np.testing.assert_allclose(spread.value[0, 0], 0.25, rtol=0, atol=float(spread.error[0, 0]))


def test_the_coefficients_on_the_slice():
    found = slice_coefficients(3**-0.5, 25)
    reference = [0.10136224, 0.36035649, 0.17935989, 0.046158796, 0.054277798]
    np.testing.assert_allclose(found[:5], reference, rtol=0, atol=0.6e-8)
    assert np.min(found) == pytest.approx(0.0452614, abs=0.6e-7)
    exact = mp.taylor(lambda s: (s + mp.mpf(1) / 3) * (mp.pi - mp.acos(s + mp.mpf(1) / 3)) / (2 * mp.pi), 0, 11)
    np.testing.assert_allclose(found[:12], [float(one) for one in exact], rtol=1e-12)


def test_the_coefficients_without_a_fixed_coordinate():
    found = slice_coefficients(0.0, 9)
    np.testing.assert_allclose(found[[1, 2, 4, 6]], [0.25, 0.1591549431, 0.0265258239, 0.0119366207], atol=0.6e-10)
    assert not np.any(found[[0, 3, 5, 7]])


@pytest.mark.parametrize("height", [1e-3, 0.1, 0.5, 0.9])
def test_all_coefficients_are_positive(height):
    assert np.all(slice_coefficients(height, 200) > 0)


@pytest.mark.parametrize(("height", "count"), [(1.0, 3), (-0.1, 3), (0.5, 0), (float("nan"), 3)])
def test_bad_slices_are_refused(height, count):
    with pytest.raises(ValueError, match=rf"height={height}, count={count}\. The height lies in \[0, 1\).*\. Give"):
        slice_coefficients(height, count)


@pytest.mark.parametrize(
    ("centres", "error"), [(4, 1.715), (8, 0.5835), (16, 0.1478), (32, 0.0373), (64, 0.009324), (128, 0.002333)]
)
def test_interpolation_on_the_slice(centres, error):
    assert interpolation_error(Circle(), centres) == pytest.approx(error, rel=missed(centres))


def missed(centres):
    """Four printed digits, and what equally spaced test angles miss of a bump between two centres."""
    return 1e-3 + (0.5 * centres * math.pi / 2000) ** 2


def test_interpolation_on_the_whole_circle():
    assert interpolation_error(Circle(0.0, 3), 256) >= 1.0 - 1e-4
    for centres, error in ((16, 0.03495), (64, 0.002162), (256, 0.0001355)):
        assert interpolation_error(Circle(0.0, 2), centres) == pytest.approx(error, rel=missed(centres))
