"""A model that somebody brings, as the report takes it: a function of one row of numbers, with names and costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.data import Layout
from widthwise.networks import MLP
from widthwise.operators import Frozen, adapt, entk_plan, parameters

_TRIED = 8  # examples by which a model is tried out
_SPEED = 8e9  # float64 operations per second of two ordinary cores
_SECONDS, _QUICK_SECONDS = 120.0, 40.0  # for each kind of measurement
_EIGENVALUES, _TRIALS = 250.0, 480.0  # gradients of each row for three eigenvalues, and for four rates of 40 steps
_PAIRS = 32  # rows for whose kernel the operations are counted
# Frameworks by the module in which a class of the model is defined; the first that fits.
_FRAMEWORKS = {
    "torch.": "PyTorch",
    "flax.nnx": "Flax NNX",
    "flax.linen": "Flax linen",
    "haiku": "Haiku",
    "equinox": "Equinox",
}


class Rows(eqx.Module):
    """The model as a function (d,) -> (k,) of one row of numbers, which becomes an example of the model's shape."""

    model: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    integers: bool = eqx.field(static=True)

    def __call__(self, row: Float[Array, " d"]) -> Float[Array, " k"]:
        x = jnp.reshape(row, self.shape)
        return jnp.ravel(self.model(x.astype(int) if self.integers else x)).astype(row.dtype)


@dataclass(frozen=True)
class Part:
    """One array of parameters: its name, the layer it belongs to, its shape and its root mean square."""

    name: str
    layer: str
    shape: tuple[int, ...]
    scale: float

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Own:
    """What somebody brought: the model, what it is, its parameters, and the operations of a gradient of one example.

    ``kernel_operations``: of the empirical kernel of 32 examples. ``precision``: of its parameters. ``layout``: the
    shape of an example.
    """

    model: Rows
    kind: str
    framework: str
    precision: str
    layout: Layout
    outputs: int
    parts: tuple[Part, ...]
    operations: float
    kernel_operations: float

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(part.size for part in self.parts)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that have parameters, in order."""
        return tuple(dict.fromkeys(part.layer for part in self.parts))

    def __str__(self) -> str:
        shape = " × ".join(map(str, self.layout.shape))
        return f"{self.kind} ({self.framework}): {shape} → {self.outputs}, {self.size:,} parameters"


def is_model(thing: Any) -> bool:
    """Whether this is a model rather than data: something to call, or a tuple that begins with such a thing.

    >>> is_model(eqx.nn.Identity()), is_model(([[1.0]], [1.0])), is_model("digits")
    (True, False, False)
    """
    if isinstance(thing, MLP):
        return True
    if isinstance(thing, tuple) and thing:
        return is_model(thing[0])
    return callable(thing) and not hasattr(thing, "columns")


def bring(model: Any, X: Float[np.ndarray, "n d"], layout: Layout) -> Own:
    """Adapt a model to rows of numbers, in float64 where it lets itself be computed so.

    Raises ``ValueError`` for what `adapt` refuses: training mode, no parameters, a shape that the model does not take.
    """
    adapted, integers = _adapted(model, X[:_TRIED].reshape(-1, *layout.shape), layout.integers)
    rows = Rows(adapted, layout.shape, integers)
    leaves, _ = parameters(rows)
    found = jax.eval_shape(rows, jnp.asarray(X[0]))
    return Own(
        model=rows,
        kind=_kind(model),
        framework=_framework(model),
        precision=str(max((leaf.dtype for leaf in leaves), key=lambda dtype: dtype.itemsize)),
        layout=Layout(layout.shape, integers, layout.scaling),
        outputs=found.shape[0],
        parts=_parts(adapted),
        operations=_operations(rows, jnp.asarray(X[0])),
        kernel_operations=entk_plan(rows, np.resize(X, (_PAIRS, X.shape[1])), outputs="trace").chosen.operations,
    )


def _adapted(model: Any, X: np.ndarray, integers: bool) -> tuple[Callable, bool]:
    """The model in float64, or in its own precision where it fixes that; whole numbers as such where it takes them."""
    kinds = [X.astype(np.int64), X] if integers else [X]
    refusals = []
    for examples, dtype in [(one, dtype) for one in kinds for dtype in ("float64", None)]:
        try:
            adapted = adapt(model, examples, dtype=dtype)
            jax.eval_shape(adapted, jnp.asarray(examples[0]))
        except (ValueError, TypeError) as refusal:
            refusals.append(refusal)
        else:
            return adapted, examples.dtype.kind == "i"
    raise refusals[1]  # of the examples as they came, in the model's own precision


def _kind(model: Any) -> str:
    """The name of the model's class, or of the function."""
    if type(model) is tuple:
        return _kind(model[0])
    inner = getattr(model, "func", model)  # of a Partial
    name = getattr(inner, "__name__", "") or type(model).__name__
    return "a function" if "<lambda>" in name else name


