"""The Hermite series of limit kernels against closed forms, against other quadratures and against the dual."""

import math

import numpy as np
import pytest

from widthwise.activations import activation, hermite, monomial, polynomial
from widthwise.theory.concentration import expand, hermite_coefficients, limit_kernel, structure
from widthwise.theory.concentration.hermite_claims import on_circle, rectifier_squares
from widthwise.theory.concentration.structure import hidden_structure

CIRCLE = on_circle().X
X = np.random.default_rng(0).normal(size=(8, 5)) / 5**0.5
UNIT = X / np.linalg.norm(X, axis=1)[:, None]


@pytest.mark.parametrize(
    ("name", "squares"),
    [
        ("tanh", {1: 0.366879164, 3: 0.0220335996, 5: 0.0039121927, 0: 0.0, 2: 0.0}),
        ("sin", {1: 0.3678794, 3: 0.0613132, 5: 0.0030657}),
        ("erf", {1: 0.424413182, 3: 0.0314380135}),
        ("relu", {0: 0.15915494, 1: 0.25, 2: 0.07957747, 3: 0.0, 4: 0.00663146, 5: 0.0, 6: 0.00198944}),
    ],
)
def test_the_coefficients_agree_with_the_reference(name, squares):
    found = hermite_coefficients(activation(name), 6).value ** 2
    for k, square in squares.items():
        digits = len(str(square).split(".")[1])
        assert found[k] == pytest.approx(square, abs=0.51 * 10.0**-digits if square else 1e-30)


def test_the_coefficients_of_the_sine_and_of_the_rectifier_are_known():
    k = np.arange(31)
    sine = np.where(k % 2, math.exp(-1.0) / np.array([float(math.factorial(one)) for one in k]), 0.0)
    np.testing.assert_allclose(hermite_coefficients(activation("sin"), 30).value ** 2, sine, rtol=0, atol=1e-14)
    found = hermite_coefficients(activation("relu"), 30)
    np.testing.assert_allclose(found.value**2, rectifier_squares(30), rtol=0, atol=1e-14)
    assert np.max(found.error) < 1e-13


@pytest.mark.parametrize("degree", [0, 1, 7])
def test_a_hermite_polynomial_has_one_coefficient(degree):
    found = hermite_coefficients(hermite(degree), 9)
    np.testing.assert_allclose(found.value, np.eye(10)[degree], rtol=0, atol=1e-12)


def test_the_coefficients_of_a_slope_are_those_of_the_function():
    r"""$E\sigma'h_{k-1} = \sqrt k\,\sigma_k$."""
    whole = hermite_coefficients(activation("gelu"), 9).value
    slope = hermite_coefficients(activation("gelu"), 8, slope=True).value
    np.testing.assert_allclose(slope, np.sqrt(np.arange(1, 10)) * whole[1:], rtol=0, atol=1e-13)


def test_coefficients_at_many_scales():
    found = hermite_coefficients(activation("relu"), 4, [[0.0, 1.0], [2.0, 0.5]]).value
    assert found.shape == (2, 2, 5)
    np.testing.assert_allclose(found[1, 0], 2.0 * found[0, 1], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found[0, 0], 0.0)


def test_a_steep_function_says_that_it_is_not_resolved():
    steep = hermite_coefficients(activation(lambda z: 1 / (1 + (40 * z) ** 2), kinks=(), name="spike"), 20)
    fine = hermite_coefficients(activation(lambda z: 1 / (1 + (40 * z) ** 2), kinks=(), name="spike"), 4000)
    assert np.all(np.abs(steep.value - fine.value[:21]) <= steep.error + fine.error[:21])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["readout", "hidden"])
@pytest.mark.parametrize("name", ["relu", "sin"])
def test_the_series_is_the_kernel_of_the_dual(name, kernel):
    for inputs in (UNIT, X):
        series, dual = (
            expand(inputs, activation(name), kernel, 200).gram,
            limit_kernel(inputs, activation(name), kernel),
        )
        bar = float(series.error) + float(dual.error)
        assert np.max(np.abs(series.value - dual.value)) <= bar < 1e-5


