r"""Section 8: what the network is worth on rows it has not seen, beside kernels and simple models.

Legend: $\Theta$, $K$ the NTK and NNGP kernel of infinite width, $\rho$ a ridge; every model is fitted to
the same training targets and judged on the same held-out rows.
"""

import math
from dataclasses import dataclass

import numpy as np

from widthwise.measure import Run
from widthwise.numerics import Spectrum, binomial_interval, bootstrap_interval
from widthwise.theory.kernel_ridge import RIDGES, KernelRidge, best_kernel_ridge

from .. import baselines
from ..context import Context
from ..experiment import diverged, law, moment, trained
from ..own_kernels import own_kernel
from ..section import Figure, Formula, Number, Section, Series, Table, Text
from ..words import counted

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Entrant:
    """One model: its outputs on the held-out rows, or why there are none; what was chosen for it."""

    key: str
    name: str
    outputs: np.ndarray | None
    reason: str = ""
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Kernel:
    """The two kernel regressions; that with the NNGP kernel only where the limit of infinite width is known."""

    ntk: KernelRidge
    nngp: KernelRidge | None


def regressions(context: Context) -> Kernel:
    """Fit kernel ridge regression with both kernels, the ridge by leave-one-out; kept by ``context.once``."""
    with context.progress.task("Kernel regression", 2) as advance:
        if context.own:
            found = context.once(own_kernel)
            return Kernel(best_kernel_ridge(found.spectrum, context.T_train[found.rows]), None)
        ntk = best_kernel_ridge(context.ntk_spectrum, context.T_train)
        advance()
        nngp = best_kernel_ridge(context.nngp_spectrum, context.T_train)
        advance()
    return Kernel(ntk, nngp)


def entrants(context: Context) -> tuple[Entrant, ...]:
    """Every model with its outputs on the held-out rows; kept by ``context.once``."""
    run = context.once(trained)
    linear, ridge = baselines.ridge(context.X_train, context.T_train, context.X_test)
    guess = "majority class" if context.classification else "mean of the targets"
    return (
        _network(run),
        _linearised(run),
        *(_empirical(context) if context.own else (*_infinite(context, run), *_limits(context))),
        Entrant("ridge", "ridge regression on the features", linear, remark=f"ridge {ridge:.3g}"),
        Entrant("constant", guess, baselines.constant(context.T_train, len(context.X_test))),
    )


def _empirical(context: Context) -> tuple[Entrant, ...]:
    """Regression with the model's own kernel, on the rows for which it was formed."""
    found, ntk = context.once(own_kernel), context.once(regressions).ntk
    rows = "all" if len(found.rows) == len(context.X_train) else f"{len(found.rows):,}"
    remark = f"{_ridge(found.spectrum, ntk.ridge)}; fitted to {rows} training rows"
    return (Entrant("ntk", "eNTK regression", ntk(found.cross), remark=remark),)


def _limits(context: Context) -> tuple[Entrant, ...]:
    """Regression with the kernels of infinite width."""
    kernels, cross = context.once(regressions), context.kernel_cross
    assert kernels.nngp is not None
    ntk, nngp = (
        _ridge(matrix, one.ridge)
        for matrix, one in ((context.ntk_spectrum, kernels.ntk), (context.nngp_spectrum, kernels.nngp))
    )
    return (
        Entrant("ntk", "NTK regression", kernels.ntk(cross.ntk), remark=ntk),
        Entrant("nngp", "NNGP regression", kernels.nngp(cross.nngp), remark=nngp),
    )


def _network(run: Run) -> Entrant:
    reason = diverged(run)
    return Entrant("network", "network", None if reason else run.test[-1], reason, f"{run.method.steps:,} steps")


def _linearised(run: Run) -> Entrant:
    at = run.twin_diverged_at
    reason = "" if at is None else f"diverged at step {at:,}"
    early = run.diverged_at is not None and not reason
    reason = "training ended when the network diverged" if early else reason
    return Entrant(
        "linearised", "linearised network", None if reason else run.twin_test[-1], reason, "same steps and batches"
    )


