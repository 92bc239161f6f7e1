"""The figures and tables of the section on kernels."""

import math
from dataclasses import dataclass

import numpy as np

from widthwise.measure import Deviation, WidthStudy
from widthwise.numerics import Estimate

from ..context import Context
from ..section import Figure, Grid, Number, Role, Series, Table

NAMES = {"ntk": "NTK", "nngp": "NNGP"}
_MOST_CLASSES = 30


@dataclass(frozen=True, eq=False)
class Labels:
    """What the kernels see in the labels: alignment, with true and with shuffled labels, and energy by eigenvector."""

    aligned: dict[str, float]
    shuffled: dict[str, Estimate]
    energy: np.ndarray


def root(squared: Estimate) -> tuple[float, float]:
    low, high = (math.sqrt(max(squared.value + sign * 2 * squared.error, 0.0)) for sign in (-1, 1))
    return low, high


def deviations(study: WidthStudy) -> Figure:
    series = []
    for name, label in NAMES.items():
        parts = study.of(name)
        means = [part.mean for part in parts]
        anchor = _anchor(study, parts)
        series += [
            Series(
                f"{label}, measured", study.widths, [m.value for m in means], [m.error for m in means], "measured", name
            ),
            Series(
                f"{label}, rate width^(−1/2)",
                study.widths,
                [anchor / math.sqrt(w) for w in study.widths],
                role="predicted",
                group=name,
            ),
        ]
    return Figure(
        key="kernel-by-width",
        title="Distance of the empirical kernels from infinite width",
        caption="Mean relative Frobenius distance on at most 32 training inputs, with its standard error over "
        "networks.",
        series=(*series, *_bias_series(study)),
        x_label="width",
        y_label="relative deviation",
        x_scale="log",
        y_scale="log",
    )


def _anchor(study: WidthStudy, parts: tuple[Deviation, ...]) -> float:
    """The constant of the rate, where it is seen best: deviation times root of width, averaged over the wider half."""
    wide = range(len(study.widths) // 2, len(study.widths))
    return float(np.mean([math.sqrt(study.widths[i]) * float(parts[i].mean.value) for i in wide]))


def _bias_series(study: WidthStudy) -> tuple[Series, ...]:
    """The bias where it can be told from zero, and its rate."""
    found = [part.squared_bias for part in study.ntk]
    seen = [i for i, one in enumerate(found) if one.value > 2 * one.error]
    squared, _ = study.bias("ntk")
    if not seen or squared.value <= 0:
        return ()
    ends = [root(found[i]) for i in seen]
    return (
        Series(
            "NTK, bias of the mean",
            [study.widths[i] for i in seen],
            [math.sqrt(found[i].value) for i in seen],
            role="measured",
            group="bias",
            interval=([low for low, _ in ends], [high for _, high in ends]),
        ),
        Series(
            "NTK, rate 1/width",
            study.widths,
            [math.sqrt(squared.value) / w for w in study.widths],
            role="predicted",
            group="bias",
        ),
    )


def spectrum(context: Context) -> Figure:
    series = []
    for name, found in (("NTK", context.ntk_spectrum), ("NNGP", context.nngp_spectrum)):
        kept = found.values[: found.rank] / len(found.values)
        series.append(Series(name, np.arange(1, len(kept) + 1), kept, role="predicted"))
    return Figure(
        key="spectrum",
        title="Spectrum of the kernels of infinite width",
        caption=f"Eigenvalues on the {len(context.X_train)} training inputs, divided by their number; those that "
        "cannot "
        "be told from zero are left out.",
        series=tuple(series),
        x_label="rank",
        y_label="eigenvalue / n",
        x_scale="log",
        y_scale="log",
    )


def energy(seen: Labels, role: Role = "predicted", kernel: str = "NTK") -> Figure:
    ranks = np.arange(1, len(seen.energy) + 1)
    return Figure(
        key="label-energy",
        title="How much of the targets the leading eigenvectors hold",
        caption="Share of the squared targets in the span of the leading eigenvectors of the "
        f"{kernel}, against targets without structure.",
        series=(
            Series("targets", ranks, np.cumsum(seen.energy), role=role),
            Series("no structure", ranks, ranks / len(ranks), role="reference"),
        ),
        x_label="leading eigenvectors",
        y_label="share of the targets",
        x_scale="log",
    )


def between_classes(context: Context) -> tuple[Figure, ...]:
    y = context.y_train if context.classification else None
    return mean_cosines(context.kernel_train.ntk, y, context.data.classes, "Mean NTK between the classes")


def mean_cosines(ntk: np.ndarray, y: np.ndarray | None, classes: tuple[str, ...], title: str) -> tuple[Figure, ...]:
    """The cosines of the tangent features between and within the classes, for 3 to 30 classes that have rows."""
    present = [] if y is None else np.unique(y).tolist()
    if y is None or not 2 < len(present) <= _MOST_CLASSES:
        return ()
    norm = np.sqrt(np.diag(ntk))
    cosine = ntk / np.where(norm == 0, 1.0, norm)[:, None] / np.where(norm == 0, 1.0, norm)
    member = np.equal.outer(y, present).astype(float)
    means = member.T @ cosine @ member / np.outer(member.sum(axis=0), member.sum(axis=0))
    names = [classes[at] for at in present]
    return (
        Figure(
            key="between-classes",
            title=title,
            caption="Cosine of the tangent features, averaged over the pairs of training inputs of two classes.",
            series=(Grid("mean cosine", names, names, means),),
            x_label="class",
            y_label="class ",
        ),
    )


def table(context: Context, seen: Labels) -> Table:
    rows = []
    for name, found in (("ntk", context.ntk_spectrum), ("nngp", context.nngp_spectrum)):
        condition = found.condition_number
        rows.append(
            (
                NAMES[name],
                seen.aligned[name],
                Number.of(f"alignment with shuffled labels, {NAMES[name]}", seen.shuffled[name]),
                found.largest / len(found.values),
                found.smallest / len(found.values) or None,
                condition if math.isfinite(condition) else "singular",
                found.effective_rank,
            )
        )
    columns = (
        "kernel",
        "alignment",
        "shuffled labels",
        "largest eigenvalue / n",
        "smallest / n",
        "condition number",
        "effective rank",
    )
    return Table("The kernels of infinite width on the training inputs", columns, tuple(rows))


def width_table(study: WidthStudy) -> Table:
    rows = []
    for index, width in enumerate(study.widths):
        cells: list = [width, len(study.ntk[index].gram)]
        for name, label in NAMES.items():
            part = study.of(name)[index]
            cells += [
                Number.of(
                    f"deviation of the {label} at width {width}", part.mean, error_is="standard error over networks"
                ),
                Number.of(
                    f"squared bias of the {label} at width {width}",
                    part.squared_bias,
                    error_is="jackknife over networks",
                ),
            ]
        rows.append(tuple(cells))
    columns = ("width", "networks", "NTK deviation", "NTK bias, squared", "NNGP deviation", "NNGP bias, squared")
    return Table("Empirical kernels against infinite width", columns, tuple(rows))