def test_the_tanh_kernel_agrees_with_a_quadrature_in_the_plane():
    # The reference, 0.2252221515, used 80 Gauss-Hermite nodes, which are off by 2e-9 here.
    z = np.linspace(-10.0, 10.0, 801)
    weight = np.exp(-0.5 * z**2)
    weight /= weight.sum()
    exact = (weight * np.tanh(z)) @ np.tanh(0.6 * z[:, None] + 0.8 * z[None]) @ weight
    found = expand([[1.0, 0.0], [0.6, 0.8]], activation("tanh")).gram.value[0, 1]
    assert found == pytest.approx(exact, abs=1e-13)
    assert found == pytest.approx(0.2252221515, abs=3e-9)


def test_the_bounds_agree_with_the_reference():
    """Of the rectifier the reference has 2000 terms and nothing of the rest; eight decimals are printed."""
    tanh = expand(CIRCLE, activation("tanh"))
    np.testing.assert_allclose([tanh.gershgorin(), tanh.termwise()], [0.00170687, 0.00209034], rtol=0, atol=0.5e-8)
    relu = expand(CIRCLE, activation("relu"), degree=1999)
    found = [relu.gershgorin(tail=False), relu.termwise(tail=False)]
    np.testing.assert_allclose(found, [0.00310885, 0.00502981], rtol=0, atol=0.51e-8)
    # What is left out adds its share, at any degree.
    short = expand(CIRCLE, activation("relu"))
    assert short.gershgorin() == pytest.approx(relu.gershgorin(), abs=1e-10)
    assert short.gershgorin() > relu.gershgorin(tail=False) + 4e-7


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_no_bound_is_above_the_least_eigenvalue(seed):
    """Inputs at random: near each other, on few lines, of very different norms."""
    rng = np.random.default_rng(seed)
    count = 6
    inputs = rng.normal(size=(count, 3)) * 10.0 ** rng.uniform(-1.0, 0.3, (count, 1))
    inputs[rng.integers(1, count)] = (1.0 + 10.0 ** rng.uniform(-9, 0)) * inputs[0] * rng.choice([-1.0, 1.0])
    for kernel in ("readout", "hidden"):
        series = expand(inputs, activation("relu"), kernel)
        dual = limit_kernel(inputs, activation("relu"), kernel)
        least = float(np.linalg.eigvalsh(dual.value)[0]) + count * float(dual.error)
        assert max(series.gershgorin(), series.termwise(), series.truncated()) <= max(least, 0.0)
        assert series.gershgorin() <= series.termwise() + 1e-12


@pytest.mark.parametrize(("degree", "scale"), [(-1, 1.0), (3, -1.0), (3, np.nan)])
def test_coefficients_need_a_degree_and_a_scale(degree, scale):
    with pytest.raises(ValueError, match=r"at least 0\. Give"):
        hermite_coefficients(activation("relu"), degree, scale)


def test_coefficients_that_overflow_are_refused():
    with pytest.raises(ValueError, match=r"Hermite coefficients overflow\. .*\. Make the inputs smaller"):
        hermite_coefficients(activation("exp"), 4, 1e6)


def test_there_is_no_series_of_both_kernels():
    with pytest.raises(ValueError, match="Expand 'readout' and 'hidden' one by one"):
        expand(UNIT, activation("relu"), "both")


@pytest.mark.parametrize(
    ("act", "even", "odd", "power"),
    [
        (activation("tanh"), -1, None, None),
        (activation("abs"), None, -1, 1.0),
        (activation("softplus"), None, 1, None),
        (activation("sigmoid"), 0, None, None),
        (activation("squared_relu"), 2, None, 2.0),
        (activation("hard_swish"), None, 1, None),
        (activation("relu6"), None, None, None),
        (activation("exp"), None, None, None),
        (polynomial([1.0, 2.0, 3.0]), 2, 1, None),
        (polynomial([0.0]), -1, -1, None),
        (monomial(30), 30, -1, 30.0),
        (hermite(29), -1, 29, None),
    ],
)
def test_the_structure_of_an_activation(act, even, odd, power):
    found = structure(act)
    assert (found.even, found.odd, found.power) == (even, odd, power)
    assert found.polynomial == (even is not None and odd is not None)


@pytest.mark.parametrize(("name", "even", "odd"), [("relu", None, 1), ("tanh", -1, None), ("step", -1, -1)])
def test_the_structure_that_the_hidden_kernel_sees(name, even, odd):
    found = hidden_structure(activation(name))
    assert (found.even, found.odd) == (even, odd)
