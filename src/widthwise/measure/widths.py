r"""Train a model at several widths from several seeds, and write down how large everything is.

Legend: n the width, s a step of training, RMS the root mean square over all entries (and inputs); of each *tap*
(`taps`): z what it makes, h what it reads, own what the update of its parameter adds to z, and
$\partial L/\partial z$ the loss's derivative; $f$ the outputs, $f_0$ those at the start.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from widthwise.numerics import reject
from widthwise.operators import Frozen, parameters

from .drift import LossFunction
from .taps import Seen, Tap, Taps, find_taps, matrices, read_taps
from .width_inputs import MakeModel, Optimizer, adapted_models, demand_data, loss_for, optimizer_of_width

_POWER_STEPS = 30
_FAR = 1e6  # times the gradient: where no epsilon counts


@dataclass(frozen=True)
class SizedTap:
    """A tap with its role: which of fan-in and fan-out grow with the width.

    "input" (only the fan-out), "hidden" (both), "output" (only the fan-in), "vector" (elementwise, and grows),
    "fixed" (nothing grows), "attention" (a product of two values that vary).
    """

    tap: Tap
    role: str


@dataclass(frozen=True, eq=False)
class WidthRuns:
    r"""What was measured at W widths, S seeds and T + 1 moments (0 .. T steps), nan after a loss that is not finite.

    ``taps`` (w, s, t, taps): by name "z", "change" (of z), "read", "own", "back", and of an attention "moved": how far
    its two values have moved, $\sqrt{|\Delta a|^2|b|^2 + |a_0|^2|\Delta b|^2}$. ``weights`` (w, s, t, parameters):
    "weight", "update", "gradient". ``outputs`` (w, s, t): "output", "change", "loss". ``spectral`` (w, s, taps):
    "weight" at the start, "update" at the end, of products and convolutions. ``degree`` (2, 2, parameters): at the
    narrowest and the widest, d log|update| / d log|gradient| near the gradients of the last step, and far above them;
    ``coupled``: whether the update of one parameter depends on the gradient of another (a clipped norm). ``factor``
    (w, taps): the multiplier of each tap; ``fans`` (w, taps, 2): its fan-in and fan-out. ``diverged`` (w, s): the first
    step whose loss is not finite, or -1.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    sized: tuple[SizedTap, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    unseen: tuple[str, ...]
    taps: dict[str, Float[np.ndarray, "w s t taps"]]
    weights: dict[str, Float[np.ndarray, "w s t p"]]
    outputs: dict[str, Float[np.ndarray, "w s t"]]
    spectral: dict[str, Float[np.ndarray, "w s taps"]]
    degree: Float[np.ndarray, "2 2 p"]
    factor: Float[np.ndarray, "w taps"]
    fans: Float[np.ndarray, "w taps 2"]
    coupled: bool
    diverged: np.ndarray


def train_widths(
    make_model: MakeModel,
    optimizer: Optimizer | Any,
    data: Any,
    *,
    widths: Sequence[int],
    seeds: int = 4,
    steps: int = 5,
    loss: LossFunction | None = None,
    centred: bool = True,
    progress: Callable[[int, int], Any] | None = None,
) -> WidthRuns:
    """Train ``make_model(width, seed)`` for a few full-batch steps, at each width and from each seed.

    ``optimizer`` is an optax transformation, or a function of the width that returns one; ``data`` the inputs (N, ...)
    and labels; ``loss(outputs, labels)`` is by default the cross-entropy of classes and half the mean square of
    targets; ``centred``: it sees $f - f_0$, so that the random $f_0$ does not blur exponents. ``progress(done, total)``
    is called after each run. Raises ``ValueError`` for models whose shapes do not change, that ignore the seed, for
    wrong data, and for what is no such optimizer.
    """
    X, Y = demand_data(data)
    of_width = optimizer_of_width(optimizer)
    models = {width: adapted_models(make_model, width, seeds, X[:2]) for width in widths}
    sized = [find_taps(models[width][0], jax.ShapeDtypeStruct(X.shape[1:], X.dtype)) for width in widths]
    _demand_growth([*widths], models, sized)
    found, done = [], 0
    for width in widths:
        chosen = of_width(width)
        outputs = jax.eval_shape(models[width][0], X[0]).size
        objective = loss_for(Y, outputs, loss)
        own, first = _Trainer(chosen, objective, X, Y, centred), models[width][0]
        runs = []
        for model in models[width]:
            runs.append(
                own.run(_like(model, first, X[0]), steps, probed=model is first and width in (widths[0], widths[-1]))
            )
            done += 1
            if progress is not None:
                progress(done, len(widths) * seeds)
        found.append(runs)
    return _gathered([*widths], seeds, steps, sized, models, found)


def _demand_growth(widths: list[int], models: dict[int, list[Callable]], sized: list[Taps]) -> None:
    """Refuse widths between which nothing grows, seeds that change nothing, and models of different steps."""
    shapes = {width: [leaf.shape for leaf in parameters(models[width][0])[0]] for width in widths}
    for narrow, wide in pairwise(widths):
        if shapes[narrow] == shapes[wide]:
            listed = ", ".join(f"{name} {shape}" for name, shape in zip(sized[0].names, shapes[narrow], strict=True))
            reject(
                f"models of widths {narrow} and {wide} with the same shapes ({listed})",
                "make_model(width, seed) builds layers whose shapes grow with the width",
                "Use its first argument as the number of hidden units, channels or features",
            )
    taken = [[(tap.name, tap.kind) for tap in one.taps] for one in sized]
    if any(one != taken[0] for one in taken):
        reject("models of other operations at other widths", "Only sizes change with the width", "Keep the depth fixed")
    first = [parameters(model)[0] for model in models[widths[0]]]
    same = all(bool(jnp.all(a == b)) for a, b in zip(first[0], first[1], strict=True)) if len(first) > 1 else False
    if same:
        reject(
            "equal parameters for seeds 0 and 1",
            "make_model(width, seed) draws its parameters from the seed",
            "Use its second argument, for example jax.random.key(seed)",
        )


def _like(model: Callable, first: Callable, x: Array) -> Callable:
    """The model as one that shares what is compiled for the first seed, where it differs in its arrays only."""
    arrays, _ = eqx.partition(model, eqx.is_array)
    others, own = eqx.partition(first, eqx.is_array)
    leaves = jax.tree.leaves(arrays)
    if len(jax.tree.leaves(others)) != len(leaves) or _text(model, x) != _text(first, x):
        return model
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(others), leaves), own)


