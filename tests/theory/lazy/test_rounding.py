"""What is printed as certified stays true in exact arithmetic: every number against fifty digits, on hard problems."""

import functools
import math

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from widthwise.theory.lazy import (
    LazyProblem,
    certify,
    certify_descent,
    certify_sgd,
    certify_spectrum,
    certify_theorem,
    largest_step,
)
from widthwise.theory.lazy.lipschitz import quadratic
from widthwise.theory.lazy.maps import QuadraticMap

DIGITS = 50
SEEDS = range(8)


class Shifted(QuadraticMap):
    """A quadratic map, moved by ``start``: outputs and targets can cancel."""

    start: jnp.ndarray

    def __call__(self, w):
        return self.start + self.J0 @ w + 0.5 * jnp.einsum("ipq,p,q->i", self.B, w, w)


@functools.cache
def hard(seed):
    """Condition numbers to 1e10, curvature of any size, a start away from zero, and residuals that nearly cancel."""
    rng = np.random.default_rng(seed)
    n, p = [(1, 1), (1, 4), (2, 3), (3, 5)][seed % 4]
    U, V = np.linalg.qr(rng.normal(size=(n, n)))[0], np.linalg.qr(rng.normal(size=(p, n)))[0]
    J0 = (U * np.geomspace(1.0, 10.0 ** -rng.uniform(0, 10), n)) @ V.T * 10.0 ** rng.uniform(-3, 3)
    B = rng.normal(size=(n, p, p)) * 10.0 ** rng.uniform(-4, 1)
    B = 0.5 * (B + B.transpose(0, 2, 1))
    start = rng.normal(size=n) if seed % 3 else np.zeros(n)
    w0 = 1e-3 * rng.normal(size=p) if seed % 2 else np.zeros(p)
    f = Shifted(jnp.asarray(J0), jnp.asarray(B), jnp.asarray(start))
    y = np.asarray(f(jnp.asarray(w0))) + rng.normal(size=n) * 10.0 ** rng.uniform(-16, 0)
    return LazyProblem(f, w0, y, 1.0, quadratic(B))


def exact(array):
    return mpmath.matrix([[mpmath.mpf(float(x)) for x in row] for row in np.atleast_2d(array)])


class Exact:
    """The same problem in exact arithmetic, as the floating-point numbers in it define it."""

    def __init__(self, problem, alpha):
        f, self.alpha = problem.f, mpmath.mpf(alpha)
        w, n = exact(problem.w0).T, problem.y.size
        planes = [exact(plane) for plane in np.asarray(f.B)]
        rows = [(plane * w).T for plane in planes]
        J = exact(np.asarray(f.J0)) + mpmath.matrix([[row[j] for j in range(len(w))] for row in rows])
        curve = mpmath.matrix([(row * w)[0] / 2 for row in rows])
        f0 = exact(np.asarray(f.start)).T + exact(np.asarray(f.J0)) * w + curve
        self.r = self.alpha * f0 - exact(problem.y).T
        self.r0 = mpmath.norm(self.r)
        U, S, _ = mpmath.svd_r(J)
        self.values = [S[i] for i in range(n)]
        self.sigma, self.sigma_max = self.values[-1], self.values[0]
        self.c = [abs(mpmath.fsum(U[j, i] * self.r[j] for j in range(n))) for i in range(n)]
        flat = mpmath.matrix([[plane[i, j] for plane in planes for j in range(len(w))] for i in range(len(w))])
        self.beta = max(mpmath.svd_r(flat, compute_uv=False))
        self.h = 2 * self.beta * self.r0 / (self.alpha * self.sigma**2)
        self.N = mpmath.sqrt(mpmath.fsum((c / s) ** 2 for c, s in zip(self.c, self.values, strict=True))) / self.alpha


