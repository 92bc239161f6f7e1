"""Every row of the page for users of neural-tangents gives the numbers that neural-tangents gave."""

import json
import re

import numpy as np
import pytest

from sources import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text("utf-8")
# Written by benchmarks/migration_peer.py.
THEIRS = json.loads((ROOT / "tests" / "networks" / "migration.json").read_text("utf-8"))
START, *_ = re.findall(r"^```\{code-cell\}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ROWS = re.findall(
    r"^## ([^\n]*)\n.*?^```\{code-block\} python\n.*?^```\n+```\{code-cell\}\n(.*?)^```$",
    PAGE,
    re.DOTALL | re.MULTILINE,
)
# At equal inputs, on the diagonal here, the peer takes the square root of what rounding leaves of zero.
APART, EQUAL = 1e-12, 3e-8


def test_every_row_is_compared():
    assert [title for title, _ in ROWS] == list(THEIRS) and len(ROWS) >= 14


# Several networks, and those on images and tokens, take seconds to compile.
LONG = re.compile(r"images|tokens|K = \[")
EACH = [
    pytest.param(title, program, id=title, marks=[pytest.mark.slow] * bool(LONG.search(program)))
    for title, program in ROWS
]


@pytest.mark.parametrize(("title", "program"), EACH)
def test_row_agrees(title, program):
    scope = {}
    exec(START, scope)
    exec(program, scope)
    found = scope["K"] if isinstance(scope["K"], list) else [scope["K"]]
    for ours, theirs in zip(found, THEIRS[title], strict=True):
        for name in ("nngp", "ntk"):
            matrix, wanted = getattr(ours, name), np.array(theirs[name])
            square = matrix.shape[0] == matrix.shape[1]
            apart = ~np.eye(len(matrix), dtype=bool) if square else np.ones(matrix.shape, bool)
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(matrix[apart], wanted[apart], rtol=0, atol=APART * scale, err_msg=name)
            np.testing.assert_allclose(matrix, wanted, rtol=0, atol=EQUAL * scale, err_msg=name)
