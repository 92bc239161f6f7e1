"""Layers whose infinite width has no closed form: they are sampled, and their kernels measured."""

from collections.abc import Callable
from functools import partial, reduce
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.numerics import reject

from .conv import neighbourhoods
from .dense import check_variance
from .layer import AbstractLayer, Shape
from .pair import Pair
from .window import Counts, Window, check_padding, outputs, whole_numbers, windows

INPUTS = "inputs"  # the name of the axis of inputs, along which a batch norm averages


class MaxPool(AbstractLayer):
    r"""The largest of the positions in a window, channel by channel.

    The maximum of several Gaussian signals has no closed second moments, so `kernel` refuses it; the kernel of finite
    networks is measured, with standard errors, by `widthwise.measure.sampled_kernel`. The arguments are those of
    `Pool`; positions outside do not count.

    >>> MaxPool(2)
    MaxPool(filter=2)
    """

    filter: Counts = eqx.field(static=True)
    strides: Counts | None = eqx.field(static=True, default=None)
    padding: str = eqx.field(static=True, default="VALID")

    def __post_init__(self):
        whole_numbers("filter", self.filter)
        if self.strides is not None:
            whole_numbers("strides", self.strides)
        check_padding(self.padding)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        seen = windows(self, shape[:-1], self.filter if self.strides is None else self.strides)
        return partial(_largest, seen), (*outputs(seen, shape[:-1]), shape[-1])

    def propagate(self, pair: Pair) -> Pair:
        refuse_closed(self, "the maximum of Gaussian signals")


def _largest(seen: tuple[Window, ...], x: Float[Array, "*p c"]) -> Float[Array, "*q c"]:
    return reduce(jnp.maximum, neighbourhoods(x, seen, fill=-jnp.inf))


class BatchNorm(AbstractLayer):
    r"""Every channel centred and divided by $\sqrt{\text{variance} + \epsilon}$, over all inputs and positions.

    Its output depends on the whole set of inputs, so it has no kernel of pairs, and `kernel` refuses it; the kernel of
    finite networks on a set is measured by `widthwise.measure.sampled_kernel`. A finite piece is called under
    ``jax.vmap(..., axis_name="inputs")``.

    >>> BatchNorm().epsilon
    1e-05
    """

    epsilon: float = 1e-5

    def __post_init__(self):
        check_variance("epsilon", self.epsilon)

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        return Standardised(self.epsilon), shape

    def propagate(self, pair: Pair) -> Pair:
        refuse_closed(self, "a norm over the set of inputs")


class Standardised(eqx.Module):
    """A finite batch norm."""

    epsilon: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p c"]) -> Float[Array, "*p c"]:
        axes = tuple(range(x.ndim - 1))
        mean = jax.lax.pmean(jnp.mean(x, axes), INPUTS)
        variance = jax.lax.pmean(jnp.mean((x - jnp.expand_dims(mean, axes)) ** 2, axes), INPUTS)
        return (x - jnp.expand_dims(mean, axes)) / jnp.expand_dims(jnp.sqrt(variance + self.epsilon), axes)


def refuse_closed(layer: AbstractLayer, what: str) -> NoReturn:
    """Refuse to propagate what has no closed form."""
    reject(
        f"{layer!r} in the kernel of an infinitely wide network",
        f"There is no closed form for {what}",
        "Use widthwise.sampled_kernel, which measures finite networks, or another layer",
    )
