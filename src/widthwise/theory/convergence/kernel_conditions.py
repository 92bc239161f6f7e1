r"""The two conditions under which training ends at zero loss: a positive kernel at the start that does not go far.

Legend: $K_t$ the tangent kernels (n, n) along a training of $\frac12\|z-y\|^2$ with $\dot z = -K_t(z-y)$, $\lambda_0$
the smallest eigenvalue of $K_0$, $\|\cdot\|$ the spectral norm; h as in the sharp ball certificate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.claims import AtLeast, AtMost, Claim, Mutant
from widthwise.numerics import Estimate, reject
from widthwise.theory.lazy import LazyProblem, certify, follow
from widthwise.theory.lazy.certificates import ball_bounds
from widthwise.theory.lazy.examples import extremal, random_quadratic
from widthwise.theory.lazy.integrate import FLOW_ERROR
from widthwise.theory.lazy.setups import Setup, certified_by, problems, stack

from .landscapes import flow_of

# Of the flow of a problem, as long as the problem is observed.
_STEPS = 1000


@dataclass(frozen=True)
class KernelConditions:
    r"""The smallest eigenvalues (k,) and drifts $\|K_t-K_0\|$ (k,) of kernels along a training, the first at its start.

    With $\lambda_0 > 0$ and every drift at most $\lambda_0/2$ the loss falls at least like $e^{-\lambda_0t}$.
    """

    smallest: Float[np.ndarray, " k"]
    drift: Float[np.ndarray, " k"]

    @property
    def start(self) -> float:
        r"""$\lambda_0$."""
        return float(self.smallest[0])

    @property
    def positive(self) -> bool:
        """The first condition: the kernel at the start is positive definite."""
        return self.start > 0

    @property
    def near(self) -> bool:
        r"""The second condition: no kernel is farther than $\lambda_0/2$ from the first."""
        return bool(np.max(self.drift) <= 0.5 * self.start)

    @property
    def broken(self) -> int | None:
        """The first record at which the second condition fails."""
        far = self.drift > 0.5 * self.start
        return int(np.argmax(far)) if far.any() else None

    @property
    def rate(self) -> float:
        r"""The rate of the loss $\frac12\|z-y\|^2$ that the conditions give: $\lambda_0$, or 0 where one fails."""
        return self.start if self.positive and self.near else 0.0

    @property
    def slowest(self) -> float:
        r"""The rate $2\min_t\lambda_{min}(K_t)$ that the recorded kernels themselves give, at least ``rate``."""
        return 2.0 * float(np.min(self.smallest))

    def __str__(self) -> str:
        share = np.max(self.drift) / self.start if self.positive else np.inf
        first = f"(i) lambda_0 = {self.start:.4g}: {'met' if self.positive else 'not met'}"
        second = f"(ii) |K_t - K_0| <= {share:.4g} lambda_0: {'met' if self.near and self.positive else 'not met'}"
        tail = "" if self.broken is None or not self.positive else f" from record {self.broken} on"
        return f"{first}; {second}{tail}; the loss falls at least like exp(-{self.rate:.4g} t)"


def kernel_conditions(kernels: ArrayLike) -> KernelConditions:
    r"""Monitor both conditions on recorded kernels (k, n, n), of which the first is that of the start.

    For a training of $\frac1{2n}\|z-y\|^2$ divide the kernels by n. Where $\lambda_0$ is below its rounding,
    $n\epsilon\|K_0\|$ with the $\epsilon$ of the precision in which the kernels come, it is 0. Raises ``ValueError``
    for kernels that are not square, symmetric and finite.
    Source: du2019gradient; jacot2018neural.

    >>> print(kernel_conditions(np.array([np.eye(2), 1.2 * np.eye(2)])))
    (i) lambda_0 = 1: met; (ii) |K_t - K_0| <= 0.2 lambda_0: met; the loss falls at least like exp(-1 t)
    """
    K = np.asarray(kernels)
    eps = float(jnp.finfo(K.dtype).eps) if jnp.issubdtype(K.dtype, jnp.floating) else 2.0**-52
    K = K.astype(float)
    if K.ndim != 3 or K.shape[1] != K.shape[2] or 0 in K.shape:
        reject(f"kernels of shape {K.shape}", "They are (k, n, n) with k, n >= 1", "Stack the recorded kernels")
    size = np.max(np.abs(K), axis=(1, 2), keepdims=True)
    if not np.all(np.isfinite(K)) or np.any(np.abs(K - np.swapaxes(K, 1, 2)) > 1e-6 * size):
        reject("a kernel that is not symmetric or not finite", "A tangent kernel is J J^T", "Check how it was made")
    smallest = np.linalg.eigvalsh(K)[:, 0]
    rounding = K.shape[1] * eps * np.max(np.abs(np.linalg.eigvalsh(K[0])))
    smallest[0] = smallest[0] if smallest[0] > rounding else min(smallest[0], 0.0)
    return KernelConditions(smallest, np.max(np.abs(np.linalg.eigvalsh(K - K[:1])), axis=1))


def conditions_along(problem: LazyProblem) -> KernelConditions:
    r"""Both conditions along the gradient flow of a lazy problem, for the kernels $\alpha^2J_tJ_t^\top$.

    The drifts are taken from the change of the Jacobian, not from two kernels subtracted.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> conditions_along(extremal(beta=0.3, y=0.5)).near
    True
    """
    seen, square = follow(problem), problem.alpha**2
    start = problem.tangency.sigma_min
    return KernelConditions(
        square * np.concatenate([[start], seen.sigma_min]) ** 2,
        square * np.concatenate([[0.0], seen.kernel_drift]),
    )


def drift_bound(sigma_max: float, beta: float, radius: float, alpha: float = 1.0) -> float:
    r"""Bound $\|\alpha^2(K_w-K_0)\|$ within a radius $\rho$ by $\alpha^2(2\sigma_{max}\beta\rho+\beta^2\rho^2)$.

    ``beta`` is the Lipschitz constant of the Jacobian. Source: telgarsky2021deep.

    >>> drift_bound(2.0, 0.5, 1.0)
    2.25
    """
    return alpha**2 * (2.0 * sigma_max * beta * radius + (beta * radius) ** 2)


def _near_problems() -> Setup:
    """Of the first, the kernel ends exactly at half of what it was."""
    return extremal(beta=1.0, y=0.25), random_quadratic(3, 1.5, 0.3, worst=True)


def _far_problem() -> Setup:
    """The kernel falls to a tenth, so that its drift is between one half of the smallest eigenvalue and the whole."""
    return (extremal(beta=1.0, y=0.45),)


@eqx.filter_jit
def _watched(f: Callable, start: Array, y: Array, alpha: Array, times: Array) -> tuple[Array, Array]:
    r"""Kernels and squared residuals along the flow of $\frac12\|\alpha f-y\|^2$."""

    def residual(w):
        return alpha * f(w) - y

    points = jax.vmap(lambda t: flow_of(lambda w: 0.5 * jnp.sum(residual(w) ** 2), start, t, _STEPS))(times)
    J = jax.vmap(jax.jacfwd(residual))(points)
    return J @ jnp.swapaxes(J, 1, 2), jnp.sum(jax.vmap(residual)(points) ** 2, axis=1)


def _run(problem: LazyProblem) -> tuple[KernelConditions, np.ndarray]:
    """Conditions at the start and at every third time of the problem, and the losses there over the first one."""
    w0, y, alpha = (jnp.asarray(one) for one in (problem.w0, problem.y, problem.alpha))
    kernels, squares = _watched(problem.f, w0, y, alpha, jnp.asarray(np.append(0.0, problem.seconds[::3])))
    return kernel_conditions(kernels), np.asarray(squares[1:] / squares[0])


def _resolved(setup: Setup) -> str | None:
    """The flow is followed by fixed steps, which must be short."""
    for problem in problems(setup):
        steep = problem.alpha * problem.tangency.sigma_max
        if steep**2 * problem.seconds[-1] > 0.04 * _STEPS:
            return f"{_STEPS} steps are too long for {problem.name}: use conditions_along"
    return None


def _met_with(share: float) -> Callable[[Setup], str | None]:
    """Make the assumption of both conditions, with this share of the smallest eigenvalue in the second."""

    def met(setup: Setup) -> str | None:
        """The kernel at the start is positive definite and all others are near it."""
        for problem in problems(setup):
            seen, _ = _run(problem)
            if not seen.positive or np.max(seen.drift) > share * seen.start * (1.0 + FLOW_ERROR):
                return f"the conditions fail for {problem.name}: {seen}"
        return None

    return met


def _predict_loss(setup: Setup, factor: float = 1.0) -> Estimate:
    r"""$e^{-\lambda_0t}$ of every problem, which an error of the outputs moves by twice as much."""
    rates = [factor * (problem.alpha * problem.tangency.sigma_min) ** 2 for problem in problems(setup)]
    times = [problem.seconds[::3] for problem in problems(setup)]
    return Estimate(stack(np.exp(-rate * t) for rate, t in zip(rates, times, strict=True)), 10 * FLOW_ERROR)


def _losses(setup: Setup, key: Array) -> np.ndarray:
    return stack(_run(problem)[1] for problem in problems(setup))


def _predict_smallest(setup: Setup, factor: float = 1.0) -> Estimate:
    r"""$\lambda_0(1-h)$ of every problem."""
    starts = np.array([(problem.alpha * problem.tangency.sigma_min) ** 2 for problem in problems(setup)])
    return Estimate(starts * np.array([1.0 - factor * problem.h for problem in problems(setup)]), 10 * FLOW_ERROR)


def _smallest(setup: Setup, key: Array) -> np.ndarray:
    return np.array([np.min(_run(problem)[0].smallest) for problem in problems(setup)])


def _predict_drift(setup: Setup, first: float = 2.0) -> Estimate:
    """The bound of every problem on the ball of its certificate."""
    rows = []
    for problem in problems(setup):
        bounds, sigma = ball_bounds(certify(problem)), problem.tangency.sigma_max
        radius = float(bounds.path(np.inf))
        lost = (2.0 - first) * sigma * bounds.beta * radius * problem.alpha**2
        rows.append(drift_bound(sigma, bounds.beta, radius, problem.alpha) - lost)
    return Estimate(np.array(rows), 10 * FLOW_ERROR)


def _drifts(setup: Setup, key: Array) -> np.ndarray:
    return np.array([np.max(_run(problem)[0].drift) for problem in problems(setup)])


def _certified() -> Setup:
    return extremal(beta=1.0, y=0.4), extremal(beta=1.0, y=0.1, others=1.0), random_quadratic(3, 1.5, 0.7)


CLAIMS = (
    Claim(
        id="LAZY-33",
        name="two-conditions-on-the-kernel",
        statement=r"If $K_0\succeq\lambda_0I$ with $\lambda_0>0$ and $\|K_t-K_0\|\le\lambda_0/2$ at all times, the "
        r"loss $\frac12\|z-y\|^2$ of gradient flow is at most $e^{-\lambda_0t}$ times its first value.",
        sources=("du2019gradient", "jacot2018neural"),
        setup=_near_problems,
        predict=_predict_loss,
        measure=_losses,
        relation=AtMost(),
        assumptions=(_resolved, _met_with(0.5)),
        mutants=(
            Mutant("twice the rate", {"predict": partial(_predict_loss, factor=2.0)}),
            Mutant(
                "whole of lambda_0 for its half", {"setup": _far_problem, "assumptions": (_resolved, _met_with(1.0))}
            ),
        ),
    ),
    Claim(
        id="LAZY-33b",
        name="kernel-stays-positive-under-the-certificate",
        statement=r"Where $h\le1$, the smallest eigenvalue of every kernel along gradient flow is at least "
        r"$\lambda_0(1-h)$, whatever the largest is.",
        setup=_certified,
        predict=_predict_smallest,
        measure=_smallest,
        relation=AtLeast(),
        assumptions=(certified_by(certify), _resolved),
        mutants=(Mutant("half of h", {"predict": partial(_predict_smallest, factor=0.5)}),),
        derived_here=True,
    ),
    Claim(
        id="LAZY-33c",
        name="kernel-drift-on-a-ball",
        statement=r"Where the flow stays within $\rho$ of its start, "
        r"$\|K_t-K_0\|\le2\sigma_{max}\beta\rho+\beta^2\rho^2$, with $\beta$ the Lipschitz constant of the Jacobian.",
        sources=("telgarsky2021deep",),
        setup=_certified,
        predict=_predict_drift,
        measure=_drifts,
        relation=AtMost(),
        assumptions=(certified_by(certify), _resolved),
        mutants=(Mutant("factor 2 lost", {"predict": partial(_predict_drift, first=1.0)}),),
    ),
)
