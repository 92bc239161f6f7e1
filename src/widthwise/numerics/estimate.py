"""A number and how wrong it may be."""

from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike


class Estimate(eqx.Module):
    r"""A value together with a bound on its error, $|\text{value} - \text{truth}| \le \text{error}$.

    For a quantity averaged over random draws the error is its standard error instead; whoever
    makes the estimate says which. Both fields have the same shape after broadcasting.

    >>> Estimate(2.0, 0.1)
    Estimate(value=2.0, error=0.1)
    >>> Estimate.exact(3.0).error
    0.0
    """

    value: Any
    error: Any = 0.0

    @classmethod
    def exact(cls, value: ArrayLike) -> "Estimate":
        """Make an estimate that is right to the last digit."""
        return cls(value, 0.0)

    @classmethod
    def rounded(cls, value: ArrayLike, ulps: float = 64.0) -> "Estimate":
        r"""Make an estimate of a float64 computation: error $= \text{ulps}\cdot 2^{-52}\max|\text{value}|$."""
        array = np.asarray(value, dtype=float)
        scale = float(np.max(np.abs(array), initial=0.0))
        return cls(value, ulps * 2.0**-52 * scale)
