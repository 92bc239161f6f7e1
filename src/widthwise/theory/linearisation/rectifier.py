r"""The worst departure of a shallow rectifier network from its tangent in a ball, by sorting.

Legend: $f(x; W) = \gamma\sum_ja_j\sigma(w_j^\top x)$ with $\sigma(z) = \max(z, 0) + \nu\min(z, 0)$,
$z_j = w_{0,j}^\top x$, $c_j = \gamma|1-\nu||a_j|$. A neuron whose pre-activation moves by t against the sign of $z_j$
is off by $c_j(t - |z_j|)_+$, with the sign of $a_j$; so only the movement along x counts, and only neurons with one
sign of $a_j$ are moved. Where $z_j = 0$ the tangent has the slope s that JAX takes there, and $c_j$ has
$\max(|1-s|, |s-\nu|)$ for $|1-\nu|$. Over $\|W-W_0\|_F \le B$
$$\sup|f-\tilde f| = \max_S\Big(B\|x\|\big(\textstyle\sum_{j\in S}c_j^2\big)^{1/2} - \sum_{j\in S}c_j|z_j|\Big).$$
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from widthwise.activations import Activation, negative_slope
from widthwise.numerics import reject

from ..lazy import Shallow
from .search import demand_radius


class WorstCase(NamedTuple):
    r"""The supremum lies between ``low``, which ``displacement`` (m, d) attains, and ``high``.

    Both are equal, and it is known exactly, where all $|a_j|$ are.
    """

    low: float
    high: float
    displacement: Float[np.ndarray, "m d"]

    @property
    def exact(self) -> bool:
        """Whether both ends are equal."""
        return self.low == self.high


def rectifier_worst_case(net: Shallow, x: ArrayLike, radius: float) -> WorstCase:
    r"""The largest $|f(x; W)-\tilde f(x; W)|$ over $\|W-W_0\|_F \le B$ = ``radius``, for one input x (d,).

    Where all $|a_j|$ are equal the best S are the neurons nearest to their kink, so that it is exactly
    $\gamma|a||1-\nu|\max_k(\sqrt kB\|x\| - \sum_{i\le k}|z|_{(i)})$ over each sign of $a_j$. Otherwise the best set
    in the order of $|z_j|/c_j$ gives the lower end, and the same with a fraction of one neuron the upper.

    Raises ``ValueError`` for an activation that is no rectifier (relu, leaky_relu, abs), a wrong input and a wrong
    radius. Derived here.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.array([[0.1], [-0.2], [5.0], [1.0]]), jnp.array([1.0, 1, 1, -1]), activation("relu"), 0.5)
    >>> worst = rectifier_worst_case(net, [1.0], 1.0)
    >>> round(worst.low, 8), worst.exact, np.abs(worst.displacement).ravel().round(4).tolist()
    (0.55710678, True, [0.7071, 0.7071, 0.0, 0.0])
    """
    x = np.asarray(x, dtype=float)
    W, a = np.asarray(net.W, dtype=float), np.asarray(net.signs, dtype=float)
    demand_radius(radius)
    if x.shape != W.shape[1:] or not np.all(np.isfinite(x)):
        reject(f"an input of shape {x.shape}", f"It is one finite vector ({W.shape[1]},)", "Give one row of X")
    size, z = float(np.linalg.norm(x)), W @ x
    jump, away = _jumps(net.activation, z)
    c = abs(net.scale) * jump * np.abs(a)
    classes = [_best(np.abs(z), np.where(np.sign(a) == sign, c, 0.0), radius * size) for sign in (1.0, -1.0)]
    low, _, moved = max(classes, key=lambda one: one[0])
    high = max(one[1] for one in classes)
    shares = c * moved
    along = radius * shares / max(float(np.linalg.norm(shares)), 1e-300) * away
    return WorstCase(low, high, np.outer(along, x / size if size else x))


def _jumps(s: Activation, z: Float[np.ndarray, " m"]) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """By how much the slope of each neuron is wrong beyond its kink, and on which side of it that lies."""
    below = rectifier_slope(s)
    with jax.enable_x64(True):
        at_zero = float(jax.grad(s.fn)(jnp.zeros(())))
    up, down = abs(1.0 - at_zero), abs(at_zero - below)
    away = np.where(z > 0, -1.0, np.where(z < 0, 1.0, 1.0 if up >= down else -1.0))
    return np.where(z == 0, max(up, down), abs(1.0 - below)), away


def rectifier_slope(s: Activation) -> float:
    """The slope below zero of a rectifier; raises ``ValueError`` for other activations."""
    slope = negative_slope(s.closed)
    if slope is None:
        reject(
            f"the activation {s.name}",
            "The exact worst case is known for rectifiers: relu, leaky_relu, abs",
            "Use adversarial_gap for a lower bound, and taylor_error_bound where it is smooth",
        )
    return slope


def _best(near: np.ndarray, c: np.ndarray, reach: float) -> tuple[float, float, np.ndarray]:
    """The best set among neurons with c > 0, its value, and the value with a fraction of one more."""
    order = np.flatnonzero(c > 0)
    order = order[np.argsort(near[order] / c[order], kind="stable")]
    weight, cost = c[order] ** 2, c[order] * near[order]
    areas, costs = (np.concatenate([[0.0], np.cumsum(part)]) for part in (weight, cost))
    values = reach * np.sqrt(areas) - costs
    best, moved = int(np.argmax(values)), np.zeros(len(c))
    moved[order[:best]] = 1.0
    low = float(values[best])
    if reach == 0.0 or len(order) == 0 or np.all(c[order] == c[order[0]]):
        return low, low, moved
    with np.errstate(divide="ignore"):
        peak = np.clip((0.5 * reach * weight / cost) ** 2, areas[:-1], areas[1:])
    partly = reach * np.sqrt(peak) - costs[:-1] - (peak - areas[:-1]) / weight * cost
    return low, max(low, float(np.max(partly))), moved
