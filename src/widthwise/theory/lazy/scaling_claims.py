r"""How the factor $\alpha$ decides about laziness, and what the Jacobian keeps within a ball."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from .curvature import second_derivative
from .examples import extremal, random_quadratic
from .lipschitz import MARGIN
from .maps import Scaled
from .problem import LazyProblem
from .setups import Setup, certified_constant, problems, stack

_ALPHAS = (1.0, 10.0, 1e3, 1e6)


@functools.cache
def _uncentred() -> LazyProblem:
    """A random quadratic map away from its zero."""
    return random_quadratic(7, 3.0, 0.5).moved(0.3 * np.ones(7))


def laziness(problem: LazyProblem, alpha: float, *, f0: Float[np.ndarray, " n"], beta: float) -> float:
    r"""$h(\alpha) = 2\beta\|f_0-y/\alpha\|/\sigma_{min}^2$, which tends to $2\beta\|f_0\|/\sigma_{min}^2$."""
    return 2 * beta * float(np.linalg.norm(f0 - problem.y / alpha)) / problem.tangency.sigma_min**2


def _predicted(problem: LazyProblem, centred: bool = False, shrink: float = 0.5**0.5) -> np.ndarray:
    """The index of the problem as it is, centred and mirrored, for every alpha."""
    beta, f0 = problem.smoothness(0.0).value, np.asarray(problem.tangency.f0)
    start = 0.0 * f0 if centred else f0
    rows = [laziness(problem, alpha, f0=start, beta=beta) for alpha in _ALPHAS]
    rows += [laziness(problem, alpha, f0=0.0 * f0, beta=beta) for alpha in _ALPHAS]
    return np.array(rows + [laziness(problem, alpha, f0=0.0 * f0, beta=shrink * beta) for alpha in _ALPHAS])


def _scaling(predicted: Callable[[LazyProblem], np.ndarray]) -> Callable[[Setup], Estimate]:
    def predict(setup: Setup) -> Estimate:
        value = stack(predicted(problem) for problem in problems(setup))
        # Singular values and second derivatives are right to their rounding, here amplified by the condition number.
        kappa = max(problem.tangency.kappa for problem in problems(setup))
        return Estimate(value, 1e-12 * kappa**2 * np.abs(value))

    return predict


def _measured_index(setup: Setup, key: Array) -> np.ndarray:
    """The index of the problem of F = alpha f with factor 1, everything taken from F itself."""
    found = []
    for problem in problems(setup):
        along = np.asarray(jr.normal(key, problem.w0.shape))
        for variant in (problem, problem.centred(), problem.mirrored()):
            found += [_index(problem, variant, alpha, along) for alpha in _ALPHAS]
    return np.array(found)


def _index(problem: LazyProblem, variant: LazyProblem, alpha: float, along: np.ndarray) -> float:
    F = Scaled(variant.f, jnp.asarray(alpha))
    w0, u = jnp.asarray(variant.w0), jnp.asarray(along)
    other = jnp.concatenate([u, 0.0 * u]) if variant.w0.size > u.size else u
    residual, s, bent = (np.asarray(part) for part in _pieces(F, w0, jnp.asarray(variant.y), other))
    once = np.linalg.norm(np.asarray(_pieces(problem.f, jnp.asarray(problem.w0), jnp.asarray(problem.y), u)[2]))
    growth = float(np.linalg.norm(bent) / once) if once else alpha
    beta = problem.smoothness(0.0).value * growth
    return float(2 * beta * np.linalg.norm(residual) / s[-1] ** 2)


@eqx.filter_jit
def _pieces(F: Callable, w0: Array, y: Array, u: Array) -> tuple[Array, Array, Array]:
    return F(w0) - y, singular_values(jax.jacrev(F)(w0)), second_derivative(F, w0, u)


SCALING = Claim(
    id="LAZY-18",
    name="alpha-scaling",
    statement=(
        r"For the model $\alpha f$ everything depends on $h(\alpha) = 2\beta\|f(w_0)-y/\alpha\|/\sigma_{min}^2$, which "
        r"tends to $2\beta\|f(w_0)\|/\sigma_{min}^2$: a large $\alpha$ is lazy only for outputs that start at zero, as "
        r"centred outputs $f(w)-f(w_0)$ do, and mirrored networks $(f(w)-f(w'))/\sqrt2$, which have the Lipschitz "
        r"constant $\beta/\sqrt2$."
    ),
    sources=("chizat2019lazy",),
    setup=_uncentred,
    predict=_scaling(_predicted),
    measure=_measured_index,
    relation=Equal(),
    assumptions=(certified_constant,),
    mutants=(
        Mutant("alpha alone makes lazy", {"predict": _scaling(lambda problem: _predicted(problem, centred=True))}),
        Mutant("a mirrored network keeps beta", {"predict": _scaling(lambda problem: _predicted(problem, shrink=1.0))}),
    ),
)


def half_radius(problem: LazyProblem) -> float:
    r"""A large $B$ with $B\beta(B) \le \sigma_{min}/2$: within it the smallest singular value at most halves.

    $\frac{\sigma_{min}}{2\beta}$ for a constant $\beta$.

    >>> round(half_radius(extremal(1.0, 0.25)), 6)
    2.0
    """
    sigma, profile = problem.tangency.sigma, problem.smoothness
    high = sigma / (2 * profile(0.0).value) if profile(0.0).value else 1.0
    fits = [k for k in np.linspace(1.0, 0.0, 65) if k * high * profile(k * high).value <= sigma / 2 * MARGIN]
    return float(fits[0] * high)


# Fractions of the radius at which points are taken: two on the worst directions, six on random ones.
_FRACTIONS = (1.0, 1.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def _ball_bounds(problem: LazyProblem, factor: float = 0.5, quadratic: bool = True) -> np.ndarray:
    seen, radius = problem.tangency, 2 * factor * half_radius(problem)
    beta = problem.smoothness(radius).value
    drift = beta * radius * np.array(_FRACTIONS)
    kernel = 2 * seen.sigma_max * drift + (drift**2 if quadratic else 0.0)
    return stack([1 / (seen.sigma * np.maximum(0.5, 1 - drift / seen.sigma)), seen.sigma_max + drift, kernel])


def _predict_ball(**wrong) -> Callable[[Setup], Estimate]:
    def predict(setup: Setup) -> Estimate:
        value = stack(_ball_bounds(problem, **wrong) for problem in problems(setup))
        return Estimate(value, 1e-11 * np.abs(value))

    return predict


def _measure_ball(setup: Setup, key: Array, factor: float = 0.5) -> np.ndarray:
    rows = []
    for problem in problems(setup):
        radius, J0 = 2 * factor * half_radius(problem), jnp.asarray(problem.tangency.J0)
        found = _in_ball(problem.f, jnp.asarray(problem.w0), J0, radius * jnp.asarray(_FRACTIONS), key)
        rows += [1 / np.asarray(found[0]), *map(np.asarray, found[1:])]
    return stack(rows)


@eqx.filter_jit
def _in_ball(f: Callable, w0: Array, J0: Array, radii: Array, key: Array) -> tuple[Array, Array, Array]:
    """Extreme singular values and the kernel's drift, at the worst points to first order and at random ones."""
    U, _, Vt = jnp.linalg.svd(J0, full_matrices=False)
    directions = jr.normal(key, (radii.size, w0.size))
    for row, end, sign in ((0, -1, -1.0), (1, 0, 1.0)):
        worst = sign * jax.grad(lambda w, end=end: U[:, end] @ jax.jvp(f, (w,), (Vt[end],))[1])(w0)
        directions = directions.at[row].set(worst)
    norms = jnp.linalg.norm(directions, axis=1)
    directions = directions / jnp.where(norms > 0, norms, 1.0)[:, None]

    def one(pair):
        J = jax.jacrev(f)(w0 + pair[0] * pair[1])
        D = J - J0
        change = D @ J0.T
        s = singular_values(J)
        return s[-1], s[0], jnp.max(jnp.abs(jnp.linalg.eigvalsh(change + change.T + D @ D.T)))

    return jax.lax.map(one, (radii, directions))


