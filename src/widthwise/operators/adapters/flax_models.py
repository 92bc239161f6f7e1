"""Flax: NNX modules, and linen modules with their variables."""

from collections.abc import Mapping
from typing import Any

from widthwise.numerics import reject

from .adapted import Held
from .source import Call, Source, arrays, family

_NNX, _LINEN = "flax.nnx.module.Module", "flax.linen.module.Module"
_LIVE = "A model is a fixed function of its input: no dropout, and fixed statistics"


def is_nnx(model: Any) -> bool:
    """Whether this is a module of Flax NNX.

    >>> is_nnx(print)
    False
    """
    return _NNX in family(model)


def is_linen(model: Any) -> bool:
    """Whether this is a module of Flax linen.

    >>> is_linen(print)
    False
    """
    return _LINEN in family(model)


def _flax() -> Any:
    try:
        import flax
        import flax.linen
        import flax.nnx
    except ImportError as error:
        reject(
            f"a Flax model where Flax cannot be imported ({error})",
            "Flax models need the extra flax",
            "pip install 'widthwise[flax]'",
        )
    return flax


def from_nnx(model: Any, call: Call) -> Source:
    """An NNX module in evaluation mode: its `nnx.Param` variables are trained, all others are kept as they are."""
    nnx = _flax().nnx
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Module):
            _demand_evaluation(".".join(map(str, path)) or "the model", node)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return Source(Held(_nnx, graph), params, (rest, dict(call)), "batch", hint)


def _nnx(graph: Any, params: Any, rest: tuple, x: Any) -> Any:
    variables, call = rest
    return _flax().nnx.merge(graph, params, variables, copy=True)(x, **call)


def nnx_with(model: Any, params: Any) -> Any:
    """A copy of an NNX module with other parameters."""
    nnx = _flax().nnx
    graph, _, rest = nnx.split(model, nnx.Param, ...)
    return nnx.merge(graph, params, rest, copy=True)


def bound_with(model: Any, params: Any) -> Any:
    """A bound linen module with other parameters."""
    module, variables = model.unbind()
    return module.bind({**variables, "params": params})


def _demand_evaluation(name: str, layer: Any) -> None:
    rate = getattr(layer, "rate", None) or getattr(layer, "dropout_rate", None) or 0
    if getattr(layer, "deterministic", None) is False and rate:
        reject(f"The dropout layer {name} is in training mode (rate {rate})", _LIVE, "Call model.eval() first")
    if getattr(layer, "use_running_average", None) is False:
        kind = type(layer).__name__
        reject(f"The layer {name} ({kind}) is in training mode", _LIVE, "Call model.eval() first")


def from_linen(module: Any, rest: tuple, call: Call) -> Source:
    """``(module, variables)`` or a bound module: the collection "params" is trained, the others are kept."""
    module, variables = (
        (module.unbind() if module.scope is not None else (module, None))
        if not rest
        else (
            module,
            rest[0],
        )
    )
    if not isinstance(variables, Mapping) or "params" not in variables:
        given = f"the keys {[*variables]}" if isinstance(variables, Mapping) else f"{type(variables).__name__}"
        reject(
            f"a linen module whose variables are {given}",
            "A linen module comes with what module.init returned, a dict with the key 'params'",
            "Give adapt((module, variables)), with variables={'params': params} for bare parameters",
        )
    if extra := sorted({"rngs", "mutable"} & {*call}):
        reject(f"call with {', '.join(extra)}", _LIVE, "Switch dropout off, for example by call=dict(train=False)")
    variables = arrays(_flax().core.meta.unbox(dict(variables)))
    return Source(Held(_linen, module), variables.pop("params"), (variables, dict(call)), "batch", hint)


def _linen(module: Any, params: Any, rest: tuple, x: Any) -> Any:
    others, call = rest
    return module.apply({"params": params, **others}, x, **call)


def hint(error: Exception) -> str | None:
    """What the errors of a module in training mode mean.

    >>> hint(ValueError("some other error"))
    """
    if {"flax.errors.InvalidRngError", "flax.errors.ModifyScopeVariableError"} & family(error):
        return (
            "The model is in training mode: switch dropout and batch statistics off, "
            "for example by call=dict(train=False)"
        )
    return None
