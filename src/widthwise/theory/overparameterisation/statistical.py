r"""The lazy-training theorem of Bartlett, Montanari and Rakhlin, its bounds, and its proof as traces along a flow.

Legend: as in ``widthwise.theory.lazy.problem``: $r = \alpha f(w) - y$, J the Jacobian of f, with singular values
$\sigma_{min} \le \sigma_{max}$ at the start and Lipschitz constant $\beta$ (their $L_n$), $h = \frac{2\beta
r_0}{\alpha\sigma_{min}^2}$; $u$ the linearised flow. Times are those of the loss $\frac12\|r\|^2$; theirs, of
$\frac1{2n}\|r\|^2$, run n times slower.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.theory.lazy import AbstractBounds, Certificate, LazyProblem, Smoothness
from widthwise.theory.lazy.bounds import Numbers
from widthwise.theory.lazy.certificates import by_ball
from widthwise.theory.lazy.problem import kept

from .flows import solve


class StatisticalBounds(AbstractBounds):
    r"""The bounds of the theorem, with the constants of the paper; all of them follow from LAZY-C1 with room.

    >>> bounds = StatisticalBounds(sigma=1.0, sigma_max=2.0, beta=0.2, r0=1.0, alpha=1.0)
    >>> float(bounds.distance(1.0)), float(bounds.gap(1.0)), round(float(bounds.residual(4.0)), 6)
    (2.0, 67.2, 0.367879)
    """

    sigma: float
    sigma_max: float
    beta: float
    r0: float
    alpha: float

    def residual(self, t: ArrayLike) -> Numbers:
        r"""$r_0e^{-\alpha^2\sigma_{min}^2t/4}$; in the clock of the mean, risks like $e^{-\sigma_{min}^2t/(2n)}$."""
        return self.r0 * np.exp(-((self.alpha * self.sigma) ** 2) * np.asarray(t, dtype=float) / 4)

    def path(self, t: ArrayLike) -> Numbers:
        r"""$\frac{2r_0}{\alpha\sigma_{min}}$."""
        return np.full(np.shape(t), 2 * self.r0 / (self.alpha * self.sigma))

    def distance(self, t: ArrayLike) -> Numbers:
        """The bound on the path."""
        return self.path(t)

    def gap(self, t: ArrayLike) -> Numbers:
        r"""The smaller of ``first_order`` and ``second_order``."""
        return np.full(np.shape(t), min(self.first_order, self.second_order))

    @property
    def first_order(self) -> float:
        r"""$\frac{32\sigma_{max}r_0}{\alpha\sigma_{min}^2}+\frac{16\beta r_0^2}{\alpha^2\sigma_{min}^3}$.

        The first term stays at any width.
        """
        drift = 16 * self.beta * self.r0**2 / (self.alpha**2 * self.sigma**3)
        return 32 * self.sigma_max * self.r0 / (self.alpha * self.sigma**2) + drift

    @property
    def second_order(self) -> float:
        r"""$\frac{180\beta\sigma_{max}^2r_0^2}{\alpha^2\sigma_{min}^5}$."""
        return 180 * self.beta * (self.sigma_max * self.r0 / self.alpha) ** 2 / self.sigma**5

    def smallest_singular_value(self, t: ArrayLike) -> Numbers:
        r"""$\frac{\sigma_{min}}2$."""
        return np.full(np.shape(t), self.sigma / 2)

    def prediction_gap(self, gradients: Float[np.ndarray, " q"], betas: Float[np.ndarray, " q"]):
        r"""$\frac{r_0^2}\alpha\{\frac{4\beta_x}{\sigma_{min}^2}+\frac{180\|\nabla
        f\|\beta\sigma_{max}^2}{\sigma_{min}^5}\}$.

        It bounds $|\alpha f(x;w)-\alpha f^{lin}(x;u)|$ at an input x.

        For a distribution P of inputs the same holds with norms and Lipschitz constants in $L^2(P)$; here P is one x.
        """
        drift = 180 * gradients * self.beta * self.sigma_max**2 / self.sigma**5
        return self.r0**2 / self.alpha * (4 * betas / self.sigma**2 + drift)


def certify_statistical(problem: LazyProblem) -> Certificate:
    r"""The lazy-training theorem of Bartlett, Montanari and Rakhlin (LAZY-27), for $h \le \frac12$.

    That is $\beta r_0 \le \frac\alpha4\sigma_{min}^2$, with the Lipschitz constant of the ball of radius
    $\frac{2r_0}{\alpha\sigma_{min}}$. Source: bartlett2021deep.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> print(certify_statistical(extremal(y=0.2)))
    LAZY-27: certified, h = 0.4; the parameters move by at most 0.4
    >>> print(certify_statistical(extremal(y=0.3)).reason)
    alpha = 1 is below the threshold 1.2 (h = 0.6)
    """
    return by_ball("LAZY-27", problem, 0.5, lambda _: 2.0, outward)


def outward(problem: LazyProblem, beta: float) -> StatisticalBounds:
    """The bounds with this Lipschitz constant, and with what rounding may have taken off the other numbers."""
    seen = problem.tangency
    return StatisticalBounds(seen.sigma, seen.sigma_top, beta, seen.residual_bound, problem.alpha)


@dataclass(frozen=True, eq=False)
class Trace:
    r"""What the proof speaks of, at k times of a flow, the first of them 0.

    ``seconds``; ``residual`` $\|r\|$; ``distance``; ``path``; ``gap`` $\|w-u\|$; ``sigma_min`` that of $J_t$;
    ``drift`` $\|J_t-J_0\|$; ``train_gap`` $\|\alpha f(w)-\alpha f^{lin}(u)\|$; ``test_gap`` (k, q) that of every
    test input and ``test_gradients`` (q,) $\|\nabla f(x; w_0)\|$; ``dissipation`` $\|\dot w\|^2$; ``departure``
    $\frac d{dt}\|w-u\|$, from the two velocities; ``error``: of a displacement, by the integration.
    """

    seconds: Float[np.ndarray, " k"]
    residual: Float[np.ndarray, " k"]
    distance: Float[np.ndarray, " k"]
    path: Float[np.ndarray, " k"]
    gap: Float[np.ndarray, " k"]
    sigma_min: Float[np.ndarray, " k"]
    drift: Float[np.ndarray, " k"]
    train_gap: Float[np.ndarray, " k"]
    test_gap: Float[np.ndarray, "k q"]
    test_gradients: Float[np.ndarray, " q"]
    dissipation: Float[np.ndarray, " k"]
    departure: Float[np.ndarray, " k"]
    error: float

    def potential(self, slope: float) -> Float[np.ndarray, " k"]:
        r"""$\|r\| + c\|w-w_0\|$: for $c = \frac{\alpha\sigma_{min}}2$ it does not rise within `radius` of the start."""
        return self.residual + slope * self.distance


@kept
def trace(problem: LazyProblem, times: tuple[float, ...] | None = None) -> Trace:
    """Follow a problem's flow and measure what the proof uses.

    ``times`` are in units of 1/rate and begin with 0, by default 0 and the problem's own. Raises ``ValueError`` for
    times that do not rise, ``RuntimeError`` for a flow that does not get to its end.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> seen = trace(extremal(beta=0.3, y=1.0))
    >>> float(seen.distance[0]), round(float(seen.distance[-1]), 3), round(float(seen.sigma_min[-1]), 3)
    (0.0, 1.223, 0.633)
    """
    times = (0.0, *problem.times) if times is None else times
    seconds, seen, alpha = np.asarray(times, dtype=float) / problem.rate, problem.tangency, problem.alpha
    unit = seen.residual_bound / (alpha * seen.sigma_max)
    with jax.enable_x64(True):
        w0, y, factor = jnp.asarray(problem.w0), jnp.asarray(problem.y), jnp.asarray(alpha)

        def field(v: np.ndarray) -> np.ndarray:
            return np.asarray(_field(problem.f, w0 + jnp.asarray(v), y, factor))

        # Without a residual nothing moves, and any unit will do.
        v, path, error = solve(field, problem.w0.size, seconds, unit or 1.0, tolerance=1e-11)
        error = error if unit else 0.0
        J, outputs = (np.asarray(part) for part in _jacobians(problem.f, w0, jnp.asarray(v)))
    return _read(problem, seconds, v, path, J, alpha * outputs - problem.y, error)


def _read(problem: LazyProblem, seconds, v, path, J, r, error) -> Trace:
    alpha = problem.alpha
    twin, twin_r = _twin(problem, seconds)
    own, other = -alpha * np.einsum("kn,knp->kp", r, J), -alpha * twin_r @ J[0]
    gap = np.linalg.norm(v - twin, axis=1)
    gaps, gradients = _tested(problem, v, twin)
    along = np.einsum("kp,kp->k", v - twin, own - other) / np.where(gap > 0, gap, 1.0)
    return Trace(
        seconds=seconds,
        residual=np.linalg.norm(r, axis=1),
        distance=np.linalg.norm(v, axis=1),
        path=path,
        gap=gap,
        sigma_min=np.linalg.svd(J, compute_uv=False)[:, -1],
        drift=np.linalg.norm(J - J[0], ord=2, axis=(1, 2)),
        train_gap=np.linalg.norm(r - twin_r, axis=1),
        test_gap=gaps,
        test_gradients=gradients,
        dissipation=np.sum(own**2, axis=1),
        departure=np.where(gap > 0, along, 0.0),
        error=error,
    )


def _twin(problem: LazyProblem, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The linearised flow, in closed form: displacements and residuals."""
    seen = problem.tangency
    S, c, Vt = problem.alpha * seen.singular_values, seen.coefficients, np.asarray(seen.tangent.Vt)
    rates = np.outer(seconds, S**2)
    gain = np.where(S > 0, -np.expm1(-rates) / np.where(S > 0, S, 1.0), 0.0)
    stuck = seen.r0 - seen.U @ c
    return -(gain * c) @ Vt, (np.exp(-rates) * c) @ seen.U.T + stuck


