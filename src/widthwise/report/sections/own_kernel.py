r"""The empirical kernel of a model that somebody brought: spectrum, condition, and what it sees in the labels.

Legend: $\hat\Theta$ the kernel as it was given, averaged over outputs, on c training rows; $\lambda_i$, $u_i$ its
eigenvalues and eigenvectors, T the targets.
"""

import numpy as np

from widthwise.measure import alignment
from widthwise.numerics import mean_and_sem

from ..context import Context
from ..own_kernels import HALVES, OwnKernel, by_layer, over_halves, own_kernel, own_of
from ..section import Figure, Formula, Number, Section, Series, Table, Text
from ..words import counted
from .kernel import SHUFFLES, conditioning, directions, duplicates, learned
from .kernel_figures import Labels, energy, mean_cosines

_HALVES = f"standard error over the choice of rows, from {HALVES} random halves of them"
_MOST = 0.5  # share of the trace, and of the constant vector, from which the mean of the outputs rules the rate


def section(context: Context) -> Section:
    """Take the kernel apart and hold it against the labels."""
    found, seen = context.once(own_kernel), context.once(labels)
    y = context.y_train[found.rows] if context.classification else None
    return Section(
        key="kernel",
        title="Kernel",
        lead=_lead(context, found, seen),
        paragraphs=(
            _labels(seen),
            *conditioning(found.spectrum, "empirical kernel", _effective(context, found)),
            _steepest(found),
            *duplicates(context),
        ),
        numbers=_numbers(context, found),
        figures=(
            _spectrum(context, found),
            energy(seen, "measured", "empirical kernel"),
            *mean_cosines(found.matrix, y, context.data.classes, "Mean tangent kernel between the classes"),
        ),
        tables=(_layers(context),),
        formulas=_FORMULAS,
        notes=_notes(context, found),
    )


def labels(context: Context) -> Labels:
    """Hold the kernel against the labels of its rows; kept by ``context.once``."""
    found = context.once(own_kernel)
    T = context.T_train[found.rows]
    rng = np.random.default_rng(context.settings.seed)
    shuffled = [alignment(found.matrix, T[rng.permutation(len(T))]) for _ in range(SHUFFLES)]
    components = found.spectrum.vectors.T @ T
    return Labels(
        {"ntk": alignment(found.matrix, T)},
        {"ntk": mean_and_sem(shuffled)},
        np.sum(components**2, axis=1) / np.sum(T**2),
    )


def aligned(context: Context, matrix: np.ndarray, name: str) -> Number:
    """The centred alignment of a kernel on the chosen rows with their targets, with the error of that choice."""
    T = context.T_train[context.once(own_kernel).rows]
    error = over_halves(lambda rows: alignment(matrix[np.ix_(rows, rows)], T[rows]), len(T), context.settings.seed)
    return Number(name, alignment(matrix, T), error, error_is=_HALVES)


def _lead(context: Context, found: OwnKernel, seen: Labels) -> Text:
    return (
        f"On {_of(context, found)} the centred alignment of the model's own tangent kernel with the labels is ",
        aligned(context, found.matrix, "alignment of the empirical kernel with the labels"),
        ", against ",
        Number.of(
            "alignment with shuffled labels",
            seen.shuffled["ntk"],
            error_is=f"standard error over {SHUFFLES} shuffles",
        ),
        " for shuffled labels; its effective rank is ",
        _effective(context, found),
        f" of {len(found.rows):,}.",
    )


def _of(context: Context, found: OwnKernel) -> str:
    total = len(context.X_train)
    rows = counted(total, "training row")
    return f"all {rows}" if len(found.rows) == total else f"{len(found.rows):,} of {rows}"


def _effective(context: Context, found: OwnKernel) -> Number:
    def participation(rows: np.ndarray) -> float:
        part = found.matrix[np.ix_(rows, rows)]
        return float(np.trace(part) ** 2 / np.sum(part**2)) if np.any(part) else 0.0

    error = over_halves(participation, len(found.rows), context.settings.seed)
    return Number("effective rank", found.spectrum.effective_rank, error, error_is=_HALVES)


def _labels(seen: Labels) -> Text:
    return (
        "Of the energy of the targets, 90 % lies in the ",
        Number("eigenvectors that hold 90 % of the targets", directions(seen, 0.9)),
        f" leading of {len(seen.energy):,} eigenvectors{learned(seen)}.",
    )


