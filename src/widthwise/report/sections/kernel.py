r"""Section 3: the kernels of infinite width, how near a finite network is to them, and what they see in the labels.

Legend: $\Theta$ the NTK and $K$ the NNGP kernel on the n training inputs, $\lambda_i$, $u_i$ the eigenvalues
and eigenvectors of $\Theta$, $T$ (n, k) the targets.
"""

import math

import numpy as np

from widthwise.data import row_groups
from widthwise.measure import WidthStudy, alignment, width_study
from widthwise.networks import Kernels, kernel
from widthwise.numerics import Spectrum, mean_and_sem

from ..context import Context
from ..section import Formula, Number, Section, Text
from .kernel_figures import NAMES, Labels, between_classes, deviations, energy, root, spectrum, table, width_table

_ROWS = 32
_WIDTHS, _QUICK_WIDTHS = (32, 64, 128, 256, 512), (16, 32, 64, 128)
_DRAWS, _QUICK_DRAWS = 16, 8
_WIDEST = 2048  # wider networks are not drawn: their deviation is read off the rate
SHUFFLES = 20
_FEW = 0.25  # share of the eigenvectors that is few
_LITTLE = 0.2  # share of a squared deviation that is little


def widths(context: Context) -> WidthStudy:
    """Compare empirical with infinite-width kernels at several widths; kept by ``context.once``."""
    spec, quick = context.spec, context.settings.quick
    own = {spec.width} if spec.width <= _WIDEST else set()
    chosen = sorted({*(_QUICK_WIDTHS if quick else _WIDTHS), *own})
    rows = context.some_rows("widths", _ROWS)
    X = context.X_train[rows]
    draws = _QUICK_DRAWS if quick else _DRAWS

    def limit(width: int) -> Kernels:
        if spec.parameterisation == "standard":  # there the limit grows with the width
            return kernel(spec.at_width(width).network(), X)
        whole = context.kernel_train
        return Kernels(whole.nngp[np.ix_(rows, rows)], whole.ntk[np.ix_(rows, rows)], whole.error)

    with context.progress.task("Empirical kernels over widths and draws", draws) as advance:
        return width_study(
            lambda width: spec.at_width(width).network(), limit, X, chosen, draws, context.key("widths"), advance
        )


def labels(context: Context) -> Labels:
    """Hold the kernels against the labels; kept by ``context.once``."""
    kernels = {"ntk": context.kernel_train.ntk, "nngp": context.kernel_train.nngp}
    rng = np.random.default_rng(context.settings.seed)
    orders = [rng.permutation(len(context.T_train)) for _ in range(SHUFFLES)]
    aligned = {name: alignment(matrix, context.T_train) for name, matrix in kernels.items()}
    shuffled = {
        name: mean_and_sem([alignment(matrix, context.T_train[order]) for order in orders])
        for name, matrix in kernels.items()
    }
    components = context.ntk_spectrum.vectors.T @ context.T_train
    return Labels(aligned, shuffled, np.sum(components**2, axis=1) / np.sum(context.T_train**2))


def section(context: Context) -> Section:
    """Hold the kernels of infinite width against finite networks, and against the labels."""
    with context.progress.task("Kernels of infinite width", 3) as advance:
        for part in ("kernel_train", "ntk_spectrum", "nngp_spectrum"):
            getattr(context, part)
            advance()
    study, seen = context.once(widths), context.once(labels)
    return Section(
        key="kernel",
        title="Kernel",
        lead=_lead(context, study),
        paragraphs=(_bias(study), _labels(context, seen), *conditioning(context.ntk_spectrum), *duplicates(context)),
        numbers=_numbers(context, study, seen),
        figures=(deviations(study), spectrum(context), energy(seen), *between_classes(context)),
        tables=(table(context, seen), width_table(study)),
        formulas=_FORMULAS,
        notes=_notes(context, study),
    )


