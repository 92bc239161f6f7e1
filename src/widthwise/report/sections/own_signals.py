"""Do signals survive in a model that somebody brought: forwards, backwards, and the angle of two inputs."""

import jax
import numpy as np

from widthwise.numerics import Estimate
from widthwise.theory.survival import SignalReport, Trend, signal_report

from ..context import Context
from ..own_kernels import own_of
from ..plots.signal import signal_figures
from ..section import Formula, Number, Section, Table, Text, slug

_MOST, _FEWEST = 16, 4  # rows
_WORK = 4e10  # operations
_PASSES = 16  # gradients of each row
_LISTED = 60  # layers in the table


def section(context: Context) -> Section:
    """Follow the signals through the layers, and say what would mend them."""
    found = context.once(own_signals)
    if isinstance(found, str):
        return Section("signals", "Signals", f"The signals inside of this model could not be read. {found}")
    rows = len(found.measured.variance)
    return Section(
        key="signals",
        title="Signals",
        lead=_lead(found),
        paragraphs=(_angles(found), *_remedy(found)),
        numbers=(Number("layers that are followed", len(found.names)), Number("rows that are followed", rows)),
        figures=signal_figures(found),
        tables=(_table(found),),
        formulas=_FORMULAS,
        notes=_notes(found),
    )


def own_signals(context: Context) -> SignalReport | str:
    """Follow a few training rows through the model, or say why not; kept by ``context.once``."""
    own = own_of(context)
    count = round(min(_MOST, max(_FEWEST, _WORK / (own.operations * _PASSES))))
    X = context.X_train[context.some_rows("signals", count)].reshape(-1, *own.layout.shape)
    with context.progress.task("Signals", 1) as advance, jax.enable_x64(True):
        try:
            found = signal_report(own.model.model, X.astype(int) if own.layout.integers else X, jacobians=False)
        except ValueError as refusal:  # no step that is known, or numbers that are not finite
            found = str(refusal)
        advance()
    return found


def _lead(found: SignalReport) -> Text:
    if len(found.measured.hidden) < 2:
        return found.sentence
    return (
        "From one hidden layer to the next the mean square of the signal is multiplied by ",
        _number("factor of the signal a layer", found.forward),
        f" ({found.forward.word}), and on the way back that of the gradient by ",
        _number("factor of the gradient a layer", found.backward),
        f" ({found.backward.word}).",
    )


def _number(name: str, trend: Trend) -> Number:
    value, error = float(trend.factor.value), float(trend.factor.error)
    if not np.isfinite(value):
        return Number(name, None, reason="the signal is zero in some layer")
    return Number(name, value, error, error_is="standard error over the rows")


def _angles(found: SignalReport) -> Text:
    hidden, rho = found.measured.hidden, found.correlation
    if rho is None or len(hidden) < 2:
        return "With one hidden layer there is no depth in which two inputs could come together."
    told = {
        "merging": "deep inside the model cannot tell its inputs apart",
        "parting": "small differences between inputs grow, and similar inputs end far apart",
        "kept": "inputs are still told apart",
        "unknown": "the inputs are alike from the start",
    }
    first, last = (
        Number(f"correlation of inputs in the {name} hidden layer", float(rho.value[at]), float(rho.error[at]))
        for name, at in (("first", hidden[0]), ("last", hidden[-1]))
    )
    return (
        "The mean correlation of two rows goes from ",
        first,
        " in the first hidden layer to ",
        last,
        (f" in the last: {told[found.inputs_told_apart]}."),
    )


def _remedy(found: SignalReport) -> tuple[Text, ...]:
    if len(found.measured.hidden) < 2:
        return ()
    if found.survives:
        return ("Nothing here calls for another scale of the weights.",)
    known = "; ".join(f"{name}: C_w = {w:.4g}, C_b = {b:.4g}" for name, w, b in found.critical)
    critical = f" Theory has critical variances for {known} (C_w is the fan-in times the variance)." if known else ""
    return (
        "A start in which every layer keeps the mean square at 1 multiplies the weights as the table says; "
        f"signal_report(model, X).rescale(model) returns that model.{critical}",
    )


def _table(found: SignalReport) -> Table:
    rho = found.correlation
    columns = {"mean square": found.measured.mean("variance"), "squared sensitivity": found.measured.mean("gradient")}
    if rho is not None:
        columns["correlation"] = rho
    rows = []
    for at, name in enumerate(found.names[:_LISTED]):
        cells = [_cell(f"{title} of {name}", one, at) for title, one in columns.items()]
        rows.append((name, *cells, float(found.rescaling.factors[at])))
    caption = "Signals at each step that uses a weight, in the order of execution, and the factor for its weights."
    return Table(caption, ("layer", *columns, "factor"), tuple(rows))


def _cell(name: str, found: Estimate, at: int) -> Number:
    """Names of layers may differ in letters that a key has not: the place is in the key."""
    value, error = float(found.value[at]), float(found.error[at])
    return Number(name, value, error, key=f"{slug(name)}-at-{at + 1}")


def _notes(found: SignalReport) -> tuple[Text, ...]:
    others = found.measured.trace.skipped
    listed = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
    skipped = f" These parameters act in other ways: {listed}." if others else ""
    predicted = (
        "The prediction is that of infinite width, for independent weights of the variances found here."
        if found.predicted
        else f"There is no prediction: {found.unpredicted}."
    )
    dead = f" Silent layers: {', '.join(found.rescaling.dead[:8])}." if found.rescaling.dead else ""
    return (
        f"Errors are over the rows, not over draws of the weights.{skipped}",
        f"{predicted}{dead}",
    )


_FORMULAS = (
    Formula(
        r"\frac{1}{n_l}\|z^{(l)}\|^2, \qquad \frac1k\left\|\frac{\partial f}{\partial z^{(l)}}\right\|_F^2",
        "The mean square of the pre-activations of a layer, and the squared sensitivity of the k outputs to them.",
    ),
)