def constant_share(found: OwnKernel) -> float:
    """How much of the constant vector the leading eigenvector holds, between 0 and 1."""
    return float(np.sum(found.spectrum.vectors[:, 0]) ** 2 / len(found.rows))


def is_ruled_by_mean(found: OwnKernel) -> bool:
    """Whether one direction holds most of the trace, and is nearly the mean of the outputs."""
    values = found.spectrum.values
    return bool(values[0] > _MOST * np.sum(values)) and constant_share(found) > _MOST


def _steepest(found: OwnKernel) -> Text:
    told = (
        ": one direction, nearly the mean of the outputs over the rows, is learned much faster than all others, and "
        "makes the stable rate small. Centring what the layers see (inputs of mean 0, a normalisation layer, an "
        "activation with mean 0) usually makes it smaller"
        if is_ruled_by_mean(found)
        else ""
    )
    return (
        "The leading eigenvector holds ",
        Number("share of the constant vector in the leading eigenvector", 100 * constant_share(found), unit="%"),
        f" of the constant vector{told}.",
    )


def _numbers(context: Context, found: OwnKernel) -> tuple[Number, ...]:
    count = len(found.rows)

    def top(rows: np.ndarray) -> float:
        return float(np.linalg.eigvalsh(found.matrix[np.ix_(rows, rows)])[-1] / len(rows))

    error = over_halves(top, count, context.settings.seed)
    largest = Number("largest eigenvalue / rows", found.spectrum.largest / count, error, error_is=_HALVES)
    return (
        Number("rows of the empirical kernel", count),
        largest,
        Number("smallest eigenvalue / rows", found.spectrum.smallest / count),
        Number("mean of the diagonal", float(np.mean(np.diag(found.matrix)))),
    )


def _spectrum(context: Context, found: OwnKernel) -> Figure:
    kept = found.spectrum.values[: found.spectrum.rank] / len(found.rows)
    return Figure(
        key="spectrum",
        title="Spectrum of the empirical kernel",
        caption=f"Eigenvalues on {_of(context, found)}, divided by their number; those that cannot be told from zero "
        "are left out.",
        series=(Series("empirical kernel", np.arange(1, len(kept) + 1), kept),),
        x_label="rank",
        y_label="eigenvalue / rows",
        x_scale="log",
        y_scale="log",
    )


def _layers(context: Context) -> Table:
    """Which layers the kernel comes from."""
    own, parts = own_of(context), context.once(by_layer).start
    traces = np.trace(parts, axis1=1, axis2=2)
    total = float(np.sum(traces))
    shares = 100 * traces / total if total > 0 else traces
    rows = []
    for layer, share, part in zip(own.layers, shares, parts, strict=True):
        size = sum(one.size for one in own.parts if one.layer == layer)
        rows.append(
            (layer, f"{100 * size / own.size:.3g}\u00a0%", f"{share:.3g}\u00a0%", float(np.mean(np.diag(part))))
        )
    columns = ("layer", "of the parameters", "of the kernel's trace", "mean of the diagonal")
    return Table(f"What each layer adds to the kernel, on {counted(parts.shape[1], 'row')}.", columns, tuple(rows))


def _notes(context: Context, found: OwnKernel) -> tuple[Text, ...]:
    chosen = (
        f"The kernel was formed on {_of(context, found)}, chosen at random with the seed; its eigenvalues grow with "
        "their number, so they are given divided by it, and its condition number grows with it too. "
        if len(found.rows) < len(context.X_train)
        else ""
    )
    return (
        f"{chosen}It is the mean over the {counted(own_of(context).outputs, 'output')} of the kernels of each output "
        "with itself; spectrum and condition number are those of this mean. An error behind a number of this section "
        "is that of the choice of rows, not of the arithmetic.",
    )


_FORMULAS = (
    Formula(
        r"\hat\Theta(x, y) = \frac1k \sum_{j=1}^{k} \partial_\theta f_j(x) \cdot \partial_\theta f_j(y)",
        "The empirical neural tangent kernel of the model as it was given, averaged over its outputs.",
    ),
    Formula(
        r"A(\hat\Theta, T) = \frac{\langle H\hat\Theta H,\, HTT^\top H\rangle_F}"
        r"{\|H\hat\Theta H\|_F\, \|HTT^\top H\|_F}, "
        r"\quad H = I - \tfrac1c 11^\top, \qquad r = \frac{(\sum_i \lambda_i)^2}{\sum_i \lambda_i^2}",
        "Centred alignment with the targets, and effective rank.",
    ),
)
