"""Decay of the risk and travelled distance: reference numbers, and cases in which the bounds are attained."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy import tangent
from widthwise.theory.lazy.descent import CLAIMS, Travel, path_bound, residual_decay, risk_decay, travel_bound
from widthwise.theory.lazy.integrate import FLOW_ERROR, integrate

CLAIM = {claim.id: claim for claim in CLAIMS}


def test_the_risk_decays_as_in_the_reference():
    """The first two components; the others grow, at a negative rate."""

    def field(t, r):
        return jnp.array([-1.0 - jnp.sin(t) ** 2, -3.0, 0.5, -1.0]) * r

    r = np.asarray(integrate(field, jnp.array([1.0, 2.0, 1.0, 1.0]), jnp.array([1.0]))[0])
    risk, bound = 0.5 * float(r[:2] @ r[:2]), 2.5 * float(risk_decay(1.0, 1.0))
    assert risk == pytest.approx(0.0441802495, abs=0.5e-10 + FLOW_ERROR * 1e-2)
    assert bound == pytest.approx(0.3383382, abs=0.5e-7)
    assert risk <= bound
    assert np.linalg.norm(r[:2]) <= 5**0.5 * float(residual_decay(1.0, 1.0))
    assert r[2:] @ r[2:] <= 2.0 * float(risk_decay(-0.5, 1.0))


def test_the_risk_decays_at_twice_the_rate_of_the_residual():
    np.testing.assert_allclose(risk_decay(0.3, jnp.arange(3.0)), residual_decay(0.3, jnp.arange(3.0)) ** 2, rtol=1e-15)


def test_a_linear_map_travels_as_in_the_reference():
    S, r0 = np.diag([0.5, 2.0]), np.array([1.0, 1.0])
    model = tangent(S, r0, np.zeros(2))
    assert float(model.distance()) == pytest.approx(2.0615528, abs=0.5e-7)

    def field(_, state):
        velocity = -jnp.asarray(S.T) @ (jnp.asarray(r0) + jnp.asarray(S) @ state[0])
        return velocity, jnp.linalg.norm(velocity)

    length = integrate(field, (jnp.zeros(2), jnp.zeros(())), jnp.array([80.0]))[1][0]
    # Time 80 leaves exp(-20) of the slow direction.
    assert float(length) == pytest.approx(2.2792845, abs=0.6e-7)
    assert path_bound(2**0.5, 0.25) == pytest.approx(2.8284271, abs=0.5e-7)
    assert model.path_bound == pytest.approx(path_bound(2**0.5, 0.25), rel=1e-14)
    assert travel_bound(2**0.5, 0.25, 4.0) == pytest.approx(11.3137085, abs=0.5e-7)


def test_the_path_bound_is_attained_by_equal_singular_values():
    model = tangent(2.0 * np.eye(3), np.ones(3), np.zeros(3))
    residual = np.linalg.norm(model.residual(0.3))
    assert float(model.distance(0.3)) == pytest.approx(path_bound(3**0.5, 4.0, residual), rel=1e-14)
    assert travel_bound(3**0.5, 4.0, 4.0) == pytest.approx(path_bound(3**0.5, 4.0), rel=1e-15)


@pytest.mark.parametrize("setup", [Travel(least=0.0), Travel(least=3.0, largest=2.0)])
def test_travel_needs_a_positive_bound(setup):
    verdict = check(CLAIM["LAZY-20"], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert "because it divides by lambda" in verdict.reasons[0]
