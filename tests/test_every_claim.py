"""Every claim holds with power on its default setup, and each of its mutants is caught."""

import functools
from dataclasses import replace

import pytest

from sources import ROOT
from widthwise.claims import Shared, Status, check, claims, find

CLAIMS = claims()
MUTANTS = [(claim, mutant) for claim in CLAIMS for mutant in claim.mutants]
LAZY_TRAINING = {f"OPT-{k}" for k in range(1, 12)} | {f"LAZY-{k}" for k in range(1, 44)}
LAZY_TRAINING |= {f"LAZY-C{k}" for k in range(1, 8)}
COVERED = {f"INIT-{k}" for k in range(7, 14)}
COVERED |= {f"KERN-{k}" for k in (2, *range(8, 16), *range(34, 40))} | {"HESS-4"}
COVERED |= {f"INIT-{k}" for k in range(31, 37)} | {"HESS-27"}
COVERED |= {f"INIT-{k}" for k in (*range(2, 7), *range(14, 31))}
# They follow flows of networks, or draw many of them.
LONG = {"LAZY-5", "LAZY-6b", "LAZY-15", "LAZY-18", "LAZY-19", "LAZY-22", "LAZY-C2", "LAZY-C3", "LAZY-C7"}
LONG |= {"HESS-4", "OPT-1", "OPT-3", "INIT-7", "KERN-2", "KERN-2b", "KERN-8b", "KERN-9", "KERN-14", "KERN-15"}
LONG |= {"INIT-33", "INIT-35", "INIT-35b", "INIT-36", "INIT-36b", "OPT-4", "OPT-10", "OPT-10b"}
LONG |= {f"INIT-{k}" for k in (2, 4, 6, 16, 18, 20, 22, 24, 25, 28, "29b", 30)}
LONG |= {"INIT-37", "INIT-38", "INIT-39", "INIT-39b", "INIT-40", "INIT-40b", "INIT-40c", "LAZY-3"}
LONG |= {"OPT-6", "OPT-6b", "OPT-6c", "OPT-6e", "LAZY-33", "LAZY-33b", "LAZY-33c", "LAZY-36d", "LAZY-36e", "LAZY-38"}
LONG |= {"LAZY-9", "LAZY-13", "LAZY-13b", "LAZY-14", "LAZY-14b", "LAZY-3b", "LAZY-3c", "LAZY-3d"}
LONG |= {"LAZY-27", "LAZY-28", "LAZY-28b", "LAZY-30", "LAZY-C5", "LAZY-C6"}
LONG |= {"CATA-1", "CATA-5", "CATA-6", "HESS-28"}
LONG |= {claim.id for claim in CLAIMS if claim.id.startswith(("KERN-10", "KERN-11", "KERN-12b", "KERN-13"))}


def _param(claim, *values, name=""):
    return pytest.param(claim, *values, id=claim.id + name, marks=[pytest.mark.slow] if claim.id in LONG else [])


ALL = [_param(claim) for claim in CLAIMS]
MUTATED = [_param(claim, mutant, name=f"-{mutant.name}") for claim, mutant in MUTANTS]


@functools.lru_cache(maxsize=1)
def shared_by(claim_id):
    """The tests of one claim come one after the other and share their draws."""
    return Shared()


@pytest.mark.parametrize("claim", ALL)
def test_the_claim_holds(claim):
    verdict = check(claim, shared=shared_by(claim.id))
    assert verdict.status is Status.HOLDS, str(verdict)


@pytest.mark.parametrize(("claim", "mutant"), MUTATED)
def test_the_mutant_is_caught(claim, mutant):
    verdict = check(claim.mutate(mutant), shared=shared_by(claim.id))
    assert verdict.status is Status.VIOLATED, str(verdict)


@pytest.mark.parametrize(("claim", "mutant"), MUTATED)
def test_the_true_claim_survives_where_a_mutant_changes_the_setup(claim, mutant):
    """A mutant must be wrong by itself, not because its setup breaks the theorem too."""
    if "setup" in mutant.changes:
        verdict = check(replace(claim, setup=mutant.changes["setup"]), shared=shared_by(claim.id))
        assert verdict.status in (Status.HOLDS, Status.NOT_APPLICABLE), str(verdict)
    else:
        assert mutant.changes.keys() & {"predict", "measure", "relation", "assumptions"}


def test_the_theories_are_complete():
    assert {claim.id for claim in CLAIMS} >= COVERED
    assert {claim.id for claim in claims("lazy-training")} >= LAZY_TRAINING


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_claim_is_complete(claim):
    assert claim.mutants
    assert claim.statement.rstrip().endswith(".")
    assert claim.statement.count("$") % 2 == 0
    assert claim.sources or claim.derived_here
    assert find(claim.id) is claim
    assert find(claim.name.upper()) is claim
    bibliography = (ROOT / "src" / "widthwise" / "claims" / "references.bib").read_text(encoding="utf-8")
    for key in claim.sources:
        assert f"{{{key}," in bibliography


def test_ids_and_names_are_unique():
    words = [word.lower() for claim in CLAIMS for word in (claim.id, claim.name)]
    assert len(words) == len(set(words))
