"""Does a model that somebody brought train like its linearisation, or learn features; layer by layer."""

import numpy as np

from widthwise.measure import Run

from ..context import Context
from ..experiment import probed, trained
from ..own_kernels import HALVES, ByLayer, by_layer, end_kernel, movement, over_halves, own_kernel, own_of
from ..section import Figure, Formula, Number, Section, Series, Table, Text
from ..words import counted
from .lazy import FEATURES, LAZY, judgement, meaning, regime
from .lazy_figures import distances, drifts
from .own_kernel import aligned

_ADVICE = {
    "lazy": "To make it learn features, train it longer, or divide its output by a constant.",
    "in between": "A larger factor on the output, with a rate smaller by its square, makes it lazier; a smaller "
    "factor, or a longer training, makes it learn more.",
    "learning features": "What the kernel at the start predicts is true of the first steps, not of the end.",
}
_SHOWN = 24  # layers in a figure
_ERROR = f"standard error over the choice of rows, from {HALVES} random halves of them"


def section(context: Context) -> Section:
    """Judge the run, and say which layers moved and whether the kernel turned towards the labels."""
    run, parts = context.once(trained), context.once(by_layer)
    judged = regime(run)
    end = None if parts.end is None else parts.end.sum(axis=0)
    drift = None if end is None else _drift_number(context, "kernel drift at the end", parts.start.sum(axis=0), end)
    return Section(
        key="lazy",
        title="Lazy or learning features",
        lead=judgement(run, judged, drift),
        paragraphs=(*meaning(run, judged, _ADVICE), *_turned(context), *_where(context, parts)),
        numbers=_numbers(run, parts),
        figures=(*distances(run), *drifts(run, LAZY, FEATURES), *_bars(context, parts)),
        tables=(_table(context, parts),),
        formulas=_FORMULAS,
        notes=_notes(context),
    )


def _turned(context: Context) -> tuple[Text, ...]:
    """Whether the kernel is more aligned with the labels after training than before."""
    end = context.once(end_kernel)
    if end is None:
        return ()
    before = aligned(context, context.once(own_kernel).matrix, "alignment of the kernel with the labels at the start")
    after = aligned(context, end, "alignment of the kernel with the labels at the end")
    return (
        (
            "The centred alignment of the kernel with the labels went from ",
            before,
            " to ",
            after,
            f": {_direction(before, after)}.",
        ),
    )


def _direction(before: Number, after: Number) -> str:
    change = float(after.value or 0.0) - float(before.value or 0.0)
    if abs(change) <= 2 * max(before.error or 0.0, after.error or 0.0):
        return "the change is within two standard errors of the choice of rows"
    if change > 0:
        return "the tangent features turned towards the labels, a sign of learning features"
    return "the tangent features turned away from the labels"


def _drift(start: np.ndarray, end: np.ndarray) -> float:
    size = float(np.linalg.norm(start))
    return float(np.linalg.norm(end - start)) / size if size > 0 else float("nan")


def _drift_number(context: Context, name: str, start: np.ndarray, end: np.ndarray | None) -> Number:
    """The relative change of a kernel in percent, with the error of the choice of rows."""
    if end is None or not np.any(start):
        return Number(name, None, reason="diverged" if end is None else "no gradient at the start")

    def part(rows: np.ndarray) -> float:
        return 100 * _drift(start[np.ix_(rows, rows)], end[np.ix_(rows, rows)])

    error = over_halves(part, len(start), context.settings.seed)
    return Number(name, 100 * _drift(start, end), error, "%", error_is=_ERROR)


def _where(context: Context, parts: ByLayer) -> tuple[Text, ...]:
    """The layer that moved most, and those that did not move."""
    own, moved = own_of(context), movement(context)
    if len(own.layers) < 2 or parts.end is None:
        return ()
    most = int(np.nanargmax(moved)) if np.any(np.isfinite(moved)) else 0
    still = [layer for layer, way in zip(own.layers, moved, strict=True) if way == 0]
    stuck = (
        f" {counted(len(still), 'layer')} did not move at all ({', '.join(still[:5])}): no gradient reaches them, or "
        "their inputs are zero."
        if still
        else ""
    )
    return (
        (
            f"Relative to their size the parameters of {own.layers[most]} moved most, by ",
            Number("relative movement of the layer that moved most", 100 * float(moved[most]), unit="%"),
            f".{stuck}",
        ),
    )


def _numbers(run: Run, parts: ByLayer) -> tuple[Number, ...]:
    return (
        Number("largest kernel drift on the way", 100 * float(np.max(run.drift)), unit="%"),
        Number("rows of the probe", parts.start.shape[1]),
    )


def _bars(context: Context, parts: ByLayer) -> tuple[Figure, ...]:
    own, moved = own_of(context), 100 * movement(context)
    if parts.end is None or not 1 < len(own.layers) <= _SHOWN:
        return ()
    drift = [100 * _drift(start, end) for start, end in zip(parts.start, parts.end, strict=True)]
    return (
        Figure(
            key="change-by-layer",
            title="Relative change by layer",
            caption="How far the parameters of each layer, and the part of the tangent kernel that it makes, moved "
            "from start to end.",
            series=(Series("parameters", own.layers, moved), Series("kernel", own.layers, drift)),
            x_label="layer",
            y_label="relative change, %",
            kind="bar",
        ),
    )


def _table(context: Context, parts: ByLayer) -> Table:
    own, moved = own_of(context), movement(context)
    rows = []
    for at, layer in enumerate(own.layers):
        end = None if parts.end is None else parts.end[at]
        way = Number(f"relative movement of {layer}", 100 * float(moved[at]), unit="%")
        change = _drift_number(context, f"kernel drift of {layer}", parts.start[at], end)
        rows.append((layer, way, change))
    columns = ("layer", "||w - w0|| / ||w0||", "relative change of its kernel")
    return Table("Movement of the parameters and of the kernel by layer.", columns, tuple(rows))


def _notes(context: Context) -> tuple[Text, ...]:
    rows = len(probed(context))
    return (
        f"The drift of the kernel is measured on {counted(rows, 'training row')}, chosen at random with the seed, for "
        "the mean over outputs; alignment on the rows of the section on the kernel. A layer is what shares a name up "
        "to its last part.",
        "Lazy or not is a statement about this run: its rate, its steps and its parameters at the start. No "
        "certificate is given, because the constants that the theorems ask for are not known for it.",
    )


_FORMULAS = (
    Formula(
        r"\frac{\|f(w_T) - f_{\mathrm{lin}}(u_T)\|}{\|f_{\mathrm{lin}}(u_T) - f(w_0)\|},\quad "
        r"\frac{\|\hat\Theta_T - \hat\Theta_0\|_F}{\|\hat\Theta_0\|_F}",
        "The function gap and the drift of the kernel, which decide between lazy and feature learning.",
    ),
    Formula(
        r"\hat\Theta = \sum_{\ell} \hat\Theta^{(\ell)}, \qquad \hat\Theta^{(\ell)}(x, y) = \frac1k \sum_j "
        r"\partial_{\theta_\ell} f_j(x) \cdot \partial_{\theta_\ell} f_j(y)",
        "The part of the kernel that the parameters of one layer make.",
    ),
)
