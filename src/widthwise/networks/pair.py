r"""What is carried of one pair of inputs through an infinitely wide network.

Legend: $K$ covariance of a coordinate for the two inputs $x, y$ (the NNGP kernel), $\Theta$ the
neural tangent kernel, ``gap`` $= 1-\rho$ and ``cogap`` $= 1+\rho$ with
$\rho = K_{xy}/\sqrt{K_{xx}K_{yy}}$.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


class Pair(eqx.Module):
    r"""Second moments of one pair of inputs at one layer, and its tangent kernel.

    ``xx`` $= K_{xx}$, ``yy`` $= K_{yy}$; the off-diagonal entry is held as the gap and the cogap,
    each to its own relative precision, never as a covariance from which an angle must be
    recovered (a covariance loses half its digits near equal and near opposite inputs). ``error``
    is a first-order bound on the relative error that numerical duals have left. ``size`` is the
    number of coordinates, where it is known (the standard parameterisation needs it).
    """

    xx: Scalar
    yy: Scalar
    gap: Scalar
    cogap: Scalar
    ntk: Scalar
    error: Scalar
    size: int | None = eqx.field(static=True, default=None)

    @property
    def scale(self) -> Scalar:
        r"""The geometric mean $\sqrt{K_{xx}K_{yy}}$ of the two variances."""
        return jnp.sqrt(self.xx) * jnp.sqrt(self.yy)  # a product of two variances may leave the range

    @property
    def xy(self) -> Scalar:
        """The covariance of the two inputs, the NNGP kernel."""
        return self.scale * 0.5 * (self.cogap - self.gap)

    def scaled(self, factor: float) -> "Pair":
        """Multiply kernel and tangent kernel by a number that is at least zero."""
        return Pair(factor * self.xx, factor * self.yy, self.gap, self.cogap, factor * self.ntk, self.error, self.size)


def constant(variance: float, like: Pair) -> Pair:
    """The pair of one Gaussian constant shared by both inputs, such as an untrained bias."""
    level, zero = jnp.full_like(like.gap, variance), jnp.zeros_like(like.gap)
    return Pair(level, level, zero, zero + 2.0, zero, zero, like.size)


def add(first: Pair, second: Pair) -> Pair:
    r"""The pair of a sum of two independent signals.

    $1-\rho = \frac{1}{D}\left[\frac{(\sqrt{a_x b_y}-\sqrt{b_x a_y})^2}{D+s_a+s_b}
    + s_a(1-\rho_a) + s_b(1-\rho_b)\right]$ with variances $a, b$, $s_a=\sqrt{a_xa_y}$ and
    $D=\sqrt{(a_x+b_x)(a_y+b_y)}$: every term is positive, so no digit is lost. Two zero inputs get
    correlation zero.
    """
    xx, yy = first.xx + second.xx, first.yy + second.yy
    scale = jnp.sqrt(xx) * jnp.sqrt(yy)
    empty = scale == 0.0
    below = jnp.where(empty, 1.0, scale)
    cross = jnp.sqrt(first.xx) * jnp.sqrt(second.yy) - jnp.sqrt(second.xx) * jnp.sqrt(first.yy)
    uneven = cross * (cross / jnp.where(empty, 1.0, scale + first.scale + second.scale))

    def join(left: Scalar, right: Scalar) -> Scalar:
        joined = (uneven + first.scale * left + second.scale * right) / below
        return jnp.where(empty, 1.0, jnp.clip(joined, 0.0, 2.0))

    gap, cogap = join(first.gap, second.gap), join(first.cogap, second.cogap)
    return Pair(xx, yy, gap, cogap, first.ntk + second.ntk, jnp.maximum(first.error, second.error), first.size)
