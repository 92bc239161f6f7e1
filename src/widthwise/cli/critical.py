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

_HEADER = ("class", "C_w", "C_b", "K*", "chi_parallel", "chi_perp", "input mean square", "xi_q")


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
        write_table(_HEADER, [_row(point) for point in found.points] or [(Text("none"),)])
    return 0


def _row(point: CriticalPoint) -> tuple[Text, ...]:
    values = (point.weight_variance, point.bias_variance, point.variance, point.chi_parallel, point.chi_perp)
    numbers = [f"{float(value.value):.12g}" if math.isfinite(value.value) else "any" for value in values]
    scale = point.input_mean_square
    return tuple(
        map(Text, (point.kind, *numbers, "any" if scale is None else f"{scale:.12g}", f"{point.depth_scale:.6g}"))
    )


def _as_data(point: CriticalPoint) -> dict[str, Any]:
    told = {field.name: _plain(getattr(point, field.name)) for field in dataclasses.fields(point)}
    return {**told, "input_mean_square": point.input_mean_square, "xi_q": _plain(point.depth_scale)}


def _plain(value: Any) -> Any:
    """Numbers that JSON has: a value with its error, and null for what is not finite."""
    if isinstance(value, Estimate):
        return {"value": _plain(float(value.value)), "error": _plain(float(value.error))}
    return None if isinstance(value, float) and not math.isfinite(value) else value
