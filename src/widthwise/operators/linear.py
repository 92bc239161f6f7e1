r"""Jacobian, empirical NTK, Hessian and Gauss-Newton matrix of any model, as lineax operators.

Legend: n inputs of any shape, k outputs each, p parameters $\theta$; $f(\theta) \in
\mathbb R^{n \times k}$ are the outputs on the whole batch and $J = Df(\theta)$.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Shaped

from widthwise.numerics import demand_numbers, reject

from .parameters import demand_drawn, parameters


def jacobian(model: Callable, X: Shaped[Array, "n ..."]) -> lx.AbstractLinearOperator:
    r"""The Jacobian $J = Df(\theta)$ of the batch outputs as a lineax operator, never formed.

    Its input is the tuple of parameter arrays, its output has shape (n, k). Products cost one
    forward-mode derivative, products with the transpose one reverse-mode derivative.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> jacobian(model, jnp.eye(2)).mv((jnp.array([[3.0, 4.0]]),)).ravel().tolist()
    [3.0, 4.0]
    """
    demand_numbers("X", X)
    leaves, rebuild = parameters(model)
    return lx.linearise(lx.JacobianLinearOperator(lambda new, _: jax.vmap(rebuild(new))(X), leaves))


def ntk_operator(model: Callable, X: Shaped[Array, "n ..."]) -> lx.AbstractLinearOperator:
    r"""The empirical NTK $J J^\top$ on arrays of shape (n, k), symmetric and PSD, never formed.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> ntk_operator(model, jnp.eye(2)).mv(jnp.ones((2, 1))).ravel().tolist()
    [1.0, 1.0]
    """
    J = jacobian(model, X)
    return lx.TaggedLinearOperator(J @ J.T, lx.positive_semidefinite_tag)


def hessian(loss: Callable[[Callable], Float[Array, ""]], model: Callable) -> lx.AbstractLinearOperator:
    r"""The Hessian $\nabla^2_\theta\,\text{loss}(f_\theta)$ on tuples of parameter arrays, symmetric, never formed.

    ``loss`` takes the model and returns a scalar; one product costs about two gradients.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> H = hessian(lambda f: 0.5 * jnp.sum(f(jnp.array([1.0, 3.0])) ** 2), model)
    >>> H.mv((jnp.ones(2),))[0].tolist()
    [1.0, 9.0]
    """
    if not callable(loss) or not callable(model):
        demand_drawn(model if callable(loss) else loss)
        reject(
            f"a loss of type {type(loss).__name__} and a model of type {type(model).__name__}",
            "Both are functions: the loss of the model, and the model of one input",
            "Give hessian(loss, model), for example with lambda f: jnp.mean((jax.vmap(f)(X) - y) ** 2)",
        )
    leaves, rebuild = parameters(model)
    gradient = jax.grad(lambda new: loss(rebuild(new)))
    return lx.linearise(lx.JacobianLinearOperator(lambda new, _: gradient(new), leaves, tags=lx.symmetric_tag))


def gauss_newton(model: Callable, X: Shaped[Array, "n ..."]) -> lx.AbstractLinearOperator:
    r"""The Gauss-Newton matrix $J^\top J$ of the loss $\tfrac12\sum\|f - y\|^2$, symmetric and PSD, never formed.

    It shares its nonzero eigenvalues with the empirical NTK.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> gauss_newton(model, 2 * jnp.eye(2)).mv((jnp.ones((1, 2)),))[0].tolist()
    [[4.0, 4.0]]
    """
    J = jacobian(model, X)
    return lx.TaggedLinearOperator(J.T @ J, lx.positive_semidefinite_tag)


def jacobian_matrix(model: Callable, X: Shaped[Array, "n ..."], block: int = 64) -> Float[Array, "n k p"]:
    """Form the Jacobian, one row per output of each input; ``block`` inputs are differentiated at a time.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.ones((1, 2)))
    >>> jacobian_matrix(model, jnp.eye(2)).shape
    (2, 1, 2)
    """
    leaves, rebuild = parameters(model)
    derivative = jax.jacrev(lambda new, x: rebuild(new)(x))

    def row(x):
        rows = derivative(leaves, x)
        return jnp.concatenate([jnp.reshape(part, (part.shape[0], -1)) for part in rows], axis=1)

    return jax.lax.map(row, X, batch_size=min(block, len(X)))
