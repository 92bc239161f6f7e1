"""The whole report: what it refuses before it begins, what an interruption leaves, and that it can be repeated."""

import json
import os

import numpy as np
import pytest

from widthwise.networks import MLP
from widthwise.report import report
from widthwise.report import run as running

RELU = MLP(width=16, depth=1, activation="relu")


def blobs(classes=3, rows=36, seed=0):
    """Classes around random centres, four features."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return rng.normal(size=(classes, 4))[y] + 0.5 * rng.normal(size=(rows, 4)), np.array(list("abc"))[y]


def written(folder):
    """The numbers of a report, without those that tell when and how fast it was made."""
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del data["made"], data["run"]["command"]
    return data


FILES = {
    "empty.csv": "",
    "header.csv": "a,b,label\n",
    "one.csv": "a,b,label\n1,2,x\n",
    "text.csv": "a,b,label\n1,2,x\n3,four,y\n5,6,x\n7,8,y\n",
    "gap.csv": "a,b,label\n1,2,x\n3,nan,y\n5,6,x\n7,8,y\n",
    "infinite.csv": "a,b,label\n1,2,x\n3,inf,y\n5,6,x\n7,8,y\n",
    "constant.csv": "a,b,label\n1,2,x\n1,2,y\n1,2,x\n1,2,y\n",
    "classes.csv": "a,b,label\n1,2,p\n3,4,q\n5,6,r\n7,8,s\n",
    "good.csv": "a,b,label\n" + "\n".join(f"{i},{i * i % 7},{'xy'[i % 2]}" for i in range(12)),
}
REFUSALS = [
    ({"data": "missing.csv"}, r"missing\.csv"),
    ({"data": "digitz"}, "did you mean 'digits'"),
    ({"data": "folder"}, "folder"),
    ({"data": "empty.csv"}, "empty"),
    ({"data": "header.csv"}, "header|rows"),
    ({"data": "one.csv"}, "row"),
    ({"data": "text.csv"}, "'four'.*line 3"),
    ({"data": "gap.csv"}, "line 3 .*is missing"),
    ({"data": "infinite.csv"}, "line 3 .*is infinite"),
    ({"data": "constant.csv"}, "constant|every feature|no feature"),
    ({"data": "classes.csv"}, "classes"),
    ({"data": "good.csv", "target": "lable"}, "did you mean 'label'"),
    ({"network": "mlp(width=0)"}, "width=0"),
    ({"network": "mlp(depth=0)"}, "depth=0"),
    ({"network": "mlp(activation=thanh)"}, "did you mean 'tanh'"),
    ({"network": "mlp(weight_variance=-1)"}, "weight_variance=-1"),
    ({"network": "__import__('os').system('touch harm')"}, "__import__"),
    ({"network": "mlp(width=__import__('os').system('touch harm'))"}, "__import__|width"),
    ({"learning_rate": -1.0}, "learning_rate=-1"),
    ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ({"steps": 0}, "steps=0"),
    ({"steps": 10**9}, "would take about"),
    ({"seed": -1}, "seed=-1"),
    ({"test_fraction": 1.5}, "test_fraction=1.5"),
    ({"network": "mlp(parameterisation=mean_field)"}, "mean-field"),
    ({"network": "mlp(width=1000000)"}, "GB of memory.*Take a smaller width"),
    ({"rows": 10**6, "data": "wide"}, "GB of memory.*Take fewer"),
    ({"out": "good.csv"}, "cannot be written"),
    ({"out": "good.csv/below"}, "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSALS, ids=[says for _, says in REFUSALS])
def test_refusals_have_three_parts_and_leave_nothing(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    arguments = {"data": "good.csv", "quick": True} | arguments
    if arguments["data"] == "wide":
        arguments["data"] = np.random.default_rng(0).normal(size=(300_000, 2)), np.arange(300_000) % 2
    with pytest.raises(ValueError, match=rf"(?s){says}") as refusal:
        report(**arguments)
    assert str(refusal.value).count(". ") >= 2
    assert sorted(os.listdir(tmp_path)) == before


def test_an_interruption_leaves_a_valid_page_of_what_was_finished(tmp_path, monkeypatch):
    def interrupted(context):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "SECTIONS", (*running.SECTIONS[:1], ("Kernel", interrupted), *running.SECTIONS[2:]))
    with pytest.raises(KeyboardInterrupt):
        report(blobs(), network=RELU, quick=True, out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["index.html", "results.json"]
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert data["partial"] is True
    assert list(data["sections"]) == ["summary", "initialisation", "how"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert "Test accuracy" in page  # among what is missing


@pytest.mark.slow
def test_equal_arguments_give_equal_numbers(tmp_path):
    for name in ("first", "second"):
        report(blobs(), network=RELU, quick=True, out=tmp_path / name)
    first, second = written(tmp_path / "first"), written(tmp_path / "second")
    assert first == second
    assert first["partial"] is False
    assert len(first["sections"]) == len(running.SECTIONS) + 2
    report(blobs(), network=RELU, quick=True, seed=1, out=tmp_path / "third")
    assert written(tmp_path / "third") != first


@pytest.mark.slow
def test_hostile_names_rows_that_contradict_and_a_rate_that_diverges(tmp_path):
    """A column called <script>, a constant one, equal rows with different labels, 1,000 times a stable rate."""
    X, y = blobs()
    lines = [f"{a:.6f},{b:.6f},1,{label}" for (a, b, *_), label in zip(X, y, strict=True)]
    lines += [lines[0].rsplit(",", 1)[0] + ",<b>d</b>"] * 6
    hostile = "<script>alert(1)</script>"
    source = tmp_path / "data.csv"
    source.write_text(f"{hostile},b,constant,{hostile}2\n" + "\n".join(lines), encoding="utf-8")
    found = report(source, network=RELU, quick=True, learning_rate=1e3, out=tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert hostile not in page
    assert "<b>d</b>" not in page
    assert not found.metadata.partial
    warnings = " ".join(found.metadata.warnings)
    assert "constant" in warnings
    assert "singular" in warnings
    assert "diverged" in str(found)
