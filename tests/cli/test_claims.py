"""Help, `list` and `check`, and how the command line refuses: output, exit status, one line of error."""

import dataclasses
import json
import os
import re

import jax
import pytest

from widthwise.claims import AtMost, Claim, Mutant, claims
from widthwise.cli import main
from widthwise.numerics import Estimate

CSV = "a,b,label\n1,2,x\n3,4.5,y\n5,6,x\n7,8,y\n"


def claim(name, measured, **fields):
    """The claim that a fixed number is at most 1."""
    return Claim(
        id=f"MADE-{name.upper()}",
        name=name,
        statement=f"The number [{name}] is at most $1$.",
        setup=lambda: None,
        predict=lambda setup: Estimate(1.0, 0.0),
        measure=lambda setup, key: measured,
        relation=AtMost(),
        field="made",
        **fields,
    )


MUTANT = Mutant("doubled", {"measure": lambda setup, key: 2.0})
DEAF_MUTANT = Mutant("unchanged", {"measure": lambda setup, key: 0.5})
TRUE = claim("true", 0.5, mutants=(MUTANT,), draws=3)
FALSE = claim("false", 2.0)
OTHER = claim("other", 0.5, assumptions=(lambda setup: "does not apply, because it is made",))
MADE = (FALSE, OTHER, TRUE)


@pytest.fixture
def made(monkeypatch):
    """Replace the claims of the theory by three made ones."""
    named = {word: one for one in MADE for word in (one.id, one.name)}
    monkeypatch.setattr("widthwise.cli.check.find", named.__getitem__)
    for module in ("check", "list"):
        monkeypatch.setattr(f"widthwise.cli.{module}.claims", lambda field=None: MADE)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"widthwise \d+\.\d+\S* \(JAX .+, Python .+\)\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(capsys, arguments):
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert leave.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("report", "list", "check", "kernel", "--version", "Exit status"))


@pytest.mark.parametrize("command", ["report", "list", "check", "kernel"])
def test_help_explains_every_option(capsys, command):
    with pytest.raises(SystemExit) as leave:
        main([command, "--help"])
    assert leave.value.code == 0
    said = capsys.readouterr().out
    options = re.split(r"^[^\w\n]*?(?=--?[a-z])", said, flags=re.MULTILINE)[1:]
    assert len(options) >= 2
    assert all(re.search(r"[a-z]{3,} [a-z]", option) for option in options)


@pytest.mark.parametrize("arguments", [["repot"], ["report", "--optimizer", "lbfgs"], ["check", "--seeds", "many"]])
def test_usage_errors_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert leave.value.code == 2
    assert capsys.readouterr().err


