r"""What is carried of one pair of inputs through an infinitely wide network.

Legend: $K$ covariance of a coordinate for the two inputs $x, y$ (the NNGP kernel), $\Theta$ the
neural tangent kernel, ``gap`` $= 1-\rho$ and ``cogap`` $= 1+\rho$ with
$\rho = K_{xy}/\sqrt{K_{xx}K_{yy}}$.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.activations import superpose

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
    """The pair of a sum of two independent signals; where one input has no variance the correlation is zero."""
    error = jnp.maximum(first.error, second.error)
    return Pair(*superpose(first, second), first.ntk + second.ntk, error, first.size)