def _text(model: Callable, x: Array) -> tuple[str, tuple[bytes, ...]]:
    """The steps of a model, and the constants in them."""
    leaves, rebuild = parameters(model)
    closed = jax.make_jaxpr(lambda leaves, x: rebuild(leaves)(x))(leaves, x)
    return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)), tuple(np.asarray(one).tobytes() for one in closed.consts)


def trained_tree(model: Any) -> Any:
    """The trainable arrays in the structure that the user's library gives them, on which an optimizer acts."""
    return eqx.filter(model.parameters, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, Frozen))


class _Trainer(eqx.Module):
    """Full-batch training of models of one width."""

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    loss: Callable = eqx.field(static=True)
    X: Array
    Y: Array
    centred: bool = eqx.field(static=True)

    def run(self, model: Any, steps: int, probed: bool) -> dict[str, Any]:
        """All that is written down of one run; ``probed``: also how updates hang on gradients."""
        start, rebuild = parameters(model)
        structure = jax.tree.structure(trained_tree(model))
        state = self.optimizer.init(jax.tree.unflatten(structure, start))
        first, f0 = _before(model, self.X)
        leaves, last, moments, gradient = start, start, [], start
        for _ in range(steps + 1):
            stats, leaves_after, state, gradient = _advance(self, rebuild(leaves), start, state, first, f0)
            moments.append(jax.tree.map(np.asarray, stats))
            last, leaves = leaves, leaves_after
            if not np.isfinite(moments[-1]["outputs"]["loss"]):
                break
        spectral = [np.asarray(one) for one in _spectral(model, last, start, self.X[0])]
        tree = jax.tree.unflatten(structure, last), jax.tree.unflatten(structure, gradient)
        degrees = _degrees(self.optimizer, *tree) if probed else None
        factors = [float(one[0]) for one in first.factor]
        return {"moments": moments, "spectral": spectral, "degree": degrees, "factor": factors}


