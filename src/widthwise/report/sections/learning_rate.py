r"""Section 4: the largest stable learning rate, from three curvatures, and what happened at the rate used.

Legend: $\lambda$ the largest eigenvalue of $\Theta/n$ or of $\nabla^2R$ at the start; a quadratic loss is
descended stably by steps below $2/\lambda$ (and by no larger one).
"""

import numpy as np

from widthwise.measure import DIVERGED, Method, Run
from widthwise.numerics import Estimate

from ..context import Context
from ..experiment import curvature, descend, diverged, trained
from ..section import Figure, Formula, Mark, Number, Section, Series, Table, Text
from ..words import maybe

_TRIED = (0.9, 1.2, 2.0, 4.0)  # multiples of the limit of the empirical kernel
_TRIED_STEPS, _QUICK_TRIED_STEPS = 40, 20
_LIMIT = {1e6: "a million"}.get(DIVERGED, f"{DIVERGED:g}")


def tried(context: Context) -> tuple[tuple[float, Run], ...]:
    """Gradient descent at other rates for a few steps, as multiples of the limit; kept by ``context.once``."""
    limit = 2.0 / context.once(curvature).kernel.value
    steps = _QUICK_TRIED_STEPS if context.settings.quick else _TRIED_STEPS
    runs = []
    with context.progress.task("Other learning rates", steps * len(_TRIED)) as advance:
        for multiple in _TRIED:
            runs.append((multiple, descend(context, Method("gd", multiple * limit, steps), advance, records=2)))
    return tuple(runs)


def section(context: Context) -> Section:
    """Compare the rate used with the largest stable ones."""
    run, others = context.once(trained), context.once(tried)
    return Section(
        key="learning-rate",
        title="Learning rate",
        lead=_lead(context, run),
        paragraphs=(_agreement(context), _happened(context, run), *_sharpening(context), _beyond(context, others)),
        numbers=_numbers(context, run),
        figures=(_limits(context), _losses(context, run, others)),
        tables=(_table(others),),
        formulas=_FORMULAS,
        notes=_notes(context),
    )


def _limit(context: Context) -> Number:
    spectrum = context.ntk_spectrum
    error = context.stable_rate * spectrum.floor / spectrum.largest
    return Number(
        "largest stable rate, infinite-width kernel",
        context.stable_rate,
        error,
        error_is="error of the kernel's entries",
    )


def _from(name: str, top: Estimate) -> Number:
    """2/λ with its error."""
    error = 2.0 * top.error / top.value**2
    return Number(name, 2.0 / top.value, error, error_is="residual of Lanczos")


def _empirical(context: Context) -> Number:
    return _from("largest stable rate, empirical kernel", context.once(curvature).kernel)


def _hessian(context: Context) -> Number:
    return _from("largest stable rate, Hessian at the start", context.once(curvature).hessian)


def _rate(context: Context) -> Number:
    return Number("learning rate used", context.learning_rate)


def _lead(context: Context, run: Run) -> Text:
    said = {
        "stable": "never rose noticeably above where it began",
        "catapult": "first rose and then fell below where it began",
        "unstable": "ended above where it began",
        "diverged": f"diverged: at step {run.diverged_at} it was beyond the limit at which divergence is called",
    }
    kind = context.settings.optimizer
    if kind == "flow":
        said = {"stable": "was followed by an adaptive solver, which takes stable steps by itself"}
    elif kind in ("sgd", "adam"):
        said |= {"stable": "never rose beyond the scatter of mini-batches"}
    method = {"gd": "at the rate used, ", "sgd": "with mini-batches at rate ", "adam": "with Adam at rate "}
    whose = "kernel of this model as it was given" if context.own else "infinite-width kernel"
    return (
        f"The {whose} puts the largest stable step of gradient descent at ",
        _empirical(context) if context.own else _limit(context),
        f"; {method.get(kind, 'in units of ')}",
        _rate(context),
        f", the loss {said[run.outcome]}.",
    )


def _agreement(context: Context) -> Text:
    found = context.once(curvature)
    share = Number("top eigenvalue of the Hessian over that of the kernel", found.hessian.value / found.kernel.value)
    if context.own:
        return (
            "The Hessian of the risk gives ",
            _hessian(context),
            ". Kernel and Hessian differ by the curvature that the residual adds: the largest eigenvalue of the "
            "Hessian is ",
            share,
            " times that of the kernel. The smaller of the two rates is the one to stay below at the start.",
        )
    return (
        "The kernel of this very network gives ",
        _empirical(context),
        ", a factor ",
        Number(
            "rate of the empirical kernel over that of infinite width", 2.0 / found.kernel.value / context.stable_rate
        ),
        " of that, and the Hessian of its loss ",
        _hessian(context),
        ". Kernel and Hessian differ by the curvature that the residual adds, here a factor ",
        share,
        "; with the width both factors tend to 1.",
    )


