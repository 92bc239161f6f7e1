"""Numbers in as many digits as their error allows.

The error is rounded to two significant digits and the value to the same decimal place, as in the
Guide to the Expression of Uncertainty in Measurement, section 7.2.6; an exact number gets five.
"""

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np

Real = float | int | np.number

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_EXACT_DIGITS = 5
TEXT_DIGITS = 4  # of an exact number inside a sentence
_ERROR_DIGITS = 2
_MOST_DIGITS = 9  # beyond these, value and error are shown each in its own scale
_CONTEXT = Context(prec=700, rounding=ROUND_HALF_EVEN)  # exact for every float64


def scalar(value: Any) -> Any:
    """Return a numpy scalar as the Python number, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def in_words(value: Real | None, reason: str = "") -> str:
    """Say what stands in place of a number that is missing or not finite.

    >>> in_words(math.inf), in_words(None, "diverged at step 12")
    ('∞', 'none (diverged at step 12)')
    """
    if value is None:
        word = "none"
    elif math.isnan(scalar(value)):
        word = "not a number"
    else:
        word = "∞" if value > 0 else "−∞"
    return f"{word} ({reason})" if reason else word


def format_number(
    value: Real | None,
    error: Real | None = None,
    interval: tuple[Real, Real] | None = None,
    unit: str = "",
    reason: str = "",
    digits: int = _EXACT_DIGITS,
) -> str:
    """Return the number in words of a page: value ± error, or value [low, high], with its unit.

    An exact number that is not whole is shown in so many significant ``digits``.

    >>> format_number(0.871432, 0.00123)
    '0.8714 ± 0.0012'
    >>> format_number(1.2345e-7, 3e-9, unit="s")
    '(1.234 ± 0.030) × 10⁻⁷ s'
    >>> format_number(0.5, interval=(0.41, 0.623))
    '0.50 [0.41, 0.62]'
    >>> format_number(1797), format_number(2 / 3), format_number(5.0712)
    ('1,797', '0.66667', '5.0712')
    """
    if value is None or not math.isfinite(scalar(value)):
        return in_words(value, reason)
    if interval is not None and all(map(math.isfinite, map(scalar, interval))):
        text = _with_interval(scalar(value), (scalar(interval[0]), scalar(interval[1])))
    elif error is None or error == 0:
        text = _exact(scalar(value), digits)
    elif not math.isfinite(scalar(error)):
        text = f"{_exact(scalar(value))} (error unknown)"
    else:
        text = _with_error(scalar(value), scalar(error))
    return f"{text} {unit}" if unit else text


def _exact(value: float | int, digits: int = _EXACT_DIGITS) -> str:
    if value == int(value) and abs(value) < 10**9:
        return _fixed(_decimal(value), 0, 0)
    rounded = _significant(_decimal(value), digits)
    exponent = _scale(rounded)
    text = _fixed(rounded, exponent, _place(rounded, digits))
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text + _power(exponent)


def _with_error(value: float | int, error: float | int) -> str:
    bar = _significant(_decimal(error), _ERROR_DIGITS)
    place = _place(bar, _ERROR_DIGITS)
    number = _round(_decimal(value), place)
    if number and number.adjusted() - place >= _MOST_DIGITS:
        return f"{_digits(_decimal(value), _MOST_DIGITS)} ± {_digits(bar, _ERROR_DIGITS)}"
    exponent = _scale(max(abs(number), bar))
    text = f"{_fixed(number, exponent, place)} ± {_fixed(bar, exponent, place)}"
    return f"({text}){_power(exponent)}" if exponent else text


def _with_interval(value: float | int, interval: tuple[float, float]) -> str:
    number, low, high = map(_decimal, (value, *interval))
    widest = max(abs(low - number), abs(high - number))
    largest = max(map(abs, (number, low, high)))
    if widest == 0:
        return f"{_exact(value)} [{_exact(value)}, {_exact(value)}]"
    finest = _place(largest, _MOST_DIGITS)
    place = max(_place(_significant(widest, _ERROR_DIGITS), _ERROR_DIGITS), finest)
    exponent = _scale(_round(largest, place))
    middle, left, right = (_fixed(part, exponent, place) for part in (number, low, high))
    return f"{middle} [{left}, {right}]{_power(exponent)}"


def _decimal(value: float | int) -> Decimal:
    return Decimal(repr(value))


def _place(number: Decimal, digits: int) -> int:
    """Return the decimal place of the last of that many significant digits."""
    return number.adjusted() - digits + 1


def _significant(number: Decimal, digits: int) -> Decimal:
    return Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(number)


def _round(number: Decimal, place: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(place, _CONTEXT), context=_CONTEXT)


def _scale(number: Decimal) -> int:
    """Return the power of ten that is split off: none between 0.001 and a million."""
    return 0 if number == 0 or -3 <= number.adjusted() < 6 else number.adjusted()


def _fixed(number: Decimal, exponent: int, place: int) -> str:
    decimals = max(0, exponent - place)
    rounded = _round(_round(number, place).scaleb(-exponent, _CONTEXT), -decimals)
    return f"{rounded + 0:,f}".replace("-", "−")


def _digits(number: Decimal, digits: int) -> str:
    rounded = _significant(number, digits)
    exponent = _scale(rounded)
    return _fixed(rounded, exponent, _place(rounded, digits)) + _power(exponent)


def _power(exponent: int) -> str:
    return f" × 10{str(exponent).translate(_SUPERSCRIPTS)}" if exponent else ""
