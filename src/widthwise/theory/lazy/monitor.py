r"""Certificates during a training, in any loop and for any smooth model: is the rest of it lazy?

Legend as in ``problem``, for the parameters reached so far: residual r of all targets, $\sigma \le \sigma_{max}$ the
extreme singular values of the Jacobian, $\beta$ its Lipschitz constant on the ball that is needed,
$h = 2\beta\|r\|/(\alpha\sigma^2)$, $N = \frac1\alpha\|J^\dagger r\|$ the distance to the nearest zero of the linearised
residual.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.numerics import CONVENTIONS, Loss, demand_count, demand_pair, reject
from widthwise.operators import ADAPTED, adapt, demand_options, flatten

from .certificates import ball, ball_and_constant, obstacle
from .curvature import attack
from .deep import certified_smoothness
from .lipschitz import Profile, Smoothness, demand_profile, kinked_call, sharpest_change, unknown
from .problem import LazyProblem, known_kink
from .steps import largest_step, steady

_WORTH = ("certified", "estimated")
ESTIMATED = "estimated, not certified"
# What goes to `adapt`; the type is chosen here.
# The search that follows jumps may be sharper than the one that climbs, but not by so much where there is no jump.
_SHARPER = 10.0


class Outputs(eqx.Module):
    """All outputs of a model on a batch (n k,), as a function of the model's parameter vector."""

    rebuild: Callable = eqx.field(static=True)
    X: Array

    def __call__(self, w: Float[Array, " p"]) -> Float[Array, " m"]:
        return jnp.ravel(jax.vmap(self.rebuild(w))(self.X))


@dataclass(frozen=True)
class Checkpoint:
    r"""What is certified or estimated of the rest of a training, from the parameters at one step on.

    ``remaining`` bounds the path of the gradient flow, $\frac\sigma\beta(1-\sqrt{1-h})$, nan for h > 1; some parameters
    that fit all targets lie between ``nearest`` $\frac\sigma\beta(\sqrt{1+2\beta N/\sigma}-1)$ and ``farthest``
    $\frac\sigma\beta(1-\sqrt{1-2\beta N/\sigma})$, nan where the root is not real (Newton's method from here converges
    where it is); ``largest_rate`` is the supremum of the rates of gradient descent that are certified or estimated to
    fit all targets (LAZY-C5), 0 where there is none, in the unit of the loss ``convention``; descent may move further
    than the flow (`DescentBounds`). ``certified`` says what all this is worth, ``reason`` why nothing can be said.
    """

    step: int
    loss: float
    residual: float
    sigma_min: float
    sigma_max: float
    beta: float
    h: float
    remaining: float
    nearest: float
    farthest: float
    largest_rate: float
    certified: bool
    reason: str = ""
    convention: str = ""

    @property
    def lazy(self) -> bool:
        r"""$h \le 1$."""
        return bool(self.h <= 1)

    @property
    def worth(self) -> str:
        """Either "certified" or "estimated, not certified"."""
        return "certified" if self.certified else ESTIMATED

    def __str__(self) -> str:
        if self.reason:
            return f"step {self.step}: nothing is certified, because {self.reason}"
        head = f"step {self.step}, {self.worth}: h = {self.h:.4g}"
        if not self.lazy:
            return f"{head} is above 1, so that nothing is said of the rest"
        flow = "fits all targets and moves" if self.certified else "would fit all targets and move"
        steps = "fits" if self.certified else "would fit"
        return (
            f"{head}; gradient flow {flow} by at most {self.remaining:.4g}; gradient descent with rates below "
            f"{self.largest_rate:.4g} {steps} them too, but may move further; an interpolator lies {self.nearest:.4g} "
            f"to {self.farthest:.4g} away. Loss: {self.convention}"
        )


