r"""The square loss in the conventions that libraries use, and how rates, times and decays convert between them.

Legend: n examples, k outputs, $L = \frac s2\sum_{i\le n}\|f(x_i) - y_i\|^2$ with the scale s of the convention.
"""

import math
from dataclasses import dataclass

from .errors import nearest, reject

# Name: (the formula, its scale for n examples with k outputs).
CONVENTIONS = {
    "half-sum": (r"\frac12\sum_{ij}r_{ij}^2", lambda n, k: 1.0),
    "half-mean": (r"\frac1{2n}\sum_{ij}r_{ij}^2", lambda n, k: 1.0 / n),
    "half-mean-entries": (r"\frac1{2nk}\sum_{ij}r_{ij}^2", lambda n, k: 1.0 / (n * k)),
    "sum": (r"\sum_{ij}r_{ij}^2", lambda n, k: 2.0),
    "mean": (r"\frac1n\sum_{ij}r_{ij}^2", lambda n, k: 2.0 / n),
    "mean-entries": (r"\frac1{nk}\sum_{ij}r_{ij}^2", lambda n, k: 2.0 / (n * k)),
}


def meant_loss(name: str) -> str:
    """What is meant by the name of a loss that is none of ours, for a message.

    >>> meant_loss("mse"), meant_loss("half-men")
    (" (PyTorch's and Keras' 'mse', jnp.mean((f - y)**2), is 'mean-entries')", " (did you mean 'half-mean'?)")
    """
    if name.lower().replace("_", "").replace("loss", "") in ("mse", "l2", "meansquarederror"):
        return f" (PyTorch's and Keras' {name!r}, jnp.mean((f - y)**2), is 'mean-entries')"
    return nearest(name, CONVENTIONS)


def counted_loss(loss: "str | Loss", examples: int, outputs: int = 1) -> "Loss":
    """The convention of this name for so many examples and outputs; a ``Loss`` has to be one for as many.

    >>> counted_loss("mean", 4), counted_loss(Loss("mean", 4), 4).scale
    (Loss(name='mean', examples=4, outputs=1), 0.5)
    """
    if not isinstance(loss, Loss):
        return Loss(loss, examples, outputs)
    if (loss.examples, loss.outputs) != (examples, outputs):
        reject(
            f"{loss} with {examples} examples and {outputs} outputs",
            "A loss counts the examples and outputs of the data",
            f"Give loss={loss.name!r} alone: they are counted",
        )
    return loss


@dataclass(frozen=True)
class Loss:
    r"""A convention of the square loss for ``examples`` n and ``outputs`` k, $r_{ij} = f_j(x_i) - y_{ij}$.

    - ``"half-sum"``: $\frac12\sum_{ij}r_{ij}^2$;
    - ``"half-mean"``: $\frac1{2n}\sum_{ij}r_{ij}^2$, this library's default;
    - ``"half-mean-entries"``: $\frac1{2nk}\sum_{ij}r_{ij}^2$, ``jnp.mean(optax.l2_loss(f, y))``;
    - ``"sum"``: $\sum_{ij}r_{ij}^2$, ``torch.nn.MSELoss(reduction="sum")``;
    - ``"mean"``: $\frac1n\sum_{ij}r_{ij}^2$, summed over outputs and averaged over examples;
    - ``"mean-entries"``: $\frac1{nk}\sum_{ij}r_{ij}^2$, ``jnp.mean((f - y)**2)`` and ``torch.nn.MSELoss()``.

    The Hessian of a model linear in its parameters is $sJ^\top J$, so that conventions differ in clocks only: the same
    path is walked in the same number of steps where $\eta s$ and $\eta\omega$ agree. Raises ``ValueError`` for an
    unknown name and for counts that are no whole numbers of at least 1.

    >>> ours, torch = Loss("half-mean", 100, 10), Loss("mean-entries", 100, 10)
    >>> ours.rate(0.1, torch), ours.time(3.0, torch), round(ours.weight_decay(1e-3, torch), 12)
    (0.5, 15.0, 0.0002)
    """

    name: str
    examples: int
    outputs: int = 1

    def __post_init__(self):
        if self.name not in CONVENTIONS:
            reject(
                f"loss={self.name!r}{meant_loss(self.name)}",
                f"The conventions are {', '.join(map(repr, CONVENTIONS))}",
                "Choose one by name",
            )
        for name in ("examples", "outputs"):
            demand_count(name, getattr(self, name), least=1)

    @property
    def scale(self) -> float:
        r"""$s$ in $L = \frac s2\sum_i\|f(x_i) - y_i\|^2$."""
        return CONVENTIONS[self.name][1](self.examples, self.outputs)

    def rate(self, rate: float, other: "Loss") -> float:
        """The learning rate that makes under the other loss the steps that ``rate`` makes under this one."""
        return rate * (self.scale / other.scale)

    def time(self, time: float, other: "Loss") -> float:
        """The time at which the flow of the other loss is where that of this one is at ``time``."""
        return time * (self.scale / other.scale)

    def weight_decay(self, decay: float, other: "Loss") -> float:
        """The weight decay beside the converted rate: the product of rate and decay stays."""
        return decay * (other.scale / self.scale)

    def largest_rate(self, kernel_eigenvalue: float) -> float:
        r"""Gradient descent is stable below $\frac2{s\lambda_{max}(\Theta)}$, $\Theta = JJ^\top$ without any factor.

        >>> Loss("half-mean", 100).largest_rate(50.0)
        4.0
        """
        if not 0 <= kernel_eigenvalue < math.inf:
            reject(
                f"an eigenvalue of {kernel_eigenvalue}",
                "The largest eigenvalue of a kernel is at least 0 and finite",
                "Give max(numpy.linalg.eigvalsh(K))",
            )
        return 2.0 / (self.scale * kernel_eigenvalue) if kernel_eigenvalue else math.inf


def demand_count(name: str, value: object, least: int = 0) -> int:
    """Refuse what is no whole number from ``least`` on.

    >>> demand_count("steps", 3)
    3
    """
    whole = not isinstance(value, bool) and hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
    if not whole or int(value) < least:  # pyright: ignore[reportArgumentType]
        reject(f"{name}={value!r}", f"{name} is a whole number of at least {least}", f"Give for example {name}=100")
    return int(value)  # pyright: ignore[reportArgumentType]
