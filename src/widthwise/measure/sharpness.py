r"""How curved the loss is: the largest eigenvalues that decide which learning rates are stable.

Legend: $R(w) = \frac1{2n}\sum_i\|f(x_i; w) - t_i\|^2$ the risk, $J = Df(w)$ the Jacobian of all
outputs on the n inputs, $\Theta = JJ^\top$ the empirical NTK.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.numerics import Estimate
from widthwise.operators import hessian, ntk_operator, parameters

from .lanczos import Quadrature, Tridiagonal, quadrature, top_eigenvalue, tridiagonalise


class Risk(eqx.Module):
    r"""The risk $R(w) = \frac1{2n}\sum_i\|f(x_i; w) - t_i\|^2$ of a model, summed over outputs.

    >>> risk = Risk(jnp.ones((2, 1)), jnp.zeros((2, 1)))
    >>> float(risk(lambda x: 3 * x))
    4.5
    """

    X: Float[Array, "n d"]
    T: Float[Array, "n k"]

    def __call__(self, model: Callable) -> Float[Array, ""]:
        return 0.5 * jnp.mean(jnp.sum((jax.vmap(model)(self.X) - self.T) ** 2, axis=1))


def hessian_sharpness(model: Callable, X: Float[Array, "n d"], T: Float[Array, "n k"], steps: int = 24) -> Estimate:
    r"""The largest eigenvalue of $\nabla^2R(w)$, by Lanczos from a random vector.

    Each step costs about two gradients; the error is the residual's bound.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> round(hessian_sharpness(model, jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2))).value, 12)
    9.0
    """
    return top_eigenvalue(_hessian_lanczos(model, Risk(X, T), steps))


def ntk_sharpness(model: Callable, X: Float[Array, "n d"], steps: int = 24) -> Estimate:
    r"""The largest eigenvalue of $\Theta/n$, which the Hessian of R has where the residual vanishes.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> round(ntk_sharpness(model, jnp.array([[1.0, 3.0]])).value, 12)
    9.0
    """
    start = jr.normal(jr.key(0), (len(X), _outputs(model, X)))
    return top_eigenvalue(_ntk_lanczos(model, X, start, steps))


def ntk_quadrature(model: Callable, X: Float[Array, "n d"], start: Float[Array, "n k"], steps: int = 48) -> Quadrature:
    r"""The quadrature of $r^\top g(\Theta/n)\,r$ for a residual r (n, k), with two-sided bounds; no kernel is formed.

    With $g(\lambda) = \frac1{2n}e^{-2\lambda t}$ or $\frac1{2n}(1-\eta\lambda)^{2s}$ it is the risk of the tangent
    model after time t of the flow, or s steps of gradient descent.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2))
    >>> rule = ntk_quadrature(model, jnp.array([[1.0, 3.0]]), jnp.array([[2.0, 1.0]]))
    >>> round(float(rule(lambda x: 0.5 * (1 - 0.1 * x) ** 2).value), 12)
    1.625
    """
    return quadrature(_ntk_lanczos(model, X, start, steps), lower=0.0)


def _outputs(model: Callable, X: Float[Array, "n d"]) -> int:
    return jax.eval_shape(model, X[0]).shape[0]


@eqx.filter_jit
def _ntk_lanczos(model, X, start, steps) -> Tridiagonal:
    product = ntk_operator(model, X).mv
    return tridiagonalise(lambda v: product(v) / len(X), start, steps)


@eqx.filter_jit
def _hessian_lanczos(model, loss, steps) -> Tridiagonal:
    leaves, _ = parameters(model)
    keys = jr.split(jr.key(0), len(leaves))
    start = tuple(jr.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True))
    return tridiagonalise(hessian(loss, model).mv, start, steps)
