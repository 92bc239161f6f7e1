"""Splitting and standardising: sums that must come out, and the training part alone deciding."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widthwise.data import Dataset, FeatureScale, load, split, standardise
from widthwise.data.prepare import _test_counts


def regression(X, y):
    X = np.asarray(X, dtype=float)
    return Dataset("made", X, np.asarray(y, dtype=float), "regression", tuple(f"f{j}" for j in range(X.shape[1])))


def parts(X, y, rows):
    data = regression(X, y)
    return data.rows(np.arange(len(data)) < rows), data.rows(np.arange(len(data)) >= rows)


def test_split_is_a_partition_that_keeps_the_order():
    data = load("diabetes")
    numbered = replace(data, X=np.column_stack([np.arange(442.0), data.X]), feature_names=("row", *data.feature_names))
    train, test = split(numbered, 0.2, seed=3)
    rows = np.concatenate([train.X[:, 0], test.X[:, 0]])
    assert sorted(rows) == list(range(442))
    assert len(test) == 88
    assert np.all(np.diff(train.X[:, 0]) > 0)
    np.testing.assert_array_equal(data.y[test.X[:, 0].astype(int)], test.y)


def test_split_depends_on_the_seed_alone():
    data = load("iris")
    first, again, other = (split(data, seed=seed)[1].X for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_split_is_stratified(name):
    data = load(name)
    _, test = split(data, 0.25)
    share = np.bincount(data.y) * 0.25
    assert np.all(np.abs(np.bincount(test.y) - share) < 1)
    assert len(test) == round(len(data) * 0.25)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_counts_leave_no_class_out(sizes, fraction):
    sizes = np.array(sizes)
    counts = _test_counts(sizes, fraction)
    assert np.all(counts[sizes > 1] >= 1)
    assert np.all(counts < sizes)
    # Rounding moves a count by less than one; a class with a single row, or one that would be left out, moves it to 1.
    assert np.all(np.abs(counts - sizes * fraction) <= 1)


def test_a_class_of_one_row_is_learned_from():
    data = Dataset("made", np.arange(5.0)[:, None], np.array([0, 0, 0, 0, 1]), "classification", ("f",), ("a", "b"))
    train, test = split(data, 0.5)
    assert 1 in train.y
    assert 1 not in test.y


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_refuses_fractions_outside(fraction):
    with pytest.raises(ValueError, match=r"test_fraction is .*\. .+\. .+\."):
        split(load("iris"), fraction)


def test_split_needs_two_rows():
    with pytest.raises(ValueError, match="has 1 row"):
        split(regression([[1.0]], [1.0]))
    train, test = split(regression([[1.0], [2.0]], [1.0, 2.0]))
    assert (len(train), len(test)) == (1, 1)


def test_standardised_training_features_have_mean_zero_and_variance_one():
    ready = standardise(*split(load("wine")))
    rounding = (
        13 * 142 * np.finfo(float).eps
    )  # a sum of 142 numbers of size about 1, after subtracting a mean of a few spreads
    assert np.abs(ready.train.X.mean(axis=0)).max() < rounding
    assert np.abs(ready.train.X.var(axis=0) - 1).max() < rounding


def test_test_features_use_the_training_scale():
    train, test = split(load("wine"))
    ready = standardise(train, test)
    expected = (test.X - train.X.mean(axis=0)) / train.X.std(axis=0)
    np.testing.assert_allclose(ready.test.X, expected, rtol=0, atol=1e-12)  # 1e4 times the rounding of one operation
    changed = standardise(train, test.rows(np.arange(3)))
    np.testing.assert_array_equal(changed.train.X, ready.train.X)


def test_constant_features_are_left_out_with_a_warning():
    train, test = parts([[1, 5, 0.1], [2, 5, 0.1], [3, 5, 0.1], [4, 6, 0.2]], [1, 2, 3, 4], 3)
    ready = standardise(train, test)
    assert ready.feature_names == ("f0",)
    assert ready.test.X.shape == (1, 1)
    assert ready.warnings == ("2 features are constant in the training part and left out: 'f1', 'f2'",)


def test_a_feature_that_varies_by_rounding_alone_is_constant():
    train, test = parts([[1, 0.1 + 0.2], [2, 0.3], [3, 0.3]], [1, 2, 3], 2)
    assert standardise(train, test).feature_names == ("f0",)
    with pytest.raises(ValueError, match="All 1 features of made are constant"):
        standardise(*parts([[0.3], [0.1 + 0.2], [7]], [1, 2, 3], 2))


@pytest.mark.parametrize("size", [1e-300, 1e-3, 1.0, 1e300])
def test_the_unit_of_a_feature_does_not_matter(size):
    X = np.random.default_rng(0).normal(size=(20, 3))
    one = FeatureScale.of(regression(X, np.arange(20)))(X)
    other = FeatureScale.of(regression(size * X, np.arange(20)))(size * X)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)  # numbers of size 1, a few dozen roundings


def test_targets_of_many_classes_are_centred_one_hot_rows():
    ready = standardise(*split(load("iris")))
    expected = np.eye(3)[ready.train.y] - 1 / 3
    np.testing.assert_array_equal(ready.train.targets, expected)
    np.testing.assert_array_equal(ready.decode(ready.test.targets), ready.test.y)


def test_targets_of_two_classes_are_signs():
    ready = standardise(*split(load("breast_cancer")))
    assert ready.train.targets.shape[1] == 1
    np.testing.assert_array_equal(ready.train.targets[:, 0], np.where(ready.train.y == 1, 1.0, -1.0))
    np.testing.assert_array_equal(ready.decode(ready.test.targets), ready.test.y)


def test_targets_of_a_regression_are_standardised_and_come_back():
    train, test = split(load("diabetes"))
    ready = standardise(train, test)
    # Means of 354 numbers of size 1.
    assert abs(ready.train.targets.mean()) < 354 * np.finfo(float).eps
    assert abs(ready.train.targets.std() - 1) < 354 * np.finfo(float).eps
    np.testing.assert_allclose(ready.decode(ready.test.targets), test.y, rtol=8 * np.finfo(float).eps)


@pytest.mark.parametrize("y", [[1, 1, 2], [1e200, -1e200, 0.0]])
def test_a_target_without_a_scale_is_refused(y):
    with pytest.raises(ValueError, match="constant in the training part, or too large"):
        standardise(*parts([[1], [2], [3]], y, 2))


def test_warnings_travel_with_the_data():
    ready = standardise(*split(load("iris")))
    assert any("same features and label" in warning for warning in ready.warnings)


def test_a_data_set_refuses_parts_that_do_not_fit():
    with pytest.raises(ValueError, match=r"X of shape \(3, 2\), y of shape \(3,\) and 1 feature names"):
        Dataset("made", np.zeros((3, 2)), np.zeros(3), "regression", ("a",))


def test_a_data_set_cannot_be_written_to():
    data = load("iris")
    with pytest.raises(ValueError, match="read-only"):
        data.X[0, 0] = 1.0
