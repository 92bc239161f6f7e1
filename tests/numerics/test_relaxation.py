"""The part that is left and the part that is gone, against mpmath and against repeated steps."""

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from widthwise.numerics import Steps, gain, gone, left

RATES = np.array([0.0, 1e-18, 1e-3, 0.4, 0.6, 1.0, 1.7, 2.5])
ULP = 2.0**-52


@pytest.mark.parametrize("moment", [0.0, 1e-9, 0.7, 30.0, Steps(0, 1.0), Steps(1, 0.3), Steps(40, 0.9), Steps(7, 1.0)])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_they_agree_with_many_digits(moment, array):
    with mpmath.workdps(60):
        rates = [mpmath.mpf(float(rate)) for rate in RATES]
        if isinstance(moment, Steps):
            kept = [(1 - mpmath.mpf(moment.size) * rate) ** moment.count for rate in rates]
            count = moment.count
        else:
            kept = [mpmath.exp(-rate * mpmath.mpf(moment)) for rate in rates]
            count = moment
        wanted = np.array([float(one) for one in kept])
        lost = np.array([float(1 - one) for one in kept])
        slopes = np.array([0.0, *(float((1 - one) / rate) for one, rate in zip(kept[1:], rates[1:], strict=True))])
    # 1 - size * rate is rounded once and raised to the power.
    rounding = 8 * ULP * max(1.0, count)
    np.testing.assert_allclose(left(array(RATES), moment), wanted, rtol=0, atol=rounding * np.abs(wanted).max())
    for found, exact in ((gone(array(RATES), moment), lost), (gain(array(RATES), moment), slopes)):
        np.testing.assert_allclose(found, exact, rtol=rounding * np.maximum(1.0, np.abs(wanted)).max(), atol=0)


def test_a_step_far_too_long_stays_finite():
    assert left(np.array([1e9]), Steps(1000, 1.0)).tolist() == [1e60]


def test_for_ever():
    assert gone(RATES, np.inf).tolist() == [0.0, *[1.0] * 7] == (1.0 - left(RATES, np.inf)).tolist()
    np.testing.assert_array_equal(gain(RATES[1:], np.inf), 1.0 / RATES[1:])
