"""What every layer can do."""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array

from .pair import Pair


class AbstractLayer(eqx.Module):
    """A layer of a network: it samples a finite piece and maps pairs through its infinite width."""

    @abc.abstractmethod
    def sample(self, key: Array, in_size: int, width: int | None = None) -> tuple[Callable, int]:
        """Draw a finite piece, a callable PyTree (in_size,) -> (out_size,), and give its out_size.

        ``width`` is the size of layers that leave theirs open.
        """

    @abc.abstractmethod
    def propagate(self, pair: Pair) -> Pair:
        """Map the second moments and the tangent kernel of one pair through the infinitely wide layer."""
