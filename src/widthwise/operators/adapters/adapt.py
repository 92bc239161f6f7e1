"""One door for every model: plain functions, Equinox, Flax, Haiku and PyTorch."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.typing import ArrayLike

from widthwise.numerics import reject

from ..parameters import Frozen, demand_drawn
from .adapted import Adapted, Selection
from .checks import demand_dtype, demand_parameters, examples, in_precision, settle
from .flax_models import from_linen, from_nnx, is_linen, is_nnx
from .haiku_models import from_haiku, is_haiku
from .plain import from_callable, from_function, from_stateful
from .source import Call, Source
from .torch import from_torch, is_torch


def adapt(
    model: Any,
    X: ArrayLike | None = None,
    *,
    params: Any = None,
    dtype: Any = None,
    output: Selection | None = None,
    batched: bool | None = None,
    call: Call | None = None,
) -> Callable:
    r"""Bring a model of your own: a callable PyTree $x \mapsto f(x) \in \mathbb R^k$ of one example.

    Its trainable parameters are those of `parameters`; everything else (running statistics, random
    keys) is `Frozen`. Accepted are

    - a callable PyTree of one example: an `eqx.Module`, a `jax.tree_util.Partial`; with layers that
      have a state, the tuple ``(model, state)``;
    - a function ``f(params, x)`` with ``params=params``, or the tuple ``(f, params)``;
    - a Flax NNX module; a linen module as ``(module, variables)`` or bound to its variables;
    - Haiku's ``(transformed, params)`` or ``(transformed_with_state, params, state)``;
    - a PyTorch module, with X.

    ``X`` holds a few examples of shape (n, ...), by which the model is tried out: whether it acts on
    one example or on a batch, which ``batched`` says otherwise; without both, functions act on one
    example, Flax and Haiku on batches. ``output`` selects one of several
    outputs by key, place or a path of them; an output of any shape is flattened to (k,), a scalar
    to (1,). ``call`` holds arguments by name, for example ``dict(train=False)``. ``dtype`` is
    "float32" or "float64" for parameters and frozen arrays; inputs of real numbers follow.
    Parameters in half precision are computed in float32, with a warning.

    Raises ``ValueError`` for a model in training mode (live dropout or batch statistics), without
    parameters, with NaN among them, of an unknown kind, or that fails on X.

    >>> import jax.numpy as jnp
    >>> model = adapt(lambda params, x: params["w"] @ x, jnp.eye(2), params={"w": jnp.ones((3, 2))})
    >>> model(jnp.array([1.0, 2.0])).tolist()
    [3.0, 3.0, 3.0]
    """
    if isinstance(model, Adapted) and (dtype, output, batched) == (None, None, None):
        return model
    if is_torch(model):
        return _from_torch(model, X, batched, dtype=dtype, output=output, call=call)
    dtype = demand_dtype(dtype)
    source = _source(model, params, call or {})
    demand_parameters(source, dtype)
    frozen = Frozen(in_precision(source.frozen, dtype))
    parameters = in_precision(source.parameters, dtype)
    by_custom = source.acts_on == "batch" if batched is None else batched
    adapted = Adapted(source.apply, parameters, frozen, by_custom, output)
    return adapted if X is None else settle(adapted, examples(X), source, batched, dtype)


def _from_torch(module: Any, X: Any, batched: bool | None, **options: Any) -> Adapted:
    if X is None or batched is False:
        reject(
            "a PyTorch module without X" if X is None else "a PyTorch module with batched=False",
            "A PyTorch module is translated for a batch of examples",
            "Give adapt(module, X), with a few examples in X",
        )
    return from_torch(module, X, **options)


def _source(model: Any, params: Any, call: Call) -> Source:
    """The adapter that fits, applied."""
    if type(model) is tuple and model:
        model, rest = model[0], model[1:]
    else:
        rest = () if params is None else params if is_haiku(model) and type(params) is tuple else (params,)
    if getattr(model, "__name__", "") == "apply" and is_linen(owner := getattr(model, "__self__", None)):
        model = owner
    if is_nnx(model):
        return from_nnx(model, call)
    if is_linen(model):
        return from_linen(model, rest, call)
    if is_haiku(model):
        return from_haiku(model, rest, call)
    if callable(model) and len(rest) == 1:
        if isinstance(rest[0], eqx.nn.State):
            return from_stateful(model, rest[0], call)
        return from_function(model, rest[0], call)
    if callable(model) and not rest and not any(leaf is model for leaf in jax.tree.leaves(model)):
        return from_callable(model, call)
    return _reject_kind(model, rest)


def _reject_kind(model: Any, rest: tuple) -> Source:
    demand_drawn(model)
    kind = "a function" if callable(model) and not isinstance(model, type) else f"a {type(model).__name__}"
    reject(
        f"{kind} without parameters" if callable(model) and not rest else f"{kind} with {len(rest)} values beside it",
        "A model is a callable PyTree (eqx.Module, jax.tree_util.Partial), a function f(params, x) with its params, "
        "a Flax module (NNX, or linen with its variables), a Haiku function with its params, or a PyTorch module",
        "Give adapt(f, params=params), or for the others the tuple of the model and what init returned",
    )