def _happened(context: Context, run: Run) -> Text:
    kind = context.settings.optimizer
    if kind == "adam":
        return (
            "Adam rescales every coordinate by itself: these limits are those of gradient descent and do not bind it."
        )
    if kind == "flow":
        return "For the gradient flow the rate is only the unit of its clock, the time that one step would take."
    own = context.learning_rate * context.once(curvature).kernel.value / 2.0
    noise = "Mini-batches add noise, which lowers the largest stable rate further. " if kind == "sgd" else ""
    share = Number("rate used over the limit of the empirical kernel", own)
    if context.own:
        return ("The rate used is ", share, f" of the limit by the kernel. {noise}{_consequence(run, own)}")
    return (
        "The rate used is ",
        Number("rate used over the limit at infinite width", context.learning_rate / context.stable_rate),
        " of the limit at infinite width and ",
        share,
        f" of that of this network's own kernel. {noise}{_consequence(run, own)}",
    )


def _consequence(run: Run, share: float) -> str:
    """What a rate of this share of the network's own limit did."""
    factor = f"multiplies its steepest component by {abs(1.0 - 2.0 * share):.3g} in every step"
    if run.outcome == "diverged":
        cure = "lower the rate below both limits" if share > 1 else "the loss is steeper elsewhere; lower the rate"
        return f"At this rate the linearised network {factor}: {cure}."
    if run.outcome == "catapult":
        return "The loss rose while the network moved to a place of lower curvature, and fell from there (a catapult)."
    if run.outcome == "unstable":
        return "The loss had not come down when training ended: lower the rate."
    if share < 1:
        if not run.method.full_batch:
            return "Below 1 no direction of the linearised network grows when every step sees all rows."
        return "Below 1 no direction of the linearised network grows, and the loss of the network did not rise either."
    return f"Beyond 1 the linearised network {factor}; this network found a flatter place at once."


def _sharpening(context: Context) -> tuple[Text, ...]:
    found = context.once(curvature)
    if found.end is None:
        return ()
    grown = Number(
        "largest Hessian eigenvalue at the end over that at the start", found.end.value / found.hessian.value
    )
    end = _from("largest stable rate, Hessian at the end", found.end)
    used = Number("learning rate used", context.learning_rate)
    tail = (".",) if context.settings.optimizer in ("adam", "flow") else (", and the rate used is ", used, ".")
    return (
        (
            "In training the largest Hessian eigenvalue went to ",
            grown,
            " times its start; the stable step is then ",
            end,
            *tail,
        ),
    )


def _beyond(context: Context, others: tuple[tuple[float, Run], ...]) -> Text:
    worst = next(((multiple, run) for multiple, run in others if run.outcome == "diverged"), None)
    steps = others[0][1].method.steps
    start = f"From the same start, {steps} steps of gradient descent were tried at {len(others)} other rates. "
    whose = "a model that is not linear" if context.own else "a network of finite width"
    survived = [multiple for multiple, run in others if multiple > 1 and run.diverged_at is None]
    bent = (
        f" At {' and '.join(f'{multiple:g} ×' for multiple in survived)} it did not, although the linearised network "
        f"must: beyond the limit the first growth can move {whose} to a place of lower curvature, where the step is "
        "stable again."
        if survived
        else ""
    )
    if worst is None:
        return f"{start}None of them diverged.{bent}"
    at = f"At {worst[0]:g} × the limit of its own kernel the loss diverged at step {worst[1].diverged_at}."
    return f"{start}{at}{bent}"


def _numbers(context: Context, run: Run) -> tuple[Number, ...]:
    found = context.once(curvature)
    names = ("empirical kernel", "Hessian at the start")
    tops = (
        Number.of(f"largest eigenvalue, {name}", top)
        for name, top in zip(names, (found.kernel, found.hessian), strict=True)
    )
    step = maybe("step at which the network diverged", run.diverged_at, "it did not diverge")
    twin = maybe("step at which the linearised network diverged", run.twin_diverged_at, "it did not diverge")
    peak = np.max(run.losses[np.isfinite(run.losses)], initial=0.0) / run.losses[0] if len(run.losses) else None
    highest = maybe("highest loss over the loss at the start", peak, "the flow has no steps")
    return (*tops, step, twin, highest)