@eqx.filter_jit
def _before(model: Any, X: Array) -> tuple[Seen, Array]:
    start, _ = parameters(model)
    outputs, seen = jax.vmap(lambda x: read_taps(model, start, start, x))(X)
    return seen, outputs


@eqx.filter_jit
def _advance(trainer: _Trainer, model: Any, start: Any, state: Any, first: Seen, f0: Array) -> Any:
    """The sizes of everything at these parameters, and the parameters after one step."""
    leaves, _ = parameters(model)

    def objective(leaves: Any, shifts: list[Array]) -> Any:
        out, seen = jax.vmap(lambda x, moved: read_taps(model, leaves, start, x, moved))(trainer.X, shifts)
        return trainer.loss(out - f0 if trainer.centred else out, trainer.Y), (out, seen)

    zeros = [jnp.zeros_like(one) for one in first.z]
    (value, (out, seen)), (gradient, back) = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(leaves, zeros)
    structure = jax.tree.structure(trained_tree(model))
    now, slopes = jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, gradient)
    updates, state = trainer.optimizer.update(slopes, state, now)
    stats = {
        "taps": {
            "z": rms_of(seen.z),
            "change": rms_of([a - b for a, b in zip(seen.z, first.z, strict=True)]),
            "read": jnp.stack([jnp.sqrt(jnp.mean(one)).astype(out.dtype) for one in seen.read]),
            "moved": jnp.stack([_moved(*two).astype(out.dtype) for two in zip(seen.joined, first.joined, strict=True)]),
            "own": rms_of(seen.own),
            "back": rms_of([_over(one, factor) for one, factor in zip(back, seen.factor, strict=True)]),
        },
        "weights": {
            "weight": rms_of(leaves),
            "update": rms_of([a - b for a, b in zip(leaves, start, strict=True)]),
            "gradient": rms_of(gradient),
        },
        "outputs": {"output": rms_of([out])[0], "change": rms_of([out - f0])[0], "loss": value},
    }
    return stats, tuple(jax.tree.leaves(optax.apply_updates(now, updates))), state, gradient


def _moved(now: tuple[Array, ...], first: tuple[Array, ...]) -> Array:
    """What the changes of two values make of their product, up to a constant, where they are aligned."""
    if not now:
        return jnp.zeros(())
    (a, b), (a0, b0) = now, first

    def square(one: Array) -> Array:
        return jnp.mean(one**2, axis=tuple(range(1, one.ndim)))

    return jnp.sqrt(jnp.mean(square(a - a0) * square(b) + square(a0) * square(b - b0)))


def _over(back: Array, factor: Array) -> Array:
    """The derivative by z after its multiplier, which is the same for each input."""
    return back / jnp.where(factor[0] == 0, jnp.ones((), factor.dtype), factor[0]).astype(back.dtype)


def rms_of(arrays: Sequence[Array]) -> Float[Array, " k"]:
    """The root mean square of each array.

    >>> [float(one) for one in rms_of([jnp.array([3.0, 3.0]), jnp.zeros(2)])]
    [3.0, 0.0]
    """
    widest = max((one.dtype for one in arrays), key=lambda one: one.itemsize)
    return jnp.stack([jnp.sqrt(jnp.mean(one**2)).astype(widest) for one in arrays])


def _spectral(model: Any, leaves: Any, start: Any, x: Array) -> tuple[np.ndarray, np.ndarray]:
    """Largest singular values at the start and of the update; nan for taps that are no product."""
    found, (count, pairs) = {}, _matrices(model, leaves, start, x)
    for at, (now, before) in pairs.items():
        now, before = np.asarray(now), np.asarray(before)
        found[at] = largest_singular_value(before), largest_singular_value(now - before)
    nothing = (np.nan, np.nan)
    first, moved = zip(*(found.get(at, nothing) for at in range(count)), strict=True)
    return np.asarray(first), np.asarray(moved)


@eqx.filter_jit
def _matrices(model: Any, leaves: Any, start: Any, x: Array) -> tuple[int, dict[int, list[Array]]]:
    count = len(find_taps(model, jax.ShapeDtypeStruct(x.shape, x.dtype)).taps)
    return count, matrices(model, leaves, start, x)