def _lead(context: Context, study: WidthStudy) -> Text:
    return (
        "At width ",
        Number("width of these networks", _shown_width(context, study)),
        " the empirical NTK deviates from its infinite-width limit by ",
        _own(study, _shown_width(context, study)),
        "; over the widths the deviation goes like the width to the power ",
        Number.of("exponent of the NTK deviation", study.rate("ntk"), error_is="bootstrap over draws"),
        ", where theory says −1/2.",
    )


def _shown_width(context: Context, study: WidthStudy) -> int:
    return context.spec.width if context.spec.width in study.widths else study.widths[-1]


def _own(study: WidthStudy, width: int) -> Number:
    found = study.ntk[study.widths.index(width)].mean
    error = f"standard error over {len(study.ntk[study.widths.index(width)].gram)} networks"
    return Number(
        "relative deviation of the NTK", 100 * float(found.value), 100 * float(found.error), "%", error_is=error
    )


def _bias(study: WidthStudy) -> Text:
    """Say how the deviation splits: scatter between networks, and a shift of their mean."""
    squared, _ = study.bias("ntk")
    widest = study.ntk[-1]
    most = (max(widest.squared_bias.value, 0.0) + 2 * widest.squared_bias.error) / float(widest.squared.value)
    shift = Number(
        "c of the NTK bias", math.sqrt(max(squared.value, 0.0)), interval=root(squared), error_is="two standard errors"
    )
    start = "Nearly all of this is scatter" if most < _LITTLE else "Part of this is scatter"
    return (
        f"{start} from network to network, of the order width^(−1/2). The mean over networks is "
        "shifted by c/width, with c = ",
        shift,
        "" if squared.value > 3 * squared.error else " (not told from zero by these draws)",
        f"; at width {study.widths[-1]} the shift makes at most ",
        Number("largest share of the squared NTK deviation that is bias", _digits(100 * min(most, 1.0)), unit="%"),
        " of the squared deviation.",
    )


def _digits(value: float, digits: int = 2) -> float:
    """A bound in as many digits as it is worth."""
    return float(f"{value:.{digits}g}")


def _labels(context: Context, seen: Labels) -> Text:
    return (
        "The centred alignment of the NTK with the labels is ",
        Number("alignment of the NTK with the labels", seen.aligned["ntk"]),
        ", against ",
        Number.of(
            "alignment with shuffled labels", seen.shuffled["ntk"], error_is=f"standard error over {SHUFFLES} shuffles"
        ),
        " for shuffled labels. Of the energy of the targets, 90 % lies in the ",
        Number("eigenvectors that hold 90 % of the targets", directions(seen, 0.9)),
        f" leading of {len(seen.energy)} eigenvectors{learned(seen)}.",
    )


def learned(seen: Labels) -> str:
    """What the place of the targets in the spectrum means for training."""
    if directions(seen, 0.9) <= _FEW * len(seen.energy):
        return ": these are what the kernel learns first"
    return ": part of it lies where the kernel learns slowly"


def directions(seen: Labels, share: float) -> int:
    """How many leading eigenvectors hold that share of the energy of the targets."""
    held = np.cumsum(seen.energy)
    return int(min(np.searchsorted(held, share * held[-1]) + 1, len(held)))


def conditioning(found: Spectrum, kernel: str = "NTK", effective: Number | None = None) -> tuple[Text, ...]:
    """Say how much faster the fastest direction is learned than the slowest, or that the kernel is singular."""
    if not math.isfinite(found.condition_number):
        return (
            (
                f"The {kernel} matrix is singular to the precision of its entries; of its eigenvalues that lie below ",
                Number("smallest eigenvalue that can be told from zero", found.floor),
                " there are ",
                Number(f"eigenvalues of the {kernel} that cannot be told from zero", len(found.values) - found.rank),
                ". Its condition number is not known, a regression without ridge is not defined, and a certificate "
                "that "
                "needs a smallest eigenvalue above zero does not apply.",
            ),
        )
    return (
        (
            f"The condition number of the {kernel} matrix is ",
            Number(f"condition number of the {kernel}", found.condition_number),
            ": gradient descent learns the slowest direction that many times more slowly than the fastest. The largest "
            "eigenvalue takes ",
            Number("share of the largest eigenvalue in the trace", _share(found.values), unit="%"),
            " of the trace, and the effective rank is ",
            effective or Number("effective rank of the NTK", found.effective_rank),
            ".",
        ),
    )


