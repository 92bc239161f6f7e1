"""The closed recursions of large rates, to the digits of their references."""

import math

import numpy as np
import pytest

from widthwise.theory.catapult import (
    catapult_limit,
    catapult_orbit,
    lazy_change,
    peak_growth_time,
    quadratic_orbit,
    stabilisation_energy,
    stabilisation_orbit,
)


def test_five_steps_of_the_map():
    expected = [
        (2.99, 0.039601),
        (2.95000299, 0.15064443192),
        (2.79182678691, 0.487740154652),
        (2.20255219711, 0.829471364986),
        # By exact fractions.
        (0.711620714559, 0.115453544717),
    ]
    np.testing.assert_allclose(catapult_orbit(3.0, 0.01, 5)[1:], expected, atol=3e-12)


@pytest.mark.parametrize(
    ("start", "end", "peak"),
    [
        (2.01, 1.9899328878, 0.0000503),
        (2.1, 1.8928807004, 0.00534),
        (2.3, 1.6278549428, 0.0542),
        (2.5, 1.2823347810, 0.168),
    ],
)
def test_where_a_catapult_ends(start, end, peak):
    found = catapult_limit(start, 1e-12)
    assert pytest.approx(end, abs=1e-10) == found.X and found.peak == pytest.approx(peak, rel=0.01)


def test_every_start_below_four_ends_below_two_and_above_four_never():
    rng = np.random.default_rng(0)
    for X in rng.uniform(0.05, 3.95, 100):
        assert catapult_limit(X, rng.uniform() * X**2 / 4, 20_000).X <= 2.0
    for X in rng.uniform(4.05, 6.0, 20):
        assert math.inf == catapult_limit(X, rng.uniform(0.01, 1.0) * X**2 / 4).X


def test_the_quadratic_model_with_a_label():
    expected = [
        (-0.41018537609795, 2.38166666666667),
        (0.0814252705098705, 2.5265511341929),
        (-0.0206341815688582, 2.45113645570044),
        (0.00469693646137507, 2.46783941188825),
    ]
    found = np.transpose(quadratic_orbit(*expected[0], 0.5, 5 / 6, 0.5, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert quadratic_orbit(*expected[0], 1.0, 5 / 6, 0.5, 8)[1][-1] == pytest.approx(1.14703667070995, rel=1e-12)


def test_a_wide_catapult_with_a_label():
    r, kernel = quadratic_orbit(0.5, 1.0, 2.5, 1e-6, 0.5, 5000)
    assert kernel[-1] == pytest.approx(0.512933799185298, rel=1e-9)
    assert np.argmax(np.abs(r)) == 16 and np.max(r**2) / 1e6 == pytest.approx(0.0263128617, rel=1e-8)
    assert (r[14], kernel[14]) == pytest.approx((125.30398169739391, 0.9402634921703644), rel=1e-10)


def test_the_lazy_change_is_that_of_the_orbit():
    _, kernel = quadratic_orbit(0.3, 1.2, 0.7, 1e-7, -0.4, 400)
    assert kernel[-1] - 1.2 == pytest.approx(lazy_change(0.3, 1.2, 0.7, 1e-7, -0.4), rel=1e-5)


def test_a_catapult_peaks_later_for_each_factor_of_the_width():
    peaks = [np.argmax(np.abs(quadratic_orbit(0.5, 1.0, 2.5, 1 / m, 0.5, 60)[0])) for m in (1e3, 1e6, 1e9, 1e12)]
    assert peaks == [7, 16, 24, 33]
    assert peak_growth_time(2.5) * math.log(1000) == pytest.approx(8.52, abs=5e-3)


@pytest.mark.parametrize(("rate", "square", "above"), [(0.005, 0.4878, 0.0108), (0.02, 0.5229, None)])
def test_averages_of_self_stabilisation(rate, square, above):
    orbit = stabilisation_orbit(0.3, 0.0, rate, 1.0, 4.0, round(40 / rate))[1:]
    assert np.mean(orbit[:, 0] ** 2) == pytest.approx(square, abs=5e-5)
    assert above is None or np.mean(orbit[:, 1]) == pytest.approx(above, abs=5e-5)


def test_the_energy_rises_as_the_orbit_spirals():
    energy = stabilisation_energy(stabilisation_orbit(0.3, 0.0, 0.005, 1.0, 4.0, 8000)[1:], 1.0, 4.0)
    assert (energy[0], energy[-1]) == pytest.approx((1.294, 1.499), abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catapult_limit(1.0, 0.3), "bounded by its kernel"),
        (lambda: catapult_orbit(-1.0, 0.0, 3), "bounded by its kernel"),
        (lambda: quadratic_orbit(1.0, -1.0, 1.0, 0.1, 0.0, 3), "above 0"),
        (lambda: lazy_change(1.0, 1.0, 2.5, 0.1, 0.0), "lazy phase"),
        (lambda: peak_growth_time(1.9), "above 2"),
        (lambda: catapult_limit(math.nan, 0.1), "bounded by its kernel"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
