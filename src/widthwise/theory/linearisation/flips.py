r"""How many pre-activations change their sign while a network trains: the nearness that linearisation needs.

Legend: z the pre-activations of a hidden layer of m units, $z^0$ those of the start; a unit is *flipped* for an input
where $z > 0$ and $z^0 \le 0$ or the other way round. $\varphi$, $\Phi$ density and distribution of N(0, 1).
"""

import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.special import ndtr

from widthwise.measure import Trace, trace
from widthwise.numerics import reject
from widthwise.operators import adapt, demand_options, examples, parameters

Row = dict[str, Any]


def expected_flips(move: ArrayLike) -> Float[np.ndarray, "..."]:
    r"""The fraction of standard normal pre-activations that flip when each moves by $\delta$, up or down alike.

    $\Phi(|\delta|) - \frac12 = \varphi(0)|\delta|(1 + O(\delta^2))$: with $\delta = c/\sqrt m$ it is
    $0.3989\,c/\sqrt m$. Derived here.

    >>> expected_flips([0.01, -0.01]).round(8).tolist()
    [0.00398936, 0.00398936]
    """
    return np.asarray(ndtr(np.abs(np.asarray(move, dtype=float))) - 0.5)


def flip_fraction(before: ArrayLike, after: ArrayLike) -> Float[np.ndarray, " n"]:
    """The fraction of flipped units for each input, from pre-activations (n, m) at the start and now.

    Raises ``ValueError`` for shapes that differ and NaN.

    >>> flip_fraction([[1.0, -1.0, 0.5, 0.0]], [[0.1, 1.0, -0.5, 0.0]]).tolist()
    [0.5]
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if before.shape != after.shape or before.ndim != 2 or not before.size:
        reject(
            f"pre-activations of shapes {before.shape} and {after.shape}",
            "They are (n, m) for n inputs and m units, the same at both moments",
            "Flatten all units of a layer into one axis",
        )
    if np.any(np.isnan(before)) or np.any(np.isnan(after)):
        reject("pre-activations with NaN", "Every one is a number", "Look for the step at which training diverged")
    return np.mean((before > 0) != (after > 0), axis=1)


class FlipMonitor:
    r"""Follow in any training loop how many units flip, and say when they are more than $1/\sqrt m$.

    A monitor is made with the model at its start and called after every step, ``monitor(step, model)``. On a fixed set
    of inputs X (n, ...) a record holds, of each hidden layer (every layer with a weight but the last), the fraction of
    flipped units: ``flips``, the mean over inputs, and ``largest``, that of the worst input; and the ``distance``
    $\|w - w_0\|$ of all parameters together. While the fraction is of the order $1/\sqrt m$ the network may still be
    near its linearisation; trained for long, few networks stay there.

    ``model`` is anything that `adapt` takes, with ``options``, brought in the same way at every step; of a function
    with ``params`` its new parameters will do. What a model holds beside its parameters, such as running statistics,
    stays as it was at the start.

    Raises ``ValueError`` for a model that `adapt` refuses, one without a hidden layer, parameters of another shape, and
    steps that do not rise. Derived here, after bartlett2021deep.

    >>> import jax.numpy as jnp
    >>> p = {"in": jnp.ones((4, 2)), "out": jnp.ones((1, 4))}
    >>> f = lambda p, x: p["out"] @ jnp.tanh(p["in"] @ x)
    >>> monitor = FlipMonitor((f, p), np.eye(2))
    >>> for step in range(4):
    ...     monitor(step, (f, p | {"in": p["in"].at[:step].mul(-1.0)}))
    >>> monitor.records["flips"].ravel().tolist(), monitor.exceeded  # 1/sqrt(4) is exceeded by 3/4
    ([0.0, 0.25, 0.5, 0.75], {'in': 3})
    """

    def __init__(self, model: Any, X: ArrayLike, **options: Any):
        demand_options(FlipMonitor, options)
        self._X, self._options = examples(X), options
        self._model = model
        self._adapted: Any = adapt(model, self._X, **options)
        self._start, self._rebuild = parameters(self._adapted)
        found: Trace = trace(self._rebuild(self._start), self._X[0])
        if len(found.layers) < 2:
            reject(
                f"a model with the layers {', '.join(found.names)}",
                "Signs flip in hidden layers, so it needs at least two layers with weights",
                "Give the whole network",
            )
        self._layers, self._trace = found.layers[:-1], found
        self._signs = self._look(self._start)
        self._rows: list[Row] = []

    def __repr__(self) -> str:
        return f"FlipMonitor({len(self._rows)} records on {len(self._X)} inputs, exceeded: {self.exceeded})"

    def __call__(self, step: int, model: Any) -> None:
        """Record the model after so many steps."""
        if self._rows and not step > self._rows[-1]["step"]:
            reject(
                f"step={step} after step {self._rows[-1]['step']}",
                "Steps count from the start of the training and rise",
                "Count on from one epoch to the next",
            )
        leaves, _ = parameters(self._brought(model))
        shapes = [[leaf.shape for leaf in part] for part in (leaves, self._start)]
        if shapes[0] != shapes[1]:
            reject(
                f"a model with parameters of shapes {shapes[0]}",
                f"Those of the start have the shapes {shapes[1]}",
                "Bring the model as it was brought at the start",
            )
        flipped = [now != first for now, first in zip(self._look(leaves), self._signs, strict=True)]
        each = np.array([np.mean(one, axis=1) for one in flipped])
        moved = [np.linalg.norm(np.asarray(w - v, dtype=float)) for w, v in zip(leaves, self._start, strict=True)]
        row = {"step": step, "flips": each.mean(axis=1), "largest": each.max(axis=1)}
        self._rows.append(row | {"distance": math.hypot(*moved)})

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the hidden layers."""
        return tuple(layer.name for layer in self._layers)

    @property
    def thresholds(self) -> Float[np.ndarray, " l"]:
        r"""$1/\sqrt m$ of each hidden layer."""
        return np.array([math.prod(layer.shape) ** -0.5 for layer in self._layers])

    @property
    def records(self) -> dict[str, np.ndarray]:
        """The records as arrays, one entry for each along the first axis; ``flips`` and ``largest`` by layer."""
        return {name: np.array([row[name] for row in self._rows]) for name in ("step", "flips", "largest", "distance")}

    @property
    def exceeded(self) -> dict[str, int | None]:
        r"""For each hidden layer the first recorded step with more than $1/\sqrt m$ of the units flipped, if any."""
        rows = [(row["step"], row["flips"] > self.thresholds) for row in self._rows]
        return {
            name: next((step for step, above in rows if above[place]), None) for place, name in enumerate(self.layers)
        }

    def _brought(self, model: Any) -> Any:
        """The model now, without trying out again whether it acts on one example or on a batch."""
        options = {**self._options, "batched": self._adapted.batched}
        params = options.pop("params", None)
        if params is not None and not callable(model) and not isinstance(model, tuple):
            return adapt(self._model, params=model, **options)
        return adapt(model, self._X if hasattr(model, "named_parameters") else None, **options)

    def _look(self, leaves: tuple[Array, ...]) -> list[np.ndarray]:
        """Whether each unit is active, (n, m) for each hidden layer."""
        made = _made(_Reader(self._rebuild, self._trace), leaves, self._X)
        found = [np.asarray(one) for one in made[: len(self._layers)]]
        if any(np.any(np.isnan(one)) for one in found):
            reject("pre-activations with NaN", "Every one is a number", "Look for the step at which training diverged")
        return [one.reshape(len(one), -1) > 0 for one in found]


class _Reader(eqx.Module):
    """Reads the pre-activations of a model of which only the parameters change."""

    rebuild: Any = eqx.field(static=True)
    trace: Trace = eqx.field(static=True)


@eqx.filter_jit
def _made(reader: _Reader, leaves: tuple[Array, ...], X: Array) -> tuple[Array, ...]:
    return reader.trace.inside(reader.rebuild(leaves), X).outputs
