"""Optimality on a convex set: reference numbers, projections, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.convergence import Ball, Box, optimality_residual, projected_descent
from widthwise.theory.convergence.constrained import CLAIMS, Constrained, Sliding

CLAIM = {claim.id: claim for claim in CLAIMS}


def to_the_point(w):
    return 0.5 * jnp.sum((w - jnp.array([2.0, 1.0])) ** 2)


def test_the_nearest_point_of_the_disc_is_that_of_the_reference():
    point = projected_descent(to_the_point, jnp.zeros(2), Ball(1.0), 0.5, 100)
    np.testing.assert_allclose(point, [0.894427191, 0.4472135955], atol=0.5e-9)
    np.testing.assert_allclose(-jax.grad(to_the_point)(point), 1.2360679775 * point, rtol=1e-10)
    assert float(optimality_residual(to_the_point, point, Ball(1.0))) < 1e-15
    circle = np.stack([np.cos(np.linspace(0, 7, 5000)), np.sin(np.linspace(0, 7, 5000))], axis=1)
    assert np.max((circle - np.asarray(point)) @ -np.asarray(jax.grad(to_the_point)(point))) <= 1e-15


def test_inside_the_set_the_residual_is_the_gradient():
    away = float(optimality_residual(to_the_point, jnp.array([1.5, 1.0]), Ball(10.0)))
    assert away == pytest.approx(0.5, rel=1e-15)
    assert float(optimality_residual(to_the_point, jnp.zeros(2), Ball(1.0))) == pytest.approx(1.0, rel=1e-15)


def test_a_ball_keeps_its_centre():
    assert Ball(1.0)(jnp.zeros(2)).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(jax.jacobian(Ball(1.0))(jnp.zeros(2)), np.eye(2))


def test_the_squares_of_large_numbers_do_not_overflow():
    assert Ball(1.0)(jnp.array([1e30, 0.0], dtype="float32")).tolist() == [1.0, 0.0]
    w = jnp.array([3.0, 4.0])
    unit = w / 5.0
    np.testing.assert_allclose(jax.jacobian(Ball(1.0))(w), (np.eye(2) - unit[:, None] * unit[None]) / 5.0, atol=1e-15)


def test_a_point_may_be_a_box():
    assert Box(1.0, 1.0)(jnp.array([0.0, 3.0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf])
def test_a_ball_has_a_radius(radius):
    with pytest.raises(ValueError, match=r"radius=.*\. A ball has a finite radius above 0"):
        Ball(radius)


def test_a_box_is_not_empty():
    with pytest.raises(ValueError, match="The lower sides lie below the upper ones"):
        Box(1.0, -1.0)


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("OPT-9", Constrained(distance=0.5), "only 0.5 from the centre"),
        ("OPT-9", Constrained(convexity=0.0), "0 < lambda"),
        ("OPT-9", Constrained(convexity=0.01), "400 steps do not arrive"),
        ("OPT-9b", Sliding(convexity=-1.0), "0 < lambda"),
        ("OPT-9b", Sliding(smoothness=5000.0), "2000 steps are too long for the flow"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


@pytest.mark.slow
def test_the_claim_holds_in_more_dimensions():
    verdict = check(CLAIM["OPT-9"], Constrained(dim=6, distance=5.0))
    assert verdict.status is Status.HOLDS, str(verdict)
