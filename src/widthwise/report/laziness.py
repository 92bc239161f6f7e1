r"""Certificates of lazy training for the network of a report, and the flow that they speak of.

Legend: one output f of the network on a few training rows, trained by the gradient flow of
$\tfrac12\|\alpha f - y\|^2$; "centred" is the same with the output at the start subtracted, for which a
large $\alpha$ is lazy; $\beta$ the Lipschitz constant of the Jacobian J, $\sigma$ its smallest singular value.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Verdict, check
from widthwise.measure import FlowCode, Run
from widthwise.operators import flatten
from widthwise.theory.lazy import (
    Certificate,
    LazyProblem,
    Smoothness,
    certify,
    certify_spectrum,
    certify_theorem,
    compare,
    model_problem,
    reference_problem,
)

from .context import Context
from .experiment import trained

_ROWS, _TEST_ROWS = 12, 20
_TIMES = tuple(np.concatenate([np.linspace(0.0, 1.0, 6)[1:], np.linspace(1.0, 14.0, 9)[1:]]).tolist())
# Beyond this condition number flows are followed for a shorter time: what they cost grows with its square.
_CONDITION, _MOST_CONDITION = 8.0, 20.0
_ABOVE = 1.05  # how far above a threshold a certificate is put to the test
# Flows of larger networks take minutes: beyond the first only one is followed, beyond the second none.
_MANY, _MOST = 300_000, 2_000_000
_REFERENCE = (5.2, 20.0, 726.1)

THEOREMS: dict[str, Callable[[LazyProblem], Certificate]] = {
    "LAZY-22": certify_theorem,
    "LAZY-C1": certify,
    "LAZY-C2": certify_spectrum,
}
NAMES = {"LAZY-22": "lazy-training theorem", "LAZY-C1": "sharp ball", "LAZY-C2": "spectral"}


@dataclass(frozen=True, eq=False)
class Point:
    """One factor alpha: the problem, its verdicts, and the largest measured/bound by theorem and quantity."""

    alpha: float
    problem: LazyProblem
    verdicts: tuple[Verdict, ...]
    ratios: dict[str, dict[str, float]]

    @property
    def followed(self) -> bool:
        """Whether the flow could be followed to its end."""
        return self.problem.flow.code is FlowCode.SUCCESSFUL


@dataclass(frozen=True, eq=False)
class Study:
    """The network as it is, its centred version, certificates of both at alpha = 1, and a sweep over alpha.

    ``estimate``: $\\|J_T-J_0\\|/\\|w_T-w_0\\|$ over the whole of the training run, a lower bound on beta; None where
    the run diverged or nothing moved.
    """

    rows: int
    own: LazyProblem
    centred: LazyProblem
    certificates: dict[str, Certificate]
    thresholds: dict[str, Certificate]
    points: tuple[Point, ...]
    estimate: float | None

    @property
    def certifiable(self) -> bool:
        """Whether some factor alpha is certified."""
        return any(np.isfinite(one.threshold) for one in self.thresholds.values())


def study(context: Context) -> Study:
    """Certify one output of the network on a few rows; kept by ``context.once``."""
    run, rows = context.once(trained), context.some_rows("certificates", _ROWS)
    held_out = context.X_test[:_TEST_ROWS]
    own = model_problem(context.model, context.X_train[rows], context.T_train[rows, 0], X_test=held_out)
    profile = own.smoothness
    if not isinstance(profile, Smoothness):  # asked for again and again at the same radii
        profile = functools.cache(profile)
    own = replace(own, times=_times(own), smoothness=profile)
    centred = own.centred()
    at_one = {claim: certified(own) for claim, certified in THEOREMS.items()}
    thresholds = {claim: certified(centred) for claim, certified in THEOREMS.items()}
    alphas = _alphas(thresholds, own.w0.size, context.settings.quick)
    with context.progress.task("Certificates against gradient flows", len(alphas)) as advance:
        points = tuple(_point(centred, alpha, advance) for alpha in alphas)
    return Study(len(rows), own, centred, at_one, thresholds, points, _estimate(own, run))


def _times(problem: LazyProblem) -> tuple[float, ...]:
    """When the flow is looked at, in the problem's own unit, which grows up to a condition number of 20."""
    stretched = min(problem.tangency.kappa, _MOST_CONDITION) / _CONDITION
    return tuple(np.asarray(_TIMES) / max(1.0, stretched**2))


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference experiment: the smallest certified alphas, and a sweep over alpha.

    ``ball`` that of LAZY-C1, ``sharp`` of LAZY-22 with the same constant, ``theorem`` of LAZY-22 with its own.
    """

    ball: float
    sharp: float
    theorem: float
    points: tuple[Point, ...]


def reference(context: Context) -> Reference | None:
    """Repeat the reference experiment, a shallow network on twenty digits; kept by ``context.once``.

    Only where the data are the digits: it is about them.
    """
    if context.dataset.name != "digits":
        return None
    alphas = _REFERENCE[:1] if context.settings.quick else _REFERENCE
    problem = replace(reference_problem(), times=_TIMES)
    with context.progress.task("Reference experiment", len(alphas)) as advance:
        points = tuple(_point(problem, alpha, advance) for alpha in alphas)
    as_printed = certify_theorem(reference_problem(form="frobenius"))
    return Reference(certify(problem).threshold, certify_theorem(problem).threshold, as_printed.threshold, points)


def _alphas(thresholds: dict[str, Certificate], size: int, quick: bool) -> list[float]:
    """Alpha = 1, and a little above the least and the largest threshold; fewer for large networks and quick looks."""
    finite = [one.threshold for one in thresholds.values() if np.isfinite(one.threshold)]
    above = sorted({_ABOVE * chosen for chosen in (min(finite), max(finite))}) if finite else []
    if size > _MOST or not above:
        return []
    return [1.0, *(above[:1] if quick or size > _MANY else above)]


def _point(problem: LazyProblem, alpha: float, advance) -> Point:
    problem = problem.at(float(alpha))
    verdicts = tuple(check(claim, problem) for claim in THEOREMS)
    found = {claim: certified(problem) for claim, certified in THEOREMS.items()}
    done = problem.flow.code is FlowCode.SUCCESSFUL
    ratios = {
        claim: {one.quantity: one.ratio for one in compare(certificate)}
        for claim, certificate in found.items()
        if done and certificate.certified
    }
    advance()
    return Point(float(alpha), problem, verdicts, ratios)


def _estimate(problem: LazyProblem, run: Run) -> float | None:
    if run.diverged_at is not None:
        return None
    with jax.enable_x64(True):
        after = flatten(run.model)[0]
        drift = float(_drift(problem.f, jnp.asarray(problem.w0), after))
        way = float(jnp.linalg.norm(after - jnp.asarray(problem.w0)))
    return drift / way if way > 0 else None


@eqx.filter_jit
def _drift(f: Callable, before: Float[Array, " p"], after: Float[Array, " p"]) -> Float[Array, ""]:
    """The spectral norm of the change of the Jacobian, from its small Gram matrix."""
    change = jax.jacrev(f)(after) - jax.jacrev(f)(before)
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(change @ change.T)[-1], 0.0))
