r"""The Gaussian dual of an activation: what an infinitely wide layer does to one pair of inputs.

Legend: $(u, v)$ centred Gaussian with variances $q_1, q_2$ (``xx``, ``yy``) and correlation
$\rho = \cos\theta$. Carried are ``gap`` $= 1 - \rho$ and ``cogap`` $= 1 + \rho$, each with its own
digits, because a covariance loses half of them near equal and near opposite inputs; the angle is
$\theta = 2\,\mathrm{atan2}(\sqrt{gap}, \sqrt{cogap})$. $F = E[s(u)s(v)]$, $D = E[s'(u)s'(v)]$.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]
Moment = Float[Array, "..."]


class Dual(eqx.Module):
    r"""Second moments after an activation, with the mean slope product and a relative error.

    ``xx`` $= E[s(u)^2]$, ``yy`` $= E[s(v)^2]$, ``gap`` and ``cogap`` $= 1 \mp F/\sqrt{xx\,yy}$,
    ``slope`` $= D$; ``error`` bounds the error of the correlation and of the slope (relative to
    $\sqrt{E[s'(u)^2]E[s'(v)^2]}$). Those of many pairs have equal shapes.
    """

    xx: Moment
    yy: Moment
    gap: Moment
    cogap: Moment
    slope: Moment
    error: Moment


def angle(gap: Scalar, cogap: Scalar) -> Scalar:
    r"""The angle $\theta = 2\,\mathrm{atan2}(\sqrt{gap}, \sqrt{cogap})$, right to rounding everywhere in $[0, \pi]$.

    >>> bool(angle(jnp.array(1.0), jnp.array(1.0)) == jnp.pi / 2)
    True
    """
    return 2.0 * jnp.arctan2(root(gap), root(cogap))


def root(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with derivative zero instead of infinity at zero, so that no gradient is NaN.

    >>> import jax
    >>> float(jax.grad(root)(0.0))
    0.0
    """
    positive = value > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1.0)), 0.0)


def ratio(above: Float[Array, "..."], below: Float[Array, "..."], otherwise: float = 0.0) -> Float[Array, "..."]:
    """Divide, giving ``otherwise`` where the denominator is zero, without a NaN in the derivative."""
    empty = below == 0.0
    return jnp.where(empty, otherwise, above / jnp.where(empty, 1.0, below))


def superpose(first, second) -> tuple[Moment, Moment, Moment, Moment]:
    r"""The moments (xx, yy, gap, cogap) of a sum of two uncorrelated signals, each with these four.

    $1-\rho = \frac{1}{D}\left[\frac{(\sqrt{a_x b_y}-\sqrt{b_x a_y})^2}{D+s_a+s_b}
    + s_a(1-\rho_a) + s_b(1-\rho_b)\right]$ with variances $a, b$, $s_a=\sqrt{a_xa_y}$ and
    $D=\sqrt{(a_x+b_x)(a_y+b_y)}$: every term is positive, so no digit is lost. Where one variance is
    zero the correlation is zero.
    """
    xx, yy = first.xx + second.xx, first.yy + second.yy
    scale, own, other = (root(x) * root(y) for x, y in ((xx, yy), (first.xx, first.yy), (second.xx, second.yy)))
    cross = root(first.xx) * root(second.yy) - root(second.xx) * root(first.yy)
    even = (first.xx == first.yy) & (second.xx == second.yy)  # whatever rounding makes of the difference
    cross = nothing_where(even, cross)
    uneven = cross * ratio(cross, scale + own + other)
    gap = ratio(uneven + own * first.gap + other * second.gap, scale, 1.0)
    cogap = ratio(uneven + own * first.cogap + other * second.cogap, scale, 1.0)
    return xx, yy, between(gap), between(cogap)


def between(value: Moment) -> Moment:
    """Clip a gap to [0, 2], which rounding may leave by one ulp; it keeps its derivatives."""
    return value - jax.lax.stop_gradient(value - jnp.clip(value, 0.0, 2.0))


def nothing_where(known: Bool[Array, "..."], value: Moment) -> Moment:
    """Zero where it is known to be zero, and nowhere without its derivatives."""
    return value - jax.lax.stop_gradient(jnp.where(known, value, 0.0))


def rounding(like: Scalar) -> Scalar:
    """The error of a closed form: a few ulps."""
    return jnp.full_like(like, 8 * 2.0**-52)
