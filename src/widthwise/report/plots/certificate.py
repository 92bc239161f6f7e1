"""How the certificates along a training are drawn: the ratio h against 1, the way that is left, and the loss."""

import numpy as np

from widthwise.numerics import reject
from widthwise.theory.lazy import CertificateMonitor

from ..section import Figure, Mark, Series
from .plot import figures


@figures.register
def certificate_figures(result: CertificateMonitor) -> tuple[Figure, ...]:
    """The ratio h, below 1 from the certificate on, the bound on the way that is left, and the loss."""
    seen = result.records
    if not len(seen["step"]):
        reject("a monitor without records", "A monitor is called in the loop", "Call monitor(step, model) first")
    found = result.certificate_step
    marks = () if found is None else (Mark("x", found, "lazy from here"),)
    worth = "certified" if np.all(seen["certified"]) else "estimated, not certified"
    drawn = (
        _figure(
            "certificate",
            f"When the rest of the training is lazy ({worth})",
            "For h of at most 1, gradient flow from that step on fits all targets and stays near its start.",
            seen,
            {"h": ("h", "measured")},
            (Mark("y", 1.0, "lazy below"), *marks),
        ),
        _figure(
            "way-left",
            f"How far parameters still go ({worth})",
            "The path of gradient flow is at most this long, and some interpolator lies between the other two.",
            seen,
            {
                "longest path": ("remaining", "bound"),
                "nearest interpolator": ("nearest", "reference"),
                "farthest interpolator": ("farthest", "bound"),
            },
            marks,
        ),
        _figure("loss", "Loss", "The square loss on all training data.", seen, {"loss": ("loss", "measured")}, marks),
    )
    return tuple(one for one in drawn if one is not None)


def _figure(
    key: str, title: str, caption: str, seen: dict[str, np.ndarray], lines: dict, marks: tuple[Mark, ...]
) -> Figure | None:
    """What is positive and finite, on a logarithmic axis; None where nothing is."""
    series = []
    for name, (column, role) in lines.items():
        shown = np.isfinite(seen[column]) & (seen[column] > 0)
        if np.any(shown):
            series.append(Series(name, seen["step"][shown], seen[column][shown], role=role))
    if not series:
        return None
    label = "h" if key == "certificate" else "distance of parameters" if key == "way-left" else "loss"
    return Figure(key, title, caption, tuple(series), "step", label, y_scale="log", marks=marks, claims=("LAZY-C4",))
