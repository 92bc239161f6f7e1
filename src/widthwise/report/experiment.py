r"""What several sections read off one training run; each function is kept by ``context.once``.

The risk is $R = \frac1{2n}\sum_i\|f(x_i) - t_i\|^2$; a curvature below is an eigenvalue of $\Theta/n$ or of
$\nabla^2R$, for which gradient descent is stable up to the step 2/curvature.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from widthwise.measure import Method, Run, hessian_sharpness, train
from widthwise.numerics import Estimate, Steps
from widthwise.theory.infinite_width import Ensemble, ensemble

from .context import Context, curvature_data, hessian_curvature, kernel_curvature

PROBE = 32  # inputs on which the kernel is followed


def trained(context: Context) -> Run:
    """Train the network and its tangent model, side by side; a model that was brought for half its time at most."""
    settings = context.settings
    method = Method(settings.optimizer, context.learning_rate, settings.updates, settings.batch)
    records = context.plan.records if context.plan else 40
    end = time.monotonic() + (0.5 * settings.time_limit if context.own else math.inf)
    data = (context.X_train, context.T_train, context.X_test)
    with context.progress.task("Train the network and its linearisation", settings.steps) as advance:
        return _train(context, data, method, advance, records, lambda: time.monotonic() > end)


def descend(context: Context, method: Method, advance, records: int = 40) -> Run:
    """Train from the network's start by any method, on the rows of the curvature."""
    rows = context.curvature_rows
    return _train(context, (context.X_train[rows], context.T_train[rows], context.X_test), method, advance, records)


def _train(
    context: Context, data, method: Method, advance, records: int, stop: Callable[[], bool] | None = None
) -> Run:
    """Train; the kernel is followed on the same probe every time."""
    probe = context.X_train[probed(context)]
    key = context.key("batches")
    X, T, X_test = data
    return train(
        context.model,
        X,
        T,
        X_test,
        method,
        key=key,
        probe=probe,
        records=records,
        progress=advance,
        stop=stop or _never,
    )


def _never() -> bool:
    return False


def probed(context: Context) -> Int[np.ndarray, " b"]:
    """The training rows on which the kernel is followed."""
    return context.some_rows("probe", context.plan.probe if context.plan else PROBE)


@dataclass(frozen=True)
class Curvature:
    """Largest eigenvalues: of the empirical kernel and of the Hessian at the start, of the Hessian at the end."""

    kernel: Estimate
    hessian: Estimate
    end: Estimate | None


def curvature(context: Context) -> Curvature:
    """Measure the curvature of the risk at the start and, where the network did not diverge, at the end."""
    run = context.once(trained)
    kernel = context.once(kernel_curvature)
    with context.progress.task("Curvature of the loss", 2) as advance:
        hessian = context.once(hessian_curvature)
        advance()
        end = None if run.diverged_at is not None else hessian_sharpness(run.model, *curvature_data(context))
        advance()
    return Curvature(kernel, hessian, end)


def law(context: Context) -> Ensemble:
    """The law of the infinitely wide network in training on these data."""
    return ensemble(context.ntk_spectrum, context.kernel_train.nngp, context.T_train)


def moment(context: Context, step: float) -> Steps | float:
    """A recorded moment as the closed forms take it: so many steps, or the time of the flow."""
    rate = context.learning_rate
    return step * rate if context.settings.optimizer == "flow" else Steps(round(step), rate)


def risk(outputs: Float[np.ndarray, "... n k"], targets: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "..."]:
    r"""$\frac1{2n}\sum_i\|f_i - t_i\|^2$ at every recorded moment.

    >>> risk(np.ones((3, 4, 2)), np.zeros((4, 2))).tolist()
    [1.0, 1.0, 1.0]
    """
    return np.asarray(0.5 * np.mean(np.sum((outputs - targets) ** 2, axis=-1), axis=-1))


def diverged(run: Run) -> str:
    """Why there is no number at the end of training, or nothing."""
    return "" if run.diverged_at is None else f"diverged at step {run.diverged_at:,}"
