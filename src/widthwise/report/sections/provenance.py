"""Section 9: how the report was made: data, conventions, seeds, what did not apply, sources."""

from widthwise.claims import Status, claims

from ..context import Context
from ..section import Formula, Section, Table, Text


def section(context: Context) -> Section:
    """Say what a reader needs to make the numbers again and to know what they mean."""
    return Section(
        key="how",
        title="How this was made",
        lead="The same command gives the same numbers: every random choice follows from the seed.",
        paragraphs=(_data(context), _seed(context), _errors(context)),
        tables=(*_excluded(context), *_sources(context)),
        formulas=_CONVENTIONS[:1] if context.own else _CONVENTIONS,
        notes=context.notes,
    )


def _data(context: Context) -> Text:
    targets = (
        "values minus their mean, divided by their standard deviation"
        if not context.classification
        else "−1 and +1 in one output"
        if context.outputs == 1
        else "one row per input with 1 − 1/k at its class and −1/k elsewhere"
    )
    features = (
        "How the inputs were scaled stands in the section on the model"
        if context.own
        else "Features were brought to mean 0 and variance 1 by the training rows alone, and those that are constant "
        "there were dropped"
    )
    return (
        f"Of {len(context.dataset):,} rows a share of {context.settings.test_fraction:g} was held out"
        f"{', the same of each class' if context.classification else ''}. {features}. Targets are {targets}."
    )


def _seed(context: Context) -> Text:
    drawn = "" if context.own else "the network at initialisation, its other draws, "
    rows = "kernels are formed" if context.own else "finite kernels are compared"
    return (
        f"The seed {context.settings.seed} fixes the split, {drawn}the order of mini-batches, the rows on "
        f"which {rows}, and the resampling of intervals. Numbers agree from run to run on one machine with these "
        "versions; other processors may differ in the last digits, which training amplifies."
    )


def _errors(context: Context) -> Text:
    if context.own:
        return (
            "What an error behind a ± is stands in its tooltip and in results.json; brackets hold an interval. "
            "Training is one run: how much it would vary with the seed or other initial parameters is not measured."
        )
    return (
        "An error behind a ± is a standard error over draws unless it says otherwise; brackets hold an interval. A "
        "claim is "
        "a theorem that was run on this network: its verdict compares a prediction, with its error, with a measurement."
    )


def _excluded(context: Context) -> tuple[Table, ...]:
    """The claims whose assumptions were not met, and why."""
    rows = {
        (verdict.claim_id, verdict.name, "; ".join(verdict.reasons))
        for section in context.finished.values()
        for verdict in section.verdicts
        if verdict.status is Status.NOT_APPLICABLE
    }
    return (Table("Claims that do not apply here", ("claim", "name", "reason"), tuple(sorted(rows))),) if rows else ()


def _sources(context: Context) -> tuple[Table, ...]:
    """The literature behind the claims that were used."""
    used = {verdict.claim_id for section in context.finished.values() for verdict in section.verdicts}
    used |= {number.claim for section in context.finished.values() for number in section.all_numbers() if number.claim}
    known = [claim for claim in claims() if claim.id in used]
    works = sorted({source for claim in known for source in claim.sources})
    rows = [(work, ", ".join(claim.id for claim in known if work in claim.sources)) for work in works]
    own = ", ".join(claim.id for claim in known if claim.derived_here)
    rows += [("derived in this project", own)] if own else []
    return (Table("Sources, by their key in the bibliography", ("source", "claims"), tuple(rows)),) if rows else ()


_CONVENTIONS = (
    Formula(
        r"R = \frac{1}{2n} \sum_{i=1}^n \left\| f(x_i) - t_i \right\|^2",
        "The risk: the mean over inputs, summed over outputs. Learning rates and eigenvalues divided by n refer to it.",
    ),
    Formula(
        r"z_i = \sqrt{C_w / n_{\mathrm{in}}}\, \sum_j \omega_{ij} x_j + \sqrt{C_b}\, \beta_i, \qquad \omega, \beta "
        r"\sim N(0, 1)",
        "A layer at the start: in the NTK parameterisation ω and β are trained, in the standard one these with their "
        "factors. The network is computed in float64.",
    ),
    Formula(
        r"K^{(1)}(x, x') = C_w\, \frac{x \cdot x'}{d} + C_b",
        "Kernels take the dot product of two inputs divided by the number of features.",
    ),
)
