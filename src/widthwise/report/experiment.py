r"""What several sections read off one training run; each function is kept by ``context.once``.

The risk is $R = \frac1{2n}\sum_i\|f(x_i) - t_i\|^2$; a curvature below is an eigenvalue of $\Theta/n$ or of
$\nabla^2R$, for which gradient descent is stable up to the step 2/curvature.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthwise.measure import Method, Run, hessian_sharpness, train
from widthwise.numerics import Estimate
from widthwise.theory.infinite_width import Ensemble, ensemble
from widthwise.theory.lazy import Steps

from .context import Context, kernel_curvature

PROBE = 32  # inputs on which the kernel is followed


def trained(context: Context) -> Run:
    """Train the network and its tangent model, side by side."""
    settings = context.settings
    method = Method(settings.optimizer, context.learning_rate, settings.updates, settings.batch)
    with context.progress.task("Train the network and its linearisation", settings.steps) as advance:
        return descend(context, method, advance)


def descend(context: Context, method: Method, advance, records: int = 40) -> Run:
    """Train from the network's start by any method; the kernel is followed on the same probe."""
    probe = context.X_train[context.some_rows("probe", PROBE)]
    data, key = (context.X_train, context.T_train, context.X_test), context.key("batches")
    return train(context.model, *data, method, key=key, probe=probe, records=records, progress=advance)


@dataclass(frozen=True)
class Curvature:
    """Largest eigenvalues: of the empirical kernel and of the Hessian at the start, of the Hessian at the end."""

    kernel: Estimate
    hessian: Estimate
    end: Estimate | None


def curvature(context: Context) -> Curvature:
    """Measure the curvature of the risk at the start and, where the network did not diverge, at the end."""
    run = context.once(trained)
    X, T = jnp.asarray(context.X_train), jnp.asarray(context.T_train)
    kernel = context.once(kernel_curvature)
    with context.progress.task("Curvature of the loss", 2) as advance:
        hessian = hessian_sharpness(context.model, X, T)
        advance()
        end = None if run.diverged_at is not None else hessian_sharpness(run.model, X, T)
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
