"""What the claims about certificates share: their setups, and how bounds become predictions."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from widthwise.measure import FlowCode
from widthwise.numerics import Estimate, reject

from .bounds import AbstractBounds
from .certificates import Certificate, obstacle, uncertain
from .comparison import bound_rows, measured_rows
from .problem import LazyProblem

# A claim's own setup is a tuple of problems, a user's is one; anything else is refused by ``problems``.
Setup = Any


def problems(setup: Setup) -> tuple[LazyProblem, ...]:
    """The problems of a setup."""
    found = (setup,) if isinstance(setup, LazyProblem) else tuple(setup) if isinstance(setup, tuple | list) else ()
    if not found or not all(isinstance(one, LazyProblem) for one in found):
        reject(
            f"a setup of type {type(setup).__name__}",
            "The certificates are about a LazyProblem, or a tuple of them",
            "Build one with model_problem(model, X, y)",
        )
    return found


def followed(setup: Setup) -> str | None:
    """The gradient flow can be followed to its last time."""
    reasons = (problem.flow.reason for problem in problems(setup) if problem.flow.code is not FlowCode.SUCCESSFUL)
    return next(reasons, None)


def certified_constant(setup: Setup) -> str | None:
    """The Jacobian has full row rank and a certified Lipschitz constant on some ball."""
    for problem in problems(setup):
        why = obstacle(problem.tangency) or uncertain(problem.smoothness(0.0), problem.h)
        if why:
            return why
    return None


def certified_by(certify: Callable[[LazyProblem], Certificate]) -> Callable[[Setup], str | None]:
    """Make the assumption that a certificate certifies every problem of a setup."""

    def certified(setup: Setup) -> str | None:
        """The certificate applies: full row rank, a certified Lipschitz constant and alpha above the threshold."""
        return next((why for problem in problems(setup) if (why := certify(problem).reason)), None)

    return certified


def stack(rows: Iterable[np.ndarray | float]) -> np.ndarray:
    """All rows in one array."""
    return np.concatenate([np.ravel(row) for row in rows])


# From a problem to its certificate and to the bounds that are claimed; in a wrong variant the two differ.
BoundsOf = Callable[[LazyProblem], tuple[Certificate, AbstractBounds]]
# A wrong variant may also replace some rows of bounds.
Change = Callable[[Certificate], dict[str, np.ndarray]]


class Sides(NamedTuple):
    """The two sides of a claim."""

    predict: Callable[[Setup], Estimate]
    measure: Callable[[Setup, Any], np.ndarray]


def held_against_flow(bounds_of: BoundsOf, change: Change = lambda _: {}) -> Sides:
    """Predict all bounds, measure all that was measured along the flow."""

    def parts(setup: Setup) -> list[tuple[dict, dict]]:
        found = [bounds_of(problem) for problem in problems(setup)]
        return [({**bound_rows(*one), **change(one[0])}, measured_rows(one[0].problem)) for one in found]

    def predict(setup: Setup) -> Estimate:
        found = parts(setup)
        value = stack(row for bounds, _ in found for row in bounds.values())
        return Estimate(value, stack(seen[name][1] for bounds, seen in found for name in bounds))

    def measure(setup: Setup, key) -> np.ndarray:
        return stack(seen[name][0] for bounds, seen in parts(setup) for name in bounds)

    return Sides(predict, measure)


def honest(certify: Callable[[LazyProblem], Certificate]) -> BoundsOf:
    """The bounds as the certificate gives them."""
    return lambda problem: ((certificate := certify(problem)), certificate.demand())
