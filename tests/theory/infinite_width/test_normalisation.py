"""The covariance behind a layer norm against its reference and closed forms."""

import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.networks import Apply, Chain, Dense, RMSNorm, kernel
from widthwise.theory.infinite_width import normalised_covariance


def test_the_reference_of_a_rectifier():
    found = normalised_covariance(activation("relu"), (1.3, 0.6), 0.4)
    assert abs(found.value - 0.3313) < 0.5e-4
    # Norms cancel: means are root(q/2 pi), mean squares q/2.
    F = (np.sqrt(1 - 0.16) + (np.pi - np.arccos(0.4)) * 0.4) / (2 * np.pi)
    assert abs(found.value - (F - 0.5 / np.pi) / (0.5 - 0.5 / np.pi)) < 1e-14


def test_a_pre_activation():
    found = normalised_covariance(activation("identity"), (1.3, 0.6), -0.7, 0.2)
    assert abs(found.value + 0.7 * np.sqrt(1.3 * 0.6 / (1.5 * 0.8))) < 1e-15


def test_rms_norm_subtracts_no_mean():
    found = normalised_covariance(activation("relu"), (1.0, 4.0), 0.0, centred=False)
    assert abs(found.value - 1 / np.pi) < 1e-15


def test_the_rms_norm_of_the_layers():
    network = Chain((Dense(2.0), Apply("relu"), RMSNorm(0.1)))
    X = np.array([[1.0, 0.5], [-0.4, 1.2]])
    K = kernel(Chain((Dense(2.0),)), X).nngp
    variances, rho = (K[0, 0], K[1, 1]), K[0, 1] / np.sqrt(K[0, 0] * K[1, 1])
    found = normalised_covariance(activation("relu"), variances, rho, 0.1, centred=False)
    assert abs(found.value - kernel(network, X).nngp[0, 1]) < 1e-14


@pytest.mark.parametrize("name", ["tanh", "relu"])
@pytest.mark.parametrize("centred", [True, False])
def test_an_input_with_itself_is_one(name, centred):
    found = normalised_covariance(activation(name), (1.3, 1.3), 1.0, centred=centred)
    assert abs(found.value - 1.0) <= found.error
    assert found.error < 1e-8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.0, 1.0), 0.5), r"variances=\(0\.0, 1\.0\)\. Variances are finite numbers above 0\. Give"),
        (((1.0, 1.0), 1.5), r"rho=1\.5\. A correlation is a number from -1 to 1\. Give"),
        (((1.0, 1.0), float("nan")), r"rho=nan"),
        (((1.0, 1.0), 0.5, -1.0), r"epsilon=-1\.0\. epsilon is a finite number of at least 0\. Give"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalised_covariance(activation("relu"), *arguments)
