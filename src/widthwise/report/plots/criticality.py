"""Plots of criticality: edges of chaos, phases, and what layers do to variances and correlations."""

import numpy as np

from widthwise.numerics import reject
from widthwise.theory.criticality import (
    CorrelationMap,
    Criticality,
    DepthScales,
    EdgeOfChaos,
    PhaseDiagram,
    Trajectory,
    VarianceMap,
    edge_of_chaos,
)

from ..section import Figure, Grid, Mark, Series
from .plot import figures

_FARTHEST = 1e4  # depth scales beyond are drawn as this


@figures.register
def criticality_figures(result: Criticality) -> tuple[Figure, ...]:
    """The susceptibility along the edge of chaos, and the edge itself."""
    curve = edge_of_chaos(result.activation, np.geomspace(1e-3, 1e3, 121))
    known = np.isfinite(curve.chi_parallel.error)
    stars = [point.variance.value for point in result.points if point.variance.value > 0]
    response = Figure(
        key="susceptibility",
        title=f"Criticality of {result.activation.name}",
        caption="Where the susceptibility of the variance crosses one on the edge of chaos, a network is critical.",
        series=(
            Series(
                "chi_parallel where chi_perp = 1",
                curve.variances[known],
                curve.chi_parallel.value[known],
                role="predicted",
            ),
        ),
        x_label="variance of the pre-activations",
        y_label="chi_parallel",
        x_scale="log",
        marks=(Mark("y", 1.0, "critical"), *(Mark("x", star, "K*") for star in stars)),
        claims=("INIT-25",),
    )
    return (response, *figures(curve))


@figures.register
def edge_figures(result: EdgeOfChaos) -> tuple[Figure, ...]:
    """The edge of chaos."""
    shown = result.reachable & np.isfinite(result.weight_variance.error) & np.isfinite(result.bias_variance.error)
    bias, weight = result.bias_variance.value[shown], result.weight_variance.value[shown]
    caption = "Two near inputs neither merge nor part on the curve: ordered on its left, chaotic on its right."
    curve = Series("chi_perp = 1", weight, bias, role="predicted")
    title = f"Edge of chaos of {result.activation.name}"
    return (Figure("edge-of-chaos", title, caption, (curve,), "weight variance", "bias variance", claims=("INIT-27",)),)


@figures.register
def phase_figures(result: PhaseDiagram) -> tuple[Figure, ...]:
    """The phases, the variances and the depth scales."""
    found, name = result.scales, result.scales.activation.name
    maps = (
        (
            "chi-perp",
            f"Phases of {name}",
            "Logarithm of chi_perp: ordered below zero, chaotic above.",
            np.log(np.where(np.isfinite(found.chi_perp.error), found.chi_perp.value, np.nan)),
        ),
        (
            "fixed-variance",
            f"Variance deep in {name} networks",
            "The variance to which layers lead; white where it is infinite.",
            found.variance.value,
        ),
        (
            "xi-c",
            f"Depth scale of correlations of {name}",
            "Logarithm to base 10 of the layers in which correlations settle.",
            np.log10(np.clip(found.xi_c.value, 1e-2, _FARTHEST)),
        ),
    )
    return tuple(_grid(result, key, title, caption, values) for key, title, caption, values in maps)


def _grid(result: PhaseDiagram, key: str, title: str, caption: str, values: np.ndarray) -> Figure:
    order = slice(None, None, -1)  # row 0 is drawn at the top
    grid = Grid(title, result.weight_variances, result.bias_variances[order], values[order])
    return Figure(key, title, caption, (grid,), "weight variance", "bias variance", claims=("INIT-28",))


@figures.register
def depth_scale_figures(result: DepthScales) -> tuple[Figure, ...]:
    """Both depth scales along the variance that varies."""
    axes = (("weight variance", result.weight_variance), ("bias variance", result.bias_variance))
    varied = [(name, values) for name, values in axes if values.ndim == 1 and len(np.unique(values)) > 1]
    if len(varied) != 1:
        reject(
            f"depth scales of shape {result.weight_variance.shape}",
            "They are drawn along one variance, in a row of several values, with the other one fixed",
            "Give for example weight_variance=np.linspace(0.5, 4, 60), or draw a phase_diagram of two",
        )
    name, values = varied[0]
    order = np.argsort(values)
    of_variance, of_correlation = (np.clip(scale.value, 1e-2, _FARTHEST)[order] for scale in (result.xi_q, result.xi_c))
    lines = (
        Series("variance", values[order], of_variance, role="predicted"),
        Series("correlation", values[order], of_correlation, role="reference"),
    )
    caption = f"Layers in which variances and correlations settle; where they never do, {_FARTHEST:.0f}."
    title = f"Depth scales of {result.activation.name}"
    return (Figure("depth-scales", title, caption, lines, name, "layers", y_scale="log", claims=("INIT-28",)),)


@figures.register
def correlation_figures(result: CorrelationMap) -> tuple[Figure, ...]:
    """The map of correlations and its diagonal."""
    mapped = Series("one layer", result.correlations, result.mapped.value, role="predicted")
    same = Series("unchanged", result.correlations, result.correlations, role="reference")
    title = f"Correlations in one layer of {result.activation.name}"
    caption = "Where the curve crosses the diagonal a correlation is kept; the slope there says how fast it is reached."
    return (
        Figure(
            "correlation-map",
            title,
            caption,
            (mapped, same),
            "correlation before",
            "correlation after",
            claims=("INIT-20",),
        ),
    )


@figures.register
def variance_figures(result: VarianceMap) -> tuple[Figure, ...]:
    """The map of variances and its diagonal."""
    mapped = Series("one layer", result.variances, result.mapped.value, role="predicted")
    same = Series("unchanged", result.variances, result.variances, role="reference")
    title = f"Variances in one layer of {result.activation.name}"
    caption = "Where the curve crosses the diagonal a variance is kept."
    return (
        Figure(
            "variance-map", title, caption, (mapped, same), "variance before", "variance after", claims=("INIT-19",)
        ),
    )


@figures.register
def trajectory_figures(result: Trajectory) -> tuple[Figure, ...]:
    """The variance and the gap, layer by layer."""
    layers, found = np.arange(1, len(result.variance) + 1), []
    for key, name, values in (("variance", "variance", result.variance), ("gap", "1 - correlation", result.gap)):
        if np.any(values > 0):
            line = Series(name, layers, values, role="predicted")
            words = f"{name.capitalize()} by layer", f"What layers of infinite width make of a {name}."
            found.append(Figure(f"{key}-by-layer", *words, (line,), "layer", name, "log", "log", claims=("INIT-21",)))
    return tuple(found)
