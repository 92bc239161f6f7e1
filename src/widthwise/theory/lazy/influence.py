r"""What one step of gradient descent does to the outputs: the tangent kernel carries the slopes of the loss.

Legend: $f(x) \in \mathbb R^k$ the outputs, $\Psi_{jl}(x, y) = \sum_p\partial_{\theta_p}f_j(x)\,
\partial_{\theta_p}f_l(y)$ the empirical NTK, $\ell$ the loss of one example, $\eta$ the learning rate.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import activation
from widthwise.claims import Claim, Mutant, Scaling
from widthwise.networks import MLP, sample
from widthwise.numerics import Estimate
from widthwise.operators import empirical_kernel, parameters

_RATES = (0.02, 0.01, 0.005, 0.0025)


def output_step(kernel: Float[Array, "q k n k"], slopes: Float[Array, "n k"], rate: float = 1.0):
    r"""The change of the outputs in one step on $\frac1n\sum_i\ell(f(x_i))$, to first order in the rate.

    $\Delta f_j(x) = -\frac\eta n\sum_{i,l}\Psi_{jl}(x, x_i)\,\partial_{f_l}\ell(f(x_i)) + O(\eta^2)$, for q inputs x as
    (q, k); ``kernel`` is ``entk(model, x, X)`` and ``slopes`` the derivatives of each example's loss by its outputs.
    Source: jacot2018neural.

    >>> output_step(jnp.ones((1, 1, 2, 1)), jnp.array([[1.0], [3.0]]), rate=0.5).tolist()
    [[-1.0]]
    """
    return -rate / len(slopes) * jnp.einsum("qjnl,nl->qj", kernel, slopes)


class StepCase(eqx.Module):
    """A kind of network with k outputs, inputs with classes for one step on the mean cross-entropy, and others."""

    mlp: MLP = eqx.field(static=True)
    X: Float[Array, "n d"]
    classes: Array
    others: Float[Array, "q d"]
    outputs: int = eqx.field(static=True, default=3)


def _case() -> StepCase:
    X = jr.normal(jr.key(11), (6, 4))
    return StepCase(MLP(width=12, depth=2, activation="tanh", bias_variance=0.2), X[:4], jnp.array([0, 2, 1, 2]), X[3:])


def cross_entropy_slopes(outputs: Float[Array, "n k"], classes: Array) -> Float[Array, "n k"]:
    r"""The derivative of the cross-entropy by the outputs, $\partial_{f_l}\ell = p_l - [l = y]$, p the softmax.

    >>> cross_entropy_slopes(jnp.zeros((1, 2)), jnp.array([0])).tolist()
    [[-0.5, 0.5]]
    """
    return jax.nn.softmax(outputs, axis=1) - jax.nn.one_hot(classes, outputs.shape[1], dtype=outputs.dtype)


@eqx.filter_jit
def _first_order(model: Callable, case: StepCase) -> tuple[Array, Array]:
    """The kernel between the other inputs and those of the step, and the slopes."""
    kernel = empirical_kernel(model, case.others, case.X, outputs="all")
    return kernel, cross_entropy_slopes(jax.vmap(model)(case.X), case.classes)


@eqx.filter_jit
def _stepped(model: Callable, case: StepCase) -> Float[Array, "rates q k"]:
    """The change of the outputs over the rate, at each rate, by a step on the parameters."""
    leaves, rebuild = parameters(model)

    def loss(leaves):
        outputs = jax.vmap(rebuild(leaves))(case.X)
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(outputs) * jax.nn.one_hot(case.classes, case.outputs), axis=1))

    gradient, before = jax.grad(loss)(leaves), jax.vmap(model)(case.others)

    def change(rate):
        moved = jax.tree.map(lambda leaf, slope: leaf - rate * slope, leaves, gradient)
        return (jax.vmap(rebuild(moved))(case.others) - before) / rate

    return jnp.stack([change(rate) for rate in _RATES])


def _deviations(case: StepCase, key: Array, law: Callable = output_step) -> np.ndarray:
    """How far the outputs of a random network move off the first order, relatively, at each rate."""
    model = sample(case.mlp.network(case.outputs), key, case.X.shape[1])
    first = law(*_first_order(model, case))
    off = _stepped(model, case) - first[None]
    return np.asarray(jnp.linalg.norm(off.reshape(len(_RATES), -1), axis=1) / jnp.linalg.norm(first))


def _own_output(kernel: Array, slopes: Array) -> Array:
    """Each output moves by its own kernel only."""
    return output_step(kernel * jnp.eye(kernel.shape[1])[None, :, None, :], slopes)


def _half(kernel: Array, slopes: Array) -> Array:
    return 0.5 * output_step(kernel, slopes)


def _summed(kernel: Array, slopes: Array) -> Array:
    """As if the loss were a sum over examples."""
    return len(slopes) * output_step(kernel, slopes)


def _smooth(case: StepCase) -> str | None:
    """The outputs are smooth in the parameters, so that the next term is of second order."""
    act = activation(case.mlp.activation)
    return None if act.smooth else f"the outputs have kinks, because {act.name} has one"


CLAIMS = (
    Claim(
        id="HESS-4",
        name="one-step-moves-outputs-by-the-tangent-kernel",
        statement=r"One step of gradient descent on $\frac1N\sum_i\ell(f(x_i),y_i)$ changes the outputs by "
        r"$\Delta f_j(x)=-\frac\eta N\sum_{i,k}\Psi_{jk}(x,x_i)\,\partial_{f_k}\ell(f(x_i),y_i)+O(\eta^2)$: "
        r"the relative deviation falls as $\eta$.",
        sources=("jacot2018neural",),
        setup=_case,
        # Over 1/eta; the fit has the next order, and the one after it is of the size of the rate squared.
        predict=lambda case: Estimate(-1.0, _RATES[0]),
        measure=_deviations,
        relation=Scaling(sizes=tuple(1.0 / rate for rate in _RATES)),
        assumptions=(_smooth,),
        draws=12,
        mutants=(
            Mutant("each output by its own kernel", {"measure": partial(_deviations, law=_own_output)}),
            Mutant("a factor 1/2", {"measure": partial(_deviations, law=_half)}),
            Mutant("lost 1/N", {"measure": partial(_deviations, law=_summed)}),
        ),
    ),
)
