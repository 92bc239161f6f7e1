"""Ten thousand quadratic maps, random and then bred to break the certificates: no certified bound is ever exceeded.

Legend: arrays have the maps along their last axis; n = 3 outputs, p = 6 parameters, slowest singular value 1.
"""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.theory.lazy import (
    BallBounds,
    DescentBounds,
    LazyProblem,
    Shallow,
    Smoothness,
    SpectralBounds,
    certify,
    compare,
    shallow_problem,
)
from widthwise.theory.lazy.lipschitz import MARGIN
from widthwise.theory.lazy.spectral import integrals, smallest_ball

N, P = 3, 6
TIMES = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 6.0])
SLOW = 0.025
EPS = float(np.finfo(float).eps)


@dataclass
class Maps:
    """f = J0 w + w B w/2 from w = 0 towards y; ``h`` is that of the certificate."""

    J0: np.ndarray
    B: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, J0, B, direction, h):
        """With the targets of the size that gives this h."""
        one = cls(J0, B, direction / np.linalg.norm(direction, axis=0))
        one.y = one.y * h * one.sigma**2 / (2 * one.beta)
        return one

    def held(self):
        """The same with its numbers computed once."""
        names = ("sigma", "top", "beta", "r0")
        return SimpleNamespace(J0=self.J0, B=self.B, y=self.y, **{name: getattr(self, name) for name in names})

    @property
    def values(self):
        return np.linalg.svd(np.moveaxis(self.J0, -1, 0), compute_uv=False)

    @property
    def sigma(self):
        return self.values[:, -1] - 10 * N * EPS * self.values[:, 0]

    @property
    def top(self):
        return self.values[:, 0] * (1 + 10 * N * EPS)

    @property
    def beta(self):
        unfolded = np.moveaxis(self.B, (1, 0, 2, 3), (1, 2, 3, 0)).reshape(-1, P, N * P)
        return MARGIN * np.linalg.norm(unfolded, 2, axis=(1, 2))

    @property
    def r0(self):
        return np.linalg.norm(self.y, axis=0) * (1 + 10 * N * EPS)


def draw(rng, count, largest_h=1.0):
    """Half along the slowest direction, a third with the curvature that makes the bounds attained, and all between."""
    U = np.linalg.qr(rng.normal(size=(count, N, N)))[0]
    V = np.linalg.qr(rng.normal(size=(count, P, N)))[0]
    s = np.sort(np.exp(rng.uniform(size=(count, N)) * math.log(3.0)), axis=1)[:, ::-1]
    s = s / s[:, -1:]
    J0 = np.einsum("cij,cj,ckj->ikc", U, s, V)
    B = rng.normal(size=(N, P, P, count))
    B = B + B.transpose(0, 2, 1, 3)
    sharp = -np.einsum("ci,cj,ck->ijkc", U[:, :, -1], V[:, :, -1], V[:, :, -1])
    mix = rng.choice([0.0, 1.0, -1.0], size=count) * rng.choice([0.3, 3.0, 100.0], size=count)
    B = B / np.sqrt(np.sum(B**2, axis=(0, 1, 2))) + mix * sharp
    direction = np.where(rng.uniform(size=count) < 0.5, U[:, :, -1].T, rng.normal(size=(N, count)))
    h = largest_h * (1 - 10 ** -rng.uniform(0.05, 5, size=count))
    return Maps.of(J0, B, direction, h)


def bred(rng, maps, order, count):
    """Children of those that came nearest to their bounds."""
    parents = rng.choice(order[:100], size=count)
    size = 10 ** -rng.uniform(1, 4, size=count)
    B = maps.B[..., parents]
    noise = rng.normal(size=B.shape)
    B = B + size * np.sqrt(np.sum(B**2, axis=(0, 1, 2))) * (noise + noise.transpose(0, 2, 1, 3)) / (2 * P)
    J0 = maps.J0[..., parents] + size * rng.normal(size=(N, P, count))
    direction = maps.y[:, parents] / np.linalg.norm(maps.y[:, parents], axis=0) + size * rng.normal(size=(N, count))
    return Maps.of(J0, B, direction, 1 - 10 ** -rng.uniform(0.5, 6, size=count))


def residual_and_jacobian(J0, B, y, w):
    J = J0 + jnp.sum(B * w[None, None], axis=2)
    return 0.5 * jnp.sum((J0 + J) * w[None], axis=1) - y, J


@jax.jit
def flow(J0, B, y, dt):
    """Runge-Kutta of order 4 for the flow and the length of its path, seen at multiples of SLOW."""

    def field(state):
        r, J = residual_and_jacobian(J0, B, y, state[0])
        velocity = -jnp.sum(J * r[:, None], axis=0)
        return velocity, jnp.linalg.norm(velocity, axis=0)

    def moved(state, slope, size):
        return tuple(part + size * change for part, change in zip(state, slope, strict=True))

    def advance(_, state):
        a = field(state)
        b = field(moved(state, a, dt / 2))
        c = field(moved(state, b, dt / 2))
        d = field(moved(state, c, dt))
        slope = tuple((one + 2 * two + 2 * three + four) / 6 for one, two, three, four in zip(a, b, c, d, strict=True))
        return moved(state, slope, dt)

    def until(state, count):
        state = jax.lax.fori_loop(0, count, advance, state)
        r, J = residual_and_jacobian(J0, B, y, state[0])
        return state, (*state, r, J)

    counts = jnp.round(jnp.diff(jnp.concatenate([jnp.zeros(1), TIMES])) / dt).astype(int)
    return jax.lax.scan(until, (jnp.zeros(J0.shape[1:]), jnp.zeros(J0.shape[-1])), counts)[1]


