"""Figures as plotly receives them."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from widthwise.report import Figure, Grid, Mark, Series
from widthwise.report.figures import legend, log_ticks, plain, specification


def figure(*series, **changes):
    entries = {"key": "f", "title": "t", "caption": "c", "series": series, "x_label": "x", "y_label": "y"}
    return Figure(**(entries | changes))


def coloured(value):
    """Put a colour where a colour is named, as the page does."""
    if isinstance(value, dict):
        return {key: coloured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [coloured(item) for item in value]
    return "#0067a5" if isinstance(value, str) and value.startswith("var(--") else value


def test_every_figure_of_the_demonstration_is_valid_for_plotly(sections):
    for section in sections:
        for item in section.figures:
            spec = specification(item)
            drawn = go.Figure(coloured(spec["data"]), coloured(spec["layout"]))  # refuses what is not valid
            assert len(drawn.data) == len(spec["data"]) > 0
            json.dumps(spec, allow_nan=False)


def test_gaps_and_infinities_are_left_out_of_the_drawing():
    spec = specification(figure(Series("loss", [0, 1, 2, 3], [1.0, np.nan, np.inf, 2.0], [0.1, 0.1, np.nan, 0.1])))
    assert spec["data"][0]["y"] == [1.0, None, None, 2.0]
    json.dumps(spec, allow_nan=False)


def test_roles_differ_by_more_than_colour_and_groups_share_theirs():
    x = np.arange(3)
    series = [Series(role, x, x, role=role, group="g") for role in ("measured", "predicted", "bound", "reference")]
    traces = specification(figure(*series))["data"]
    assert len({trace["line"]["dash"] for trace in traces}) == 4
    assert len({trace["line"]["color"] for trace in traces}) == 1
    assert [trace["mode"] for trace in traces] == ["lines+markers", "lines", "lines", "lines"]


@pytest.mark.parametrize(("points", "traces"), [(30, 1), (31, 2)])
def test_few_points_get_bars_and_many_a_band(points, traces):
    item = figure(Series("a", np.arange(points), np.ones(points), np.full(points, 0.1)))
    data = specification(item)["data"]
    assert len(data) == traces
    assert ("error_y" in data[-1]) == (traces == 1)
    assert legend(item)[0]["traces"] == list(range(traces))


def test_a_band_on_a_logarithmic_axis_stays_positive():
    x = np.arange(1, 41)
    item = figure(Series("a", x, 1.0 / x, np.full(40, 2.0)), y_scale="log")
    assert min(specification(item)["data"][0]["y"]) > 0


def test_an_asymmetric_interval_keeps_its_two_sides():
    bars = specification(figure(Series("a", ["m"], [0.9], interval=([0.8], [0.95])), kind="dot"))["data"][0]["error_x"]
    assert bars["array"] == pytest.approx([0.05])
    assert bars["arrayminus"] == pytest.approx([0.1])


def test_marks_follow_their_axis_and_impossible_ones_are_not_drawn():
    marks = (Mark("x", 10.0, "a"), Mark("y", 0.0, "b"), Mark("y", np.inf, "c"))
    item = figure(Series("s", [1, 100], [1, 2]), marks=marks, x_scale="log", y_scale="log")
    layout = specification(item)["layout"]
    assert [(shape["x0"], shape["yref"]) for shape in layout["shapes"]] == [(10.0, "paper")]
    # plotly wants the logarithm for the label of a place, but not for a line.
    assert [(label["text"], label["x"]) for label in layout["annotations"]] == [("a", 1.0)]


def test_a_mark_turns_with_a_dot_plot():
    item = figure(Series("s", ["a", "b"], [1, 2]), kind="dot", marks=(Mark("y", 1.5, "limit"),))
    (shape,) = specification(item)["layout"]["shapes"]
    assert shape["x0"] == 1.5


def test_a_logarithmic_axis_has_readable_ticks():
    assert log_ticks([64, 128, 1024], at_values=True)["ticktext"] == ["64", "128", "1,024"]
    assert {"0.2", "0.5", "1"} <= set(log_ticks([0.2, 0.9], at_values=False)["ticktext"])
    assert log_ticks([1e-12, 1e12], at_values=False)["dtick"] == 3
    assert log_ticks([0.0, -1.0], at_values=True) == {}


def test_text_is_disarmed_for_plotly():
    words = "<b>&lt;</b> %{x} $x$"
    item = figure(Series(words, [words], [1.0]), title=words, x_label=words, marks=(Mark("y", 1.0, words),), kind="bar")
    spec = json.dumps(specification(item))
    assert "<b>" not in spec
    assert "%{x}" not in spec
    assert plain(words) in json.loads(spec)["data"][0]["x"]


def test_a_heat_map_with_two_signs_is_centred():
    spec = specification(figure(Grid("k", ["a", "b"], [1, 2], [[1, -2], [np.nan, 0]])))["data"][0]
    assert spec["zmid"] == 0
    assert spec["z"] == [[1.0, -2.0], [None, 0.0]]
    go.Figure([spec])
