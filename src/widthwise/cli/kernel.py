"""`widthwise kernel`: exact kernel matrices in a file."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
from tyro.conf import Positional, arg

from widthwise._version import __version__
from widthwise.data import FeatureScale, demand_memory, load_inputs
from widthwise.networks import kernel, parse_network
from widthwise.numerics import reject

from .console import say, shown_steps, write_line
from .options import Column, Flag

_LARGE = 100.0  # mean square of a row, from which activations that saturate look like steps
_BYTES_PER_PAIR = 33  # measured: two matrices of float64, and as much again while they are made symmetric


def write_kernels(
    data: Annotated[Positional[str], arg(metavar="DATA", help_behavior_hint="")],
    network: str = "mlp",
    out: Path = Path("kernel.npz"),
    target: Column = None,
    standardise: Flag = False,
) -> int:
    """Compute the exact NNGP and NTK kernel matrices of an infinitely wide network on data.

    Args:
        data: digits, iris, wine, breast_cancer, diabetes, mnist5k, or a .csv, .tsv, .npz or .parquet file.
        network: Such as "mlp(depth=3, activation=gelu)"; its width does not matter here.
        out: The .npz file to write: nngp and ntk (n, n) in float64, a bound on their relative error, and config
            (JSON text that says how they were made).
        target: Column to leave out, by name or index; by default the last one; "none" keeps them all.
        standardise: Bring every feature to mean 0 and variance 1 first, as the report does.
    """
    spec = parse_network(network)
    _demand_writable(out)
    inputs = load_inputs(data, target)
    for warning in inputs.warnings:
        say(f"Note: {warning}.", style="yellow")
    _demand_affordable(len(inputs.X))
    X = FeatureScale.of(inputs)(inputs.X) if standardise else inputs.X
    if (size := float(np.max(np.mean(X**2, axis=1)))) > _LARGE:
        say(
            f"Note: the features are large (mean square up to {size:.2g}); --standardise brings them to size 1.",
            "yellow",
        )
    with shown_steps(f"Kernels of {len(X)} rows", "Tiles") as progress:
        kernels = kernel(spec.network(), X, progress=progress)
    config = {
        "widthwise": __version__,
        "data": inputs.name,
        "features": inputs.feature_names,
        "network": str(spec),
        "standardised": standardise,
    }
    with _replacing(out) as file:
        np.savez(file, nngp=kernels.nngp, ntk=kernels.ntk, error=kernels.error, config=json.dumps(config))
    write_line(f"{out}: nngp and ntk of shape {kernels.ntk.shape}, relative error at most {kernels.error:.1e}")
    return 0


def _demand_affordable(rows: int) -> None:
    demand_memory(
        _BYTES_PER_PAIR * rows**2,
        f"The kernel of {rows} rows, two matrices of {8 * rows**2 / 1e9:.3g} GB each,",
        "Take fewer rows (10,000 need 3.3 GB), or write to disk in Python: widthwise.kernel(network, X, out='folder')",
    )


def _demand_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    if path.suffix != ".npz":
        reject(f"The output is {str(path)!r}", "Kernels go to an .npz file", f"Name it {path.stem or 'kernel'}.npz")
    if path.is_dir():
        reject(f"The output {str(path)!r} is a directory", "Kernels go to an .npz file", "Name a file in it")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as failure:
        reject(
            f"Nothing can be written to the folder {str(path.parent)!r}: {failure.strerror}",
            "The output goes to a folder that exists and that you may write to",
            "Make the folder, change its permissions, or name another one",
        )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` once it is whole; until then ``path`` stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as failure:
        reject(
            f"{str(path)!r} cannot be written: {failure.strerror}",
            "The output goes to a disk with room for it",
            "Make room, or name another folder",
        )
    finally:
        temporary.unlink(missing_ok=True)
