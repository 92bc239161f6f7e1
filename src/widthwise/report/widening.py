r"""What a network does as it is made wider: fresh networks at several widths, trained for a few steps.

Legend: n the width, L the number of hidden layers, $z^{(l)}$ the pre-activations of layer l without their bias.
"""

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from widthwise.networks import MLP, Affine, sample
from widthwise.theory.parameterisations import (
    Exponents,
    Prediction,
    Reading,
    Slope,
    WidthCheck,
    predict,
    width_check,
)

from .context import Context
from .costs import count_parameters

STEPS = 2
CONFIDENCE = 0.95
_ROWS = 64
_SEEDS, _QUICK_SEEDS = 16, 12
_WIDEST, _QUICK_WIDEST = 512, 256  # from an eighth of it on; exponents of narrower networks scatter more
_PARAMETERS, _FLOOR = 1_000_000, 64  # of the widest network, which is halved down to the floor where it has more
_DEEPEST = 16  # beyond it the program of a step takes long to compile, once for each width
_APART = 0.25  # half of the step between exponents, which are multiples of 1/2
_ONE_AT_A_TIME = threading.Lock()
_OPTIMISERS = {"gd": "sgd", "flow": "sgd", "sgd": "sgd", "adam": "adam"}


@dataclass(frozen=True, eq=False)
class Widened:
    """The check at some widths, or the ``problem`` that left none; what theory predicts for it, and the rate."""

    widths: tuple[int, ...]
    seeds: int
    rows: int
    rate: float
    found: WidthCheck | None
    predicted: Prediction
    problem: str = ""

    @property
    def moment(self) -> int:
        """After how many steps exponents are read."""
        return self.found.moment if self.found else STEPS

    @property
    def layers(self) -> tuple[Reading, ...]:
        """The readings of the hidden layers, in their order."""
        return self.products[:-1]

    @property
    def products(self) -> tuple[Reading, ...]:
        """The readings of all layers, the readout last."""
        return tuple(one for one in self.found.readings if one.kind == "product") if self.found else ()

    @property
    def moved(self) -> tuple[Slope, ...]:
        """How the movement of each hidden layer goes with the width, and that of the outputs last."""
        return (*(one.change for one in self.layers), self.found.outputs["change"]) if self.found else ()

    @property
    def rises(self) -> bool:
        """Whether the loss of the widest networks rose in these steps, or was lost."""
        if self.found is None:
            return False
        loss = self.found.runs.outputs["loss"][-1]
        return not np.median(loss[:, -1]) <= np.median(loss[:, 0])

    @property
    def measured(self) -> str:
        """The regime that was seen: one of `Prediction.regime`, or "inconclusive"."""
        if self.found is None:
            return "inconclusive"
        if any(not narrow(one) for one in self.moved):
            return "inconclusive"
        if self.found.regime == "unstable":
            return "unstable"
        *features, outputs = (one.value for one in self.moved)
        if outputs < -_APART:
            return "trivial"
        if all(value < -_APART for value in features):
            return "kernel"
        return "feature learning" if all(value > -_APART for value in features) else "inconclusive"

    @property
    def regime(self) -> str:
        """The regime where measurement and theory agree on it, and "inconclusive" where they do not."""
        return self.measured if self.measured == self.predicted.regime else "inconclusive"


def narrow(slope: Slope) -> bool:
    """Whether the interval of an exponent is so narrow that it holds one multiple of 1/2 at most.

    >>> narrow(Slope(-0.45, 0.12)), narrow(Slope(-0.45, 0.6)), narrow(Slope(float("nan"), float("inf")))
    (True, False, False)
    """
    return bool(np.isfinite(slope.value)) and slope.half <= _APART


def widened(context: Context) -> Widened:
    """Train networks of several widths at the rate of the report; kept by ``context.once``."""
    spec, rows = context.spec, context.some_rows("width", _ROWS)
    widths, seeds = widths_of(context), _QUICK_SEEDS if context.settings.quick else _SEEDS
    rate = _rate(context)
    found, problem = None, ""
    if spec.depth > _DEEPEST:
        problem = f"of {spec.depth} hidden layers no wider and narrower copies are trained here, of {_DEEPEST} at most"
    else:
        try:
            found = _check(context, widths, seeds, rows, rate)
        except ValueError as error:  # of a rate at which every width diverges
            problem = str(error).split(". ")[0]
    first_step = found is not None and found.moment == 1
    prediction = predicted(spec, context.settings.optimizer, first_step)
    return Widened(widths, seeds, len(rows), rate, found, prediction, problem)