def _infinite(context: Context, run: Run) -> tuple[Entrant, ...]:
    """The mean of infinitely wide networks after the same training, where there is a closed form."""
    if not run.method.full_batch or (run.method.name == "gd" and context.learning_rate >= context.stable_rate):
        return ()
    outputs = context.once(law).test_mean(moment(context, run.method.steps), context.kernel_cross.ntk)
    return (Entrant("infinite", "infinite width, same training", outputs, remark="mean over initialisations"),)


def _ridge(matrix: Spectrum, ridge: float) -> str:
    share = ridge / float(np.mean(matrix.values))
    edge = {RIDGES[0]: ", the least that was tried", RIDGES[-1]: ", the largest that was tried"}
    end = next((words for tried, words in edge.items() if math.isclose(share, tried)), "")
    return f"ridge {share:.1e} of the mean eigenvalue{end}"


def section(context: Context) -> Section:
    """Compare all models on the held-out rows."""
    compared = context.once(entrants)
    scores = tuple(_score(context, entrant) for entrant in compared)
    return Section(
        key="accuracy",
        title="Test accuracy" if context.classification else "Held-out error",
        lead=_lead(context, compared, scores),
        paragraphs=(
            *(
                [_paired(context, compared, "linearised", "its linearisation", "the linearisation")]
                if context.own
                else []
            ),
            _paired(context, compared, "ntk", _name(context), "the kernel"),
            _simple(context, compared, scores),
        ),
        numbers=_ridges(context),
        figures=(_figure(context, compared, scores), *_mistakes(context, compared)),
        tables=(_table(context, compared, scores),),
        formulas=_OWN_FORMULAS if context.own else _FORMULAS,
        notes=_notes(context),
    )


def _score(context: Context, entrant: Entrant) -> Number:
    """Accuracy with its Wilson interval, or R² with a bootstrap interval."""
    name = f"{'accuracy' if context.classification else 'R²'}, {entrant.name}"
    key = f"{'accuracy' if context.classification else 'r2'}-{entrant.key}"
    if entrant.outputs is None:
        return Number(name, None, key=key, reason=entrant.reason)
    guess = context.data.decode(entrant.outputs)
    if context.classification:
        right, count = int(np.sum(guess == context.y_test)), len(guess)
        return Number(
            name, right / count, key=key, interval=binomial_interval(right, count), error_is="95 % Wilson interval"
        )
    rows = np.stack([guess, context.y_test], axis=1)
    interval = bootstrap_interval(rows, _r_squared, seed=context.settings.seed, resamples=_RESAMPLES)
    return Number(
        name, _r_squared(rows), key=key, interval=interval, error_is="95 % bootstrap interval over held-out rows"
    )


def _r_squared(rows: np.ndarray) -> float:
    guess, truth = rows.T
    around = float(np.sum((truth - truth.mean()) ** 2))
    return 1.0 - float(np.sum((truth - guess) ** 2)) / around if around > 0 else 0.0


def _of(key: str, compared: tuple[Entrant, ...], scores: tuple[Number, ...]) -> Number:
    return next(score for entrant, score in zip(compared, scores, strict=True) if entrant.key == key)


def _lead(context: Context, compared: tuple[Entrant, ...], scores: tuple[Number, ...]) -> Text:
    network, ntk, linearised = (_of(key, compared, scores) for key in ("network", "ntk", "linearised"))
    rows = f"{len(context.y_test):,} held-out rows"
    if network.value is None:
        what = "accuracy" if context.classification else "R²"
        return (
            f"The network has no {what} to report on the {rows}: {network.reason}. {_name(context)} with a ridge "
            f"reaches {what} ",
            ntk,
            ".",
        )
    verb = (
        f"classifies {rows} with accuracy " if context.classification else f"explains the variance of {rows} with R² "
    )
    kernel = f" and {_name(context)} "
    return ("The network ", verb, network, "; its linearisation reaches ", linearised, kernel, ntk, ".")


