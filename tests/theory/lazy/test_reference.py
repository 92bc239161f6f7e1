"""The reference experiment and the certificate on its way, to the published digits."""

from dataclasses import astuple

import numpy as np
import pytest

from widthwise.theory.lazy import certify, certify_from, follow, laziness_along, reference_problem
from widthwise.theory.lazy.checkpoints import Along
from widthwise.theory.lazy.examples import extremal
from widthwise.theory.lazy.reference import ALPHAS, published, row, sweep, thresholds


def test_the_constants():
    """Printed to ten decimals."""
    problem = reference_problem()
    seen = problem.tangency
    printed = (0.3010567339, 1.2131207874, 4.0295421127, np.sqrt(20), 6.1052622700)
    assert (seen.sigma_min, seen.sigma_max, seen.kappa, seen.residual, seen.distance) == pytest.approx(
        printed, abs=6e-11
    )
    X = np.asarray(problem.f.X)
    assert np.linalg.eigvalsh((X @ X.T) ** 2)[-1] == pytest.approx(2.2816177342, abs=6e-11)
    assert np.allclose(np.asarray(problem.f.net.W)[0, :3], [0.12573022, -0.13210486, 0.64042265], atol=6e-9)
    assert np.max(np.abs(seen.f0)) < 1e-15  # exactly zero but for the order of summation


def test_the_thresholds():
    found = thresholds(reference_problem(), reference_problem(form="frobenius"))
    printed = {"ball": 5.07122, "bmr": 10.1424, "theorem": 726.01, "theorem, 288": 363.01, "theorem, flattened": 245.22}
    for name, value in printed.items():
        digit = 0.5 * 10.0 ** -len(str(value).partition(".")[2])
        assert abs(found[name] - value) <= 1.01 * digit


@pytest.mark.parametrize("alpha", [5.2, 100.0])
def test_the_table(alpha):
    found, expected = np.array(astuple(row(reference_problem().at(alpha)))), published(alpha)
    there = np.isfinite(expected.value)
    assert np.all(np.abs(found - expected.value)[there] <= expected.error[there])
    assert np.all(found[2:9] <= 1)


def test_the_values_of_the_ball_certificate():
    """Printed for alpha = 10.2, 20, 100: rho, D for all times, D at the end."""
    printed = {
        10.2: (1.7042343348, 0.5575557477, 0.3966652567),
        20.0: (0.7969452069, 0.1138899005, 0.0806254561),
        100.0: (0.1504805691, 0.0038989906, 0.0027571060),
    }
    for alpha, values in printed.items():
        bounds = certify(reference_problem().at(alpha)).bounds
        found = (bounds.path(np.inf), bounds.gap(np.inf), bounds.final_gap)
        assert found == pytest.approx(values, rel=1e-9, abs=5.1e-11)  # the constant carries a margin of 1e-10


def test_the_two_sided_bracket():
    bounds = certify(reference_problem().at(100.0)).bounds
    assert bounds.least_final_distance == pytest.approx(0.060738, abs=5e-7)
    assert bounds.least_final_distance < follow(reference_problem().at(100.0)).distance[-1]


def test_a_sweep_tells_its_progress():
    told = []
    rows = sweep(extremal(), (1.0, 2.0), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert [one.alpha for one in rows] == [1.0, 2.0]
    assert rows[0].test_gap == 0.0
    assert all(published(alpha).value[0] == alpha for alpha in ALPHAS)


def test_the_certificate_on_the_way():
    """At alpha = 1 nothing is certified at first; published values of h and of the residual on the way."""
    problem = reference_problem()
    seen, along = follow(problem), laziness_along(problem)
    for tau, h, residual in (
        (0.5, 0.74839, 0.66060),
        (1.0, 0.31965, 0.28234),
        (2.0, 0.08402, 0.07427),
        (3.0, 0.02616, 0.02313),
    ):
        k = int(np.argmin(np.abs(seen.times - tau)))
        assert along.h[k] == pytest.approx(h, abs=6e-6)
        assert seen.residual[k] == pytest.approx(residual, abs=6e-6)
    assert along.time == pytest.approx(0.40, abs=1e-9)
    assert along.h[along.first] == pytest.approx(0.92422, abs=6e-6)
    assert seen.residual[along.first] == pytest.approx(0.81570, abs=6e-6)
    remaining = certify_from(problem, along.first)
    assert remaining.bounds.path(np.inf) == pytest.approx(4.2474, abs=6e-5)
    travelled = np.linalg.norm(seen.steps[-1] - seen.steps[along.first])
    assert travelled == pytest.approx(2.0154, abs=6e-5)


def test_a_path_without_certificate():
    seen = laziness_along(extremal(y=0.6))
    assert isinstance(seen, Along)
    assert seen.first is None
    assert seen.time == np.inf
