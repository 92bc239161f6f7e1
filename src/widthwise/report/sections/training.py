r"""Section 7: the measured training curve against what linearisation and infinite width predict.

Legend: $R$ the risk, $\eta$ the rate, s steps, $r_0$ the residual at the start, $\hat\Theta$ the empirical NTK at
the start, $\Theta$, $K$ the NTK and NNGP kernel of infinite width.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from widthwise.measure import Run, ntk_quadrature
from widthwise.networks import kernel
from widthwise.numerics import Estimate, Steps

from ..context import Context
from ..experiment import diverged, law, moment, risk, trained
from ..section import Figure, Formula, Number, Section, Series, Table, Text
from ..words import counted, maybe

_HUGE = 1e60  # beyond the limit closed forms overflow; what is so large is not shown


@dataclass(frozen=True, eq=False)
class Curves:
    """The risk at the recorded moments: tangent model in closed form, infinite width with its spread, on both parts.

    ``shown`` (m,): where the closed forms have not grown beyond the limit of divergence, as they do at rates
    beyond the stable one.
    """

    tangent: Estimate
    width: np.ndarray
    width_spread: np.ndarray
    width_test: np.ndarray
    ensemble_test: np.ndarray
    shown: np.ndarray


def predicted(context: Context) -> Curves:
    """Predict the risk at every recorded moment, by full-batch training; kept by ``context.once``."""
    run = context.once(trained)
    moments = [moment(context, step) for step in run.steps]
    with context.progress.task("Predict the training curve", 3) as advance:
        tangent = _tangent(context, run, moments)
        advance()
        ensemble = context.once(law)
        width, spread = np.array([(ensemble.risk(one), ensemble.risk_spread(one)) for one in moments]).T
        advance()
        shown = (width <= run.limit) & (tangent.value <= run.limit)
        held_out = np.full((len(moments), 2), np.nan)
        held_out[shown] = [_held_out(context, one) for one, fits in zip(moments, shown, strict=True) if fits]
        advance()
    return Curves(tangent, width, spread, held_out[:, 0], held_out[:, 1], shown)


def prior(context: Context) -> np.ndarray:
    """The variance of the outputs on the held-out rows before training; kept by ``context.once``."""
    return np.diag(kernel(context.spec.network(), context.X_test).nngp)


def _held_out(context: Context, one: Steps | float) -> tuple[float, float]:
    """The held-out risk of one infinitely wide network, in the mean, and of the mean of many."""
    ensemble, cross = context.once(law), context.kernel_cross
    together = float(risk(ensemble.test_mean(one, cross.ntk), context.T_test))
    scatter = ensemble.test_variance(one, cross.ntk, cross.nngp, context.once(prior))
    return together + 0.5 * context.outputs * float(np.mean(scatter)), together


def _tangent(context: Context, run: Run, moments: list[Steps | float]) -> Estimate:
    r"""$\frac1{2n}r_0^\top g(\hat\Theta/n)\,r_0$ by Gauss quadrature, no kernel formed."""
    start = jnp.asarray(run.train[0] - context.T_train)
    rule = ntk_quadrature(context.model, jnp.asarray(context.X_train), start)
    return rule(lambda nodes: np.stack([_left(one, nodes) ** 2 for one in moments]) / (2 * len(start)))


def _left(one: Steps | float, nodes: np.ndarray) -> np.ndarray:
    if not isinstance(one, Steps):
        return np.exp(-one * nodes)
    with np.errstate(over="ignore"):
        return np.clip((1.0 - one.size * nodes) ** one.count, -_HUGE, _HUGE)


def section(context: Context) -> Section:
    """Hold the measured loss against the closed forms of the linearised and the infinitely wide network."""
    run = context.once(trained)
    curves = context.once(predicted) if run.method.full_batch and not context.own else None
    return Section(
        key="training",
        title="Training curve",
        lead=_lead(context, run, curves),
        paragraphs=_paragraphs(context, run, curves),
        numbers=_numbers(context, run, curves),
        figures=(_train_figure(context, run, curves), _test_figure(context, run, curves)) if len(run.steps) > 1 else (),
        tables=(_table(context, run, curves),),
        formulas=_FORMULAS if curves else (),
        notes=_notes(context, run),
    )


def _lead(context: Context, run: Run, curves: Curves | None) -> Text:
    losses = run.risks
    first, last = (
        Number("training loss at the start", float(losses[0])),
        Number("training loss at the end", float(losses[-1])),
    )
    if run.diverged_at is not None:
        return (
            "The loss began at ",
            first,
            f" and diverged at step {run.diverged_at}: training at this rate has no end to predict.",
        )
    fell = ("In ", Number("steps", round(run.steps[-1])), " steps the training loss went from ", first, " to ", last)
    if curves is None:
        same = f"; the linearised network, trained {_alike(run)}, "
        if run.twin_diverged_at is not None:
            return (*fell, same, f"diverges at step {run.twin_diverged_at}.")
        twin = Number(
            "training loss of the linearised network at the end", float(risk(run.twin_train[-1], context.T_train))
        )
        return (*fell, same, "reaches ", twin, ".")
    if not curves.shown.all():
        return (*fell, f"; at this rate {_untrainable(context)} network cannot be trained.")
    return (
        *fell,
        "; for the linearised network theory predicts ",
        Number.of(
            "predicted loss of the linearised network at the end",
            _at(curves.tangent, -1),
            error_is="two-sided quadrature bounds",
        ),
        ", for infinitely wide networks ",
        Number(
            "predicted loss at infinite width at the end",
            curves.width[-1],
            curves.width_spread[-1],
            error_is="standard deviation over initialisations",
        ),
        ".",
    )


def _alike(run: Run) -> str:
    return "in the same way" if run.method.full_batch else "on the same batches"


def _untrainable(context: Context) -> str:
    """Whose closed form grows without limit at the rate used."""
    limits = {"the linearised": context.own_stable_rate, "the infinitely wide": context.stable_rate}
    return " and ".join(name for name, limit in limits.items() if context.learning_rate > limit)


def _at(estimate: Estimate, index: int) -> Estimate:
    return Estimate(float(estimate.value[index]), float(estimate.error[index]))


def _paragraphs(context: Context, run: Run, curves: Curves | None) -> tuple[Text, ...]:
    if curves is None and context.own:
        return (
            f"Network and linearisation see the same {'rows' if run.method.full_batch else 'batches'} with the same "
            "optimiser and rate. Where the two curves part, the model does what its tangent kernel at the start cannot "
            "say.",
        )
    if curves is None:
        return (
            "The closed forms of this section are for full-batch gradient descent and gradient flow. For mini-batches "
            "and for Adam the comparison is with the linearised network alone, trained with the same optimiser on the "
            "same batches.",
        )
    if run.diverged_at is not None or not curves.shown.all():
        return (_growth(context),)
    return (_finite(run, curves), _wide(run, curves), *_twin(context, run, curves))


def _growth(context: Context) -> Text:
    """What the closed form says of a rate beyond the limit."""
    wide, own = (
        abs(1.0 - 2.0 * context.learning_rate / limit) for limit in (context.stable_rate, context.own_stable_rate)
    )
    end = "" if max(wide, own) <= 1.0 else "; the closed forms are shown for as long as they say anything"
    return (
        "At this rate every step multiplies the steepest component of an infinitely wide network by ",
        Number("factor of the steepest component per step, infinite width", wide),
        " and that of the linearised network by ",
        Number("factor of the steepest component per step, linearised", own),
        f"{end}.",
    )


def _finite(run: Run, curves: Curves) -> Text:
    deviation = run.risks / curves.tangent.value - 1.0
    worst = int(np.argmax(np.abs(deviation)))
    sign = "below" if deviation[worst] < 0 else "above"
    return (
        "The measured loss follows the closed form of its own linearisation to ",
        Number("largest deviation from the linearised prediction", 100 * abs(float(deviation[worst])), unit="%"),
        f" (the network is {sign} it at step {run.steps[worst]:,.0f}): that difference is what moving features do to "
        "the training loss.",
    )


def _wide(run: Run, curves: Curves) -> Text:
    scores = (run.risks - curves.width) / curves.width_spread
    return (
        "Against the law of infinitely wide networks the measured loss lies ",
        Number("deviation from infinite width at the start, in standard deviations", float(scores[0])),
        " standard deviations from the mean at the start and ",
        Number("deviation from infinite width at the end, in standard deviations", float(scores[-1])),
        f" at the end, {100 * (run.risks[-1] / curves.width[-1] - 1):+.1f} %. The spread is that over random "
        "initialisations; what lies beyond two or three of it is an effect of the finite width.",
    )


def _twin(context: Context, run: Run, curves: Curves) -> tuple[Text, ...]:
    count = len(run.twin_train)
    if run.twin_diverged_at is not None:
        return (
            f"The linearised network diverged at step {run.twin_diverged_at}, as its closed form does at this rate.",
        )
    twin = risk(run.twin_train, context.T_train)
    gap = np.abs(twin - curves.tangent.value[:count]) / twin
    worst = int(np.argmax(gap))
    return (
        (
            "As a check, the linearised network was also trained step by step: it agrees with its closed form to a "
            "relative ",
            Number("deviation of the trained linearisation from its closed form", float(gap[worst])),
            " at worst; the closed form itself is known to ",
            Number("relative error of the closed form there", float(curves.tangent.error[worst] / twin[worst])),
            ".",
        ),
    )


def _numbers(context: Context, run: Run, curves: Curves | None) -> tuple[Number, ...]:
    test, reason = risk(run.test, context.T_test), diverged(run)
    least = int(np.argmin(test))
    twin = None if reason or run.twin_diverged_at is not None else float(risk(run.twin_test[-1], context.T_test))
    found = (
        maybe("held-out loss at the end", None if reason else float(test[-1]), reason),
        Number("least held-out loss", test[least]),
        Number("step of the least held-out loss", run.steps[least]),
        maybe("held-out loss of the linearised network at the end", twin, "one of the two diverged"),
    )
    if curves is None or reason or not curves.shown.all():
        return found
    return (
        *found,
        Number("held-out loss at infinite width at the end, mean over networks", curves.width_test[-1]),
        Number("held-out loss of the averaged infinitely wide networks at the end", curves.ensemble_test[-1]),
    )


def _train_figure(context: Context, run: Run, curves: Curves | None) -> Figure:
    steps = run.steps
    series = [
        Series("network", steps, run.risks, group="network"),
        Series(
            "linearised network, trained",
            steps[: len(run.twin_train)],
            risk(run.twin_train, context.T_train),
            group="linearised",
        ),
    ]
    if curves is not None:
        shown = curves.shown
        series += [
            Series(
                "linearised network, closed form",
                steps[shown],
                curves.tangent.value[shown],
                role="predicted",
                group="linearised",
            ),
            Series(
                "infinite width, mean ± s.d.",
                steps[shown],
                curves.width[shown],
                curves.width_spread[shown],
                "predicted",
                "width",
            ),
        ]
    return Figure(
        key="training-loss",
        title="Training loss",
        caption="Measured loss of the network and of its linearisation, and what the closed forms predict for the "
        "linearisation and for infinite width (band: one standard deviation over initialisations)."
        if curves is not None
        else f"Measured loss of the network and of its linearisation, trained {_alike(run)}.",
        series=tuple(_from_one(one) for one in series),
        x_label="time / rate" if run.method.name == "flow" else "step",
        y_label="risk on the training rows",
        x_scale="log",
        y_scale="log",
    )


def _from_one(series: Series) -> Series:
    """Without step 0, which a logarithmic axis cannot show."""
    keep = [index for index, x in enumerate(series.x) if x > 0]
    error = None if series.error is None else [series.error[index] for index in keep]
    x, y = ([values[index] for index in keep] for values in (series.x, series.y))
    return Series(series.name, x, y, error, series.role, series.group)


def _test_figure(context: Context, run: Run, curves: Curves | None) -> Figure:
    steps = run.steps
    series = [
        Series("network", steps, risk(run.test, context.T_test), group="network"),
        Series(
            "linearised network", steps[: len(run.twin_test)], risk(run.twin_test, context.T_test), group="linearised"
        ),
    ]
    if curves is not None:
        shown = curves.shown
        series += [
            Series("infinite width", steps[shown], curves.width_test[shown], role="predicted", group="width"),
            Series(
                "infinite width, averaged",
                steps[shown],
                curves.ensemble_test[shown],
                role="reference",
                group="ensemble",
            ),
        ]
    return Figure(
        key="held-out-loss",
        title="Held-out loss",
        caption="The same risk on rows that were not trained on; at infinite width the mean over initialisations, and "
        "the risk of the average of many networks, which lacks their scatter."
        if curves is not None
        else "The same risk on rows that were not trained on.",
        series=tuple(_from_one(one) for one in series),
        x_label="time / rate" if run.method.name == "flow" else "step",
        y_label="risk on the held-out rows",
        x_scale="log",
        y_scale="log",
    )


def _table(context: Context, run: Run, curves: Curves | None) -> Table:
    chosen = np.unique(np.linspace(0, len(run.steps) - 1, 9).astype(int)).tolist()
    losses, test = run.risks, risk(run.test, context.T_test)
    twin = [*risk(run.twin_train, context.T_train), *[None] * (len(run.steps) - len(run.twin_train))]
    columns = ["step", "network", "linearised, trained"]
    columns += ["linearised, closed form", "infinite width", "s.d."] if curves is not None else []
    columns.append("network, held out")
    rows = []
    for i in chosen:
        closed = _closed(curves, i) if curves is not None else []
        cells = [run.steps[i], losses[i], twin[i], *closed, test[i]]
        rows.append(tuple(None if cell is None else float(cell) for cell in cells))
    return Table("The risk along training.", tuple(columns), tuple(rows))


def _closed(curves: Curves, index: int) -> list[float | None]:
    row = [curves.tangent.value[index], curves.width[index], curves.width_spread[index]]
    return row if curves.shown[index] else [None] * 3


def _notes(context: Context, run: Run) -> tuple[Text, ...]:
    seen = counted(len(run.steps), "moment")
    notes = (f"The loss was recorded at {seen}, spaced evenly in the logarithm of the step.",)
    if run.diverged_at is None and run.steps[-1] < run.method.steps * (1 - 1e-9):
        notes += (
            f"Training was ended after {run.steps[-1]:,.0f} of {run.method.steps:,} steps, when half of the time limit "
            "was used; another run may get further.",
        )
    if context.own:
        return notes
    if run.method.name == "gd" and context.learning_rate > min(context.stable_rate, context.own_stable_rate):
        shown = "they are shown up to where divergence is called"
        notes += (f"Beyond a stable rate its closed form grows without limit; {shown}.",)
    return notes


_FORMULAS = (
    Formula(
        r"R_{\mathrm{lin}}(s) = \frac1{2n}\, r_0^\top \left(I - \tfrac{\eta}{n}\hat\Theta\right)^{2s} r_0",
        "The linearised network after s steps, by Gauss quadrature on the empirical kernel; for the flow the power "
        "becomes an exponential.",
    ),
    Formula(
        r"E\,R_\infty(s) = \frac1{2n}\left(\|E_s T\|_F^2 + k\,\mathrm{tr}\,E_s K E_s\right),\quad "
        r"E_s = \left(I - \tfrac{\eta}{n}\Theta\right)^{s}",
        "The mean over initialisations at infinite width.",
    ),
)
