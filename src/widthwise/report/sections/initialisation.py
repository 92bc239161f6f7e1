r"""Section 2: how strong the signals are at initialisation, layer by layer, and what more depth would do.

Legend: $q^{(l)}$ variance of the pre-activations of layer l, $P^{(l)} = \frac1k\|\partial f/\partial z^{(l)}\|_F^2$.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from widthwise.activations import activation
from widthwise.measure import SignalStrength, signal_strength
from widthwise.networks import Apply, Chain, Dense
from widthwise.theory.criticality import Criticality, CriticalPoint, critical_init
from widthwise.theory.signal import FixedPoint, Response, fixed_point, propagation, response

from ..context import Context
from ..section import Figure, Formula, Number, Section, Series, Table, Text
from ..words import counted

_ROWS = 128
_DRAWS, _QUICK_DRAWS = 40, 10
_TOLERANCE = 1e-3  # relative, of a predicted gradient: below what the draws can tell
_SMALLEST = 1e-6  # variances below are not iterated: the signal is gone


@dataclass(frozen=True, eq=False)
class Initialisation:
    """What was measured, what was predicted (means over the same inputs) and what a further layer would do."""

    measured: SignalStrength
    variance: np.ndarray
    gradient: np.ndarray
    responses: tuple[Response | None, ...]
    end: FixedPoint | None
    rows: int


def compute(context: Context) -> Initialisation:
    """Measure over draws and predict; sections share the result through ``context.once(compute)``."""
    X = context.X_train[context.some_rows("signal", _ROWS)]
    draws = _QUICK_DRAWS if context.settings.quick else _DRAWS
    with context.progress.task("Signals over draws of the network", draws) as advance:
        measured = signal_strength(context.network, X, context.key("signal"), draws, tick=advance)
    # Variances and gradients of signals are the same in the NTK parameterisation, which needs no size of the inputs.
    limit = replace(context.spec, parameterisation="ntk").network(context.outputs)
    predicted = propagation(limit, np.mean(X**2, axis=1), tolerance=_TOLERANCE)
    variance = predicted.variance.mean(axis=0)
    block = _hidden(context)
    responses = tuple(response(block, q, tolerance=_TOLERANCE) if q > 0 else None for q in variance[:-1])
    end = fixed_point(block, float(variance[0])) if _SMALLEST < variance[0] < 1 / _SMALLEST else None
    return Initialisation(measured, variance, predicted.gradient.mean(axis=0), responses, end, len(X))


def _hidden(context: Context) -> Chain:
    """One more hidden layer, from pre-activation to pre-activation."""
    spec = context.spec
    return Chain((Apply(activation(spec.activation)), Dense(*spec.variances)))


def section(context: Context) -> Section:
    """Hold variances and gradients of sampled networks against the infinitely wide network."""
    found = context.once(compute)
    return Section(
        key="initialisation",
        title="Initialisation",
        lead=_lead(context, found),
        paragraphs=(_agreement(context, found), *_consequence(context, found)),
        numbers=_numbers(found),
        figures=(_variances(context, found), _gradients(context, found)),
        tables=(_table(found),),
        formulas=_FORMULAS,
        notes=_notes(context, found),
    )


def _lead(context: Context, found: Initialisation) -> Text:
    way = (
        "On its way through the network the variance of the signal goes from ",
        Number("variance of the first layer", found.variance[0], key="variance-first"),
        " to ",
        Number("variance of the outputs", found.variance[-1], key="variance-last"),
        ", and of a squared gradient of 1 at the outputs ",
        Number("gradient at the first layer", found.gradient[0], key="gradient-first"),
        " arrives at the first layer",
    )
    if found.end is None:
        fate = "is lost" if found.variance[0] < 1.0 else "is beyond all scales"
        return (*way, f": the signal {fate}, whatever the depth.")
    return (
        *way,
        f". The initialisation is {found.end.response.phase}: deep in a stack of such layers each one multiplies "
        "squared gradients, and the gap 1 − cosine between near inputs, by ",
        _chi(found.end),
        ".",
    )


def _chi(end: FixedPoint) -> Number:
    return Number("chi_perp at the fixed point", end.response.perpendicular, key="chi-perp-fixed-point")


def _agreement(context: Context, found: Initialisation) -> Text:
    draws, width = found.measured.draws, context.spec.width
    return (
        f"Means over {draws} draws of the network at width {width} differ from the prediction by at most ",
        _worst("largest relative deviation of a variance", found.measured.variance, found.variance),
        " in the variances and by at most ",
        _worst("largest relative deviation of a gradient", found.measured.gradient, found.gradient),
        " in the squared gradients; what is left beyond the standard errors is of the order 1/width, which the "
        "prediction leaves out.",
    )


def _worst(name: str, measured, predicted: np.ndarray) -> Number:
    """The largest relative deviation over layers in percent, with the standard error at that layer."""
    safe = np.where(predicted == 0, 1.0, predicted)
    deviation, error = np.abs(measured.value - predicted) / safe, measured.error / safe
    worst = int(np.argmax(deviation))
    return Number(name, 100 * deviation[worst], 100 * error[worst], "%", error_is="standard error over draws")


def _consequence(context: Context, found: Initialisation) -> tuple[Text, ...]:
    if found.end is None and found.variance[0] > 1.0:
        return ("Lower the weight variance: at this size an activation is all linear or all saturated.",)
    if found.end is None:
        return (
            "Raise the weight variance, or give the biases a variance: a signal that is zero cannot be learned from.",
        )
    end, depth = found.end, context.spec.depth
    where = {0.0: "falls to zero", math.inf: "grows without limit"}.get(end.value)
    if end.everywhere:
        fate: Text = "The activation has no scale of its own here: every variance is a fixed point, and is kept."
    elif where:
        fate = f"If the hidden layer were repeated, the variance {where}" + (
            ", but only like a power of the depth."
            if end.response.phase == "critical"
            else ", exponentially with the depth."
        )
    else:
        fate = (
            "If the hidden layer were repeated, the variance would settle at ",
            Number("fixed point of the variance", end.value),
            ".",
        )
    return (fate, _depth(context, end, depth), *_point(context))


def _depth(context: Context, end: FixedPoint, depth: int) -> Text:
    if end.response.phase == "critical":
        return "Angles and gradients change at most like a power of the depth, so depth costs little here."
    scale = Number("depth scale", end.depth_scale, unit="layers", key="depth-scale")
    word = "shrink" if end.response.phase == "ordered" else "grow"
    effect = (
        "is below it, so the phase hardly shows at this depth"
        if depth <= end.depth_scale
        else "is beyond it, and training feels it"
        if depth <= 6 * end.depth_scale
        else f"is far beyond it: the first layers hear next to nothing of the loss, or too much. {_remedy(context)}"
    )
    return (
        f"Far along, angles and gradients {word} by a factor e every ",
        scale,
        f". The depth of this network, {depth}, {effect}.",
    )


def _remedy(context: Context) -> str:
    found = context.once(_criticality)
    if found is None or not found.points or _chosen(context, found):
        return "Use fewer hidden layers, or an activation with a critical initialisation"
    return f"{_nearest(found)} is {_variances_of(found)}"


def _criticality(context: Context) -> Criticality | None:
    """The critical points of the activation; None where its moments cannot be taken."""
    try:
        return critical_init(context.spec.activation)
    except ValueError:
        return None


def _chosen(context: Context, found: Criticality) -> bool:
    """Whether the network is initialised at the best point already."""
    best = found.best
    pairs = zip(context.spec.variances, (best.weight_variance, best.bias_variance), strict=True)
    return all(abs(given - float(one.value)) <= max(1e-6, float(one.error)) for given, one in pairs)


def _nearest(found: Criticality) -> str:
    kind = found.best.kind
    return "The initialisation nearest to criticality" if kind == "semi-critical" else "The critical initialisation"


def _variances_of(found: Criticality) -> str:
    best = found.best
    return (
        f"weight_variance={float(best.weight_variance.value):.6g}, bias_variance={float(best.bias_variance.value):.6g}"
    )


def _point(context: Context) -> tuple[Text, ...]:
    """Where the activation is critical, and whether this network is."""
    found = context.once(_criticality)
    if found is None or not found.points:
        return ()
    name, best = found.activation.name, found.best
    kept = "which keeps every variance" if best.kind == "scale-invariant" else _kept(best)
    here = "; this network has it" if _chosen(context, found) else ""
    return (f"{_nearest(found)} of {name} is {_variances_of(found)}, {kept}{here}.",)


def _kept(best: CriticalPoint) -> str:
    held = (
        f"which keeps a variance of {float(best.variance.value):.4g}"
        if best.variance.value > 0
        else ("where the variance falls to zero like a power of the depth")
    )
    scale = best.depth_scale
    return held if math.isinf(scale) else f"{held} and lets go of a deviation by a factor e in {scale:.3g} layers"


def _numbers(found: Initialisation) -> tuple[Number, ...]:
    if found.end is None:
        return (Number("draws of the network", found.measured.draws), Number("inputs", found.rows))
    end = found.end
    return (
        Number("fixed point of the variance", end.value),
        Number("chi_parallel at the fixed point", end.response.parallel),
        _chi(end),
        Number("depth scale", end.depth_scale, unit="layers", key="depth-scale"),
        Number("draws of the network", found.measured.draws),
        Number("inputs", found.rows),
    )


def _layers(found: Initialisation) -> list[str]:
    hidden = [f"hidden {layer}" for layer in range(1, len(found.variance))]
    return [*hidden, "output"]


def _figure(context, found, what: str, measured, predicted, **words) -> Figure:
    layers = _layers(found)
    return Figure(
        key=f"{what}-by-layer",
        series=(
            Series(f"measured, width {context.spec.width}", layers, measured.value, measured.error, "measured", what),
            Series("predicted, infinite width", layers, predicted, role="predicted", group=what),
        ),
        x_label="layer",
        y_scale="log",
        **words,
    )


def _variances(context: Context, found: Initialisation) -> Figure:
    return _figure(
        context,
        found,
        "variance",
        found.measured.variance,
        found.variance,
        title="Variance of the pre-activations",
        caption=f"Mean and standard error over {found.measured.draws} draws, averaged over {found.rows} training "
        "inputs, "
        "against the infinitely wide network.",
        y_label="mean square of a pre-activation",
    )


def _gradients(context: Context, found: Initialisation) -> Figure:
    return _figure(
        context,
        found,
        "gradient",
        found.measured.gradient,
        found.gradient,
        title="Gradient of the outputs with respect to the pre-activations",
        caption=f"Mean and standard error over {found.measured.draws} draws, averaged over {found.rows} training "
        "inputs "
        "and over outputs, against the infinitely wide network.",
        y_label="squared norm of the gradient",
    )


def _table(found: Initialisation) -> Table:
    rows = []
    for index, layer in enumerate(_layers(found)):
        here = found.responses[index] if index < len(found.responses) else None
        measured = [
            Number(
                f"measured {what} of the {layer} layer",
                part.value[index],
                part.error[index],
                error_is="standard error over draws",
            )
            for what, part in (("variance", found.measured.variance), ("gradient", found.measured.gradient))
        ]
        rows.append(
            (
                layer,
                float(found.variance[index]),
                measured[0],
                float(found.gradient[index]),
                measured[1],
                here.parallel if here else None,
                here.perpendicular if here else None,
            )
        )
    columns = (
        "layer",
        "variance, predicted",
        "measured",
        "gradient, predicted",
        "measured ",
        "χ∥ of the next layer",
        "χ⊥ of the next layer",
    )
    return Table("Signals by layer", columns, tuple(rows))


def _notes(context: Context, found: Initialisation) -> tuple[Text, ...]:
    spread = np.mean(context.X_train**2, axis=1)
    return (
        f"The mean square of an input, {counted(context.inputs, 'standardised feature')}, is 1 on average over all "
        f"training rows but lies between {spread.min():.3g} and {spread.max():.3g}. The curves are averages over "
        f"{counted(found.rows, 'row')} chosen at random, and χ∥ and χ⊥ are taken at the average variance.",
        "The gradient is that of the outputs, not of the loss: the derivative of the tangent kernel at the output "
        "with respect to that at the layer.",
    )


_FORMULAS = (
    Formula(
        r"q^{(l+1)} = C_b + C_w\,\mathbb{E}_{z \sim N(0, q^{(l)})}\!\left[\sigma(z)^2\right]",
        "The variance of the next pre-activation in the infinitely wide network.",
    ),
    Formula(
        r"\chi_\parallel = \frac{\partial q^{(l+1)}}{\partial q^{(l)}}, \qquad \chi_\perp = C_w\,\mathbb{E}_{z \sim "
        r"N(0, q^{(l)})}\!\left[\sigma'(z)^2\right]",
        "What a layer makes of a small change of the variance, and of a small angle or a gradient: ordered below 1, "
        "chaotic above.",
    ),
    Formula(
        r"P^{(l)} = \frac{1}{k} \left\| \frac{\partial f}{\partial z^{(l)}} \right\|_F^2 \approx "
        r"\chi_\perp(q^{(l)})\, P^{(l+1)}",
        "The squared gradient of the k outputs, from the output back.",
    ),
)
