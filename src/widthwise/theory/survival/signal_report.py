r"""Does the signal survive? A report on the initialisation of any model, and a better one.

Legend: $V_l$ the mean square of the pre-activations of layer l, $P_l = \frac1k\|\partial f/\partial z^{(l)}\|_F^2$,
$\rho_l$ the mean cosine of the pre-activations of two inputs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.measure import Propagated, Rescaled, made, propagated, rescaled
from widthwise.networks import MLP, AbstractLayer, Apply, Chain, sample
from widthwise.numerics import Estimate, demand_numbers, mean_and_sem, reject
from widthwise.operators import Adapted, adapt, demand_options, replaced

from .predicted import PredictedSignals, chain_of, predicted_signals

Word = Literal["preserved", "growing", "shrinking", "unclear", "dead"]
_DRAWS = 10  # of a network of the library
_TOGETHER, _APART = 0.1, 10.0  # the gap of two inputs at the last hidden layer, times that at the first


@dataclass(frozen=True)
class Trend:
    """How a signal changes: a word, the factor for each layer with its standard error, and the factor overall."""

    word: Word
    factor: Estimate
    total: float

    def __str__(self) -> str:
        if self.word == "dead":
            return "is zero in some layer"
        value, error = float(self.factor.value), float(self.factor.error)
        told = f"a factor {value:.3g} ± {error:.1g} a layer, {self.total:.2g} over all"
        return f"{'is' if self.word in ('preserved', 'unclear') else 'keeps'} {self.word} ({told})"


@dataclass(frozen=True, eq=False)
class SignalReport:
    """What `signal_report` found: measured signals, their prediction if there is one, and how to mend them.

    ``measured``: arrays over draws or inputs. ``predicted``: of infinitely wide layers, or ``unpredicted``: why not.
    ``rescaling``: what one pass over the inputs proposes for the first draw. ``tolerance``: the relative change per
    layer that counts as none.
    """

    measured: Propagated
    predicted: PredictedSignals | None
    unpredicted: str
    rescaling: Rescaled
    tolerance: float
    model: Adapted
    X: Array
    options: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The layers, by the paths of their weights, in the order of execution."""
        return self.measured.names

    @cached_property
    def forward(self) -> Trend:
        r"""How $V_l$ changes from one hidden layer to the next, from a straight line through its logarithms."""
        return self._trend(self.measured.variance[:, self.measured.hidden])

    @cached_property
    def backward(self) -> Trend:
        r"""How $P_l$ changes from one hidden layer to the one before it."""
        return self._trend(self.measured.gradient[:, self.measured.hidden[::-1]])

    @property
    def correlation(self) -> Estimate | None:
        r"""The mean cosine $\rho_l$ of two inputs at each layer (m,), None for a single input."""
        if self.measured.gap is None:
            return None
        gap = self.measured.mean("gap")
        return Estimate(1.0 - gap.value, gap.error)

    @property
    def inputs_told_apart(self) -> Literal["merging", "parting", "kept", "unknown"]:
        """What happens to the angle of two inputs from the first hidden layer to the last."""
        hidden = self.measured.hidden
        if self.measured.gap is None or len(hidden) < 2:
            return "unknown"
        gap = self.measured.mean("gap").value
        if not gap[hidden[0]] > 0:
            return "unknown"
        ratio = gap[hidden[-1]] / gap[hidden[0]]
        return "merging" if ratio < _TOGETHER else "parting" if ratio > _APART else "kept"

    @property
    def steps(self) -> tuple[Trend, ...]:
        """For each layer but the first, the change of its variance since the layer before."""
        variance = self.measured.variance
        return tuple(self._trend(variance[:, [at - 1, at]]) for at in range(1, len(self.names)))

    @property
    def proposed(self) -> tuple[tuple[str, float, float], ...]:
        r"""For each layer its name, $C_w$ (fan-in times variance of the weights) now, and the one that is proposed."""
        now = self.measured.weight_variance.mean(axis=0)
        factors = self.rescaling.factors**2
        return tuple((name, float(c), float(c * f)) for name, c, f in zip(self.names, now, factors, strict=True))

    @property
    def critical(self) -> tuple[tuple[str, float, float], ...]:
        """The critical weight and bias variance of each activation of a model that is a chain, by its name."""
        chain = self.predicted.network.layers if self.predicted else ()
        acts = {layer.activation.name: layer.activation for layer in chain if isinstance(layer, Apply)}
        return tuple((name, *act.critical) for name, act in acts.items() if act.critical)

    def rescale(self, model: Any = None, target: float | Mapping[str, float] = 1.0, readout: bool = False) -> Any:
        r"""The model with weights and biases rescaled so that each hidden $V_l$ is ``target`` on the report's inputs.

        ``model`` is one like that of the report, as it was brought, or bare parameters of it; a copy of the same kind
        comes back. Without it the (first) model of the report is rescaled, and comes back as `adapt` made it.
        See `widthwise.measure.rescaled` for ``target`` and ``readout``.
        """
        given = self.model if model is None else model
        adapted = self._as_adapted(given)
        done = rescaled(adapted, self.X, target, readout).model
        return replaced(given, adapted, done.parameters)  # pyright: ignore[reportFunctionMemberAccess]

    def _as_adapted(self, given: Any) -> Adapted:
        """What was given as an adapted model, bare parameters with the function of the report's own."""
        own = jax.tree.structure(self.model.parameters)
        if jax.tree.structure(given) == own and not isinstance(given, eqx.Module):
            return eqx.tree_at(lambda one: one.parameters, self.model, jax.tree.map(jnp.asarray, given))
        return _adapted(given, self.X, self.options)

    def _trend(self, values: Float[np.ndarray, "r h"]) -> Trend:
        if np.any(values == 0):
            return Trend("dead", Estimate(math.nan, math.nan), 0.0)
        if values.shape[1] < 2:
            return Trend("unclear", Estimate(math.nan, math.inf), 1.0)
        logs = np.log(values)
        place = np.arange(logs.shape[1]) - 0.5 * (logs.shape[1] - 1)
        slope = mean_and_sem(logs @ place / np.sum(place**2))
        value, error = float(slope.value), float(slope.error)
        factor = math.exp(value)
        total = math.exp(float(np.mean(logs[:, -1] - logs[:, 0])))
        return Trend(_word(value, error, math.log1p(self.tolerance)), Estimate(factor, factor * error), total)

    def __str__(self) -> str:
        return "\n".join([self.sentence, *self._table()])

    @property
    def sentence(self) -> str:
        """The whole report in one sentence."""
        if len(self.measured.hidden) < 2:
            return "With fewer than two hidden layers there is no depth in which a signal could be lost."
        pairs = {
            "merging": "two inputs become alike",
            "parting": "two inputs are driven apart",
            "kept": "two inputs stay as far apart as they are",
            "unknown": "the angle of two inputs is unknown",
        }
        parts = f"Forwards the signal {self.forward}, backwards it {self.backward}, and {pairs[self.inputs_told_apart]}"
        return f"{parts}: {self._advice()}."

    @property
    def survives(self) -> bool:
        """Whether signals are preserved in both directions and inputs are told apart."""
        kept = self.forward.word == self.backward.word == "preserved"
        return kept and self.inputs_told_apart != "merging"

    def _advice(self) -> str:
        if self.survives:
            return "the initialisation lets the signal through"
        if "unclear" in (self.forward.word, self.backward.word):
            return "more draws or inputs would tell"
        told = [f"{name}: C_w = {w:.3g}, C_b = {b:.3g}" for name, w, b in self.critical]
        known = f", or start from the critical variances ({'; '.join(told)})" if told else ""
        return f"rescale it with .rescale(model){known}"

    def _table(self) -> list[str]:
        variance, gradient = (self.measured.mean(name) for name in ("variance", "gradient"))
        rho = self.correlation
        wide = max(len(name) for name in self.names)
        lines = [f"{'layer':{wide}}  mean square          gradient             correlation"]
        for at, name in enumerate(self.names):
            parts = [f"{one.value[at]:.3g} ± {one.error[at]:.1g}" for one in (variance, gradient, rho) if one]
            lines.append(f"{name:{wide}}  " + "".join(f"{part:21}" for part in parts).rstrip())
        return lines


