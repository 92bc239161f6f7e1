"""Hold a certificate against the measured flow, quantity by quantity."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .bounds import AbstractBounds, BallBounds, TheoremBounds
from .certificates import Certificate
from .problem import LazyProblem, kept
from .trajectory import Trajectory, follow, gradient_norms


@dataclass(frozen=True, eq=False)
class Comparison:
    """One quantity: its bound, what was measured, and how wrong the measurement may be by the integration.

    All of shape (k,) over the times of the trajectory, or (1,) for what is said of the end.
    """

    quantity: str
    bound: Float[np.ndarray, " k"]
    measured: Float[np.ndarray, " k"]
    error: Float[np.ndarray, " k"]

    @property
    def ratio(self) -> float:
        """The largest measured/bound: at most 1, up to the error, where the theorem holds."""
        some = self.bound > 0
        return float(np.max(self.measured[some] / self.bound[some], initial=0.0))

    def __repr__(self) -> str:
        return f"Comparison({self.quantity}: measured/bound {self.ratio:.4g})"


def compare(certificate: Certificate) -> tuple[Comparison, ...]:
    r"""All that a certificate says against all that was measured, as upper bounds.

    Lower bounds appear as upper bounds on the reciprocal. Needs a certificate that certifies.

    >>> from widthwise.theory.lazy.certificates import certify
    >>> from widthwise.theory.lazy.examples import extremal
    >>> compare(certify(extremal()))[0]
    Comparison(residual: measured/bound 1)
    """
    bounds = bound_rows(certificate, certificate.demand())
    measured = measured_rows(certificate.problem)
    return tuple(Comparison(name, bound, *measured[name]) for name, bound in bounds.items())


def bound_rows(certificate: Certificate, bounds: AbstractBounds) -> dict[str, np.ndarray]:
    """The bounds at the times of the trajectory, by quantity."""
    problem, t = certificate.problem, follow(certificate.problem).seconds
    with np.errstate(divide="ignore"):
        rows = {
            "residual": bounds.residual(t),
            "path": bounds.path(t),
            "distance": bounds.distance(t),
            "gap": bounds.gap(t),
            "1/sigma_min": 1.0 / bounds.smallest_singular_value(t),
            "training gap": _function_gap(problem, bounds, t, certificate.smoothness.value),
        }
    if problem.test is not None:
        rows["test gap"] = np.ravel(certificate.test_gap(t, probe_gradients(problem), bounds))
    if isinstance(bounds, TheoremBounds):
        rows["twin residual"], rows["twin distance"] = bounds.residual(t), bounds.path(t)
    if isinstance(bounds, BallBounds):
        rows["final gap"] = np.array([bounds.final_gap])
        rows["1/final distance"] = np.array([1.0 / bounds.least_final_distance if bounds.r0 else 0.0])
        rows["decay exponent"] = bounds.fastest_decay * t
        rows["path to go"] = bounds.path_to_go(t)
    return rows


def _function_gap(problem: LazyProblem, bounds: AbstractBounds, t: np.ndarray, beta: float) -> np.ndarray:
    r"""$\alpha\big[\frac\beta2\rho^2+\sigma_{max}D\big]$, as for a test output."""
    return np.asarray(
        problem.alpha * (0.5 * beta * bounds.distance(t) ** 2 + problem.tangency.sigma_max * bounds.gap(t))
    )


@kept
def probe_gradients(problem: LazyProblem) -> Float[np.ndarray, " q"]:
    r"""$\|\nabla g(w_0)\|$ of the test outputs."""
    with jax.enable_x64(True):
        return np.asarray(gradient_norms(problem.probe.g, jnp.asarray(problem.w0)))


@kept
def measured_rows(problem: LazyProblem) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What was measured, and the error of it, by quantity."""
    seen, alpha = follow(problem), problem.alpha
    error = np.full_like(seen.path, seen.error)
    on_outputs = alpha * seen.sigma_max * error
    inverse = _inverse(seen.sigma_min)
    # An eigenvalue of the kernel is right to rounding relative to the largest one.
    rounding = _ROUNDING * seen.sigma_max**2 * inverse
    rows = {
        "residual": (seen.residual, on_outputs),
        "path": (seen.path, error),
        "path to go": (seen.path[-1] - seen.path, 2 * error),
        "distance": (seen.distance, error),
        "gap": (seen.gap, error + _ROUNDING * seen.distance),
        "1/sigma_min": (inverse, inverse**2 * (seen.smoothness * error + rounding)),
        "training gap": (seen.train_gap, on_outputs + _ROUNDING * np.linalg.norm(problem.y)),
        **_end(problem, seen),
        **_twin(problem, seen.seconds),
    }
    gone = np.maximum(seen.residual, 1e-300)
    start = max(problem.tangency.residual, 1e-300)
    rows["decay exponent"] = (np.log(start / gone), on_outputs / gone + _ROUNDING)
    if problem.test is not None:
        slope = alpha * probe_gradients(problem)
        rows["test gap"] = (
            np.ravel(seen.test_gap),
            np.ravel(2 * slope * error[:, None] + _ROUNDING * slope * seen.distance[:, None]),
        )
    return rows


# Rounding of a float64 computation with some thousand operations, relative to its largest terms.
_ROUNDING = 1e-12


def _inverse(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1.0 / values


def _twin(problem: LazyProblem, t: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The linearised flow, in closed form."""
    distance, residual = (np.linalg.norm(part, axis=1) for part in problem.tangency.twin(t))
    return {"twin residual": (residual, _ROUNDING * residual), "twin distance": (distance, _ROUNDING * distance)}


def _end(problem: LazyProblem, seen: Trajectory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    r"""The last time as if it were the end; both flows still have $2\|r\|/(\alpha\sigma)$ to go at most."""
    twin = _twin(problem, seen.seconds[-1:])["twin residual"][0]
    slowest = min(float(seen.sigma_min[-1]), problem.tangency.sigma)
    rest = (2 * seen.residual[-1] + twin) / (problem.alpha * slowest) if slowest else math.inf
    error, distance = rest + np.array([seen.error]), seen.distance[-1:]
    inverse = _inverse(distance) if distance[0] else np.zeros(1)
    return {"final gap": (seen.gap[-1:], error), "1/final distance": (inverse, inverse**2 * error)}