def followed(maps):
    """w (times, p, maps), path, r and J, extrapolated from two step sizes, and the error of w that is left."""
    data = [jnp.asarray(part) for part in (maps.J0, maps.B, maps.y)]
    coarse, fine = ([np.asarray(part) for part in flow(*data, jnp.asarray(dt))] for dt in (SLOW, SLOW / 2))
    w, path, r, J = (two + (two - one) / 15 for one, two in zip(coarse, fine, strict=True))
    error = np.linalg.norm(coarse[0] - fine[0], axis=1) + np.abs(coarse[1] - fine[1])
    return (
        w,
        path,
        np.linalg.norm(r, axis=1),
        np.linalg.svd(np.moveaxis(J, -1, 1), compute_uv=False)[..., -1],
        error / 15,
    )


def twin(maps):
    """u(t) of the linearised flow, (times, p, maps)."""
    U, s, Vt = np.linalg.svd(np.moveaxis(maps.J0, -1, 0), full_matrices=False)
    c = np.einsum("cij,ic->cj", U, maps.y)
    parts = -np.expm1(-(s**2) * TIMES[:, None, None]) / s * c
    return np.einsum("tcj,cjp->tpc", parts, Vt)


def ball_bounds(maps, factor=1.0):
    numbers = zip(maps.sigma, factor * maps.beta, maps.r0, maps.top, strict=True)
    return [BallBounds(float(a), float(b), float(r), 1.0, float(top)) for a, b, r, top in numbers]


def ratios(maps, factor=1.0):
    """The largest measured/bound of each map, with what the integration may have added taken off."""
    w, path, residual, least, error = followed(maps)
    found = ball_bounds(maps, factor)
    over = {
        name: np.stack([getattr(one, name)(TIMES) for one in found], axis=1) for name in ("residual", "path", "gap")
    }
    sigma = np.stack([one.smallest_singular_value(TIMES) for one in found], axis=1)
    rounding = error + 1e-13 * path
    gap = np.linalg.norm(w - twin(maps), axis=1)
    slope = maps.top + maps.beta * path
    return {
        "residual": np.max((residual - slope * rounding) / over["residual"], axis=0),
        "path": np.max((path - rounding) / over["path"], axis=0),
        "gap": np.max((gap - rounding) / over["gap"], axis=0),
        "sigma": np.max(sigma / (least + maps.beta * rounding + 1e-14 * maps.top), axis=0),
    }, np.max(error / path)


def attacked(count, generations):
    rng = np.random.default_rng(0)
    maps, worst = draw(rng, count), {}
    for _ in range(generations):
        found, error = ratios(maps)
        assert error < 1e-5
        worst = {name: max(worst.get(name, 0.0), float(one.max())) for name, one in found.items()}
        order = np.argsort(-np.max([found[name] for name in ("path", "gap", "sigma")], axis=0))
        maps = bred(rng, maps, order, count)
    return worst


def check_attack(worst):
    assert max(worst.values()) <= 1.0
    assert worst["residual"] > 0.99
    assert worst["path"] > 0.9
    assert worst["sigma"] > 0.9
    assert worst["gap"] > 0.3


def test_the_ball_certificate_quickly():
    check_attack(attacked(400, 2))


@pytest.mark.slow
def test_the_ball_certificate_against_ten_thousand_maps():
    check_attack(attacked(2500, 4))


def test_half_the_lipschitz_constant_is_caught():
    found, _ = ratios(draw(np.random.default_rng(1), 200), factor=0.5)
    assert all((one > 1.0).sum() > 5 for name, one in found.items() if name != "gap")


def on_ball(maps, r0, step, R):
    """LAZY-C5 with the constants of balls of these radii: path, smallest singular value and rate; infinite paths."""
    with np.errstate(all="ignore"):
        M = maps.top + maps.beta * R
        c = 1 - step * M**2 / 2
        e = c * maps.sigma - step**2 * M**3 * maps.beta * r0 / 4
        h = 2 * maps.beta * r0 * c / e**2
        path = np.where((c > 0) & (e > 0) & (h <= 1), 2 * r0 / (e * (1 + np.sqrt(1 - h))), np.inf)
        least = maps.sigma - maps.beta * path
        return path, least, 1 - step * least**2 * (c - maps.beta * step * r0 / 2)


