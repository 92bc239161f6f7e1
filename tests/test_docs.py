"""Every example runs: in docstrings, in the README and in the documentation."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sources import MODULES, ROOT, SRC, dotted, tree

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Examples that train a network, or compile much.
LONG = re.compile(r"\b(report|check|linearize|trained_linearized|KernelRecorder|ntk_spectrum)\(|import (torch|haiku)")
FLOWS = re.compile(
    r"\b(check|risk_flow|integrate|laziness_along|tangent|gradient_flow|signal_strength|pair_kernel|from_torch"
    r"|lazy_phase_diagram|grokking|gap|gap_curve|adversarial_gap|width_check|signal_report|tangent_flow|width_needed|laziness"
    r"|theorem_widths)\("
)


def docstrings(path: Path) -> Iterator[tuple[str, str, int]]:
    """Name, text and line of each docstring with an example; read from the source, so that no decorator hides one."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                yield getattr(node, "name", "module"), text, getattr(node, "lineno", 1)


def doctests() -> Iterator:
    for path in MODULES:
        for name, text, line in docstrings(path):
            marks = [pytest.mark.slow] * bool(FLOWS.search(text))
            yield pytest.param(path, text, line, id=f"{dotted(path)}:{name}", marks=marks)


@pytest.mark.parametrize(("path", "text", "line"), [*doctests()])
def test_docstring_example(path, text, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = dict(vars(importlib.import_module(dotted(path))))
    example = doctest.DocTestParser().get_doctest(text, scope, dotted(path), str(path), line)
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not failed, "".join(said)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: language (or directive) and content, without MyST options."""
    for language, content in re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        yield language.strip(), re.sub(r"\A(:[^\n]*\n)+", "", content)


def programs() -> Iterator:
    """What a reader would run: each `python` block by itself. Code cells run when the documentation is built."""
    for page in PAGES:
        alone = [content for language, content in blocks(page) if language == "python"]
        for number, program in enumerate(alone, start=1):
            marks = [pytest.mark.slow] if LONG.search(program) else []
            yield pytest.param(program, id=f"{page.relative_to(ROOT)}:{number}", marks=marks)


@pytest.mark.parametrize("program", [*programs()])
def test_page_example(program, tmp_path):
    """As a reader would run it: a fresh interpreter, JAX with its own defaults, an empty folder."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment()
    )
    assert done.returncode == 0, done.stderr


def commands() -> Iterator:
    seen = set()
    for page in PAGES:
        for language, content in blocks(page):
            if language in ("console", "sh", "bash"):
                for line in content.splitlines():
                    match = re.match(r"(?:\$ )?widthwise ([a-z]+)", line)
                    if match and match[1] not in seen:
                        seen.add(match[1])
                        yield pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{match[1]}")


@pytest.mark.parametrize("command", [*commands()])
def test_page_names_commands_that_exist(command):
    code = f"import sys; sys.argv = ['widthwise', {command!r}, '--help']; from widthwise.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    return {**inherited, "PYTHONPATH": str(ROOT / "src")}


def exported() -> Iterator:
    for path in MODULES:
        if path.name == "__init__.py":
            for node in tree(path).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    yield from (
                        pytest.param(path, name, id=f"{dotted(path)}.{name}") for name in ast.literal_eval(node.value)
                    )


@pytest.mark.parametrize(("path", "name"), [*exported()])
def test_public_names_are_explained(path, name):
    """A public class or function says what it is; constants are explained where they are defined."""
    value = getattr(importlib.import_module(dotted(path)), name)
    if callable(value):
        assert (value.__doc__ or "").strip(), f"{dotted(path)}.{name} has no docstring"


def test_makefile_and_readme_name_the_same_commands():
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    told = {name for page in PAGES for name in re.findall(r"`make ([a-z]+)", page.read_text("utf-8"))}
    contributing = set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert told | contributing <= made


def test_contributing_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 50


def test_the_reference_covers_every_part():
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    parts = {dotted(path).split(".")[1] for path in MODULES if path.parent != SRC} - {"cli"}
    assert {part for part in parts if f"automodule:: widthwise.{part}" not in text} == set()
