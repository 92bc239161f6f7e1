"""Branches beside each other, constants and dropout."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import nearest, reject

from .chain import is_fresh, spoken
from .dense import check_variance
from .layer import AbstractLayer, Role, Shape, through
from .mixing import product
from .pair import Pair, add

JOINS = ("sum", "concatenate", "product")


class Parallel(AbstractLayer):
    r"""Several branches on the same input, their outputs added, concatenated or multiplied.

    With ``join="sum"`` $K' = \sum_iK_i$, $\Theta' = \sum_i\Theta_i$. With ``"product"`` $K' = \prod_iK_i$ and
    $\Theta' = \sum_i\Theta_i\prod_{j \ne i}K_j$; the branches must be independent, so all but one of them (for a sum),
    or all (for a product), must end in a layer with weights. With ``"concatenate"`` the channels stand side by side,
    $K' = \sum_i\frac{n_i}nK_i$ and $\Theta'$ likewise: every branch must end in a layer whose size is given.
    Raises ``ValueError`` for fewer than two branches and where these conditions fail.

    >>> from widthwise.networks import Dense
    >>> Parallel((Dense(2.0), Dense(1.0))).join
    'sum'
    """

    branches: tuple[AbstractLayer, ...] = eqx.field(converter=tuple)
    join: str = eqx.field(static=True, default="sum")

    def __post_init__(self):
        if isinstance(self.branches, AbstractLayer):
            reject(
                f"a Parallel whose branches are {self.branches!r}",
                "The branches stand in one tuple or list",
                "Write Parallel([one, other], join)",
            )
        if len(self.branches) < 2 or not all(isinstance(branch, AbstractLayer) for branch in self.branches):
            reject(
                f"branches {self.branches!r}", "Branches are two layers or more", "Use a Chain for one after the other"
            )
        if self.join not in JOINS:
            came = f"join={self.join!r}{nearest(str(self.join), JOINS)}"
            reject(came, f"Known are {', '.join(JOINS)}", "Choose one of them")
        loose = [branch for branch in self.branches if not is_fresh(branch)]
        if len(loose) > {"sum": 1, "concatenate": len(self.branches), "product": 0}[self.join]:
            reject(
                f"a {self.join} of branches, of which one is {loose[-1]!r}",
                "The branches must be independent, so they must end in layers with weights",
                "Append Dense() or Conv(...) to the branch",
            )

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        keys = jr.split(key, len(self.branches))
        drawn = [branch.sample(one, shape, width) for branch, one in zip(self.branches, keys, strict=True)]
        pieces, shapes = zip(*drawn, strict=True)
        channels = [out[-1] for out in shapes]
        if len({out[:-1] for out in shapes}) > 1 or (self.join != "concatenate" and len(set(channels)) > 1):
            reject(
                f"branches that end in {' and '.join(map(spoken, shapes))}",
                f"For a {self.join} the positions must agree"
                + (", and the sizes" if self.join != "concatenate" else ""),
                "Give the branches the same strides and paddings, and their last layers the same size",
            )
        size = sum(channels) if self.join == "concatenate" else channels[0]
        return Joined(pieces, self.join), (*shapes[0][:-1], size)

    def propagate(self, pair: Pair) -> Pair:
        return self.joined([through(branch, pair) for branch in self.branches])

    def joined(self, parts: list[Pair]) -> Pair:
        """What the branches made, put together."""
        if len({part.positions for part in parts}) > 1:
            reject(
                f"branches that end at positions {' and '.join(str(part.positions) for part in parts)}",
                "The positions of all branches must agree",
                "Give the branches the same strides and paddings",
            )
        joined = {"sum": lambda: reduce(add, parts), "product": lambda: reduce(_multiplied, parts)}
        return joined.get(self.join, lambda: _beside(parts))()


class Joined(eqx.Module):
    """Finite branches on one input."""

    branches: tuple[Callable, ...]
    join: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.joined([branch(x) for branch in self.branches])

    def joined(self, parts: list[Array]) -> Array:
        """The outputs of the branches, put together."""
        if self.join == "concatenate":
            return jnp.concatenate(parts, axis=-1)
        return reduce(jnp.add if self.join == "sum" else jnp.multiply, parts)


def _multiplied(first: Pair, second: Pair) -> Pair:
    gap, cogap = product((first.gap, first.cogap), (second.gap, second.cogap))
    return replace(
        first,
        xx=first.xx * second.xx,
        yy=first.yy * second.yy,
        gap=gap,
        cogap=cogap,
        ntk=first.ntk * second.xy + first.xy * second.ntk,
        error=first.error + second.error,
        within=None,
        gaussian=False,
    )


def _beside(parts: list[Pair]) -> Pair:
    sizes = [part.size for part in parts if part.size is not None]
    if len(sizes) < len(parts):
        reject(
            "a concatenation of branches of unknown size",
            "Their channels are weighed by their numbers, so every size must be known",
            "Give the last layer with weights of every branch a size",
        )
    scaled = [part.scaled(size / sum(sizes)) for part, size in zip(parts, sizes, strict=True)]
    whole = reduce(add, scaled)  # independent or not, their channels are different ones
    return replace(whole, size=sum(sizes))


class Scale(AbstractLayer):
    r"""Multiplication by a constant c: $K' = c^2K$, $\Theta' = c^2\Theta$.

    >>> Scale(0.5).factor
    0.5
    """

    factor: float
    role: ClassVar[Role] = "linear"

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Multiplied(self.factor), shape

    def propagate(self, pair: Pair) -> Pair:
        return pair.scaled(self.factor**2)


class Multiplied(eqx.Module):
    """A finite multiplication by a constant."""

    factor: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.factor * x


class Dropout(AbstractLayer):
    r"""Coordinates kept with probability p = ``keep`` and divided by p, with a mask of its own for every input.

    $K'_{xx} = K_{xx}/p$ and $\Theta'_{xx} = \Theta_{xx}/p$ for an input with itself (at equal positions), where the
    mask is the same; between different inputs, and different positions, nothing changes. Without training
    (``keep=1``) it does nothing. A finite piece draws its mask once, with its weights, so it is a sample for one input.

    Raises ``ValueError`` for a probability outside (0, 1].

    >>> Dropout(0.8).keep
    0.8
    """

    keep: float = eqx.field(static=True)
    role: ClassVar[Role] = "linear"

    def __post_init__(self):
        check_variance("keep", self.keep)
        if not 0 < self.keep <= 1:
            reject(f"keep={self.keep}", "A probability to keep lies in (0, 1]", "Give for example keep=0.9")

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Masked(jr.bernoulli(key, self.keep, shape), self.keep), shape

    def propagate(self, pair: Pair) -> Pair:
        keep = self.keep
        gap, cogap = (1.0 - keep + keep * part for part in (pair.gap, pair.cogap))
        ntk = pair.ntk
        if pair.itself:
            same = jnp.eye(max(1, pair.xx.size), dtype=bool).reshape(gap.shape) if pair.crossed else True
            gap, cogap = jnp.where(same, pair.gap, gap), jnp.where(same, pair.cogap, cogap)
            ntk = jnp.where(same, ntk / keep, ntk)
        xx, yy = pair.xx / keep, pair.yy / keep
        return replace(pair, xx=xx, yy=yy, gap=gap, cogap=cogap, ntk=ntk, within=None, gaussian=False)


class Masked(eqx.Module):
    """A finite dropout with one mask."""

    mask: Array
    keep: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(self.mask, x / self.keep, 0.0)
