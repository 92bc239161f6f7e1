"""From data and a network, or a model that somebody brings, to what every section starts from."""

from collections.abc import Sequence
from typing import Any

from widthwise.data import Dataset, arrange, demand_memory, load, load_examples, split, standardise
from widthwise.networks import MLP, parse_network
from widthwise.numerics import reject

from .context import Context, Settings
from .costs import in_words
from .imported import imported, is_import_path
from .own import bring, is_model
from .progress import Progress

_COPIES = 12  # of the parameters: two models, their gradients and the memory of an optimiser
_NUMBER = 8  # bytes


def arguments(data: Any, target: Any, network: Any) -> tuple[Any, Any, Any]:
    """Data, target and network, whichever order they came in: ``(data, target, network)`` or ``(model, data, target)``.

    >>> arguments("iris", None, "mlp"), arguments(MLP(width=8), "iris", "mlp")[:2]
    (('iris', None, 'mlp'), ('iris', None))
    """
    if not is_model(data):
        return data, target, network
    if target is None:
        reject(
            "a model without data",
            "The report is about a model on data",
            "Pass report(model, (X, y)), or the name of a data set in place of (X, y)",
        )
    return target, None if network == "mlp" else network, data


def prepared(
    source: tuple[Any, Any, Any], shape: Sequence[int] | None, settings: Settings, progress: Progress
) -> Context:
    """Load the data and the network and bring them together."""
    data, target, network = source
    if is_model(network) and not isinstance(network, MLP):
        return _own_context(data, target, network, shape, settings, progress)
    if isinstance(network, str) and is_import_path(network):
        return _own_context(data, target, network, shape, settings, progress)
    if shape is not None:
        reject(
            f"shape={tuple(shape)} with the network {network}",
            "A network in words takes rows of features",
            "Leave shape out, or bring a model that takes such examples",
        )
    spec = _network(network)
    dataset = load(data, target)
    train, test, notes = _rows(dataset, settings)
    return Context(dataset, standardise(train, test), spec, settings, progress, notes)


def _own_context(data, target, model, shape, settings: Settings, progress: Progress) -> Context:
    dataset, layout = load_examples(data, target, shape)
    if isinstance(model, str):
        model = imported(model, layout.shape, max(len(dataset.classes), 1))
    own = bring(model, dataset.X, layout)
    train, test, notes = _rows(dataset, settings)
    context = Context(dataset, arrange(train, test, own.layout, own.outputs), own, settings, progress, notes)
    _demand_affordable(context)
    return context


def _demand_affordable(context: Context) -> None:
    """Refuse a report on a model that would not fit into memory or would take longer than its time limit."""
    own, plan, settings = context.own, context.plan, context.settings
    assert own is not None and plan is not None
    demand_memory(
        _NUMBER * (_COPIES * own.size + plan.records * own.outputs * 2 * len(context.dataset)),
        f"Training a model of {own.size:,} parameters beside its linearisation",
        "Take a smaller model, or fewer rows",
    )
    if plan.seconds > settings.time_limit:
        full = settings.optimizer in ("gd", "flow") and len(context.X_train) > settings.batch
        reject(
            f"This report would take about {in_words(plan.seconds)}",
            f"At most {in_words(settings.time_limit)} are allowed (time_limit)",
            "Take optimizer='sgd', whose steps see a batch, or fewer steps or rows, or raise time_limit"
            if full
            else "Take fewer steps or fewer rows, or raise time_limit",
        )


def _network(network: str | MLP) -> MLP:
    spec = parse_network(network) if isinstance(network, str) else network
    if not isinstance(spec, MLP):
        reject(
            f"a network of type {type(spec).__name__}",
            "The report takes an MLP, whose width it can vary, one in words, or a model of your own to call",
            "Pass MLP(width=512, depth=3, activation='gelu'), the same as text, or a sampled network",
        )
    if spec.parameterisation == "mean_field":
        reject(
            "a network in the mean-field parameterisation",
            "The report holds training against a kernel that stays as it is, and there it moves at every width",
            "Use parameterisation='ntk' or 'standard'; widthwise.kernel gives the kernel at initialisation",
        )
    return spec


def _rows(dataset: Dataset, settings: Settings) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """Training and test rows, thinned where there are too many, and what was done."""
    train, test = split(dataset, settings.test_fraction, settings.seed)
    kept_train, train_note = _thinned(train, settings, "training")
    kept_test, test_note = _thinned(test, settings, "test")
    return kept_train, kept_test, (*train_note, *test_note)


def _thinned(part: Dataset, settings: Settings, name: str) -> tuple[Dataset, tuple[str, ...]]:
    """Keep at most so many rows, chosen at random, each class in proportion."""
    if len(part) <= settings.rows:
        return part, ()
    kept, _ = split(part, 1.0 - settings.rows / len(part), settings.seed)
    note = (
        f"{len(kept):,} of {len(part):,} {name} rows are used, chosen at random with the seed, because the kernels "
        "of n rows "
        f"take memory like n² and time like n³; rows={2 * settings.rows} would take about eight times as long"
    )
    return kept, (note,)