def _share(values: np.ndarray) -> float:
    return 100.0 * float(values[0] / np.sum(values))


def duplicates(context: Context) -> tuple[Text, ...]:
    """Say what repeated rows do: a singular kernel, and a floor under the risk where their labels differ."""
    group = row_groups(context.X_train)
    repeated = len(group) - len(np.unique(group))
    if not repeated:
        return ()
    therefore = "singular where it holds both" if context.own else "therefore singular whatever the width"
    counts = np.bincount(group)[:, None]
    totals = np.zeros((len(counts), context.outputs))
    np.add.at(totals, group, context.T_train)
    floor = 0.5 * float(np.mean(np.sum((context.T_train - (totals / counts)[group]) ** 2, axis=1)))
    return (
        (
            "The number of training rows that repeat another one is ",
            Number("training rows that repeat another", repeated),
            f". Equal inputs have equal rows in every kernel matrix, which is {therefore}, and every network gives "
            "them equal outputs: the risk cannot fall below ",
            Number("floor of the training risk", floor),
            "." if floor else ", for their labels agree.",
        ),
    )


def _numbers(context: Context, study: WidthStudy, seen: Labels) -> tuple[Number, ...]:
    bias = {name: study.bias(name) for name in NAMES}
    return (
        Number("training inputs", len(context.X_train)),
        Number("relative error of the kernel entries", context.kernel_train.error),
        Number.of("exponent of the NNGP deviation", study.rate("nngp"), error_is="bootstrap over draws"),
        *(
            Number(f"chi squared per degree of freedom of the 1/width law, {NAMES[name]}", misfit)
            for name, (_, misfit) in bias.items()
        ),
        Number("alignment of the NNGP kernel with the labels", seen.aligned["nngp"]),
        Number("largest eigenvalue of the NTK", context.ntk_spectrum.largest),
        Number("smallest eigenvalue of the NTK", context.ntk_spectrum.smallest),
    )


def _notes(context: Context, study: WidthStudy) -> tuple[Text, ...]:
    notes = [
        f"Networks of one output are compared. From each of {study.draws} draws at width {study.widths[-1]} as many "
        "narrower "
        "networks are cut as fit; they share no weight, so they are independent networks of their width. A squared "
        "bias is "
        "estimated without bias of its own, and may come out negative where it is below its error."
    ]
    if context.spec.width not in study.widths:
        notes.append(f"Width {context.spec.width} was not drawn; its deviation follows from the rate.")
    if context.spec.parameterisation == "standard":
        notes.append(
            "In the standard parameterisation the NTK grows with the width; each width is held against its own limit."
        )
    return tuple(notes)


_FORMULAS = (
    Formula(
        r"\Theta(x, x') = \lim_{\text{width} \to \infty} \partial_\theta f(x) \cdot \partial_\theta f(x')",
        "The neural tangent kernel, one output, NTK parameterisation.",
    ),
    Formula(
        r"K(x, x') = \lim_{\text{width} \to \infty} \mathbb{E}\left[f(x) f(x')\right]",
        "The NNGP kernel: the covariance of an output over initialisations.",
    ),
    Formula(
        r"\mathbb{E}\left\|\frac{\hat\Theta - \Theta}{\|\Theta\|_F}\right\|_F^2 = "
        r"\underbrace{\left\|\mathbb{E}D\right\|_F^2}_{O(\text{width}^{-2})} + \underbrace{\mathbb{E}\left\|D - "
        r"\mathbb{E}D\right\|_F^2}_{O(\text{width}^{-1})}",
        "The relative deviation D of an empirical kernel: bias and scatter.",
    ),
    Formula(
        r"A(\Theta, T) = \frac{\langle H\Theta H,\, HTT^\top H\rangle_F}{\|H\Theta H\|_F\, \|HTT^\top H\|_F}, \quad "
        r"H = I - \tfrac1n 11^\top",
        "Centred kernel alignment with the targets.",
    ),
)
