"""The table of rates: reference numbers, sharp cases, and claims that say why they do not apply."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.convergence import (
    convex_bound,
    last_iterate_bound,
    length_bound,
    pl_factor,
    stationarity_bound,
    strongly_convex_factor,
)
from widthwise.theory.convergence.landscapes import Huber, bowl, flow_of, generator, steps_of
from widthwise.theory.convergence.rate_claims import CLAIMS, Table
from widthwise.theory.lazy.integrate import FLOW_ERROR

CLAIM = {claim.id: claim for claim in CLAIMS}


@pytest.mark.parametrize(("t", "value"), [(1, 1.6666667), (5, 0.4545455), (10, 0.2380952), (50, 0.0495050)])
def test_a_huber_function_attains_the_sharp_bound_as_in_the_reference(t, value):
    loss = Huber(jnp.array([1.0]), 10.0, 1.0 / (2 * t + 1))
    last = float(jax.jit(lambda start: steps_of(loss, start, 0.1, t)["value"][-1])(jnp.array([1.0])))
    assert last == pytest.approx(value, abs=0.5e-7)
    assert last == pytest.approx(last_iterate_bound(1.0, t, 10.0), rel=1e-14 * t)
    assert last_iterate_bound(1.0, t, 10.0) < convex_bound(1.0, t, 10.0)


def test_a_quadratic_falls_as_its_two_factors_say():
    curvature = np.array([1.0, 10.0])
    for t in (1, 5, 20):
        w = (1.0 - curvature / 10.0) ** t
        assert w @ w / 2 <= strongly_convex_factor(1.0, t, 10.0)
        assert w[0] ** 2 == pytest.approx(strongly_convex_factor(1.0, t, 10.0), rel=1e-13)


def test_many_small_steps_are_the_flow():
    for t in (0.5, 3.0):
        many = t * 1e8
        assert strongly_convex_factor(0.7, many, 1e8) == pytest.approx(float(strongly_convex_factor(0.7, t)), rel=1e-7)
        # Under PL alone the known factor of a step is worse than the flow's.
        assert pl_factor(0.7, many, 1e8) == pytest.approx(float(pl_factor(0.35, t)), rel=1e-7)
        assert last_iterate_bound(2.0, many, 1e8) == pytest.approx(last_iterate_bound(2.0, t), rel=1e-7)
        assert convex_bound(2.0, many, 1e8) == pytest.approx(convex_bound(2.0, t), rel=1e-12)


def test_what_a_step_loses_against_the_flow():
    assert stationarity_bound(1.0, 4.0, 1.0) == 2.0 * stationarity_bound(1.0, 4.0)
    assert length_bound(1.0, 4.0, 1.0) == pytest.approx(2**0.5 * length_bound(1.0, 4.0))
    assert length_bound(1.0, np.inf, 1.0, pl=0.5) == 2.0 * length_bound(1.0, np.inf, pl=0.5)


def test_the_fixed_steps_follow_a_flow():
    loss = bowl(generator(jax.random.key(0)), 0.25, 5.0)
    start = 3.0 * loss.Q[0] + 2.0 * loss.Q[-1]
    end = jax.jit(lambda w: flow_of(loss, w, 8.0))(start)
    exact = 3.0 * np.exp(-2.0) * loss.Q[0] + 2.0 * np.exp(-40.0) * loss.Q[-1]
    np.testing.assert_allclose(end, exact, atol=FLOW_ERROR)


@pytest.mark.parametrize("claim", [pytest.param(claim, id=claim.id) for claim in CLAIMS])
def test_a_table_without_convexity_is_refused(claim):
    verdict = check(claim, Table(convexity=0.0))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "0 < lambda <= beta" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("name", "setup", "reason"),
    [
        ("OPT-6c", Table(smoothness=1000.0), "the steps of the flow are too long because beta t is 8000"),
        ("OPT-6g", Table(smoothness=0.5), "curvature 1 across its direction"),
    ],
)
def test_what_the_measurement_cannot_follow_is_refused(name, setup, reason):
    verdict = check(CLAIM[name], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


def test_bounds_at_the_start_and_constants_that_no_loss_has():
    assert strongly_convex_factor(2.0, np.arange(3.0), 2.0).tolist() == [1.0, 0.0, 0.0]
    assert pl_factor(0.0, 5.0, 2.0) == 1.0
    for wrong in (2.1, -0.1, np.nan):
        with pytest.raises(ValueError, match=r"a constant \S+ with smoothness=2\.0\. A smooth F"):
            strongly_convex_factor(wrong, 1.0, 2.0)
    with pytest.raises(ValueError, match=r"a constant 3\.0"):
        pl_factor(3.0, 1.0, 2.0)
    for bound in (stationarity_bound, convex_bound, last_iterate_bound):
        with pytest.raises(ValueError, match=r"t=0\.0\. The bound is for times"):
            bound(1.0, 0.0)
    assert last_iterate_bound(1.0, 0.0, 3.0) == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OPT-6", "OPT-6b", "OPT-6c", "OPT-6e", "OPT-6g"])
def test_the_rows_hold_for_other_constants_too(name):
    verdict = check(CLAIM[name], Table(smoothness=40.0, convexity=0.01, distance=0.2, steps=(2, 9), times=(0.1, 0.7)))
    assert verdict.status is Status.HOLDS, str(verdict)
