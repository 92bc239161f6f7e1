r"""Delayed generalisation: a network that is lazy first fits its training set, and generalises once it learns features.

Legend: $f(x) = \frac1m\sum_j\phi(w_j^\top x)$, $\phi(z) = z+\frac\epsilon2z^2$, only W trained from $N(0, 1)$, outputs
$\alpha(f-f_0)$; inputs uniform on the unit sphere of $R^d$, targets $\sqrt{d(d+2)/3}\,(e_1^\top x)^2$ of mean square 1.
The tangent kernel puts $\epsilon^2$ on quadratic functions of x, and spreads it over all d(d+1)/2 of them.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.measure import gradient_flow
from widthwise.numerics import reject

from ..lazy import LazyProblem, Shallow
from ..lazy.maps import ShallowMap

_LONGEST = 1e3  # in units of the fastest decay of the tangent model
_PER_DECADE = 12


@dataclass(frozen=True, eq=False)
class Course:
    r"""Risks along one training, as parts of those at the start, at times (k,).

    Times are in units of $1/(\alpha^2\lambda_{max}(K_0))$. ``twin`` is the test risk of the tangent model, which is the
    same for every alpha; ``level`` the part at which a risk counts as fallen.
    """

    alpha: float
    times: Float[np.ndarray, " k"]
    train: Float[np.ndarray, " k"]
    test: Float[np.ndarray, " k"]
    twin: Float[np.ndarray, " k"]
    level: float

    @property
    def fitted_at(self) -> float:
        """When the training risk falls below the level; infinite where it does not."""
        return _first_below(self.times, self.train, self.level)

    @property
    def generalised_at(self) -> float:
        """When the test risk falls below the level; infinite where it does not."""
        return _first_below(self.times, self.test, self.level)

    @property
    def delay(self) -> float:
        """The ratio of the two times."""
        return self.generalised_at / self.fitted_at


@dataclass(frozen=True, eq=False)
class Grokking:
    """Trainings of the same network with several factors alpha, see `grokking`."""

    courses: tuple[Course, ...]

    @property
    def delays(self) -> Float[np.ndarray, " a"]:
        """The time to generalise over the time to fit, for each alpha."""
        return np.array([course.delay for course in self.courses])

    def __str__(self) -> str:
        level, floor = self.courses[0].level, self.courses[0].twin.min()
        lines = [
            f"Risks below {level:g} of the start; the test risk of the tangent model never falls below {floor:.2g}.",
            f"{'alpha':>8}{'fits at':>10}{'generalises at':>16}{'ratio':>8}",
        ]
        for one in self.courses:
            lines.append(f"{one.alpha:>8g}{one.fitted_at:>10.3g}{one.generalised_at:>16.3g}{one.delay:>8.3g}")
        return "\n".join(lines)


def _first_below(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """By a power law between the two moments around it."""
    below = np.flatnonzero(values < level)
    if not len(below) or below[0] == 0:
        return float(times[0]) if len(below) else math.inf
    at = below[0]
    part = np.log(values[at - 1] / level) / np.log(values[at - 1] / values[at])
    return float(times[at - 1] * (times[at] / times[at - 1]) ** part)


def grokking(
    alphas: Sequence[float] = (0.05, 0.1, 0.2),
    *,
    dim: int = 10,
    samples: int = 30,
    width: int = 32,
    curvature: float = 0.5,
    level: float = 0.1,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Grokking:
    r"""Train a quadratic network on a quadratic target, from lazy to rich starts.

    The larger alpha, the longer after the training risk the test risk falls: the tangent model fits the ``samples`` <
    d(d+1)/2 inputs without finding the target, and features that find it are learned late; in the end, for alpha too
    large, never. ``curvature`` is $\epsilon$; the legend is that of the module. ``progress(done, total)`` is called
    after each alpha. Source: kumar2024grokking. Raises ``ValueError`` for numbers that are not positive, and for so
    many samples that the tangent model finds the target.

    >>> found = grokking(alphas=(0.1,))
    >>> bool(found.delays[0] > 3.0), bool(found.courses[0].twin.min() > 0.1)
    (True, True)
    """
    _check(alphas, dim, samples, width, curvature, level)
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        X, X_test = _on_sphere(rng, samples, dim), _on_sphere(rng, 500, dim)
        y, y_test = (math.sqrt(dim * (dim + 2) / 3) * rows[:, 0] ** 2 for rows in (X, X_test))
        W = jnp.asarray(rng.normal(size=(width, dim)))
        net = Shallow(W, jnp.ones(width), _quadratic(float(curvature)), 1.0 / width)
        problem = LazyProblem(ShallowMap(net, jnp.asarray(X)), np.asarray(net.W).ravel(), y).centred()
        outputs = ShallowMap(net, jnp.asarray(X_test))
        courses = []
        for done, alpha in enumerate(alphas, start=1):
            courses.append(_course(problem.at(float(alpha)), outputs, y_test, level))
            if progress is not None:
                progress(done, len(alphas))
    return Grokking(tuple(courses))


@functools.cache
def _quadratic(curvature: float) -> Activation:
    """One value for each curvature, which is compiled once."""
    return Activation("quadratic", lambda z: z + 0.5 * curvature * z**2)


def _course(problem: LazyProblem, outputs: ShallowMap, y_test: np.ndarray, level: float) -> Course:
    times = np.geomspace(1e-1, _LONGEST, 4 * _PER_DECADE + 1)
    rate = (problem.alpha * problem.tangency.sigma_max) ** 2
    flow = gradient_flow(problem.f, problem.w0, problem.y, problem.alpha, times=times, rate=rate, rtol=1e-7)
    w0, twin_steps = jnp.asarray(problem.w0), problem.tangency.twin(times / rate)[0]
    went, linear = _ways(outputs, w0, *(jnp.asarray(one) for one in (flow.displacements, twin_steps)))
    test, twin = (_risk(problem.alpha * np.asarray(part) - y_test, y_test) for part in (went, linear))
    return Course(problem.alpha, times, _risk(flow.residuals, problem.y), test, twin, level)


@eqx.filter_jit
def _ways(
    outputs: ShallowMap, w0: Float[Array, " p"], steps: Float[Array, "k p"], twin: Float[Array, "k p"]
) -> tuple[Float[Array, "k q"], Float[Array, "k q"]]:
    """How far the outputs of the network and of its tangent model went."""
    start, push = jax.linearize(outputs, w0)
    return jax.lax.map(lambda one: (outputs(w0 + one[0]) - start, push(one[1])), (steps, twin))


def _risk(residuals: Float[np.ndarray, "k n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    return np.sum(residuals**2, axis=1) / np.sum(y**2)


def _on_sphere(rng: np.random.Generator, count: int, dim: int) -> Float[np.ndarray, "n d"]:
    X = rng.normal(size=(count, dim))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def _check(alphas: Any, dim: int, samples: int, width: int, curvature: float, level: float) -> None:
    numbers = {"dim": dim, "samples": samples, "width": width, "curvature": curvature}
    numbers |= {f"alphas[{at}]": alpha for at, alpha in enumerate(alphas)}
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            reject(f"{name}={value}", "It is a finite number above 0", f"Leave {name.split('[')[0]} out")
    if not len(alphas):
        reject("no alphas", "At least one training is followed", "Give for example alphas=(0.1, 0.2)")
    if not 0 < level < 1:
        reject(f"level={level}", "It is a part of the initial risk between 0 and 1", "Give for example level=0.1")
    if samples >= dim * (dim + 1) // 2:
        reject(
            f"{samples} samples in dimension {dim}",
            f"With {dim * (dim + 1) // 2} the tangent model determines every quadratic function",
            "Give fewer, or a larger dim",
        )
