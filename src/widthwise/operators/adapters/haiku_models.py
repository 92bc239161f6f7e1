"""Haiku: a transformed function with its parameters, and its state."""

from collections.abc import Callable
from typing import Any

from widthwise.numerics import reject

from .adapted import Held
from .source import Call, Source, arrays, family

_PLAIN, _STATEFUL = "haiku._src.transform.Transformed", "haiku._src.transform.TransformedWithState"


def is_haiku(model: Any) -> bool:
    """Whether this is what `hk.transform` or `hk.transform_with_state` returns.

    >>> is_haiku((1, 2))
    False
    """
    return bool({_PLAIN, _STATEFUL} & family(model))


def from_haiku(model: Any, rest: tuple, call: Call) -> Source:
    """``(transformed, params)`` or ``(transformed_with_state, params, state)``; applied without a random key.

    >>> from_haiku(object(), (), {})
    Traceback (most recent call last):
        ...
    ValueError: a transformed Haiku function with 0 values beside it. ...
    """
    stateful = _STATEFUL in family(model)
    if len(rest) != 1 + stateful:
        wanted = "(transformed_with_state, params, state)" if stateful else "(transformed, params)"
        reject(
            f"a transformed Haiku function with {len(rest)} values beside it",
            f"It comes with what init returned, as the tuple {wanted}",
            f"Give adapt({wanted})",
        )
    function = _stateful if stateful else _plain
    return Source(Held(function, model.apply), arrays(rest[0]), (arrays(rest[1:]), dict(call)), "batch", hint)


def _plain(apply: Callable, params: Any, rest: tuple, x: Any) -> Any:
    return apply(params, None, x, **rest[1])


def _stateful(apply: Callable, params: Any, rest: tuple, x: Any) -> Any:
    (state,), call = rest
    return apply(params, state, None, x, **call)[0]


def hint(error: Exception) -> str | None:
    """Dropout draws random numbers, for which there is no key.

    >>> hint(ValueError("You must pass a non-None PRNGKey to init and/or apply if you make use of random numbers."))
    'The model is in training mode: switch its dropout off, for example by call=dict(is_training=False)'
    """
    if "PRNG" in str(error):
        return "The model is in training mode: switch its dropout off, for example by call=dict(is_training=False)"
    return None
