"""A number and how wrong it may be."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from numpy.typing import ArrayLike

# So many entries are printed; of more the shape and the range.
_MOST_SHOWN = 8


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

    def __repr__(self) -> str:
        return f"Estimate(value={shown(self.value)}, error={shown(self.error)})"

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


def shown(part: Any) -> str:
    """Print a number or an array in a few words, and what is only traced as what it is.

    >>> shown(np.float64(2.5)), shown(np.array([1.0, 0.25])), shown(np.linspace(0.0, 1.0, 12).reshape(3, 4))
    ('2.5', '[1.0, 0.25]', '<shape (3, 4), 0 to 1>')
    """
    try:
        array = np.asarray(part)
    except (jax.errors.TracerArrayConversionError, ValueError):
        return eqx.tree_pformat(part)
    if array.dtype.kind not in "biuf":
        return eqx.tree_pformat(part)
    if array.size <= _MOST_SHOWN:
        return str(array.tolist())
    finite = array[np.isfinite(array)]
    extent = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "none finite"
    return f"<shape {array.shape}, {extent}>"
