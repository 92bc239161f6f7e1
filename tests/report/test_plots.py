"""Plots outside of a report."""

import pytest

from widthwise.report import Figure, Series, plot

LINE = Figure("line", "A line", "It rises.", (Series("y", [0.0, 1.0], [0.0, 2.0], error=[0.1, 0.1]),), "step", "height")


def test_a_figure_is_drawn_with_colours_that_need_no_page():
    drawn = plot(LINE)
    assert drawn.layout.xaxis.title.text == "step"
    assert list(drawn.data[0].y) == [0.0, 2.0]
    assert "var(--" not in drawn.to_json()


def test_a_figure_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"which=3.*0: A line"):
        plot(LINE, which=3)


def test_a_result_without_a_plot_is_refused():
    with pytest.raises(ValueError, match="type list"):
        plot([1.0])
