"""One step of gradient descent in the outputs: reference numbers, exactness for linear outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.theory.convergence import step_in_outputs
from widthwise.theory.convergence.coordinates import CLAIMS, Step
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.maps import ShallowMap


@pytest.mark.slow
def test_the_defect_of_a_wide_network_is_that_of_the_reference():
    rng = np.random.default_rng(1)
    count, width = 6, 4096
    X = rng.normal(size=(count, count))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    signs, W = rng.uniform(-1, 1, size=width), rng.normal(size=(width, count))
    y = jnp.asarray(np.where(np.arange(count) % 2 == 0, 0.5, -0.5))
    outputs = ShallowMap(Shallow(jnp.asarray(W), jnp.asarray(signs), activation("sin"), width**-0.5), jnp.asarray(X))
    start = jnp.asarray(W.ravel())

    def loss(z):
        return 0.5 * jnp.mean((z - y) ** 2)

    first, second = step_in_outputs(outputs, loss, start)
    assert float(jnp.linalg.norm(second)) == pytest.approx(4.3561e-7, abs=0.5e-11)
    gradient = jax.grad(lambda w: loss(outputs(w)))(start)
    for rate, printed in ((4.0, 3.653e-7), (2.0, 3.989e-7), (1.0, 4.169e-7), (0.5, 4.262e-7)):
        defect = outputs(start - rate * gradient) - outputs(start) - rate * first
        assert float(jnp.linalg.norm(defect)) / rate**2 == pytest.approx(printed, abs=0.6e-10)


def test_the_first_order_is_exact_for_linear_outputs():
    A, y = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5))), jnp.arange(3.0)
    start = jnp.ones(5)

    def loss(z):
        return jnp.sum((z - y) ** 4)

    first, second = step_in_outputs(lambda w: A @ w, loss, start, rate=0.1)
    slope = jax.grad(loss)(A @ start)
    np.testing.assert_allclose(first, -0.1 * A @ (A.T @ slope), rtol=1e-12)
    np.testing.assert_array_equal(second, 0.0)


@pytest.mark.parametrize(("name", "reason"), [("relu", "relu has a kink"), ("identity", "have no defect")])
def test_claims_say_why_they_do_not_apply(name, reason):
    verdict = check(CLAIMS[0], Step(activation=name))
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


def test_rates_whose_defects_are_rounding_are_refused():
    for rate in (0.0, 1e-5):
        verdict = check(CLAIMS[0], Step(rate=rate))
        assert verdict.status is Status.NOT_APPLICABLE
        assert "lost in rounding" in verdict.reasons[0]


@pytest.mark.slow
def test_the_claim_holds_for_another_network():
    verdict = check(CLAIMS[0], Step(width=100, count=2, activation="tanh"))
    assert verdict.status is Status.HOLDS, str(verdict)
