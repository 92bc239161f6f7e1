r"""The linearised twin of a model after its training, in closed form: no training loop.

Legend: n examples X, k outputs, N = n k, $f_0 = f(X;\theta_0)$ and $f_t$ the twin's outputs (n, k),
Y the targets, $J = Df(X;\theta_0)$, $\Theta = JJ^\top$ the empirical NTK (N, N),
$\Theta(x, X) = Df(x;\theta_0)J^\top$.

Conventions of the loss, by name:
``"half-mean"``  $L = \frac1{2n}\sum_i\|f(x_i) - y_i\|^2$, summed over outputs, with $c = n$ below,
``"half-sum"``   $L = \frac12\sum_i\|f(x_i) - y_i\|^2$, with $c = 1$.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from widthwise.numerics import Spectrum, Steps, demand_numbers, gain, left, nearest, reject, spectrum

from .adapters import examples
from .empirical import entk
from .parameters import parameters
from .taylor import Taylor, linearize

LOSSES = ("half-mean", "half-sum")
WAYS = ("kernel", "descent")
_ROUNDINGS = 16  # of an entry of the kernel, in units of its precision
_BATCH = 64


@dataclass(frozen=True, eq=False)
class LinearTraining:
    r"""All of the twin's training, from one eigendecomposition of $\Theta$; built by `linear_training`.

    A moment is a time t >= 0 of the flow $\dot\theta = -\nabla L$ (``math.inf`` too) or ``Steps`` of
    gradient descent. Eigenvalues that cannot be told from zero count as zero: nothing moves there.
    """

    twin: Taylor
    X: Array
    start: Float[np.ndarray, "n k"]
    targets: Float[np.ndarray, "n k"]
    kernel: Spectrum
    loss: str = "half-mean"

    def outputs(self, moment: float | Steps) -> Float[np.ndarray, "n k"]:
        r"""$f_t(X) = Y + e^{-\Theta t/c}(f_0 - Y)$, or $Y + (I - \frac\eta c\Theta)^s(f_0 - Y)$."""
        return self.targets + self._applied(left(self._rates, demand_moment(moment)), self.start - self.targets)

    def risk(self, moment: float | Steps) -> float:
        r"""The loss L at a moment."""
        residual = self.outputs(moment) - self.targets
        return 0.5 * float(np.sum(residual**2)) / self._clock

    def coefficients(self, moment: float | Steps) -> Float[np.ndarray, "n k"]:
        r"""$a_t = -\Theta^{-1}(I - e^{-\Theta t/c})(f_0 - Y)$, by which $\theta_t - \theta_0 = J^\top a_t$.

        Predictions are $f_t(x) = f_0(x) + \Theta(x, X)a_t$; :meth:`model` makes them without a further kernel.
        """
        shrunk = gain(self._rates, demand_moment(moment)) / self._clock
        return self._applied(shrunk, self.targets - self.start)

    def ridge_coefficients(self, ridge: float, centred: bool = True) -> Float[np.ndarray, "n k"]:
        r"""$a = (\Theta + c\rho I)^{-1}(Y - f_0)$, or $(\Theta + c\rho I)^{-1}Y$ where not centred at $f_0$.

        With $\rho = 0$ the pseudo-inverse.
        """
        ridge, values = _demand_ridge(ridge) * self._clock, self._rates * self._clock
        seen = values + ridge > 0
        shrunk = np.where(seen, 1.0 / np.where(seen, values + ridge, 1.0), 0.0)
        return self._applied(shrunk, self.targets - self.start if centred else self.targets)

    def model(self, moment: float | Steps) -> Taylor:
        r"""The trained twin at $\theta_t$, a callable PyTree of one example."""
        return self.moved(self.coefficients(moment))

    def ridge_model(self, ridge: float, centred: bool = True) -> Taylor:
        r"""The twin that minimises $L + \frac\rho2\|\theta - \theta_0\|^2$; without $f_0$ where not centred."""
        found = self.moved(self.ridge_coefficients(ridge, centred))
        return found if centred else replace(found, with_start=False)

    @property
    def largest_rate(self) -> float:
        r"""Gradient descent converges for rates below $2c/\lambda_{max}(\Theta)$."""
        return 2.0 * self._clock / self.kernel.largest if self.kernel.largest > 0 else math.inf

    @property
    def _clock(self) -> int:
        return len(self.targets) if self.loss == "half-mean" else 1

    @property
    def _rates(self) -> Float[np.ndarray, " N"]:
        return np.where(self.kernel.values > self.kernel.floor, self.kernel.values, 0.0) / self._clock

    def _applied(self, factors: np.ndarray, vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        U = self.kernel.vectors
        return (U @ (factors * (U.T @ vectors.ravel()))).reshape(vectors.shape)

    def moved(self, coefficients: Float[np.ndarray, "n k"]) -> Taylor:
        r"""The twin displaced by $J^\top a$, some examples at a time."""
        weights = jnp.asarray(coefficients, dtype=jax.eval_shape(self.twin, self.X[0]).dtype)
        change = self.twin.displacement
        for at in range(0, len(weights), _BATCH):
            change = _pulled(self.twin, self.X[at : at + _BATCH], weights[at : at + _BATCH], change)
        return self.twin.displaced(change)


@eqx.filter_jit
def _pulled(twin: Taylor, X: Array, weights: Array, change: tuple[Array, ...]) -> tuple[Array, ...]:
    leaves, rebuild = parameters(twin.start.value)
    _, pull = jax.vjp(lambda new: jax.vmap(rebuild(new))(X), leaves)
    return jax.tree.map(jnp.add, change, pull(weights)[0])


def linear_training(model: Any, X: ArrayLike, Y: ArrayLike, loss: str = "half-mean") -> LinearTraining:
    r"""Form the empirical NTK of a model on (X, Y) and decompose it, for all of the twin's training.

    ``model``: what `adapt` takes. ``X`` (n, ...), ``Y`` (n, k), or (n,) for one output. The kernel has $(nk)^2$
    numbers. Raises ``ValueError`` for shapes that do not fit, numbers that are not finite and an unknown loss.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 2)))
    >>> training = linear_training(model, 2.0 * jnp.eye(2), jnp.ones(2))
    >>> training.outputs(math.inf).ravel().tolist(), round(training.largest_rate, 12)
    ([1.0, 1.0], 1.0)
    """
    demand_loss(loss)
    X = examples(X)
    twin = linearize(model, X)
    start = np.asarray(_outputs(twin, X), dtype=float)
    targets = demand_targets(Y, start.shape)
    kernel = entk(twin.start.value, X)
    error = _ROUNDINGS * float(np.finfo(kernel.dtype).eps)
    K = np.asarray(kernel, dtype=float).reshape(start.size, start.size)
    return LinearTraining(twin, X, start, targets, spectrum(0.5 * (K + K.T), error), loss)


def trained_linearized(
    model: Any,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    time: float | None = None,
    steps: int | None = None,
    rate: float | None = None,
    ridge: float | None = None,
    centred: bool = True,
    loss: str = "half-mean",
    by: str = "kernel",
) -> Taylor:
    r"""The linearised twin of a model, trained on (X, Y): a callable PyTree of one example that predicts.

    Give one of

    - ``time`` t of the flow $\dot\theta = -\nabla L$, ``math.inf`` too: $f_t(x) = f_0(x) -
      \Theta(x,X)\Theta^{-1}(I - e^{-\Theta t/n})(f_0 - Y)$;
    - ``steps`` s and ``rate`` $\eta$ of gradient descent: $(I - \frac\eta n\Theta)^s$ in place of the exponential;
    - ``ridge`` $\rho$: the minimum of $L + \frac\rho2\|\theta-\theta_0\|^2$, $f(x) = f_0(x) + \Theta(x,X)
      (\Theta + n\rho I)^{-1}(Y - f_0)$; with ``centred=False`` without $f_0$: $\Theta(x,X)(\Theta + n\rho I)^{-1}Y$.

    The loss is $L = \frac1{2n}\sum_i\|f(x_i) - y_i\|^2$, with ``loss="half-sum"`` n times that, where the n above is 1.
    A singular $\Theta$ is fine: where an eigenvalue is 0, nothing moves.

    Args:
        model: what `adapt` takes.
        X: n examples (n, ...).
        Y: targets (n, k), or (n,) for one output.
        by: "kernel" decomposes $\Theta$, $(nk)^2$ numbers; "descent" makes the steps one by one in the parameters.

    Raises ``ValueError`` unless exactly one of the three is given, and as `linear_training` does.
    Source: jacot2018neural, lee2019wide.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 2)))
    >>> X, Y = 2.0 * jnp.eye(2), jnp.array([1.0, 3.0])
    >>> for moment in (dict(time=math.inf), dict(steps=1, rate=0.5), dict(ridge=2.0)):
    ...     print(trained_linearized(model, X, Y, **moment)(jnp.array([0.0, 1.0])).tolist())
    [1.5]
    [1.5]
    [0.75]
    """
    _demand_one(time, steps, rate, ridge)
    if not centred and ridge is None:
        reject(
            "centred=False without a ridge",
            "Only ridge regression leaves out the outputs at the start",
            "Give ridge=0.0 for the end of the flow",
        )
    if by not in WAYS or (by == "descent" and steps is None):
        reject(
            f"by={by!r} without steps" if by in WAYS else f"by={by!r}{nearest(by, WAYS)}",
            "The ways are 'kernel', and for steps with rate 'descent'",
            "Leave by out",
        )
    if ridge is not None:
        return linear_training(model, X, Y, loss).ridge_model(_demand_ridge(ridge), centred)
    moment = demand_moment(Steps(steps, rate) if steps is not None and rate is not None else time)
    if by == "descent" and isinstance(moment, Steps):
        return _by_descent(model, X, Y, moment, loss)
    return linear_training(model, X, Y, loss).model(moment)


def _by_descent(model: Any, X: ArrayLike, Y: ArrayLike, moment: Steps, loss: str) -> Taylor:
    demand_loss(loss)
    twin, X = linearize(model, X), examples(X)
    start = _outputs(twin, X)
    targets = jnp.asarray(demand_targets(Y, start.shape), start.dtype)
    return twin.displaced(_descended(twin, X, start - targets, moment, len(X) if loss == "half-mean" else 1))


@eqx.filter_jit
def _descended(twin: Taylor, X: Array, residual: Array, moment: Steps, clock: int) -> tuple[Array, ...]:
    r"""The displacement after steps $\delta \leftarrow \delta - \frac\eta c J^\top(f_0 + J\delta - Y)$."""
    leaves, rebuild = parameters(twin.start.value)
    _, push = jax.linearize(lambda new: jax.vmap(rebuild(new))(X), leaves)
    pull = jax.linear_transpose(push, leaves)
    size = jnp.asarray(moment.size / clock, residual.dtype)

    def step(_, change):
        slope = pull(residual + push(change))[0]
        return jax.tree.map(lambda part, by: part - size.astype(part.dtype) * by, change, slope)

    return jax.lax.fori_loop(0, moment.count, step, jax.tree.map(jnp.zeros_like, leaves))


@eqx.filter_jit
def _outputs(model: Any, X: Array) -> Float[Array, "n k"]:
    return jax.vmap(model)(X)


def demand_loss(loss: str) -> None:
    """Refuse an unknown convention of the loss."""
    if loss not in LOSSES:
        meant = nearest(loss, LOSSES)
        reject(f"loss={loss!r}{meant}", f"The conventions are {' and '.join(map(repr, LOSSES))}", "Choose one by name")


def demand_targets(Y: ArrayLike, shape: tuple[int, ...]) -> Float[np.ndarray, "n k"]:
    """The targets in float64 and in the shape (n, k) of the outputs.

    >>> demand_targets([1.0, 2.0], (2, 1)).shape
    (2, 1)
    """
    demand_numbers("Y", Y)
    targets = np.asarray(Y, dtype=float)
    if targets.ndim == 1 and shape[1:] == (1,):
        targets = targets[:, None]
    if targets.shape != shape:
        reject(
            f"targets of shape {targets.shape} for outputs of shape {shape}",
            "There is one target for each output of each example",
            "Give Y (n, k); labels of classes as rows of an identity matrix",
        )
    if not np.all(np.isfinite(targets)):
        reject("targets with NaN or inf", "Targets are finite numbers", "Leave out the examples without a target")
    return targets


def demand_moment(moment: Any) -> Any:
    """A time from 0 to infinity, or a whole number of steps of a positive size.

    >>> demand_moment(1.5)
    1.5
    """
    if isinstance(moment, Steps):
        whole = isinstance(moment.count, int | np.integer) and not isinstance(moment.count, bool)
        if not whole or moment.count < 0 or not 0 < moment.size < math.inf:
            reject(
                f"{moment.count} steps with rate {moment.size}",
                "Steps are a whole number from 0 on, their rate is above 0 and finite",
                "Give for example steps=100, rate=0.1",
            )
    elif not moment >= 0:
        reject(f"time={moment}", "A time is at least 0; math.inf is allowed", "Give time=math.inf for the end")
    return moment


def _demand_ridge(ridge: float) -> float:
    if not 0 <= ridge < math.inf:
        reject(f"ridge={ridge}", "A ridge is at least 0 and finite", "Give ridge=0.0 for the interpolant")
    return float(ridge)


def _demand_one(time: Any, steps: Any, rate: Any, ridge: Any) -> None:
    named = {"time": time, "steps": steps, "rate": rate, "ridge": ridge}
    given = tuple(name for name, value in named.items() if value is not None)
    if given not in (("time",), ("steps", "rate"), ("ridge",)):
        reject(
            f"{', '.join(given) or 'nothing'} for the end of the training",
            "It is one of time, steps with rate, and ridge",
            "Give time=math.inf for the end of the gradient flow",
        )