def descent_bounds(maps, step):
    """For all maps at once; targets are made smaller until it applies. The factors on them, and the bounds."""
    factor, R = np.ones(len(step)), np.full(len(step), np.inf)
    for _ in range(60):
        open_, trial = ~np.isfinite(R), np.zeros(len(step))
        for k in range(60):
            path = on_ball(maps, factor * maps.r0, step, trial)[0]
            R = np.where(open_ & (path < trial), trial, R)
            trial = path * (1 + 1e-13 * 1.6**k)
        factor = np.where(np.isfinite(R), factor, 0.7 * factor)
    assert np.all(np.isfinite(R))
    return factor, R, on_ball(maps, factor * maps.r0, step, R)


@jax.jit
def descended(J0, B, y, step):
    def advance(state, _):
        w, path = state
        r, J = residual_and_jacobian(J0, B, y, w)
        move = step[None] * jnp.sum(J * r[:, None], axis=0)
        return (w - move, path + jnp.linalg.norm(move, axis=0)), (jnp.linalg.norm(r, axis=0), path)

    start = jnp.zeros(J0.shape[1:]), jnp.zeros(J0.shape[-1])
    (w, path), (residual, _) = jax.lax.scan(advance, start, length=150)
    return path, residual, residual_and_jacobian(J0, B, y, w)[1]


def descent_ratios(count, seed):
    rng = np.random.default_rng(seed)
    maps = draw(rng, count).held()
    step = rng.uniform(0.02, 1.95, size=count) / maps.top**2
    factor, R, (radius, sigma, rate) = descent_bounds(maps, step)
    for at in range(20):  # the package says the same
        numbers = (
            step[at],
            maps.sigma[at],
            maps.beta[at],
            factor[at] * maps.r0[at],
            maps.top[at] + maps.beta[at] * R[at],
        )
        one = DescentBounds(*map(float, numbers))
        assert np.allclose((one.radius, one.least_sigma, one.rate), (radius[at], sigma[at], rate[at]), rtol=1e-12)
    data = [jnp.asarray(part) for part in (maps.J0, maps.B, maps.y * factor, step)]
    path, residual, J = (np.asarray(part) for part in descended(*data))
    least = np.linalg.svd(np.moveaxis(J, -1, 0), compute_uv=False)[:, -1]
    seen = residual[:-1] > 1e-4 * residual[0]
    ratio = np.max(np.where(seen, residual[1:] / np.maximum(residual[:-1], 1e-300), 0.0), axis=0)
    return {
        "path": path * (1 - 1e-12) / radius,
        "rate": (ratio - 1e-11) / rate,
        "sigma": sigma / (least + 1e-14 * maps.top),
    }


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_gradient_descent(count):
    worst = {name: float(one.max()) for name, one in descent_ratios(count, 2).items()}
    assert max(worst.values()) <= 1.0
    assert worst["path"] > 0.6
    assert worst["rate"] > 0.98


def spectral_bounds(maps, at):
    """LAZY-C2 of one map, or None where it does not apply."""
    J0, constant = jnp.asarray(maps.J0[..., at]), Smoothness(float(maps.beta[at]), certified=True)
    problem = LazyProblem(lambda w: J0 @ w, np.zeros(P), maps.y[:, at])
    seen = problem.tangency
    found = smallest_ball(seen.sigma, integrals(problem), constant, seen.rounding)
    if found is None:
        return None
    R, b, a, p = found
    return SpectralBounds(seen.sigma, seen.residual_bound, 1.0, b, a, p, R)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_the_spectral_certificate(count):
    maps = draw(np.random.default_rng(3), count, largest_h=0.15)
    w, path, residual, least, error = followed(maps)
    gap, certified = np.linalg.norm(w - twin(maps), axis=1), 0
    for at in range(count):
        bounds = spectral_bounds(maps, at)
        if bounds is not None:
            certified += 1
            wrong = error[:, at] + 1e-13 * path[:, at]
            assert np.all(np.linalg.norm(w[..., at], axis=1) <= bounds.radius + wrong)
            assert np.all(path[:, at] <= bounds.path(TIMES) + wrong)
            assert np.all(gap[:, at] <= bounds.gap(TIMES) + wrong)
            assert np.all(residual[:, at] <= bounds.residual(TIMES) + 10 * wrong)
            assert np.all(least[:, at] >= bounds.smallest_singular_value(TIMES) - maps.beta[at] * wrong - 1e-14)
    assert certified >= count / 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_small_networks(name):
    """At the edge of what is certified, with targets along the slowest direction and along any."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, half = rng.normal(size=(3, 4)), rng.normal(size=(8, 4))
        net = Shallow(jnp.asarray(np.tile(half, (2, 1))), jnp.repeat(jnp.array([1.0, -1.0]), 8), activation(name), 0.25)
        base = shallow_problem(net, X, rng.normal(size=3))
        for y in (base.y, base.tangency.U[:, -1]):
            problem = shallow_problem(net, X, y)
            problem = problem.at(1.0001 * certify(problem).threshold)
            for one in compare(certify(problem)):
                assert np.all(one.measured <= one.bound + one.error), f"{problem}: {one}"
