"""Every key of the bibliography stands for authors, a year and a title."""

import re

import pytest

from sources import ROOT
from widthwise.claims import citation, claims

TEXT = (ROOT / "src" / "widthwise" / "claims" / "references.bib").read_text("utf-8")
KEYS = re.findall(r"@\w+\{([^,]+),", TEXT)


@pytest.mark.parametrize("key", KEYS)
def test_the_key_becomes_a_sentence(key):
    assert re.fullmatch(r"[^\\{}]+ \(\d{4}\), [^\\{}]{8,}", citation(key))


def test_every_source_of_a_claim_is_known():
    assert {key for claim in claims() for key in claim.sources} <= set(KEYS)
