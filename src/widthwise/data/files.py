"""From a path to a table: one reader per kind of file."""

import difflib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from widthwise.numerics import reject

from .arrays import matrix_table, with_target
from .csv_file import read_csv
from .table import Table, listed

EXTENSIONS = (".csv", ".tsv", ".npz", ".parquet")
NO_TARGET = "none"


def read_file(path: Path, target: str | int | None = None) -> Table:
    """Read a data file; ``target`` tells which array of an .npz file belongs to ``X``.

    Raises:
        ValueError: the file is missing, a directory, of an unknown kind, or not what its name says.
    """
    _demand_file(path)
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                return read_csv(path)
            case ".npz":
                return _read_npz(path, target)
            case _:
                return _read_parquet(path)
    except OSError as failure:
        return reject(
            f"{path} cannot be read: {failure.strerror or failure}",
            "A data file is readable by you",
            "Check its permissions (ls -l) and that its disk is there",
        )


def _demand_file(path: Path) -> None:
    known = f"Data files end in {', '.join(EXTENSIONS)}"
    if path.is_dir():
        inside = sorted(child.name for child in path.iterdir() if child.suffix.lower() in EXTENSIONS)
        found = f"it holds {listed(inside, 5)}" if inside else "it holds no data file"
        reject(f"{path} is a directory; {found}", known, "Name one file")
    if not path.exists():
        near = _nearest_file(path)
        reject(f"There is no file {str(path)!r}{near}", known, "Check the spelling and the folder you are in")
    if not path.is_file():
        reject(f"{path} is not a regular file", known, "Save the data to a file first")
    if path.suffix.lower() not in EXTENSIONS:
        kind = f"ends in {path.suffix!r}" if path.suffix else "has no extension"
        reject(f"{path} {kind}", known, "Save the table as .csv, or rename the file if it is one of these")


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor a folder {str(path.parent)!r}"
    names = [child.name for child in path.parent.iterdir() if child.suffix.lower() in EXTENSIONS]
    match = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {str(path.parent / match[0])!r}?)" if match else ""


def _read_npz(path: Path, target: str | int | None) -> Table:
    arrays = npz_arrays(path)
    if "X" in arrays:
        return _from_matrix(path, arrays, target)
    columns = {
        name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for name, array in arrays.items()
    }
    shapes = {name: array.shape for name, array in columns.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) != 1:
        found = ", ".join(f"{name!r} of shape {shape}" for name, shape in shapes.items())
        reject(
            f"{path} holds {found or 'no arrays'}",
            "An .npz file holds X of shape (n, d) and y of shape (n,), or one array of shape (n,) per column",
            "Save it with numpy.savez(path, X=X, y=y)",
        )
    return Table(path.name, tuple(columns), tuple(columns.values()))


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an .npz file; raises ``ValueError`` for one that is none."""
    what = "is not an archive of numpy arrays"
    if zipfile.is_zipfile(path):
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as failure:
            what = "holds Python objects" if "allow_pickle" in str(failure) else "is damaged"
    return reject(
        f"{path} {what}",
        "An .npz file holds arrays of numbers or text, written by numpy.savez",
        "Save it with numpy.savez(path, X=X, y=y)",
    )


def _from_matrix(path: Path, arrays: dict[str, np.ndarray], target: str | int | None) -> Table:
    table = matrix_table(arrays["X"], path.name)
    if target == NO_TARGET and target not in arrays:
        return table
    name = "y" if target is None else str(target)
    if name not in arrays or name == "X":
        others = [other for other in arrays if other != "X"]
        reject(
            f"{path} has no array {name!r} beside X",
            f"Its other arrays are {listed(others)}" if others else "X stands alone in it, so there are no targets",
            "Name one of them as the target"
            if others
            else "Save it with numpy.savez(path, X=X, y=y); where none is needed, name the target 'none'",
        )
    return with_target(table, name, arrays[name])


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        reject(
            f"Reading {path} needs the package pyarrow, which is not installed",
            "Files that need no further package end in .csv, .tsv and .npz",
            "Install it with: pip install 'widthwise[parquet]'",
        )
    try:
        read = parquet.read_table(path)
    except ArrowException as failure:
        reject(
            f"{path} cannot be read as Parquet: {str(failure).splitlines()[0]}",
            "A .parquet file holds one table",
            "Write it once more",
        )
    plain = (c.cast(c.type.value_type) if types.is_dictionary(c.type) else c for c in read.columns)
    table = Table(path.name, tuple(read.column_names), tuple(column.to_numpy() for column in plain))
    return _without_frame_index(table)


def _without_frame_index(table: Table) -> Table:
    """Drop the row index that pandas stores beside the columns."""
    hidden = [j for j, name in enumerate(table.names) if name == "__index_level_0__"]
    return table.without(hidden[0], f"the row index of {table.name} was left out") if hidden else table
