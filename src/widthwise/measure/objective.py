r"""The loss of a model on a fixed batch: value, gradient, and products with its Hessian and Gauss-Newton matrix.

Legend: L the loss, f the outputs (n, k) on the batch, $J = Df$ their Jacobian, $H = \nabla^2L$ and
$G = J^\top(\nabla_f^2L)J$, which for a squared error has the nonzero eigenvalues of the empirical NTK $JJ^\top$,
divided by n where the loss is a mean.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import Loss, demand_numbers, demand_pair, meant_loss, nearest, reject

from .drift import cross_entropy, half_mean_square

CONVENTIONS = {
    "half-sum": "L = 1/2 sum_i |f(x_i) - y_i|^2",
    "half-mean": "L = 1/(2n) sum_i |f(x_i) - y_i|^2",
    "half-mean-entries": "L = 1/(2nk) sum_i |f(x_i) - y_i|^2",
    "sum": "L = sum_i |f(x_i) - y_i|^2",
    "mean": "L = 1/n sum_i |f(x_i) - y_i|^2",
    "mean-entries": "L = 1/(nk) sum_i |f(x_i) - y_i|^2",
    "cross-entropy": "L = 1/n sum_i (log sum_j exp f_j(x_i) - f_{y_i}(x_i))",
}


class Objective(eqx.Module):
    r"""A loss of the outputs on labelled inputs, by its name in ``CONVENTIONS``.

    >>> loss = Objective(jnp.ones((2, 1)), jnp.zeros((2, 1)), "half-mean")
    >>> float(loss(lambda x: 3 * x))
    4.5
    """

    X: Array
    Y: Array
    name: str = eqx.field(static=True)

    def __call__(self, model: Callable) -> Float[Array, ""]:
        return self.of_outputs(self.outputs(model))

    @property
    def convention(self) -> str:
        """The formula of the loss, with its normalisation."""
        return CONVENTIONS[self.name]

    def outputs(self, model: Callable) -> Float[Array, "n k"]:
        """The outputs on the batch."""
        return jax.vmap(model)(self.X)

    def of_outputs(self, outputs: Float[Array, "n k"]) -> Float[Array, ""]:
        """The loss of these outputs."""
        if self.name == "cross-entropy":
            return cross_entropy(outputs, self.Y)
        n, k = outputs.shape
        return Loss(self.name, n, k).scale * n * half_mean_square(outputs, self.Y)


class Custom(eqx.Module):
    """A loss of the user's own, ``function(model, batch)``, where the model maps one example."""

    function: Callable = eqx.field(static=True)
    batch: Any

    def __call__(self, model: Callable) -> Float[Array, ""]:
        try:
            return self.function(model, self.batch)
        except (TypeError, AttributeError) as error:
            told = " ".join(str(error).split())
            reject(
                f"loss(model, data), which raised {type(error).__name__}: {told[:200]}",
                "A loss of your own is a function of the model, which maps one example, and of the data",
                "Give for example lambda model, data: jnp.mean((jax.vmap(model)(data[0]) - data[1]) ** 2)",
            )

    @property
    def convention(self) -> str:
        """The name of the function."""
        return f"L = {getattr(self.function, '__name__', type(self.function).__name__)}(model, data)"


def objective(data: Any, loss: Any, size: int | None = None, seed: int = 0) -> Objective | Custom:
    r"""The loss on data: a function of (model, data), or by name on a pair (X, y).

    ``size``: so many rows of a pair, drawn by ``seed``. Raises ``ValueError`` for an unknown name and data that do
    not fit.

    >>> objective((np.ones((3, 2)), np.zeros((3, 1))), "half-sum").convention
    'L = 1/2 sum_i |f(x_i) - y_i|^2'
    """
    if isinstance(data, str):
        demand_numbers("data", data)
    if not callable(loss) and not isinstance(loss, str):
        reject(
            f"a loss of type {type(loss).__name__}",
            "Data are one pair (X, y), and a loss is its name or a function of (model, data)",
            "Give (X, y) in one pair, for example loss='half-mean', and an optimiser by optimizer=",
        )
    if callable(loss):
        return Custom(loss, jax.tree.map(jnp.asarray, data))
    if loss not in CONVENTIONS:
        reject(
            f"loss={loss!r}{meant_loss(loss) or nearest(loss, CONVENTIONS)}",
            f"A loss is a function of (model, data), or one of {', '.join(CONVENTIONS)}",
            "Give for example loss='half-mean'",
        )
    X, Y = _pair(data)
    rows = np.arange(len(X))
    if size is not None and size < len(X):
        rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:size])
    return Objective(jnp.asarray(X[rows]), jnp.asarray(Y[rows]), loss)


def _pair(data: Any) -> tuple[np.ndarray, np.ndarray]:
    demand_pair(data, "Give (X, y), or loss=function(model, data)")
    X, Y = np.asarray(data[0]), np.asarray(data[1])
    if X.ndim == 0 or Y.ndim == 0 or len(X) == 0 or len(X) != len(Y):
        reject(
            f"X of shape {X.shape} and y of shape {Y.shape}", "Each of n >= 1 inputs has one label", "Check the rows"
        )
    for name, one in (("X", X), ("y", Y)):
        if np.issubdtype(one.dtype, np.inexact) and not np.all(np.isfinite(one)):
            reject(f"{name} with NaN or infinity", "Data are finite", "Remove or mend those rows")
    return X, Y


def hessian_product(loss: Callable, rebuild: Callable, leaves: tuple[Array, ...]) -> tuple[Array, tuple, Callable]:
    """The loss, its gradient, and the product with the Hessian, linearised once."""
    (value, gradient), push = jax.linearize(jax.value_and_grad(lambda new: loss(rebuild(new))), leaves)
    return value, gradient, lambda v: push(v)[1]


def gauss_newton_product(loss: Objective, rebuild: Callable, leaves: tuple[Array, ...]) -> Callable:
    """The product with the Gauss-Newton matrix, linearised once."""
    outputs, push = jax.linearize(lambda new: loss.outputs(rebuild(new)), leaves)
    pull, bend = jax.linear_transpose(push, leaves), jax.linearize(jax.grad(loss.of_outputs), outputs)[1]
    return lambda v: pull(bend(push(v)))[0]