def _framework(model: Any) -> str:
    """Whose model this is."""
    if type(model) is tuple:
        return _framework(model[0])
    owner = getattr(model, "__self__", model)
    modules = [f"{one.__module__}." for one in type(owner).__mro__]
    known = (name for start, name in _FRAMEWORKS.items() for module in modules if module.startswith(start))
    return next(known, "a function of parameters and input")


def _parts(adapted: Callable) -> tuple[Part, ...]:
    """Every array of parameters by its path, in the order of `parameters`."""
    trained = eqx.filter(adapted, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, Frozen))
    paths = [(_words(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(trained)[0]]
    return tuple(
        Part(".".join(words), ".".join(words[:-1]) or words[0], leaf.shape, float(jnp.sqrt(jnp.mean(leaf**2))))
        for words, leaf in ((words or ("parameters",), leaf) for words, leaf in paths)
    )


def _words(path: Any) -> tuple[str, ...]:
    """A path as words, without those that every path has."""
    words = [word for key in path for word in jax.tree_util.keystr((key,), simple=True).split(".")]
    words = [word for word in words if word]
    words = words[1:] if words[:1] == ["parameters"] else words
    return tuple(words[:-1] if len(words) > 1 and words[-1] in ("value", "raw_value") else words)


def _operations(model: Rows, row: Array) -> float:
    """Additions and multiplications of the gradient of one output of one example, as the compiler counts them."""
    leaves, rebuild = parameters(model)
    gradient = jax.jit(jax.grad(lambda new, x: jnp.sum(rebuild(new)(x))))
    counted = gradient.lower(leaves, row).cost_analysis() or {}
    size = sum(leaf.size for leaf in leaves)
    return max(float(counted.get("flops", 0.0)), 2.0 * size)


@dataclass(frozen=True)
class Plan:
    """On how many rows a model is looked at, so that one of a few million parameters is done in minutes on two cores.

    ``kernel``: training rows of the empirical kernel; ``curvature``: those of eigenvalues and of the rates that are
    tried; ``probe``: those on which the kernel is followed; ``records``: moments of training that are recorded;
    ``seconds``: a rough estimate of all that follows.
    """

    kernel: int
    curvature: int
    probe: int
    records: int
    seconds: float


def plan(own: Own, settings: Any, rows: tuple[int, int]) -> Plan:
    """Choose the numbers of rows from the operations of one gradient; ``rows`` of training and of test."""
    n, m = rows
    budget = _SPEED * (_QUICK_SECONDS if settings.quick else _SECONDS)
    one, k = own.operations, own.outputs
    kernel = min(200 if settings.quick else 500, _PAIRS * math.sqrt(budget / own.kernel_operations))
    curvature = min(500, budget / (one * (_EIGENVALUES + _TRIALS)))
    records = round(max(8, min(40, budget / (1.3 * one * (n + m)))))
    probe = min(_PAIRS, budget / (records * k * one))
    kernel, curvature, probe = (min(n, max(8, round(most))) for most in (kernel, curvature, probe))
    batch = n if settings.optimizer in ("gd", "flow") else min(settings.batch, n)
    work = one * (3.0 * settings.updates * batch + curvature * (_EIGENVALUES + _TRIALS) + 1.3 * records * (n + m))
    work += k * one * records * probe + 3.0 * own.kernel_operations * kernel * (kernel + m) / _PAIRS**2
    return Plan(kernel, curvature, probe, records, work / _SPEED)
