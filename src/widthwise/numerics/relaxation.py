r"""What gradient descent leaves of an error: the functions of a rate by which linear models train.

Legend: $\lambda \ge 0$ the rates (eigenvalues of a kernel, in the units of the loss), t a time of
the flow $\dot r = -\lambda r$, or s steps of size $\eta$ of $r \leftarrow (1 - \eta\lambda)r$. Arrays of
NumPy and of JAX give arrays of the same kind.
"""

from typing import Any

import equinox as eqx
import numpy as np

_HUGE = 1e60  # can be squared twice


class Steps(eqx.Module):
    """A moment of gradient descent: ``count`` steps of size ``size``; given wherever a flow time is."""

    count: int
    size: float


def left(rates: Any, moment: Any) -> Any:
    r"""The part that is left, $e^{-\lambda t}$ or $(1-\eta\lambda)^s$, within $\pm10^{60}$; 1 where $\lambda = 0$.

    >>> left(np.array([0.0, 1.0]), np.inf).tolist(), left(np.array([0.5]), Steps(2, 1.0)).tolist()
    ([1.0, 0.0], [0.25])
    """
    xp = rates.__array_namespace__()
    if isinstance(moment, Steps):
        # A step far beyond the stable one overflows; the clipped value is still absurd.
        with np.errstate(over="ignore"):
            return xp.clip((1.0 - moment.size * rates) ** moment.count, -_HUGE, _HUGE)
    return xp.where(rates > 0, xp.exp(-_positive(xp, rates) * moment), 1.0)


def gone(rates: Any, moment: Any) -> Any:
    r"""The part that is gone, $1 - e^{-\lambda t}$ or $1 - (1-\eta\lambda)^s$, without cancellation where it is small.

    >>> gone(np.array([0.0, 1e-20]), 1.0).tolist(), gone(np.array([1e-20]), Steps(2, 1.0)).tolist()
    ([0.0, 1e-20], [2e-20])
    """
    xp = rates.__array_namespace__()
    if not isinstance(moment, Steps):
        return xp.where(rates > 0, -xp.expm1(-_positive(xp, rates) * moment), 0.0)
    step = moment.size * rates
    slow = -xp.expm1(moment.count * xp.log1p(-xp.minimum(step, 0.5)))
    return xp.where(step < 0.5, slow, 1.0 - left(rates, moment))


def gain(rates: Any, moment: Any) -> Any:
    r"""What is gone over its rate, $\frac{1-e^{-\lambda t}}\lambda = t\,\varphi_1(-\lambda t)$; 0 where $\lambda = 0$.

    There nothing can move, so that the limit t would only multiply what rounding left.

    >>> gain(np.array([0.0, 1e-20, 2.0]), np.inf).tolist(), gain(np.array([1e-20]), 3.0).tolist()
    ([0.0, 1e+20, 0.5], [3.0])
    """
    xp = rates.__array_namespace__()
    return xp.where(rates > 0, gone(rates, moment) / _positive(xp, rates), 0.0)


def _positive(xp: Any, rates: Any) -> Any:
    """The rates, 1 in the place of 0."""
    return xp.where(rates > 0, rates, 1.0)
