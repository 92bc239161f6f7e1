r"""Gradient flow of a least-squares loss, for any differentiable map.

Legend: $f: \mathbb R^p \to \mathbb R^n$, residual $r = \alpha f(w) - y$, loss $\tfrac12\|r\|^2$, flow
$\dot w = -\alpha J_w^\top r$. Integrated is $v = \alpha(w - w_0)$ over $\tau = \text{rate}\cdot t$ with
$v' = -\tfrac{\alpha^2}{\text{rate}} J_w^\top r$: with rate $= \alpha^2\sigma_{min}(J)^2$ neither the
unknown nor its clock depends on $\alpha$, so one tolerance serves every $\alpha$.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.numerics import reject

# Growth of the explicit method's errors begins beyond step * eigenvalue of about 5 (Dopri8 on the negative axis).
_STABLE = 5.0


class FlowCode(enum.Enum):
    """How an integration ended."""

    SUCCESSFUL = "successful"
    STIFF = "stiff"
    TOO_MANY_STEPS = "too many steps"
    STEP_TOO_SMALL = "step too small"
    NOT_FINITE = "not finite"


@dataclass(frozen=True, eq=False)
class Flow:
    r"""A gradient flow at the saved times that were reached.

    ``times`` (k,) are in units of 1/``rate``; ``displacements`` (k, p) are $w(t) - w_0$,
    ``residuals`` (k, n) $\alpha f(w(t)) - y$, ``lengths`` (k,) the length of the path from $w_0$.
    ``error`` is a first-order bound on the error of a displacement and of a length: the tolerances
    of all steps added up, as where the flow contracts; infinite where steps were kept from shrinking.
    """

    times: Float[np.ndarray, " k"]
    rate: float
    displacements: Float[np.ndarray, "k p"]
    residuals: Float[np.ndarray, "k n"]
    lengths: Float[np.ndarray, " k"]
    error: float
    steps: int
    code: FlowCode = FlowCode.SUCCESSFUL
    reason: str = ""

    @property
    def distances(self) -> Float[np.ndarray, " k"]:
        r"""$\|w(t) - w_0\|$."""
        return np.linalg.norm(self.displacements, axis=1)

    @property
    def residual_norms(self) -> Float[np.ndarray, " k"]:
        r"""$\|\alpha f(w(t)) - y\|$; half its square is the loss."""
        return np.linalg.norm(self.residuals, axis=1)

    def __repr__(self) -> str:
        return f"Flow({self.code.value}: {len(self.times)} times, {self.steps} steps)"


def gradient_flow(
    f: Callable[[Float[Array, " p"]], Float[Array, " n"]],
    w0: ArrayLike,
    y: ArrayLike,
    alpha: float = 1.0,
    *,
    times: ArrayLike,
    rate: float = 1.0,
    rtol: float = 1e-9,
    max_steps: int = 100_000,
    least_step: float = 0.0,
    throw: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Flow:
    r"""Integrate $\dot w = -\alpha J_w^\top(\alpha f(w) - y)$ from $w_0$, the flow of $\tfrac12\|\alpha f(w) - y\|^2$.

    Args:
        f: a differentiable map (p,) -> (n,); as a PyTree (``eqx.Module``, ``Partial``) it is compiled once.
        w0: the initial parameters (p,).
        y: the targets (n,).
        alpha: the factor on the output, above 0.
        times: increasing times (k,) above 0 at which to save, in units of 1/rate.
        rate: the inverse unit of time; $\alpha^2\sigma_{min}^2$ makes the slowest direction decay like $e^{-\tau}$.
        rtol: the tolerance of one step relative to $\|r_0\|^2/\|J^\top r_0\|$, a lower bound on the way to go;
            where rounding of the parameters disturbs a step by more, the tolerance is that.
        max_steps: give up after so many steps.
        least_step: steps, in the unit of times, are not made smaller than this, whatever the tolerance asks for. A
            flow can slide along a kink of f, where steps would shrink for ever; its error is then not bounded.
        throw: raise when the last time is not reached; with ``False`` the answer says so in its ``code``.
        progress: called with the part of the time that is done, between 0 and 1.

    Raises ``ValueError`` for shapes that do not fit and numbers that are not finite, and ``RuntimeError``
    with cause and remedy for a flow that does not get to its last time. Runs in float64.

    >>> flow = gradient_flow(lambda w: 2 * w, [0.0], [1.0], times=[0.25, 0.5])
    >>> np.round(flow.residuals[:, 0], 8).tolist(), np.round(-np.exp([-1.0, -2.0]), 8).tolist()
    ([-0.36787944, -0.13533528], [-0.36787944, -0.13533528])
    """
    w0, y, times = (np.asarray(part, dtype=float) for part in (w0, y, times))
    _check_numbers(w0, y, times, {"alpha": alpha, "rate": rate, "rtol": rtol})
    with jax.enable_x64(True):
        _check_map(f, w0, y)
        speed, scale = _initial(f, jnp.asarray(w0), jnp.asarray(y), alpha)
        if speed == 0.0:
            return _at_rest(f, w0, y, alpha, times, rate)
        meter = diffrax.NoProgressMeter() if progress is None else _Meter(progress)
        start, targets, moments = (jnp.asarray(part) for part in (w0, y, times))
        tolerance = max(rtol * scale, _rounding(w0, alpha))
        numbers = jnp.array([alpha, rate, tolerance, least_step], dtype=float)
        states, last, result, steps = _integrate(f, start, targets, moments, numbers, max_steps, meter, least_step > 0)
        flow = _flow(f, w0, y, alpha, times, rate, math.inf if least_step else tolerance, states, steps)
        flow = _explained(flow, f, w0, alpha, times, float(last), result, max_steps)
    if throw and flow.code is not FlowCode.SUCCESSFUL:
        raise RuntimeError(flow.reason)
    return flow


def _rounding(w0: np.ndarray, alpha: float) -> float:
    r"""What the rounding of $w_0 + v/\alpha$ does to a step of v: no tolerance below it can be kept.

    A step moves v by at most about ten times what it changes $\alpha w$ by, and $w$ is rounded entry by entry.
    """
    return 10.0 * alpha * float(np.finfo(float).eps * np.linalg.norm(w0) / math.sqrt(w0.size))


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
    return states, last[-1], solution.result, solution.stats["num_accepted_steps"]


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
def _start(f, w0, y, alpha):
    outputs, pull = jax.vjp(f, w0)
    residual = alpha * outputs - y
    return jnp.linalg.norm(residual), jnp.linalg.norm(pull(residual)[0])


def _initial(f, w0: Array, y: Array, alpha: float) -> tuple[float, float]:
    r"""$\|J^\top r_0\|$ and $\|r_0\|^2/\|J^\top r_0\|$."""
    residual, gradient = (float(one) for one in _start(f, w0, y, jnp.asarray(alpha, dtype=float)))
    if not math.isfinite(residual * gradient):
        reject(
            f"f(w0) with a residual of norm {residual} and a gradient of norm {gradient}",
            "f and its derivative are finite at w0",
            "Look for the first layer that overflows",
        )
    return gradient, residual**2 / gradient if gradient else 0.0


@eqx.filter_jit
def _residuals(f, w0, y, alpha, displacements):
    return jax.lax.map(lambda step: alpha * f(w0 + step) - y, displacements)


def _flow(f, w0, y, alpha, times, rate, tolerance, states, steps) -> Flow:
    scaled, lengths = (np.asarray(part) for part in states)
    residuals = np.asarray(_residuals(f, *map(jnp.asarray, (w0, y, float(alpha), scaled / alpha))))
    reached = np.isfinite(lengths) & np.all(np.isfinite(residuals), axis=1)
    error = int(steps) * tolerance / alpha
    displacements, lengths = scaled[reached] / alpha, lengths[reached] / alpha
    return Flow(times[reached], float(rate), displacements, residuals[reached], lengths, error, int(steps))


def _at_rest(f, w0, y, alpha, times, rate) -> Flow:
    """A flow that starts at a critical point stays there."""
    residual = alpha * np.asarray(f(jnp.asarray(w0))) - y
    count = len(times)
    return Flow(times, float(rate), np.zeros((count, w0.size)), np.tile(residual, (count, 1)), np.zeros(count), 0.0, 0)


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
    fastest = alpha**2 * _largest_eigenvalue(f, jnp.asarray(w0)) / flow.rate
    needed = math.ceil(fastest * times[-1] / _STABLE)
    if needed > max(max_steps / 4, 50):
        cause = f"its fastest direction decays {fastest:.1e} times per unit, and stability needs about {needed} steps"
        remedy = f"Stop earlier, or allow max_steps={2 * needed}"
        return _failed(flow, FlowCode.STIFF, f"{told}: it is stiff, {cause} where max_steps is {max_steps}. {remedy}.")
    remedy = "Raise max_steps or rtol, or stop earlier; kinks of the activation cost many steps"
    return _failed(flow, FlowCode.TOO_MANY_STEPS, f"{told} in {max_steps} steps. {remedy}.")


def _failed(flow: Flow, code: FlowCode, reason: str) -> Flow:
    fields = {**vars(flow), "code": code, "reason": reason}
    return Flow(**fields)


@eqx.filter_jit
def _largest_eigenvalue(f, w0: Float[Array, " p"]) -> Array:
    r"""$\lambda_{max}(J^\top J)$ from below, by 20 power iterations on $JJ^\top$."""
    outputs, pull = jax.vjp(f, w0)

    def turn(_, u):
        u = u / jnp.linalg.norm(u)
        return jax.jvp(f, (w0,), (pull(u)[0],))[1]

    start = jnp.linspace(1.0, 2.0, outputs.size)
    return jnp.linalg.norm(jax.lax.fori_loop(0, 20, turn, start))


def _check_numbers(w0, y, times, positive: dict[str, float]) -> None:
    if w0.ndim != 1 or y.ndim != 1 or w0.size == 0 or y.size == 0:
        reject(
            f"w0 of shape {w0.shape} and y of shape {y.shape}",
            "They are vectors (p,) and (n,), neither empty",
            "Flatten the parameters, as widthwise.operators.flatten does",
        )
    for name, part in (("w0", w0), ("y", y)):
        if not np.all(np.isfinite(part)):
            where = int(np.argmin(np.isfinite(part)))
            reject(f"{name}[{where}] is {part[where]}", "Every entry is a finite number", "Look where it came from")
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            reject(f"{name}={value}", f"{name} is a positive number", f"Leave {name} out for its default")
    if times.ndim != 1 or times.size == 0 or not np.all(np.isfinite(times)) or np.any(np.diff(times, prepend=0.0) <= 0):
        reject(
            f"times {times}",
            "Times are increasing, finite and above 0",
            "Give for example times=np.linspace(0, 14, 57)[1:]",
        )


def _check_map(f: Callable, w0: np.ndarray, y: np.ndarray) -> None:
    shape: Any = jax.eval_shape(f, jax.ShapeDtypeStruct(w0.shape, float))
    if getattr(shape, "shape", None) != y.shape:
        reject(
            f"f returns {getattr(shape, 'shape', shape)} for parameters of shape {w0.shape}, y has shape {y.shape}",
            "f maps the parameters (p,) to the outputs (n,) that y is compared with",
            "Flatten several outputs per input into n rows",
        )
