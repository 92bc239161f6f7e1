"""The vocabulary of claims: a statement that can be run, its relation, its verdict."""

from .check import Shared, Verdict, check
from .claim import Claim, Mutant
from .literature import citation
from .registry import claims, find
from .relations import AbstractRelation, AtLeast, AtMost, Equal, Judgement, Scaling, Status

__all__ = [
    "AbstractRelation",
    "AtLeast",
    "AtMost",
    "Claim",
    "Equal",
    "Judgement",
    "Mutant",
    "Scaling",
    "Shared",
    "Status",
    "Verdict",
    "check",
    "citation",
    "claims",
    "find",
]
