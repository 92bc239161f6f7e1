"""Gradient descent against gradient flow: reference numbers of a quadratic, bounds, arc lengths."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy.euler import (
    CLAIMS,
    Penalised,
    Race,
    SlowFlow,
    acceleration,
    arc_length,
    descend,
    euler_error_bound,
    length_bounds,
)
from widthwise.theory.lazy.integrate import FLOW_ERROR, risk_flow

START, RATES, TIMES = jnp.array([1.0, 1.0]), jnp.array([1.0, 4.0]), jnp.array([0.3, 1.0, 2.0])
CLAIM = {claim.id: claim for claim in CLAIMS}


def quadratic(theta):
    return 0.5 * jnp.sum(RATES * theta**2)


def concave(theta):
    return -0.5 * jnp.sum(theta**2)


def walk(weight=0.0):
    """Gradient flow of the penalised quadratic, compiled once for all weights."""
    return risk_flow(Penalised(quadratic, jnp.asarray(weight)), START, TIMES)


@pytest.mark.parametrize(
    ("steps", "to_flow", "to_modified"),
    [(10, 0.0227861213, 0.00252030), (40, 0.0058385889, 0.000228128), (160, 0.0014673481, 1.55488e-5)],
)
def test_errors_on_a_quadratic_agree_with_the_reference(steps, to_flow, to_modified):
    end = descend(quadratic, START, 1.0 / steps, steps)[-1]
    flow, modified = (walk(weight)["point"][1] for weight in (0.0, 0.25 / steps))
    # Printed to 10 decimals and to 6 digits.
    assert float(jnp.linalg.norm(end - flow)) == pytest.approx(to_flow, abs=0.5e-10 + 0.1 * FLOW_ERROR)
    assert float(jnp.linalg.norm(end - modified)) == pytest.approx(to_modified, rel=1e-5)


def test_flow_of_a_quadratic_is_its_exponential():
    found = {name: np.asarray(part) for name, part in walk().items()}
    np.testing.assert_allclose(found["point"], np.exp(-np.outer(TIMES, RATES)), rtol=0, atol=FLOW_ERROR)
    assert np.all(found["length"] >= np.linalg.norm(found["point"] - np.asarray(START), axis=1))


def test_descent_on_a_quadratic_is_a_power():
    path = descend(quadratic, START, 0.1, 7)
    assert path.shape == (8, 2)
    np.testing.assert_allclose(path[-1], (1 - 0.1 * np.asarray(RATES)) ** 7, rtol=1e-14)


def test_acceleration_is_hessian_times_gradient():
    np.testing.assert_allclose(acceleration(quadratic, START), [1.0, 16.0])


def test_the_penalised_risk_of_a_quadratic():
    assert float(Penalised(quadratic, 0.1)(START)) == pytest.approx(2.5 + 0.1 * 17.0, rel=1e-15)


@pytest.mark.parametrize("steps", [10, 40, 160])
def test_the_error_stays_below_both_bounds(steps):
    end = descend(quadratic, START, 1.0 / steps, steps)[-1]
    error = np.linalg.norm(end - np.exp(-np.asarray(RATES)))
    largest = float(jnp.linalg.norm(acceleration(quadratic, START)))
    convex, general = (euler_error_bound(1.0 / steps, 1.0, largest, beta) for beta in (None, 4.0))
    assert error <= convex <= general


def test_arc_length_of_a_polygon():
    assert float(arc_length(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]))) == 6.0


def test_length_bounds_are_attained():
    """By a linear risk of slope 1 until it is zero, and by a quadratic of one variable at infinite time."""
    assert length_bounds(2.0, 2.0) == 2.0
    assert length_bounds(1.5 * 2.0**2, np.inf, pl=6.0) == 2.0


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("OPT-1", Race(quadratic, START, smoothness=4.0, steps=5), "eta beta <= 0.2 because"),
        ("OPT-7", Race(quadratic, START, smoothness=4.0, steps=5), "it is 0.8"),
        ("OPT-1b", Race(concave, START, smoothness=4.0, steps=1), "because eta beta = 4 exceeds 2"),
        ("OPT-1b", Race(concave, START, smoothness=4.0, steps=1), "its Hessian has the eigenvalue -1"),
        ("OPT-7b", SlowFlow(0.0), "not strongly convex because lambda = 0"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert any(reason in given for given in verdict.reasons)
