"""An activation function as a value."""

import math
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from widthwise.numerics import reject

from . import numerical
from .dual import Dual, Scalar


class Activation(eqx.Module):
    r"""A scalar function $s$ applied to every coordinate, with what theory needs to know of it.

    ``closed`` computes its Gaussian dual exactly; without it the dual is computed numerically with
    an error bound, to ``degree`` Hermite terms. ``kinks`` are the points where $s$ is not smooth.
    ``slope_bound`` $= \sup|s'|$, ``curvature_bound`` $= \sup|s''|$ and ``value_bound`` $= \sup|s|$
    may be infinite; certificates need the first two. ``critical`` is the weight and bias variance
    $(C_w, C_b)$ of a critical initialisation.

    Raises ``ValueError`` for kinks away from zero without a closed form.

    >>> softsign = Activation("softsign", lambda z: z / (1 + abs(z)), kinks=(0.0,))
    >>> softsign
    Activation(softsign)
    """

    name: str = eqx.field(static=True)
    fn: Callable = eqx.field(static=True)
    closed: Callable | None = eqx.field(static=True, default=None)
    kinks: tuple[float, ...] = eqx.field(static=True, default=())
    slope_bound: float = eqx.field(static=True, default=math.inf)
    curvature_bound: float = eqx.field(static=True, default=math.inf)
    value_bound: float = eqx.field(static=True, default=math.inf)
    critical: tuple[float, float] | None = eqx.field(static=True, default=None)
    degree: int = eqx.field(static=True, default=128)

    def __post_init__(self):
        if self.closed is None and any(kink != 0 for kink in self.kinks):
            reject(
                f"activation {self.name!r} with kinks at {self.kinks} and no closed dual",
                "A numerical dual is known for smooth functions and for one kink at 0",
                "Give closed=, a function (xx, yy, gap, cogap) -> Dual",
            )

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.fn(z)

    def __repr__(self) -> str:
        return f"Activation({self.name})"

    @property
    def smooth(self) -> bool:
        """Whether the function has no kinks."""
        return not self.kinks

    def dual(self, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar) -> Dual:
        r"""The dual of one pair: $E[s(u)s(v)]$, $E[s'(u)s'(v)]$ and the norms, as a ``Dual``."""
        if self.closed is not None:
            return self.closed(xx, yy, gap, cogap)
        if self.kinks:
            return numerical.sectors(self.fn, xx, yy, gap, cogap)
        return numerical.series(self.fn, self.degree, xx, yy, gap, cogap)
