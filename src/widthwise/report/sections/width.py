r"""Section 6: do the settings carry over when the network is made wider, and do its features still move.

Legend: n the width; an exponent p says that a size goes as $n^p$; $z^{(l)}$ the pre-activations of hidden layer l of L.
"""

import math
import re

from widthwise.theory.parameterisations import Fault, Slope

from ..context import Context
from ..plots.plot import some
from ..plots.width import MOST, lines
from ..section import Figure, Formula, Number, Section, Table, Text
from ..widening import CONFIDENCE, Widened, narrow, widened
from ..words import counted

_SAID = {
    "kernel": "trains alike when it is made wider at the same learning rate, but its features stand still as the width "
    "grows",
    "feature learning": "trains alike and keeps learning features when it is made wider at the same learning rate",
    "unstable": "cannot keep its learning rate when it is made wider, as what a step changes grows with the width",
    "flow": "moves the faster the wider it is made",
    "trivial": "stands still when it is made wider at the same learning rate",
}
_THEORY = {
    "kernel": "the outputs learn alike at every width and the features stand still in the limit (the kernel regime)",
    "feature learning": "outputs and features move alike at every width",
    "unstable": "what a step changes grows with the width, until training diverges",
    "trivial": "what a step changes fades with the width",
}
_CAUSES = {
    "initial scale": "what it makes at the start",
    "learning rate": "what its update adds, for what it reads",
    "multiplier": "what it makes, both at the start and by its update,",
    "epsilon": "its gradient, which falls to Adam's epsilon",
}


def section(context: Context) -> Section:
    """Hold how far features and outputs move at several widths against theory, and say what muP would change."""
    seen = context.once(widened)
    names = _names(seen)
    return Section(
        key="width",
        title="Width",
        lead=_lead(context, seen),
        paragraphs=(*_meaning(context, seen), *_blame(seen, names)),
        numbers=_numbers(seen),
        figures=_figures(seen),
        tables=(*_table(seen), *_faults(seen, names)),
        formulas=_formulas(seen),
        notes=_notes(context, seen),
    )


def _lead(context: Context, seen: Widened) -> Text:
    if seen.found is None:
        return (
            f"Whether these settings carry over to a wider network was not measured: {seen.problem}; for a rate that "
            f"does not depend on the width theory says that {_THEORY[seen.predicted.regime]}."
        )
    last = seen.layers[-1].change
    numbers = (
        f"over widths {seen.widths[0]} to {seen.widths[-1]} the last hidden layer moves as the width to the power ",
        _exponent("exponent of the movement of the last hidden layer", last),
        " and the outputs to the power ",
        _exponent("exponent of the movement of the outputs", seen.moved[-1]),
        f", where theory says {_power(seen.predicted.layers[-1])} and {_power(seen.predicted.output)}.",
    )
    if seen.regime == "inconclusive":
        return (
            "Whether these settings carry over to a wider network cannot be told from the networks that were drawn: ",
            *numbers,
        )
    return (f"This network {_SAID[_words(context, seen)]}: ", *numbers)


def _words(context: Context, seen: Widened) -> str:
    """The regime, or "flow" for one whose speed grows, which has no rate that could be too large."""
    return "flow" if seen.regime == "unstable" and context.settings.optimizer == "flow" else seen.regime


def _exponent(name: str, slope: Slope, **details) -> Number:
    """An exponent with its interval, or why there is none."""
    if not math.isfinite(slope.value):
        reason = "it does not move at all" if slope.value == -math.inf else "zero or not finite at some width"
        return Number(name, None, reason=reason, **details)
    return Number(name, slope.value, slope.half, error_is=f"{100 * CONFIDENCE:g} % interval over seeds", **details)


def _power(value: float) -> str:
    """A multiple of 1/2 in words of a formula.

    >>> _power(-0.5), _power(1.0), _power(1.5)
    ('−1/2', '1', '3/2')
    """
    sign = "−" if value < 0 else ""
    return f"{sign}{abs(value):.0f}" if float(value).is_integer() else f"{sign}{2 * abs(value):.0f}/2"


def _meaning(context: Context, seen: Widened) -> tuple[Text, ...]:
    if seen.found is None:
        return ()
    if seen.regime == "inconclusive":
        return (_undecided(context, seen),)
    words = _words(context, seen)
    return (_ADVICE[words] + (_slower(context) if words == "unstable" else "") + _risen(context, seen),)


def _risen(context: Context, seen: Widened) -> str:
    rose = f" Lower the rate first: in these steps the loss of the networks of width {seen.widths[-1]} rose."
    return rose if seen.rises and context.settings.optimizer != "flow" else ""