class CertificateMonitor:
    r"""Ask in any training loop from when on the rest of the training is lazy, and how far it still has to go.

    A monitor is made with the model at its start and *all* training data, and called after every step with the number
    of steps made so far and the model: ``monitor(step, model)``. Every ``every`` steps it takes the parameters reached
    as the start of a gradient flow of the square loss (LAZY-C4): for $h \le 1$ the flow fits all targets, and moves by
    at most the ``remaining`` distance, whatever brought the parameters there (SGD, Adam, ...). Each record is a
    ``Checkpoint``; ``certificate_step`` is the first recorded step with $h \le 1$.

    Everything rests on the Lipschitz constant of the Jacobian on a ball around the parameters:

    - ``smoothness="certified"`` computes a bound, for networks of this package with smooth activations and one output;
    - ``smoothness="estimated"`` searches for the largest second derivative in the ball. It is found from below and no
      bound, so that nothing follows from it with certainty: whatever is printed says *estimated, not certified*.
      Models with kinks have no such constant, and records say so for activations of this package and functions of
      `jax.nn` with kinks, and wherever a search along random lines meets a jump of the Jacobian in the ball. Kinks
      written otherwise (``jnp.maximum(z, 0.0)``) that no line meets are not seen;
    - a ``Smoothness`` or a function from a radius around the *start* to one is taken as given.

    Args:
        model: anything that `adapt` takes, to which the ``options`` params, output, batched and call go; with
            ``params=`` the loop gives parameters.
        X, y: inputs (n, ...) and targets (n,) or (n, k).
        alpha: a factor on the outputs, where the loop trains $\alpha f$.
        loss: the convention of the loop's loss by name (see `Loss`), in whose unit ``largest_rate`` is.
        restarts, rounds, seed: of the search.

    Each record costs a Jacobian (n k, p) in float64 and its singular values, and where the constant is estimated two
    searches, one of ``restarts * rounds`` second derivatives: choose ``every`` so that this is affordable (see
    ``share``). Arrays that are not trained stay as they were at the start. Raises ``ValueError`` for shapes that do not
    fit, data that are not finite, steps that do not rise, unknown options, and ``"certified"`` where no bound is known.

    >>> monitor = CertificateMonitor(lambda w, x: w @ x, np.eye(2), [1.0, -1.0], every=5, params=jnp.zeros(2))
    >>> monitor(0, jnp.zeros(2)), monitor(1, jnp.zeros(2)), monitor.certificate_step
    (True, False, 0)
    >>> print(monitor.last)
    step 0, estimated, not certified: h = 0; gradient flow would fit all targets and move by at most 1.414; gradient
    descent with rates below 4 would fit them too, but may move further; an interpolator lies 1.414 to 1.414 away.
    Loss: \frac1{2n}\sum_{ij}r_{ij}^2
    """

    def __init__(
        self,
        model: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        smoothness: str | Profile = "estimated",
        alpha: float = 1.0,
        loss: str = "half-mean",
        every: int = 10,
        restarts: int = 3,
        rounds: int = 60,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ):
        demand_options(CertificateMonitor, options, ADAPTED)
        demand_profile(smoothness, _WORTH)
        for name, count in (("every", every), ("restarts", restarts), ("rounds", rounds)):
            demand_count(name, count, least=1)
        self.X, y = _data(X, y)
        self.every, self.smoothness, self.loss = every, smoothness, Loss(loss, len(y), int(np.prod(y.shape[1:])))
        self._search, self._key = {"restarts": restarts, "rounds": rounds}, jr.key(seed)
        self._model, self._options, self._alpha, self._clock = model, options, alpha, clock
        with jax.enable_x64(True):
            w, rebuild = flatten(self._brought(model if options.get("params") is None else options["params"]))
            self._f = Outputs(rebuild, jnp.asarray(self.X))
            _demand_labels(y, jax.eval_shape(self._f, w).size)
            kink = known_kink(model) or kinked_call(self._f, w)
        # A constant that is given is believed.
        self._kink = None if callable(smoothness) or kink is None else f"{kink} has a kink, where the Jacobian jumps"
        with jax.enable_x64(True):
            self._start = LazyProblem(self._f, np.asarray(w), np.ravel(y), alpha, name=type(model).__name__)
        self._demand_smoothness()
        self._records: list[Checkpoint] = []
        self._begun: float | None = None
        self.seconds = 0.0

    def _brought(self, given: Any) -> Callable:
        """What the loop gives, as a callable PyTree in float64; networks of this package stay what they are."""
        if self.smoothness == "certified" and not self._options:
            return jax.tree.map(_double, given)
        if self._options.get("params") is not None:
            return adapt(self._model, self.X, dtype="float64", **{**self._options, "params": given})
        return adapt(given, self.X, dtype="float64", **self._options)

    def _demand_smoothness(self) -> None:
        if self.smoothness == "certified":
            known = self._certified(self._start.w0)(0.0)
            if not known.certified or self._start.y.size != len(self.X):
                why = known.method if not known.certified else "bounds are known for networks with one output"
                reject(f"smoothness='certified', but {why}", "It needs a bound", "Use smoothness='estimated'")

    def _certified(self, w: Float[np.ndarray, " p"]) -> Profile:
        with jax.enable_x64(True):
            return certified_smoothness(self._f.rebuild(jnp.asarray(w)), self.X)

    def __repr__(self) -> str:
        return f"CertificateMonitor({len(self._records)} records{f'; {self.last}' if self._records else ''})"

    def __call__(self, step: int, model: Any) -> bool:
        """Record this step if it is due, and say whether it was."""
        demand_count("step", step, least=0)
        return step % self.every == 0 and self.record(step, model)

    def record(self, step: int, model: Any) -> bool:
        """Record this step in any case, such as the last one; False where it has been recorded already."""
        demand_count("step", step, least=0)
        if self._records and step <= self.last.step:
            if step == self.last.step:
                return False
            reject(f"step={step} after step {self.last.step}", "Steps count from the start and rise", "Count on")
        begun = self._clock()
        self._begun = begun if self._begun is None else self._begun
        arrays = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        if all(bool(jnp.all(jnp.isfinite(part))) for part in arrays):
            self._records.append(self._look(int(step), self._vector(model)))
        else:
            self._records.append(_nothing(int(step), "the parameters are not finite"))
        self.seconds += self._clock() - begun
        return True

    def _vector(self, model: Any) -> Float[np.ndarray, " p"]:
        with jax.enable_x64(True):
            w = np.asarray(flatten(self._brought(model))[0])
        if w.shape != self._start.w0.shape:
            size = self._start.w0.size
            reject(f"a model with {w.size} parameters", f"At the start it had {size}", "Give the same model, trained")
        return w

    def _look(self, step: int, w: Float[np.ndarray, " p"]) -> Checkpoint:
        problem = replace(self._start, w0=w)
        seen = problem.tangency
        loss = 0.5 * self.loss.scale * seen.residual**2
        if why := self._kink or obstacle(seen):
            return replace(_nothing(step, why), loss=loss, residual=seen.residual, sigma_max=seen.sigma_max)
        problem = replace(problem, smoothness=self._profile(problem, step))
        problem.__dict__["tangency"] = seen
        return _checkpoint(problem, step, loss, self.loss)

    def _profile(self, problem: LazyProblem, step: int) -> Profile:
        """The constant around the present parameters."""
        if self.smoothness == "certified":
            return self._certified(problem.w0)
        if callable(self.smoothness):
            away, given = float(np.linalg.norm(problem.w0 - self._start.w0)), self.smoothness
            return lambda radius: given(radius + away)
        seen = problem.tangency
        radius = 2.1 * seen.residual_bound / (problem.alpha * seen.sigma)
        return _searched(problem, radius, jr.fold_in(self._key, step), self._search)

    @property
    def last(self) -> Checkpoint:
        """The last record; raises ``ValueError`` before the first."""
        if not self._records:
            reject("a monitor without records", "It is called in the loop", "Call monitor(step, model)")
        return self._records[-1]

    @property
    def certificate_step(self) -> int | None:
        """The first recorded step with $h \\le 1$, certified or estimated as the records say; None before."""
        return next((one.step for one in self._records if one.lazy), None)

    @property
    def share(self) -> float:
        """The share of the wall time since the first record that the monitor took."""
        return 0.0 if self._begun is None else self.seconds / max(self._clock() - self._begun, 1e-12)

    @property
    def records(self) -> dict[str, np.ndarray]:
        """The records as arrays, by the names of `Checkpoint`, with ``worth``."""
        found = {one.name: np.array([getattr(row, one.name) for row in self._records]) for one in fields(Checkpoint)}
        return found | {"worth": np.array([one.worth for one in self._records], dtype=object)}


