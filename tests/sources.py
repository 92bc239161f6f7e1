"""The text of the project, as its tests about itself read it."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "widthwise"
MODULES = sorted(SRC.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

_TEXT = {".bib", ".cff", ".css", ".csv", ".html", ".j2", ".js", ".lock", ".md", ".py", ".toml", ".yaml", ""}
_FOLDERS = ("src", "tests", "docs", "changelog.d", ".ci")
_MADE = {"__pycache__", "_build", ".jupyter_cache", "jupyter_execute"}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """`activations/closed.py` for the file of that module."""
    return path.relative_to(SRC).as_posix()


def dotted(path: Path) -> str:
    """`widthwise.activations.closed` for the file of that module."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def texts() -> Iterator[Path]:
    """Every text file that belongs to the project."""
    files = [file for file in ROOT.iterdir() if file.is_file()]
    files += [file for folder in _FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()]
    for file in sorted(files):
        if file.suffix in _TEXT and not _MADE & set(file.parts):
            yield file