def largest_singular_value(A: Float[np.ndarray, "b i o"]) -> float:
    r"""The largest singular value among b matrices, from below, by power iteration on $A^\top A$.

    >>> round(largest_singular_value(np.diag([3.0, 1.0])[None]), 5)
    3.0
    """
    if not np.all(np.isfinite(A)):
        return float("nan")
    size = float(np.max(np.abs(A), initial=0.0)) or 1.0
    A, v = A / size, np.random.default_rng(0).normal(size=(A.shape[0], A.shape[2], 1)).astype(A.dtype)
    for _ in range(_POWER_STEPS):
        v = np.swapaxes(A, 1, 2) @ (A @ (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30)))
    v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30)
    return size * float(np.max(np.linalg.norm(A @ v, axis=1)))


def _degrees(optimizer: optax.GradientTransformation, params: Any, gradient: Any) -> tuple[np.ndarray, bool]:
    """How each update grows with the gradient, here and far above; and whether other gradients matter."""

    def sizes(scale: float, only: int | None = None) -> np.ndarray:
        flat, tree = jax.tree.flatten(gradient)
        scaled = [scale * one if only in (None, at) else one for at, one in enumerate(flat)]
        updates, _ = optimizer.update(jax.tree.unflatten(tree, scaled), optimizer.init(params), params)
        arrays = [np.asarray(one, dtype=float) for one in jax.tree.leaves(updates)]
        return np.array([np.sqrt(np.mean(one**2)) for one in arrays])

    with np.errstate(divide="ignore", invalid="ignore"):
        here = np.log10(sizes(10.0) / sizes(1.0))
        far = np.log10(sizes(10.0 * _FAR) / sizes(_FAR))
        others = sizes(_FAR, only=0)[1:] / sizes(1.0)[1:]
    return np.stack([here, far]), bool(np.any(np.abs(others - 1.0) > 0.01))


def _gathered(
    widths: list[int], seeds: int, steps: int, sized: list[Taps], models: dict[int, list[Any]], found: Any
) -> WidthRuns:
    grouped = {
        part: {
            name: np.array(
                [[_padded([one[part][name] for one in run["moments"]], steps + 1) for run in runs] for runs in found]
            )
            for name in found[0][0]["moments"][0][part]
        }
        for part in ("taps", "weights", "outputs")
    }
    finite = np.isfinite(grouped["outputs"]["loss"])
    shapes = tuple(tuple(leaf.shape for leaf in parameters(models[width][0])[0]) for width in widths)
    return WidthRuns(
        tuple(widths),
        tuple(range(seeds)),
        steps,
        tuple(SizedTap(a, role_of(a, b)) for a, b in zip(sized[0].taps, sized[-1].taps, strict=True)),
        sized[0].names,
        shapes,
        tuple(sized[0].names[at] for at in sized[0].hidden),
        spectral={
            name: np.array([[run["spectral"][at] for run in runs] for runs in found])
            for at, name in enumerate(("weight", "update"))
        },
        degree=np.array([runs[0]["degree"][0] for runs in (found[0], found[-1])]),
        factor=np.array([runs[0]["factor"] for runs in found]),
        fans=np.array([[(tap.fan_in, tap.fan_out) for tap in one.taps] for one in sized], dtype=float),
        coupled=any(runs[0]["degree"][1] for runs in (found[0], found[-1])),
        diverged=np.where(np.all(finite, axis=2), -1, np.argmin(finite, axis=2)),
        **grouped,
    )


def _padded(rows: list[Any], count: int) -> np.ndarray:
    """Rows with nan for those that are not there."""
    array = np.asarray(rows, dtype=float)
    return np.concatenate([array, np.full((count - len(array), *array.shape[1:]), np.nan)])


def role_of(narrow: Tap, wide: Tap) -> str:
    """The role of an operation, by its sizes at two widths.

    >>> role_of(Tap("w", "product", (0,), 10, 64), Tap("w", "product", (0,), 10, 128))
    'input'
    """
    if narrow.kind == "attention":
        return "attention"
    grows = wide.fan_in > narrow.fan_in, wide.fan_out > narrow.fan_out
    if narrow.kind not in ("product", "convolution", "lookup"):
        return "vector" if grows[1] else "fixed"
    return {(False, True): "input", (True, True): "hidden", (True, False): "output", (False, False): "fixed"}[grows]
