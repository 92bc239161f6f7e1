"""What was brought: the model and its parameters by layer, the data, and the outputs before training."""

import numpy as np

from ..context import Context
from ..experiment import risk, trained
from ..own import Own
from ..own_kernels import own_of
from ..section import Formula, Number, Section, Table, Text
from ..words import counted

_MOST_SHAPES = 6  # arrays of a layer that are listed
_LARGE = 3.0  # outputs at the start over targets


def section(context: Context) -> Section:
    """Describe the model and the data, and say what this page can and cannot know."""
    own, outputs = own_of(context), context.once(trained).train[0]
    return Section(
        key="model",
        title="Model and data",
        lead=_lead(own),
        paragraphs=(_limit(own), _data(context), _start(context, outputs)),
        numbers=(Number("parameters", own.size), Number("arrays of parameters", len(own.parts))),
        tables=(_layers(own), *_classes(context)),
        formulas=_FORMULAS,
        notes=(
            "The model is taken as it was given: at its initialisation or after a training of its own. Nothing is "
            "assumed about how its parameters were drawn.",
        ),
    )


def _lead(own: Own) -> Text:
    shape = " × ".join(map(str, own.layout.shape))
    return (
        f"{own.kind} ({own.framework}) maps an example of {shape} {'whole ' if own.layout.integers else ''}"
        f"numbers to {counted(own.outputs, 'output')}, with ",
        Number("parameters", own.size),
        f" parameters in {counted(len(own.layers), 'layer')}.",
    )


def _limit(own: Own) -> Text:
    digits = "" if own.precision == "float64" else f" The model is computed in {own.precision}, which it fixes itself."
    return (
        "No limit of infinite width is known here for a model that is brought, so this page makes no statement about "
        "infinite width, except on the size of signals in a chain of dense layers. Whatever else it "
        "says was measured on this very model, or follows from its own linearisation."
        f"{digits}"
    )


def _data(context: Context) -> Text:
    X = context.X_train
    rows = f"{len(X):,} training and {len(context.X_test):,} held-out rows are used. "
    layout = own_of(context).layout
    if layout.integers:
        return f"{rows}The inputs are whole numbers from {X.min():.0f} to {X.max():.0f}, given to the model as such."
    square = np.mean(X**2, axis=1)
    scaled = {
        "none": "are given to the model as they came",
        "features": "were brought to mean 0 and variance 1 each, by the training rows; one that is constant there is 0",
        "whole": "were brought to mean 0 and variance 1 over all numbers of the training rows together",
    }[layout.scaling]
    return (
        f"{rows}The numbers of an example {scaled}. The mean square of an example is ",
        Number("mean square of an example", float(square.mean())),
        f" on average and lies between {square.min():.3g} and {square.max():.3g}.",
    )


def _start(context: Context, outputs: np.ndarray) -> Text:
    size, target = (float(np.sqrt(np.mean(part**2))) for part in (outputs, context.T_train))
    share = size / target
    told = (
        " They are large: training first has to undo them. A smaller scale of the last layer, or subtracting the "
        "outputs at the start, saves that."
        if share > _LARGE
        else ""
    )
    return (
        "Before training the root mean square of the outputs on the training rows is ",
        Number("root mean square of the outputs at the start", size),
        ", ",
        Number("outputs at the start over targets", share),
        " times that of the targets, and the risk is ",
        Number("risk at the start", float(risk(outputs, context.T_train))),
        ", where predicting zero has ",
        Number("risk of predicting zero", float(risk(np.zeros_like(outputs), context.T_train))),
        f".{told}",
    )


def _layers(own: Own) -> Table:
    rows = []
    for layer in own.layers:
        parts = [part for part in own.parts if part.layer == layer]
        count = sum(part.size for part in parts)
        scale = float(np.sqrt(sum(part.size * part.scale**2 for part in parts) / count)) if count else 0.0
        names = [f"{_last(part.name, layer)} {_shape(part.shape)}" for part in parts[:_MOST_SHAPES]]
        more = f", and {len(parts) - _MOST_SHAPES} more" if len(parts) > _MOST_SHAPES else ""
        rows.append((layer, ", ".join(names) + more, count, f"{100 * count / own.size:.3g}\u00a0%", scale))
    columns = ("layer", "arrays", "parameters", "share", "root mean square")
    return Table("The trained parameters by layer.", columns, tuple(rows))


def _last(name: str, layer: str) -> str:
    return name.removeprefix(f"{layer}.")


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + " × ".join(map(str, shape)) + ")" if shape else "(one number)"


def _classes(context: Context) -> tuple[Table, ...]:
    if not context.classification:
        return ()
    names = context.data.classes
    counts = [np.bincount(y, minlength=len(names)) for y in (context.y_train, context.y_test)]
    rows = tuple((name, int(a), int(b)) for name, a, b in zip(names, *counts, strict=True))
    return (Table("Rows of each class.", ("class", "training", "held out"), rows),) if len(rows) <= 100 else ()


_FORMULAS = (
    Formula(
        r"f_{\mathrm{lin}}(x; u) = f(x; w_0) + \partial_w f(x; w_0)\,(u - w_0)",
        "The linearisation of the model at the parameters that were given, which this page trains beside it.",
    ),
)
