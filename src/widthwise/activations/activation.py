"""An activation function as a value."""

import math
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from widthwise.numerics import reject

from . import numerical
from .cells import cells
from .dual import Dual, Scalar

_MOST_KINKS = 8  # the lines of so many cut the plane into some thousand cells


class Activation(eqx.Module):
    r"""A scalar function $s$ applied to every coordinate, with what theory needs to know of it.

    ``closed`` computes its Gaussian dual exactly; without it the dual is computed numerically with
    an error bound, to ``degree`` Hermite terms, or by quadrature between the kinks. ``kinks`` are the
    points where $s$ is not smooth or jumps.
    ``slope_bound`` $= \sup|s'|$, ``curvature_bound`` $= \sup|s''|$ and ``value_bound`` $= \sup|s|$
    may be infinite; certificates need the first two. ``critical`` is the weight and bias variance
    $(C_w, C_b)$ of a critical initialisation.

    Raises ``ValueError`` for kinks that are not finite or named twice, and for more than 8 without a
    closed form.

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
        if not all(map(math.isfinite, self.kinks)) or len(set(self.kinks)) < len(self.kinks):
            reject(
                f"activation {self.name!r} with kinks at {self.kinks}",
                "Kinks are finite numbers, each named once",
                "Give for example kinks=(-1.0, 1.0)",
            )
        if self.closed is None and len(self.kinks) > _MOST_KINKS:
            reject(
                f"activation {self.name!r} with {len(self.kinks)} kinks and no closed dual",
                f"A numerical dual is known for at most {_MOST_KINKS} kinks",
                "Give closed=, a function (xx, yy, gap, cogap) -> Dual; or, if it has none, activation(fn, kinks=())",
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
            return cells(self.fn, self.kinks, self.degree, xx, yy, gap, cogap)
        return numerical.series(self.fn, self.degree, xx, yy, gap, cogap)
