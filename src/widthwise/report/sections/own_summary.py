"""The report on a model that somebody brought in one paragraph, and what to change."""

from dataclasses import replace

from ..context import Context
from ..experiment import diverged, trained
from ..own_kernels import own_kernel, own_of
from ..section import Section, Text
from .lazy import regime
from .own_kernel import is_ruled_by_mean
from .summary import METHODS, cure, get, joined, lead_of

_LEADS = ("accuracy", "lazy", "training", "kernel")
_SMALL = 0.1  # of the stable rate
_LARGE = 3.0  # outputs at the start over targets


def section(context: Context) -> Section:
    """Say in sentences with numbers what this model does on these data, as far as it is known."""
    sentences = [_subject(context)]
    sentences += [lead_of(context.finished[key]) for key in _LEADS if key in context.finished]
    sentences += [_rate(context)]
    return Section(key="summary", title="In one paragraph", lead=joined(sentences), paragraphs=_advice(context))


def _subject(context: Context) -> tuple:
    settings, own = context.settings, own_of(context)
    what = f"{len(context.data.classes)} classes" if context.classification else "a quantity to predict"
    done = "is trained" if context.finished else "is to be trained"
    state = "" if context.finished else " Nothing is computed yet."
    return (
        f"On {context.dataset.name} ({len(context.X_train):,} training rows, {what}) the model {own.kind} "
        f"({own.framework}, {own.size:,} parameters) {done} by {METHODS[settings.optimizer]}, {settings.steps:,} steps "
        f"at most.{state}",
    )


def _rate(context: Context) -> tuple:
    keys = ("largest-stable-rate-empirical-kernel", "largest-stable-rate-hessian-at-the-start", "learning-rate-used")
    kernel, hessian, used = (get(context, "learning-rate", key) for key in keys)
    if kernel is None or hessian is None or used is None or context.settings.optimizer in ("adam", "flow"):
        return ()
    return (
        "The largest stable learning rate of gradient descent is ",
        kernel,
        " by its kernel and ",
        hessian,
        " by its Hessian at the start; ",
        used,
        " was used.",
    )


def _advice(context: Context) -> tuple[Text, ...]:
    """What to change, where the sections give a reason."""
    if len(context.finished) < 2:
        return ()
    if diverged(context.once(trained)):
        return (_lower(context),)
    advice = [part(context) for part in (_rates, _mean, _outputs, _features, _kernel, _longer)]
    return tuple(filter(None, advice)) or ("Nothing here calls for a change.",)


def _lower(context: Context) -> Text:
    kernel = get(context, "learning-rate", "largest-stable-rate-empirical-kernel")
    hessian = get(context, "learning-rate", "largest-stable-rate-hessian-at-the-start")
    if kernel is None or hessian is None or context.settings.optimizer == "adam":
        return "Training diverged: lower the learning rate."
    smaller = kernel if float(kernel.value or 0.0) < float(hessian.value or 0.0) else hessian
    return ("Training diverged: lower the learning rate below ", smaller, ".")


def _rates(context: Context) -> Text:
    share = get(context, "learning-rate", "rate-used-over-the-limit-of-the-empirical-kernel")
    if share is None or share.value is None or context.settings.optimizer != "gd":
        return ()
    if share.value < _SMALL:
        return ("The learning rate is only ", share, " of the stable one: a larger one would train in fewer steps.")
    return ()


def _mean(context: Context) -> Text:
    if "kernel" not in context.finished or not is_ruled_by_mean(context.once(own_kernel)):
        return ()
    return (
        "One direction holds most of the kernel, and it is nearly the mean of the outputs over the rows. Such a "
        "direction makes the stable rate of gradient descent small and all others slow: centre the inputs, or "
        "normalise inside the model."
    )


def _outputs(context: Context) -> Text:
    share = get(context, "model", "outputs-at-the-start-over-targets")
    if share is None or share.value is None or share.value <= _LARGE:
        return ()
    return ("The outputs at the start are ", share, " times the targets: scale the last layer down.")


def _kernel(context: Context) -> Text:
    """Whether the kernel is worth more than the network, even fitted to fewer rows."""
    gain = get(context, "accuracy", "network-better-than-entk-regression-by")
    if gain is None or gain.interval is None:
        return ()
    if gain.interval[1] < 0:
        return (
            "Regression with the model's own kernel at the start does better on the held-out rows than the network "
            f"after this training: {cure(context)}."
        )
    return ()


def _features(context: Context) -> Text:
    """Whether leaving the linearisation was worth it: both saw the same rows in the same way."""
    gain = get(context, "accuracy", "network-better-than-its-linearisation-by")
    if gain is None or gain.interval is None:
        return ()
    low, high = gain.interval
    word = regime(context.once(trained)).word
    if low > 0:
        return (
            "The network does better than its linearisation, trained in the same way, by ",
            gain,
            ": what the linearisation lacks, moving features, helps here. Keep what lets them move (the rate, the "
            "number of steps), and do not trust kernel predictions of the end.",
        )
    if high < 0:
        return (
            "The linearisation, trained in the same way, does better than the network, by ",
            replace(gain, key="linearisation-better-by", value=-float(gain.value or 0.0), interval=(-high, -low)),
            ": moving features do not help here. A larger factor on the output, with a rate smaller by its square, "
            "keeps them nearer to the start.",
        )
    if word == "lazy":
        return (
            "The network trained lazily, and these rows do not tell it from its linearisation: the linear model would "
            "do. To make it learn features, divide its output by a constant, or train longer."
        )
    return ()


def _longer(context: Context) -> Text:
    least = get(context, "training", "step-of-the-least-held-out-loss")
    run = context.once(trained)
    gain = get(context, "accuracy", "network-better-than-entk-regression-by")
    if least is None or least.value is None or (gain is not None and gain.interval and gain.interval[1] < 0):
        return ()  # or said with the kernel
    if least.value >= run.steps[-1]:
        return "The held-out loss was least at the end of training: train longer."
    return (
        f"The held-out loss was least at step {least.value:,.0f} of {run.steps[-1]:,.0f}: stop there, or regularise."
        if least.value < 0.8 * run.steps[-1]
        else ()
    )
