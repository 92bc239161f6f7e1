"""The phi functions against mpmath, near zero, far from it and where the two ways meet."""

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from widthwise.numerics import phi

POINTS = np.array(
    [-1e-300, -1e-20, -1e-8, -1e-3, -0.1, -1.0, -3.0, -6.0, -7.999, -8.0, -8.001, -12.0, -40.0, -1e3, -1e9]
)
ULP = 2.0**-52


@pytest.mark.parametrize("count", [2, 3, 6])
def test_all_digits(count):
    found = np.asarray(phi(count, jnp.asarray(POINTS)))
    assert found.shape == (count, len(POINTS))
    with mpmath.workdps(40):
        for k in range(1, count):
            exact = [mpmath.hyp1f1(1, k + 1, mpmath.mpf(z)) / mpmath.factorial(k) for z in POINTS]
            np.testing.assert_allclose(found[k], np.array([float(one) for one in exact]), rtol=64 * ULP, atol=0)
    np.testing.assert_allclose(found[0], np.exp(POINTS), rtol=4 * ULP, atol=0)


def test_at_zero():
    assert np.asarray(phi(4, jnp.zeros(2)))[:, 0].tolist() == pytest.approx([1.0, 1.0, 0.5, 1 / 6], rel=4 * ULP)
