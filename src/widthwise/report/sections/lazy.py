r"""Section 5: does the network train like its linearisation, or does it learn features; and what is certain of that.

Legend: w(t) the network's parameters, u(t) those of its linearisation, $\alpha$ a factor on the output,
$h = 2\beta r_0/(\alpha\sigma^2)$ the index that certificates bound.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from widthwise.claims import Status, Verdict
from widthwise.measure import LAZY, Run
from widthwise.measure import RICH as FEATURES

from ..context import Context
from ..experiment import PROBE, trained
from ..laziness import NAMES, Point, Reference, Study, reference, study
from ..section import Formula, Number, Section, Table, Text
from ..words import counted, maybe
from .lazy_figures import certified_figure, distances, drifts, movement_table, ratios_figure, spoken, sweep_table


@dataclass(frozen=True)
class Regime:
    """What the run says: the word for it, function gaps relative to what was learned, and the drift of the kernel."""

    word: str
    held_out: float | None
    train: float | None
    drift: float


def regime(run: Run) -> Regime:
    """Judge a run: lazy when gap and drift are below 0.1, learning features when one is above 0.5."""
    drift = float(run.drift[-1])
    if run.diverged_at is not None:
        return Regime("diverged", None, None, drift)
    if run.twin_diverged_at is not None:
        return Regime("learning features", None, None, drift)
    held_out, train = _gap(run.test[-1], run.twin_test), _gap(run.train[-1], run.twin_train)
    worst = max(held_out, drift)
    word = "lazy" if worst < LAZY else "learning features" if worst > FEATURES else "in between"
    return Regime(word, held_out, train, drift)


def _gap(outputs: np.ndarray, twin: np.ndarray) -> float:
    """The distance of the functions over how far the linearised one went, as root mean squares."""
    went = float(np.linalg.norm(twin[-1] - twin[0]))
    return float(np.linalg.norm(outputs - twin[-1])) / went if went > 0 else 0.0


def section(context: Context) -> Section:
    """Judge the run, certify what can be certified, and hold certificates against measured flows."""
    run, found = context.once(trained), context.once(study)
    shown = context.once(reference)
    others = shown.points if shown else ()
    judged = regime(run)
    return Section(
        key="lazy",
        title="Lazy or learning features",
        lead=judgement(run, judged),
        paragraphs=(*meaning(run, judged), *_certificates(context, found), *_held(found), *_reference(shown)),
        numbers=_numbers(run, judged, found),
        figures=(
            *distances(run),
            *drifts(run, LAZY, FEATURES),
            *certified_figure(found),
            *ratios_figure(found.points, "own", "this network"),
            *ratios_figure(others, "reference", "the reference experiment"),
        ),
        tables=(
            _table(found),
            *sweep_table(found.points, "this network"),
            *sweep_table(others, "the reference experiment"),
            movement_table(run),
        ),
        formulas=_FORMULAS,
        verdicts=_verdicts(found.points, "this network, output centred") + _verdicts(others, "reference experiment"),
        notes=_notes(context, found),
    )


def _verdicts(points: tuple[Point, ...], whose: str) -> tuple[Verdict, ...]:
    """What was checked at each alpha; what does not apply is said once, at the first."""
    return tuple(
        replace(verdict, name=f"{verdict.name}: {whose}, alpha = {point.alpha:.4g}")
        for index, point in enumerate(points)
        for verdict in point.verdicts
        if index == 0 or verdict.status is not Status.NOT_APPLICABLE
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(name: str, value: float | None, reason: str = "", **details) -> Number:
    return Number(
        name, None if value is None else 100 * value, unit="" if value is None else "%", reason=reason, **details
    )


def judgement(run: Run, judged: Regime, drift: Number | None = None) -> Text:
    """The regime in a sentence, with the two numbers that decide."""
    drift = drift or _percent("kernel drift at the end", judged.drift)
    if judged.word == "diverged":
        return (
            f"The network diverged at step {run.diverged_at}, so it is neither lazy nor learning features; by the last "
            "moment recorded its tangent kernel had moved by ",
            drift,
            ".",
        )
    if judged.held_out is None:
        return (
            f"The network is learning features: its linearisation diverged at step {run.twin_diverged_at} and it did "
            "not, and its tangent kernel moved by ",
            drift,
            ".",
        )
    said = {
        "lazy": "The network is lazy",
        "in between": "The network is in between lazy and feature learning",
        "learning features": "The network is learning features",
    }
    return (
        f"{said[judged.word]}: on held-out rows it ends ",
        _percent("function gap on held-out rows", judged.held_out),
        " away from its linearisation, relative to how far that went, and its tangent kernel moved by ",
        drift,
        ".",
    )


_ADVICE = {
    "lazy": "To make it learn features, narrow it, train it longer, or divide its output by a constant.",
    "in between": "A wider network, or a larger factor on the output, makes it lazier; a narrower or longer trained "
    "one learns more.",
    "learning features": "Kernel predictions of this report describe its start, not its end; a wider network follows "
    "them longer.",
}


def meaning(run: Run, judged: Regime, advice: Mapping[str, str] = MappingProxyType(_ADVICE)) -> tuple[Text, ...]:
    """Say what the regime means and how to change it."""
    criterion = (
        f"Lazy means here that both numbers are below {100 * LAZY:g} %, learning features that one is above "
        f"{100 * FEATURES:g} %. "
    )
    if judged.held_out is None:
        return (criterion + "Without an end of both trainings only the drift of the kernel can be read.",)
    relative = float(run.gap[-1] / run.distance[-1]) if run.distance[-1] > 0 else 0.0
    return (
        (
            criterion,
            "The parameters moved by ",
            Number("distance of the parameters from their start", run.distance[-1]),
            " and ended ",
            Number("gap between network and linearisation ||w - u||", run.gap[-1]),
            " from those of the linearisation, ",
            _percent("gap relative to the distance", relative),
            " of their way; on the training rows the function gap is ",
            _percent("function gap on training rows", judged.train),
            f". {advice[judged.word]}",
        ),
    )


def _certificates(context: Context, found: Study) -> tuple[Text, ...]:
    """What is certain before training, or why nothing is."""
    ball = found.certificates["LAZY-C1"]
    start = (
        f"What can be certain beforehand: for one output of this network on {found.rows} training rows, under gradient "
        "flow, "
    )
    if not found.certifiable:
        reason = found.thresholds["LAZY-C1"].reason or found.thresholds["LAZY-22"].reason
        estimate = _estimated(found)
        return ((f"{start}no theorem gives a certificate, because {reason}.", *estimate),)
    own = "certifies it as it is" if ball.certified else "does not certify it as it is"
    thresholds = {claim: _threshold(claim, found) for claim in NAMES}
    return (
        (
            f"{start}LAZY-C1 {own}: its index is h = ",
            _h("LAZY-C1", found),
            ", and it needs h ≤ 1. With the output at the start subtracted, it certifies every factor on the output "
            "from ",
            thresholds["LAZY-C1"],
            " on, LAZY-C2 from ",
            thresholds["LAZY-C2"],
            ", and the theorem as published (LAZY-22) from ",
            thresholds["LAZY-22"],
            ". ",
            *_estimated(found),
        ),
    )


def _h(claim: str, found: Study) -> Number:
    value = _finite(found.certificates[claim].h)
    return maybe(f"h of this network, {claim}", value, "no Lipschitz constant or no full rank", claim=claim)


def _threshold(claim: str, found: Study) -> Number:
    value = _finite(found.thresholds[claim].threshold)
    return maybe(f"smallest certified alpha, {claim}", value, "none is certified", claim=claim)


def _estimated(found: Study) -> tuple[str | Number, ...]:
    if found.estimate is None:
        return ()
    seen, estimate = found.own.tangency, Number("estimated Lipschitz constant of the Jacobian", found.estimate)
    start = "In training the Jacobian changed by ", estimate, " per unit of distance"
    if not seen.sigma:
        return (*start, ".")
    beta = found.own.smoothness(seen.residual / seen.sigma).value
    bound = Number("certified Lipschitz constant of the Jacobian", beta)
    certified = ("; the certified bound on its rate of change is ", bound) if math.isfinite(beta) else ()
    h = Number("h with the estimated constant", seen.laziness(found.estimate))
    return (*start, ", an estimate that would give h = ", h, *certified, ".")


def _held(found: Study) -> tuple[Text, ...]:
    """What the sweep over alpha showed."""
    worst = _worst(found.points)
    if worst is None:
        return ()
    ratio, claim, quantity, alpha = worst
    most = Number("largest measured/bound, this network", ratio, claim=claim)
    beyond = [point for point in found.points if point.ratios]
    return (
        (
            f"Put to the test at {counted(len(beyond), 'certified factor')}, the flow was followed to its end: "
            "measured over bound is at most ",
            most,
            f" ({spoken(quantity)} at alpha = {alpha:.4g}, {claim}), {_outcome(found)}.",
        ),
    )


def _outcome(found: Study) -> str:
    """What the verdicts of the sweep come to."""
    if any(verdict.status is Status.VIOLATED for point in found.points for verdict in point.verdicts):
        return "and a certificate is violated: its theorem or this program is wrong"
    return "so the certificates hold; the nearer to 1, the tighter they are"


def _worst(points: tuple[Point, ...]) -> tuple[float, str, str, float] | None:
    found = [
        (ratio, claim, quantity, point.alpha)
        for point in points
        for claim, ratios in point.ratios.items()
        for quantity, ratio in ratios.items()
    ]
    return max(found, default=None)


def _reference(shown: Reference | None) -> tuple[Text, ...]:
    """Where the certificate bites: a shallow network on twenty of the same digits (LAZY-C7)."""
    worst = _worst(shown.points) if shown else None
    if shown is None or worst is None:
        return ()
    return (
        (
            "A case where the certificate bites is a shallow network of 512 tanh neurons in mirrored pairs on twenty "
            "of these digits (LAZY-C7): LAZY-C1 applies from alpha = ",
            Number("smallest certified alpha of the reference experiment, LAZY-C1", shown.ball, claim="LAZY-C1"),
            " on, where the theorem as published asks for ",
            Number("smallest certified alpha of the reference experiment, LAZY-22", shown.sharp, claim="LAZY-22"),
            " with the same Lipschitz constant and for ",
            Number("smallest certified alpha of the reference experiment, LAZY-22 as printed", shown.theorem),
            " with its own",
            "; along its measured flows measured over bound is at most ",
            Number("largest measured/bound, reference experiment", worst[0], claim="LAZY-C7"),
            ".",
        ),
    )


def _numbers(run: Run, judged: Regime, found: Study) -> tuple[Number, ...]:
    seen = found.own.tangency
    reason = "the run or its linearisation diverged"
    parted = None if judged.held_out is None else float(np.max(np.abs(run.test[-1] - run.twin_test[-1])))
    return (
        maybe("largest difference of an output on held-out rows", parted, reason),
        Number("largest kernel drift on the way", float(np.max(run.drift))),
        Number("smallest singular value of the Jacobian", seen.sigma_min),
        maybe("condition number of the Jacobian", _finite(seen.kappa), "it has no full row rank"),
        Number("norm of the residual at the start", seen.residual),
    )


def _table(found: Study) -> Table:
    rows = []
    for claim, name in NAMES.items():
        allowed = maybe(f"largest h allowed, {claim}", _finite(found.thresholds[claim].limit), "depends on the labels")
        own = found.certificates[claim].certified
        rows.append((f"{claim} ({name})", allowed, _h(claim, found), own, _threshold(claim, found)))
    columns = ("theorem", "largest h", "h of this network", "certified as it is", "smallest alpha, centred")
    return Table(f"Certificates for one output on {found.rows} training rows.", columns, tuple(rows))


def _notes(context: Context, found: Study) -> tuple[Text, ...]:
    notes = [
        f"The run is judged on all rows, its kernel on {PROBE} of them. Certificates speak of one output, {found.rows} "
        "training rows chosen at random and gradient flow without a mean over rows; held-out bounds are for the first "
        "20 held-out rows.",
        "The certified Lipschitz constant covers every direction and the whole ball, and is loose by one order or more "
        "for networks of several layers; the estimated one was seen along one path and certifies nothing.",
    ]
    if found.certifiable and not found.points:
        notes.append(
            "The network has too many parameters to follow its gradient flow to the end here; the certificates stand "
            "by themselves."
        )
    notes += [
        f"At alpha = {point.alpha:.4g} the flow was not followed to its end: {point.problem.flow.reason}"
        for point in found.points
        if not point.followed
    ]
    return tuple(notes)


_FORMULAS = (
    Formula(
        r"h = \frac{2\beta\,\|\alpha f(w_0) - y\|}{\alpha\,\sigma_{\min}^2} \le 1",
        "LAZY-C1: then the flow converges, and stays within the bounds of the figures.",
    ),
    Formula(
        r"\frac{\|f(w_T) - f_{\mathrm{lin}}(u_T)\|}{\|f_{\mathrm{lin}}(u_T) - f(w_0)\|},\quad "
        r"\frac{\|\hat\Theta_T - \hat\Theta_0\|_F}{\|\hat\Theta_0\|_F}",
        "The function gap and the drift of the kernel, which decide between lazy and feature learning.",
    ),
)
