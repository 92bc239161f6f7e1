"""The risk of a function by a sample, and what is refused."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.convergence import risk
from widthwise.theory.convergence.sampled_risk import CLAIMS, Plane


def double(x):
    return 2.0 * x


def hinge(y, output):
    return jax.nn.relu(1.0 - y * output)


def bad(y, output):
    return jnp.log(output)


def sampler(key, count):
    x = jr.normal(key, (count,))
    return x, jnp.sign(x)


def test_the_error_is_that_of_a_mean():
    X, y = np.arange(5.0), np.array([0.0, 1.0, 5.0, 4.0, 8.0])
    found = risk(double, (X, y))
    losses = (y - 2 * X) ** 2
    assert float(found.value) == losses.mean()
    assert float(found.error) == pytest.approx(losses.std(ddof=1) / np.sqrt(5), rel=1e-14)


def test_a_sampler_and_a_loss_of_ones_own():
    found = risk(double, sampler, hinge, count=40_000, key=jr.key(1))
    # E (1 - 2|x|)_+ = 2 int_0^{1/2} (1 - 2x) phi(x) dx, by a midpoint rule.
    x = (np.arange(10_000) + 0.5) / 20_000
    exact = 2.0 * np.mean((1.0 - 2.0 * x) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)) * 0.5
    assert abs(float(found.value) - exact) < 5 * float(found.error)
    assert float(found.error) < 0.01 * exact


def test_a_model_of_several_outputs_has_one_risk_for_each():
    found = risk(lambda x: jnp.stack([x, 2.0 * x]), (np.ones(4), np.ones((4, 2))))
    assert found.value.tolist() == [0.0, 1.0]


def test_one_example_has_no_error_bar():
    assert np.isinf(float(risk(double, (np.ones(1), np.ones(1))).error))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((np.ones(3), np.ones(2)), {}, r"X of shape \(3,\), y of shape \(2,\)"),
        ((np.ones(0), np.ones(0)), {}, "Each of N >= 1 inputs has one label"),
        ((1.0, 1.0), {}, r"X of shape \(\)"),
        (np.ones(3), {}, "data of type ndarray"),
        (sampler, {"count": 0}, "count=0"),
        ((np.array([1.0, -1.0]), np.ones(2)), {"loss": bad}, "not finite at example 1"),
        ((np.array([1.0, np.nan]), np.ones(2)), {}, "not finite at example 1"),
    ],
)
def test_bad_input(data, options, message):
    with pytest.raises(ValueError, match=message):
        risk(double, data, **options)


def test_least_squares_without_enough_data_has_no_mean_risk():
    verdict = check({claim.id: claim for claim in CLAIMS}["LAZY-1b"], Plane(count=6))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "n = 6 is at most d + 1 = 6" in verdict.reasons[0]