def _word(value: float, error: float, tolerance: float) -> Word:
    if value - 2 * error > tolerance:
        return "growing"
    if value + 2 * error < -tolerance:
        return "shrinking"
    return "preserved" if abs(value) <= tolerance and error <= tolerance else "unclear"


def signal_report(
    model: Any,
    X: ArrayLike,
    *,
    draws: int | None = None,
    seed: int = 0,
    network: Any = None,
    tolerance: float = 0.1,
    jacobians: bool = True,
    **options: Any,
) -> SignalReport:
    r"""Follow the signals of any model through its layers, and say whether they survive.

    Args:
        model: what `adapt` takes; with ``draws`` a function ``make_model(seed)`` that makes such a model; or a network
            of the library, such as an `MLP`.
        X: a few inputs (n, ...), real numbers or integers, as the model takes them.
        draws: so many models, made with the seeds ``seed``, ``seed + 1``, ...; errors are then standard errors over
            draws. Without it they are over the inputs, and know nothing of how the weights were drawn.
        network: an `MLP` or chain to predict the signals by. Without it a chain of dense layers with activations of the
            catalogue is recognised, and predicted from the variances of its own weights.
        tolerance: a change of mean squares by less than this share for each layer counts as preserved.
        jacobians: whether singular values of the layers' Jacobians are measured as well.
        options: ``output``, ``batched``, ``call``, ``dtype`` of `adapt`.

    Measured are, at the pre-activation z of each step that uses a weight: the mean square, the squared sensitivity of
    the outputs, the correlation of inputs (`Propagated`). Preserved are signals whose layers conserve mean squares and,
    for a network that can be trained in depth, gradients (Poole et al. 2016; Schoenholz et al. 2017).

    Raises ``ValueError`` for fewer than two draws, one input of one model, a model without steps that are known, and
    signals that are not finite, naming the layer where they first occur.

    >>> narrow = MLP(width=64, depth=8, activation="relu", weight_variance=1.0)
    >>> found = signal_report(narrow, np.eye(4), draws=4)
    >>> found.forward.word, found.backward.word, bool(abs(found.forward.factor.value - 0.5) < 0.1)
    ('shrinking', 'shrinking', True)
    """
    demand_options(signal_report, options)
    demand_numbers("X", X)
    X = np.asarray(X)
    if isinstance(model, MLP | AbstractLayer):
        network, draws = network or model, _DRAWS if draws is None else draws
        model = _sampler(model, X)
    _check(draws, tolerance, X)
    models = _models(model, X, draws, seed, options)
    found = propagated(models, X, jacobians=jacobians)
    inputs = jnp.asarray(X)
    chain = _chain(network) if network is not None else chain_of(found, models[0], inputs)
    predicted = None if isinstance(chain, str) else predicted_signals(chain, X)
    if predicted is not None and len(predicted.variance) != len(found.names):
        reject(
            f"a network of {len(predicted.variance)} layers for a model of {len(found.names)}",
            f"The layers of the model are {', '.join(found.names)}",
            "Give the network that the model is a sample of, or leave network out",
        )
    done = rescaled(models[0], inputs)
    told = chain if isinstance(chain, str) else ""
    return SignalReport(found, predicted, told, done, float(tolerance), models[0], inputs, dict(options))


