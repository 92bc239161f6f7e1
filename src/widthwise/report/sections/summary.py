"""Section 1: the whole report in one paragraph, from the numbers of the other sections."""

import math
from dataclasses import replace

from ..context import Context
from ..section import Number, Section, Text

METHODS = {"gd": "gradient descent", "flow": "gradient flow", "sgd": "stochastic gradient descent", "adam": "Adam"}
_LIMITS = ("largest-stable-rate-infinite-width-kernel", "largest-stable-rate-empirical-kernel")
_LEADS = ("accuracy", "lazy", "width", "training")  # sections whose lead is a sentence of the summary


def section(context: Context) -> Section:
    """Say in sentences with numbers what this network does on these data, as far as it is known."""
    sentences = [_subject(context)]
    sentences += [lead_of(context.finished[key]) for key in _LEADS if key in context.finished]
    sentences += [part(context) for part in (_start, _kernel, _rate)]
    return Section(
        key="summary",
        title="In one paragraph",
        lead=joined(sentences),
        paragraphs=_advice(context),
    )


def joined(sentences: list[tuple]) -> Text:
    """One text of several sentences, leaving out the empty ones."""
    pieces: list = []
    for sentence in filter(None, sentences):
        pieces += [" ", *sentence] if pieces else list(sentence)
    return tuple(pieces)


def lead_of(section: Section) -> tuple:
    """The lead of a section, its numbers under keys of their own."""
    lead = (section.lead,) if isinstance(section.lead, str) else section.lead
    return tuple(_renamed(section, piece) if isinstance(piece, Number) else piece for piece in lead)


def _renamed(section: Section, number: Number) -> Number:
    """The number under the key that it has in the summary."""
    return replace(number, key=f"{section.key}-{number.key}")


def get(context: Context, section: str, key: str) -> Number | None:
    """A number of a finished section by its key, or none."""
    if section not in context.finished:
        return None
    found = context.finished[section]
    return next((_renamed(found, number) for number in found.all_numbers() if number.key == key), None)


def _subject(context: Context) -> tuple:
    settings, data = context.settings, context.data
    what = f"{len(data.classes)} classes" if context.classification else "a quantity to predict"
    done = "is trained" if "training" in context.finished else "is to be trained"
    state = "" if context.finished else " Nothing is computed yet."
    return (
        f"On {context.dataset.name} ({len(context.X_train):,} training rows, {context.inputs} features, {what}), "
        f"{context.spec} {done} by {METHODS[settings.optimizer]} in {settings.steps:,} steps.{state}",
    )


def _start(context: Context) -> tuple:
    if "initialisation" not in context.finished:
        return ()
    last, chi = (get(context, "initialisation", key) for key in ("variance-last", "chi-perp-fixed-point"))
    phase = _phase(chi)
    return (
        f"Its initialisation is {phase}" if phase else "Its initialisation loses the signal",
        ": the outputs start with variance ",
        last,
        ".",
    )


def _phase(chi: Number | None) -> str:
    if chi is None or chi.value is None:
        return ""
    return "critical" if abs(chi.value - 1.0) < 1e-6 else "ordered" if chi.value < 1 else "chaotic"


def _kernel(context: Context) -> tuple:
    apart = get(context, "kernel", "relative-deviation-of-the-ntk")
    condition = get(context, "kernel", "condition-number-of-the-ntk")
    if apart is None:
        return ()
    tail = (
        (", and that kernel is singular on these data.",)
        if condition is None
        else (", whose condition number is ", condition, ".")
    )
    width = get(context, "kernel", "width-of-these-networks")
    return (
        "At width ",
        width,
        " the tangent kernel typically deviates by ",
        apart,
        " from that of infinite width",
        *tail,
    )


def _rate(context: Context) -> tuple:
    limit, own, used = (get(context, "learning-rate", key) for key in (*_LIMITS, "learning-rate-used"))
    if limit is None or own is None or used is None or context.settings.optimizer in ("adam", "flow"):
        return ()
    cure = (", and training diverged: lower the rate below ", _smaller(limit, own)) if _diverged(context) else ()
    return (
        "The largest stable learning rate is ",
        own,
        " by the kernel of this network and ",
        limit,
        " by that of infinite width; ",
        used,
        " was used",
        *cure,
        ".",
    )


def _smaller(limit: Number, own: Number) -> Number:
    return limit if (limit.value or math.inf) < (own.value or math.inf) else own


def _advice(context: Context) -> tuple[Text, ...]:
    """What to change, where the sections give a reason."""
    advice = [part(context) for part in (_faster, _deeper, _wider, _simpler)]
    return tuple(filter(None, advice)) or (
        ()
        if len(context.finished) < 2 or _diverged(context)
        else ("Nothing here calls for a change of the learning rate or of the initialisation.",)
    )


def _diverged(context: Context) -> bool:
    step = get(context, "learning-rate", "step-at-which-the-network-diverged")
    return step is not None and step.value is not None


def _faster(context: Context) -> Text:
    share = get(context, "learning-rate", "rate-used-over-the-limit-at-infinite-width")
    if share is None or share.value is None or share.value > 0.1 or _diverged(context):
        return ()
    return ("The learning rate is only ", share, " of the stable one: a larger rate would train in fewer steps.")


def _deeper(context: Context) -> Text:
    scale = get(context, "initialisation", "depth-scale")
    if scale is None or scale.value is None or not context.spec.depth > 6 * scale.value:
        return ()
    return (
        f"The {context.spec.depth} hidden layers are many for a depth scale of ",
        scale,
        " layers: initialise nearer to criticality.",
    )


def _wider(context: Context) -> Text:
    grows = get(context, "width", "exponent-of-the-movement-of-the-outputs")
    if grows is None or grows.value is None or grows.value - (grows.error or 0.0) <= 0.25:
        return ()
    slower = "" if context.settings.optimizer == "flow" else "lower the learning rate or "
    return (
        f"Before this network is made wider, {slower}scale it by muP: what a step changes in the "
        "outputs grows as the width to the power ",
        grows,
        ".",
    )


def _simpler(context: Context) -> Text:
    gain = get(context, "accuracy", "network-better-than-ntk-regression-by")
    if gain is None or gain.value is None or gain.interval is None or gain.interval[1] >= 0:
        return ()
    return (
        "NTK regression does better on the held-out rows, by ",
        replace(
            gain, name="NTK regression better by", value=-gain.value, interval=(-gain.interval[1], -gain.interval[0])
        ),
        f": {cure(context)}.",
    )


def cure(context: Context) -> str:
    """Say what the held-out loss along training says to do."""
    least = get(context, "training", "step-of-the-least-held-out-loss")
    if least is None or least.value is None:
        return "use the kernel"
    if least.value < context.settings.updates:
        return f"use the kernel, or stop earlier (the held-out loss was least at step {least.value:,.0f})"
    return "use the kernel, or train longer (the held-out loss was still falling at the end)"
