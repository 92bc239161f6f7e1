"""Plots of critical points, edges of chaos, phases and maps."""

import pytest

import widthwise as ww
from widthwise.theory.criticality import correlation_map, trajectory, variance_map

RESULTS = [
    (lambda: ww.critical_init("gelu"), "Criticality of gelu"),
    (lambda: ww.edge_of_chaos("tanh"), "Edge of chaos of tanh"),
    (lambda: ww.phase_diagram("erf", [0.5, 1.5, 3.0], [0.0, 0.2]), "Phases of erf"),
    (lambda: correlation_map("relu", 2.0), "Correlations in one layer of relu"),
    (lambda: variance_map("tanh", 1.5, 0.05, [0.1, 1.0]), "Variances in one layer of tanh"),
    (lambda: ww.depth_scales("tanh", [0.5, 3.0, 1.5], 0.05), "Depth scales of tanh"),
    (lambda: trajectory("tanh", 1.0, depth=20, correlation=0.5), "Variance by layer"),
]


@pytest.mark.parametrize(("make", "title"), RESULTS, ids=[title for _, title in RESULTS])
def test_a_result_is_drawn(make, title):
    drawn = ww.plot(make())
    assert drawn.layout.title.text == title
    assert drawn.data


def test_rows_of_a_phase_diagram_keep_their_bias_variance():
    found = ww.phase_diagram("erf", [0.5, 3.0], [0.0, 0.2])
    drawn = ww.plot(found, which=1)
    rows = dict(zip(drawn.data[0].y, drawn.data[0].z, strict=True))
    assert rows[0.2][1] == found.scales.variance.value[1, 1]