def _chain(network: Any) -> Chain:
    chain = network.network() if isinstance(network, MLP) else network
    if not isinstance(chain, Chain):
        reject(f"network={network!r}", "A prediction is made for an MLP or a Chain of layers", "Give ww.MLP(...)")
    return chain


def _sampler(network: Any, X: np.ndarray) -> Callable[[int], Callable]:
    chain = network.network() if isinstance(network, MLP) else network
    return lambda seed: sample(chain, jr.key(seed), X.shape[1:])


def _models(model: Any, X: np.ndarray, draws: int | None, seed: int, options: Mapping[str, Any]) -> list[Adapted]:
    """The model, or its draws with the static parts of the first, so that they share what is compiled."""
    if draws is None:
        return [_adapted(model, X, options)]
    found = [_adapted(made(model, seed + place), X, options) for place in range(draws)]
    return [_like(found[0], one) for one in found]


def _adapted(model: Any, X: np.ndarray | Array, options: Mapping[str, Any]) -> Adapted:
    found = adapt(model, X, **options)
    assert isinstance(found, Adapted)
    return found


def _like(first: Adapted, other: Adapted) -> Adapted:
    ours, theirs = ((one.parameters, one.frozen) for one in (first, other))
    if jax.tree.structure(ours) != jax.tree.structure(theirs):
        return other
    return eqx.tree_at(lambda one: (one.parameters, one.frozen), first, theirs)


def _check(draws: int | None, tolerance: Any, X: np.ndarray) -> None:
    if draws is not None and (isinstance(draws, bool) or not isinstance(draws, int) or draws < 2):
        reject(f"draws={draws!r}", "An error over draws needs at least two of them", "Give for example draws=10")
    if draws is None and X.ndim and len(X) == 1:
        reject(
            "one input of one model",
            "Without draws, errors are over the inputs, at least two of them",
            "Give more inputs, or make_model(seed) with draws=10",
        )
    if not (isinstance(tolerance, int | float) and 0 < tolerance < math.inf):
        reject(f"tolerance={tolerance!r}", "A tolerance is a positive share", "Give for example tolerance=0.1")
