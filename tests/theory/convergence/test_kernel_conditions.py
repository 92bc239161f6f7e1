"""The two conditions on the kernel: what they say of recorded kernels, of flows, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.convergence import conditions_along, drift_bound, kernel_conditions
from widthwise.theory.convergence.kernel_conditions import CLAIMS
from widthwise.theory.lazy import LazyProblem
from widthwise.theory.lazy.examples import extremal

CLAIM = {claim.id: claim for claim in CLAIMS}


def kernels(*changes, least=0.5):
    start = np.diag([least, 2.0, 3.0])
    return np.stack([start, *(start + change for change in changes)])


def test_kernels_near_the_first_give_its_rate():
    found = kernel_conditions(kernels(-0.2 * np.eye(3), 0.1 * np.ones((3, 3)), least=0.7))
    assert found.positive and found.near and found.broken is None
    assert found.rate == pytest.approx(0.7)
    assert found.slowest == pytest.approx(1.0)
    np.testing.assert_allclose(found.drift, [0.0, 0.2, 0.3], atol=1e-15)


def test_a_kernel_that_goes_too_far_is_told():
    found = kernel_conditions(kernels(0.1 * np.eye(3), 0.3 * np.eye(3)))
    assert found.positive and not found.near and found.broken == 2 and found.rate == 0.0
    # It grew: nothing is lost, and the kernels themselves say so.
    assert found.slowest == pytest.approx(1.0)
    assert str(found).endswith(
        "|K_t - K_0| <= 0.6 lambda_0: not met from record 2 on; the loss falls at least like exp(-0 t)"
    )


def test_a_singular_kernel_fails_the_first_condition():
    J = np.array([[1.0, 2.0], [1.0, 2.0], [0.3, 0.1]])
    found = kernel_conditions(np.stack([J @ J.T] * 2))
    assert not found.positive and found.rate == 0.0
    assert str(found).startswith("(i) lambda_0 = 0: not met") or found.start < 0


def test_the_rounding_is_that_of_the_kernels():
    """Twice the same point: the smallest eigenvalue is rounding, which of float32 is far above that of float64."""
    J = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")
    single = np.stack([J, J])[:, [0, 1, 2, 2]]
    kernels = np.einsum("kip,kjp->kij", single, single) + np.float32(1e-7) * np.eye(4, dtype="float32")
    assert not kernel_conditions(kernels).positive
    assert kernel_conditions(kernels.astype(float) + 1e-6 * np.eye(4)).positive
    assert kernel_conditions(np.array([[[2]], [[1]]])).near


@pytest.mark.slow
def test_a_flow_has_the_conditions_of_its_kernels():
    """On the extremal map, the kernel ends at 1 - h of what it was."""
    found = conditions_along(extremal(beta=1.0, y=0.2))
    assert found.start == pytest.approx(1.0, rel=1e-12)
    # It is 1 - 2f, and at the last time 14 the residual still is at most 0.2 exp(-14 (1 - h)).
    left = 2 * 0.2 * np.exp(-14 * 0.6)
    assert np.min(found.smallest) == pytest.approx(1.0 - 0.4, abs=left)
    assert np.max(found.drift) == pytest.approx(0.4, abs=left)
    assert found.near and found.rate == pytest.approx(1.0)
    assert not conditions_along(extremal(beta=1.0, y=0.3)).near


def test_the_drift_on_a_ball():
    assert drift_bound(1.0, 1.0, 0.0) == 0.0
    assert drift_bound(1.0, 2.0, 0.5, alpha=3.0) == 9.0 * (2.0 + 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.eye(2), r"kernels of shape \(2, 2\)"),
        (np.ones((2, 2, 3)), r"They are \(k, n, n\)"),
        (np.ones((0, 2, 2)), "Stack the recorded kernels"),
        (np.full((1, 2, 2), np.nan), "not symmetric or not finite"),
        (np.array([[[1.0, 0.5], [0.0, 1.0]]]), "not symmetric"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(ValueError, match=message):
        kernel_conditions(given)


def test_claims_say_why_they_do_not_apply():
    verdict = check(CLAIM["LAZY-33"], (extremal(beta=1.0, y=0.45),))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "(ii)" in verdict.reasons[0] and "not met" in verdict.reasons[0]
    stiff = LazyProblem(lambda w: w * jnp.array([1.0, 40.0]), np.zeros(2), np.ones(2), name="stiff")
    verdict = check(CLAIM["LAZY-33"], stiff)
    assert verdict.status is Status.NOT_APPLICABLE
    assert "1000 steps are too long for stiff" in verdict.reasons[0]
    verdict = check(CLAIM["LAZY-33b"], (extremal(beta=1.0, y=0.6),))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "below the threshold" in verdict.reasons[0]
