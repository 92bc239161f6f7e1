"""How a recorded tangent kernel is drawn: how far it and the weights moved, its ranks, and how it fits the labels."""

import numpy as np

from widthwise.measure import KernelRecorder
from widthwise.numerics import reject

from ..section import Figure, Series
from .plot import figures, some

_MOST = 8  # lines of layers in one figure


@figures.register
def recorder_figures(result: KernelRecorder) -> tuple[Figure, ...]:
    """The change of the kernel, of every layer and of features, the ranks, and with labels the alignment and loss."""
    seen = result.records
    if not len(seen["step"]):
        reject("a recorder without records", "A recorder is called in the loop", "Call recorder(step, params) first")
    steps, layers = seen["step"], some(len(result.layers), _MOST)
    changed = {result.layers[at]: seen["weight_change"][:, at] for at in layers}
    changed |= {name: seen["feature_change"][:, at] for at, name in enumerate(result.features[:_MOST])}
    drawn = [
        _figure(
            "kernel-change",
            "How far the tangent kernel moved",
            "Distance to the kernel of the start, relative to its size, and one minus their cosine; 0 is lazy.",
            steps,
            {"distance": seen["distance"], "1 − cosine": 1.0 - seen["cosine"]},
            "change of the kernel",
        ),
        _figure(
            "layer-change",
            "How far each layer moved",
            "The distance of weights and features to those of the start, relative to their size.",
            steps,
            changed,
            "relative change",
        ),
        _figure(
            "kernel-ranks",
            "Effective ranks of the tangent kernel",
            "The participation ratio of its eigenvalues, and the exponential of their entropy.",
            steps,
            {"participation ratio": seen["effective_rank"], "entropy": seen["entropy_rank"]},
            "rank",
        ),
    ]
    if "alignment" in seen:
        said = "The cosine of the kernel and that of the labels, both centred."
        drawn.append(
            _figure("alignment", "Alignment with the labels", said, steps, {"alignment": seen["alignment"]}, "cosine")
        )
        drawn.append(_figure("loss", "Loss", "The loss on the probe.", steps, {"loss": seen["loss"]}, "loss"))
    return tuple(drawn)


def _figure(key: str, title: str, caption: str, steps: np.ndarray, lines: dict[str, np.ndarray], label: str) -> Figure:
    series = tuple(Series(name, steps, values) for name, values in lines.items())
    return Figure(key, title, caption, series, "step", label)
