"""Certified gradient descent, held against descent itself (LAZY-C5)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Mutant
from widthwise.numerics import Estimate, reject

from .euler import descend
from .examples import extremal, random_quadratic
from .lipschitz import Smoothness
from .problem import LazyProblem, kept
from .setups import stack
from .steps import DescentBounds, DescentCertificate, certify_descent


class SquareLoss(eqx.Module):
    r"""$\frac12\|\alpha f(w)-y\|^2$.

    >>> SquareLoss(lambda w: 2 * w, jnp.array([1.0]), jnp.array(1.0))(jnp.array([1.0])).item()
    0.5
    """

    f: Callable
    y: Float[Array, " n"]
    alpha: Float[Array, ""]

    def residual(self, w: Float[Array, " p"]) -> Float[Array, " n"]:
        return self.alpha * self.f(w) - self.y

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(self.residual(w) ** 2)


@dataclass(frozen=True, eq=False)
class Descended:
    r"""Gradient descent seen: ``residual``, ``path`` so far and ``sigma_min`` of $\alpha J$ at each step, all (k,)."""

    residual: Float[np.ndarray, " k"]
    path: Float[np.ndarray, " k"]
    sigma_min: Float[np.ndarray, " k"]


@kept
def descended(problem: LazyProblem, step: float, count: int = 200, spectra: bool = True) -> Descended:
    """Run gradient descent on a problem and measure what LAZY-C5 speaks of; ``sigma_min`` is nan without ``spectra``.

    >>> seen = descended(extremal(y=0.1), 0.2, 4)
    >>> seen.residual.shape, bool(np.all(np.diff(seen.residual) < 0))
    ((5,), True)
    """
    with jax.enable_x64(True):
        loss = SquareLoss(problem.f, jnp.asarray(problem.y), jnp.asarray(problem.alpha))
        path = descend(loss, jnp.asarray(problem.w0), jnp.asarray(step), count)
        residual, least = (np.asarray(part) for part in _along(loss, path, spectra))
    lengths = np.linalg.norm(np.diff(np.asarray(path), axis=0), axis=1)
    return Descended(residual, np.concatenate([[0.0], np.cumsum(lengths)]), least)


@eqx.filter_jit
def _along(loss: SquareLoss, path: Float[Array, "k p"], spectra: bool) -> tuple[Array, Array]:
    def at(w):
        least = jnp.linalg.norm(jax.jacrev(loss.residual)(w), -2) if spectra else jnp.full((), jnp.nan)
        return jnp.linalg.norm(loss.residual(w)), least

    return jax.lax.map(at, path)


@dataclass(frozen=True, eq=False)
class Descent:
    """A problem and the step with which gradient descent is run; the best certified one where none is given."""

    problem: LazyProblem
    step: float | None = None

    @property
    def certificate(self) -> DescentCertificate:
        return certify_descent(self.problem, self.step)


def descents(setup) -> tuple[Descent, ...]:
    """The runs of a setup; a user's problem is run with the best certified step."""
    found = setup if isinstance(setup, tuple | list) else (setup,)
    found = tuple(Descent(one) if isinstance(one, LazyProblem) else one for one in found)
    if not found or not all(isinstance(one, Descent) for one in found):
        reject(
            f"a setup of type {type(setup).__name__}",
            "The certificate is about a LazyProblem, or a tuple of them or of Descent(problem, step)",
            "Build one with model_problem(model, X, y)",
        )
    return found


def _certified(setup) -> str | None:
    """The certificate applies: full row rank, a certified Lipschitz constant, alpha large and the step small enough."""
    return next((why for one in descents(setup) if (why := one.certificate.reason)), None)


@functools.cache
def _default() -> tuple[Descent, ...]:
    """A problem sharp for small steps, one sharp for large ones, and random maps."""
    nearly_linear = extremal(1.0, 1e-4, 0.01, others=1.0)
    return (
        Descent(extremal(y=0.4), 0.01),
        Descent(nearly_linear, 1.9),
        Descent(random_quadratic(1, 4.0, 0.6, True)),
        Descent(random_quadratic(2, 3.0, 0.3), 0.5),
    )


