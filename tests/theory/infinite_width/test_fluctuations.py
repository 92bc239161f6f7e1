"""Moments of finite networks against reference numbers, exact laws and differentiation of the dual."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from widthwise.activations import activation
from widthwise.networks import MLP, Apply, Chain, Dense, kernel
from widthwise.theory.infinite_width import characteristic_function, fluctuations, second_moment_growth


def chain(name, widths, weight=1.5, bias=0.05, first=(1.0, 0.0)):
    """A network whose first layer and readout have their own variances."""
    layers = [Dense(*first, widths[0])]
    for width in (*widths[1:], 1):
        layers += [Apply(name), Dense(weight, bias, width)]
    return Chain(tuple(layers))


def test_the_reference_of_tanh():
    found = fluctuations(chain("tanh", [200] * 4), 1.0)
    # Five and six printed decimals.
    np.testing.assert_allclose(found.limit.value[1:], [0.641442, 0.523058, 0.471557, 0.44637], rtol=0, atol=0.6e-6)
    np.testing.assert_allclose(200 * found.variance.value[1:], [0.21943, 0.20892, 0.1973, 0.19047], rtol=0, atol=0.6e-5)


@pytest.mark.parametrize(("width", "depth", "growth"), [(64, 3, 1.2532), (64, 8, 1.8254), (16, 1, 1 + 5 / 16)])
def test_the_growth_of_rectifiers(width, depth, growth):
    assert abs(second_moment_growth(MLP(width, depth, "relu").network()) - growth) < 0.5e-4


def test_the_growth_of_other_homogeneous_activations():
    assert abs(second_moment_growth(MLP(10, 2, "identity").network()) - 1.2**2) < 1e-14
    assert abs(second_moment_growth(MLP(10, 2, "abs").network()) - 1.2**2) < 1e-14
    # E s^4 = 3 (1 + a^4)/2 and E s^2 = (1 + a^2)/2 for the slope a of the negative half.
    a = 0.01
    factor = 6 * (1 + a**4) / (1 + a**2) ** 2 - 1
    assert abs(second_moment_growth(MLP(10, 1, "leaky_relu").network()) - (1 + factor / 10)) < 1e-13


def test_widths_may_differ():
    found = second_moment_growth(chain("relu", [10, 20], weight=2.0, bias=0.0))
    assert abs(found - (1 + 5 / 10) * (1 + 5 / 20)) < 1e-13


def test_first_order_and_exact_moments_agree_where_both_are_known():
    network = MLP(width=10**6, depth=4, activation="relu").network()
    found = fluctuations(network, 2.0)
    relative = found.variance.value[-1] / found.limit.value[-1] ** 2
    # The exact growth has a second order of (5 L/n)^2.
    assert abs(relative - (second_moment_growth(network) - 1)) < (20 / 10**6) ** 2
    np.testing.assert_allclose(found.kurtosis[-1], 3 * relative, rtol=1e-15)
    np.testing.assert_allclose(found.bias.value, 0.0, atol=1e-18)
    np.testing.assert_allclose(found.response.value, [0, 1, 1, 1, 0.5], rtol=0, atol=1e-13)


def test_limit_and_response_are_those_of_the_kernel():
    network = chain("erf", [30, 30], bias=0.1)
    found = fluctuations(network, 1.3)
    exact = kernel(network, np.full((1, 2), np.sqrt(1.3)))
    assert abs(found.limit.value[-1] - exact.nngp[0, 0]) < 10 * exact.error + 1e-13
    act, K = activation("erf"), jnp.asarray(found.limit.value[1])

    def after(q):
        zero = jnp.zeros_like(q)
        return 1.5 * act.dual(q, q, zero, zero + 2.0).xx

    assert abs(float(jax.grad(after)(K)) - found.response.value[2]) < 1e-12


def test_kinks_do_no_harm():
    """Hard tanh at K = 0.7, by adaptive quadrature from kink to kink."""
    found, K = fluctuations(chain("hard_tanh", [1], first=(0.7, 0.0), bias=0.0), 1.0), 0.7

    def mean(power):
        def weighted(z):
            return np.clip(z, -1, 1) ** power * np.exp(-0.5 * z * z / K) / np.sqrt(2 * np.pi * K)

        return sum(quad(weighted, *ends, epsabs=1e-14)[0] for ends in ((-12, -1), (-1, 1), (1, 12)))

    assert abs(found.limit.value[1] - 1.5 * mean(2)) < 1e-13
    assert abs(found.variance.value[1] - 1.5**2 * (mean(4) - mean(2) ** 2)) < 1e-13
    # Price: the derivative of the mean of s^2 is half the mean of (s^2)'', and inside the kinks that is 2, with
    # jumps of the slope of s^2 by -2 at each of them.
    inside, at_kink = math.erf(1 / math.sqrt(2 * K)), math.exp(-0.5 / K) / math.sqrt(2 * math.pi * K)
    assert abs(found.response.value[1] - 1.5 * (inside - 2 * at_kink)) < 1e-13


def test_the_characteristic_function_of_a_rectifier_in_closed_form():
    network, xi = MLP(width=5, depth=1, activation="relu", weight_variance=2.0).network(), np.linspace(0, 4, 9)
    # The first layer doubles the mean square 1.5; the readout has variance 1.
    exact = (0.5 + 0.5 / np.sqrt(1 + xi**2 * 3.0 / 5)) ** 5
    np.testing.assert_allclose(characteristic_function(network, 1.5, xi), exact, rtol=0, atol=1e-13)


def test_the_characteristic_function_tends_to_the_gaussian_one():
    wide, xi = MLP(width=10**7, depth=1, activation="tanh").network(), np.array([0.5, 1.0])
    K = fluctuations(wide, 1.0).limit.value[-1]
    np.testing.assert_allclose(characteristic_function(wide, 1.0, xi), np.exp(-0.5 * xi**2 * K), rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", [0.0, -1.0, float("nan"), float("inf")])
def test_a_mean_square_is_positive(q):
    with pytest.raises(ValueError, match=r"mean_square=.*\. A mean square is a finite number above 0\. Give"):
        fluctuations(MLP().network(), q)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"a network of Dense, Dense\. .* take turns here.*\. Give for example"):
        fluctuations(Chain((Dense(size=3), Dense(size=1))), 1.0)
    with pytest.raises(ValueError, match=r"open size and no width\. Fluctuations depend on every size\. Give"):
        fluctuations(Chain((Dense(), Apply("relu"), Dense())), 1.0)
    with pytest.raises(ValueError, match=r"with 2 hidden layers\. .* one hidden layer\. Give"):
        characteristic_function(MLP(depth=2).network(), 1.0, [1.0])
    for network in (MLP(activation="tanh").network(), MLP(activation="relu", bias_variance=0.1).network()):
        with pytest.raises(ValueError, match=r"a layer Dense.*\. The moments are exact for .*\. Use `fluctuations`"):
            second_moment_growth(network)
