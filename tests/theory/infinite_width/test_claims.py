"""Claims about wide networks say why they do not apply."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.networks import MLP
from widthwise.theory.infinite_width import (
    Case,
    characteristic_function,
    fluctuations,
    normalised_covariance,
    ntk_by_parameter,
    sphere_spectrum,
)
from widthwise.theory.infinite_width.setups import networks, outputs, to_infinity
from widthwise.theory.infinite_width.shallow_setups import shallows
from widthwise.theory.infinite_width.spectrum_claims import SphereCase
from widthwise.theory.infinite_width.universality_claims import Circle

X = jnp.ones((1, 4))


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("INIT-7", Case(MLP(64, 2, "exp"), X), "exp outgrows every polynomial"),
        ("INIT-7", Case(MLP(8, 2, "tanh"), X), "width = 8 is below 8 depth = 16"),
        ("INIT-8", Case(MLP(64, 2, "relu"), X), "relu has a kink"),
        ("INIT-10", Case(MLP(8, 2, "relu"), X), "one hidden layer, not for 2"),
        ("INIT-11", Case(MLP(64, 2, "tanh"), X), "homogeneous activations, and tanh is not"),
        ("INIT-11", Case(MLP(64, 2, "relu", bias_variance=0.1), X), "only without biases"),
        ("KERN-9", Case(MLP(64, 2, "relu"), X), "there are no biases"),
        ("KERN-14", Case(MLP(64, 2, "relu"), jnp.asarray([[1.0, 0.0], [2.0, 0.0]])), "the norms too"),
        ("KERN-14b", Case(MLP(64, 2, "tanh"), X), "homogeneous activations, and tanh is not"),
        ("KERN-15", SphereCase(MLP(depth=1, activation="identity").network(), 3), "cannot be told apart"),
        ("KERN-15b", SphereCase(MLP(depth=1, activation="erf").network(), 3), "the kernel is smooth"),
        ("KERN-34b", shallows("tanh"), "about the rectifier, not about tanh"),
        ("KERN-35", shallows("relu"), "no such bound because"),
        ("KERN-39", Circle(0.0), "not universal on this circle"),
        ("KERN-39b", Circle(0.0, 2), "only odd waves"),
        ("KERN-39b", Circle(0.5, 3), "only without a fixed coordinate"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(claim, setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


def test_claims_hold_on_other_setups():
    assert check("INIT-10", Case(MLP(2, 1, "tanh"), X, 8000)).status is Status.HOLDS
    assert (
        check("KERN-15b", SphereCase(MLP(depth=2, activation="relu").network(), 4, kernel="nngp")).status
        is Status.HOLDS
    )
    assert check("KERN-39", Circle(0.3, 2)).status is Status.HOLDS


def test_drawn_networks_have_standard_normal_parameters():
    """Every array of parameters is filled with its own normals: the law of ``sample``."""
    mlp = MLP(width=50, depth=2, activation="relu", bias_variance=0.3)
    models = networks(mlp.network(), 4, jr.key(1), 40)
    arrays = [part for piece in models.pieces if hasattr(piece, "weight") for part in (piece.weight, piece.bias)]
    values = np.concatenate([np.ravel(part) for part in arrays if part is not None])
    assert abs(np.mean(values)) < 5 / np.sqrt(values.size)
    assert abs(np.var(values) - 1) < 5 * np.sqrt(2 / values.size)
    assert outputs(models, X).shape == (40, 1, 1)


def test_the_first_correction_is_removed():
    found = to_infinity(lambda n, key: np.array([2.0 + 3.0 / n]), 10, jr.key(1))
    np.testing.assert_allclose(found, [2.0], rtol=1e-15)


@pytest.mark.parametrize(
    "predict",
    [
        lambda: normalised_covariance(activation("relu"), (1.3, 0.6), 0.4).value,
        lambda: fluctuations(MLP(8, 2, "tanh").network(), 1.3).variance.value,
        lambda: characteristic_function(MLP(8, 1, "tanh").network(), 1.3, [1.0]),
        lambda: ntk_by_parameter(MLP(8, 1, "relu").network(), [[1.3, 0.1]])[0].weight.value,
        lambda: sphere_spectrum(MLP(8, 1, "relu").network(), 3, 3).eigenvalues.value,
    ],
)
def test_predictions_are_in_float64_whatever_the_default_is(predict):
    with jax.enable_x64(False):
        found = predict()
    np.testing.assert_allclose(found, predict(), rtol=1e-13, atol=1e-15)