def _name(context: Context) -> str:
    """The regression with the tangent kernel: that of infinite width, or the model's own."""
    return "eNTK regression" if context.own else "NTK regression"


def _paired(context: Context, compared: tuple[Entrant, ...], key: str, name: str, short: str) -> Text:
    """The difference between the network and another model, row by row."""
    network, other = (next(one for one in compared if one.key == wanted) for wanted in ("network", key))
    if network.outputs is None or other.outputs is None:
        return "There is nothing to compare row by row."
    losses = np.stack([_row_losses(context, one) for one in (network.outputs, other.outputs)], axis=1)
    difference = bootstrap_interval(losses, _gain, seed=context.settings.seed, resamples=_RESAMPLES)
    what = "accuracy" if context.classification else "mean squared error, relative to the variance,"
    number = Number(
        f"network better than {name} by",
        _gain(losses),
        interval=difference,
        error_is="95 % bootstrap interval over the same held-out rows",
    )
    low, high = difference
    verdict = (
        "the network is better"
        if low > 0
        else f"{short} is better"
        if high < 0
        else "these rows do not tell them apart"
    )
    parted = ()
    if context.classification:
        only = [int(np.sum(losses[:, a] < losses[:, b])) for a, b in ((0, 1), (1, 0))]
        parted = (f" With the network alone {counted(only[0], 'row')} came out right, with {short} alone {only[1]:,}.",)
    return (
        f"Row by row, the network's advantage in {what} over {name} is ",
        number,
        f": {verdict}.",
        *parted,
    )


def _row_losses(context: Context, outputs: np.ndarray) -> np.ndarray:
    guess = context.data.decode(outputs)
    if context.classification:
        return (guess != context.y_test).astype(float)
    return (guess - context.y_test) ** 2 / float(np.var(context.y_test) or 1.0)


def _gain(losses: np.ndarray) -> float:
    return float(np.mean(losses[:, 1] - losses[:, 0]))


def _simple(context: Context, compared: tuple[Entrant, ...], scores: tuple[Number, ...]) -> Text:
    linear, guess = _of("ridge", compared, scores), _of("constant", compared, scores)
    constant = "always naming the most frequent class" if context.classification else "always predicting the mean"
    return ("A linear model by ridge regression reaches ", linear, f", and {constant} ", guess, ".")


def _ridges(context: Context) -> tuple[Number, ...]:
    kernels = context.once(regressions)
    if kernels.nngp is None:
        return (
            Number("ridge of the eNTK regression", kernels.ntk.ridge),
            Number("leave-one-out error of the eNTK regression", kernels.ntk.left_out),
        )
    return (
        Number("ridge of the NTK regression", kernels.ntk.ridge),
        Number("ridge of the NNGP regression", kernels.nngp.ridge),
        Number("leave-one-out error of the NTK regression", kernels.ntk.left_out),
        Number("leave-one-out error of the NNGP regression", kernels.nngp.left_out),
    )


def _figure(context: Context, compared: tuple[Entrant, ...], scores: tuple[Number, ...]) -> Figure:
    kept = [(entrant.name, score) for entrant, score in zip(compared, scores, strict=True) if score.value is not None]
    names, shown = [name for name, _ in kept], [score for _, score in kept]
    lows, highs = zip(*(score.interval for score in shown), strict=True)
    label = "accuracy" if context.classification else "R²"
    intervals = "95 % Wilson intervals" if context.classification else "95 % bootstrap intervals"
    return Figure(
        key="accuracies",
        title=f"{label[0].upper()}{label[1:]} on {len(context.y_test):,} held-out rows",
        caption=f"{intervals}; {_rows(context)}.",
        series=(Series(label, names, [score.value for score in shown], interval=(lows, highs)),),
        x_label="model",
        y_label=label,
        kind="dot",
    )


