"""Spectra on the sphere against closed forms, reference numbers, and the trace."""

import mpmath as mp
import numpy as np
import pytest
from numpy.polynomial.chebyshev import Chebyshev

from widthwise.networks import MLP, Chain, Dense, kernel
from widthwise.theory.infinite_width import sphere_spectrum, zonal_spectrum
from widthwise.theory.infinite_width.sphere import legendre, multiplicity


def relu(depth):
    return MLP(depth=depth, activation="relu").network()


def power_of_the_gap(s, dimension, degrees):
    r"""The eigenvalues of $(1-\cos\theta)^s$ in closed form, by Rodrigues' formula."""
    d, s = mp.mpf(dimension), mp.mpf(s)
    factor = mp.gamma(d / 2) / mp.sqrt(mp.pi) * 2 ** (s + d - 2) * mp.gamma(s + (d - 1) / 2) / mp.gamma(-s)
    return np.array([float(factor * mp.gamma(k - s) / mp.gamma(k + s + d - 1)) for k in range(degrees + 1)])


@pytest.mark.parametrize("dimension", [2, 3, 10, 100, 784])
@pytest.mark.parametrize("s", [0.5, 1.5])
def test_singular_kernels_have_their_closed_spectra(s, dimension):
    # In the angle the kernel is sin(theta/2)^(2s), which 40 coefficients hold to their rounding.
    fit = Chebyshev.interpolate(lambda x: (2 * np.sin((x + 1) * np.pi / 4) ** 2) ** s, 40)
    found = zonal_spectrum(fit.coef, dimension, 100, error=40 * 2.0**-52)
    off = np.abs(found.eigenvalues.value - power_of_the_gap(s, dimension, 100))
    assert np.all(off <= found.eigenvalues.error)
    assert np.all(found.eigenvalues.error[:3] < 1e-12)
    assert found.decay == dimension + 2 * s - 1


@pytest.mark.parametrize(
    ("depth", "dimension", "kind", "values", "digits"),
    [
        (1, 3, "nngp", [3 / 8, 1 / 6, 3 / 128, 0, 1 / 1536], 1e-15),
        (1, 3, "ntk", [1 / 2, 1 / 3, 5 / 64, 0, 1 / 192, 0], 1e-15),
        (
            3,
            3,
            "ntk",
            [1.34842113327, 0.396618875299, 0.131483851335, 0.0351710516817, 0.0156873228197, 0.00681517232673],
            0.5e-11,
        ),
        (3, 3, "nngp", [0.646291298207, 0.0758233177654, 0.017723346426, 0.00300588549693], 0.5e-12),
        (
            3,
            10,
            "ntk",
            [1.13269241649, 0.100072364318, 0.0128673250488, 0.0014363690304, 0.000283106638461],
            0.5e-11,
        ),
    ],
)
def test_reference_numbers(depth, dimension, kind, values, digits):
    found = sphere_spectrum(relu(depth), dimension, 8, kernel=kind)
    # Besides the printed digits only the compiled kernel's own error.
    off = np.abs(found.eigenvalues.value[: len(values)] - values)
    assert np.all(off <= digits + found.eigenvalues.error[: len(values)])


@pytest.mark.parametrize("dimension", [2, 3, 10, 50])
def test_the_first_eigenvalue_of_one_hidden_layer(dimension):
    for kind, value in (("nngp", 0.5 / dimension), ("ntk", 1.0 / dimension)):
        found = sphere_spectrum(relu(1), dimension, 1, kernel=kind)
        assert abs(found.eigenvalues.value[1] - value) <= found.eigenvalues.error[1]


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_odd_degrees_vanish_without_bias_and_with_one_layer(kind):
    found = sphere_spectrum(relu(1), 3, 21, kernel=kind)
    assert not np.any(found.resolved[3::2])
    assert np.all(found.resolved[::2])
    biased = MLP(depth=1, activation="relu", bias_variance=0.1).network()
    for other in (relu(2), biased):
        assert np.all(sphere_spectrum(other, 3, 21, kernel=kind).resolved)


@pytest.mark.parametrize(("kind", "exponent"), [("nngp", 5), ("ntk", 3)])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_decay_of_a_rectifier(depth, kind, exponent):
    found = sphere_spectrum(relu(depth), 3, 400, kernel=kind)
    assert found.decay == exponent
    fitted = found.fitted_decay()
    assert abs(fitted.value - exponent) <= fitted.error
    assert fitted.error < 0.01


def test_a_smooth_activation_decays_faster_than_any_power():
    found = sphere_spectrum(MLP(depth=2, activation="erf").network(), 3, 60)
    assert found.decay is None
    assert "faster than any power" in str(found)
    assert not found.resolved[-1]
    assert "0 to rounding" in str(found)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_the_shares_sum_to_the_trace(kind):
    network = MLP(depth=2, activation="erf").network()
    found = sphere_spectrum(network, 5, 60, kernel=kind, mean_square=2.0)
    x = np.full((1, 5), np.sqrt(2.0))
    own = float(getattr(kernel(network, x), kind)[0, 0])
    assert abs(found.trace / own - 1.0) < 1e-12
    # All degrees but a tail that is far below rounding; the errors of the shares bound the rest.
    assert abs(np.sum(found.shares.value) - 1.0) < np.sum(found.shares.error)


def test_legendre_polynomials():
    theta = np.linspace(0.0, np.pi / 2, 7)
    for dimension, exact in (
        (2, lambda k: np.cos(k * theta)),
        (3, lambda k: [float(mp.legendre(k, t)) for t in np.cos(theta)]),
    ):
        for k, value in enumerate(legendre(dimension, 12, theta)):
            # Each step of the recurrence rounds once.
            np.testing.assert_allclose(value, exact(k), rtol=0, atol=8 * (k + 1) * 2.0**-52)


def test_multiplicities_count_the_polynomials():
    """Homogeneous polynomials of degree k in d variables are the harmonics of degrees k, k - 2, ..."""
    for dimension in (2, 3, 7):
        for degree in range(8):
            harmonics = sum(multiplicity(dimension, k) for k in range(degree, -1, -2))
            assert harmonics == float(mp.binomial(dimension + degree - 1, degree))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1}, r"dimension=1\. dimension is a whole number from 2 to 1,000,000\. Give"),
        ({"degrees": -1}, r"degrees=-1\. degrees is a whole number from 0 to 10,000\. Give"),
        ({"degrees": True}, r"degrees=True\. "),
        ({"kernel": "tnk"}, r"kernel='tnk' \(did you mean 'ntk'\?\)\. The kernels are"),
        ({"mean_square": 0.0}, r"mean_square=0\.0\. A mean square is a finite number above 0\. Give"),
        ({"mean_square": float("nan")}, r"mean_square=nan\. "),
        ({"dimension": 784, "degrees": 1000}, r"degrees=1000 in 784 dimensions\. .* below 1e300\. Ask for fewer"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sphere_spectrum(relu(1), **{"dimension": 3, "degrees": 4, **arguments})


def test_a_kernel_that_is_zero_has_no_spectrum():
    with pytest.raises(ValueError, match=r"No polynomial of the angle .*\. The kernels must be .*\. Pass a larger"):
        sphere_spectrum(Chain((Dense(0.0),)), 3)


def test_too_few_accurate_eigenvalues_have_no_decay():
    with pytest.raises(
        ValueError, match=r"5 eigenvalues with a relative error below 0\.01\. .* at least 16 .*\. Ask for"
    ):
        sphere_spectrum(relu(2), 3, 5).fitted_decay()
