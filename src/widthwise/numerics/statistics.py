"""Means, intervals and exponents with their uncertainty."""

import math

import numpy as np
import scipy  # scipy.stats is loaded when it is first used
from numpy.typing import ArrayLike

from .errors import reject
from .estimate import Estimate


def mean_and_sem(draws: ArrayLike) -> Estimate:
    r"""Average independent draws along their first axis: mean and $s/\sqrt{k}$ ($s$ with $k-1$).

    The standard error of a single draw is infinite: one number says nothing of its spread.

    >>> mean_and_sem([1.0, 2.0, 3.0]).value.item()
    2.0
    """
    array = np.asarray(draws, dtype=float)
    count = array.shape[0] if array.ndim else 0
    if count == 0:
        reject("no draws came", "A mean needs at least one draw", "Draw at least once")
    if count == 1:
        return Estimate(array[0], np.full(array.shape[1:], math.inf))
    return Estimate(array.mean(axis=0), array.std(axis=0, ddof=1) / math.sqrt(count))


def binomial_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    r"""Wilson's score interval for a proportion (Wilson 1927).

    $\frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}$.

    >>> [round(p, 4) for p in binomial_interval(9, 10)]
    [0.5958, 0.9821]
    """
    if not 0 <= successes <= trials or trials < 1:
        reject(f"{successes} successes in {trials} trials", "0 <= successes <= trials, trials >= 1", "Check the counts")
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(values: ArrayLike, statistic, seed: int = 0, level: float = 0.95, resamples: int = 2000):
    """Percentile bootstrap interval of ``statistic`` over rows of ``values`` (Efron 1979).

    >>> low, high = bootstrap_interval(np.arange(100.0), np.mean)
    >>> bool(40 < low < 49.5 < high < 59)
    True
    """
    array, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    picks = rng.integers(0, len(array), size=(resamples, len(array)))
    replicas = np.array([statistic(array[pick]) for pick in picks])
    tail = 50.0 * (1.0 - level)
    return float(np.percentile(replicas, tail)), float(np.percentile(replicas, 100.0 - tail))


def exponent(sizes: ArrayLike, values: ArrayLike) -> float:
    r"""Fit $p$ in $y(n) = C_0\,n^p\,e^{C_1/n}$, i.e. a power law with its first finite-size correction.

    A naive log-log line reads the $1/n$ correction as a part of the exponent. Least squares in
    $(\log C_0, p, C_1)$; at least four sizes.

    >>> n = np.array([64.0, 128, 256, 512, 1024])
    >>> round(exponent(n, n**-0.5 * (1 + 3 / n)), 3)
    -0.5
    """
    sizes, values = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    if sizes.size < 4 or np.any(sizes <= 0) or np.any(values <= 0):
        reject(
            f"{sizes.size} sizes, smallest value {values.min():g}", "At least 4 sizes and positive values", "Add sizes"
        )
    design = np.stack([np.log(sizes), np.ones_like(sizes), sizes.min() / sizes], axis=1)
    return float(np.linalg.lstsq(design, np.log(values), rcond=None)[0][0])


def exponent_estimate(sizes: ArrayLike, draws: ArrayLike, seed: int = 0, resamples: int = 400) -> Estimate:
    """Fit ``exponent`` to the root mean square over draws (draws, sizes); error by bootstrap over draws."""
    squares, rng = np.asarray(draws, dtype=float) ** 2, np.random.default_rng(seed)
    picks = rng.integers(0, len(squares), size=(resamples, len(squares)))
    replicas = [exponent(sizes, np.sqrt(squares[pick].mean(axis=0))) for pick in picks]
    return Estimate(exponent(sizes, np.sqrt(squares.mean(axis=0))), float(np.std(replicas, ddof=1)))
