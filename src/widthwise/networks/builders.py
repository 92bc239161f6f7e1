"""Networks in one word, and finite samples of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation, activation
from widthwise.numerics import reject

from .apply import Apply
from .chain import Chain
from .dense import Dense, check_count, check_parameterisation, check_variance
from .layer import AbstractLayer, Shape, check_network


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron with ``depth`` hidden layers of ``width`` neurons.

    ``weight_variance`` $C_w$ and ``bias_variance`` $C_b$ of the hidden layers default to the
    activation's critical initialisation, or to (1, 0) where it has none; the readout has $C_w = 1$
    and no bias. With ``parameterisation="mean_field"`` only the readout is scaled so, and the hidden layers as in
    ``"ntk"`` (see `Dense`). Raises ``ValueError`` for a width or depth below 1, a negative variance, an
    unknown activation or parameterisation.

    >>> MLP(width=64, depth=1, activation="relu").network().layers[0]
    Dense(weight_variance=2.0, size=64)
    """

    width: int = 256
    depth: int = 2
    activation: str | Activation | Callable = "tanh"
    weight_variance: float | None = None
    bias_variance: float | None = None
    parameterisation: str = "ntk"

    def __post_init__(self):
        check_count("width", self.width, most=10_000_000)
        check_count("depth", self.depth, most=1000)
        critical = activation(self.activation).critical or (1.0, 0.0)
        for name, default in zip(("weight_variance", "bias_variance"), critical, strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            check_variance(name, getattr(self, name))
        check_parameterisation(self.parameterisation)

    @property
    def variances(self) -> tuple[float, float]:
        """The weight and the bias variance of the hidden layers."""
        weight, bias = self.weight_variance, self.bias_variance
        assert weight is not None
        assert bias is not None  # both are filled in at construction
        return weight, bias

    def network(self, outputs: int = 1) -> Chain:
        """The network as a chain of layers with so many outputs."""
        check_count("outputs", outputs)
        within = "ntk" if self.parameterisation == "mean_field" else self.parameterisation
        hidden = Dense(*self.variances, self.width, within)
        block = (hidden, Apply(activation(self.activation)))
        return Chain(block * self.depth + (Dense(1.0, 0.0, outputs, self.parameterisation),))

    def at_width(self, width: int) -> "MLP":
        """The same network at another width."""
        return replace(self, width=width)

    def __str__(self) -> str:
        name = activation(self.activation).name
        variances = f"weight_variance={self.weight_variance:g}, bias_variance={self.bias_variance:g}"
        scaled = "" if self.parameterisation == "ntk" else f", parameterisation={self.parameterisation}"
        return f"mlp(width={self.width}, depth={self.depth}, activation={name}, {variances}{scaled})"


def sample(network: AbstractLayer, key: Array, in_size: int | Shape, width: int | None = None) -> Callable:
    r"""Draw a finite network, a callable PyTree (in_size,) -> (outputs,) in the default float precision.

    ``in_size`` is the number of features, or the shape (\*positions, channels) of an image or a sequence. ``width``
    fills in the size of layers that leave it open. Raises ``ValueError`` where a size is missing or sizes do not fit,
    and for a ``key`` that is no key of JAX.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> f = sample(MLP(width=8).network(), jax.random.key(0), in_size=3)
    >>> f(jnp.ones(3)).shape
    (1,)
    """
    check_network(network)
    check_key(key)
    shape = tuple(in_size) if isinstance(in_size, tuple | list) else (in_size,)
    for size in shape:
        check_count("in_size", size)
    if width is not None:
        check_count("width", width)
    return network.sample(key, tuple(map(int, shape)), width)[0]


def check_key(key: object) -> None:
    """Refuse what is no key of JAX, such as the number that a key is made of."""
    if not isinstance(key, jax.Array | np.ndarray):
        reject(f"key={key!r}", "A key is a value of JAX that says what is drawn", "Give for example jax.random.key(0)")
