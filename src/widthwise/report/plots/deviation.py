"""How the distance of a finite network's kernel from its limit is drawn: networks against the bounds."""

import math

import numpy as np

from widthwise.theory.concentration import KernelDeviation

from ..section import Figure, Mark, Series
from .plot import figures


@figures.register
def deviation_figures(result: KernelDeviation) -> tuple[Figure, ...]:
    """The share of networks that deviate by more than so much, with the bounds and the probability they hold with."""
    draws = np.sort(result.draws)
    beyond = 1.0 - np.arange(1, len(draws) + 1) / (len(draws) + 1)
    bounds = {"bound": result.bound, "with the sampled variance": float(result.exact_bound.value)}
    return (
        Figure(
            key="kernel-deviation",
            title=f"Distance of kernels of width {result.width} from their limit",
            caption=f"The share of {len(draws)} networks beyond each distance; bounds hold for {1 - result.delta:g}.",
            series=(Series("networks beyond", draws, beyond),),
            x_label="distance from the limit (spectral norm)",
            y_label="share of networks",
            x_scale="log",
            marks=tuple(Mark("x", value, name) for name, value in bounds.items() if math.isfinite(value)),
        ),
    )