_ADVICE = {
    "kernel": "That is no mistake: it is what the NTK parameterisation is made for, and why the kernel describes wide "
    "networks. A rate tuned at this width stays stable at others. But the wider the network, the less its hidden "
    "layers change, so that more width brings it nearer to its kernel and not to better features; to learn features at "
    "every width it takes muP.",
    "feature learning": "That is muP: a rate that was tuned on a narrow network stays right for a wide one.",
    "unstable": "A rate tuned at this width is too large for a network that is wide enough; it has to be tuned anew at "
    "every width, or the network scaled by muP, under which it stays.",
    "flow": "A flow has no learning rate, and its solver takes smaller steps by itself. But gradient descent in its "
    "place needs a rate that is tuned anew at every width, or a network scaled by muP, under which the rate stays.",
    "trivial": "At larger widths the rate has to grow with the width for anything to be learned.",
}


def _slower(context: Context) -> str:
    if context.settings.optimizer == "adam":
        return ""
    return (
        " The largest stable rate of gradient descent falls as one over the width here; a rate that this report "
        "chooses by itself falls with it."
    )


def _undecided(context: Context, seen: Widened) -> Text:
    """Why no regime is stated."""
    wide = [one for one in seen.moved if not narrow(one)]
    still = [one for one in seen.moved if one.value == -math.inf]
    if still:
        return (
            f"Of {len(seen.layers)} hidden layers and the outputs, {len(still)} did not move at all, as where an "
            "activation has no slope: theory presumes that everything moves."
        )
    if wide:
        why = (
            f"Intervals that reach further than 1/4 to each side ({len(wide)} of {len(seen.moved)} here) cannot tell "
            "apart the multiples of 1/2 between which theory decides."
        )
    elif seen.measured == "inconclusive":
        why = "Some hidden layers move alike at all of these widths and others do not."
    else:
        why = f"What was measured is another case: {_THEORY[seen.measured]}, at these widths."
    more = _risen(context, seen) or " Wider networks and more seeds, in widthwise.width_check, would tell."
    return f"{why} For wide networks theory says that {_THEORY[seen.predicted.regime]}.{more}"


def _blame(seen: Widened, names: dict[str, str]) -> tuple[Text, ...]:
    """What keeps the network from muP, and what to do about it."""
    if seen.found is None or not seen.found.faults or seen.regime == "inconclusive":
        return ()
    first = seen.found.faults[0]
    return (
        (
            f"The first thing that differs from muP is the {names[first.tensor]}: {_CAUSES[first.cause]} goes as the "
            "width to the power ",
            _exponent("exponent of the tensor to blame", first.measured),
            f", and under muP to the power {_power(first.expected)}; {_todo(first)}, n the width over that at which "
            "the rate was tuned. The table lists this for every tensor that differs; widthwise.mup works it out for a "
            "model of your own without multipliers.",
        ),
    )


def _todo(fault: Fault) -> str:
    """What to change, without what holds for models without multipliers only."""
    change = fault.advice.split(" (")[0].split(", or")[0]
    return re.sub(r"\bn\^(-?[\d.]+)", lambda found: _powered(float(found[1])), change)


def _powered(power: float) -> str:
    """A power of n.

    >>> _powered(1.0), _powered(-0.5)
    ('n', 'n^(−1/2)')
    """
    return "n" if power == 1 else f"n^({_power(power)})"


def _names(seen: Widened) -> dict[str, str]:
    """Tensors by what they are called on the page."""
    names, layer = {}, 0
    for one in seen.found.readings if seen.found else ():
        layer += one.kind == "product"
        weights = "readout" if layer == len(seen.products) else f"weights of layer {layer}"
        names[one.name] = weights if one.kind == "product" else f"biases of layer {layer}"
    return names


def _numbers(seen: Widened) -> tuple[Number, ...]:
    if seen.found is None:
        return (Number("learning rate of the check", seen.rate),)
    return (
        _exponent("exponent of the outputs at the start", seen.found.outputs["output"]),
        Number("learning rate of the check", seen.rate),
        Number("narrowest width", seen.widths[0]),
        Number("widest width", seen.widths[-1]),
        Number("step after which exponents are read", seen.moment),
    )