def certified_at(problem, theorem, factor) -> LazyProblem | None:
    """The problem at a multiple of the smallest alpha that is certified, if there is one."""
    threshold = theorem(problem).threshold
    return problem.at(factor * threshold) if 0 < threshold < math.inf else None


def cases(theorem, factors=(1.0, 1.0 + 1e-12, 1.001, 2.0, 100.0)):
    """Certified problems, with the same in exact arithmetic; at the threshold itself among others."""
    found = 0
    for seed in SEEDS:
        for factor in factors:
            problem = certified_at(hard(seed), theorem, factor)
            if problem is not None and (certificate := theorem(problem)).certified:
                found += 1
                yield problem, certificate, Exact(problem, problem.alpha)
    assert found >= 4


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(DIGITS):
        yield


def test_the_pieces_are_rounded_outwards():
    for seed in range(24):
        problem = hard(seed)
        seen, exact = problem.tangency, Exact(problem, 1.0)
        assert seen.sigma <= exact.sigma
        assert seen.sigma_top >= exact.sigma_max
        assert seen.residual_bound >= exact.r0
        assert problem.smoothness(0.0).value >= exact.beta
        low, high = seen.distance_range
        assert low <= exact.N <= high
        assert problem.h >= exact.h


def test_the_ball_certificate():
    """At the threshold too; the bounds at several times, and lower bounds from below."""
    for _, certificate, exact in cases(certify):
        bounds, h = certificate.demand(), exact.h
        assert h <= min(1, certificate.h)
        q = 1 - mpmath.sqrt(1 - h)
        unit, log = exact.sigma / exact.beta, -q - mpmath.log(1 - q) if q < 1 else mpmath.inf
        assert bounds.path(math.inf) >= unit * q
        assert bounds.gap(math.inf) >= unit * (log + q**2 / 2)
        assert bounds.final_gap >= unit * mpmath.sqrt(log**2 + q**4 / 4)
        assert bounds.smallest_singular_value(math.inf) <= exact.sigma * (1 - q)
        assert bounds.least_final_distance <= unit * (mpmath.sqrt(1 + 2 * exact.N / unit) - 1)
        fastest = exact.alpha**2 * (exact.sigma_max + exact.beta * unit * q) ** 2
        assert bounds.fastest_decay >= fastest
        for tau in (0.0, 1e-9, 0.1, 1.0, 30.0, 300.0):
            t = tau / float(exact.alpha * exact.sigma) ** 2
            time = (exact.alpha * exact.sigma) ** 2 * mpmath.mpf(t)
            residual = exact.r0 * (1 - h) / (mpmath.exp((1 - h) * time) - h)
            assert bounds.residual(t) >= residual
            gone = -mpmath.expm1(-fastest * mpmath.mpf(t))
            assert bounds.path(t) >= unit * (1 - mpmath.sqrt(1 - h * gone))
            least = exact.sigma * mpmath.sqrt(1 - h)
            to_go = (mpmath.sqrt(least**2 + 2 * exact.beta * residual / exact.alpha) - least) / exact.beta
            assert bounds.path_to_go(t) >= to_go


def test_the_classical_theorem():
    for _, certificate, exact in cases(certify_theorem):
        bounds = certificate.demand()
        right = exact.beta * mpmath.sqrt(576) * exact.sigma_max * exact.r0 / exact.sigma**3
        assert exact.alpha >= right
        assert bounds.path(1.0) >= 6 * exact.sigma_max * exact.r0 / (exact.alpha * exact.sigma**2)
        for tau in (0.0, 1.0, 100.0):
            t = tau / float(exact.alpha * exact.sigma) ** 2
            assert bounds.residual(t) >= exact.r0 * mpmath.exp(-((exact.alpha * exact.sigma) ** 2) * mpmath.mpf(t) / 4)


