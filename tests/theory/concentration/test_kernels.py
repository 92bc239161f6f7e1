"""The two kernels of a network and their limits, and the theorem of Gram."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.theory.concentration import hidden_kernel, limit_kernel, readout_kernel
from widthwise.theory.concentration.kernel_claims import CLAIMS, Columns, _predict_volume, _volume
from widthwise.theory.lazy import draw_shallow, limit_gram, tangent_gram
from widthwise.theory.lazy.landscapes import unit_inputs

X, TANH = unit_inputs(6, 4), activation("tanh")
CLAIM = {claim.id: claim for claim in CLAIMS}


@pytest.mark.slow
def test_the_hidden_kernel_is_the_tangent_kernel_of_fixed_signs():
    net = draw_shallow(jr.key(0), 30, 4, TANH, scale=30**-0.5)
    found = hidden_kernel(net.W, X, TANH, net.signs)
    # Sums of 30 terms in two orders.
    np.testing.assert_allclose(found, tangent_gram(net, X), rtol=0, atol=1e-15)
    np.testing.assert_allclose(found, hidden_kernel(net.W, X, TANH), rtol=0, atol=1e-15)


def test_the_readout_kernel_is_the_gram_matrix_of_features():
    W = np.random.default_rng(1).normal(size=(30, 4))
    features = np.tanh(np.asarray(X) @ W.T)
    np.testing.assert_allclose(readout_kernel(W, X, TANH), features @ features.T / 30, rtol=0, atol=1e-15)


@pytest.mark.slow
def test_the_limits_add_up_and_agree_with_others():
    parts = [limit_kernel(X, TANH, kernel) for kernel in ("readout", "hidden", "both")]
    np.testing.assert_allclose(parts[0].value + parts[1].value, parts[2].value, rtol=0, atol=1e-15)
    known = limit_gram(X, TANH)
    np.testing.assert_allclose(parts[1].value, known.value, rtol=0, atol=float(parts[1].error + known.error.max()))


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match=r"kernel='redout' \(did you mean 'readout'\?\)\. Known are .*\. Choose one"):
        limit_kernel(X, TANH, "redout")


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4)), np.zeros((0, 3)), [[np.nan, 1.0]], [1.0, 2.0]])
def test_inputs_are_rows_of_finite_numbers(bad):
    with pytest.raises(ValueError, match="Inputs"):
        limit_kernel(bad, TANH)


def test_the_determinant_is_the_squared_volume():
    case = Columns(np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]).T)
    cross = np.cross(case.B[:, 0], case.B[:, 1])
    assert cross @ cross == 6.0
    assert _volume(case, jr.key(0)) ** 2 == pytest.approx(6.0, rel=1e-14)
    assert float(_predict_volume(case).value) ** 2 == pytest.approx(6.0, rel=1e-14)


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("LAZY-37", Columns(np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]])), "columns depend on others"),
        ("LAZY-37b", Columns(np.eye(2, 3)), "columns depend on others"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_volume_bounds_the_least_eigenvalue_of_any_columns(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        case = Columns(rng.normal(size=(6, count)) * 10.0 ** rng.uniform(-1, 1, count))
        assert check(CLAIM["LAZY-37b"], case).status is Status.HOLDS


@pytest.mark.slow
def test_the_kernel_of_other_networks_has_two_parts():
    case = CLAIM["LAZY-34"].setup()
    for name in ("relu", "gelu"):
        other = type(case)(case.W, case.a, jnp.concatenate([case.X, jnp.zeros((1, 3))]), activation(name))
        assert check(CLAIM["LAZY-34"], other).status is Status.HOLDS
        assert check(CLAIM["LAZY-34b"], other).status is Status.HOLDS