def _rows(context: Context) -> str:
    """To which rows the models were fitted."""
    if context.own and len(found := context.once(own_kernel).rows) < len(context.X_train):
        return (
            f"the eNTK regression was fitted to {len(found):,} of the {len(context.X_train):,} training rows, the "
            "others to all of them"
        )
    return "all models were fitted to the same training rows"


def _mistakes(context: Context, compared: tuple[Entrant, ...]) -> tuple[Figure, ...]:
    """Mistakes by class of the network and of NTK regression, for up to 30 classes."""
    classes = context.data.classes
    known = [one for one in compared if one.key in ("network", "ntk")]
    shown = [(one.name, one.outputs) for one in known if one.outputs is not None]
    if not context.classification or len(classes) > 30 or not shown:
        return ()
    series = []
    for name, outputs in shown:
        wrong = context.y_test[context.data.decode(outputs) != context.y_test]
        series.append(Series(name, list(classes), np.bincount(wrong, minlength=len(classes))))
    return (
        Figure(
            key="mistakes-by-class",
            title="Mistakes by class",
            caption="How many held-out rows of each class were given another class.",
            series=tuple(series),
            x_label="class",
            y_label="mistakes",
            kind="bar",
        ),
    )


def _table(context: Context, compared: tuple[Entrant, ...], scores: tuple[Number, ...]) -> Table:
    label = "accuracy" if context.classification else "R²"
    columns = ("model", label, "how") if context.classification else ("model", label, "RMSE", "how")
    rows = []
    for entrant, score in zip(compared, scores, strict=True):
        error = () if context.classification else (_rmse(context, entrant),)
        rows.append((entrant.name, score, *error, entrant.remark or None))
    return Table("All models on the same held-out rows.", columns, tuple(rows))


def _rmse(context: Context, entrant: Entrant) -> Number:
    name, key = f"RMSE, {entrant.name}", f"rmse-{entrant.key}"
    if entrant.outputs is None:
        return Number(name, None, key=key, reason=entrant.reason)
    errors = (context.data.decode(entrant.outputs) - context.y_test)[:, None]
    interval = bootstrap_interval(errors, _root_mean_square, seed=context.settings.seed, resamples=_RESAMPLES)
    return Number(name, _root_mean_square(errors), key=key, interval=interval, error_is="95 % bootstrap interval")


def _root_mean_square(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _notes(context: Context) -> tuple[Text, ...]:
    notes = [
        f"Kernel regressions take the ridge, of {len(RIDGES)} between {RIDGES[0]:g} and {RIDGES[-1]:g} mean "
        "eigenvalues, with the least leave-one-out "
        "error on the training rows; the held-out rows chose nothing.",
    ]
    if context.own and len(context.once(own_kernel).rows) < len(context.X_train):
        notes.append(f"The comparison is not even: {_rows(context)}.")
    for name, spectrum in _spectra(context):
        hidden = len(spectrum.values) - spectrum.rank
        if hidden:
            notes.append(
                f"The {name} matrix is singular: {counted(hidden, 'eigenvalue')} of {len(spectrum.values):,} cannot be "
                "told from zero, and nothing is fitted in those directions, whatever the ridge."
            )
    return tuple(notes)


def _spectra(context: Context) -> tuple[tuple[str, Spectrum], ...]:
    if context.own:
        return (("eNTK", context.once(own_kernel).spectrum),)
    return (("NTK", context.ntk_spectrum), ("NNGP", context.nngp_spectrum))


_FORMULAS = (
    Formula(r"f(x) = \Theta(x, X)\,(\Theta(X, X) + \rho I)^{-1}\, T", "NTK regression; with K for Θ, NNGP regression."),
)
_OWN_FORMULAS = (
    Formula(
        r"f(x) = \hat\Theta(x, X)\,(\hat\Theta(X, X) + \rho I)^{-1}\, T",
        "eNTK regression, with the empirical kernel at the start.",
    ),
)
