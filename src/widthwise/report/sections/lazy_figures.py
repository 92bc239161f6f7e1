"""Figures and tables of the section on lazy training."""

from functools import partial

import numpy as np

from widthwise.measure import Run
from widthwise.theory.lazy import follow

from ..laziness import NAMES, THEOREMS, Point, Study
from ..section import Figure, Mark, Number, Series, Table

_QUANTITIES = ("residual", "path", "gap", "training gap", "test gap")
_SPOKEN = {
    "1/sigma_min": "smallest singular value, bounded from below",
    "1/final distance": "final distance, bounded from below",
}
_NOISE = 1e-9  # relative to its largest value a distance below is rounding, not measurement


def spoken(quantity: str) -> str:
    """The name of a compared quantity, in words."""
    return _SPOKEN.get(quantity, quantity)


def distances(run: Run) -> tuple[Figure, ...]:
    """How far the parameters go, and how far they part from the linearisation; nothing where nothing moved."""
    twin = run.steps[: len(run.gap)]
    series = (
        *_positive("network ||w - w0||", run.steps, run.distance),
        *_positive("linearisation ||u - w0||", twin, run.twin_distance),
        *_positive("gap ||w - u||", twin, run.gap),
    )
    figure = partial(
        Figure,
        key="distances",
        title="The way of the parameters",
        caption="Distance of the parameters of network and linearisation from their start, and from each other.",
        x_label=_clock(run),
        y_label="distance",
        x_scale="log",
        y_scale="log",
    )
    return (figure(series=series),) if series else ()


def drifts(run: Run, lazy: float, features: float) -> tuple[Figure, ...]:
    """The two numbers that decide, along training."""
    twin = run.steps[: len(run.twin_test)]
    count = len(twin)
    series = (
        *_positive("function gap, held out", twin, _gaps(run.test[:count], run.twin_test)),
        *_positive("function gap, training rows", twin, _gaps(run.train[:count], run.twin_train)),
        *_positive("kernel drift", run.steps, run.drift),
    )
    figure = partial(
        Figure,
        key="function-gap",
        title="Function gap and kernel drift",
        caption="The difference of network and linearisation on training and held-out rows, relative to how far the "
        "linearisation went, and the relative change of the tangent kernel.",
        x_label=_clock(run),
        y_label="relative change",
        x_scale="log",
        y_scale="log",
        marks=(Mark("y", lazy, "lazy below"), Mark("y", features, "feature learning above")),
    )
    return (figure(series=series),) if series else ()


def _gaps(outputs: np.ndarray, twin: np.ndarray) -> np.ndarray:
    went = np.linalg.norm(twin - twin[0], axis=(1, 2))
    return np.linalg.norm(outputs - twin, axis=(1, 2)) / np.where(went > 0, went, 1.0)


def _positive(name: str, x: np.ndarray, y: np.ndarray, **details) -> tuple[Series, ...]:
    """A curve on logarithmic axes: without what is zero or rounding; none when nothing is left."""
    keep = (x > 0) & (y > _NOISE * np.max(y, initial=0.0))
    return (Series(name, x[keep], y[keep], **details),) if keep.any() else ()


def _clock(run: Run) -> str:
    return "time / rate" if run.method.name == "flow" else "step"


def certified_figure(found: Study) -> tuple[Figure, ...]:
    """The flow at the smallest alpha that is certified, with the bounds of the theorem that certifies it."""
    point = next((point for point in found.points if point.ratios), None)
    if point is None:
        return ()
    claim = next(claim for claim in ("LAZY-C1", "LAZY-C2", "LAZY-22") if claim in point.ratios)
    seen, bounds = follow(point.problem), THEOREMS[claim](point.problem).bounds
    times = seen.seconds * (point.alpha * point.problem.tangency.sigma_min) ** 2
    series = []
    for name, measured in (("residual", seen.residual), ("path", seen.path), ("gap", seen.gap)):
        series += _positive(f"{name}, measured", times, measured, group=name)
        series += _positive(f"{name}, bound", times, getattr(bounds, name)(seen.seconds), role="bound", group=name)
    return (
        Figure(
            key="certified-flow",
            title=f"The flow at alpha = {point.alpha:.4g}, which {claim} certifies",
            caption="Residual, length of the path and gap to the linearisation, measured along the gradient flow, "
            "under their bounds.",
            series=tuple(series),
            x_label="time, in units of the slowest decay of the linearisation",
            y_label="norm",
            y_scale="log",
            claims=(claim,),
        ),
    )


def ratios_figure(points: tuple[Point, ...], key: str, whose: str) -> tuple[Figure, ...]:
    """The tightest measured over bound at every certified alpha, a curve for each theorem."""
    series = []
    for claim in NAMES:
        found = [(point.alpha, point.ratios[claim]) for point in points if claim in point.ratios]
        pairs = [(alpha, worst) for alpha, ratios in found if (worst := max(ratios.values(), default=0.0)) > 0]
        if pairs:
            alphas, worst = zip(*pairs, strict=True)
            series.append(Series(f"{claim} ({NAMES[claim]})", alphas, worst))
    if not series:
        return ()
    return (
        Figure(
            key=f"measured-over-bound-{key}",
            title=f"Measured over bound, {whose}",
            caption="The largest measured/bound along the flow, of all quantities that a theorem bounds, over the "
            "factor on the output. Above 1 a theorem would be violated.",
            series=tuple(series),
            x_label="alpha",
            y_label="measured / bound",
            x_scale="log",
            y_scale="log",
            marks=(Mark("y", 1.0, "violated above"),),
            claims=tuple(claim for claim in NAMES if any(claim in point.ratios for point in points)),
        ),
    )


def sweep_table(points: tuple[Point, ...], whose: str) -> tuple[Table, ...]:
    """Measured over bound in numbers, one line for each alpha and theorem."""
    rows = [
        (
            point.alpha,
            claim,
            *(_ratio(ratios, quantity) for quantity in _QUANTITIES),
            max(filter(np.isfinite, ratios.values()), default=None),
        )
        for point in points
        for claim, ratios in point.ratios.items()
    ]
    if not rows:
        return ()
    return (Table(f"Measured over bound, {whose}.", ("alpha", "theorem", *_QUANTITIES, "largest of all"), tuple(rows)),)


def _ratio(ratios: dict[str, float], quantity: str) -> float | None:
    return ratios[quantity] if quantity in ratios and np.isfinite(ratios[quantity]) else None


def movement_table(run: Run) -> Table:
    """How far each array of parameters moved, relative to its size."""
    rows = tuple(
        (name, Number(f"relative movement of {name}", 100 * float(moved), unit="%"))
        for name, moved in zip(run.names, run.movement[-1], strict=True)
    )
    return Table("Movement of the parameters relative to their start.", ("parameters", "||w - w0|| / ||w0||"), rows)
