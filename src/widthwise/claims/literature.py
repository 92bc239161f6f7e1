"""The literature that claims cite, by the keys of references.bib."""

import functools
import re
from importlib import resources

_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,]+),\n(?P<fields>.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+) = \{(.*)\},$", re.MULTILINE)
_MOST_AUTHORS = 3


def citation(key: str) -> str:
    """Say what a key of the bibliography stands for; an unknown key stands for itself.

    >>> citation("chizat2019lazy")
    'Chizat, Oyallon and Bach (2019), On lazy training in differentiable programming'
    >>> citation("nobody2100nothing")
    'nobody2100nothing'
    """
    return _citations().get(key, key)


@functools.cache
def _citations() -> dict[str, str]:
    text = resources.files("widthwise.claims").joinpath("references.bib").read_text(encoding="utf-8")
    return {entry["key"]: _cited(dict(_FIELD.findall(entry["fields"]))) for entry in _ENTRY.finditer(text)}


def _cited(fields: dict[str, str]) -> str:
    names = [name.split(",")[0].strip() for name in re.split(r"\s+and\s+", fields["author"])]
    last = names.pop() if 1 < len(names) <= _MOST_AUTHORS else ""
    if len(names) > _MOST_AUTHORS:
        names = [f"{names[0]} and others"]
    authors = ", ".join(names) + (f" and {last}" if last else "")
    return f"{authors} ({fields['year']}), {fields['title']}".translate({ord("{"): None, ord("}"): None})
