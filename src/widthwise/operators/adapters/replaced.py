"""A user's model with other parameters, as the same kind of thing that was brought."""

import copy
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from widthwise.numerics import reject

from .adapted import Adapted
from .flax_models import bound_with, is_linen, is_nnx, nnx_with
from .torch import is_torch
from .torch_export import torch_itself


def replaced(model: Any, adapted: Adapted, parameters: Any) -> Any:
    """The model as it was given to `adapt`, with new parameters in place of ``adapted.parameters``.

    A PyTorch or NNX module is copied, and the one that was given stays as it is. Bare parameters, a tree like
    ``adapted.parameters``, come back as such. Raises ``ValueError`` for anything else.

    >>> import jax.numpy as jnp
    >>> from widthwise.operators import adapt
    >>> f, params = (lambda w, x: w @ x), jnp.ones((1, 2))
    >>> replaced((f, params), adapt((f, params)), 2 * params)[1].tolist()
    [[2.0, 2.0]]
    """
    if isinstance(model, Adapted):
        return eqx.tree_at(lambda one: one.parameters, model, parameters)
    if isinstance(model, tuple) and len(model) > 1:
        return _of_tuple(model, parameters)
    if is_torch(model):
        return _torch(model, parameters)
    if is_nnx(model):
        return nnx_with(model, parameters)
    if is_linen(model):
        return bound_with(model, parameters)
    if jax.tree.structure(model) == jax.tree.structure(adapted.parameters):
        return parameters
    return reject(
        f"a {type(model).__name__} that is not like the model of this report",
        "Given are the model as it was brought, or its parameters",
        "Pass the same model, or one with parameters of the same shapes",
    )


def _of_tuple(model: tuple, parameters: Any) -> tuple:
    """A model that comes with its parameters, its variables or its state."""
    if isinstance(model[1], eqx.nn.State):
        return (parameters, *model[1:])
    if is_linen(model[0]):
        return (model[0], {**model[1], "params": parameters})
    return (model[0], parameters, *model[2:])


def _torch(module: Any, parameters: Mapping[str, Any]) -> Any:
    torch = torch_itself()
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for name, one in changed.named_parameters():
            if name in parameters:
                one.copy_(torch.as_tensor(np.array(parameters[name])))
    return changed
