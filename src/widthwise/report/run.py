"""The report itself: check everything, compute section by section, write after each."""

import contextlib
import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from widthwise._version import __version__
from widthwise.networks import MLP

from .context import Context, Optimizer, Settings
from .costs import count_parameters, demand_affordable
from .imported import is_import_path
from .own import is_model
from .prepared import arguments, prepared
from .progress import Progress, Silent, Terminal
from .results import Results, prepare, write
from .section import Metadata, Section
from .sections import (
    accuracy,
    initialisation,
    kernel,
    lazy,
    learning_rate,
    own_kernel,
    own_lazy,
    own_model,
    own_signals,
    own_summary,
    provenance,
    summary,
    training,
    width,
)

# In the order in which they are computed and shown, with the titles under which they are awaited.
SECTIONS: tuple[tuple[str, Callable[[Context], Section]], ...] = (
    ("Initialisation", initialisation.section),
    ("Kernel", kernel.section),
    ("Learning rate", learning_rate.section),
    ("Lazy or learning features", lazy.section),
    ("Width", width.section),
    ("Training curve", training.section),
    ("Test accuracy", accuracy.section),
)
OWN_SECTIONS: tuple[tuple[str, Callable[[Context], Section]], ...] = (
    ("Model and data", own_model.section),
    ("Signals", own_signals.section),
    ("Kernel", own_kernel.section),
    ("Learning rate", learning_rate.section),
    ("Lazy or learning features", own_lazy.section),
    ("Training curve", training.section),
    ("Test accuracy", accuracy.section),
)
_PACKAGES = ("jax", "numpy", "scipy", "equinox", "diffrax", "optax", "scikit-learn", "plotly")


def report(
    data: Any = "digits",
    target: Any = None,
    network: Any = "mlp",
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
    shape: Sequence[int] | None = None,
) -> Results:
    r"""Train a network on data and write a page that holds it against the theory of wide networks.

    ``report(data, target, network)`` takes a network in words, or ``report(model, data, target)`` a model of your own,
    for which no limit of infinite width is known: its page holds the model against its own linearisation.

    The risk is $\frac1{2n}\sum_i\|f(x_i) - t_i\|^2$; everything runs in float64, but for models that fix
    another precision. The page is written after every section: interrupted, it stays valid and says what is missing.
    Equal arguments give equal numbers, unless the time limit ends training.

    Args:
        data: a built-in name, the path of a file, a pair ``(X, y)``, a data frame or a `Dataset`, as in `load`. For a
            model of your own X may hold images (n, height, width, channels) or tokens, whole numbers (n, length).
        target: the column to predict, by default the last one.
        network: an `MLP`, one in words such as ``"mlp(width=512, depth=3, activation=gelu)"``, a model that
            `operators.adapt` takes, or an import path ``"my_module:make_model"`` of one, or of a function that makes
            one without arguments or from (in_size, out_size).
        optimizer, learning_rate, steps, batch, seed, quick, test_fraction, rows, time_limit: see `Settings`.
        out: the folder for index.html and results.json; made if need be.
        progress: True shows bars with the time left; or anything with the method of `Progress`.
        shape: of one example, where a model of your own takes rows of features as something else, as (8, 8, 1).

    Returns:
        The finished sections and the path of the page.

    Raises:
        ValueError: before anything is computed or written, for data, a network, a setting or a folder that
            cannot be used, and for work that is too large, with what it would cost.
    """
    settings = Settings(optimizer, learning_rate, steps, batch, seed, quick, test_fraction, rows, time_limit)
    source = arguments(data, target, network)
    with jax.enable_x64(True), _shown(progress) as shown:
        context = prepared(source, shape, settings, shown)
        if not context.own:
            demand_affordable(context)
        folder = prepare(out)
        return _compose(context, folder, _command(*source, settings, out, shape))


@contextlib.contextmanager
def _shown(progress: bool | Progress) -> Iterator[Progress]:
    if progress is True:
        with Terminal() as bars:
            yield bars
    else:
        yield progress or Silent()


def _compose(context: Context, folder: Path, command: str) -> Results:
    """Compute the sections in order; the page on the disk is whole at every moment."""
    began, timings = time.perf_counter(), {}
    results = _written(context, folder, command, began, timings)
    for title, section in _sections(context):
        start = time.perf_counter()
        done = section(context)
        context.finished[done.key] = done
        timings[title] = round(time.perf_counter() - start, 2)
        results = _written(context, folder, command, began, timings)
    return results


def _written(context: Context, folder: Path, command: str, began: float, timings: dict[str, float]) -> Results:
    """Write what is there, the summary first and how it was made last."""
    missing = tuple(title for title, _ in _sections(context)[len(context.finished) :])
    metadata = replace(
        _metadata(context, command),
        pending=missing,
        time=time.strftime("%Y-%m-%d %H:%M %Z"),
        seconds=round(time.perf_counter() - began, 1),
        timings=tuple(timings.items()),
    )
    first = (own_summary if context.own else summary).section(context)
    sections = (first, *context.finished.values(), provenance.section(context))
    return Results(sections, metadata, write(folder, sections, metadata))


def _sections(context: Context) -> tuple[tuple[str, Callable[[Context], Section]], ...]:
    return OWN_SECTIONS if context.own else SECTIONS


def _metadata(context: Context, command: str) -> Metadata:
    own = context.own
    parameters = own.size if own else count_parameters(context.spec, context.inputs, context.outputs)
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
        own=own is not None,
    )


def _versions() -> dict[str, str]:
    others = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"widthwise": __version__, **others, "python": platform.python_version()}


def _command(data: Any, target: Any, network: Any, settings: Settings, out: Any, shape: Any) -> str:
    """What gives this report again: a line for the shell where that is possible, and otherwise the call."""
    usual = Settings(quick=settings.quick)
    changed = {name: value for name, value in asdict(settings).items() if value != getattr(usual, name)}
    named = isinstance(data, str | os.PathLike)
    if named and isinstance(network, str):
        brought = is_import_path(network)
        words = ["widthwise", "report", *([network] if brought else []), "--data", str(data)]
        words += [] if target is None else ["--target", str(target)]
        words += [] if brought else ["--network", network]
        words += [] if shape is None else ["--shape", *map(str, shape)]
        words += [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        words += ["--quick"] if settings.quick else []
        return shlex.join([*words, "--out", str(out)])
    brought = is_model(network) and not isinstance(network, MLP)
    options = {} if brought else {"network": network}
    options |= {**changed, **({"quick": True} if settings.quick else {}), "out": str(out)}
    options |= {} if shape is None else {"shape": tuple(shape)}
    options |= {} if target is None else {"network" if brought else "target": target}
    source = f"{'model, ' if brought else ''}{str(data)!r}" if named else f"{'model, ' if brought else ''}data"
    return f"widthwise.report({source}, {', '.join(f'{name}={value!r}' for name, value in options.items())})"
