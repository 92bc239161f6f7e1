"""What every layer can do."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import equinox as eqx
from jaxtyping import Array, Float

from widthwise.numerics import reject

from .pair import Pair

Shape = tuple[int, ...]
Role = Literal["fresh", "linear", "other"]


class AbstractLayer(eqx.Module):
    """A layer of a network: it samples a finite piece and maps pairs through its infinite width.

    ``role``: a ``"fresh"`` layer ends in zero-mean Gaussian weights of its own, so that its output is Gaussian,
    and independent of its input up to second moments; a ``"linear"`` one is linear in its input and has no weights;
    neither is said of any ``"other"``.
    """

    role: ClassVar[Role] = "other"

    def __repr__(self) -> str:
        """The layer as it is written, without what has its default."""
        fields = (field for field in self.__dataclass_fields__.values() if field.init)
        given = ((field.name, getattr(self, field.name), field.default) for field in fields)
        told = [f"{name}={value!r}" for name, value, default in given if not _is(value, default)]
        return f"{type(self).__name__}({', '.join(told)})"

    @abc.abstractmethod
    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        r"""Draw a finite piece, a callable PyTree on arrays (\*positions, channels), and the shape of its output.

        ``width`` is the number of channels of layers that leave theirs open.
        """

    @abc.abstractmethod
    def propagate(self, pair: Pair) -> Pair:
        """Map the second moments and the tangent kernel of one pair through the infinitely wide layer."""


def check_network(network: object) -> None:
    """Refuse what is no layer, such as a list of layers or an MLP that was not made one."""
    if not isinstance(network, AbstractLayer):
        made = hasattr(network, "network") and not isinstance(network, type)
        reject(
            f"a network of type {type(network).__name__}",
            "A network is a layer",
            "Call .network() on it" if made else "Build a Chain of layers, or MLP(...).network()",
        )


def _is(value, default) -> bool:
    """Whether a field has its default; arrays have none."""
    return value is default or (isinstance(value, str | int | float | tuple) and value == default)


def through(layer: AbstractLayer, pair: Pair) -> Pair:
    """Propagate a pair and, where positions may still be mixed, the pairs of each input with itself."""
    after = layer.propagate(pair)
    if pair.within is None or not after.positions:
        return replace(after, within=None)
    if after.within is not None and after.within is not pair.within:
        return after  # layers that hold layers have propagated them
    left, right = (layer.propagate(own) for own in pair.within)
    return replace(after, within=(left, right))


class Composed(eqx.Module):
    """Finite pieces, one after the other."""

    pieces: tuple[Callable, ...]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        for piece in self.pieces:
            x = piece(x)
        return x