# From a certificate to the bounds that are claimed.
BoundsOf = Callable[[DescentCertificate], DescentBounds]
# Ratios of residuals are looked at down to this part of the first one, where rounding is small still.
_SEEN = 1e-5
# Rounding of some hundred steps of gradient descent, relative to the size of outputs and parameters.
_ROUNDING = 1e-13


def _measured(one: Descent) -> dict[str, np.ndarray]:
    seen = descended(one.problem, one.certificate.step)
    visible = seen.residual[:-1] > _SEEN * seen.residual[0]
    ratios = np.where(visible, seen.residual[1:] / np.maximum(seen.residual[:-1], 1e-300), 0.0)
    return {"residual": seen.residual, "ratio": ratios, "path": seen.path[-1:], "1/sigma_min": 1.0 / seen.sigma_min}


def _predicted(one: Descent, bounds_of: BoundsOf) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    certificate = one.certificate
    bounds, r = bounds_of(certificate), _measured(one)["residual"]
    size = _ROUNDING * (np.linalg.norm(one.problem.y) + bounds.M * np.linalg.norm(one.problem.w0))
    k, some = np.arange(len(r)), np.maximum(r[:-1], _SEEN * r[0])
    with np.errstate(divide="ignore"):
        inverse = np.full(len(r), 1.0 / np.float64(bounds.least_sigma))
    return {
        "residual": (np.asarray(bounds.residual(k)), np.full(len(r), size)),
        "ratio": (np.full(len(some), bounds.rate), 2 * size / some),
        "path": (np.array([bounds.radius]), np.array([_ROUNDING * len(r) * bounds.radius])),
        "1/sigma_min": (inverse, _ROUNDING * inverse**2 * bounds.M),
    }


def _predict(bounds_of: BoundsOf) -> Callable[..., Estimate]:
    def predict(setup) -> Estimate:
        rows = [row for one in descents(setup) for row in _predicted(one, bounds_of).values()]
        return Estimate(stack(value for value, _ in rows), stack(error for _, error in rows))

    return predict


def _measure(setup, key) -> np.ndarray:
    return stack(row for one in descents(setup) for row in _measured(one).values())


def _honest(certificate: DescentCertificate) -> DescentBounds:
    return certificate.demand()


def _halved(certificate: DescentCertificate) -> DescentBounds:
    problem = certificate.problem
    half = Smoothness(certificate.smoothness.value / 2, certified=True)
    return certify_descent(replace(problem, smoothness=half), certificate.step).demand()


def _as_for_the_flow(certificate: DescentCertificate) -> DescentBounds:
    """c = 1, as if the step were infinitely small."""
    return replace(certificate.demand(), M=0.0)


def _without_curvature(certificate: DescentCertificate) -> DescentBounds:
    """The bounds of a linear map."""
    return replace(certificate.demand(), beta=0.0)


CLAIMS = (
    Claim(
        id="LAZY-C5",
        name="gradient-descent-certificate",
        statement=(
            r"Let $M \ge \sigma_{max}+\beta\rho_d$, $c = 1-\eta M^2/2 > 0$, "
            r"$\sigma_e = \sigma-\eta^2M^3\beta r_0/(4c)$ (with $\alpha$ absorbed) and "
            r"$h_d = 2\beta r_0/(c\sigma_e^2) \le 1$; then the path of gradient descent with step $\eta$ is at most "
            r"$\rho_d = \frac{\sigma_e}\beta(1-\sqrt{1-h_d})$, and each step multiplies the residual by at most "
            r"$1-\eta\sigma_*^2(c-\beta\eta r_0/2)$ with $\sigma_* = \sigma-\beta\rho_d \le \sigma_{min}(J_k)$."
        ),
        sources=("oymak2019overparameterized", "liu2022loss"),
        setup=_default,
        predict=_predict(_honest),
        measure=_measure,
        relation=AtMost(),
        assumptions=(_certified,),
        mutants=(
            Mutant("half the Lipschitz constant", {"predict": _predict(_halved)}),
            Mutant("c = 1, as for the flow", {"predict": _predict(_as_for_the_flow)}),
            Mutant("without curvature", {"predict": _predict(_without_curvature)}),
        ),
        derived_here=True,
    ),
)
