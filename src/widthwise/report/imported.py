"""A model by its import path, such as "my_module:make_model"."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from widthwise.numerics import nearest, reject

_PATH = re.compile(r"[\w.]+:[\w.]*")
_WANTED = "A model is named as module:attribute, with the module found from the current folder or installed"


def is_import_path(text: str) -> bool:
    """Whether a text names something to import.

    >>> is_import_path("my_module:make_model"), is_import_path("mlp(width=512)")
    (True, False)
    """
    return ":" in text and "(" not in text


def imported(path: str, in_shape: tuple[int, ...], out_size: int) -> Any:
    """Import a model, or a function or class that makes one without arguments or from (in_size, out_size).

    ``in_size`` is the number of features, or the shape of an example that has several axes. The current folder is
    searched first.

    Raises ``ValueError`` when there is no such module or attribute, and when it makes no model.

    >>> imported("no_such_module:model", (2,), 1)
    Traceback (most recent call last):
        ...
    ValueError: There is no module 'no_such_module'. ...
    """
    if not _PATH.fullmatch(path):
        reject(f"The model {path!r}", _WANTED, "Give for example my_module:make_model, without .py and without folders")
    module, _, attribute = path.partition(":")
    with _current_folder():
        found = _attribute(_module(module), module, attribute)
        return _made(found, path, in_shape[0] if len(in_shape) == 1 else in_shape, out_size)


@contextmanager
def _current_folder() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not (name == missing.name or name.startswith(f"{missing.name}.")):
            reject(f"{name} needs the module {missing.name!r}, which is not installed", _WANTED, "Install it")
        here = [path.stem for path in Path.cwd().glob("*.py")]
        reject(
            f"There is no module {name!r}{nearest(name, here)}",
            _WANTED,
            "Go to the folder that holds it, or correct its name",
        )
    except Exception as error:
        _reject_error(f"Importing {name}", error)


def _attribute(module: Any, name: str, path: str) -> Any:
    found = module
    for part in path.split("."):
        if not hasattr(found, part) or not part:
            known = [one for one in vars(found) if not one.startswith("_")] if hasattr(found, "__dict__") else []
            own = [one for one in known if getattr(vars(found)[one], "__module__", name) == name]
            reject(
                f"{name} has no {part!r}{nearest(part, known)}",
                f"It holds {', '.join(own[:10]) or 'nothing of its own'}",
                f"Give for example {name}:{own[0]}" if own else "Define a model or a function that makes one in it",
            )
        found = getattr(found, part)
    return found


def _made(found: Any, path: str, in_size: int | tuple[int, ...], out_size: int) -> Any:
    """The model itself, or what its maker returns."""
    if not (inspect.isfunction(found) or inspect.isclass(found)):
        return found
    needed = [one for one in inspect.signature(found).parameters.values() if _is_needed(one)]
    if len(needed) not in (0, 2):
        reject(
            f"{path} asks for {', '.join(one.name for one in needed)}",
            "A function that makes a model has no arguments without a default, or two: in_size and out_size",
            "Write one that calls it with all that it needs",
        )
    try:
        return found(*((in_size, out_size) if needed else ()))
    except Exception as error:
        return _reject_error(f"{path}({f'{in_size}, {out_size}' if needed else ''})", error)


def _is_needed(one: inspect.Parameter) -> bool:
    return one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)


def _reject_error(what: str, error: Exception) -> Any:
    said = " ".join(str(error).split())
    reject(
        f"{what} raised {type(error).__name__}: {said[:300]}",
        "A model is made without an error",
        "Try it in Python, where the whole traceback shows",
    )
