"""Hold a prediction against a measurement."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array

from widthwise.numerics import Estimate, reject

from .claim import Claim
from .registry import find
from .relations import Status, least_draws


@dataclass(frozen=True)
class Verdict:
    """What came of checking a claim, with the numbers it rests on.

    ``slack`` is measured/bound for bounds (at most 1 where it holds) and deviation/bar for
    equalities; ``reasons`` say why a claim does not apply or is inconclusive.
    """

    claim_id: str
    name: str
    status: Status
    reasons: tuple[str, ...] = ()
    predicted: Estimate | None = None
    measured: Estimate | None = None
    slack: float | None = None
    draws: int = 0

    def __str__(self) -> str:
        tail = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{self.claim_id} {self.name}: {self.status.value}{tail}"


@dataclass(frozen=True, eq=False)
class Shared:
    """What the checks of a claim and of its mutants have in common; given to each, it is computed once.

    A mutant that changes the prediction alone is then judged by the draws of its claim. Whoever passes one
    on leaves ``key`` and ``seeds`` as they are.
    """

    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, compute: Callable[[], Any], *key: Hashable) -> Any:
        """What ``compute`` returned for this key."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]


def check(
    claim: "Claim | str",
    setup: Any = None,
    *,
    seeds: int | None = None,
    key: Array | None = None,
    progress: Callable[[int, int], None] | None = None,
    shared: Shared | None = None,
) -> Verdict:
    """Check a claim (or its id or name) on a setup, by default its own, and return the verdict.

    ``seeds`` is the number of independent draws (default: the claim's), ``key`` the JAX key they
    are split from (default: 0), ``progress(done, total)`` is called after each draw. A ``shared``
    that is passed to the checks of a claim and of its mutants, on their own setups, spares what they have in common.
    Runs in float64. Raises ``ValueError`` for an unknown claim or a number of seeds below 1.

    >>> print(check("LAZY-19").status.value)
    holds
    """
    claim = _resolve(claim)
    seeds = claim.draws if seeds is None else seeds
    if seeds < 1:
        reject(f"seeds={seeds}", "The number of seeds is a whole number of at least 1", "Leave it out for the default")
    with jax.enable_x64(True):
        shared = Shared() if shared is None or setup is not None else shared
        setup = shared.once(claim.setup, claim.setup) if setup is None else setup
        reasons = tuple(reason for holds in claim.assumptions if (reason := holds(setup)) is not None)
        if reasons:
            return Verdict(claim.id, claim.name, Status.NOT_APPLICABLE, reasons)
        if (least := least_draws(claim.relation)) > seeds and claim.draws > 1:
            reason = f"{seeds} draws give no error bar; use at least {least} seeds"
            return Verdict(claim.id, claim.name, Status.INCONCLUSIVE, (reason,), draws=seeds)
        predicted = _numpy(shared.once(lambda: claim.predict(setup), claim.setup, claim.predict))
        key = jr.key(0) if key is None else key
        draws = shared.once(lambda: _draw(claim, setup, seeds, key, progress), claim.setup, claim.measure, seeds)
    _same_shape(claim, predicted, draws)
    judged = claim.relation.judge(predicted, draws)
    reasons = (judged.reason,) if judged.reason else ()
    return Verdict(claim.id, claim.name, judged.status, reasons, predicted, judged.measured, judged.slack, seeds)


def _resolve(claim: "Claim | str") -> Claim:
    return find(claim) if isinstance(claim, str) else claim


def _numpy(estimate: Estimate) -> Estimate:
    return Estimate(np.asarray(estimate.value, dtype=float), np.asarray(estimate.error, dtype=float))


def _draw(claim: Claim, setup: Any, seeds: int, key: Array, progress) -> np.ndarray:
    draws = []
    for done, draw_key in enumerate(jr.split(key, seeds), start=1):
        draws.append(np.asarray(claim.measure(setup, draw_key), dtype=float))
        if progress is not None:
            progress(done, seeds)
    return np.stack(draws)


def _same_shape(claim: Claim, predicted: Estimate, draws: np.ndarray) -> None:
    sizes = getattr(claim.relation, "sizes", None)
    expected = np.shape(predicted.value) if sizes is None else (len(sizes),)
    if draws.shape[1:] != expected:
        reject(
            f"{claim.id} measured an array of shape {draws.shape[1:]}",
            f"Its prediction has shape {expected}",
            "Make predict and measure return the same shape",
        )
