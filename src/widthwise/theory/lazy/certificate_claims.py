"""The theorems that say beforehand how lazily a network trains, held against the flow itself."""

import functools
import math
from dataclasses import replace

import numpy as np

from widthwise.claims import AtMost, Claim, Mutant

from .bounds import BallBounds, TheoremBounds
from .certificates import ball_bounds, certify, certify_theorem
from .examples import aligned_quadratic, extremal, network, random_quadratic
from .problem import LazyProblem
from .setups import Setup, certified_by, followed, held_against_flow, honest, problems
from .spectral import certify_spectrum
from .trajectory import follow


@functools.cache
def _ball_problems() -> Setup:
    """Three problems on which the bounds are equalities, random maps up to h = 0.99, and a network with test inputs."""
    sharp = (extremal(), extremal(2.0, 3.0, 0.8, 1.5), extremal(y=0.4999))
    return (
        *sharp,
        random_quadratic(1, 4.0, 0.9, True),
        random_quadratic(2, 3.0, 0.99),
        network(1.2 * certify(network()).threshold),
    )


@functools.cache
def _theorem_problems() -> Setup:
    """As for the ball certificate, within the smaller range of this theorem."""
    random = (random_quadratic(seed, kappa, 0.97 / (12 * kappa)) for seed, kappa in ((3, 1.5), (4, 4.0), (6, 8.0)))
    return extremal(y=0.02), *random


@functools.cache
def _spectral_problems() -> Setup:
    """Sharp problems, and random maps close to the certified limit whose targets lie along the fast directions."""
    aligned = [aligned_quadratic(seed, kappa) for seed, kappa in ((0, 3.0), (1, 10.0), (2, 30.0))]
    near = (problem.at(certify_spectrum(problem).threshold / 0.97) for problem in aligned)
    return extremal(y=0.02), random_quadratic(5, 4.0, 0.1, True), *near


def _halved(problem: LazyProblem):
    certificate = certify(problem)
    bounds = ball_bounds(certificate)
    return certificate, replace(bounds, beta=bounds.beta / 2)


def _without_two(problem: LazyProblem):
    seen = problem.tangency
    beta = problem.smoothness(0.0).value / 2
    bounds = BallBounds(seen.sigma, beta, seen.residual, problem.alpha, seen.sigma_max, seen.distance)
    return certify(problem), bounds


def _misapplied(problem: LazyProblem):
    """The bounds of the theorem where its wrong condition is met."""
    seen = problem.tangency
    return certify_theorem(problem), TheoremBounds(seen.sigma, seen.sigma_max, seen.residual, problem.alpha)


def _squared(setup: Setup) -> str | None:
    r"""Misprinted: $\alpha \ge \beta\sqrt{1152\sigma_{max}^2\hat R_0}/\sigma_{min}^2$: its units are wrong."""
    for problem in problems(setup):
        seen = problem.tangency
        if problem.alpha < problem.smoothness(0.0).value * 24 * seen.sigma_max * seen.residual / seen.sigma_min**2:
            return "alpha is below the misprinted threshold"
    return None


def _linear_rate(certificate) -> dict[str, np.ndarray]:
    """The residual of the linearised model in the slowest direction."""
    problem = certificate.problem
    t = follow(problem).seconds
    return {"residual": problem.tangency.residual * np.exp(-((problem.alpha * problem.tangency.sigma) ** 2) * t)}


def _linear_distance(certificate) -> dict[str, np.ndarray]:
    """The distance of the linearised model, N."""
    problem = certificate.problem
    return {"distance": np.full(len(follow(problem).times), problem.tangency.distance)}


def _short_gap(certificate) -> dict[str, np.ndarray]:
    r"""$\frac\sigma{4\beta}q^2$, half of what the sharp example does."""
    bounds = certificate.bounds
    q = bounds.beta * float(bounds.path(math.inf)) / bounds.sigma
    return {"final gap": np.array([bounds.sigma / bounds.beta * q**2 / 4])}


def _reversed_gap(certificate) -> dict[str, np.ndarray]:
    """The gap times the drift b once too often."""
    bounds, count = certificate.bounds, len(follow(certificate.problem).times)
    return {"gap": np.full(count, bounds.b**2 * (bounds.a + bounds.p) / 2)}


def _altered(theorem, change) -> dict:
    """The sides of a wrong variant that replaces some of a theorem's bounds."""
    return held_against_flow(honest(theorem), change)._asdict()


