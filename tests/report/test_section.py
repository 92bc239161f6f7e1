"""The vocabulary refuses what could not be shown, and keeps what is given."""

import numpy as np
import pytest

from widthwise.numerics import Estimate
from widthwise.report import Figure, Grid, Number, Section, Series, Table


def figure(*series, **changes):
    entries = {"key": "f", "title": "t", "caption": "c", "series": series, "x_label": "x", "y_label": "y"}
    return Figure(**(entries | changes))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Series("loss", [1, 2], [1, 2, 3]), r"lengths \[2, 3\]"),
        (lambda: Series("loss", [1, 2], [1, 2], interval=([0], [3])), r"lengths \[2, 2, 1, 1\]"),
        (lambda: Series("loss", [[1, 2]], [1]), r"shape \(1, 2\)"),
        (lambda: Grid("kernel", [1, 2], [1], [[1], [2]]), r"shape \(2, 1\).*\(1, 2\)"),
        (lambda: figure(), "0 series"),
        (lambda: figure(Grid("a", [1], [1], [[1]]), Series("b", [1], [1])), "2 series of which 1 are grids"),
        (lambda: figure(Series("b", [1], [1]), key="Two words"), "Use 'two-words'"),
        (lambda: Table("t", ("a", "b"), ((1, 2), (1,))), "row of 1 cells"),
        (lambda: Number("n", 1.0, error=-0.1), "error of 'n' is -0.1"),
        (lambda: Section("s", "t", (Number("n", 1.0), Number("n", 2.0))), "two different numbers with key 'n'"),
        (lambda: Section("", "t", "l"), "key is ''"),
    ],
)
def test_what_cannot_be_shown_is_refused(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert str(caught.value).count(". ") >= 2


def test_the_same_number_may_be_said_twice():
    twice = (Number("loss", float("nan"), reason="diverged"), Number("loss", float("nan"), reason="diverged"))
    section = Section("s", "t", twice, numbers=twice[:1])
    assert [number.key for number in section.all_numbers()] == ["loss"]


def test_numbers_in_text_tables_and_lists_are_all_found():
    a, b, c = (Number(name, 1.0) for name in "abc")
    section = Section("s", "t", "lead", paragraphs=(("x", a),), tables=(Table("t", ("v",), ((b,),)),), numbers=(c,))
    assert {number.key for number in section.all_numbers()} == {"a", "b", "c"}


def test_an_estimate_becomes_a_number_and_a_zero_error_an_exact_one():
    assert Number.of("x", Estimate(np.float64(2.0), np.float64(0.5))) == Number("x", 2.0, 0.5)
    assert Number.of("x", Estimate.exact(2.0), unit="s") == Number("x", 2.0, unit="s")


def test_arrays_of_any_kind_become_plain_numbers():
    series = Series("s", np.arange(2, dtype=np.int32), np.ones(2, np.float32))
    assert series.x == (0.0, 1.0)
    assert [type(value) for value in (*series.x, *series.y)] == [float] * 4
    assert type(Number("n", np.float32(0.5)).value) is float
