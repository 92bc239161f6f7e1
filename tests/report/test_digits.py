"""Numbers as the page shows them."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from widthwise.report.digits import format_number

SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


def read(text: str) -> tuple[list[Decimal], list[int]]:
    """Return the numbers in a text and the decimal place of the last digit of each."""
    body, _, power = text.partition(") × 10")
    common = int(power.translate(SUPERSCRIPTS)) if power else 0
    parts = body.strip("()").split(" ± ")
    values, places = [], []
    for part in parts:
        digits, _, own = part.partition(" × 10")
        exponent = int(own.translate(SUPERSCRIPTS)) if own else common
        digits = digits.replace(",", "").replace("−", "-")
        places.append(exponent - len(digits.partition(".")[2]))
        values.append(Decimal(digits).scaleb(exponent))
    return values, places


@given(finite, positive)
@example(0.1, 0.0996)
@example(1.0, 101.0)
@example(9.9999e5, 10.0)
@example(-0.0001, 0.0009)
@example(1.7976931348623157e308, 5e-324)
def test_value_and_error_are_rounded_by_at_most_half_a_digit(value, error):
    (shown, bar), (place, bar_place) = read(format_number(value, error))
    # Two digits of the error: rounding moves it by at most 5 %, half of its second digit.
    assert abs(bar - Decimal(repr(error))) <= Decimal(repr(error)) * Decimal("0.05")
    # Of a whole number such as 120 only the first two digits count, though it is written to the last.
    second = bar.adjusted() - 1
    assert abs(shown - Decimal(repr(value))) <= Decimal("0.5").scaleb(max(place, second))
    assert abs(bar - Decimal(repr(error))) <= Decimal("0.5").scaleb(max(bar_place, second, -400))


@given(finite, positive)
def test_value_and_error_end_at_the_same_place(value, error):
    assume(abs(value) < 1e8 * error)
    _, (place, bar_place) = read(format_number(value, error))
    assert place == bar_place


@given(finite)
def test_an_exact_number_keeps_five_digits(value):
    text = format_number(value)
    (shown,), _ = read(text)
    assert abs(shown - Decimal(repr(value))) <= abs(Decimal(repr(value))) * Decimal("0.5e-4")
    assert len(text) <= 20


@given(st.integers(min_value=-(10**9) + 1, max_value=10**9 - 1))
def test_a_whole_number_is_shown_whole(value):
    assert read(format_number(value))[0] == [value]
    assert format_number(float(value)) == format_number(value)


@given(finite, positive, positive)
def test_an_interval_contains_the_value_it_shows(value, below, above):
    low, high = value - below, value + above
    assume(-math.inf < low < value < high < math.inf)
    text = format_number(value, interval=(low, high)).partition(" × ")[0]
    middle, left, right = (Decimal(part.replace(",", "").replace("−", "-")) for part in _split(text))
    assert left <= middle <= right


def _split(text: str) -> list[str]:
    middle, _, ends = text.rstrip("]").partition(" [")
    return [middle, *ends.split(", ")]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((0.8714, 0.0012), "0.8714 ± 0.0012"),
        ((0.8714, 0.0), "0.8714"),
        ((0.0, 0.0099), "0.0000 ± 0.0099"),
        ((123456.7, 1234.0), "123,500 ± 1,200"),
        ((1e-200, 1e200), "(0.0 ± 1.0) × 10²⁰⁰"),
        ((5.0712, math.nan), "5.0712 (error unknown)"),
        ((5.0712, math.inf), "5.0712 (error unknown)"),
        ((0.5, None, (0.41, 0.62), "%"), "0.50 [0.41, 0.62] %"),
        ((1.0, None, (1.0, 1.0)), "1 [1, 1]"),
        ((-1234.5678,), "−1,234.6"),
        ((-0.0,), "0"),
        ((math.nan, 0.1), "not a number"),
        ((-math.inf,), "−∞"),
        ((None, None, None, "", "no line search was run"), "none (no line search was run)"),
        ((math.inf, None, None, "s", "diverged at step 41"), "∞ (diverged at step 41)"),
    ],
)
def test_numbers_read_as_a_person_would_write_them(arguments, shown):
    assert format_number(*arguments) == shown


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_numpy_scalars_are_numbers_too(kind):
    assert format_number(kind(2), kind(1), unit="s") == "2.0 ± 1.0 s"
    assert format_number(kind(2), interval=(kind(1), kind(3))) == "2.0 [1.0, 3.0]"
