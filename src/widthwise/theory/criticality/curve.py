r"""The edge of chaos: where two near inputs neither merge nor part.

Legend as in ``moments``. At every variance q there is one weight and one bias variance for which q is kept and
$\chi_\perp = 1$: $C_w(q) = 1/m_1(q)$, $C_b(q) = q - C_w(q)m_0(q)$, which is a variance where it is not negative. On
the curve
$\chi_\parallel = m_2/m_1$, which is one at the critical points alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as find_activation
from widthwise.numerics import Estimate, reject, shown

from .moments import check_signal, moments
from .solve import GAP, edge, root, sign_changes

_SPAN = np.geomspace(1e-3, 1e2, 201)


@dataclass(frozen=True, eq=False)
class EdgeOfChaos:
    r"""The curve at the variances q (n,): $C_w(q)$, $C_b(q)$ and $\chi_\parallel(q)$, with bounds on their errors."""

    activation: Activation
    variances: Float[np.ndarray, " n"]
    weight_variance: Estimate
    bias_variance: Estimate
    chi_parallel: Estimate

    def __repr__(self) -> str:
        parts = (self.variances, self.weight_variance.value, self.bias_variance.value)
        q, weight, bias = map(shown, parts)
        return f"EdgeOfChaos({self.activation.name}, variances={q}, weight_variance={weight}, bias_variance={bias})"

    @property
    def reachable(self) -> Bool[np.ndarray, " n"]:
        """Where the bias variance is not negative, up to its error."""
        return self.bias_variance.value >= -self.bias_variance.error

    def at_bias_variance(self, bias_variance: float) -> "EdgeOfChaos":
        r"""The points of the curve with this $C_b$, by the roots of $C_b(q)$ between the variances of the curve.

        Raises ``ValueError`` for a negative $C_b$, where the curve does not pass through it, and where it stays there
        over a range of variances up to rounding, as that of the rectifier does at $C_b = 0$.

        >>> point = edge_of_chaos("tanh").at_bias_variance(0.05)
        >>> point.weight_variance.value.round(9), point.variances.round(9)
        (array([1.76095464]), array([0.57004788]))
        """
        _check_bias(bias_variance)
        off, error = self.bias_variance.value - bias_variance, self.bias_variance.error
        level = np.flatnonzero(np.isfinite(off) & (np.abs(off) <= error))
        if level.size > GAP:
            reject(
                f"bias_variance={bias_variance}, which {self.activation.name} has on its edge of chaos at all of "
                f"{level.size} variances from {self.variances[level[0]]:.4g} to {self.variances[level[-1]]:.4g}",
                "A curve is cut where it passes through a bias variance",
                "Read weight_variance of the curve there, or take critical_init",
            )
        turns = sign_changes(Estimate(off, error))
        exact = self.variances[[i for i in level if off[i] == 0.0 and not any(a < i < b for a, b in turns)]]

        def miss(log_q: float) -> float:
            return float(edge(moments(self.activation, np.array([math.exp(log_q)])))[1].value[0]) - bias_variance

        ends = np.log(self.variances)
        roots = [math.exp(root(miss, float(ends[i]), float(ends[j]))) for i, j in turns]
        if not roots and not exact.size:
            reject(
                f"bias_variance={bias_variance}, which the edge of chaos of {self.activation.name} does not meet",
                f"Between the variances searched C_b goes from {np.nanmin(self.bias_variance.value):.4g} to "
                f"{np.nanmax(self.bias_variance.value):.4g}",
                "Choose one between, or follow the curve over other variances",
            )
        return _curve(self.activation, np.sort(np.concatenate([roots, exact])))


def edge_of_chaos(activation: str | Activation | Callable, variances: ArrayLike | None = None) -> EdgeOfChaos:
    r"""Follow the edge of chaos, $\chi_\perp = 1$, along the variance q of the pre-activations.

    $C_w(q) = 1/E_q\sigma'^2$ and $C_b(q) = q - C_w(q)E_q\sigma^2$; points with $C_b < 0$ are kept, and ``reachable``
    tells
    them.

    Args:
        activation: a name, an `Activation` or a function.
        variances: increasing positive variances (n,); by default 201 from 1e-3 to 1e2.

    Raises ``ValueError`` for what is no activation, and for variances that are not positive, finite and increasing.
    Sources: poole2016exponential, schoenholz2017deep, hayou2019impact.

    >>> curve = edge_of_chaos("erf", [1.0])
    >>> curve.weight_variance.value.round(9), curve.bias_variance.value.round(9)
    (array([1.75620368]), array([0.18413968]))
    """
    act = find_activation(activation)
    check_signal(act)
    q = _SPAN if variances is None else np.atleast_1d(np.asarray(variances, dtype=float))
    if q.ndim != 1 or not q.size or not np.all(np.isfinite(q) & (q > 0)) or np.any(np.diff(q) <= 0):
        reject(
            f"variances {variances!r}",
            "Variances are finite, positive and in increasing order",
            "Give for example variances=np.geomspace(0.01, 10, 50)",
        )
    return _curve(act, q)


def _curve(act: Activation, q: np.ndarray) -> EdgeOfChaos:
    weight, bias, parallel, _ = edge(moments(act, q))
    return EdgeOfChaos(act, q, weight, bias, parallel)


def _check_bias(bias_variance: float) -> None:
    if not (math.isfinite(bias_variance) and bias_variance >= 0):
        reject(
            f"bias_variance={bias_variance}", "A variance is a finite number of at least 0", "Give bias_variance=0.05"
        )
