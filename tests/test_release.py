"""The version stands in one place, and what repeats it agrees."""

import re

from sources import ROOT, SRC


def test_citation_names_the_version():
    version = re.search(r'__version__ = "(.*)"', (SRC / "_version.py").read_text("utf-8"))
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert version and cited and version[1] == cited[1]


def test_changes_are_recorded_as_the_convention_says():
    kinds = r"\.(added|changed|fixed|removed)\.md"
    files = {file.name for file in (ROOT / "changelog.d").iterdir()} - {"README.md"}
    assert {file for file in files if not re.fullmatch(r"\+[a-z0-9-]+" + kinds, file)} == set()
