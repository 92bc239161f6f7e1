"""An adapted model with the parameters that training has made of it, whatever they come in."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.numerics import reject


def renewed(model: Any, given: Any, readapt: Callable[[Any], Any]) -> Any:
    """The adapted ``model`` with the arrays of ``given``, its structure and precision as before.

    ``given`` is a tree of parameters like the one that was adapted, ``{"params": ...}`` around it, or a PyTorch
    module; anything else is taken for a model, which ``readapt`` adapts. Arrays that training does not move come from
    ``given`` where it is a model, and stay as they are otherwise. Raises ``ValueError`` where the structures differ.

    >>> from widthwise.operators import adapt
    >>> model = adapt(lambda w, x: w["a"] @ x, params={"a": jnp.ones((1, 2))})
    >>> renewed(model, {"a": 2.0 * np.ones((1, 2))}, adapt).parameters["a"].tolist()
    [[2.0, 2.0]]
    """
    if callable(getattr(given, "named_parameters", None)) and isinstance(model.parameters, dict):
        return _from_module(model, given)
    if isinstance(given, Mapping) and [*given] == ["params"] and not _fits(model.parameters, given):
        given = given["params"]
    if _fits(model.parameters, given):
        return replace(model, parameters=_filled(model.parameters, given))
    if not _is_model(given):
        _reject(model, given)
    made = readapt(given)
    if not (_fits(model.parameters, made.parameters) and _fits(model.frozen, made.frozen)):
        _reject(model, made.parameters)
    return replace(
        model,
        parameters=_filled(model.parameters, made.parameters),
        frozen=_filled(model.frozen, made.frozen),
    )


def _from_module(model: Any, module: Any) -> Any:
    """The arrays of a PyTorch module by their names."""
    held = {name: one for kind in (module.named_buffers, module.named_parameters) for name, one in kind()}
    missing = sorted({*model.parameters} - {*held})
    if missing:
        reject(
            f"a module without {', '.join(missing[:3])}",
            "It has the parameters of the module that the recorder was made with",
            "Give that module, or its like",
        )
    known = [{name: _numbers(held[name]) for name in part if name in held} for part in _parts(model)]
    trained, fixed = (_filled(part, {**part, **new}) for part, new in zip(_parts(model), known, strict=True))
    return replace(model, parameters=trained, frozen=replace(model.frozen, tree=fixed))


def _parts(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return model.parameters, model.frozen.tree


def _numbers(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def _arrays(tree: Any) -> tuple[list[Any], Any]:
    """The arrays and the structure around them."""
    return jax.tree.flatten(jax.tree.map(lambda leaf: leaf if _is_moved(leaf) else None, tree))


def _is_moved(leaf: Any) -> bool:
    """Real arrays: others, such as keys and tables of integers, are no parameters."""
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _fits(own: Any, other: Any) -> bool:
    (mine, structure), (others, found) = _arrays(own), _arrays(other)
    return structure == found and all(one.shape == two.shape for one, two in zip(mine, others, strict=True))


def _filled(own: Any, other: Any) -> Any:
    """The tree ``own`` with the real arrays of ``other``."""
    new = iter(_arrays(other)[0])
    return jax.tree.map(lambda leaf: jnp.asarray(next(new)).astype(leaf.dtype) if _is_moved(leaf) else leaf, own)


def _is_model(given: Any) -> bool:
    first = given[0] if isinstance(given, tuple) and given else given
    return callable(first) or hasattr(first, "apply")


def _reject(model: Any, given: Any) -> None:
    reject(
        f"parameters of another structure: {_told(given)}",
        f"The recorder was made with {_told(model.parameters)}",
        "Give the parameters as they were given to it, or the whole model as it was given",
    )


def _told(tree: Any) -> str:
    """The first arrays and their shapes."""
    found = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if _is_array(leaf)]
    names = [f"{jax.tree_util.keystr(path, simple=True, separator='.')} {leaf.shape}".strip() for path, leaf in found]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else f"a {type(tree).__name__} without arrays"
