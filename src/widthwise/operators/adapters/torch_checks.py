"""What is demanded of a PyTorch module, and the comparison of its translation with itself."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.numerics import reject

from .adapted import Adapted, Selection, selected
from .source import Call
from .torch_export import numbers, plainly, torch_itself


class Answer(NamedTuple):
    """PyTorch's outputs for a batch, and the gradients of their inner product with `direction`."""

    outputs: np.ndarray
    gradients: dict[str, np.ndarray]


def demand_module(module: Any) -> None:
    """Refuse what is no module, and a lazy one whose parameters have no shape yet."""
    torch = torch_itself()
    if not isinstance(module, torch.nn.Module):
        reject(
            f"a {type(module).__name__}",
            "from_torch takes a torch.nn.Module",
            "Give a function of parameters and an input to adapt(f, params=params)",
        )
    for name, one in module.named_parameters():
        if isinstance(one, torch.nn.UninitializedParameter):
            reject(f"the parameter {name} without a shape", "Parameters are arrays", "Call the module on a batch first")


def demand_evaluation(module: Any) -> None:
    """Refuse layers in training mode that are random or take statistics of the batch."""
    live = [f"{name or 'the module'} ({type(one).__name__})" for name, one in module.named_modules() if _is_live(one)]
    if live:
        more = f" and {len(live) - 5} more" if len(live) > 5 else ""
        reject(
            f"a module in training mode, with the layers {', '.join(live[:5])}{more}",
            "A model is a fixed function of one example: no dropout, and fixed statistics",
            "Call module.eval() first",
        )


def _is_live(layer: Any) -> bool:
    kind = type(layer).__name__
    rate = getattr(layer, "p" if "Dropout" in kind else "dropout", 0)  # attention and recurrent layers have a dropout
    drops = isinstance(rate, int | float) and rate > 0
    gathers = getattr(layer, "running_mean", None) is not None or "BatchNorm" in kind
    return layer.training and (drops or gathers or kind == "RReLU")


def taken(outputs: Any, selection: Selection | None) -> Any:
    """The entry of a module's outputs that is asked for, in PyTorch.

    >>> taken({"logits": [1, 2]}, ("logits", 1))
    2
    """
    for key in () if selection is None else selection if isinstance(selection, tuple) else (selection,):
        outputs = getattr(outputs, key) if isinstance(key, str) and hasattr(outputs, key) else outputs[key]
    return outputs


def answer(module: Any, batch: Any, output: Selection | None, call: Call, trained: Mapping[str, Any]) -> Answer:
    """Ask PyTorch itself."""
    torch = torch_itself()
    with plainly():
        try:
            everything = module(batch, **call)
        except Exception as error:
            reject(
                f"the module fails on inputs of shape {tuple(batch.shape)}: {' '.join(str(error).split())[:300]}",
                "example holds inputs of the shape and type that the module takes, its batch axis first",
                "Give inputs for which module(torch.as_tensor(example)) works",
            )
        values = np.asarray(selected(_as_numbers(everything), output))
        _demand_rows(values, len(batch))
        total = torch.sum(taken(everything, output) * torch.as_tensor(_direction(values)))
        leaves = [*trained.values()]
        zeros = [torch.zeros_like(one) for one in leaves]
        found = torch.autograd.grad(total, leaves, materialize_grads=True) if total.requires_grad else zeros
    return Answer(values, dict(zip(trained, map(numbers, found), strict=True)))


def _as_numbers(outputs: Any) -> Any:
    """The module's outputs with tensors as arrays."""
    if isinstance(outputs, torch_itself().Tensor):
        return jnp.asarray(numbers(outputs))
    if isinstance(outputs, Mapping):
        return {key: _as_numbers(one) for key, one in outputs.items()}
    if isinstance(outputs, tuple | list):
        return (
            type(outputs)(*map(_as_numbers, outputs)) if hasattr(outputs, "_fields") else [*map(_as_numbers, outputs)]
        )
    return outputs


def _demand_rows(values: np.ndarray, count: int) -> None:
    if values.shape[:1] != (count,):
        reject(
            f"outputs of shape {values.shape} for {count} inputs",
            "A module returns one entry for each input, along the first axis",
            "Leave sums and means over the batch out of forward",
        )


def _direction(values: np.ndarray) -> np.ndarray:
    """Fixed numbers between 1 and 2 with alternating signs, in the outputs' shape."""
    places = np.arange(values.size)
    return ((1 + (0.6180339887498949 * places) % 1) * (-1.0) ** places).reshape(values.shape).astype(values.dtype)


def demand_equal(model: Adapted, batch: Array, given: Answer) -> None:
    """Refuse a translation whose outputs for each example by itself, or whose gradient, are not PyTorch's."""
    outputs, gradients = _outputs_and_gradients(model, batch, _direction(given.outputs).reshape(len(batch), -1))
    if not _near(outputs, given.outputs.reshape(outputs.shape)):
        reject(
            "outputs of the module for two inputs that differ from those for each input by itself",
            "A model is a function of one example, the same each time it is called",
            "Leave out what mixes the examples of a batch (x.mean(0), batch norm without running statistics)",
        )
    if not _near(
        *(np.concatenate([np.ravel(one[name]) for name in gradients]) for one in (gradients, given.gradients))
    ):
        reject(
            "a gradient with respect to the parameters that differs from PyTorch's",
            "The derivative is that of the operations in the module's graph, in which torch.no_grad and the backward "
            "passes of torch.autograd.Function leave no trace",
            "Write x.detach() where a gradient stops, and x + (y - x).detach() for y with the gradient of x",
        )


@eqx.filter_jit
def _outputs_and_gradients(model: Adapted, batch: Array, direction: Any) -> tuple[Array, dict[str, Array]]:
    outputs, pull = jax.vjp(lambda parameters: jax.vmap(replace(model, parameters=parameters))(batch), model.parameters)
    return outputs, pull(direction.astype(outputs.dtype))[0]


def _near(found: Any, given: np.ndarray) -> bool:
    """Far above rounding, far below what a wrong function gives."""
    found, scale = np.asarray(found), np.max(np.abs(given[np.isfinite(given)]), initial=0.0)
    return np.allclose(found, given, rtol=0.0, atol=scale * np.sqrt(np.finfo(given.dtype).eps), equal_nan=True)
