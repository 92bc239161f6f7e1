"""`widthwise report`: the page about a network and its data."""

import time
import webbrowser
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from widthwise.numerics import reject
from widthwise.report import PAGE, is_import_path, report

from .console import say, shown_progress, write_line
from .options import Column, Count, Flag, Sizes


def write_report(
    model: Annotated[Positional[str | None], arg(metavar="[MODULE:MODEL]", help_behavior_hint="")] = None,
    *,
    data: str = "digits",
    target: Column = None,
    network: str = "mlp",
    optimizer: Literal["gd", "flow", "sgd", "adam"] = "gd",
    learning_rate: Annotated[float | None, arg(metavar="RATE", help_behavior_hint="")] = None,
    steps: Count = None,
    batch: int = 32,
    seed: int = 0,
    out: Path = Path("widthwise-report"),
    show: Annotated[bool, arg(name="open", help_behavior_hint="")] = False,
    quick: Flag = False,
    test_fraction: float = 0.2,
    rows: int = 2000,
    time_limit: Annotated[float, arg(metavar="SECONDS")] = 3600.0,
    shape: Sizes = None,
) -> int:
    """Train a network on data and write a page that holds it against the theory of wide networks.

    Args:
        model: A model of your own by its import path, such as my_module:make_model: a model, or a function that makes
            one, without arguments or from (in_size, out_size). It takes the place of --network.
        data: digits, iris, wine, breast_cancer, diabetes, mnist5k, or a .csv, .tsv, .npz or .parquet file.
        target: Column to predict, by name or index; by default the last one.
        network: Such as "mlp(width=512, depth=3, activation=gelu)".
        optimizer: Gradient descent or gradient flow on all data, or SGD or Adam on batches.
        learning_rate: Step size; by default a stable one, from the theory.
        steps: Number of training steps; by default 400, or 100 with --quick.
        batch: Rows in a mini-batch of SGD and Adam.
        seed: Equal seeds give equal numbers.
        out: Folder for index.html, one self-contained page, and results.json, every number on it.
        show: Open the page in the browser; by default not.
        quick: Fewer widths and draws: done sooner, with wider error bars.
        test_fraction: Share of the rows that are held out.
        rows: At most so many training rows are used, and as many test rows.
        time_limit: Work that is estimated to take longer is refused before it begins.
        shape: Of one example, such as "8 8 1" for images, where a model of your own does not take rows of features.
    """
    began, page = time.time(), out / PAGE
    try:
        with shown_progress() as progress:
            results = report(
                data=data,
                target=target,
                network=_one(model, network),
                optimizer=optimizer,
                learning_rate=learning_rate,
                steps=steps,
                batch=batch,
                seed=seed,
                out=out,
                quick=quick,
                progress=progress,
                test_fraction=test_fraction,
                rows=rows,
                time_limit=time_limit,
                shape=shape,
            )
    except KeyboardInterrupt:
        if page.exists() and page.stat().st_mtime >= began:
            say(f"The page so far: {page}")
        raise
    write_line(str(results))
    if show and results.page is not None:
        webbrowser.open(results.page.absolute().as_uri())
    return 0


def _one(model: str | None, network: str) -> str:
    """The network in words, or the import path of a model."""
    if model is None:
        return network
    if network != "mlp":
        reject(
            f"the model {model} beside --network {network}",
            "A report is on one network",
            "Leave one of the two out",
        )
    if not is_import_path(model):
        reject(
            f"the model {model!r}",
            "A model of your own is named as module:attribute; a network in words is given by --network",
            "Give for example my_module:make_model",
        )
    return model