def _limits(context: Context) -> Figure:
    numbers = [_empirical(context), _hessian(context)]
    names = ["empirical kernel", "Hessian at the start"]
    if not context.own:
        numbers.insert(0, _limit(context))
        names.insert(0, "infinite-width kernel")
    if (end := context.once(curvature).end) is not None:
        numbers.append(_from("end", end))
        names.append("Hessian at the end")
    values, errors = [n.value for n in numbers], [n.error or 0.0 for n in numbers]
    line = "" if context.settings.optimizer == "adam" else "; the line is the rate used"
    return Figure(
        key="stable-rates",
        title="Largest stable learning rates",
        caption=f"2/λ from {'' if context.own else 'the kernel of infinite width, '}the kernel of this network and the "
        f"Hessian of its loss{line}.",
        series=(Series("2/λ", names, values, error=errors),),
        x_label="curvature taken from",
        y_label="learning rate",
        kind="dot",
        marks=(Mark("y", context.learning_rate, "rate used"),) if context.settings.optimizer != "adam" else (),
    )


def _losses(context: Context, run: Run, others: tuple[tuple[float, Run], ...]) -> Figure:
    shown = others[0][1].method.steps
    curves = [Series(f"{multiple:g} × the limit", *_curve(other, shown)) for multiple, other in others]
    if len(run.losses):
        curves.insert(0, Series("the rate used", *_curve(run, shown)))
    return Figure(
        key="rates-tried",
        title="The loss at several learning rates",
        caption=f"The first {shown} steps from the same start; the limit is that of the empirical kernel.",
        series=tuple(curves),
        x_label="step",
        y_label="risk on the training rows",
        y_scale="log",
    )


def _curve(run: Run, steps: int) -> tuple[np.ndarray, np.ndarray]:
    losses = run.losses[:steps]
    losses = losses[np.isfinite(losses)]
    return np.arange(len(losses)), losses


def _table(others: tuple[tuple[float, Run], ...]) -> Table:
    rows = tuple(
        (
            f"{multiple:g} × the limit",
            run.method.rate,
            run.outcome,
            Number(
                f"highest loss at {multiple:g} times the limit", _peak(run), key=f"peak-{multiple:g}".replace(".", "-")
            ),
            Number(
                f"last loss at {multiple:g} times the limit",
                _last(run),
                reason=diverged(run),
                key=f"last-{multiple:g}".replace(".", "-"),
            ),
        )
        for multiple, run in others
    )
    columns = ("rate", "value", "outcome", "highest loss / start", "last loss / start")
    return Table(f"Gradient descent for {others[0][1].method.steps} steps at other rates.", columns, rows)


def _peak(run: Run) -> float:
    return float(np.max(run.losses[np.isfinite(run.losses)]) / run.losses[0])


def _last(run: Run) -> float | None:
    return None if run.diverged_at is not None else float(run.losses[-1] / run.losses[0])


def _notes(context: Context) -> tuple[Text, ...]:
    notes = (
        f"Divergence is called when the loss is not finite or above {_LIMIT} times its start (times the loss of "
        "predicting zero, where that is larger); a rise of more than 1 % is called a catapult when the loss ends below "
        "its start, unstable when it does not.",
    )
    if context.own and len(context.curvature_rows) < len(context.X_train):
        notes += (
            f"Eigenvalues were measured, and the other rates tried, on {len(context.curvature_rows):,} of "
            f"{len(context.X_train):,} training rows, chosen at random with the seed. The error behind a rate is "
            "that of the eigensolver on these rows, not that of their choice.",
        )
    if context.settings.optimizer == "sgd":
        notes += (
            "Under mini-batches the loss of a step is that of its batch; a rise counts when it doubles the first.",
        )
    return notes


_FORMULAS = (
    Formula(r"\eta < \frac{2n}{\lambda_{\max}(\Theta)}", "Gradient descent on the linearised network is stable."),
    Formula(
        r"\nabla^2 R = \tfrac1n J^\top J + \tfrac1n\sum_{i} (f_i - t_i)\cdot\nabla^2 f_i",
        "The Hessian is the kernel's part, with the eigenvalues of Θ/n, and the residual's.",
    ),
)