def _searched(problem: LazyProblem, radius: float, key: Array, search: dict[str, int]) -> Smoothness:
    """The largest change of the Jacobian that two searches find on a ball; unknown where they meet a jump."""
    sharpest = sharpest_change(problem.f, problem.w0, radius, jr.fold_in(key, 1))
    try:
        found = attack(problem.f, problem.w0, radius, key, **search)
    except ValueError:  # it found NaN, which is no constant
        found = unknown("")
    if not (math.isfinite(found.value) and math.isfinite(sharpest)):
        return unknown("the search left the finite numbers")
    if sharpest > _SHARPER * found.value:
        return unknown("the Jacobian jumps within the ball: the model has kinks there, as relu, abs and max have")
    return replace(found, value=max(found.value, sharpest))


def _checkpoint(problem: LazyProblem, step: int, loss: float, convention: Loss) -> Checkpoint:
    seen = problem.tangency
    h, smoothness = ball_and_constant(problem)
    bounds = ball(problem, smoothness.value)
    if math.isinf(smoothness.value):
        return replace(_nothing(step, smoothness.method), loss=loss, residual=seen.residual)
    # What is estimated on this ball is taken for the larger one of large steps too.
    profile = problem.smoothness if smoothness.certified else Smoothness(smoothness.value, certified=False)
    descent = largest_step(problem, steady(profile)) if h <= 1 else 0.0
    nearest, farthest = _interpolators(problem)
    return Checkpoint(
        step=step,
        loss=loss,
        residual=seen.residual,
        sigma_min=seen.sigma_min,
        sigma_max=seen.sigma_max,
        beta=smoothness.value,
        h=float(h),
        remaining=float(bounds.path_to_go(0.0)) if h <= 1 else math.nan,
        nearest=nearest,
        farthest=farthest,
        largest_rate=descent / convention.scale,
        certified=smoothness.certified,
        convention=CONVENTIONS[convention.name][0],
    )


