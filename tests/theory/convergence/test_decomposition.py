"""The error decomposition: reference numbers, identities, bad input."""

import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.convergence import decompose
from widthwise.theory.convergence.decomposition import CLAIMS, Fit, wave


def reference():
    index = np.arange(1, 13)
    x = np.cos((2 * index - 1) * np.pi / 24)
    return Fit(steps=50), x, wave(x) + 0.3 * (-1.0) ** index


def test_the_parts_are_those_of_the_reference():
    fit, x, y = reference()
    found, _ = fit.decomposed(x, y)
    parts = [found.approximation, found.estimation, found.optimisation, found.total]
    np.testing.assert_allclose(parts, [0.0662579551, 0.0026655629, 0.0001122548, 0.0663161572], atol=0.6e-10)
    assert found.excess == pytest.approx(0.00439783270, abs=0.6e-11)
    assert found.pythagoras == pytest.approx(found.excess, rel=1e-12)
    assert fit.excess_risk(x, y) == pytest.approx(found.excess, rel=1e-12)
    assert found.total < found.triangle


def test_it_prints_its_parts():
    assert str(decompose([1.0], [0.0], [0.0], [0.0])).startswith(
        "approximation 1, estimation 0, optimisation 0; total 1"
    )


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([[], [], [], []], None, r"All are \(N,\) with N >= 1"),
        ([[1.0], [1.0, 2.0], [1.0], [1.0]], None, r"All are \(N,\)"),
        ([[np.nan], [1.0], [1.0], [1.0]], None, "all numbers are finite"),
        ([[1.0]] * 4, [2.0], "weights of sum 2"),
        ([[1.0, 1.0]] * 4, [-1.0, 2.0], "Weights sum to 1"),
    ],
)
def test_bad_input(values, weights, message):
    with pytest.raises(ValueError, match=message):
        decompose(*values, weights=weights)


def test_too_few_points_leave_the_empirical_minimiser_open():
    for claim in CLAIMS:
        verdict = check(claim, Fit(count=3))
        assert verdict.status is Status.NOT_APPLICABLE
        assert "3 points leave 4 coefficients" in verdict.reasons[0]


def test_degrees_beyond_the_quadrature_are_refused():
    verdict = check(CLAIMS[0], Fit(degree=60, count=100))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "60 nodes is not exact" in verdict.reasons[0]
