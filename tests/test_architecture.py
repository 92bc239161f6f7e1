"""The rules of the house, read off its source: who imports whom, what is never used, and sizes."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sources import MODULES, ROOT, SRC, TESTS, name, texts, tree

# What each part of the package may import from the others: only what lies below it.
BELOW = {
    "_version": set(),
    "numerics": set(),
    "data": {"numerics"},
    "activations": {"numerics"},
    "grams": {"numerics"},
    "networks": {"numerics", "grams", "activations"},
    "operators": {"numerics", "grams"},
    "measure": {"numerics", "activations", "networks", "operators"},
    "claims": {"numerics"},
    "theory": {"numerics", "data", "activations", "networks", "operators", "measure", "claims"},
}
BELOW["report"] = {*BELOW}
BELOW["cli"] = BELOW["__init__"] = {*BELOW}
# `python -m widthwise`
BELOW["__main__"] = {"cli"}

# Where the packages live that are not part of the mathematics.
HOMES = {
    "sklearn": ("data/", "report/baselines.py"),
    "mlxtend": ("data/",),
    "pyarrow": ("data/",),
    "zarr": ("grams/store.py", "measure/drift_store.py"),
    "xarray": ("measure/drift_store.py",),
    "flax": ("operators/adapters/",),
    "haiku": ("operators/adapters/",),
    "torch": ("operators/adapters/",),
    "plotly": ("report/",),
    "jinja2": ("report/",),
    "latex2mathml": ("report/",),
    "rich": ("report/", "cli/"),
    "tyro": ("cli/",),
}
# Extras that a user may not have: imported where they are used, and only there.
OPTIONAL = {"mlxtend", "pyarrow", "zarr", "flax", "haiku", "torch", "xarray"}
PRIVATE_JAX = ("jax._src", "jax.core", "jax.interpreters")
DISTRIBUTIONS = {"sklearn": "scikit-learn", "haiku": "dm-haiku"}


def part(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported dotted name, relative ones made absolute, and whether it is inside a function."""
    inside = {
        id(inner)
        for function in ast.walk(tree(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(function)
    }
    package = ("widthwise", *path.relative_to(SRC).parts[:-1])
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            # `from widthwise import numerics` names a part; `from widthwise.numerics import Estimate` does not.
            found = [f"{module}.{alias.name}" for alias in node.names] if module in ("widthwise", "jax") else [module]
        else:
            continue
        yield from ((one, id(node) in inside) for one in found)


def third_party(path: Path) -> set[str]:
    return {one.split(".")[0] for one, _ in imports(path)} - set(sys.stdlib_module_names) - {"widthwise"}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and the number of lines of its body, its docstring left out."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_part_imports_only_what_lies_below_it(path):
    own = part(path)
    others = {one.split(".")[1] for one, _ in imports(path) if one.startswith("widthwise.")} - {own}
    assert others <= BELOW[own], f"{name(path)} may not import {sorted(others - BELOW[own])}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_parts_import_each_other_through_the_package(path):
    """`from widthwise.numerics import Estimate`, never from a file inside another part."""
    own = part(path)
    deep = [one for one, _ in imports(path) if one.startswith("widthwise.") and one.split(".")[1] != own]
    deep = [one for one in deep if one.count(".") > (2 if one.startswith("widthwise.theory.") else 1)]
    assert not deep, f"{name(path)} reaches into {deep}; import from the package"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_stand_at_the_top_except_optional_extras(path):
    late = {one.split(".")[0] for one, inside in imports(path) if inside}
    early = {one.split(".")[0] for one, inside in imports(path) if not inside}
    assert late <= OPTIONAL, f"{name(path)} imports {sorted(late - OPTIONAL)} inside a function"
    assert not early & OPTIONAL, f"{name(path)} imports {sorted(early & OPTIONAL)} at the top, which may be missing"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_third_party_packages_stay_at_home(path):
    for package in third_party(path) & HOMES.keys():
        homes = HOMES[package]
        assert name(path).startswith(homes), f"{name(path)} imports {package}, which lives in {', '.join(homes)}"


def test_matfree_stands_behind_one_module():
    users = [name(path) for path in MODULES if "matfree" in third_party(path)]
    assert len(users) <= 1, f"{users} import matfree, whose names change between versions; keep it in one of them"


def test_dependencies_are_those_that_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    # What a user hands over from Haiku is called without importing it.
    offered = [one for name, extra in extras.items() if name not in ("haiku", "dev", "docs") for one in extra]
    declared = [*project["dependencies"], *offered]
    declared = {re.split(r"[<>=\[ ]", one)[0] for one in declared}
    used = {DISTRIBUTIONS.get(one, one) for path in MODULES for one in third_party(path)}
    # optimistix holds the root finders of diffrax, at whose versions the bound is aimed.
    assert used | {"optimistix"} == declared


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_public_jax(path):
    attributes = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    used = {one for one, _ in imports(path)} | attributes
    private = {one for one in used if one.startswith(PRIVATE_JAX)}
    assert not private, f"{name(path)} uses {sorted(private)}, which JAX may change without notice"


OURS = {node.name for module in MODULES for node in ast.walk(tree(module)) if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_concrete_classes_are_final(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases} & OURS
            concrete = {base for base in bases if not base.startswith("Abstract")}
            assert not concrete, f"{node.name} inherits from {sorted(concrete)}; only Abstract* classes are inherited"


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines; split it by idea"
    long = {function: size for function, size in functions(path) if size > 60}
    assert not long, f"{path.name}: {long} lines; no function has more than 60"


def test_most_functions_are_a_few_lines():
    sizes = [size for path in MODULES for _, size in functions(path)]
    assert statistics.median(sizes) <= 8
    assert statistics.quantiles(sizes, n=10)[-1] < 40


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_say_what_they_are(path):
    assert ast.get_docstring(tree(path)), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_left_for_later(path):
    # The brackets keep this line from finding itself.
    later = re.compile(r"TO[D]O|FIX[M]E|NotImplemented[E]rror|pytest\.s[k]ip|mark\.s[k]ip")
    assert not later.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in texts()])
def test_no_path_of_one_machine(path):
    own = re.findall(r"(?<![\w.:/<~-])/(?:home|root|Users|work|tmp|opt|mnt|srv)/\S*", path.read_text(encoding="utf-8"))
    assert not own


def test_the_lock_names_versions_and_nothing_else():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.match(r"[a-z0-9-]+==[0-9][\w.]*( ; [\w .<>='!-]+)?$", line)] == []


def test_importing_leaves_jax_as_it_is():
    code = "import jax, widthwise; assert not jax.config.jax_enable_x64"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
