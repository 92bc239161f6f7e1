"""Models by their import path: found, made, or refused with the way out; and the whole way from the command line."""

import itertools
import json

import pytest

from widthwise.cli import main
from widthwise.report.imported import imported

NUMBERS = itertools.count()
SOURCE = """
import jax
import equinox as eqx

MODEL = eqx.nn.Linear(4, 2, key=jax.random.key(0))
NUMBER = 3

def make():
    return MODEL

def sized(in_size, out_size):
    return (in_size, out_size)

def asking(width):
    return MODEL

def failing():
    raise RuntimeError("no checkpoint at hand")

class Sized:
    def __init__(self, in_size, out_size, width=3):
        self.sizes = in_size, out_size

class Inner:
    make = staticmethod(make)

def net(in_size, out_size):
    return eqx.nn.MLP(in_size, out_size, 8, 1, key=jax.random.key(1))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of its own in the current folder."""
    name = f"brought_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(SOURCE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return name


def test_a_model_is_found_or_made(module):
    model = imported(f"{module}:MODEL", (4,), 2)
    assert imported(f"{module}:make", (4,), 2) is model
    assert imported(f"{module}:Inner.make", (4,), 2) is model
    assert imported(f"{module}:sized", (4,), 2) == (4, 2)
    assert imported(f"{module}:sized", (8, 8, 1), 10) == ((8, 8, 1), 10)
    assert imported(f"{module}:Sized", (4,), 2).sizes == (4, 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}x:make", r"There is no module '.*x' \(did you mean '.*'\?\)\. .*current folder.*correct its name\."),
        ("{}:mkae", r"has no 'mkae' \(did you mean 'make'\?\)\. It holds .*make.*\. Give for example"),
        ("{}:", r"has no ''"),
        ("a/{}.py:make", r"The model 'a/.*without \.py and without folders"),
        ("{}:asking", r"asks for width\. .*two: in_size and out_size\. Write one"),
        ("{}:failing", r"failing\(\) raised RuntimeError: no checkpoint at hand\. .*Try it in Python"),
    ],
)
def test_what_cannot_be_imported_is_refused(module, path, message):
    with pytest.raises(ValueError, match=message):
        imported(path.format(module), (4,), 2)


def test_a_module_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brought_broken.py").write_text("1 / 0", "utf-8")
    (tmp_path / "brought_needy.py").write_text("import no_such_package", "utf-8")
    with pytest.raises(ValueError, match="Importing brought_broken raised ZeroDivisionError"):
        imported("brought_broken:f", (4,), 2)
    with pytest.raises(ValueError, match="needs the module 'no_such_package', which is not installed"):
        imported("brought_needy:f", (4,), 2)


def test_refusals_reach_the_command_line(module, capsys):
    assert main(["report", f"{module}:mkae", "--data", "iris"]) == 2
    assert "did you mean 'make'?" in capsys.readouterr().err
    assert main(["report", f"{module}:NUMBER", "--data", "iris"]) == 2
    assert "A model is a callable PyTree" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_way_from_the_command_line(module, tmp_path, capsys):
    words = ["report", f"{module}:net", "--data", "iris", "--quick", "--steps", "40", "--out", str(tmp_path / "page")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "the model MLP (Equinox, 67 parameters)" in told and str(tmp_path / "page" / "index.html") in told
    data = json.loads((tmp_path / "page" / "results.json").read_text("utf-8"))
    assert data["run"]["command"].startswith(f"widthwise report {module}:net --data iris")
    assert data["sections"]["accuracy"]["numbers"]["accuracy-network"]["value"] > 0.5
