"""The report itself: check everything, compute section by section, write after each."""

import contextlib
import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from widthwise._version import __version__
from widthwise.data import Dataset, load, split, standardise
from widthwise.networks import MLP, parse_network
from widthwise.numerics import reject

from .context import Context, Optimizer, Settings
from .costs import count_parameters, demand_affordable
from .progress import Progress, Silent, Terminal
from .results import Results, prepare, write
from .section import Metadata, Section
from .sections import accuracy, initialisation, kernel, lazy, learning_rate, provenance, summary, training

# In the order in which they are computed and shown, with the titles under which they are awaited.
SECTIONS: tuple[tuple[str, Callable[[Context], Section]], ...] = (
    ("Initialisation", initialisation.section),
    ("Kernel", kernel.section),
    ("Learning rate", learning_rate.section),
    ("Lazy or learning features", lazy.section),
    ("Training curve", training.section),
    ("Test accuracy", accuracy.section),
)
_OF_THE_COMMAND_LINE = {"optimizer", "learning_rate", "steps", "seed"}
_PACKAGES = ("jax", "numpy", "scipy", "equinox", "diffrax", "optax", "scikit-learn", "plotly")


def report(
    data: Any = "digits",
    target: str | int | None = None,
    network: str | MLP = "mlp",
    *,
    optimizer: Optimizer = "gd",
    learning_rate: float | None = None,
    steps: int | None = None,
    batch: int = 32,
    seed: int = 0,
    out: str | os.PathLike = "widthwise-report",
    quick: bool = False,
    progress: bool | Progress = False,
    test_fraction: float = 0.2,
    rows: int = 2000,
    time_limit: float = 3600.0,
) -> Results:
    r"""Train a network on data and write a page that holds it against the theory of wide networks.

    The risk is $\frac1{2n}\sum_i\|f(x_i) - t_i\|^2$; everything runs in float64. The page is written
    after every section: interrupted, it stays valid and says what is missing. Equal arguments give
    equal numbers.

    Args:
        data: a built-in name, the path of a file, a pair ``(X, y)``, a data frame or a `Dataset`, as in `load`.
        target: the column to predict, by default the last one.
        network: an `MLP`, or one in words such as ``"mlp(width=512, depth=3, activation=gelu)"``.
        optimizer, learning_rate, steps, batch, seed, quick, test_fraction, rows, time_limit: see `Settings`.
        out: the folder for index.html and results.json; made if need be.
        progress: True shows bars with the time left; or anything with the method of `Progress`.

    Returns:
        The finished sections and the path of the page.

    Raises:
        ValueError: before anything is computed or written, for data, a network, a setting or a folder that
            cannot be used, and for work that is too large, with what it would cost.
    """
    settings = Settings(optimizer, learning_rate, steps, batch, seed, quick, test_fraction, rows, time_limit)
    spec = _network(network)
    dataset = load(data, target)
    with jax.enable_x64(True), _shown(progress) as shown:
        context = _context(dataset, spec, settings, shown)
        demand_affordable(context)
        folder = prepare(out)
        return _compose(context, folder, _command(data, target, network, settings, out))


def _network(network: str | MLP) -> MLP:
    spec = parse_network(network) if isinstance(network, str) else network
    if not isinstance(spec, MLP):
        reject(
            f"a network of type {type(spec).__name__}",
            "The report takes an MLP, whose width it can vary, or one in words",
            "Pass MLP(width=512, depth=3, activation='gelu'), or the same as text",
        )
    if spec.parameterisation == "mean_field":
        reject(
            "a network in the mean-field parameterisation",
            "The report holds training against a kernel that stays as it is, and there it moves at every width",
            "Use parameterisation='ntk' or 'standard'; widthwise.kernel gives the kernel at initialisation",
        )
    return spec


@contextlib.contextmanager
def _shown(progress: bool | Progress) -> Iterator[Progress]:
    if progress is True:
        with Terminal() as bars:
            yield bars
    else:
        yield progress or Silent()


def _context(dataset: Dataset, spec: MLP, settings: Settings, progress: Progress) -> Context:
    train, test = split(dataset, settings.test_fraction, settings.seed)
    kept_train, train_note = _thinned(train, settings, "training")
    kept_test, test_note = _thinned(test, settings, "test")
    notes = (*train_note, *test_note)
    return Context(dataset, standardise(kept_train, kept_test), spec, settings, progress, notes)


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


def _compose(context: Context, folder: Path, command: str) -> Results:
    """Compute the sections in order; the page on the disk is whole at every moment."""
    began, timings = time.perf_counter(), {}
    results = _written(context, folder, command, began, timings)
    for title, section in SECTIONS:
        start = time.perf_counter()
        done = section(context)
        context.finished[done.key] = done
        timings[title] = round(time.perf_counter() - start, 2)
        results = _written(context, folder, command, began, timings)
    return results


def _written(context: Context, folder: Path, command: str, began: float, timings: dict[str, float]) -> Results:
    """Write what is there, the summary first and how it was made last."""
    missing = tuple(title for title, _ in SECTIONS[len(context.finished) :])
    metadata = replace(
        _metadata(context, command),
        pending=missing,
        time=time.strftime("%Y-%m-%d %H:%M %Z"),
        seconds=round(time.perf_counter() - began, 1),
        timings=tuple(timings.items()),
    )
    sections = (summary.section(context), *context.finished.values(), provenance.section(context))
    return Results(sections, metadata, write(folder, sections, metadata))


def _metadata(context: Context, command: str) -> Metadata:
    parameters = count_parameters(context.spec, context.inputs, context.outputs)
    facts = {
        "samples": f"{len(context.dataset):,}",
        "training rows": f"{len(context.X_train):,}",
        "held-out rows": f"{len(context.X_test):,}",
        "features": f"{context.inputs:,}",
        "outputs": f"{context.outputs:,}",
        "parameters": f"{parameters:,}",
        "training": f"{summary.METHODS[context.settings.optimizer]}, {context.settings.steps:,} steps",
    }
    if context.classification:
        facts["classes"] = f"{len(context.data.classes):,}"
    return Metadata(
        dataset=context.dataset.name,
        network=str(context.spec),
        command=command,
        seed=context.settings.seed,
        versions=_versions(),
        facts=tuple(facts.items()),
        warnings=(*context.data.warnings, *context.notes),
    )


def _versions() -> dict[str, str]:
    others = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"widthwise": __version__, **others, "python": platform.python_version()}


def _command(
    data: Any, target: str | int | None, network: str | MLP, settings: Settings, out: str | os.PathLike
) -> str:
    """What gives this report again: a line for the shell where that is possible, and otherwise the call."""
    usual = Settings(quick=settings.quick)
    changed = {name: value for name, value in asdict(settings).items() if value != getattr(usual, name)}
    named = isinstance(data, str | os.PathLike)
    if named and isinstance(network, str) and changed.keys() <= _OF_THE_COMMAND_LINE:
        words = ["widthwise", "report", "--data", str(data)]
        words += [] if target is None else ["--target", str(target)]
        words += ["--network", network]
        words += [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        words += ["--quick"] if settings.quick else []
        return shlex.join([*words, "--out", str(out)])
    options = {"network": network, **changed, **({"quick": True} if settings.quick else {}), "out": str(out)}
    options |= {} if target is None else {"target": target}
    source = repr(str(data)) if named else "data"
    return f"widthwise.report({source}, {', '.join(f'{name}={value!r}' for name, value in options.items())})"
