"""`widthwise critical`: how to initialise deep networks with an activation."""

import dataclasses
import math
from typing import Annotated, Any

from rich.text import Text
from tyro.conf import Positional, arg

from widthwise.numerics import Estimate
from widthwise.theory.criticality import CriticalPoint, critical_init

from .console import write_json, write_table
from .options import JsonFlag

_HEADER = ("point", "quantity", "value")
_NAMES = ("C_w", "C_b", "K*", "chi_parallel", "chi_perp")


def write_critical(activation: Annotated[Positional[str], arg(metavar="ACTIVATION")], as_json: JsonFlag = False) -> int:
    """Find the variances of weights and biases at which deep networks with an activation are critical.

    Args:
        activation: A name such as gelu, tanh or relu.
        as_json: Write JSON for programs.
    """
    found = critical_init(activation)
    if as_json:
        points = [_as_data(point) for point in found.points]
        write_json({"activation": found.activation.name, "class": found.kind, "points": points})
    else:
        write_table(_HEADER, [row for point in found.points for row in _rows(point)] or [_texts("none", "", "")])
    return 0


def _rows(point: CriticalPoint) -> list[tuple[Text, ...]]:
    """One quantity a row, so that no number is cut off in a narrow terminal."""
    values = (point.weight_variance, point.bias_variance, point.variance, point.chi_parallel, point.chi_perp)
    told = [
        (name, f"{float(value.value):.12g}" if math.isfinite(value.value) else "any")
        for name, value in zip(_NAMES, values, strict=True)
    ]
    scale = point.input_mean_square
    told += [("input mean square", "any" if scale is None else f"{scale:.12g}"), ("xi_q", f"{point.depth_scale:.6g}")]
    told += [("at the border", "of the variances searched")] if point.at_border else []
    return [_texts(point.kind, *row) for row in told]


def _texts(*cells: str) -> tuple[Text, ...]:
    return tuple(map(Text, cells))


def _as_data(point: CriticalPoint) -> dict[str, Any]:
    told = {field.name: _plain(getattr(point, field.name)) for field in dataclasses.fields(point)}
    return {**told, "input_mean_square": point.input_mean_square, "xi_q": _plain(point.depth_scale)}


def _plain(value: Any) -> Any:
    """Numbers that JSON has: a value with its error, and null for what is not finite."""
    if isinstance(value, Estimate):
        return {"value": _plain(float(value.value)), "error": _plain(float(value.error))}
    return None if isinstance(value, float) and not math.isfinite(value) else value
