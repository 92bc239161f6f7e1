"""The table of operations: what each one that PyTorch names computes, in JAX."""

import difflib
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from widthwise.numerics import reject

Operation = TypeVar("Operation", bound=Callable[..., Any])
TABLE: dict[str, Callable[..., Any]] = {}


def register_aten(*names: str) -> Callable[[Operation], Operation]:
    """Say what operations of PyTorch compute in JAX; one that was known before is replaced.

    A name is the one that `from_torch` says it does not know, ``"aten.logit"`` or ``"mylib.myop"``. It stands for every
    overload; ``"aten.logit.default"`` stands for that one only, and goes first. The function gets the arguments in
    PyTorch's order and the keywords by PyTorch's names, tensors as arrays with the batch axis that the module sees;
    ``dtype``, and what only says where and how numbers are stored, is taken care of. It returns an array, or a tuple
    where PyTorch returns one, and is differentiated by JAX. Raises ``ValueError`` for a name without a dot.

    >>> import jax.numpy as jnp
    >>> @register_aten("mylib.cubed")
    ... def cubed(x):
    ...     return x**3
    >>> known("mylib.cubed.default")(2.0)
    8.0
    """
    for name in names:
        if "." not in name:
            reject(f"the name {name!r}", "An operation is named by its library and itself", f'Name it "aten.{name}"')

    def register(operation: Operation) -> Operation:
        TABLE.update(dict.fromkeys(names, operation))
        return operation

    return register


def known(target: str) -> Callable[..., Any] | None:
    """Find the function for an operation's full name, such as ``"aten.add.Tensor"``; ``None`` where there is none.

    >>> known("aten.no_such_operation.default")
    """
    return TABLE.get(target, TABLE.get(target.rpartition(".")[0]))


def unknown(target: str) -> NoReturn:
    """Refuse an operation that the table lacks, and show how to add it."""
    name = target.rpartition(".")[0]
    near = difflib.get_close_matches(name, TABLE, n=2, cutoff=0.75)
    reject(
        f"the module uses the operation {target}, which is not in the table of from_torch",
        "An operation is translated by a function of JAX arrays" + (f"; near it are {', '.join(near)}" if near else ""),
        f'Write @register_aten("{name}") above def {name.split(".")[1]}(...) with the arguments that PyTorch documents',
    )


def aten(*names: str) -> Callable[[Operation], Operation]:
    """Enter a function for operations of PyTorch's own library, or for the one that has its name."""
    return lambda operation: register_aten(*(f"aten.{name}" for name in names or (operation.__name__,)))(operation)


def same(module: Any, names: str) -> None:
    """Enter functions of a module that have PyTorch's names."""
    TABLE.update({f"aten.{name}": getattr(module, name) for name in names.split()})


def enter(functions: dict[str, Callable[..., Any]]) -> None:
    """Enter functions by the names of operations of PyTorch's own library."""
    TABLE.update({f"aten.{name}": function for name, function in functions.items()})
