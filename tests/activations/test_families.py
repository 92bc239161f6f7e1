"""Families of activations: what they compute, and what they refuse."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import (
    activation,
    error_function,
    exponential,
    gabor,
    gaussian,
    hermite,
    monomial,
    polynomial,
    rbf,
    rectified_monomial,
    rectifier,
    sinusoid,
)
from widthwise.networks import Apply, Chain, Dense, kernel


@pytest.mark.parametrize(
    ("act", "fn"),
    [
        (rectifier(-3.0, 0.5), lambda z: 0.5 * z if z > 0 else -3 * z),
        (rectified_monomial(3), lambda z: max(z, 0.0) ** 3),
        (monomial(3), lambda z: z**3),
        (polynomial([1.0, -2.0, 0.5]), lambda z: 1 - 2 * z + z * z / 2),
        (hermite(3), lambda z: (z**3 - 3 * z) / math.sqrt(6)),
        (sinusoid(2.0, 0.3), lambda z: math.sin(2 * z + 0.3)),
        (rbf(2.0), lambda z: math.sqrt(2) * math.sin(2 * z + math.pi / 4)),
        (gaussian(3.0), lambda z: math.exp(-1.5 * z * z)),
        (exponential(0.5), lambda z: math.exp(z / 2)),
        (exponential(0.5, -2.0), lambda z: math.exp(z / 2 - 2)),
        (gabor(3.0, 0.5), lambda z: math.exp(-1.5 * z * z) * math.sin(z / 2)),
        (error_function(2.0, 0.5, 1.0), lambda z: 2 * math.erf(z / 2) + 1),
        (activation("step"), lambda z: float(z > 0)),
        (activation("normal_cdf"), lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2)))),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_the_functions_are_what_they_say(act, fn):
    for z in (-1.7, -0.2, 0.4, 2.5):
        assert float(act(jnp.asarray(z))) == pytest.approx(fn(z), rel=1e-14)


def test_a_second_moment_that_overflows_is_refused():
    network = Chain([Dense(1.0), Apply("exp"), Dense(1.0)])
    assert np.isfinite(kernel(network, [[10.0]]).ntk[0, 0])
    with pytest.raises(ValueError, match=r"not finite, with \[Activation\(exp\)\].*Scale the inputs"):
        kernel(network, [[30.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rectifier(float("nan"), 1.0), "negative_slope=nan"),
        (lambda: rectifier(1.0, 1.0), "two slopes of 1"),
        (lambda: rectified_monomial(0), "power=0"),
        (lambda: monomial(31), "power=31"),
        (lambda: monomial(True), "power=True"),
        (lambda: hermite(-1), "degree=-1"),
        (lambda: polynomial([]), "1 to 31"),
        (lambda: polynomial([1.0, math.inf]), "finite coefficients"),
        (lambda: sinusoid(0.0), "frequency=0.0"),
        (lambda: sinusoid(1.0, math.inf), "phase=inf"),
        (lambda: rbf(-1.0), "gamma=-1.0"),
        (lambda: gaussian(0.0), "alpha=0.0"),
        (lambda: gabor(-1.0), "alpha=-1.0"),
        (lambda: gabor(1.0, 0.0), "frequency=0.0"),
        (lambda: exponential(math.inf), "rate=inf"),
        (lambda: exponential(1.0, math.nan), "shift=nan"),
        (lambda: error_function(0.0), "height=0.0"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
