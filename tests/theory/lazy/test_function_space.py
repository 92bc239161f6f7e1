"""Training in function space: finite differences, the nearest interpolator, and claims on other problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.lazy import tangent
from widthwise.theory.lazy.function_space import CLAIMS, Training, output_velocity, risk_velocity

CLAIM = {claim.id: claim for claim in CLAIMS}


def bent(w):
    """Three outputs of five parameters."""
    return jnp.stack([jnp.sin(w[0] + w[1]) + w[2], w[3] * w[1], jnp.exp(0.3 * w[4]) - w[0]])


START, Y = jnp.linspace(-0.5, 0.7, 5), jnp.array([1.0, -0.5, 0.3])


@pytest.mark.parametrize("loss", ["half-sum", "half-mean"])
def test_outputs_and_risk_move_as_finite_differences_say(loss):
    training = Training(bent, START, Y, alpha=1.7, loss=loss)
    J, residual = jax.jit(jax.jacobian(bent))(START), 1.7 * bent(START) - Y

    def risk(w):
        return training.risk_of(bent(w))

    step = 1e-6 * -jax.jit(jax.grad(risk))(START)
    moved = 1.7 * (bent(START + step) - bent(START - step)) / 2e-6
    fallen = (risk(START + step) - risk(START - step)) / 2e-6
    # Central differences: rounding 1e-16/1e-6 and a third-order term of 1e-12, both times numbers of order ten.
    np.testing.assert_allclose(output_velocity(J @ J.T, residual, 1.7, loss), moved, rtol=0, atol=1e-8)
    np.testing.assert_allclose(risk_velocity(J @ J.T, residual, 1.7, loss), fallen, rtol=0, atol=1e-8)


def test_least_norm_is_not_least_distance():
    """J^+ y0 interpolates too; the flow ends at it plus the part of the start that J does not see."""
    rng = np.random.default_rng(0)
    J, w0, f0, y = rng.normal(size=(4, 9)), rng.normal(size=9), rng.normal(size=4), rng.normal(size=4)
    pseudo = np.linalg.pinv(J)
    shortest = pseudo @ (y / 2.0 + J @ w0 - f0)
    end = w0 + np.asarray(tangent(J, f0, y, alpha=2.0).displacement(jnp.inf))
    np.testing.assert_allclose(J @ shortest, y / 2.0 + J @ w0 - f0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(shortest + w0 - pseudo @ (J @ w0), end, rtol=0, atol=1e-13)
    assert np.linalg.norm(shortest - end) > 0.5
    assert np.linalg.norm(shortest) < np.linalg.norm(end)
    np.testing.assert_allclose(pseudo.T @ J.T, np.eye(4), rtol=0, atol=1e-13)


@pytest.mark.parametrize("claim", ["LAZY-4", "LAZY-6", "OPT-3b"])
def test_claims_hold_for_a_map_of_ones_own(claim):
    assert check(CLAIM[claim], Training(bent, START, Y, alpha=0.8)).status is Status.HOLDS


@pytest.mark.parametrize("claim", ["LAZY-6", "LAZY-6b"])
def test_interpolation_needs_full_rank(claim):
    twice = Training(lambda w: jnp.concatenate([bent(w), bent(w)[:1]]), START, jnp.ones(4))
    verdict = check(CLAIM[claim], twice)
    assert verdict.status is Status.NOT_APPLICABLE
    assert "because the Jacobian has rank 3 with n = 4 outputs" in verdict.reasons[0]