def _interpolators(problem: LazyProblem) -> tuple[float, float]:
    r"""How near and how far an interpolator may be.

    $w_{k+1} = w_k-J_0^\dagger r(w_k)/\alpha$ has $\|w_{k+1}-w_0\| \le N+\frac\beta{2\sigma}\|w_k-w_0\|^2$ and
    contracts within the smaller root; and every interpolator at distance d has $N \le d+\frac\beta{2\sigma}d^2$.
    """
    seen = problem.tangency
    low, high = seen.distance_range
    slope = 2 * problem.smoothness(2 * high).value / seen.sigma
    farthest = 2 * high / (1 + math.sqrt(1 - slope * high)) if slope * high <= 1 else math.nan
    return 2 * low / (1 + math.sqrt(1 + slope * low)), farthest


def _nothing(step: int, why: str) -> Checkpoint:
    unknown = math.nan
    return Checkpoint(
        step, unknown, unknown, unknown, unknown, unknown, math.inf, unknown, unknown, unknown, 0.0, False, why
    )


def _double(leaf: Any) -> Any:
    return leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf


def _demand_labels(y: np.ndarray, count: int) -> None:
    """Refuse labels of which there are not as many as outputs."""
    n, outputs = len(y), count // len(y)
    if y.size != count:
        reject(
            f"labels of shape {y.shape} for a model with {outputs} outputs",
            "There is one label for each output of each input",
            f"Give labels of shape ({n}, {outputs}), or select one output with output=",
        )


def _data(X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    demand_pair((X, y))
    X, y = np.asarray(X), np.asarray(y, dtype=float)
    if X.ndim < 1 or y.ndim not in (1, 2) or len(X) != len(y) or not y.size:
        reject(
            f"X of shape {X.shape}, y of shape {y.shape}",
            "They are (n, ...) and (n,) or (n, k), with n of at least 1",
            "Give the targets of the square loss, one row for each input",
        )
    for name, part in (("X", X), ("y", y)):
        if np.issubdtype(part.dtype, np.inexact) and not np.all(np.isfinite(part)):
            reject(f"{name} with NaN or infinity", "Data are finite", "Remove or mend those rows")
    return X, y