def _balls() -> Setup:
    """Two problems in which a bound is an equality, and random maps."""
    return extremal(), extremal(1.0, -1.0, others=0.5), random_quadratic(1, 4.0, 0.9), random_quadratic(8, 10.0, 0.5)


def singular_values(J: Float[Array, "n p"]) -> Float[Array, " k"]:
    """The singular values of a wide matrix, by QR first."""
    return jnp.linalg.svd(jnp.linalg.qr(J.T, mode="r"), compute_uv=False)


BALL_LEMMA = Claim(
    id="LAZY-21",
    name="jacobian-in-a-ball",
    statement=(
        r"Within $B = \sigma_{min}/(2\beta)$ of the start $\sigma_{min}(J_w) \ge \sigma_{min}/2$ and "
        r"$\sigma_{max}(J_w) \le \sigma_{max}+\sigma_{min}/2$; in general the singular values move by at most "
        r"$\beta\rho$ and $\|K_w-K_0\| \le 2\sigma_{max}\beta\rho+\beta^2\rho^2$ at distance $\rho$."
    ),
    sources=("telgarsky2021deep", "bartlett2021deep"),
    setup=_balls,
    predict=_predict_ball(),
    measure=_measure_ball,
    relation=AtMost(),
    assumptions=(certified_constant,),
    mutants=(
        Mutant(
            "the radius doubled",
            {
                "predict": _predict_ball(factor=1.0),
                "measure": functools.partial(_measure_ball, factor=0.95),
            },
        ),
        Mutant("the kernel's drift without its square", {"predict": _predict_ball(quadratic=False)}),
    ),
    draws=4,
)

CLAIMS = (SCALING, BALL_LEMMA)
