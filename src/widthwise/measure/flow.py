r"""Gradient flow of a least-squares loss, for any differentiable map, and its linearised twin.

Legend: $f: \mathbb R^p \to \mathbb R^n$, residual $r = \alpha f(w) - y$, loss $\tfrac12\|r\|^2$, flow
$\dot w = -\alpha J_w^\top r$; rate the inverse unit of time, $v = \alpha(w - w_0)$.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.numerics import reject

from .exponential import Numbers
from .flow_explicit import explicit_flow, largest_eigenvalue
from .flow_result import Flow, FlowCode
from .flow_steps import Problem, Walk, tangent_walk, walk

METHODS = ("auto", "exponential", "runge-kutta")
# Where its steps would be more than 4,000 for stability alone, those in the eigenbasis of the kernel cost less,
# as long as the kernel is not itself what is large.
_STIFF, _LARGEST_KERNEL = 20_000.0, 4_000


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
    method: str = "auto",
    kernel: Callable[[Float[Array, " p"]], Float[Array, "n n"]] | None = None,
    keep: str = "all",
) -> Flow:
    r"""Integrate $\dot w = -\alpha J_w^\top(\alpha f(w) - y)$ from $w_0$, the flow of $\tfrac12\|\alpha f(w) - y\|^2$.

    Args:
        f: a differentiable map (p,) -> (n,); as a PyTree (``eqx.Module``, ``Partial``) it is compiled once.
        w0: the initial parameters (p,).
        y: the targets (n,).
        alpha: the factor on the output, above 0.
        times: increasing times (k,) above 0 at which to save, in units of 1/rate.
        rate: the inverse unit of time; $\alpha^2\sigma_{min}^2$ makes the slowest direction decay like $e^{-\tau}$.
        rtol: the tolerance of one step relative to $\|J^\top r_0\|/\|Jg\|^2$, g the direction of $J^\top r_0$: the way
            to the least loss along g of the map made linear, at most $\|J^+r_0\|$, that to its least loss of all;
            where rounding of the parameters disturbs a step by more, the tolerance is that.
        max_steps: give up after so many steps.
        least_step: steps, in the unit of times, are not made smaller than this, whatever the tolerance asks for. A
            flow can slide along a kink of f, where steps would shrink for ever; its error is then not bounded.
        throw: raise when the last time is not reached; with ``False`` the answer says so in its ``code``.
        progress: called with the part of the time that is done, between 0 and 1; a ``StopIteration`` from it ends
            the exponential method there, with the code INTERRUPTED.
        method: ``"runge-kutta"`` (Dopri8, order 8) takes $\alpha^2\lambda_{max}(J^\top J)\,t/5$ steps at the least;
            ``"exponential"`` (order 5) works in the eigenbasis of the tangent kernel (n, n), takes as few steps as the
            *change* of the kernel allows, and needs no time at all for what is linear. ``"auto"`` is exponential
            where the other would need more than 4,000 steps, unless n is above 4,000 or ``least_step`` is given.
        kernel: w -> $J_wJ_w^\top$ (n, n) for the exponential method, where that costs less than n products with
            J and its transpose. J itself (n, p) is never held.
        keep: ``"all"`` displacements, or only the ``"last"``, where (k, p) numbers are too many.

    Raises ``ValueError`` for shapes that do not fit and numbers that are not finite, and ``RuntimeError``
    with cause and remedy for a flow that does not get to its last time. Runs in float64.
    Source: hochbruck2010exponential.

    >>> flow = gradient_flow(lambda w: 2 * w, [0.0], [1.0], times=[0.25, 0.5])
    >>> np.round(flow.residuals[:, 0], 8).tolist(), np.round(-np.exp([-1.0, -2.0]), 8).tolist()
    ([-0.36787944, -0.13533528], [-0.36787944, -0.13533528])
    """
    w0, y, times = (np.asarray(part, dtype=float) for part in (w0, y, times))
    _check_numbers(w0, y, times, {"alpha": alpha, "rate": rate, "rtol": rtol})
    _check_words(method, keep, least_step)
    with jax.enable_x64(True):
        _check_map(f, w0, y, kernel)
        speed, scale, fastest = _initial(f, jnp.asarray(w0), jnp.asarray(y), alpha)
        if speed == 0.0:
            return _at_rest(f, w0, y, alpha, times, rate, keep)
        tolerance = max(rtol * scale, _rounding(w0, alpha))
        if method == "auto" and least_step == 0.0 and y.size <= _LARGEST_KERNEL:
            slow = _STIFF / (alpha**2 * times[-1] / rate)
            # The curvature along the gradient can miss the largest one, and costs nothing.
            stiff = fastest > slow or float(largest_eigenvalue(f, jnp.asarray(w0))) > slow
            method = "exponential" if stiff else "runge-kutta"
        if method == "exponential":
            problem = _problem(f, w0, y, alpha, rate, kernel)
            flow = _walked(walk(problem, times, tolerance / alpha, max_steps, keep, progress), times, rate, max_steps)
        else:
            numbers = jnp.array([alpha, rate, tolerance, least_step], dtype=float)
            flow = explicit_flow(f, w0, y, times, numbers, max_steps, keep, progress)
    if throw and flow.code is not FlowCode.SUCCESSFUL:
        raise RuntimeError(flow.reason)
    return flow


def tangent_flow(
    f: Callable[[Float[Array, " p"]], Float[Array, " n"]],
    w0: ArrayLike,
    y: ArrayLike,
    alpha: float = 1.0,
    *,
    times: ArrayLike,
    rate: float = 1.0,
    kernel: Callable[[Float[Array, " p"]], Float[Array, "n n"]] | None = None,
    keep: str = "all",
) -> Flow:
    r"""The linearised twin of ``gradient_flow``: $\dot u = -\alpha J^\top(\alpha f(w_0) + \alpha J(u - w_0) - y)$.

    J is the Jacobian at $w_0$. In the eigenbasis of its kernel, $JJ^\top = Q\Lambda Q^\top$, in closed form
    $u(t) - w_0 = -\alpha J^\top Q\,\frac{1 - e^{-\alpha^2\Lambda t}}{\alpha^2\Lambda}\,Q^\top r_0$, and J (n, p) is
    not held. Arguments, units and what is raised are those of ``gradient_flow``; ``error`` is that of the rounding
    of the slope and of the eigenvalues, large where $\alpha^2\lambda_{max}t$ comes near to $10^{16}/n$.
    Source: bartlett2021deep.

    >>> twin = tangent_flow(lambda w: 2 * w - w**2, [0.0], [1.0], times=[0.25, 0.5])
    >>> np.round(twin.residuals[:, 0], 8).tolist(), np.round(-np.exp([-1.0, -2.0]), 8).tolist()
    ([-0.36787944, -0.13533528], [-0.36787944, -0.13533528])
    """
    w0, y, times = (np.asarray(part, dtype=float) for part in (w0, y, times))
    _check_numbers(w0, y, times, {"alpha": alpha, "rate": rate})
    _check_words("exponential", keep, 0.0)
    with jax.enable_x64(True):
        _check_map(f, w0, y, kernel)
        if _initial(f, jnp.asarray(w0), jnp.asarray(y), alpha)[0] == 0.0:
            return _at_rest(f, w0, y, alpha, times, rate, keep)
        return _walked(tangent_walk(_problem(f, w0, y, alpha, rate, kernel), times, keep), times, rate, 1)


def _problem(f, w0, y, alpha, rate, kernel) -> Problem:
    alpha, rate = (jnp.asarray(number, dtype=float) for number in (alpha, rate))
    return Problem(f, jnp.asarray(w0), jnp.asarray(y), Numbers(alpha, rate), kernel)


def _walked(seen: Walk, times: np.ndarray, rate: float, max_steps: int) -> Flow:
    """The flow of what the exponential method saved, with cause and remedy where it did not get to its end."""
    told = f"The flow was followed to time {seen.last:.4g} of {times[-1]:g} (in units of 1/rate)"
    jump = "there f or its derivative jumps or is not finite, and no step is small enough"
    reasons = {
        FlowCode.SUCCESSFUL: "",
        FlowCode.TOO_MANY_STEPS: f"{told} in {max_steps} steps. Raise max_steps or rtol, or stop earlier; a network "
        "whose kernel changes much takes many steps.",
        FlowCode.NOT_FINITE: f"f is not finite soon after time {seen.last:.4g}. Check f there, or stop earlier.",
        FlowCode.STEP_TOO_SMALL: f"{told}: {jump}. Check f beyond that time, or stop earlier.",
        FlowCode.INTERRUPTED: f"{told}: there it was interrupted. Start again from w0 + displacements[-1].",
    }
    empty = not seen.times
    return Flow(
        np.array(seen.times),
        float(rate),
        np.zeros((0, seen.shape[1])) if empty else np.stack(seen.displacements),
        np.zeros((0, seen.shape[0])) if empty else np.stack(seen.residuals),
        np.array(seen.distances),
        np.array(seen.lengths),
        seen.error,
        seen.steps,
        seen.code,
        reasons[seen.code],
        "exponential",
        seen.evaluations,
        seen.kernels,
    )


def _rounding(w0: np.ndarray, alpha: float) -> float:
    r"""What the rounding of $w_0 + v/\alpha$ does to a step of v: no tolerance below it can be kept.

    A step moves v by at most about ten times what it changes $\alpha w$ by, and $w$ is rounded entry by entry.
    """
    return 10.0 * alpha * float(np.finfo(float).eps * np.linalg.norm(w0) / math.sqrt(w0.size))


@eqx.filter_jit
def _start(f, w0, y, alpha):
    outputs, pull = jax.vjp(f, w0)
    residual = alpha * outputs - y
    gradient = pull(residual)[0]
    size = jnp.linalg.norm(gradient)
    along = jax.jvp(f, (w0,), (gradient / jnp.where(size > 0, size, 1.0),))[1]
    return jnp.linalg.norm(residual), size, along @ along


def _initial(f, w0: Array, y: Array, alpha: float) -> tuple[float, float, float]:
    r"""$\|J^\top r_0\|$, the step along it to the least loss, and its curvature, at most $\lambda_{max}(J^\top J)$."""
    residual, gradient, curvature = (float(one) for one in _start(f, w0, y, jnp.asarray(alpha, dtype=float)))
    if not math.isfinite(residual * gradient):
        reject(
            f"f(w0) with a residual of norm {residual} and a gradient of norm {gradient}",
            "f and its derivative are finite at w0",
            "Look for the first layer that overflows",
        )
    return gradient, gradient / curvature if gradient else 0.0, curvature


def _at_rest(f, w0, y, alpha, times, rate, keep) -> Flow:
    """A flow that starts at a critical point stays there."""
    residual = alpha * np.asarray(f(jnp.asarray(w0))) - y
    count, rows = len(times), len(times) if keep == "all" else 1
    still = np.zeros(count)
    return Flow(times, float(rate), np.zeros((rows, w0.size)), np.tile(residual, (count, 1)), still, still, 0.0, 0)


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


def _check_words(method: str, keep: str, least_step: float) -> None:
    for name, word, words in (("method", method, METHODS), ("keep", keep, ("all", "last"))):
        if word not in words:
            reject(f"{name}={word!r}", f"The choices are {', '.join(map(repr, words))}", "Choose one by name")
    if method == "exponential" and least_step > 0:
        reject(
            f"method='exponential' with least_step={least_step}",
            "Steps that must not shrink are those of the explicit method",
            "Give method='runge-kutta', or leave least_step out",
        )


def _check_map(f: Callable, w0: np.ndarray, y: np.ndarray, kernel: Callable | None) -> None:
    shape: Any = jax.eval_shape(f, jax.ShapeDtypeStruct(w0.shape, float))
    if getattr(shape, "shape", None) != y.shape:
        reject(
            f"f returns {getattr(shape, 'shape', shape)} for parameters of shape {w0.shape}, y has shape {y.shape}",
            "f maps the parameters (p,) to the outputs (n,) that y is compared with",
            "Flatten several outputs per input into n rows",
        )
    if kernel is None:
        return
    gram: Any = jax.eval_shape(kernel, jax.ShapeDtypeStruct(w0.shape, float))
    if getattr(gram, "shape", None) != (y.size, y.size):
        reject(
            f"kernel returns {getattr(gram, 'shape', gram)} where f has {y.size} outputs",
            "It maps the parameters (p,) to the tangent kernel (n, n) of f",
            "Leave kernel out to have it computed from f",
        )
