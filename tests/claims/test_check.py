"""Checking claims: assumptions, seeds, keys, shapes, names."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import pytest

from widthwise.claims import Claim, Equal, Mutant, Shared, Status, check, claims, find
from widthwise.numerics import Estimate

MEAN_SQUARE = Claim(
    id="T-1",
    name="half-power",
    statement="$E[relu(u)^2] = q/2$.",
    setup=lambda: 2.0,
    predict=lambda q: Estimate(jnp.asarray(q / 2), jnp.asarray(0.0)),
    measure=lambda q, key: jnp.mean(jnp.maximum(jnp.sqrt(q) * jr.normal(key, (2000,)), 0.0) ** 2),
    relation=Equal(resolution=0.05),
    assumptions=(lambda q: None if q > 0 else f"the variance is {q}",),
    mutants=(Mutant("lost half", {"predict": lambda q: Estimate(jnp.asarray(q), jnp.asarray(0.0))}),),
    draws=64,
)


def test_a_true_claim_holds_and_its_mutant_does_not():
    assert check(MEAN_SQUARE).status is Status.HOLDS
    assert check(MEAN_SQUARE.mutate(MEAN_SQUARE.mutants[0])).status is Status.VIOLATED


def test_what_a_mutant_shares_with_its_claim_is_computed_once():
    drawn, shared = [], Shared()

    def measure(q, key):
        drawn.append(q)
        return MEAN_SQUARE.measure(q, key)

    claim = replace(MEAN_SQUARE, measure=measure)
    moved = claim.mutate(Mutant("other setup", {"setup": lambda: 3.0}))
    alone = [check(one) for one in (claim, claim.mutate(claim.mutants[0]), moved)]
    drawn.clear()
    together = [check(one, shared=shared) for one in (claim, claim.mutate(claim.mutants[0]), moved)]
    assert drawn == [2.0] * 64 + [3.0] * 64
    assert [(one.status, one.slack) for one in together] == [(one.status, one.slack) for one in alone]
    check(claim, 2.0, shared=shared)
    assert len(drawn) == 3 * 64


def test_an_unmet_assumption_is_named():
    verdict = check(MEAN_SQUARE, -1.0)
    assert verdict.status is Status.NOT_APPLICABLE
    assert verdict.reasons == ("the variance is -1.0",)
    assert "not applicable (the variance is -1.0)" in str(verdict)


def test_equal_keys_give_equal_numbers():
    first, second = (check(MEAN_SQUARE, seeds=8, key=jr.key(5)) for _ in range(2))
    assert first.measured.value == second.measured.value
    assert first.measured.value != check(MEAN_SQUARE, seeds=8, key=jr.key(6)).measured.value


def test_progress_is_told_after_each_draw():
    seen = []
    check(MEAN_SQUARE, seeds=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_shapes_must_agree():
    wrong = replace(MEAN_SQUARE, measure=lambda q, key: jnp.ones(3))
    with pytest.raises(ValueError, match=r"T-1 measured an array of shape \(3,\)"):
        check(wrong, seeds=2)


@pytest.mark.parametrize("seeds", [0, -1])
def test_seeds_start_at_one(seeds):
    with pytest.raises(ValueError, match="seeds"):
        check(MEAN_SQUARE, seeds=seeds)


def test_unknown_claims_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'sharp-ball-certificate'"):
        find("sharp-bal-certificate")
    with pytest.raises(ValueError, match="did you mean 'lazy-training'"):
        claims("lazy-trainin")


def test_few_draws_are_inconclusive_and_never_violated():
    for seeds in (1, 2, 3):
        assert check(MEAN_SQUARE, seeds=seeds).status is not Status.VIOLATED
    assert check(MEAN_SQUARE, seeds=1).status is Status.INCONCLUSIVE
