r"""The linearised twin of a model after any number of an optimiser's steps, without making them.

Legend: n examples X, k outputs, N = n k, $f_0 = f(X;\theta_0)$, Y the targets, $\Theta = JJ^\top$ the empirical NTK,
$L = \frac s2\|f - Y\|^2$ with the scale s of the loss's convention, B the size of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from widthwise.numerics import Loss, UpdateRule, counted_loss, demand_count, reject
from widthwise.operators import LinearTraining, Taylor, adapt, demand_options, entk, linear_training, parameters

from .recursion import BatchNoise, Modes, Rate, spread
from .schedules import checked_rate


@dataclass(frozen=True, eq=False)
class StepPath:
    r"""The loss after every step: ``steps`` (T,), its (expected) ``loss`` (T,), and what a run ``measured``, if any."""

    steps: Float[np.ndarray, " T"]
    loss: Float[np.ndarray, " T"]
    batch: int | None = None
    measured: Float[np.ndarray, " T"] | None = None

    def against(self, measured: ArrayLike) -> "StepPath":
        """The same path beside the losses of a run, one for each step from the start on."""
        found = np.asarray(measured, dtype=float)
        if found.shape != self.loss.shape:
            reject(
                f"losses of shape {found.shape}",
                f"The path has {len(self.loss)} losses, before the first step and after each",
                "Record the loss at the start too",
            )
        return replace(self, measured=found)


@dataclass(frozen=True, eq=False)
class StepTraining:
    r"""The twin after ``count`` steps; built by `trained_by_steps`.

    $\theta = \theta_0 + J^\top a + e\,\theta_0$ with ``coefficients`` a (n, k) and ``shrinkage`` e, which is 0 without
    weight decay. With batches both are expectations, and ``coefficient_covariance`` (N, N) is that of a;
    ``replacement`` says how the examples of a batch were drawn.
    """

    training: LinearTraining
    loss: Loss
    modes: Modes
    rate: Rate
    count: int
    batch: int | None
    coefficients: Float[np.ndarray, "n k"]
    shrinkage: float
    coefficient_covariance: Float[np.ndarray, "N N"]
    replacement: bool = True

    def __repr__(self) -> str:
        n, k = self.coefficients.shape
        how = "" if self.replacement else " without replacement"
        drawn = "" if self.batch is None else f", batches of {self.batch}{how}"
        return f"StepTraining({self.count} steps on {n} examples with {k} outputs{drawn}, risk {self.risk:.4g})"

    @property
    def outputs(self) -> Float[np.ndarray, "n k"]:
        """The (expected) outputs on the training examples."""
        change = self._kernel @ self.coefficients.ravel() + self.shrinkage * self._weights
        return self.training.start + change.reshape(self.coefficients.shape)

    @property
    def covariance(self) -> Float[np.ndarray, "N N"]:
        r"""The covariance of the outputs on the training examples over the draws of the batches, $\Theta C\Theta$."""
        return self._kernel @ self.coefficient_covariance @ self._kernel

    @property
    def risk(self) -> float:
        r"""The (expected) loss on all examples, without the weight decay."""
        square = float(np.sum((self.outputs - self.training.targets) ** 2))
        return 0.5 * self.loss.scale * (square + float(np.trace(self.covariance)))

    @property
    def model(self) -> Taylor:
        """The twin at the (expected) parameters, a callable PyTree of one example."""
        displacement = self.training.moved(self.coefficients).displacement
        pairs = zip(displacement, parameters(self.training.twin.start.value)[0], strict=True)
        change = tuple(new + jnp.asarray(self.shrinkage, new.dtype) * old for new, old in pairs)
        return self.training.twin.displaced(change)

    def predict(self, X: ArrayLike) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "mk mk"]]:
        r"""Mean and covariance of the outputs for new examples (m, ...), $\Theta(x, X)C\Theta(X, x')$."""
        X, k = jnp.asarray(X), self.coefficients.shape[1]
        mean = np.asarray(jax.vmap(self.model)(X), dtype=float)
        if self.batch is None:
            return mean, np.zeros((mean.size, mean.size))
        cross = np.asarray(entk(self.training.twin.start.value, X, self.training.X), dtype=float)
        cross = cross.reshape(len(X) * k, -1)
        return mean, cross @ self.coefficient_covariance @ cross.T

    def path(self, count: int | None = None) -> StepPath:
        """The (expected) loss at the start and after each of ``count`` steps, by default as many as were made."""
        count = self.count if count is None else demand_count("count", count)
        return StepPath(np.arange(count + 1.0), _losses(self, count), self.batch)

    @property
    def _kernel(self) -> Float[np.ndarray, "N N"]:
        U = self.training.kernel.vectors
        return (U * self.modes.values) @ U.T

    @property
    def _weights(self) -> Float[np.ndarray, " N"]:
        return self.training.kernel.vectors @ self.modes.weights


def trained_by_steps(
    model: Any,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    steps: int,
    rate: float | Callable[[int], Any],
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    averaged: bool = False,
    loss: str | Loss = "half-mean",
    batch: int | None = None,
    replacement: bool = True,
    **options: Any,
) -> StepTraining:
    r"""The linearised twin of a model after so many steps of gradient descent with momentum, decay and batches.

    Exact, by the power of one small matrix for each eigenvalue of $\Theta$. Without momentum and decay
    $f_t = Y + (I - \eta s\Theta)^t(f_0 - Y)$. The weight decay pulls the parameters to 0, not to where they started.

    With ``batch`` B each step takes B examples drawn uniformly, independently of the other steps, and the gradient of
    $\frac nB$ times their losses, which is unbiased. The result is then the exact mean and covariance over the draws:
    for plain descent the second moment R of the residual follows, with $A = I-\eta s\Theta$,
    $R \leftarrow ARA + \gamma\frac{\eta^2s^2}B\Theta(n\,\mathrm{blockdiag}(R) - R)\Theta$. Here $\gamma = 1$ where
    examples are drawn with replacement (B may exceed n), and $\gamma = \frac{n-B}{n-1}$ with ``replacement=False``,
    where the B examples of a step differ. Both have the same mean.

    Shuffled epochs, as in the runs of `widthwise.measure`, are *not* covered: there also the batches of one epoch share
    no example. Each by itself is drawn without replacement, but they depend on each other, so that neither mean nor
    covariance is the one given here; where B divides n, the noise of an epoch vanishes to first order in the rate.

    Args:
        model: what `adapt` takes, to which ``options`` go, such as ``params``.
        X: n examples (n, ...).
        Y: targets (n, k), or (n,) for one output.
        steps: a whole number from 0 on.
        rate: $\eta$ for the loss in its convention, or a schedule from the step, from 0 on, to the rate (as of optax).
        momentum, nesterov, weight_decay, decoupled, averaged: as in `widthwise.numerics.UpdateRule`.
        loss: a convention of `widthwise.numerics.Loss`; its scale is s.
        batch: B, or None for all examples in each step.
        replacement: whether one step may draw an example several times; where it may not, B is at most n.

    Raises ``ValueError`` for arguments outside of these, as `linear_training` does, and where the steps diverge to
    numbers beyond float64. Source: lee2019wide; with decay, momentum and batches derived in this project.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 2)))
    >>> X, Y = 2.0 * jnp.eye(2), jnp.array([1.0, 3.0])
    >>> trained_by_steps(model, X, Y, steps=1, rate=0.1).outputs.ravel().round(12).tolist()
    [0.2, 0.6]
    >>> noisy = trained_by_steps(model, X, Y, steps=1, rate=0.1, batch=1)
    >>> noisy.outputs.ravel().round(12).tolist(), noisy.covariance.round(12).tolist()
    ([0.2, 0.6], [[0.04, -0.12], [-0.12, 0.36]])
    """
    demand_options(trained_by_steps, options)
    rule = UpdateRule(momentum, nesterov, weight_decay, decoupled, averaged)
    steps, chosen = demand_count("steps", steps), checked_rate(rate)
    batch = None if batch is None else demand_count("batch", batch, least=1)
    if not isinstance(replacement, bool) or (batch is None and not replacement):
        reject(
            f"replacement={replacement!r}" + (" without batch" if batch is None else ""),
            "Whether a batch may hold an example several times is True or False",
            "Give for example batch=8, replacement=False",
        )
    if not isinstance(loss, Loss):
        Loss(loss, 1)  # an unknown name is refused before the kernel is computed
    training = linear_training(adapt(model, X, **options) if options else model, X, Y, "half-sum")
    noise = _noise(training, batch, replacement)
    convention = counted_loss(loss, *training.targets.shape)
    modes = _modes(training, convention, rule)
    state, covariance = _state(modes, noise, chosen, steps)
    _demand_finite(state, covariance, modes, rate)
    U = training.kernel.vectors
    a, shrinkage = (U @ state[:, 0]).reshape(training.targets.shape), float(state[0, 2])
    covariance = U @ covariance @ U.T
    return StepTraining(training, convention, modes, chosen, steps, batch, a, shrinkage, covariance, replacement)


def _modes(training: LinearTraining, loss: Loss, rule: UpdateRule) -> Modes:
    kernel = training.kernel
    values = np.where(kernel.values > kernel.floor, kernel.values, 0.0)
    weights = jax.vmap(_weights_only(training.twin))(training.X)
    residual = training.start - training.targets
    h, r = (kernel.vectors.T @ np.asarray(part, dtype=float).ravel() for part in (weights, residual))
    return Modes(values, h, r, loss.scale, rule)


def _weights_only(twin: Taylor) -> Taylor:
    r"""The linear function $J\theta_0$, without $f_0$."""
    return replace(twin.displaced(parameters(twin.start.value)[0]), with_start=False)


def _state(modes: Modes, noise: BatchNoise | None, rate: Rate, count: int):
    if noise is None:
        return modes.after(rate, count), np.zeros((len(modes.values),) * 2)
    with np.errstate(over="ignore", invalid="ignore"):
        *_, last = spread(modes, noise, rate, count)
    return last


def _noise(training: LinearTraining, batch: int | None, replacement: bool) -> BatchNoise | None:
    """The noise of batches, or None without any."""
    n, k = training.targets.shape
    if batch is not None and not replacement and batch > n:
        reject(
            f"batch={batch} of {n} examples with replacement=False",
            "Without replacement a batch holds each example at most once",
            f"Give a batch of at most {n}, or leave replacement out",
        )
    return None if batch is None else BatchNoise(training.kernel.vectors, k, batch, replacement)


def _losses(found: StepTraining, count: int) -> Float[np.ndarray, " T"]:
    modes = found.modes
    moves, still = modes.values > 0, np.zeros(len(modes.values))

    def loss(state, covariance):
        r = modes.residual + np.where(moves, modes.values * state[:, 0] + state[:, 2] * modes.weights, 0.0)
        return 0.5 * modes.scale * float(np.sum(r**2) + np.sum(modes.values**2 * covariance))

    noise = _noise(found.training, found.batch, found.replacement)
    if noise is None:
        return np.array([loss(state, still) for state in modes.along(found.rate, count)])
    states = spread(modes, noise, found.rate, count)
    return np.array([loss(state, np.diag(covariance)) for state, covariance in states])


def _demand_finite(state: np.ndarray, covariance: np.ndarray, modes: Modes, rate: Any) -> None:
    if np.all(np.isfinite(state)) and np.all(np.isfinite(modes.values**2 * covariance)):
        return
    most = modes.rule.largest_rate(modes.scale * float(np.max(modes.values)))
    reject(
        "steps that diverge beyond the numbers of float64",
        f"On these data a constant rate is stable below {most:.4g}, and with batches below a smaller one",
        "Give a smaller rate" if not callable(rate) else "Give a schedule that stays below it",
    )