_THEOREM = held_against_flow(honest(certify_theorem))
_BALL = held_against_flow(honest(certify))
_SPECTRAL = held_against_flow(honest(certify_spectrum))

THEOREM = Claim(
    id="LAZY-22",
    name="lazy-training-theorem",
    statement=(
        r"If $\alpha \ge \beta\sqrt{1152\,\sigma_{max}^2\hat R_0}/\sigma_{min}^3$, the gradient flow of "
        r"$\hat R = \frac12\|\alpha f(w) - y\|^2$ and its linearised twin both have risk at most "
        r"$\hat R_0e^{-\alpha^2\sigma_{min}^2t/2}$ and stay within "
        r"$\sqrt{72\,\sigma_{max}^2\hat R_0}/(\alpha\sigma_{min}^2)$ of the start."
    ),
    sources=("chizat2019lazy", "telgarsky2021deep"),
    setup=_theorem_problems,
    predict=_THEOREM.predict,
    measure=_THEOREM.measure,
    relation=AtMost(),
    assumptions=(certified_by(certify_theorem), followed),
    mutants=(
        Mutant(
            "sigma_min squared in place of cubed",
            {
                "setup": lambda: extremal(1e-3, 1e-6, 5.0),
                "assumptions": (_squared,),
                **held_against_flow(_misapplied)._asdict(),
            },
        ),
        Mutant("the rate of the linearised model", _altered(certify_theorem, _linear_rate)),
        Mutant("the distance of the linearised model", _altered(certify_theorem, _linear_distance)),
    ),
)

BALL = Claim(
    id="LAZY-C1",
    name="sharp-ball-certificate",
    statement=(
        r"If $h = 2\beta r_0/(\alpha\sigma_{min}^2) \le 1$, the gradient flow converges to an interpolator with "
        r"$\|r(t)\| \le r_0(1-h)/(e^{(1-h)\tau}-h)$, $\tau = \alpha^2\sigma_{min}^2t$ (at $h = 1$ its limit "
        r"$r_0/(1+\tau)$), on a path of length at most "
        r"$\rho_* = \frac{\sigma_{min}}{\beta}q$, $q = 1-\sqrt{1-h}$, keeps "
        r"$\lambda_{min}(K_t) \ge \sigma_{min}^2(1-h)$, and stays within "
        r"$\frac{\sigma_{min}}{\beta}[-q-\ln(1-q)+q^2/2]$ of its linearised twin; the first three bounds "
        r"are attained."
    ),
    sources=("bartlett2021deep", "oymak2019overparameterized"),
    setup=_ball_problems,
    predict=_BALL.predict,
    measure=_BALL.measure,
    relation=AtMost(),
    assumptions=(certified_by(certify), followed),
    mutants=(
        Mutant("half the Lipschitz constant", held_against_flow(_halved)._asdict()),
        Mutant(
            "h without the factor 2",
            {"setup": lambda: extremal(y=0.6), "assumptions": (), **held_against_flow(_without_two)._asdict()},
        ),
        Mutant("half the final gap", _altered(certify, _short_gap)),
    ),
    derived_here=True,
)

SPECTRAL = Claim(
    id="LAZY-C2",
    name="spectral-certificate",
    statement=(
        r"If some radius R has $R > N+b(a+p)$ with $b = \beta R/\sigma_{min}$, where $N, a, p$ come from the "
        r"integrated linearised flow, then for all times $\|w(t)-w_0\| \le R$, the path is at most $p$, "
        r"$\|w(t)-u(t)\| \le b(a+p)$ and $\sigma_{min}(J_t) \ge \sigma_{min}(1-b)$."
    ),
    sources=("chizat2019lazy",),
    setup=_spectral_problems,
    predict=_SPECTRAL.predict,
    measure=_SPECTRAL.measure,
    relation=AtMost(),
    assumptions=(certified_by(certify_spectrum), followed),
    mutants=(
        Mutant("the distance of the linearised model alone", _altered(certify_spectrum, _linear_distance)),
        Mutant("the rate of the linearised model", _altered(certify_spectrum, _linear_rate)),
        Mutant("the gap of third order", _altered(certify_spectrum, _reversed_gap)),
    ),
    derived_here=True,
)

CLAIMS = (THEOREM, BALL, SPECTRAL)
