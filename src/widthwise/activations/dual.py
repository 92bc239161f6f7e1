r"""The Gaussian dual of an activation: what an infinitely wide layer does to one pair of inputs.

Legend: $(u, v)$ centred Gaussian with variances $q_1, q_2$ (``xx``, ``yy``) and correlation
$\rho = \cos\theta$. Carried are ``gap`` $= 1 - \rho$ and ``cogap`` $= 1 + \rho$, each with its own
digits, because a covariance loses half of them near equal and near opposite inputs; the angle is
$\theta = 2\,\mathrm{atan2}(\sqrt{gap}, \sqrt{cogap})$. $F = E[s(u)s(v)]$, $D = E[s'(u)s'(v)]$.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


class Dual(eqx.Module):
    r"""Second moments after an activation, with the mean slope product and a relative error.

    ``xx`` $= E[s(u)^2]$, ``yy`` $= E[s(v)^2]$, ``gap`` and ``cogap`` $= 1 \mp F/\sqrt{xx\,yy}$,
    ``slope`` $= D$; ``error`` bounds the error of the correlation and of the slope (relative to
    $\sqrt{E[s'(u)^2]E[s'(v)^2]}$).
    """

    xx: Scalar
    yy: Scalar
    gap: Scalar
    cogap: Scalar
    slope: Scalar
    error: Scalar


def angle(gap: Scalar, cogap: Scalar) -> Scalar:
    r"""The angle $\theta = 2\,\mathrm{atan2}(\sqrt{gap}, \sqrt{cogap})$, right to rounding everywhere in $[0, \pi]$.

    >>> bool(angle(jnp.array(1.0), jnp.array(1.0)) == jnp.pi / 2)
    True
    """
    return 2.0 * jnp.arctan2(jnp.sqrt(gap), jnp.sqrt(cogap))


def ratio(above: Float[Array, "..."], below: Float[Array, "..."], otherwise: float = 0.0) -> Float[Array, "..."]:
    """Divide, giving ``otherwise`` where the denominator is zero, without a NaN in the derivative."""
    empty = below == 0.0
    return jnp.where(empty, otherwise, above / jnp.where(empty, 1.0, below))


def between(value: Scalar) -> Scalar:
    """Clip a gap to [0, 2], which rounding may leave by one ulp."""
    return jnp.clip(value, 0.0, 2.0)


def rounding(like: Scalar) -> Scalar:
    """The error of a closed form: a few ulps."""
    return jnp.full_like(like, 8 * 2.0**-52)
