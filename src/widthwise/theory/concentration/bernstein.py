r"""The matrix Bernstein inequality: how far a sum of independent random matrices strays from zero.

Legend: $S_1, S_2, \dots$ independent random matrices of shape $(d_1, d_2)$ with mean zero, $\|S_j\| \le L$ always,
$v = \max(\|\sum_jE\,S_jS_j^\top\|, \|\sum_jE\,S_j^\top S_j\|)$, all norms spectral.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from widthwise.numerics import demand_count, reject


@dataclass(frozen=True)
class Bernstein:
    r"""The bound $P(\|\sum_jS_j\| \ge t) \le (d_1+d_2)\exp\frac{-t^2/2}{v+Lt/3}$, its inverse and its mean.

    ``variance`` v, ``bound`` L, ``dimension`` $d_1 + d_2$. Made by ``bernstein``.
    """

    variance: float
    bound: float
    dimension: int

    def tail(self, t: ArrayLike):
        r"""Bound $P(\|\sum_jS_j\| \ge t)$ for $t \ge 0$, at most 1; of the shape of t.

        Raises ``ValueError`` for a negative t and for NaN.

        >>> round(float(bernstein(400.0, 1.0).tail(40.0)), 4)
        0.2887
        """
        t = np.asarray(t, dtype=float)
        if not np.all(t >= 0):
            reject(f"a distance of {np.min(t)}", "A distance is at least 0", "Give for example t=1.0")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            exponent = -0.5 * t**2 / (self.variance + self.bound * t / 3.0)
        # Without any spread the sum is zero, which is at no distance above 0.
        exponent = np.where(t == 0.0, 0.0, np.nan_to_num(exponent, nan=-math.inf, neginf=-math.inf))
        return np.minimum(1.0, self.dimension * np.exp(exponent))

    def radius(self, delta: float) -> float:
        r"""The $t_\delta$ beyond which $\|\sum_jS_j\|$ lies with probability at most $\delta$.

        $t_\delta = \frac{\ell L}3 + \sqrt{(\frac{\ell L}3)^2 + 2v\ell}$ with $\ell = \ln\frac{d_1+d_2}\delta$, the
        inverse of ``tail``. Raises ``ValueError`` for a probability outside of (0, 1).

        >>> found = bernstein(400.0, 1.0)
        >>> round(float(found.tail(found.radius(0.01))), 12)
        0.01
        """
        check_probability(delta)
        return self._radius(math.log(self.dimension / delta))

    @property
    def mean(self) -> float:
        r"""The bound $E\|\sum_jS_j\| \le \sqrt{2v\ln(d_1+d_2)} + \frac L3\ln(d_1+d_2)$.

        >>> round(bernstein(400.0, 1.0).mean, 4)
        23.7792
        """
        logarithm = math.log(self.dimension)
        return math.sqrt(2.0 * self.variance * logarithm) + self.bound * logarithm / 3.0

    def _radius(self, logarithm: float) -> float:
        linear = logarithm * self.bound / 3.0
        return linear + math.sqrt(linear**2 + 2.0 * self.variance * logarithm)


def bernstein(variance: float, bound: float, shape: tuple[int, int] = (1, 1)) -> Bernstein:
    r"""The matrix Bernstein inequality for sums of independent matrices of mean zero.

    Args:
        variance: v, the larger norm of $\sum_jE\,S_jS_j^\top$ and $\sum_jE\,S_j^\top S_j$.
        bound: L, above every $\|S_j\|$; infinite where there is none: then nothing is said.
        shape: $(d_1, d_2)$; the default is that of numbers.

    Raises ``ValueError`` for a negative variance or bound, for NaN, and for sizes below 1.
    Source: tropp2015introduction.

    >>> bernstein(400.0, 1.0, (8, 10)).dimension
    18
    """
    if not (variance >= 0 and bound >= 0):
        reject(
            f"variance={variance}, bound={bound}",
            "Both are at least 0",
            "Give the norm of the sum of the mean squares, and a bound on the norm of every summand",
        )
    rows, columns = (demand_count("shape", size, least=1) for size in shape)
    return Bernstein(float(variance), float(bound), rows + columns)


def check_probability(delta: float) -> None:
    """Refuse what is no probability of failure."""
    if not 0 < delta < 1:
        reject(f"delta={delta}", "A probability of failure lies between 0 and 1", "Give for example delta=0.05")
