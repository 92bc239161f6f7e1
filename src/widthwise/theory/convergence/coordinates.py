r"""One step of gradient descent seen in the outputs: the change of coordinates and its defect of second order.

Legend: $z(\theta)$ the outputs (n,), $L(\theta) = \tilde L(z(\theta))$ the loss, $g = \nabla_\theta L$,
$J = Dz(\theta)$, $K = JJ^\top$ the tangent kernel, $\gamma$ the rate.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import activation
from widthwise.claims import Claim, Equal, Mutant
from widthwise.numerics import Estimate
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.landscapes import log_cosh
from widthwise.theory.lazy.maps import ShallowMap

from .landscapes import generator
from .record import ULPS


def step_in_outputs(
    outputs: Callable[[Array], Array], loss: Callable[[Array], Array], parameters: Float[Array, " p"], rate=1.0
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    r"""How one step moves the outputs: $-\gamma K\nabla_z\tilde L$, and the next order $\frac{\gamma^2}2D^2z[g,g]$.

    Their sum is $z(\theta-\gamma g)-z(\theta)$ up to $O(\gamma^3)$; the first alone is exact where the outputs are
    linear in the parameters. No kernel is formed: a gradient and two products with the Jacobian. Derived here.

    >>> first, second = step_in_outputs(lambda w: w**2, lambda z: 0.5 * jnp.vdot(z, z), jnp.array([1.0]), rate=0.1)
    >>> round(first.item(), 6), round(second.item(), 6)
    (-0.4, 0.04)
    """
    gradient = jax.grad(lambda w: loss(outputs(w)))(parameters)

    def push(w):
        return jax.jvp(outputs, (w,), (gradient,))[1]

    first, second = jax.jvp(push, (parameters,), (gradient,))
    return -rate * first, 0.5 * rate**2 * second


class Step(eqx.Module):
    """Random two-layer networks of these sizes with a loss that is not quadratic, and rates that halve."""

    width: int = eqx.field(static=True, default=32)
    count: int = eqx.field(static=True, default=5)
    dim: int = eqx.field(static=True, default=3)
    rate: float = 0.2
    activation: str = eqx.field(static=True, default="sin")


def _case(setup: Step, key: Array) -> tuple[ShallowMap, Array, Array]:
    rng = generator(key)
    X = rng.normal(size=(setup.count, setup.dim))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    W, signs = rng.normal(size=(setup.width, setup.dim)), rng.uniform(-1.0, 1.0, size=setup.width)
    net = Shallow(jnp.asarray(W), jnp.asarray(signs), activation(setup.activation), setup.width**-0.5)
    return ShallowMap(net, jnp.asarray(X)), jnp.asarray(W.ravel()), jnp.asarray(rng.normal(size=setup.count))


@eqx.filter_jit
def _stepped(outputs: ShallowMap, start: Array, targets: Array, rates: Array) -> tuple[Array, Array]:
    """The defects of the first order over the squared rates, and what they tend to."""

    def loss(z):
        return jnp.sum(log_cosh(z - targets))

    first, second = step_in_outputs(outputs, loss, start)
    gradient = jax.grad(lambda w: loss(outputs(w)))(start)
    before = outputs(start)
    moved = jax.vmap(lambda rate: outputs(start - rate * gradient) - before - rate * first)(rates)
    return moved / rates[:, None] ** 2, second


def _defect(setup: Step, key: Array, factor: float = 1.0) -> Float[np.ndarray, " 2"]:
    """The defect extrapolated to small rates over the predicted one: along it, which is 1, and across, which is 0."""
    rates = setup.rate * 0.5 ** np.arange(6.0)
    seen, second = (np.asarray(one) for one in _stepped(*_case(setup, key), jnp.asarray(rates)))
    # The defects are a + b rate + c rate^2 + ...: Neville's scheme takes the first five corrections out.
    for order in range(1, len(rates)):
        seen = seen[1:] + (seen[1:] - seen[:-1]) / (2.0**order - 1.0)
    along = seen[0] @ (factor * second) / (factor * second @ (factor * second))
    return np.array([along, np.linalg.norm(seen[0] - along * factor * second) / np.linalg.norm(second)])


def _predict(setup: Step) -> Estimate:
    """Five corrections leave rate^6 over a factorial; the last difference loses eps/rate^2 to rounding."""
    return Estimate(np.array([1.0, 0.0]), setup.rate**6 + _rounding(setup))


def _rounding(setup: Step) -> float:
    return 8.0 * ULPS * 2.0**-52 * (32.0 / setup.rate) ** 2


def _smooth(setup: Step) -> str | None:
    act = activation(setup.activation)
    return None if act.smooth else f"the defect is of second order for smooth outputs only; {act.name} has a kink"


def _bent(setup: Step) -> str | None:
    return None if setup.activation != "identity" else "outputs that are linear in the parameters have no defect"


def _seen(setup: Step) -> str | None:
    """The defect is above its rounding."""
    if setup.rate > 0 and _rounding(setup) < 1e-3:
        return None
    return f"a defect of second order is lost in rounding because the rate is {setup.rate:g}"


CLAIMS = (
    Claim(
        id="LAZY-31",
        name="step-in-output-coordinates",
        statement=r"One step of gradient descent moves the outputs by "
        r"$-\gamma K\nabla_z\tilde L+\frac{\gamma^2}2D^2z[g,g]+O(\gamma^3)$ with $g=\nabla_\theta L$; without the "
        r"second term it is exact only for outputs that are linear in the parameters.",
        setup=Step,
        predict=_predict,
        measure=_defect,
        relation=Equal(),
        assumptions=(_smooth, _bent, _seen),
        derived_here=True,
        mutants=(
            Mutant("half lost", {"measure": partial(_defect, factor=2.0)}),
            Mutant("no defect", {"predict": lambda _: Estimate(np.zeros(2), 1e-3), "relation": Equal(scale=1.0)}),
        ),
    ),
)
