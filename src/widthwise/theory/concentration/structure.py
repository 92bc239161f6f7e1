r"""What of an activation decides whether its limit kernels are positive definite: its even and its odd part.

Legend: $\sigma_e(z) = \frac12(\sigma(z)+\sigma(-z))$, $\sigma_o(z) = \frac12(\sigma(z)-\sigma(-z))$.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthwise.activations import Activation

_RANGES, _NODES = (2.0, 8.0, 16.0), 40  # polynomials of low degree show on the first, of high degree on the last
_FARTHER = 4.0  # it must be the same one so many times farther out
_MOST = 17  # terms: beyond lie the powers above 32
_POINTS = np.array([0.4, 0.75, 1.1, 2.3, 5.0])
_ROUNDING, _SMALL, _AGREE = 1e-13, 1e-12, 1e-8


@dataclass(frozen=True)
class Structure:
    r"""Degrees of the two parts of an activation where they are polynomials, and its degree of homogeneity.

    ``even`` and ``odd``: the degree of the part, -1 where it is zero, None where it is no polynomial.
    ``power``: p where $\sigma(cz) = c^p\sigma(z)$ for all $c > 0$, else None. All are seen at points, within
    rounding.
    """

    even: int | None
    odd: int | None
    power: float | None

    @property
    def polynomial(self) -> bool:
        """Whether both parts are polynomials."""
        return self.even is not None and self.odd is not None

    @property
    def parity(self) -> str:
        """ "odd", "even", or "" for neither."""
        return "odd" if self.even == -1 else "even" if self.odd == -1 else ""


@functools.lru_cache(maxsize=256)
def structure(activation: Activation) -> Structure:
    """Look at an activation's even and odd part, and at its growth.

    >>> from widthwise.activations import activation
    >>> structure(activation("relu"))
    Structure(even=None, odd=1, power=1.0)
    >>> structure(activation("tanh"))
    Structure(even=-1, odd=None, power=None)
    """
    even, odd = (_part(activation, sign) for sign in (1.0, -1.0))
    return Structure(even, odd, _power(activation))


@functools.lru_cache(maxsize=256)
def hidden_structure(activation: Activation) -> Structure:
    r"""The structure that the hidden kernel sees, of $z \mapsto z\,\sigma'(z)$ by the structure of the slope.

    Jumps have no slope, and constants none; for other activations it is that of the activation.

    >>> from widthwise.activations import activation
    >>> hidden_structure(activation("sigmoid")), hidden_structure(activation("sign"))
    (Structure(even=-1, odd=None, power=None), Structure(even=-1, odd=-1, power=None))
    """
    slope = structure(Activation(f"slope of {activation.name}", _slope(activation), kinks=activation.kinks))
    even, odd = (part if part is None or part < 0 else part + 1 for part in (slope.odd, slope.even))
    return Structure(even, odd, None if slope.power is None else slope.power + 1.0)


@functools.lru_cache(maxsize=256)
def _slope(activation: Activation) -> Callable:
    return jax.vmap(jax.grad(activation.fn))


def _part(activation: Activation, sign: float) -> int | None:
    """The degree of the even or the odd part."""
    found = [_degree(activation, sign, reach) for reach in _RANGES]
    degree = next((one for one in found if one is not None), None)
    return degree if degree is None or degree < 0 else 2 * degree + int(sign < 0)


def _values(activation: Activation, z: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    with jax.enable_x64(True):
        return np.asarray(activation(jnp.asarray(z)), dtype=float)


def _degree(activation: Activation, sign: float, reach: float) -> int | None:
    """The degree of a part in z^2, once the odd one is divided by z; -1 where it is zero, None if no polynomial."""
    far = max([_FARTHER * reach, *(2.0 * abs(kink) for kink in activation.kinks)])
    near = reach * np.sqrt(0.5 * (1.0 - np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)))
    z = np.concatenate([near, np.linspace(reach, far, 33)[1:]])
    plus, minus = _values(activation, z), _values(activation, -z)
    # A value is as noisy as the largest nearer to zero: 1 - tanh^2 has lost its digits far out.
    noise = _ROUNDING * np.maximum.accumulate(np.abs(plus) + np.abs(minus))
    part = 0.5 * (plus + sign * minus)
    if not np.all(np.isfinite(part)):
        return None
    if np.all(np.abs(part) <= noise):
        return -1
    if sign < 0:
        part, noise = part / z, noise / z
    s = 2.0 * (z / reach) ** 2 - 1.0
    series = np.polynomial.chebyshev.chebfit(s[:_NODES], part[:_NODES], _NODES - 1)
    seen = np.flatnonzero(np.abs(series) > _SMALL * np.max(np.abs(plus[:_NODES]) + np.abs(minus[:_NODES])))
    if len(seen) == 0 or seen[-1] >= _MOST:
        return None
    off = np.abs(np.polynomial.chebyshev.chebval(s, series[: seen[-1] + 1]) - part)
    same = off <= _AGREE * np.abs(part) + noise
    return int(seen[-1]) if np.all(same[_NODES:]) else None


def _power(activation: Activation) -> float | None:
    """The degree of homogeneity, of at least 0."""
    z = np.concatenate([-_POINTS, _POINTS])
    once, twice, thrice = (_values(activation, factor * z) for factor in (1.0, 2.0, 3.0))
    largest = int(np.argmax(np.abs(once)))
    if once[largest] == 0.0 or not twice[largest] / once[largest] > 0.0:
        return None
    power = float(np.log2(twice[largest] / once[largest]))
    same = all(
        np.allclose(many, factor**power * once, rtol=1e-10, atol=0.0) for factor, many in ((2.0, twice), (3.0, thrice))
    )
    return float(np.round(power, 9)) + 0.0 if same else None
