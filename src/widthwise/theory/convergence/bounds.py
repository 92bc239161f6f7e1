r"""The table of convergence rates of gradient descent and gradient flow, with every factor.

Legend: F the loss, $\beta$ the Lipschitz constant of $\nabla F$, $\lambda$ strong convexity, R the distance
$\|w_0 - z\|$ to a reference point z, $\Delta = F(w_0) - \inf F$. t is the time of the flow $\dot w = -\nabla F(w)$;
with ``smoothness`` $=\beta$ it is the number of steps $w_{i+1} = w_i - \frac1\beta\nabla F(w_i)$. Steps
$\eta < 1/\beta$ have the same bounds with $1/\eta$ for $\beta$, because F is $1/\eta$-smooth too.
"""

import numpy as np

from widthwise.numerics import reject
from widthwise.theory.lazy import length_bounds, pl_decay, strongly_convex_decay


def _positive(t):
    if not np.all(np.asarray(t) > 0):
        reject(f"t={t}", "The bound is for times, or numbers of steps, above 0", "Leave the start out")
    return t


def _power(constant, smoothness, exponent):
    r"""$(1-\lambda/\beta)^k$, which is 1 for k = 0 and precise for many small steps."""
    if not np.all((np.asarray(constant) >= 0) & (np.asarray(constant) <= smoothness)):
        reject(
            f"a constant {constant} with smoothness={smoothness}",
            "A smooth F has constants of PL and of strong convexity from 0 to its smoothness",
            "Give both constants of one F",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = exponent * np.log1p(-constant / smoothness)
    return np.exp(np.where(np.asarray(exponent) == 0, 0.0, logs))


def stationarity_bound(gap, t, smoothness=None):
    r"""Bound the least $\|\nabla F\|^2$ up to t by $\frac{2\beta\Delta}t$ (steps i < t), or $\frac\Delta t$.

    ``gap`` $=\Delta$; convexity is not needed. Source: nesterov2018lectures, telgarsky2021deep.

    >>> stationarity_bound(3.0, 6.0), stationarity_bound(3.0, 6.0, smoothness=10.0)
    (0.5, 10.0)
    """
    return (1.0 if smoothness is None else 2.0 * smoothness) * gap / _positive(t)


def convex_bound(distance, t, smoothness=None):
    r"""Bound $F(w_t) - F(z)$ of a convex F by $\frac{\beta R^2}{2t}$, for the flow by $\frac{R^2}{2t}$; z is any point.

    ``distance`` $=R$. Source: nesterov2018lectures, telgarsky2021deep.

    >>> convex_bound(2.0, 4.0), convex_bound(2.0, 4.0, smoothness=10.0)
    (0.5, 5.0)
    """
    return distance**2 / (2.0 * _positive(t)) * (1.0 if smoothness is None else smoothness)


def last_iterate_bound(distance, t, smoothness=None):
    r"""The sharp form of `convex_bound` for a minimiser z: $\frac{\beta R^2}{4t+2}$, for the flow $\frac{R^2}{4t}$.

    A Huber function attains it. Source: drori2014performance; the flow's is the limit of small steps, derived here.

    >>> last_iterate_bound(1.0, 4.0), last_iterate_bound(1.0, 1.0, smoothness=9.0)
    (0.0625, 1.5)
    """
    return distance**2 / (4.0 * _positive(t)) if smoothness is None else smoothness * distance**2 / (4.0 * t + 2.0)


def strongly_convex_factor(convexity, t, smoothness=None):
    r"""Bound $F(w_t)-F_*$ and $\|w_t-\bar w\|^2$, each over its first value, by $(1-\lambda/\beta)^{2t}$.

    For the flow by $e^{-2\lambda t}$; both are attained. Source: taylor2018exact, nesterov2018lectures.

    >>> float(strongly_convex_factor(1.0, 2, smoothness=2.0))
    0.0625
    """
    if smoothness is None:
        return strongly_convex_decay(convexity, t)
    return _power(convexity, smoothness, 2.0 * t)


def pl_factor(pl, t, smoothness=None):
    r"""Bound $F(w_t)-F_*$ over its first value by $(1-\mu/\beta)^t$, for the flow by $e^{-2\mu t}$, under PL.

    ``pl`` $=\mu$ in the convention ``"half"``, $\tfrac12\|\nabla F\|^2 \ge \mu(F-F_*)$; convexity is not needed.
    That of descent is not sharp: in small steps it has half the exponent of the flow.
    Source: polyak1963gradient, karimi2016linear.

    >>> float(pl_factor(1.0, 2, smoothness=2.0))
    0.25
    """
    if smoothness is None:
        return pl_decay(pl, t, "half")
    return _power(pl, smoothness, t)


def length_bound(gap, t, smoothness=None, pl=None):
    r"""Bound the length of the path by $\sqrt{t\Delta}$, for descent by $\sqrt{2t\Delta/\beta}$.

    With ``pl`` $=\mu$ (convention ``"half"``) by $\sqrt{2\Delta/\mu}$, for descent by twice that, for all t. Those of
    descent are derived here: $\eta\|\nabla F\|^2 \le 2(F(w_i)-F(w_{i+1}))$ in place of
    $\|\nabla F\|^2 = -\frac d{dt}F$. Source of the flow's: telgarsky2021deep.

    >>> length_bound(4.0, 9.0), length_bound(4.0, 9.0, smoothness=2.0), length_bound(4.0, 9.0, pl=0.5)
    (6.0, 6.0, 4.0)
    """
    flow = length_bounds(gap, t, None if pl is None else 2.0 * pl)
    if smoothness is None:
        return flow
    return 2.0 * flow if pl is not None else (2.0 / smoothness) ** 0.5 * flow