def test_list_is_one_line_per_claim_in_a_pipe(made, capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{one.id}\t{one.name}\t{one.field}" for one in MADE]


def test_the_long_list_says_what_is_stated_and_by_whom(made, capsys):
    assert main(["list", "--long"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[3] for row in rows] == [one.statement for one in MADE]


def test_list_is_a_table_in_a_terminal(made, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    main(["list", "--long"])
    said = capsys.readouterr().out
    assert "statement" in said
    assert "[true]" in said  # text, not markup


def test_list_as_json(made, capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in listed] == [one.id for one in MADE]
    assert listed[2]["mutants"] == ["doubled"]
    assert listed[2]["draws"] == 3


def test_list_of_the_theory(capsys):
    assert main(["list", "--field", "lazy-training"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(claims("lazy-training")) > 0
    assert main(["list", "--field", "lazy-trainin"]) == 2
    assert "did you mean 'lazy-training'" in capsys.readouterr().err


HEADER = "claim\tname\tverdict\tof the limit\tdraws\tremarks\n"


def test_check_what_holds(made, capsys):
    assert main(["check", "true"]) == 0
    assert capsys.readouterr().out == f"{HEADER}MADE-TRUE\ttrue\tholds\t0.5\t3\t\n"


def test_check_says_what_is_violated(made, capsys):
    assert main(["check", "MADE-TRUE", "MADE-FALSE", "true"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["verdict", "holds", "violated"]


def test_check_what_does_not_apply(made, capsys):
    assert main(["check", "other"]) == 0
    assert "not applicable\t\t0\tdoes not apply, because it is made" in capsys.readouterr().out


def test_check_all_and_field(made, capsys):
    for arguments in (["--all"], ["--field", "made"]):
        assert main(["check", *arguments]) == 1
        assert len(capsys.readouterr().out.splitlines()) == 4


def test_check_draws_as_often_as_asked(made, capsys):
    assert main(["check", "true", "--seeds", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[4] == "7"


def test_mutants_must_be_violated(made, capsys, monkeypatch):
    assert main(["check", "true", "--mutants"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "true [doubled]\tviolated" in lines[2]
    deaf = dataclasses.replace(TRUE, mutants=(MUTANT, DEAF_MUTANT))
    monkeypatch.setattr("widthwise.cli.check.find", lambda name: deaf)
    assert main(["check", "true", "--mutants"]) == 1
    assert "true [unchanged]\tholds" in capsys.readouterr().out


def test_check_as_json(made, capsys):
    assert main(["check", "--all", "--mutants", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["claim"], one["status"], one["mutant"]) for one in found] == [
        ("MADE-FALSE", "violated", False),
        ("MADE-OTHER", "not applicable", False),
        ("MADE-TRUE", "holds", False),
        ("MADE-TRUE", "violated", True),
    ]
    assert found[0]["predicted"] == {"value": 1.0, "error": 0.0}
    assert found[1]["predicted"] is found[1]["slack"] is None


def test_json_has_no_infinity(made, capsys, monkeypatch):
    monkeypatch.setattr("widthwise.cli.check.find", lambda name: claim("wild", float("inf")))
    main(["check", "wild", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["measured"]["value"] is None


def test_check_in_a_terminal(made, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["check", "--all", "--mutants"]) == 1
    said = capsys.readouterr().out
    assert all(word in said for word in ("verdict", "holds", "violated", "not applicable", "[doubled]"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check"], "No claim was named"),
        (["check", "LAZY-C1", "--all"], "in more than one way"),
        (["check", "no-such-claim"], "'no-such-claim' is no claim"),
        (["check", "--all", "--seeds", "0"], "seeds=0"),
        (["check", "--field", "cooking"], "field 'cooking'"),
        (["kernel", "irs"], "did you mean 'iris'"),
        (["kernel", "missing.csv"], "no file 'missing.csv'"),
        (["kernel", "iris", "--target", "species"], "Leave both out"),
        (["kernel", "iris", "--network", "mlp(width=0)"], "width=0"),
        (["kernel", "iris", "--network", "mlp(activation=thanh)"], "did you mean 'tanh'"),
        (["kernel", "iris", "--network", "__import__('os').system('true')"], "__import__"),
        (["kernel", "iris", "--out", "kernel.csv"], "Name it kernel.npz"),
        (["kernel", "iris", "--out", "."], "go to an .npz file"),
        (["kernel", "iris", "--out", "folder.npz"], "is a directory"),
        (["kernel", "iris", "--out", "nowhere/kernel.npz"], "Nothing can be written"),
        (["kernel", "iris", "--out", "data.csv/kernel.npz"], "Nothing can be written"),
        (["kernel", "data.csv", "--target", "lable"], "did you mean 'label'"),
        (["kernel", "data.csv", "--target", "none"], "holds the text 'x' at line 2"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(CSV)
    (tmp_path / "folder.npz").mkdir()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert re.search(says, captured.err)
    assert re.fullmatch(r"widthwise: .+\. .+\. .+\.\n", captured.err)
    assert captured.out == ""
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "folder.npz"]


def test_a_defect_keeps_its_traceback(made, monkeypatch):
    def broken(name):
        raise ValueError("a defect")

    monkeypatch.setattr("widthwise.cli.check.find", broken)
    with pytest.raises(ValueError, match="a defect"):
        main(["check", "true"])


def test_an_interruption_shows_what_was_done(made, capsys, monkeypatch):
    def interrupted(setup, key):
        raise KeyboardInterrupt

    named = {"true": TRUE, "slow": dataclasses.replace(FALSE, measure=interrupted)}
    monkeypatch.setattr("widthwise.cli.check.find", named.__getitem__)
    assert main(["check", "true", "slow"]) == 130
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{HEADER}MADE-TRUE\ttrue\tholds")
    assert captured.err.startswith("Interrupted.")
    assert main(["check", "true", "slow", "--json"]) == 130
    assert capsys.readouterr().out == ""


def test_main_sets_float64(made):
    with jax.enable_x64(False):
        pass
    jax.config.update("jax_enable_x64", False)
    try:
        main(["list"])
        assert jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", True)
