"""What is no array of numbers, no pair of arrays and no class is refused with the way out."""

import re

import numpy as np
import pytest

from widthwise.data import load
from widthwise.numerics import demand_classes, demand_numbers, demand_pair

X = np.eye(3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("digits", "X='digits', which is a text.*Arrays of real numbers.*ww.load('digits').*found.X"),
        (load("iris"), "X of type Dataset.*found.X"),
        (["cat", "dog"], "X with 'cat' in it.*Encode"),
        (np.array([["cat"], ["dog"]]), "X with 'cat' in it"),
        (np.array(["cat", 1.0], dtype=object), "X with 'cat' in it"),
    ],
)
def test_what_is_no_array_of_numbers(given, said):
    with pytest.raises(ValueError, match=re.sub(r"([()])", r"\\\1", said)):
        demand_numbers("X", given)


@pytest.mark.parametrize("given", [X, [[1.0]], 3.0, None, np.array([1.0, None], dtype=object), X > 0])
def test_numbers_are_let_through(given):
    demand_numbers("X", given)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("digits", "data='digits'.*(found.X, found.y)"),
        (X, "data of type ndarray.*pair (X, y).*Give data=(X, y)"),
        ((X, X, X), "data of type tuple"),
        ((X, ["a", "b", "b"]), "y with 'a' in it.*numpy.unique"),
        ((X, load("iris")), "y of type Dataset"),
    ],
)
def test_what_is_no_pair(data, said):
    with pytest.raises(ValueError, match=re.sub(r"([()])", r"\\\1", said)):
        demand_pair(data)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            [0, 1, 3, -1],
            "the label 3 (2 of 4 are wrong), for a model with 3 outputs.*from 0 to 2",
        ),
        ([0.0, 1.0, 2.0], "the label 0.0 (3 of 3 are wrong).*Give y.astype(int)"),
        ([0.0, 1.5], "the label 1.5 (1 of 2 is wrong).*numpy.unique"),
        ([0.0, np.nan], "the label nan (1 of 2 is wrong)"),
        ([True, False], "the label True.*astype(int)"),
        (["a", "b"], "the label 'a'.*numpy.unique"),
        (np.eye(3), "labels of shape (3, 3).*argmax(axis=1)"),
        ([[0], [1]], r"labels of shape (2, 1).*y\[:, 0\]"),
    ],
)
def test_what_is_no_class(labels, said):
    with pytest.raises(ValueError, match=re.sub(r"([()])", r"\\\1", said)):
        demand_classes(labels, 3)
    demand_classes([0, 2, 1], 3)
