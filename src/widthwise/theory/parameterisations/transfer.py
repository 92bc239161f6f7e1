r"""Does the best learning rate stay where it is as the width grows?

Legend: W widths, R rates, S seeds; $\eta^*(n)$ the best rate at width n, $p$ its exponent, $\eta^*(n) \propto n^p$.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy.special import stdtrit

from widthwise.measure import adapted_models, demand_data, loss_for, trained_tree
from widthwise.numerics import demand_rate, reject
from widthwise.operators import parameters

from .slopes import Slope, demand_counts, demand_widths


@dataclass(frozen=True, eq=False)
class Transfer:
    r"""``losses`` (W, R, S) at the end, inf where they are not finite; ``best`` (W,) the best rates, by a parabola
    through the best point and its neighbours; ``drift`` the exponent p of the best rate in the width."""

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    losses: Float[np.ndarray, "W R S"]
    best: Float[np.ndarray, " W"]
    drift: Slope

    @property
    def at_edge(self) -> tuple[int, ...]:
        """The widths whose best rate is the first or last one that was tried: the true one may lie beyond."""
        places = np.argmin(self.losses.mean(axis=2), axis=1)
        return tuple(w for w, at in zip(self.widths, places, strict=True) if at in (0, len(self.rates) - 1))


def transfer(
    make_model: Callable[[int, int], Any],
    optimizer: Callable[..., optax.GradientTransformation] | Any,
    data: Any,
    *,
    widths: Sequence[int] | Any,
    rates: Iterable[float] | Any,
    seeds: int | Any = 4,
    steps: int | Any = 20,
    loss: Callable[[Array, Any], Array] | None = None,
    confidence: float = 0.95,
) -> Transfer:
    r"""Train at each width with each rate, and fit how the best rate drifts, $\eta^*(n) \propto n^p$.

    Under muP p is near 0. ``optimizer(rate)`` or ``optimizer(rate, width)`` returns an optax transformation; the rate
    is traced: compute with it by jax.numpy only. All inputs are used in each of the ``steps``. Raises ``ValueError``
    for fewer than three rising widths, three finite and positive rates, two seeds or one step, for an optimizer in
    place of that function, and where no rate gives a finite loss.

    >>> import equinox as eqx, numpy as np, optax
    >>> make_model = lambda width, seed: eqx.nn.MLP(2, 1, width, 1, key=jax.random.key(seed))
    >>> X = np.random.default_rng(0).normal(size=(8, 2))
    >>> sizes = {"widths": (8, 16, 32), "rates": (0.01, 0.1, 1.0), "seeds": 2, "steps": 3}
    >>> found = transfer(make_model, optax.sgd, (X, X[:, :1]), **sizes)
    >>> found.losses.shape, found.best.shape
    ((3, 3, 2), (3,))

    Sources: yang2022tuning.
    """
    widths = demand_widths(widths, 3, "A drift needs three widths or more")
    demand_counts(seeds, steps, confidence)
    chosen = sorted({demand_rate(rate) for rate in rates})
    if len(chosen) < 3:
        reject(
            f"{len(chosen)} different rates",
            "A best rate that drifts is looked for among three at least",
            "Give for example rates=numpy.logspace(-3, 0, 7)",
        )
    if not callable(optimizer):
        _reject_optimizer(optimizer)
    X, Y = demand_data(data, least=1)
    required = [one for one in inspect.signature(optimizer).parameters.values() if one.default is one.empty]
    with_width = len(required) > 1
    grids = []
    for width in widths:
        of_rate = partial(_at_width, optimizer, width) if with_width else optimizer
        grids.append(_losses(make_model, width, of_rate, (X, Y), chosen, seeds, steps, loss))
    losses = np.stack(grids)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    _demand_finite(losses, widths)
    best = _best(losses.mean(axis=2), chosen)
    return Transfer(widths, tuple(chosen), losses, best, _drift(losses, widths, chosen, confidence))


def _reject_optimizer(optimizer: Any) -> NoReturn:
    made = isinstance(optimizer, optax.GradientTransformation)
    reject(
        "an optimizer whose rate is chosen already" if made else f"optimizer={optimizer!r}",
        "Each rate is tried: optimizer(rate) or optimizer(rate, width) returns an optax transformation",
        "Give for example optax.adam, without its rate",
    )


def _at_width(optimizer: Callable, width: int, rate: Any) -> optax.GradientTransformation:
    return optimizer(rate, width)


def _losses(
    make_model: Callable[[int, int], Any],
    width: int,
    optimizer: Callable,
    data: tuple[Array, Array],
    rates: Sequence[float],
    seeds: int,
    steps: int,
    loss: Callable[[Array, Any], Array] | None,
) -> Float[np.ndarray, "R S"]:
    """The losses at the end, at one width."""
    X, Y = data
    models = adapted_models(make_model, width, seeds, X[:2])
    objective = loss_for(Y, jax.eval_shape(models[0], X[0]).size, loss)
    own = _Sweep(optimizer, objective, X, Y, steps)
    trained = jnp.asarray(rates, parameters(models[0])[0][0].dtype)
    return np.stack([np.asarray(own(model, trained)) for model in models], axis=1)


class _Sweep(eqx.Module):
    """Training with several rates at once."""

    optimizer: Callable = eqx.field(static=True)
    loss: Callable = eqx.field(static=True)
    X: Array
    Y: Array
    steps: int = eqx.field(static=True)

    @eqx.filter_jit
    def __call__(self, model: Any, rates: Float[Array, " R"]) -> Float[Array, " R"]:
        start, rebuild = parameters(model)
        structure = jax.tree.structure(trained_tree(model))

        def value(tree: Any) -> Array:
            return self.loss(jax.vmap(rebuild(tuple(jax.tree.leaves(tree))))(self.X), self.Y)

        def trained(rate: Array) -> Array:
            optimizer = self.optimizer(rate)
            first = jax.tree.unflatten(structure, start)

            def step(carry: Any, _: None) -> Any:
                tree, state = carry
                updates, state = optimizer.update(jax.grad(value)(tree), state, tree)
                return (optax.apply_updates(tree, updates), state), None

            (last, _), _ = jax.lax.scan(step, (first, optimizer.init(first)), None, length=self.steps)
            return value(last)

        return jax.vmap(trained)(rates)


def _demand_finite(losses: np.ndarray, widths: Sequence[int]) -> None:
    for width, grid in zip(widths, losses, strict=True):
        if not np.any(np.isfinite(grid.mean(axis=1))):
            reject(
                f"losses that are not finite at width {width} for every rate",
                "One rate trains at each width",
                "Add smaller rates",
            )


def _best(losses: Float[np.ndarray, "W R"], rates: Sequence[float]) -> Float[np.ndarray, " W"]:
    """The rate with the least loss, between rates by a parabola in the logarithm of both."""
    x, found = np.log(rates), []
    for row in losses:
        at = int(np.argmin(row))
        near = slice(at - 1, at + 2)
        inside = 0 < at < len(rates) - 1 and np.all(np.isfinite(row[near])) and np.all(row[near] > 0)
        found.append(_vertex(x[near], np.log(row[near]), x[at]) if inside else x[at])
    return np.exp(found)


def _vertex(x: np.ndarray, y: np.ndarray, middle: float) -> float:
    curved, slope, _ = np.polyfit(x - middle, y, 2)
    return float(np.clip(middle - slope / (2 * curved), x[0], x[-1])) if curved > 0 else middle


def _drift(losses: np.ndarray, widths: Sequence[int], rates: Sequence[float], confidence: float) -> Slope:
    """The exponent of the best rate, with a jackknife interval over seeds."""

    def power(means: np.ndarray) -> float:
        return float(np.polyfit(np.log(widths), np.log(_best(means, rates)), 1)[0])

    count = losses.shape[2]
    left = np.array([power(np.delete(losses, at, axis=2).mean(axis=2)) for at in range(count)])
    spread = np.sqrt((count - 1) / count * np.sum((left - left.mean()) ** 2))
    return Slope(power(losses.mean(axis=2)), float(stdtrit(count - 1, 0.5 + 0.5 * confidence) * spread))
