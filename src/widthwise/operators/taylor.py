r"""The linearised twin of any model, and its Taylor models of higher order.

Legend: $\theta_0$ the model's parameters, $\theta$ those of the twin, $\delta = \theta - \theta_0$,
$f(x; \theta) \in \mathbb R^k$ the outputs for one example x.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from widthwise.numerics import reject

from .adapters import adapt, examples
from .parameters import Frozen, parameters

_MOST = 8  # nested derivatives double the work with each order


class Taylor(eqx.Module):
    r"""The Taylor model $\sum_{j\le q}\frac1{j!}D^jf(x;\theta_0)[\delta,\dots,\delta]$, a callable PyTree of one input.

    Its trainable arrays are $\theta$, the tuple ``moved``; ``start`` holds the model at $\theta_0$ and stays. Without
    ``with_start`` the term $f(x; \theta_0)$ is left out. Built by `linearize` and `taylor`.
    """

    start: Frozen
    moved: tuple[Array, ...]
    order: int = eqx.field(static=True, default=1)
    with_start: bool = eqx.field(static=True, default=True)

    def __call__(self, x: ArrayLike) -> Float[Array, " k"]:
        base, rebuild = parameters(self.start.value)
        change = tuple(new - old for new, old in zip(self.moved, base, strict=True))
        terms = _tower(lambda leaves: rebuild(leaves)(x), change, self.order)(base)
        # Horner's scheme of sum_j terms[j] / j!.
        total = terms[self.order]
        for j in range(self.order - 1, 0, -1):
            total = terms[j] + total / (j + 1)
        return terms[0] + total if self.with_start else total

    @property
    def displacement(self) -> tuple[Array, ...]:
        r"""$\delta = \theta - \theta_0$, an array for each parameter."""
        base, _ = parameters(self.start.value)
        return tuple(new - old for new, old in zip(self.moved, base, strict=True))

    def displaced(self, change: tuple[Array, ...]) -> "Taylor":
        r"""The twin at $\theta = \theta_0 + \delta$ for a given $\delta$."""
        base, _ = parameters(self.start.value)
        return eqx.tree_at(lambda twin: twin.moved, self, tuple(map(jnp.add, base, change)))

    def at(self, model: Any) -> "Taylor":
        r"""The twin at the parameters of another model of the same make, for example of the trained one.

        >>> f = jax.tree_util.Partial(lambda w, x: w**2 * x, jnp.ones(1))
        >>> g = jax.tree_util.Partial(f.func, 3 * jnp.ones(1))
        >>> linearize(f).at(g)(jnp.ones(1)).tolist(), taylor(f, 2).at(g)(jnp.ones(1)).tolist()
        ([5.0], [9.0])
        """
        leaves, _ = parameters(adapt(model))
        shapes, wanted = ([leaf.shape for leaf in part] for part in (leaves, self.moved))
        if shapes != wanted:
            reject(
                f"a model with parameters of shapes {shapes}",
                f"The twin's have the shapes {wanted}",
                "Give the model that was linearised, after its training",
            )
        return eqx.tree_at(lambda twin: twin.moved, self, leaves)


def _tower(function: Callable, direction: tuple[Array, ...], order: int) -> Callable:
    """The directional derivatives of order 0 to ``order``, each the derivative of the last."""
    if order == 0:
        return lambda point: (function(point),)
    lower = _tower(function, direction, order - 1)

    def upper(point):
        values, slopes = jax.jvp(lower, (point,), (direction,))
        return (*values, slopes[-1])

    return upper


def linearize(model: Any, X: ArrayLike | None = None) -> Taylor:
    r"""The linearised (tangent) twin $f^{lin}(x;\theta) = f(x;\theta_0) + Df(x;\theta_0)[\theta-\theta_0]$ of a model.

    ``model`` is anything that `adapt` takes, ``X`` (n, ...) a few examples for it. The twin is a callable PyTree of one
    example with outputs (k,), linear in its trainable parameters $\theta$, which start at $\theta_0$; it costs about
    two calls of the model. Raises ``ValueError`` where `adapt` does. Source: jacot2018neural, chizat2019lazy.

    >>> model = jax.tree_util.Partial(lambda w, x: jnp.tanh(w @ x), jnp.zeros((1, 2)))
    >>> twin = linearize(model)
    >>> leaves, rebuild = parameters(twin)
    >>> rebuild((jnp.array([[1.0, 2.0]]),))(jnp.array([3.0, 4.0])).tolist()
    [11.0]
    """
    return taylor(model, 1, X)


def taylor(model: Any, order: int, X: ArrayLike | None = None) -> Taylor:
    r"""The Taylor model of a network around its parameters, of order 1 to 8.

    $f^{(q)}(x;\theta) = \sum_{j=0}^q\frac1{j!}D^jf(x;\theta_0)[\delta,\dots,\delta]$, exact for a model that is a
    polynomial of degree q in its parameters. Derivatives across a kink are taken from the side where the network is.
    A call costs about $2^q$ calls of the model. Raises ``ValueError`` for another order.

    >>> model = jax.tree_util.Partial(lambda w, x: w**3 * x, jnp.ones(1))
    >>> [taylor(model, q).displaced((jnp.ones(1),))(jnp.ones(1)).tolist()[0] for q in (1, 2, 3, 4)]
    [4.0, 7.0, 8.0, 8.0]
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= _MOST:
        reject(
            f"order={order}",
            f"The order of a Taylor model is a whole number from 1 to {_MOST}",
            "Give order=2 for the quadratic model",
        )
    start = adapt(model, X)
    return Taylor(Frozen(start), parameters(start)[0], order)


def linearization_gap(trained: Callable, linear: Callable, X: ArrayLike) -> float:
    r"""The relative distance of two models' outputs, $\|f(X) - f^{lin}(X)\|_F/\|f(X)\|_F$ over the examples X (n, ...).

    ``trained`` is the network, ``linear`` its trained twin; 0 where both are equal, infinite where only f is zero.

    >>> model = jax.tree_util.Partial(lambda w, x: w**2 * x, jnp.ones(1))
    >>> moved = jax.tree_util.Partial(model.func, 2 * jnp.ones(1))
    >>> linearization_gap(moved, linearize(model).at(moved), jnp.ones((3, 1)))
    0.25
    """
    X = examples(X)
    ours, theirs = (_outputs(adapt(model), X) for model in (trained, linear))
    if ours.shape != theirs.shape:
        reject(
            f"outputs of shapes {ours.shape} and {theirs.shape}",
            "Both models have the same outputs",
            "Compare a network with its own twin, made by linearize(network)",
        )
    gap, size = float(jnp.linalg.norm(ours - theirs)), float(jnp.linalg.norm(ours))
    return gap / size if size else (0.0 if gap == 0.0 else float("inf"))


@eqx.filter_jit
def _outputs(model: Callable, X: Array) -> Float[Array, "n k"]:
    return jax.vmap(model)(X)