def widths_of(context: Context) -> tuple[int, ...]:
    """Four widths that double, up to the widest that the inputs and outputs allow."""
    spec, top = context.spec, _QUICK_WIDEST if context.settings.quick else _WIDEST
    while top > _FLOOR and count_parameters(spec.at_width(top), context.inputs, context.outputs) > _PARAMETERS:
        top //= 2
    return top // 8, top // 4, top // 2, top


def _rate(context: Context) -> float:
    """The rate of the report; a flow, whose solver takes stable steps by itself, is followed in stable ones too."""
    if context.settings.optimizer != "flow":
        return context.learning_rate
    return min(context.learning_rate, 0.5 * context.stable_rate, 0.5 * context.own_stable_rate)


def predicted(spec: MLP, optimizer: str, first_step: bool = False) -> Prediction:
    """What theory says for a rate that does not depend on the width, by parameterisation and optimiser.

    >>> predicted(MLP(), "gd").regime, predicted(MLP(parameterisation="standard"), "gd").regime
    ('kernel', 'unstable')
    """
    multiplier = 0.5 if spec.parameterisation == "ntk" else 0.0
    later = Exponents(multiplier, 0.5 - multiplier, 0.0)
    return predict((Exponents(0.0, 0.0, 0.0), *[later] * spec.depth), _OPTIMISERS[optimizer], first_step)


def _check(context: Context, widths: tuple[int, ...], seeds: int, rows: np.ndarray, rate: float) -> WidthCheck:
    optimizer = optax.adam(rate) if context.settings.optimizer == "adam" else optax.sgd(rate)
    data = context.X_train[rows], context.T_train[rows]
    task = context.progress.task("Networks of several widths", len(widths) * seeds)
    with task as advance, _compiled_quickly(), jax.enable_x64(True):
        return width_check(
            lambda width, seed: start(context, width, seed),
            optimizer,
            data,
            widths=widths,
            seeds=seeds,
            steps=STEPS,
            loss=_risk,
            confidence=CONFIDENCE,
            progress=lambda done, total: advance(),
        )


def _risk(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Float[Array, ""]:
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1))


@contextlib.contextmanager
def _compiled_quickly() -> Iterator[None]:
    """JAX's own setting for programs that take longer to compile than to run, as they are different at each width."""
    name = "jax_disable_most_optimizations"
    with _ONE_AT_A_TIME:  # the setting is that of all threads
        before = jax.config.read(name)
        jax.config.update(name, True)
        try:
            yield
        finally:
            jax.config.update(name, before)


def start(context: Context, width: int, seed: int) -> Callable:
    """A network of this width with weights as `sample` draws them, by numpy: JAX compiles a program for each shape."""
    spec = context.spec.at_width(width)
    rng = np.random.default_rng([context.settings.seed, zlib.crc32(b"width"), width, seed])
    own, unit = (_skeleton(context, replace(spec, parameterisation=one)) for one in (spec.parameterisation, "ntk"))

    def drawn(piece: Affine, like: Affine) -> Affine:
        """Standard normal numbers, times what the NTK parameterisation multiplies by where it is in the weights."""
        within = spec.parameterisation == "standard"
        weight, bias = (
            None if one is None else jnp.asarray((scale if within else 1.0) * rng.normal(size=one.shape))
            for one, scale in ((piece.weight, like.weight_scale), (piece.bias, like.bias_scale))
        )
        return replace(piece, weight=weight, bias=bias)

    return jax.tree.map(
        lambda piece, like: drawn(piece, like) if isinstance(piece, Affine) else piece, own, unit, is_leaf=_is_affine
    )


def _is_affine(piece: object) -> bool:
    return isinstance(piece, Affine)


def _skeleton(context: Context, spec: MLP) -> Callable:
    """The network with shapes in place of its arrays."""
    return eqx.filter_eval_shape(sample, spec.network(context.outputs), context.key("width"), context.inputs)
