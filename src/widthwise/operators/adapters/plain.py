"""Functions of parameters and input, Equinox models and other callable PyTrees."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from widthwise.numerics import reject

from .adapted import Held
from .source import Call, Source, arrays, path_of


def from_function(function: Callable, params: Any, call: Call) -> Source:
    """A plain function ``f(params, x)``.

    >>> from_function(lambda w, x: w * x, 2.0, {}).acts_on
    'either'
    """
    return Source(Held(_function, function), arrays(params), dict(call))


def _function(function: Callable, params: Any, call: Call, x: Any) -> Any:
    return function(params, x, **call)


def from_callable(model: Callable, call: Call) -> Source:
    """A callable PyTree of one example: an `eqx.Module`, a `jax.tree_util.Partial`.

    >>> import jax.numpy as jnp
    >>> from_callable(jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2)), {}).acts_on
    'one'
    """
    return Source(_callable, evaluated(model), dict(call), "one")


def _callable(model: Callable, call: Call, x: Any) -> Any:
    return model(x, **call)


def from_stateful(model: Callable, state: eqx.nn.State, call: Call) -> Source:
    """An Equinox model with its state, called as ``model(x, state)``; the state is kept as it is.

    >>> model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", mode="batch", inference=True)
    >>> from_stateful(model, state, {}).acts_on
    'one'
    """
    return Source(_stateful, evaluated(model), (state, dict(call)), "one")


def _stateful(model: Callable, rest: tuple[eqx.nn.State, Call], x: Any) -> Any:
    state, call = rest
    found = model(x, state, **call)
    return found[0] if isinstance(found, tuple) else found


def evaluated(model: Any) -> Any:
    """The model itself; refused when a layer of it behaves as in training.

    >>> evaluated(eqx.nn.Dropout(0.5))
    Traceback (most recent call last):
        ...
    ValueError: The layer Dropout with p=0.5 at the model itself is in training mode. ... eqx.nn.inference_mode(model).
    """
    for path, layer in jax.tree_util.tree_flatten_with_path(model, is_leaf=_has_mode)[0]:
        if _has_mode(layer) and not layer.inference and getattr(layer, "p", 1) != 0:
            rate = f" with p={layer.p}" if hasattr(layer, "p") else ""
            reject(
                f"The layer {type(layer).__name__}{rate} at {path_of(path)} is in training mode",
                "A model is a fixed function of one example: no dropout, and fixed statistics",
                "Give eqx.nn.inference_mode(model)",
            )
    return model


def _has_mode(node: Any) -> bool:
    return isinstance(node, eqx.Module) and hasattr(node, "inference")
