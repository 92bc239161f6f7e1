r"""How signals go through any model, layer by layer: forwards, backwards, and how two inputs come together.

Legend: $z^{(l)}$ (n_l,) the pre-activation of the traced layer l, $l = 1..m$, $f$ (k,) the outputs, $J^{(l)} = \partial
z^{(l+1)}/\partial z^{(l)}$; ``rows`` are independent draws of the model or, of one model, the inputs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Shaped

from widthwise.numerics import Estimate, demand_numbers, mean_and_sem, reject
from widthwise.operators import parameters

from .lanczos import top_pair
from .traced import Trace, trace

_MOST_OUTPUTS, _PROBES = 16, 8  # beyond so many outputs, so many random sums of them stand for all
_TOGETHER = 8  # inputs whose sensitivities are held at once
_LOOKED = 2  # inputs at which Jacobians of layers are taken
_STEPS, _DIRECTIONS = 12, 8  # of Lanczos for the largest singular value, and random directions for the mean


@dataclass(frozen=True, eq=False)
class Propagated:
    r"""What was measured of every traced layer (rows, m), in the order of execution.

    ``variance``: $\frac1{n_l}\|z^{(l)}\|^2$. ``gap``: $1 - \rho$, with $\rho$ the cosine of the $z^{(l)}$ of two
    inputs, averaged over pairs; None for a single input. ``gradient``: $\frac1k\|\partial f/\partial z^{(l)}\|_F^2$.
    ``gain``: $\frac1{n_{l+1}}\|J^{(l)}\|_F^2$, by how much a small random change of $z^{(l)}$ grows (its mean square,
    $\chi_\perp$ at infinite width), and ``stretch``, the largest singular value of $J^{(l)}$: (rows, m - 1), nan where
    the next layer does not read this one; None where they were not asked for.
    ``inputs``: $\frac1d\|x\|^2$ (rows,), nan where inputs are whole numbers. ``weight_variance``, ``bias_variance``:
    $C_w$, the fan-in times the mean square of the weights, and $C_b$, that of the biases, (draws, m).
    """

    trace: Trace
    over: Literal["draws", "inputs"]
    variance: Float[np.ndarray, "r m"]
    gap: Float[np.ndarray, "r m"] | None
    gradient: Float[np.ndarray, "r m"]
    gain: Float[np.ndarray, "s p"] | None
    stretch: Float[np.ndarray, "s p"] | None
    inputs: Float[np.ndarray, " r"]
    weight_variance: Float[np.ndarray, "c m"]
    bias_variance: Float[np.ndarray, "c m"]

    @property
    def names(self) -> tuple[str, ...]:
        """The layers by the paths of their weights."""
        return self.trace.names

    @property
    def hidden(self) -> list[int]:
        """The places of hidden layers: neither tables in which is looked up nor the last layer."""
        return [at for at, layer in enumerate(self.trace.layers[:-1]) if layer.kind != "lookup"]

    def mean(self, name: str) -> Estimate:
        """The mean over rows of ``"variance"``, ``"gradient"``, ... and its standard error (m,)."""
        return mean_and_sem(getattr(self, name))


def propagated(models: Iterable[Callable], X: Shaped[np.ndarray, "n ..."], *, jacobians: bool = True) -> Propagated:
    """Measure adapted models that differ in their arrays alone: of one the rows are inputs, of several draws.

    Raises ``ValueError`` for a model without known steps, for draws that differ in their layers, for inputs that are
    not finite, and for signals that overflow, naming the first layer where they do.

    >>> from widthwise.networks import MLP, sample
    >>> model = sample(MLP(width=64, depth=2, activation="relu").network(), jr.key(0), in_size=3)
    >>> found = propagated([model], np.eye(3))
    >>> found.variance.shape, found.gradient[:, -1].tolist(), found.gain.shape
    ((3, 3), [1.0, 1.0, 1.0], (2, 2))
    """
    inputs = _checked(X)
    seen, first = [], None
    for place, model in enumerate(models):
        found = trace(model, inputs[0])
        first = found if first is None else _alike(first, found, place)
        seen.append(_measured(first, model, inputs, jr.key(place), jacobians))
        _demand_finite(first, seen[-1], place)
    if first is None:
        reject("no model", "Signals are those of at least one model", "Give a model, or make_model with draws=10")
    return _gathered(first, seen)


def _checked(X: Any) -> Array:
    demand_numbers("X", X)
    X = np.asarray(X)
    if X.ndim == 0 or len(X) == 0 or not np.all(np.isfinite(X)):
        reject(
            f"X of shape {X.shape}" + (" with NaN or infinity" if X.size and X.ndim else ""),
            "Signals are those of n >= 1 finite inputs along the first axis",
            "Give some rows of the data, as the model takes them",
        )
    return jnp.asarray(X)


def _alike(first: Trace, found: Trace, place: int) -> Trace:
    told = [[(layer.name, layer.shape) for layer in one.layers] for one in (first, found)]
    if told[0] != told[1]:
        reject(
            f"draw {place} with other layers than draw 0",
            "Draws of a model differ in the values of their parameters only",
            "Let make_model(seed) use the seed for the parameters alone",
        )
    return first


def _measured(found: Trace, model: Callable, X: Array, key: Array, jacobians: bool) -> dict[str, np.ndarray]:
    rows, sides = _look(found, model, X, _weights(found.outputs, key, found.found.dtype), key, jacobians)
    seen = {name: np.asarray(part, dtype=float) for name, part in rows.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("variance", "gradient"):  # squares may leave the range of float32
            seen[name] = seen[name] * seen.pop(f"{name}_scale") ** 2
    return seen | {name: np.asarray(part, dtype=float) for name, part in sides.items()}


def _weights(outputs: int, key: Array, dtype: Any) -> Array:
    r"""Weights u of sums of outputs with $\sum_i u_iu_i^\top = I$ in expectation, or exactly for a few outputs."""
    if outputs <= _MOST_OUTPUTS:
        return jnp.eye(outputs, dtype=dtype)
    return jr.rademacher(key, (_PROBES, outputs), dtype=dtype) / _PROBES**0.5


@eqx.filter_jit
def _look(found: Trace, model: Callable, X: Array, weights: Array, key: Array, jacobians: bool):
    """What is measured for each input, (n, m), and what is of the model or of a few inputs."""
    inside = found.inside(model, X)
    sizes = [_sizes(z) for z in inside.outputs]
    rows = {"variance": jnp.stack([one[0] for one in sizes], 1), "variance_scale": jnp.stack([s[1] for s in sizes], 1)}
    if len(X) > 1:
        rows["gap"] = jnp.stack([_gaps(z) for z in inside.outputs], axis=1)
    back = jax.lax.map(lambda x: _backward(found, model, x, weights), X, batch_size=min(_TOGETHER, len(X)))
    rows |= {"gradient": back[0], "gradient_scale": back[1]}
    real = jnp.issubdtype(X.dtype, jnp.inexact)
    rows["inputs"] = jnp.mean(X.reshape(len(X), -1) ** 2, axis=1) if real else jnp.full(len(X), jnp.nan)
    sides = _drawn(found, model)
    if jacobians and len(found.layers) > 1:
        both = jax.lax.map(lambda x: _jacobians(found, model, x, key), X[:_LOOKED])
        sides |= dict(zip(("gain", "stretch"), both, strict=True))
    return rows, sides


def _sizes(z: Array) -> tuple[Array, Array]:
    """Mean squares of each input, over the square of a scale that is returned as well."""
    flat = z.reshape(len(z), -1)
    scale = jnp.max(jnp.abs(flat), axis=1)
    safe = jnp.where(scale > 0, scale, 1.0)
    return jnp.mean((flat / safe[:, None]) ** 2, axis=1), scale


def _gaps(z: Array) -> Array:
    r"""$1 - \rho$ with each other input, averaged; from differences of directions, so that a small one is right."""
    flat = z.reshape(len(z), -1)
    flat = flat / jnp.maximum(jnp.max(jnp.abs(flat), axis=1, keepdims=True), jnp.finfo(z.dtype).tiny)
    norm = jnp.linalg.norm(flat, axis=1, keepdims=True)
    unit = jnp.where(norm > 0, flat / jnp.where(norm > 0, norm, 1.0), jnp.nan)
    total = jax.lax.map(lambda one: 0.5 * jnp.sum((unit - one[None]) ** 2), unit)
    return total / (len(z) - 1)


def _backward(found: Trace, model: Callable, x: Array, weights: Array) -> tuple[Array, Array]:
    """The squared sensitivities of each layer over the number of outputs, and their scales."""
    parts = [part[0] for part in found.sensitivities(model, x[None], weights)]
    scales = [jnp.max(jnp.abs(part)) for part in parts]
    squares = [
        jnp.sum((part / jnp.where(scale > 0, scale, 1.0)) ** 2) / found.outputs
        for part, scale in zip(parts, scales, strict=True)
    ]
    return jnp.stack(squares), jnp.stack(scales)


def _drawn(found: Trace, model: Callable) -> dict[str, Array]:
    """The weight and bias variances of the layers, in units of the fan-in."""
    leaves, weight, bias = parameters(model)[0], [], []
    for layer in found.layers:
        use, (of_weight, of_bias) = found.found.uses[layer.use], layer.scales
        held = leaves[layer.weight] if layer.round is None else leaves[layer.weight][layer.round]
        fan_in = 1 if layer.kind == "lookup" else use.kind.sizes[1]
        weight.append(fan_in * of_weight**2 * jnp.mean(held**2))
        bias.append(0.0 * weight[-1] if layer.bias is None else of_bias**2 * jnp.mean(leaves[layer.bias] ** 2))
    return {"weight_variance": jnp.stack(weight), "bias_variance": jnp.stack(bias)}


def _jacobians(found: Trace, model: Callable, x: Array, key: Array) -> tuple[Array, Array]:
    """Mean squared gains and largest singular values between successive layers at one input."""
    zeros = found.zeros()

    def made(shifts: list[Array]) -> tuple[Array, ...]:
        return found.run(model, x, shifts)[1].outputs

    outputs, push = jax.linearize(made, zeros)
    pull = jax.linear_transpose(push, zeros)
    here = [_only(found, at) for at in range(len(found.layers))]
    wide = jnp.array([out.size for out in outputs], outputs[0].dtype)
    start = [jr.normal(jr.fold_in(key, at), zero.shape, zero.dtype) for at, zero in enumerate(zeros)]

    def one(at: Array) -> tuple[Array, Array]:
        def masked(vector: list[Array]) -> list[Array]:
            return jax.lax.switch(at, here, vector)

        def onwards(vector: list[Array]) -> tuple[Array, ...]:
            return tuple(jnp.where(at + 1 == to, part, 0.0) for to, part in enumerate(push(masked(vector))))

        def product(vector: list[Array]) -> list[Array]:
            return masked(pull(onwards(vector))[0])

        def square(key: Array) -> Array:
            signs = [jr.rademacher(jr.fold_in(key, to), zero.shape, zero.dtype) for to, zero in enumerate(zeros)]
            return jnp.sum(jnp.stack([jnp.sum(part**2) for part in onwards(signs)]))

        gain = jnp.mean(jax.lax.map(square, jr.split(key, _DIRECTIONS))) / wide[at + 1]
        top = jnp.sqrt(jnp.maximum(top_pair(product, masked(start), _STEPS)[0], 0.0))
        return jnp.where(gain > 0, gain, jnp.nan), jnp.where(gain > 0, top, jnp.nan)

    return jax.lax.map(one, jnp.arange(len(found.layers) - 1))


def _only(found: Trace, at: int) -> Callable[[list[Array]], list[Array]]:
    """Keep the shifts of one layer."""
    layer = found.layers[at]

    def kept(shifts: list[Array]) -> list[Array]:
        nothing = [jnp.zeros_like(shift) for shift in shifts]
        mine = shifts[layer.use]
        nothing[layer.use] = mine if layer.round is None else nothing[layer.use].at[layer.round].set(mine[layer.round])
        return nothing

    return kept


def _demand_finite(found: Trace, seen: dict[str, np.ndarray], place: int) -> None:
    bad = np.flatnonzero(~np.isfinite(seen["variance"]).all(axis=0))
    if len(bad):
        reject(
            f"Pre-activations that are not finite in draw {place}, first at the layer {found.names[bad[0]]}",
            "Signals are finite numbers",
            "Scale that layer's weights or the inputs down, or compute in dtype='float64'",
        )
    bad = np.flatnonzero(~np.isfinite(seen["gradient"]).all(axis=0))
    if len(bad):
        reject(
            f"Gradients that are not finite in draw {place}, on the way back first at the layer {found.names[bad[-1]]}",
            "Sensitivities are finite numbers",
            "Look for a root or a division at zero behind that layer, or compute in dtype='float64'",
        )


def _gathered(found: Trace, seen: list[dict[str, np.ndarray]]) -> Propagated:
    several = len(seen) > 1

    def rows(name: str) -> np.ndarray | None:
        if name not in seen[0]:
            return None
        return np.stack([one[name].mean(axis=0) for one in seen]) if several else seen[0][name]

    drawn = {name: np.stack([one[name] for one in seen]) for name in ("weight_variance", "bias_variance")}
    names = ("variance", "gap", "gradient", "gain", "stretch", "inputs")
    return Propagated(found, "draws" if several else "inputs", **{name: rows(name) for name in names}, **drawn)  # pyright: ignore[reportArgumentType]
