r"""Gaussian moments of an activation at many variances at once, each with the error of its quadrature.

Legend: $z \sim N(0, K)$, $x = z/\sqrt K$; $m_0(K) = E\,\sigma(z)^2$, $m_1(K) = E\,\sigma'(z)^2$,
$m_2(K) = \frac1K E\,z\sigma\sigma' = m_0'(K)$ and
$\frac12m_0''(K) = \frac1{8K^2}E\,\sigma^2 He_4(x)$: no second derivative of $\sigma$ is needed, so that a kink does
no harm.
$h(K) = m_2/m_1 - 1 = \chi_\parallel/\chi_\perp - 1$, whatever the variances of weights and biases are.

Gauss-Legendre runs on panels that end at the kinks, at every half standard deviation and at powers of two, on which
a function of ordinary scale is resolved when $\sqrt K$ is large.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthwise.activations import Activation
from widthwise.numerics import Estimate, reject, unit_rule

_REACH = 13.0  # standard deviations
_EVEN = np.linspace(-_REACH, _REACH, 53)
_DYADIC = np.concatenate([-(2.0 ** np.arange(-3, 7)), 2.0 ** np.arange(-3, 7)])
_FINE, _COARSE = 18, 12
_ROUNDING = 8 * 2.0**-52
_SIDES = 1e-30  # how far beside a kink "beside" is
_JUMP = 1e-6
_CHUNK = 2**14


@dataclass(frozen=True, eq=False)
class Moments:
    r"""$m_0$, $m_1$, $m_2$ and $\frac12m_0''$ at variances K (k,), each an `Estimate` with a bound on its error."""

    variances: Float[np.ndarray, " k"]
    square: Estimate
    slope: Estimate
    growth: Estimate
    bend: Estimate

    @property
    def imbalance(self) -> Estimate:
        r"""$h = m_2/m_1 - 1$, zero where both $\chi$ can be one at once."""
        share = quotient(self.growth, self.slope)
        return Estimate(share.value - 1.0, share.error)


def moments(activation: Activation, variances: Float[np.ndarray, " k"]) -> Moments:
    r"""Integrate $m_0$, $m_1$, $m_2$ and $\frac12m_0''$ at positive variances; an error is inf where one overflows.

    >>> from widthwise.activations import ACTIVATIONS
    >>> found = moments(ACTIVATIONS["tanh"], np.array([0.7]))
    >>> round(float(found.growth.value[0]), 12), bool(found.growth.error < 1e-14)  # chi_parallel at C_w = 1
    (0.24958759879, True)
    """
    K = np.asarray(variances, dtype=float)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        (fine, size, tail), (coarse, _, _) = (_integrals(activation, K, n) for n in (_FINE, _COARSE))
        error = np.abs(fine - coarse) + _ROUNDING * size + tail
    sound = np.isfinite(fine) & np.isfinite(error)
    rows = zip(np.where(sound, fine, np.nan), np.where(sound, error, np.inf), strict=True)
    return Moments(K, *(Estimate(value, off) for value, off in rows))


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """The quotient of two estimates; nan, with an infinite error, where the divisor is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = above.value / below.value
        error = (above.error + np.abs(value) * below.error) / np.abs(below.value)
    return Estimate(value, np.where(np.isfinite(error), error, np.inf))


def times(factor: float | np.ndarray | Estimate, other: Estimate) -> Estimate:
    """The product of two estimates, or of a number and an estimate."""
    first = factor if isinstance(factor, Estimate) else Estimate.exact(factor)
    error = np.abs(first.value) * other.error + first.error * (np.abs(other.value) + other.error)
    return Estimate(first.value * other.value, error)


def check_signal(activation: Activation) -> None:
    """Refuse an activation that passes no signal on, or that jumps.

    A constant passes nothing on; where a function jumps, $E[s(u)s(v)]$ has infinite slope at equal inputs, and no
    weight variance makes $\\chi_\\perp$ one.
    """
    with jax.enable_x64(True):
        sides = jnp.asarray(
            [(b * (1 - 1e-12) - _SIDES, b * (1 + 1e-12) + _SIDES) for b in activation.kinks] or [(0, 0)]
        )
        left, right = np.sort(np.asarray(sides, dtype=float), axis=1).T
        jump = np.abs(np.asarray(activation(jnp.asarray(right))) - np.asarray(activation(jnp.asarray(left))))
    if np.any(jump > _JUMP):
        reject(
            f"activation {activation.name!r}, which jumps at {activation.kinks[int(np.argmax(jump))]:g}",
            "A critical initialisation needs a continuous activation: across a jump near inputs part at infinite rate",
            "Round the jump off, for example with jnp.tanh",
        )
    slopes = moments(activation, np.array([0.01, 1.0, 100.0])).slope.value
    if np.all(slopes == 0.0):
        reject(
            f"activation {activation.name!r}, whose slope is zero",
            "An activation passes a signal on",
            "Choose one that is not constant",
        )


