r"""The tangent (linearised) model in closed form: gradient flow and gradient descent.

Legend: n outputs on the training set, p parameters, $J = Df(w_0) = U\,\mathrm{diag}(s)\,V^\top$
(n, p), $S = \alpha s$, $r_0 = \alpha f(w_0) - y$ (n,), $u(t)$ the parameters of the tangent model
$f^{lin}(u) = f(w_0) + J(u - w_0)$, and $c = U^\top r_0$.

Conventions of the loss, by name:
``"half-sum"``   $\tfrac12\|\alpha f - y\|^2$,
``"half-mean"``  $\tfrac1{2n}\|\alpha f - y\|^2$: the same path, its clock slower by $n$.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.numerics import Steps, gain, left, reject

LOSSES = ("half-sum", "half-mean")


class Tangent(eqx.Module):
    r"""The tangent model with its training path $u(t)$, built by ``tangent``.

    Every method takes a time t >= 0 of the flow $\dot u = -\nabla_u$ loss (a number, an array of
    times, or ``jnp.inf``), or ``Steps`` of gradient descent on the same loss. Arrays of times come
    first in the answer's shape. ``singular_values`` are those of $J$, largest first, exactly zero
    where they are nothing but rounding.
    """

    U: Float[Array, "n k"]
    singular_values: Float[Array, " k"]
    Vt: Float[Array, "k p"]
    f0: Float[Array, " n"]
    y: Float[Array, " n"]
    alpha: float
    loss: str = eqx.field(static=True, default="half-sum")

    @property
    def initial_residual(self) -> Float[Array, " n"]:
        r"""$r_0 = \alpha f(w_0) - y$."""
        return self.alpha * self.f0 - self.y

    @property
    def rank(self) -> int:
        """The numerical rank of J."""
        return int(np.count_nonzero(np.asarray(self.singular_values)))

    @property
    def sigma_min(self) -> float:
        r"""The smallest of the n singular values of J: zero when J has no full row rank."""
        return float(self.singular_values[-1]) if self.rank == self.y.size else 0.0

    @property
    def sigma_max(self) -> float:
        """The largest singular value of J."""
        return float(self.singular_values[0])

    def displacement(self, time) -> Float[Array, "*times p"]:
        r"""$u(t) - w_0 = -V\,\mathrm{diag}\big(\frac{1-e^{-S^2t}}{S}\big)\,U^\top r_0$, of minimal norm at all times.

        >>> model = tangent([[1.0, 0, 1], [0, 2, 1]], f0=[0.5, -0.2], y=[1.0, 1.0])
        >>> np.round(model.displacement(0.7) + np.array([0.1, 0.2, 0.3]), 8).tolist()
        [0.22023376, 0.62443128, 0.6324494]
        """
        return _over(time, lambda one: -(self._gain(one) * self._coordinates) @ self.Vt)

    def residual(self, time) -> Float[Array, "*times n"]:
        r"""$\alpha f^{lin}(u(t)) - y = U e^{-S^2t}U^\top r_0 + (I - UU^\top)r_0$."""
        return _over(time, lambda one: self.U @ (self._survival(one) * self._coordinates) + self._stuck)

    def predictions(self, time) -> Float[Array, "*times n"]:
        r"""$\alpha f^{lin}(u(t))$ on the training set."""
        return _over(time, lambda one: self.residual(one) + self.y)

    def test_predictions(self, f_test: ArrayLike, J_test: ArrayLike, time) -> Float[Array, "*times q"]:
        r"""$\alpha f^{lin}(x; u(t)) = \alpha f(x; w_0) + \alpha J(x)(u(t) - w_0)$ on other inputs.

        ``f_test`` (q,) and ``J_test`` (q, p) are the network's outputs and Jacobian there at $w_0$.
        """
        f_test, J_test = jnp.asarray(f_test), jnp.asarray(J_test)
        return _over(time, lambda one: self.alpha * (f_test + J_test @ self.displacement(one)))

    def distance(self, time=jnp.inf) -> Float[Array, "*times"]:
        r"""$\|u(t) - w_0\|$, increasing to $\sqrt{r_0^\top K^{-1} r_0}/\alpha$ with $K = JJ^\top$."""
        return _over(time, lambda one: jnp.linalg.norm(self._gain(one) * self._coordinates))

    def risk(self, time) -> Float[Array, "*times"]:
        r"""The training loss $\tfrac12\|r(t)\|^2$, divided by n under ``"half-mean"``."""
        return _over(time, lambda one: 0.5 * jnp.sum(self.residual(one) ** 2) / self._clock)

    @property
    def risk_floor(self) -> float:
        r"""The loss that stays: $\tfrac12\|(I-P)r_0\|^2$ (over n under ``"half-mean"``), P onto the range of J."""
        return float(self.risk(jnp.inf))

    @property
    def path_bound(self) -> float:
        r"""Bound the length of the path of $u$: $\|P r_0\|/(\alpha\sigma)$, $\sigma$ the least singular value above 0.

        >>> model = tangent([[1.0, 0, 1], [0, 2, 1]], f0=[0.5, -0.2], y=[1.0, 1.0])
        >>> round(model.path_bound, 10), round(float(model.distance()), 10)
        (0.997869443, 0.570574759)
        """
        moving = np.asarray(self.singular_values) > 0
        if not moving.any():
            return 0.0
        least = float(np.asarray(self.singular_values)[moving].min())
        return float(np.linalg.norm(np.asarray(self._coordinates)[moving])) / (self.alpha * least)

    @property
    def _coordinates(self) -> Float[Array, " k"]:
        return self.U.T @ self.initial_residual

    @property
    def _stuck(self) -> Float[Array, " n"]:
        """The part of the residual outside the span of U; none when U is square."""
        if self.U.shape[0] == self.U.shape[1]:
            return jnp.zeros_like(self.y)
        return self.initial_residual - self.U @ self._coordinates

    @property
    def _clock(self) -> int:
        return self.y.size if self.loss == "half-mean" else 1

    @property
    def _rates(self) -> Float[Array, " k"]:
        return (self.alpha * self.singular_values) ** 2 / self._clock

    def _survival(self, one) -> Float[Array, " k"]:
        """The fraction of each component of the residual that is left."""
        return left(self._rates, one)

    def _gain(self, one) -> Float[Array, " k"]:
        r"""$(1-e^{-S^2t})/S$, and 0 in directions in which the model cannot move."""
        return self.alpha * self.singular_values * gain(self._rates, one) / self._clock


def _over(time, at_one: Callable[[Any], Array]) -> Array:
    """Evaluate at one moment, or at each of an array of times."""
    if isinstance(time, Steps):
        return at_one(time)
    time = jnp.asarray(time, dtype=float)
    rows = jax.vmap(at_one)(time.ravel())
    return rows.reshape(*time.shape, *rows.shape[1:])


def tangent(J: ArrayLike, f0: ArrayLike, y: ArrayLike, alpha: float = 1.0, loss: str = "half-sum") -> Tangent:
    r"""Build the tangent model of a network at $w_0$ from its Jacobian on the training set.

    ``J`` (n, p) $= Df(w_0)$ in the network's own scale, ``f0`` (n,) $= f(w_0)$, ``y`` (n,) the
    targets, ``alpha`` > 0 the factor on the output. One thin SVD of J, never of $JJ^\top$, which
    would lose half the digits of the small singular values. Any rank and any n, p are allowed.

    Raises ``ValueError`` for shapes that do not fit, numbers that are not finite, alpha <= 0 and an
    unknown loss. Source: bartlett2021deep, chizat2019lazy.

    >>> model = tangent([[1.0, 0, 1], [2, 0, 2], [0, 1, 0]], f0=[0.0, 0, 0], y=[1.0, 1, 1])
    >>> np.round(model.displacement(jnp.inf), 12).tolist(), round(model.risk_floor, 12)
    ([0.3, 1.0, 0.3], 0.1)
    """
    J, f0, y = (np.asarray(part, dtype=float) for part in (J, f0, y))
    _check(J, f0, y, alpha, loss)
    U, s, Vt = np.linalg.svd(J, full_matrices=False)
    s = np.where(s > max(J.shape) * np.finfo(float).eps * s[0], s, 0.0)
    return Tangent(*(jnp.asarray(part) for part in (U, s, Vt, f0, y)), alpha=float(alpha), loss=loss)


def _check(J: np.ndarray, f0: np.ndarray, y: np.ndarray, alpha: float, loss: str) -> None:
    if J.ndim != 2 or J.size == 0 or f0.shape != (J.shape[0],) or y.shape != f0.shape:
        reject(
            f"J of shape {J.shape}, f0 of shape {f0.shape}, y of shape {y.shape}",
            "They are (n, p), (n,) and (n,) with n outputs on the training set and p parameters, none zero",
            "Flatten several outputs per input into n rows",
        )
    for name, part in (("J", J), ("f0", f0), ("y", y)):
        if not np.all(np.isfinite(part)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
            reject(
                f"{name}{list(where)} is {part[where]}",
                "Every entry is a finite number",
                "Look for the first layer that overflows",
            )
    if not (math.isfinite(alpha) and alpha > 0):
        reject(
            f"alpha={alpha}", "The factor on the output is a positive number", "Give alpha=1.0 for the network as it is"
        )
    if loss not in LOSSES:
        reject(f"loss={loss!r}", f"The conventions are {' and '.join(map(repr, LOSSES))}", "Choose one by name")
