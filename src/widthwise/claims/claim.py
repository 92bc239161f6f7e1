"""A theorem as a value that can be run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array

from widthwise.numerics import Estimate, reject

from .relations import AbstractRelation


@dataclass(frozen=True)
class Mutant:
    """A wrong variant of a claim: the fields that are changed. Checking it must give *violated*."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    r"""A statement, how to predict, how to measure, and how the two must stand to each other.

    ``setup`` builds the default setup; ``predict(setup)`` is an ``Estimate`` and
    ``measure(setup, key)`` one random draw of the same shape (a deterministic measurement ignores
    the key). Each of ``assumptions`` returns ``None`` where it is met and otherwise says why the
    claim does not apply. ``statement`` is one sentence of plain text with LaTeX between dollar
    signs; ``sources`` are keys of the bibliography, and ``derived_here`` marks a result derived in
    this project. ``draws`` is the number of draws that gives the claim its power.
    """

    id: str
    name: str
    statement: str
    setup: Callable[[], Any]
    predict: Callable[[Any], Estimate]
    measure: Callable[[Any, Array], Any]
    relation: AbstractRelation
    sources: tuple[str, ...] = ()
    assumptions: tuple[Callable[[Any], str | None], ...] = ()
    mutants: tuple[Mutant, ...] = ()
    field: str = "lazy-training"
    derived_here: bool = False
    draws: int = 1

    def __post_init__(self):
        if self.draws < 1:
            reject(
                f"claim {self.id} with draws={self.draws}", "A claim needs at least one draw", "Set draws to 1 or more"
            )

    def __repr__(self) -> str:
        return f"Claim({self.id}, {self.name!r})"

    def mutate(self, mutant: Mutant) -> "Claim":
        """The wrong variant as a claim of its own, named after the mistake."""
        return replace(self, name=f"{self.name} [{mutant.name}]", mutants=(), **mutant.changes)