def _tested(problem: LazyProblem, v: np.ndarray, twin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gap of every test output, and the norm of its gradient at the start."""
    if problem.test is None:
        return np.zeros((len(v), 0)), np.zeros(0)
    with jax.enable_x64(True):
        w0 = jnp.asarray(problem.w0)
        J, outputs = (np.asarray(part) for part in _jacobians(problem.test.g, w0, jnp.asarray(v)))
    return problem.alpha * np.abs(outputs - outputs[0] - twin @ J[0].T), np.linalg.norm(J[0], axis=1)


@eqx.filter_jit
def _field(f: Callable, w: Float[Array, " p"], y: Float[Array, " n"], alpha: Float[Array, ""]):
    outputs, pull = jax.vjp(f, w)
    return -alpha * pull(alpha * outputs - y)[0]


@eqx.filter_jit
def _jacobians(f: Callable, w0: Float[Array, " p"], steps: Float[Array, "k p"]):
    return jax.lax.map(lambda step: (jax.jacrev(f)(w0 + step), f(w0 + step)), steps)


@kept
def radius(problem: LazyProblem) -> float:
    r"""$r_*$, the largest R with $\beta(R)R \le \frac{\sigma_{min}}2$, so that $\sigma_{min}(J) \ge$ that within it.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> round(radius(extremal(beta=0.25)), 6)
    2.0
    """
    profile, half = problem.smoothness, problem.tangency.sigma / 2
    if isinstance(profile, Smoothness) and math.isinf(profile.radius):
        return half / profile.value if profile.value else math.inf
    scale = float(np.linalg.norm(problem.w0)) + 1.0

    def holds(power: float) -> bool:
        return bool(profile(scale * 2.0**power).value * scale * 2.0**power <= half)

    low, high = -60.0, 60.0
    if holds(high) or not holds(low):
        return math.inf if holds(high) else 0.0
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return scale * 2.0**low
