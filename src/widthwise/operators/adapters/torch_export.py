"""PyTorch's graph of a module, by `torch.export`, as a program of JAX operations."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any, NoReturn

import numpy as np

from widthwise.numerics import reject

from .aten import known, unknown
from .program import Program, Ref, Step, needed

# Where and how numbers are stored.
_STORAGE = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "generator", "requires_grad"}
# The size of the batch in the export, which no other axis is likely to have.
_BATCH = 131
# Encoders compare a mask with the causal one, which no graph can hold; told that it is none, they take it as it is.
_ASKS = {
    "TransformerEncoder": ("is_causal",),
    "TransformerDecoder": ("tgt_is_causal",),
    "Transformer": ("src_is_causal", "tgt_is_causal"),
}


def torch_itself() -> Any:
    """Import PyTorch, or say which extra brings it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            import torch
    except ImportError as error:
        reject(
            f"a PyTorch module where PyTorch cannot be imported ({error})",
            "PyTorch modules need the extra torch",
            "pip install 'widthwise[torch]'",
        )
    return torch


@contextmanager
def plainly() -> Iterator[None]:
    """PyTorch without its warnings, with gradients, and with the layers that a graph is made of, not fused ones."""
    torch = torch_itself()
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(action="ignore"), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def to_program(module: Any, batch: Any, names: Mapping[str, str], real: str) -> tuple[Program, dict[str, np.ndarray]]:
    """Export a module of one tensor: the program, and the arrays that it takes.

    ``names`` says for each name in the module the one to use, which is the same for tied parameters.
    """
    with plainly():
        exported, alone = _exported(module, batch)
    signature, held = exported.graph_signature, {**exported.state_dict, **exported.constants}
    targets = signature.inputs_to_parameters | signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    aliases = {node: names.get(target, target) for node, target in targets.items()}
    arrays = {aliases[node]: numbers(held[target]) for node, target in targets.items()}
    (result,), (x,) = signature.user_outputs, signature.user_inputs
    nodes = [*exported.graph.nodes]
    kinds = {node.name: _kinds(node) for node in nodes if node.op == "placeholder"}
    steps = needed([_step(node) for node in nodes if node.op not in ("placeholder", "output")], Ref(result))
    for step in steps:
        if isinstance(step.operation, str):
            unknown(step.operation)
    return Program(steps, Ref(result), x, tuple(batch.shape[1:]), aliases, kinds, real, alone), arrays


def _exported(module: Any, batch: Any) -> tuple[Any, bool]:
    """The export for batches of any size, or for one example alone where the module fixes the size (``len(x)``)."""
    torch = torch_itself()
    table = torch.export.default_decompositions()
    for operation in [one for one in table if known(str(one))]:
        table.pop(operation)
    hooks = [_no_detection(one) for one in module.modules() if type(one).__name__ in _ASKS]
    free = (torch.empty((_BATCH, *batch.shape[1:]), dtype=batch.dtype), ({0: torch.export.Dim.DYNAMIC},))
    errors = []
    for alone, (x, sizes) in enumerate([free, (batch[:1], None)]):
        try:
            exported = torch.export.export(module, (x,), dynamic_shapes=sizes, strict=False)
            found = exported.run_decompositions(table), bool(alone)
        except Exception as error:
            errors.append(error)
        else:
            break
    else:
        found = _reject_export(errors[-1])
    for hook in hooks:
        hook.remove()
    return found


def _no_detection(layer: Any) -> Any:
    asks = dict.fromkeys(_ASKS[type(layer).__name__], False)

    def tell(_: Any, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, asks | {key: value for key, value in options.items() if value is not None}

    return layer.register_forward_pre_hook(tell, with_kwargs=True)


def _reject_export(error: Exception) -> NoReturn:
    reject(
        f"torch.export cannot trace the module: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
        "The steps of a module may depend on the shape of its input, but not on its values",
        "Replace `if` by torch.where, .item() and boolean indexing by masks; torch.export's documentation has more",
    )


def numbers(tensor: Any) -> np.ndarray:
    """A tensor's numbers; those in half precision as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy().copy()


def _kinds(node: Any) -> Any:
    """The types of a node's results, by NumPy's names; None for a number that is no tensor."""

    def kind(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(map(kind, value))
        return str(value.dtype).removeprefix("torch.") if hasattr(value, "dtype") else None

    return kind(node.meta.get("val"))


def _step(node: Any) -> Step:
    """A node as a step; an operation that is not known stands there by its name."""
    options = {key: _argument(value) for key, value in node.kwargs.items() if key not in _STORAGE}
    args = tuple(map(_argument, node.args))
    if str(node.target).startswith("aten.squeeze."):  # the batch axis stays, whatever the size it will have
        args = (args[0], [axis for axis, size in enumerate(node.args[0].meta["val"].shape) if _drops(axis, size, node)])
    return Step(node.name, _operation(node), args, options, _kinds(node))


def _drops(axis: int, size: Any, node: Any) -> bool:
    rank, dims = node.args[0].meta["val"].dim(), node.args[1] if len(node.args) > 1 else axis
    return (
        isinstance(size, int) and size == 1 and axis in [d % rank for d in ([dims] if isinstance(dims, int) else dims)]
    )


def _operation(node: Any) -> Callable[..., Any] | str:
    """What a node applies: a function of the table, or Python's own on sizes, such as `operator.mul`."""
    if isinstance(node.target, BuiltinFunctionType | FunctionType):
        return node.target
    return known(str(node.target)) or str(node.target)


def _argument(value: Any) -> Any:
    """References for nodes and NumPy's types for PyTorch's, also within lists."""
    torch = torch_itself()
    if isinstance(value, torch.fx.Node):
        return Ref(value.name)
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    return [_argument(one) for one in value] if isinstance(value, list | tuple) else value
