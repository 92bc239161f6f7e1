"""`widthwise critical`."""

import json

from widthwise.cli import main


def test_critical_points_for_people_and_programs(capsys):
    assert main(["critical", "gelu"]) == 0
    first = capsys.readouterr().out.splitlines()[0].split("\t")
    assert first[:3] == ["half-stable", "1.98305825744", "0.172922390756"]
    assert main(["critical", "relu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["class"] == "scale-invariant"
    assert found["points"][0]["variance"]["value"] is None


def test_an_unknown_activation_is_refused(capsys):
    assert main(["critical", "gelo"]) == 2
    assert "did you mean 'gelu'" in capsys.readouterr().err
