r"""The gradient flow of a least-squares loss by an explicit method of order 8, whose steps stability bounds.

Legend: $f: \mathbb R^p \to \mathbb R^n$, residual $r = \alpha f(w) - y$, loss $\tfrac12\|r\|^2$, flow
$\dot w = -\alpha J_w^\top r$. Integrated is $v = \alpha(w - w_0)$ over $\tau = \text{rate}\cdot t$ with
$v' = -\tfrac{\alpha^2}{\text{rate}} J_w^\top r$: with rate $= \alpha^2\sigma_{min}(J)^2$ neither the
unknown nor its clock depends on $\alpha$, so one tolerance serves every $\alpha$.
"""

import math
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .flow_result import Flow, FlowCode

# Growth of the explicit method's errors begins beyond step * eigenvalue of about 5 (Dopri8 on the negative axis).
_STABLE = 5.0
# Each step of Dopri8 evaluates the slope so often; its first slope is the last one of the step before.
_STAGES = 13


def explicit_flow(f, w0, y, times, numbers, max_steps, keep, progress) -> Flow:
    """Follow a flow with Dopri8; ``numbers`` are alpha, rate, the tolerance on v and the least step."""
    alpha, rate, tolerance, least_step = (float(one) for one in numbers)
    meter = diffrax.NoProgressMeter() if progress is None else _Meter(progress)
    start, targets, moments = (jnp.asarray(part) for part in (w0, y, times))
    states, last, result, stats = _integrate(f, start, targets, moments, numbers, max_steps, meter, least_step > 0)
    flow = _flow(f, w0, y, alpha, times, rate, math.inf if least_step else tolerance, states, stats, keep)
    return _explained(flow, f, w0, alpha, times, float(last), result, max_steps)


@eqx.filter_jit
def _integrate(f, w0, y, times, numbers, max_steps, meter, forced):
    alpha, rate, tolerance, least = numbers

    def field(_, state, __):
        outputs, pull = jax.vjp(f, w0 + state[0] / alpha)
        # Scaled before it is pulled back: a factor behind the last matrix product keeps XLA from calling the fast one.
        velocity = pull(-(alpha**2 / rate) * (alpha * outputs - y))[0]
        return velocity, jnp.linalg.norm(velocity)

    def size(state):
        return jnp.maximum(jnp.linalg.norm(state[0]), jnp.abs(state[1]))

    # Below 1e-18 of the horizon no step can follow f: it jumps or is not finite.
    least = jnp.maximum(least, 1e-18 * times[-1])
    adaptive = diffrax.PIDController(rtol=0.0, atol=tolerance, norm=size, dtmin=least, force_dtmin=forced)
    # Steps end at the times to save: between steps the interpolation is less exact than the steps are.
    controller = diffrax.ClipStepSizeController(adaptive, step_ts=times)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=(jnp.zeros_like(w0), jnp.zeros(())),
        saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=controller,
        max_steps=max_steps,
        throw=False,
        progress_meter=meter,
        adjoint=diffrax.ForwardMode(),
    )
    assert solution.ys is not None and solution.ts is not None  # both were asked for
    (states, _), (_, last) = solution.ys, solution.ts
    return states, last[-1], solution.result, (solution.stats["num_accepted_steps"], solution.stats["num_steps"])


class _Meter(diffrax.AbstractProgressMeter):
    """Tells a callback of every hundredth."""

    tell: Callable[[float], None] = eqx.field(static=True)

    def init(self):
        return jnp.zeros(())

    def step(self, state, progress):
        progress = jnp.asarray(progress, dtype=float)
        due = (progress - state >= 0.01) | (progress >= 1.0)
        jax.lax.cond(due, lambda one: jax.debug.callback(lambda p: self.tell(float(p)), one), lambda _: None, progress)
        return jnp.where(due, progress, state)

    def close(self, state):
        del state


@eqx.filter_jit
def _residuals(f, w0, y, alpha, displacements):
    return jax.lax.map(lambda step: alpha * f(w0 + step) - y, displacements)


def _flow(f, w0, y, alpha, times, rate, tolerance, states, stats, keep) -> Flow:
    scaled, lengths = (np.asarray(part) for part in states)
    accepted, tried = (int(one) for one in stats)
    residuals = np.asarray(_residuals(f, *map(jnp.asarray, (w0, y, float(alpha), scaled / alpha))))
    reached = np.isfinite(lengths) & np.all(np.isfinite(residuals), axis=1)
    displacements, lengths = scaled[reached] / alpha, lengths[reached] / alpha
    return Flow(
        times[reached],
        float(rate),
        displacements if keep == "all" else displacements[-1:],
        residuals[reached],
        np.linalg.norm(displacements, axis=1),
        lengths,
        accepted * tolerance / alpha,
        accepted,
        evaluations=_STAGES * tried,
    )


def _explained(flow: Flow, f, w0, alpha, times, last: float, result, max_steps: int) -> Flow:
    if len(flow.times) == len(times):
        return flow
    told = f"The flow was followed to time {last:.4g} of {times[-1]:g} (in units of 1/rate)"
    if bool(result == diffrax.RESULTS.successful):
        where = flow.times[-1] if len(flow.times) else 0.0
        return _failed(
            flow, FlowCode.NOT_FINITE, f"f is not finite soon after time {where:.4g}. Check f there, or stop earlier."
        )
    if not bool(result == diffrax.RESULTS.max_steps_reached):
        cause = "there f or its derivative jumps or is not finite, and no step is small enough"
        return _failed(flow, FlowCode.STEP_TOO_SMALL, f"{told}: {cause}. Check f beyond that time, or stop earlier.")
    fastest = alpha**2 * largest_eigenvalue(f, jnp.asarray(w0)) / flow.rate
    needed = math.ceil(fastest * times[-1] / _STABLE)
    if needed > max(max_steps / 4, 50):
        cause = f"its fastest direction decays {fastest:.1e} times per unit, and stability needs about {needed} steps"
        remedy = f"Take method='exponential', stop earlier, or allow max_steps={2 * needed}"
        return _failed(flow, FlowCode.STIFF, f"{told}: it is stiff, {cause} where max_steps is {max_steps}. {remedy}.")
    remedy = "Raise max_steps or rtol, or stop earlier; kinks of the activation cost many steps"
    return _failed(flow, FlowCode.TOO_MANY_STEPS, f"{told} in {max_steps} steps. {remedy}.")


def _failed(flow: Flow, code: FlowCode, reason: str) -> Flow:
    fields = {**vars(flow), "code": code, "reason": reason}
    return Flow(**fields)


@eqx.filter_jit
def largest_eigenvalue(f, w0: Float[Array, " p"]) -> Array:
    r"""$\lambda_{max}(J^\top J)$ from below, by 20 power iterations on $JJ^\top$."""
    outputs, pull = jax.vjp(f, w0)

    def turn(_, u):
        u = u / jnp.linalg.norm(u)
        return jax.jvp(f, (w0,), (pull(u)[0],))[1]

    start = jnp.linspace(1.0, 2.0, outputs.size)
    return jnp.linalg.norm(jax.lax.fori_loop(0, 20, turn, start))
