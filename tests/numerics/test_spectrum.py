"""Spectra of matrices built from their eigenvalues, and of matrices that are none."""

import numpy as np
import pytest

from widthwise.networks import MLP, kernel
from widthwise.numerics import spectrum

VALUES = np.array([5.0, 2.0, 1.0, 0.25])
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
MATRIX = ROTATION @ np.diag(VALUES) @ ROTATION.T


def test_eigenvalues_come_back_in_order():
    found = spectrum(MATRIX)
    np.testing.assert_allclose(found.values, VALUES, rtol=1e-13)
    np.testing.assert_allclose(found.vectors * found.values @ found.vectors.T, MATRIX, atol=1e-14)
    assert found.condition_number == pytest.approx(20.0, rel=1e-13)
    assert found.effective_rank == pytest.approx(8.25**2 / np.sum(VALUES**2), rel=1e-13)


def test_a_function_of_the_matrix_is_one_of_its_eigenvalues():
    found = spectrum(MATRIX)
    np.testing.assert_allclose(found.apply(np.sqrt, found.apply(np.sqrt, np.eye(4))), MATRIX, atol=1e-13)


def test_an_eigenvalue_below_the_error_of_the_entries_is_not_told_from_zero():
    found = spectrum(MATRIX, error=0.05)
    assert found.rank == 3
    assert found.smallest == 0.0
    assert found.condition_number == np.inf


def test_equal_inputs_make_a_kernel_singular():
    X = np.random.default_rng(0).normal(size=(5, 3))
    matrix = kernel(MLP(depth=1, activation="erf").network(), np.concatenate([X, X[:2]]))
    assert spectrum(matrix.ntk, matrix.error).rank == 5


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.empty((0, 0)), "at least 1"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "transpose"),
    ],
)
def test_what_is_no_kernel_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        spectrum(matrix)
