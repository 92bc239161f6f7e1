"""`widthwise check`: predictions held against measurements."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from rich.text import Text
from tyro.conf import Positional, arg

from widthwise.claims import Claim, Shared, Status, Verdict, check, claims, find
from widthwise.numerics import Estimate, reject

from .console import growing_table, shown_progress, write_json
from .options import Count, Field, Flag, JsonFlag

_COLOURS = {
    Status.HOLDS: "green",
    Status.VIOLATED: "bold red",
    Status.INCONCLUSIVE: "yellow",
    Status.NOT_APPLICABLE: "dim",
}


@dataclass(frozen=True)
class Trial:
    """A claim or one of its wrong variants (a mutant, which has to be violated)."""

    claim: Claim
    mutant: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    verdict: Verdict
    mutant: bool

    @property
    def wrong(self) -> bool:
        """Say whether a claim is violated, or a mutant is not."""
        return (self.verdict.status is Status.VIOLATED) != self.mutant


def check_claims(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="ID...", help_behavior_hint="")] = (),
    every: Annotated[Flag, arg(name="all")] = False,
    field: Field = None,
    seeds: Count = None,
    mutants: Flag = False,
    as_json: JsonFlag = False,
) -> int:
    """Check claims: hold each prediction against a measurement, and say whether it holds.

    Args:
        names: IDs or names, such as LAZY-C1 or sharp-ball-certificate; `widthwise list` shows them.
        every: Check all claims.
        field: Check the claims of one field, such as lazy-training.
        seeds: Number of independent draws; by default as many as give the claim its power.
        mutants: Check the wrong variants of each claim too; each of them has to be violated.
        as_json: Write JSON for programs.
    """
    trials = [_trials(claim, mutants) for claim in _chosen(names, every, field)]
    if as_json:  # whole or not there
        outcomes = [*_checked(trials, seeds)]
        write_json([_as_data(outcome) for outcome in outcomes])
    else:
        outcomes = []
        with growing_table(("claim", "name", "verdict", "of the limit", "draws", "remarks")) as add:
            for outcome in _checked(trials, seeds):
                outcomes.append(outcome)
                add(_row(outcome))
    return int(any(outcome.wrong for outcome in outcomes))


def _chosen(names: tuple[str, ...], every: bool, field: str | None) -> Sequence[Claim]:
    ways = (bool(names), every, field is not None)
    if sum(ways) != 1:
        reject(
            "No claim was named" if not any(ways) else "Claims were chosen in more than one way",
            "Claims are chosen by their IDs, by --all, or by --field",
            "Try `widthwise check LAZY-C1`; `widthwise list` shows them all",
        )
    return list({claim.id: claim for claim in map(find, names)}.values()) if names else claims(field)


def _trials(claim: Claim, mutants: bool) -> tuple[Trial, ...]:
    return Trial(claim), *(Trial(claim.mutate(mutant), mutant=True) for mutant in claim.mutants if mutants)


def _checked(trials: Sequence[tuple[Trial, ...]], seeds: int | None) -> Iterator[Outcome]:
    with shown_progress() as progress, progress.task("Claims", total=sum(map(len, trials))) as advance:
        for together in trials:
            shared = Shared()
            for trial in together:
                with progress.task(trial.claim.name, total=seeds or trial.claim.draws) as drawn:

                    def shown(done: int, total: int, drawn: Callable[[], None] = drawn) -> None:
                        drawn()

                    verdict = check(trial.claim, seeds=seeds, progress=shown, shared=shared)
                yield Outcome(verdict, trial.mutant)
                advance()


def _row(outcome: Outcome) -> tuple[Text, ...]:
    verdict = outcome.verdict
    colour = "bold red" if outcome.wrong else "green" if outcome.mutant else _COLOURS[verdict.status]
    remarks = ("a mutant, which has to be violated",) if outcome.mutant else ()
    slack = "" if verdict.slack is None else f"{verdict.slack:.3g}"
    return (
        Text(verdict.claim_id, style="bold"),
        Text(verdict.name),
        Text(verdict.status.value, style=colour),
        Text(slack, justify="right"),
        Text(str(verdict.draws), justify="right"),
        Text("; ".join((*remarks, *verdict.reasons))),
    )


def _as_data(outcome: Outcome) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "claim": verdict.claim_id,
        "name": verdict.name,
        "mutant": outcome.mutant,
        "status": verdict.status.value,
        "reasons": list(verdict.reasons),
        "predicted": _estimate(verdict.predicted),
        "measured": _estimate(verdict.measured),
        "slack": _finite(verdict.slack),
        "draws": verdict.draws,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {key: _finite(np.asarray(getattr(estimate, key), float).tolist()) for key in ("value", "error")}


def _finite(value: Any) -> Any:
    """Put None, which is null in JSON, for numbers that are not finite."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value if value is not None and np.isfinite(value) else None