def _figures(seen: Widened) -> tuple[Figure, ...]:
    if seen.found is None:
        return ()
    runs, at = seen.found.runs, {one.name: place for place, one in enumerate(seen.found.readings)}
    chosen = some(len(seen.layers), MOST)
    names = [*(f"layer {layer + 1}" for layer in chosen), "outputs"]
    moves = [runs.taps["change"][:, :, seen.moment, at[seen.layers[layer].name]] for layer in chosen]
    slopes = [*(seen.predicted.layers[layer] for layer in chosen), seen.predicted.output]
    drawn = lines(runs.widths, names, [*moves, runs.outputs["change"][:, :, seen.moment]], slopes, "theory")
    figure = Figure(
        key="movement-over-width",
        title="How far layers and outputs move, over the width",
        caption=f"Pre-activations and outputs after {counted(seen.moment, 'step')}, root mean squares over "
        f"{counted(seen.seeds, 'network')} with two standard errors; dashed through the first point, theory's slope.",
        series=drawn,
        x_label="width",
        y_label="root mean square of the change",
        x_scale="log",
        y_scale="log",
    )
    return (figure,) if drawn else ()


def _table(seen: Widened) -> tuple[Table, ...]:
    if seen.found is None:
        return ()
    layers = zip(seen.layers, seen.predicted.layers, strict=True)
    outputs = seen.found.outputs
    rows = [
        *((f"layer {at}", one.start, 0.0, one.change, wanted) for at, (one, wanted) in enumerate(layers, start=1)),
        ("outputs", outputs["output"], seen.predicted.start, outputs["change"], seen.predicted.output),
    ]
    return (
        Table(
            f"Exponents of the width, at the start and after {counted(seen.moment, 'step')}.",
            ("what", "at the start", "theory, at the start", "movement", "theory, movement"),
            tuple(
                (
                    what,
                    _exponent(f"exponent of the size of {what}", start),
                    _power(at_start),
                    _exponent(f"exponent of the movement of {what}", moved, key=f"movement-{what}".replace(" ", "-")),
                    _power(wanted),
                )
                for what, start, at_start, moved, wanted in rows
            ),
        ),
    )


def _faults(seen: Widened, names: dict[str, str]) -> tuple[Table, ...]:
    """What muP would change, tensor by tensor."""
    wrong = seen.found.faults if seen.found and seen.regime != "inconclusive" else ()
    if not wrong:
        return ()
    rows = tuple(
        (
            names[one.tensor],
            _CAUSES[one.cause],
            _exponent(f"exponent of {names[one.tensor]}: {one.cause}", one.measured),
            _power(one.expected),
            _todo(one),
        )
        for one in wrong
    )
    return (
        Table(
            "What muP would change, all rows together, n the width over that at which the rate was tuned; an exponent "
            "is that of a tensor for what it reads, as if the others were right.",
            ("tensor", "what", "exponent", "under muP", "change"),
            rows,
        ),
    )


def _notes(context: Context, seen: Widened) -> tuple[Text, ...]:
    if seen.found is None:
        return ()
    kind = context.settings.optimizer
    how = {
        "gd": "gradient descent",
        "flow": "gradient descent, in place of the flow,",
        "sgd": "gradient descent, without mini-batches,",
        "adam": "Adam, without mini-batches,",
    }[kind]
    steps = seen.found.runs.steps
    notes = [
        f"At each of the widths {', '.join(map(str, seen.widths))}, whatever that of this network, "
        f"{counted(seen.seeds, 'fresh network')} took {counted(steps, 'step')} of {how} on "
        f"{counted(seen.rows, 'training row')}, at one rate for all widths, with the outputs at the start subtracted, "
        "whose scatter would blur exponents.",
        "Theory's exponents are those of the largest part of a change at large widths. Where parts grow differently, "
        "what is measured at these widths lies between theirs. Intervals tell the scatter of the draws, not what is "
        "left of narrow widths after the fitted correction. A regime is stated only where all intervals are narrow "
        "enough and theory says the same.",
    ]
    if seen.moment < steps:
        told = counted(seen.moment, "step")
        notes.append(f"Exponents are read after {told}, as the outputs grow with the width from there on.")
    return tuple(notes)


def _formulas(seen: Widened) -> tuple[Formula, ...]:
    theory = seen.predicted
    return (
        Formula(
            r"\sqrt{\langle (z^{(l)}_t - z^{(l)}_0)^2\rangle} \approx C_0\, n^{p} e^{C_1/n}",
            "The fit: p is the exponent of the width, and the last factor the correction of narrow networks.",
        ),
        Formula(
            rf"p = {theory.layers[-1]:g} \text{{ for }} z^{{(L)}}, \quad p = {theory.output:g} \text{{ for }} f",
            "Theory for this parameterisation and optimiser at one rate for all widths; under muP both are 0.",
        ),
    )