@pytest.mark.slow
def test_gradient_descent():
    """The constants hold on the ball that M belongs to, and the path stays strictly within it."""
    for problem, _, exact in cases(certify, factors=(1.3,)):
        largest = largest_step(problem, problem.smoothness)
        for part in (1e-3, 0.5, 1.0):
            bounds = certify_descent(problem, part * largest).demand()
            R = (mpmath.mpf(bounds.M) / exact.alpha - exact.sigma_max) / exact.beta
            eta, M = mpmath.mpf(bounds.step), exact.alpha * (exact.sigma_max + exact.beta * R)
            c, beta, sigma = 1 - eta * M**2 / 2, exact.alpha * exact.beta, exact.alpha * exact.sigma
            sigma_e = sigma - eta**2 * M**3 * beta * exact.r0 / (4 * c)
            h = 2 * beta * exact.r0 / (c * sigma_e**2)
            assert c > 0
            assert sigma_e > 0
            assert h <= min(1, bounds.h)
            rho = sigma_e / beta * (1 - mpmath.sqrt(1 - h))
            assert rho < R
            assert bounds.radius >= rho
            rate = 1 - eta * (sigma - beta * rho) ** 2 * (c - beta * eta * exact.r0 / 2)
            assert bounds.rate >= rate
            for k in (0, 1, 1000):
                assert bounds.residual(k) >= exact.r0 * rate**k


def test_stochastic_gradient_descent():
    for problem, _, exact in cases(certify, factors=(1e3, 1e6)):
        certificate = certify_sgd(problem)
        if certificate.certified:
            bounds = certificate.demand()
            least = exact.alpha * (exact.sigma - exact.beta * mpmath.mpf(bounds.radius))
            assert bounds.sigma <= least
            assert exact.alpha * (exact.sigma_max + exact.beta * mpmath.mpf(bounds.radius)) <= bounds.M
            assert bounds.rate >= 1 - mpmath.mpf(bounds.step) * bounds.sigma**2


@pytest.mark.slow
def test_the_spectral_certificate():
    """Its inequality in exact arithmetic, with the integrals by adaptive quadrature."""
    for seed in (6, 18, 30, 42):  # two outputs that start at zero, so that some alpha is certified
        problem = certified_at(hard(seed), certify_spectrum, 1.0)
        assert problem
        bounds, exact = certify_spectrum(problem).demand(), Exact(problem, problem.alpha)
        a, p, N, b = spectral(exact, mpmath.mpf(bounds.radius))
        assert mpmath.mpf(bounds.radius) > N + b * (a + p)
        assert bounds.p >= p
        assert bounds.gap(1.0) >= b * (a + p)
        assert bounds.smallest_singular_value(1.0) <= exact.sigma * (1 - b)


def spectral(exact, R):
    """a, p, N and b of LAZY-C2."""
    alpha, sigma = exact.alpha, exact.sigma
    pairs = list(zip(exact.values, exact.c, strict=True))

    def integral(power):
        def norm(x):
            t = mpmath.exp(x)
            parts = [(s**power * mpmath.exp(-(s**2) * t) * c) ** 2 for s, c in pairs]
            return t * mpmath.sqrt(mpmath.fsum(parts))

        low, high = -2 * mpmath.log(exact.sigma_max) - 50, -2 * mpmath.log(sigma) + 6
        return mpmath.quad(norm, mpmath.linspace(low, high, 60))

    with mpmath.workdps(20):
        A, P = sigma * integral(0) / alpha, integral(1) / alpha
    kappa, b = exact.sigma_max / sigma, exact.beta * R / sigma
    c1, c2 = 2 / mpmath.sqrt(mpmath.e) - (2 / mpmath.sqrt(mpmath.e) - 1) / kappa, 1 + 2 / mpmath.e * mpmath.log(kappa)
    slack = 1 - b * c1
    delta = slack**2 - b**2 * (c2 + 1)
    assert slack > 0
    assert delta > 0
    return (slack * A + b * P) / delta, (slack * P + b * (c2 + 1) * A) / delta, exact.N, b
