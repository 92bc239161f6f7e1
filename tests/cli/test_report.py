"""`widthwise report` hands its options on; what a report is, is tested with the report."""

from pathlib import Path

import pytest

from widthwise.cli import main
from widthwise.numerics import reject
from widthwise.report import Metadata, Results


@pytest.fixture
def reported(monkeypatch, tmp_path):
    """Replace the report by one that only notes its arguments."""
    noted = {}

    def fake(**arguments):
        noted.update(arguments)
        with arguments["progress"].task("Kernel", total=3) as advance:
            advance()
        return Results((), Metadata("made", "mlp", "widthwise report", 0, {}), tmp_path / "index.html")

    monkeypatch.setattr("widthwise.cli.report.report", fake)
    return noted


def test_report_hands_its_arguments_on(reported, capsys, tmp_path):
    options = "--data x.csv --target y --network mlp(8) --optimizer adam --learning-rate 0.1 --steps 5 --seed 3 --quick"
    options += " --batch 16 --rows 100 --test-fraction 0.3 --time-limit 60"
    assert main(["report", *options.split(), "--out", "there"]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'index.html'}\n")
    del reported["progress"]
    assert reported == {
        "data": "x.csv",
        "target": "y",
        "network": "mlp(8)",
        "optimizer": "adam",
        "learning_rate": 0.1,
        "steps": 5,
        "batch": 16,
        "seed": 3,
        "out": Path("there"),
        "quick": True,
        "test_fraction": 0.3,
        "rows": 100,
        "time_limit": 60.0,
        "shape": None,
    }


def test_report_without_arguments_is_digits(reported):
    assert main(["report"]) == 0
    assert (reported["data"], reported["network"], reported["optimizer"]) == ("digits", "mlp", "gd")
    assert reported["learning_rate"] is reported["steps"] is reported["target"] is None


def test_report_opens_the_page_on_demand(reported, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    main(["report"])
    main(["report", "--no-open"])
    assert opened == []
    main(["report", "--open"])
    assert opened == [(tmp_path / "index.html").as_uri()]


def test_report_refusals_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr("widthwise.cli.report.report", lambda **_: reject("This came", "That\nis allowed", "Do so"))
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "widthwise: This came. That is allowed. Do so.\n"


def test_report_takes_a_model_by_its_import_path(reported):
    assert main(["report", "my_module:make_model", "--data", "digits", "--shape", "8", "8", "1"]) == 0
    assert (reported["network"], reported["shape"]) == ("my_module:make_model", (8, 8, 1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["my_module.py"], "my_module:make_model"),
        (["my_module:make_model", "--network", "mlp(8)"], "Leave one of the two out"),
    ],
)
def test_report_refuses_a_model_that_is_none(reported, capsys, words, message):
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err
    assert not reported
