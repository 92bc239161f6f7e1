"""From a checked data set to the arrays a network is trained on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from widthwise.numerics import reject

from .dataset import Dataset, Inputs, Task
from .table import listed

_ROUNDING = 8 * np.finfo(np.float64).eps  # a column that varies by less, relative to its size, is constant


def split(dataset: Dataset, test_fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split the rows at random into a training and a test part.

    Classes are split each for itself (stratified): every class with two or more rows is in both
    parts, in the proportion of the whole up to one row. Rows keep their order.

    Args:
        dataset: at least two rows.
        test_fraction: the share of the test part, strictly between 0 and 1.
        seed: equal seeds give equal parts.

    >>> from widthwise.data import load
    >>> train, test = split(load("iris"), test_fraction=0.2, seed=0)
    >>> len(train), np.bincount(test.y)
    (120, array([10, 10, 10]))
    """
    if not 0 < test_fraction < 1:
        reject(f"test_fraction is {test_fraction}", "It lies strictly between 0 and 1", "Give test_fraction=0.2")
    if len(dataset) < 2:
        reject(f"{dataset.name} has {len(dataset)} row", "A split needs at least two rows", "Bring more data")
    rng = np.random.default_rng(seed)
    strata = dataset.y if dataset.task == "classification" else np.zeros(len(dataset), dtype=np.int64)
    shuffled = [rng.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    counts = _test_counts(np.array([len(rows) for rows in shuffled]), test_fraction)
    held_out = np.zeros(len(dataset), dtype=bool)
    held_out[np.concatenate([rows[:count] for rows, count in zip(shuffled, counts, strict=True)])] = True
    return dataset.rows(~held_out), dataset.rows(held_out)


def _test_counts(sizes: Int[np.ndarray, " k"], fraction: float) -> Int[np.ndarray, " k"]:
    """Round ``sizes * fraction`` so that the sum is right (largest remainders) and no part is empty."""
    exact = sizes * fraction
    counts = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return np.clip(counts, np.minimum(1, sizes - 1), sizes - 1)


@dataclass(frozen=True, eq=False)
class Part:
    """Arrays for training or for testing.

    X: standardised features, shape (n, d); targets: what the network is fitted to, shape (n, k);
    y: the labels as in `Dataset`, class indices or values in their own unit, shape (n,).
    """

    X: Float[np.ndarray, "n d"]
    targets: Float[np.ndarray, "n k"]
    y: Shaped[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Standardised:
    """A training and a test part on one scale, and the way back from outputs to labels."""

    train: Part
    test: Part
    task: Task
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]
    target_mean: float
    target_scale: float
    warnings: tuple[str, ...] = ()

    def decode(self, outputs: Float[np.ndarray, "n k"]) -> Shaped[np.ndarray, " n"]:
        """Turn network outputs into class indices, or into values in the unit of the target."""
        outputs = np.asarray(outputs)
        if self.task == "regression":
            return self.target_mean + self.target_scale * outputs[:, 0]
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0).astype(np.int64)
        return np.argmax(outputs, axis=1)


def standardise(train: Dataset, test: Dataset) -> Standardised:
    r"""Bring features and targets to mean 0 and variance 1, by the training part alone.

    Features: $(x - m)/s$ with the training mean $m$ and standard deviation $s$ (divisor n);
    features that are constant in the training part are dropped, with a warning.
    Targets: for k > 2 classes the centred one-hot rows $e_c - 1/k$; for two classes one column of
    -1 and +1; for regression $(y - m)/s$.

    >>> from widthwise.data import load
    >>> ready = standardise(*split(load("digits")))
    >>> ready.train.X.shape, ready.train.targets.shape
    ((1438, 61), (1438, 10))
    >>> ready.decode(ready.test.targets)[:3] == ready.test.y[:3]
    array([ True,  True,  True])
    """
    scale = FeatureScale.of(train)
    mean, spread = target_scale(train)
    train_part, test_part = (Part(scale(part.X), _targets(part, mean, spread), part.y) for part in (train, test))
    names = tuple(name for name, keep in zip(train.feature_names, scale.varies, strict=True) if keep)
    dropped = [name for name, keep in zip(train.feature_names, scale.varies, strict=True) if not keep]
    warnings = (*train.warnings, *_dropped(dropped))
    return Standardised(train_part, test_part, train.task, names, train.classes, mean, spread, warnings)


@dataclass(frozen=True, eq=False)
class FeatureScale:
    r"""The map $x \mapsto (x/b - m)/s$ on the features that vary; b bounds |x|, so that no square overflows."""

    bound: Float[np.ndarray, " d"]
    mean: Float[np.ndarray, " d"]
    spread: Float[np.ndarray, " d"]
    varies: Bool[np.ndarray, " d"]

    @classmethod
    def of(cls, train: Dataset | Inputs) -> "FeatureScale":
        """Measure the scale of some rows; refuse them when no feature varies."""
        bound = np.max(np.abs(train.X), axis=0, initial=0.0)
        bound[bound == 0] = 1.0
        unit = train.X / bound
        varies = np.ptp(unit, axis=0) > _ROUNDING
        if not varies.any():
            reject(
                f"All {train.X.shape[1]} features of {train.name} are constant in its {len(train.X)} rows",
                "At least one feature differs between the rows that are learned from",
                "Bring more data, or choose another seed for the split",
            )
        return cls(bound, unit.mean(axis=0), np.where(varies, unit.std(axis=0), 1.0), varies)

    def __call__(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
        return ((X / self.bound - self.mean) / self.spread)[:, self.varies]


def _dropped(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    what = "feature is" if len(names) == 1 else "features are"
    return (f"{len(names)} {what} constant in the training part and left out: {listed(names)}",)


def target_scale(train: Dataset) -> tuple[float, float]:
    """Return mean and standard deviation of the training targets; 0 and 1 for classes."""
    if train.task == "classification":
        return 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = float(train.y.mean()), float(train.y.std())
    if not np.isfinite(spread) or np.ptp(train.y) <= _ROUNDING * np.max(np.abs(train.y)):
        reject(
            f"The target of {train.name} is constant in the training part, or too large to square",
            "Training targets differ, and are below 1e150",
            "Bring more data, or change the unit of the target",
        )
    return mean, spread


def _targets(part: Dataset, mean: float, spread: float) -> Float[np.ndarray, "n k"]:
    classes = len(part.classes)
    if part.task == "regression":
        return ((part.y - mean) / spread)[:, None]
    if classes == 2:
        return (2.0 * part.y - 1.0)[:, None]
    return np.eye(classes)[part.y] - 1.0 / classes
