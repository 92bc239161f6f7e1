"""The files of a report: strict JSON, whole or not at all, the same bytes for the same sections."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from widthwise.claims import Status, Verdict
from widthwise.numerics import Estimate
from widthwise.report import Figure, Number, Results, Section, Series, Table, prepare, write


def strict(path: Path) -> dict:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_every_number_is_there_with_its_error_and_claim(tmp_path, sections, metadata):
    write(tmp_path, sections, metadata)
    data = strict(tmp_path / "results.json")
    entry = data["sections"]["lazy"]["numbers"]["kernel-drift"]
    assert (entry["value"], entry["error"], entry["claim"]) == (0.0412, 0.0016, "LAZY-20")
    for section in sections:
        written = data["sections"][section.key]["numbers"]
        assert {number.key for number in section.all_numbers()} == written.keys()
    assert (data["run"]["seed"], data["run"]["command"], data["partial"]) == (0, metadata.command, False)
    assert data["run"]["versions"]["jax"] == "0.10.2"
    assert data["sections"]["lazy"]["verdicts"][3]["status"] == "violated"


def test_what_is_not_finite_is_null_with_a_reason(tmp_path, metadata):
    nan, inf = float("nan"), float("inf")
    section = Section(
        "a",
        "A",
        "lead",
        numbers=(Number("x", inf, nan, reason="diverged"), Number("y", None, reason="not run"), Number("z", nan)),
        tables=(Table("t", ("a",), ((nan,), (Number("w", -inf, interval=(-inf, 0.0)),))),),
        figures=(Figure("f", "t", "c", (Series("s", [0, 1], [1, inf], [nan, 0]),), "x", "y"),),
        verdicts=(Verdict("A-1", "a", Status.INCONCLUSIVE, (), Estimate(np.array([1, nan]), 0.0), None, nan),),
    )
    write(tmp_path, [section], metadata)
    data = strict(tmp_path / "results.json")["sections"]["a"]
    assert data["numbers"]["x"] | {"value": None, "error": None, "reason": "∞ (diverged)"} == data["numbers"]["x"]
    assert data["numbers"]["y"]["reason"] == "none (not run)"
    assert data["numbers"]["z"]["reason"] == "not a number"
    assert data["tables"][0]["rows"][0] == [None]
    assert data["tables"][0]["rows"][1][0]["interval"] == [None, 0.0]
    assert data["figures"]["f"]["series"][0]["reasons"] == {"y[1]": "∞"}
    assert data["verdicts"][0]["predicted"]["reasons"] == {"value[1]": "not a number"}


def test_the_same_sections_give_the_same_bytes(tmp_path, sections, metadata):
    later = dataclasses.replace(metadata, time="2027-05-01 08:00 UTC", seconds=11.0)
    contents = []
    for folder, about in (("a", metadata), ("b", metadata), ("c", later)):
        write(prepare(tmp_path / folder), sections[:4], about)
        contents.append([(tmp_path / folder / name).read_text("utf-8") for name in ("index.html", "results.json")])
    assert contents[0] == contents[1]
    dated = [text.replace("2027-05-01 08:00 UTC", metadata.time) for text in contents[2]]
    assert dated[0].replace("in 11.0 s", "in 1 min 34 s") == contents[0][0]
    assert dated[1].replace('"seconds": 11.0', '"seconds": 94.2') == contents[0][1]


def test_a_partial_report_is_marked_and_then_completed(tmp_path, sections, metadata):
    partial = dataclasses.replace(metadata, pending=("Lazy or learning features", "Test accuracy"))
    write(tmp_path, sections[:2], partial)
    data = strict(tmp_path / "results.json")
    assert (data["partial"], data["pending"]) == (True, ["Lazy or learning features", "Test accuracy"])
    assert list(data["sections"]) == ["summary", "initialisation"]
    write(tmp_path, sections, metadata)
    assert strict(tmp_path / "results.json")["partial"] is False
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "results.json"}


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("step", ["replace", "write_bytes"])
def test_an_interrupted_write_leaves_the_earlier_report(tmp_path, sections, metadata, monkeypatch, failure, step):
    write(tmp_path, sections[:1], metadata)
    later = sections[:2]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    genuine = getattr(Path, step)

    def fail(self, *arguments):
        if step == "write_bytes":
            genuine(self, arguments[0][:100])
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(failure):
            write(tmp_path, later, metadata)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_sections_or_figures_of_one_key_are_refused_before_writing(tmp_path, sections, metadata):
    with pytest.raises(ValueError, match="Two sections have the key 'lazy'"):
        write(tmp_path, [sections[4], sections[4]], metadata)
    with pytest.raises(ValueError, match="Two figures have the key 'gap'"):
        write(tmp_path, [sections[4], dataclasses.replace(sections[4], key="other")], metadata)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = prepare(tmp_path / "some" / "where")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert prepare(str(folder)) == folder


def refused(folder) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the callers look at the message
        prepare(folder)
    message = str(caught.value)
    assert message.count(". ") == 2
    return message


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "File exists" in refused(file)
    assert "Not a directory" in refused(file / "below")
    assert "null" in refused("a\0b")

    def deny(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", deny)
    assert "Permission denied" in refused(tmp_path / "closed")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["index.html", "results.json"])
def test_a_file_that_no_report_wrote_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    assert name in refused(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_an_earlier_report_may_be_overwritten(tmp_path, sections, metadata):
    write(prepare(tmp_path), sections[:1], metadata)
    assert prepare(tmp_path) == tmp_path


def test_names_that_are_not_unicode_are_still_written(tmp_path, metadata):
    odd = dataclasses.replace(metadata, dataset="caf\udce9.csv", command="report --data caf\udce9.csv")
    page = write(tmp_path, [], odd)
    assert "caf?.csv" in page.read_text("utf-8")
    assert strict(tmp_path / "results.json")["run"]["dataset"] == "caf?.csv"


def test_results_answer_by_key_and_suggest_the_nearest(tmp_path, sections, metadata):
    results = Results(tuple(sections), metadata, tmp_path / "index.html")
    assert results.number("lazy", "kernel-drift").value == 0.0412
    assert str(results).startswith("In one paragraph: On the digits data")
    assert "Kernel: At width 512" in str(Results(tuple(sections[1:]), metadata))
    with pytest.raises(ValueError, match="did you mean 'kernel-drift'"):
        results.number("lazy", "kernel-drif")
    with pytest.raises(ValueError, match="There is no section 'lzay'"):
        results.section("lzay")
