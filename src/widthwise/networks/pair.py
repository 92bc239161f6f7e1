r"""What is carried of one pair of inputs through an infinitely wide network.

Legend: $K$ covariance of a channel for the two inputs $x, y$ (the NNGP kernel), $\Theta$ the
neural tangent kernel, ``gap`` $= 1-\rho$ and ``cogap`` $= 1+\rho$ with
$\rho = K_{xy}/\sqrt{K_{xx}K_{yy}}$. An input has signals at positions $p$ (the pixels of an image, the tokens
of a sentence); a flat input has one position and no axis for it.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from widthwise.activations import root, superpose


class AllPositionsNeeded(Exception):
    """A layer needs the moments between different positions, and the pair holds those of equal positions only."""


class Pair(eqx.Module):
    r"""Second moments of one pair of inputs at one layer, and its tangent kernel.

    ``xx`` $= K_{xx}$ and ``yy`` $= K_{yy}$ (\*p): the variances at each position; none for flat inputs. The moments
    between the inputs are held as the gap and the cogap, each to its own relative precision, never as a
    covariance from which an angle must be recovered (a covariance loses half its digits near equal and near
    opposite inputs). They and ``ntk`` have shape (\*p, \*p), first the positions of x and then those of y; or (\*p),
    where only equal positions are of interest. ``within``, where all positions are, holds the pairs of each input
    with itself.

    ``error`` is a first-order bound on the relative error that numerical duals have left. ``size`` is the
    number of channels, where it is known (the standard parameterisation needs it). ``gaussian`` says whether
    the signals are jointly Gaussian, as an activation needs them; ``itself`` whether y is x.
    """

    xx: Float[Array, "..."]
    yy: Float[Array, "..."]
    gap: Float[Array, "..."]
    cogap: Float[Array, "..."]
    ntk: Float[Array, "..."]
    error: Float[Array, ""]
    within: "tuple[Pair, Pair] | None" = None
    size: int | None = eqx.field(static=True, default=None)
    gaussian: bool = eqx.field(static=True, default=True)
    itself: bool = eqx.field(static=True, default=False)

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape of the positions, () for a flat input."""
        return self.xx.shape

    @property
    def crossed(self) -> bool:
        """Whether every position of x meets every position of y."""
        return self.gap.ndim > self.xx.ndim

    @property
    def left(self) -> Float[Array, "..."]:
        """The variances of x, in a shape that fits the moments between the inputs."""
        return self.along_x(self.xx)

    @property
    def right(self) -> Float[Array, "..."]:
        """The variances of y, in a shape that fits the moments between the inputs."""
        return self.along_y(self.yy)

    def along_x(self, values: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Values at the positions of x (\\*p), shaped to fit the moments between the inputs."""
        return values.reshape(values.shape + (1,) * values.ndim) if self.crossed else values

    def along_y(self, values: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Values at the positions of y (\\*p), shaped to fit the moments between the inputs."""
        return values.reshape((1,) * values.ndim + values.shape) if self.crossed else values

    @property
    def scale(self) -> Float[Array, "..."]:
        r"""The geometric mean $\sqrt{K_{xx}K_{yy}}$ of the two variances."""
        return root(self.left) * root(self.right)  # a product of two variances may leave the range

    @property
    def xy(self) -> Float[Array, "..."]:
        """The covariance of the two inputs, the NNGP kernel."""
        return self.scale * 0.5 * (self.cogap - self.gap)

    @property
    def own(self) -> "tuple[Pair, Pair]":
        """The pairs of x and of y with itself.

        Raises ``AllPositionsNeeded`` where the moments between different positions are not held.
        """
        if self.positions and not self.crossed:
            raise AllPositionsNeeded
        if self.itself:
            return self, self
        assert self.within is not None
        return self.within

    def scaled(self, factor: float | Array) -> "Pair":
        """Multiply kernel and tangent kernel by a number that is at least zero."""
        return replace(self, xx=factor * self.xx, yy=factor * self.yy, ntk=factor * self.ntk, within=None)


class Moments(NamedTuple):
    """The moments of a pair, the variances shaped like the gaps."""

    xx: Float[Array, "..."]
    yy: Float[Array, "..."]
    gap: Float[Array, "..."]
    cogap: Float[Array, "..."]


def constant(variance: float | Array, like: Pair) -> Pair:
    """The pair of one Gaussian constant shared by both inputs and all positions, such as an untrained bias."""
    level, zero = jnp.full_like(like.xx, variance), jnp.zeros_like(like.gap)
    return replace(like, xx=level, yy=level, gap=zero, cogap=zero + 2.0, ntk=zero, error=0.0 * like.error, within=None)


def add(first: Pair, second: Pair) -> Pair:
    """The pair of a sum of two independent signals; where one input has no variance the correlation is zero."""
    *_, gap, cogap = superpose(*(Moments(part.left, part.right, part.gap, part.cogap) for part in (first, second)))
    return replace(
        first,
        xx=first.xx + second.xx,
        yy=first.yy + second.yy,
        gap=gap,
        cogap=cogap,
        ntk=first.ntk + second.ntk,
        error=jnp.maximum(first.error, second.error),
        within=None,
        gaussian=first.gaussian and second.gaussian,
    )
