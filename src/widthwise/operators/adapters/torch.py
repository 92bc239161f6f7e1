"""PyTorch modules as functions of one example in JAX."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from widthwise.numerics import reject

from ..parameters import Frozen
from .adapted import Adapted, Selection, precision
from .checks import demand_dtype, demand_parameters
from .source import Call, Source, family
from .torch_checks import answer, demand_equal, demand_evaluation, demand_module, taken
from .torch_export import numbers, to_program, torch_itself


def is_torch(model: Any) -> bool:
    """Whether this is a PyTorch module.

    >>> is_torch(print)
    False
    """
    return "torch.nn.modules.module.Module" in family(model)


def from_torch(
    module: Any,
    example: Any,
    *,
    dtype: Any = None,
    output: Selection | None = None,
    call: Call | None = None,
    check: bool = True,
) -> Adapted:
    r"""Bring a PyTorch module: a callable PyTree $x \mapsto f(x) \in \mathbb R^k$ of one example, in JAX.

    ``example`` holds n >= 1 inputs, of shape (n, ...), real numbers or integers. A copy of the module is exported by
    `torch.export` in evaluation mode, the size of the batch left free, and each operation of its graph is translated.
    Trainable are its parameters with ``requires_grad=True``, by their names, a tied one once; buffers and frozen
    parameters are `Frozen`. Numbers are those of the module, float32 for most; ``dtype="float64"`` gives those of
    ``module.double()``. Parameters in half precision are computed in float32, with a warning.

    ``output`` selects one of several outputs by key, place or a path of them, and ``call`` holds further arguments of
    ``forward`` by name. An output of any shape is flattened to (k,). Unless ``check=False``, the outputs and a gradient
    for two inputs, and for each by itself, are compared with PyTorch's own.

    Raises ``ValueError`` for a module in training mode with dropout or batch norm (call ``module.eval()`` first), with
    NaN in its parameters, whose outputs depend on the other examples of a batch, that `torch.export` cannot trace, or
    with an operation that is not in the table (see `register_aten`).

    >>> import torch
    >>> model = from_torch(torch.nn.Linear(3, 2), torch.ones(4, 3))
    >>> model(jnp.ones(3)).shape, sorted(model.parameters)
    ((2,), ['bias', 'weight'])
    """
    demand_module(module)
    demand_evaluation(module)
    own = _own_copy(module, demand_dtype(dtype))
    trained = {name: one for name, one in own.named_parameters() if one.requires_grad}
    parameters = {name: jnp.asarray(numbers(one)) for name, one in trained.items()}
    demand_parameters(Source(from_torch, parameters), None)
    batch = _batch(example, trained)
    given = answer(own, batch, output, call or {}, trained)
    program, arrays = to_program(_wrapped(own, output, call or {}), batch, _names(own), precision(parameters).name)
    frozen = {name: jnp.asarray(one) for name, one in arrays.items() if name not in parameters}
    model = Adapted(program, parameters, Frozen(frozen), batched=True)
    if check or program.alone:
        demand_equal(model, jnp.asarray(batch.numpy()), given)
    return model


def _own_copy(module: Any, dtype: str | None) -> Any:
    """A copy in evaluation mode and in the precision asked for, so that the module stays as it is."""
    torch = torch_itself()
    kinds = {one.dtype for one in module.parameters() if one.is_floating_point()}
    half = sorted(str(one).removeprefix("torch.") for one in kinds if one.itemsize < 4)
    if half and dtype is None:
        warnings.warn(f"Parameters of type {', '.join(half)} are computed in float32.", UserWarning, stacklevel=3)
    elif torch.float64 in kinds and dtype is None:
        demand_dtype("float64")
    try:
        own = copy.deepcopy(module).cpu().eval()
    except Exception as error:
        reject(
            f"the module cannot be copied ({type(error).__name__}: {' '.join(str(error).split())})",
            "A module is copied before it is put into evaluation mode",
            "Hold tensors as parameters or buffers; replace torch.nn.utils.weight_norm by parametrizations.weight_norm",
        )
    return own.to(getattr(torch, dtype or "float32")) if dtype or half else own


def _batch(example: Any, trained: Mapping[str, Any]) -> Any:
    """The first and the last input, in the precision of the parameters; a single one gets zeros beside it."""
    torch = torch_itself()
    example = example.detach().cpu().numpy() if isinstance(example, torch.Tensor) else np.asarray(example)
    if example.ndim == 0 or not len(example) or example.dtype == object:
        reject(
            f"example of shape {example.shape} and type {example.dtype}",
            "It holds n >= 1 inputs along its first axis, as one array of numbers",
            "Give one input as x[None]",
        )
    pair = np.stack([example[0], example[-1] if len(example) > 1 else np.zeros_like(example[0])])
    tensor, kinds = torch.from_numpy(pair), {one.dtype for one in trained.values()}
    if tensor.is_floating_point():
        return tensor.to(kinds.pop()) if len(kinds) == 1 else tensor
    return tensor if tensor.dtype == torch.bool else tensor.long()


def _wrapped(module: Any, output: Selection | None, call: Call) -> Any:
    """The module with one input and one output."""
    torch = torch_itself()

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            return taken(self.module(x, **call), output)

    return Wrapped().eval()


def _names(module: Any) -> dict[str, str]:
    """The first name in the module of each parameter and buffer, by its name in the export."""
    first: dict[int, str] = {}
    held = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {f"module.{name}": first.setdefault(id(one), name) for name, one in held}
