"""Networks written as text, as on a command line: read, never run."""

import ast
import dataclasses
import warnings
from typing import NoReturn, get_args, get_type_hints

from widthwise.numerics import nearest, reject

from .builders import MLP

BUILDERS = {"mlp": MLP}
_LONGEST = 1000  # characters
_WORDS = {int: "a whole number", float: "a number", str: "a word", type(None): "None"}
_EXAMPLE = "mlp(width=512, depth=3, activation=gelu)"


def parse_network(text: str) -> MLP:
    """Read a network such as ``mlp(width=512, depth=3, activation=gelu)``.

    The text is one call of a known builder; its arguments are numbers, text in quotes, None or
    single words, which are taken as text. It is parsed into a syntax tree and read off
    that, so that nothing in it is ever executed. A builder by itself, ``mlp``, has its defaults.

    Raises ``ValueError`` for anything else, and where the builder refuses a value.

    >>> parse_network("mlp(512, activation=relu)") == MLP(width=512, activation="relu")
    True
    >>> parse_network("mlp(width=open('x'))")
    Traceback (most recent call last):
        ...
    ValueError: The network has "open('x')" as its width. Its width is a whole number. Write it as in \
mlp(width=512, depth=3, activation=gelu).
    """
    tree = _parse(text)
    if isinstance(tree, ast.Name):
        return _builder(tree, text)()
    if not isinstance(tree, ast.Call):
        _refuse(f"The network {_short(text)} is no call of a builder")
    builder = _builder(tree.func, text)
    return builder(**_arguments(builder, tree, text))


def _parse(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        _refuse(f"The network is written in {len(text)} characters (at most {_LONGEST})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks on its own syntax
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
        reason = failure.msg if isinstance(failure, SyntaxError) else type(failure).__name__
        return _refuse(f"The network {_short(text)} cannot be read ({reason})")


def _refuse(came: str) -> NoReturn:
    names = " or ".join(BUILDERS)
    reject(came, f"A network is one call of {names} with numbers and words as arguments", f"Write it as in {_EXAMPLE}")


def _short(text: str, most: int = 80) -> str:
    return repr(text if len(text) <= most else f"{text[:most]}...")


def _source(node: ast.AST, text: str) -> str:
    return _short(ast.get_source_segment(text.strip(), node) or text)


def _builder(node: ast.expr, text: str) -> type[MLP]:
    if not isinstance(node, ast.Name):
        _refuse(f"The network calls {_source(node, text)}")
    if node.id not in BUILDERS:
        reject(
            f"The network calls {_short(node.id)}{nearest(node.id, BUILDERS)}",
            f"Known networks are {', '.join(BUILDERS)}",
            f"Write it as in {_EXAMPLE}",
        )
    return BUILDERS[node.id]


def _arguments(builder: type[MLP], call: ast.Call, text: str) -> dict:
    kinds = get_type_hints(builder)
    names = [field.name for field in dataclasses.fields(builder)]
    if len(call.args) > len(names):
        reject(
            f"The network has {len(call.args)} arguments",
            f"Its arguments are {', '.join(names)}",
            f"Write it as in {_EXAMPLE}",
        )
    given = [*zip(names, call.args, strict=False), *((keyword.arg, keyword.value) for keyword in call.keywords)]
    arguments = {}
    for name, node in given:
        _demand_argument(name, names, arguments, node, text)
        arguments[name] = _value(node, name, get_args(kinds[name]) or (kinds[name],), text)
    return arguments


def _demand_argument(name: str | None, names: list[str], arguments: dict, node: ast.expr, text: str) -> None:
    if name is None:
        _refuse(f"The network unpacks '**{_source(node, text)[1:-1]}'")
    if name not in names:
        reject(
            f"The network has an argument {_short(name)}{nearest(name, names)}",
            f"Its arguments are {', '.join(names)}",
            f"Write it as in {_EXAMPLE}",
        )
    if name in arguments:
        reject(f"The network has its {name} twice", "Each argument is given once", "Leave one of them out")


def _value(node: ast.expr, name: str, kinds: tuple[type, ...], text: str) -> object:
    """Read a literal, or a single word as text, of one of the kinds that the builder wants."""
    value = _literal(node)
    fits = tuple(kind for kind in kinds if type(value) is kind or (kind is float and type(value) is int))
    if not fits:
        wanted = " or ".join(_WORDS[kind] for kind in kinds if kind in _WORDS)
        reject(
            f"The network has {_source(node, text)} as its {name}",
            f"Its {name} is {wanted}",
            f"Write it as in {_EXAMPLE}",
        )
    return value


def _literal(node: ast.expr) -> object:
    """Return the value of a literal or the text of a single word, and the node itself where it is neither."""
    match node:
        case ast.Name(id=word):
            return word
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as value)):
            return -value if isinstance(sign, ast.USub) else value
    return node
