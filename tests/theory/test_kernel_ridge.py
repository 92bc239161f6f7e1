"""Kernel ridge regression against dense solves and against fits that really leave one row out."""

import numpy as np
import pytest

from widthwise.networks import MLP, kernel
from widthwise.numerics import spectrum
from widthwise.theory.kernel_ridge import best_kernel_ridge, kernel_ridge


def circle(*degrees):
    return np.sqrt(2) * np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)])


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(14, 3)), rng.normal(size=(14, 2))
    K = kernel(MLP(activation="erf").network(), X)
    return K.ntk, T


# Solves of a kernel with condition number 1e3 keep 13 digits of 16.
DIGITS = 1e-11


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_it_is_the_dense_solution(problem, ridge):
    K, T = problem
    fitted = kernel_ridge(spectrum(K), T, ridge)
    dense = np.linalg.solve(K + ridge * np.eye(len(K)), T)
    np.testing.assert_allclose(fitted.coefficients, dense, atol=DIGITS * np.abs(dense).max())
    np.testing.assert_allclose(fitted.fit, K @ dense, atol=DIGITS * np.abs(T).max())
    np.testing.assert_allclose(fitted(K[:3]), K[:3] @ dense, atol=DIGITS * np.abs(T).max())


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.1, 10.0])
def test_leaving_one_out_is_what_it_says(problem, ridge):
    K, T = problem
    errors = []
    for row in range(len(T)):
        rest = np.delete(np.arange(len(T)), row)
        inverse = np.linalg.solve(K[np.ix_(rest, rest)] + ridge * np.eye(len(rest)), T[rest])
        errors.append(np.sum((T[row] - K[row, rest] @ inverse) ** 2))
    assert kernel_ridge(spectrum(K), T, ridge).left_out == pytest.approx(np.mean(errors), rel=DIGITS)


def test_reference_numbers():
    """NTK of ReLU, three hidden layers, on a circle; ridge 0.1."""
    train, test = circle(0, 60, 150), circle(30, 100)
    network, y = MLP(depth=3, activation="relu").network(), np.array([[1.0], [-1.0], [0.5]])
    K, cross = kernel(network, train), kernel(network, test, train)
    found = kernel_ridge(spectrum(K.ntk), y, 0.1)(cross.ntk)[:, 0]
    np.testing.assert_allclose(found, [-0.015022215154, -0.381389398695], atol=1e-12)
    posterior = kernel_ridge(spectrum(K.nngp), y, 0.1)(cross.nngp)[:, 0]
    np.testing.assert_allclose(posterior, [-0.01484946063, -0.419625521746], atol=1e-12)


def test_a_singular_kernel_gives_the_interpolant_of_least_norm():
    K = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    T = np.array([[1.0], [3.0], [4.0]])
    fitted = kernel_ridge(spectrum(K), T, 0.0)
    np.testing.assert_allclose(fitted.coefficients, np.linalg.pinv(K) @ T, atol=1e-14)
    np.testing.assert_allclose(fitted.fit[:, 0], [2.0, 2.0, 4.0], atol=1e-14)
    assert np.isfinite(fitted.left_out)


def test_the_best_ridge_grows_with_the_noise():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 3))
    K = spectrum(kernel(MLP(activation="erf").network(), X).ntk)
    truth = np.sin(X[:, :1])
    quiet, loud = (best_kernel_ridge(K, truth + s * rng.normal(size=(60, 1))) for s in (0.01, 1.0))
    assert quiet.ridge < loud.ridge


def test_bad_input_is_refused(problem):
    K, T = problem
    with pytest.raises(ValueError, match="ridge=-1"):
        kernel_ridge(spectrum(K), T, -1.0)
    with pytest.raises(ValueError, match=r"y\[:, None\]"):
        kernel_ridge(spectrum(K), T[:, 0], 1.0)
