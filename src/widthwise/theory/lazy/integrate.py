"""Integrate an ordinary differential equation to a tolerance that bounds the error of a measurement."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

TOLERANCE = 1e-11
MOST_STEPS = 1000
# Each step is wrong by at most the tolerance relative to the state, and a flow that does not expand
# distances only adds these errors up. An expanding flow multiplies them by its expansion.
FLOW_ERROR = MOST_STEPS * TOLERANCE


def integrate(field: Callable[[Any, Any], Any], start: PyTree, times: Float[Array, " T"]) -> PyTree:
    r"""Solve $\dot y = \mathrm{field}(t, y)$, $y(0) =$ ``start``, and return y at the increasing ``times``.

    Order 8 (Dormand-Prince), relative tolerance 1e-11 per step and at most 1000 steps, so that a
    state of size one is wrong by at most ``FLOW_ERROR``. Raises (``eqx.EquinoxRuntimeError``) when
    the steps do not suffice.

    >>> with jax.enable_x64(True):
    ...     end = integrate(lambda t, y: -y, jnp.array(1.0), jnp.array([1.0, 2.0]))
    >>> [round(one, 10) for one in end.tolist()]
    [0.3678794412, 0.1353352832]
    """
    # Steps end at the times asked for: interpolating between steps would be less exact than the steps are.
    controller = diffrax.PIDController(rtol=TOLERANCE, atol=1e-3 * TOLERANCE)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: field(t, y)),
        diffrax.Dopri8(),
        t0=jnp.zeros_like(times[0]),
        t1=times[-1],
        dt0=None,
        y0=start,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ClipStepSizeController(controller, step_ts=times),
        max_steps=MOST_STEPS,
        adjoint=diffrax.ForwardMode(),
    ).ys


@eqx.filter_jit
def risk_flow(risk: Callable[[Array], Array], start: Float[Array, " d"], times: Float[Array, " T"]) -> dict:
    r"""Follow $\dot w = -\nabla R(w)$ with its arc length: ``{"point": (T, d), "length": (T,)}``.

    >>> with jax.enable_x64(True):
    ...     walk = risk_flow(lambda w: 0.5 * w @ w, jnp.array([3.0, 4.0]), jnp.array([jnp.log(2.0)]))
    >>> [round(one, 9) for one in walk["point"][0].tolist()], round(walk["length"].item(), 9)
    ([1.5, 2.0], 2.5)
    """
    slope = jax.grad(risk)

    def field(_, state):
        velocity = -slope(state["point"])
        return {"point": velocity, "length": jnp.linalg.norm(velocity)}

    return integrate(field, {"point": start, "length": jnp.zeros_like(times[0])}, times)
