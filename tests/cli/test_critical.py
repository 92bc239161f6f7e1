"""`widthwise critical`."""

import json

from widthwise.cli import main


def test_critical_points_for_people_and_programs(capsys):
    assert main(["critical", "gelu"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["point", "quantity", "value"]
    assert lines[1:3] == [["half-stable", "C_w", "1.98305825744"], ["half-stable", "C_b", "0.172922390756"]]
    assert {len(line) for line in lines} == {3}
    assert main(["critical", "relu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["class"] == "scale-invariant"
    assert found["points"][0]["variance"]["value"] is None


def test_no_number_is_cut_off_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["critical", "gelu"]) == 0
    told = capsys.readouterr().out
    assert "quantity" in told
    assert "\u2026" not in told
    for number in ("1.98305825744", "0.172922390756", "3.56155281281"):
        assert number in told


def test_an_unknown_activation_is_refused(capsys):
    assert main(["critical", "gelo"]) == 2
    assert "did you mean 'gelu'" in capsys.readouterr().err