def hermite_squares(activation: Activation, variances: Float[np.ndarray, " k"], degree: int) -> np.ndarray:
    r"""$a_k^2$ (n, degree) with $a_k = E\,\sigma(\sqrt K x)h_k(x)$.

    $E\,\sigma(u)\sigma(v) = \sum_ka_k^2\rho^k$ for u and v of variance K and correlation $\rho$.
    """
    x, weight = panels(activation.kinks, np.sqrt(variances), _FINE)
    value = weight * values_and_slopes(activation, np.sqrt(variances)[:, None] * x)[0]
    before, now, found = np.zeros_like(x), np.ones_like(x), []
    for k in range(degree):
        found.append(np.sum(value * now, axis=1))
        before, now = now, (x * now - np.sqrt(k) * before) / np.sqrt(k + 1.0)
    return np.stack(found, axis=1) ** 2


def second_slope(activation: Activation, variance: float) -> Estimate:
    r"""$E\,\sigma''(z)^2$ at one variance, for an activation without kinks.

    Raises ``ValueError`` for one with kinks, where it is infinite.
    """
    if not activation.smooth:
        reject(
            f"activation {activation.name!r} with kinks at {activation.kinks}",
            "The mean square of the second derivative is finite for smooth activations only",
            "Choose a smooth one",
        )
    slope = Activation(f"slope of {activation.name}", jax.grad(activation.fn))
    found = moments(slope, np.array([variance])).slope
    return Estimate(float(found.value[0]), float(found.error[0]))


@functools.lru_cache(maxsize=256)
def _compiled(fn: Callable) -> Callable:
    return jax.jit(jax.vmap(jax.value_and_grad(fn)))


def values_and_slopes(activation: Activation, z: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    r"""$\sigma(z)$ and $\sigma'(z)$ of any array, in float64."""
    flat = np.resize(z, (-(-z.size // _CHUNK), _CHUNK))  # chunks of one shape: the function is compiled once
    with jax.enable_x64(True):
        found = [_compiled(activation.fn)(jnp.asarray(row)) for row in flat]
        values, slopes = (np.concatenate(part)[: z.size].reshape(z.shape) for part in zip(*found, strict=True))
    return values, slopes


def _integrals(activation: Activation, K: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The four integrals (4, k), those of the absolute values, and what the outermost panels contribute."""
    x, weight = panels(activation.kinks, np.sqrt(K), count)
    scale = np.sqrt(K)[:, None]
    value, slope = values_and_slopes(activation, scale * x)
    square = value**2
    rows = (square, slope**2, x * value * slope / scale, square * (x**4 - 6 * x**2 + 3) / (8 * K[:, None] ** 2))
    parts = np.stack([weight * row for row in rows])
    far = np.abs(x) > _REACH - 0.5
    return parts.sum(axis=2), np.abs(parts).sum(axis=2), np.abs(parts * far).sum(axis=2)


def panels(kinks: tuple[float, ...], scale: Float[np.ndarray, " k"], count: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Nodes and weights (k, m) for a standard normal x, on panels that end where s(scale x) has its kinks."""
    cuts = np.concatenate([np.asarray(kinks, dtype=float), _DYADIC]) / scale[:, None]
    even = np.broadcast_to(_EVEN, (scale.size, _EVEN.size))
    ends = np.sort(np.concatenate([even, np.clip(cuts, -_REACH, _REACH)], axis=1), axis=1)
    t, w = unit_rule(count)
    lengths = np.diff(ends, axis=1)[:, :, None]
    x = (ends[:, :-1, None] + lengths * t).reshape(scale.size, -1)
    return x, (lengths * w).reshape(scale.size, -1) * np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
