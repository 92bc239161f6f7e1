"""Matrices of pairs on disk: bounded memory, and a run that was cut off is taken up again.

A folder holds one array for each matrix, ``request.json`` with what was asked, and ``finished.txt`` with a line for
each finished tile: its number and its error. The line is written when the tile's numbers are on the disk.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from widthwise.numerics import reject

from .tiles import Grid, Progress, Tile, fill, mirror

_REQUEST, _UNFINISHED, _LOG = "request.json", "request.json.part", "finished.txt"
_FORMAT = 1
_STRIP = 64  # rows of a transposed tile that are copied at once
Parts = list[tuple[tuple[slice, slice], np.ndarray]]  # of a matrix, and their rows and columns
_SAME = 1e-9  # numbers of two requests that differ by less, relatively, are the same


def on_disk(
    path: str | os.PathLike,
    grid: Grid,
    tile: Tile,
    names: tuple[str, ...],
    dtype: str,
    request: Mapping[str, Any],
    progress: Progress | None = None,
) -> tuple[tuple[Any, ...], float]:
    """Fill the matrices in a folder, but for the tiles that are there; return them, read-only, and the largest error.

    ``request`` says in JSON's terms what is computed; a folder that was begun for another one is refused.
    """
    path = Path(path)
    if path.is_file():
        reject(f"{path}, which is a file", "Matrices are written into a folder", "Choose another name")
    asked = {"format": _FORMAT, "shape": list(grid.shape), "dtype": dtype, "names": list(names)} | dict(request)
    asked |= {"rows": grid.rows[0].stop, "columns": grid.columns[0].stop, "symmetric": grid.symmetric}
    kind = _Zarr if path.suffix == ".zarr" else _Npy
    try:
        with _opened(path, grid, names, dtype, asked, kind) as folder:
            fill(grid, tile, folder, progress)
            folder.wait()
    except OSError as error:
        reject(
            f"{error} in {path}",
            "Matrices are written into a folder that can be written, on a disk with space",
            "Mend that and call again, which goes on after the last finished tile, or choose another folder",
        )
    return tuple(kind.read(path, name) for name in names), max(folder.finished.values())


def fingerprint(array: np.ndarray) -> str:
    """A name for these numbers."""
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder as a sink: the finished tiles with their errors, and what writes each matrix.

    A tile is written while the next one is computed, and no more than one waits for that.
    """

    path: Path
    finished: dict[int, float]
    matrices: tuple["_Npy | _Zarr", ...]
    behind: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    waiting: list[Future] = field(default_factory=list)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *reason: object) -> None:
        self.behind.shutdown()

    def wait(self) -> None:
        """Until all is written; raise what went wrong."""
        while self.waiting:
            self.waiting.pop().result()

    def has(self, number: int) -> bool:
        return number in self.finished

    def put(
        self, number: int, place: tuple[slice, slice], parts: tuple[np.ndarray, ...], error: float, mirrored: bool
    ) -> None:
        self.wait()
        self.waiting.append(self.behind.submit(self._write, number, place, parts, error, mirrored))

    def _write(
        self, number: int, place: tuple[slice, slice], parts: tuple[np.ndarray, ...], error: float, mirrored: bool
    ) -> None:
        rows, columns = place

        def write(matrix: _Npy | _Zarr, part: np.ndarray) -> None:
            if mirrored and rows == columns:
                part = np.array(part)
                mirror(part)
            other = [((columns, rows), part.T)] if mirrored and rows != columns else []
            matrix.write([(place, part), *other])

        with ThreadPoolExecutor(len(self.matrices)) as pool:  # most of the time is spent in the system
            list(pool.map(write, self.matrices, parts))
        self.finished[number] = error
        with (self.path / _LOG).open("a", encoding="ascii") as log:
            log.write(f"{number} {error!r}\n")
            log.flush()
            _flush(log.fileno())


@dataclass(frozen=True, eq=False)
class _Npy:
    """A matrix in NumPy's format, written row by row: a memory map would keep the pages it wrote in memory."""

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype

    @staticmethod
    def place(path: Path, name: str) -> Path:
        return path / f"{name}.npy"

    @classmethod
    def create(cls, path: Path, name: str, grid: Grid, dtype: str) -> None:
        begun = path / f"{name}.part"  # so that what has its name is whole
        np.lib.format.open_memmap(begun, mode="w+", dtype=dtype, shape=grid.shape)
        begun.replace(cls.place(path, name))

    @classmethod
    def open(cls, path: Path, name: str) -> "_Npy":
        found = cls.read(path, name)
        return cls(cls.place(path, name), found.offset, found.shape, found.dtype)

    @classmethod
    def read(cls, path: Path, name: str) -> Any:
        return np.load(cls.place(path, name), mmap_mode="r")

    def write(self, parts: Parts) -> None:
        width = self.dtype.itemsize
        with self.path.open("r+b", buffering=0) as file:
            for (rows, columns), part in parts:
                for top in range(0, len(part), _STRIP):
                    for row, values in enumerate(np.ascontiguousarray(part[top : top + _STRIP]), rows.start + top):
                        file.seek(self.offset + (row * self.shape[1] + columns.start) * width)
                        _write(file, memoryview(values).cast("B"))
            _flush(file.fileno())


@dataclass(frozen=True, eq=False)
class _Zarr:
    """A matrix in zarr's format, one chunk for each tile, and not compressed: kernels do not shrink."""

    array: Any
    path: Path

    @staticmethod
    def place(path: Path, name: str) -> Path:
        return path / name

    @classmethod
    def create(cls, path: Path, name: str, grid: Grid, dtype: str) -> None:
        chunks = grid.rows[0].stop, grid.columns[0].stop
        group = _zarr().open_group(path, mode="a")
        group.create_array(name, shape=grid.shape, chunks=chunks, dtype=dtype, fill_value=np.nan, compressors=None)

    @classmethod
    def open(cls, path: Path, name: str) -> "_Zarr":
        return cls(_zarr().open_array(cls.place(path, name), mode="r+"), cls.place(path, name))

    @classmethod
    def read(cls, path: Path, name: str) -> Any:
        return _zarr().open_array(cls.place(path, name), mode="r")

    def write(self, parts: Parts) -> None:
        for place, part in parts:
            self.array[place] = part
            chunk = (str(one.start // size) for one, size in zip(place, self.array.chunks, strict=True))
            with self.path.joinpath("c", *chunk).open("rb") as file:
                _flush(file.fileno())


def _opened(path: Path, grid: Grid, names: tuple[str, ...], dtype: str, asked: dict, kind: type) -> Folder:
    """A new folder, or one that was begun for the same request, with its finished tiles."""
    if kind is _Zarr:
        _zarr()
    begun = _begun(path)
    if begun is None:
        _demand_space(path, names, grid, dtype, kind)
        _write_request(path, asked)
    elif different := [key for key in sorted({*asked, *begun}) if not _same(asked.get(key), begun.get(key))]:
        reject(
            f"The folder {path} was begun for another matrix: {_told(different, begun, asked)}",
            "A matrix is continued with the same network, inputs, tolerance, dtype and method",
            "Choose another folder, or remove this one",
        )
    finished = _finished(path / _LOG)
    for name in names:
        if not kind.place(path, name).exists():
            kind.create(path, name, grid, dtype)
            finished = {}
            (path / _LOG).write_text("", encoding="ascii")
    return Folder(path, finished, tuple(kind.open(path, name) for name in names))


def _told(different: list[str], begun: dict, asked: dict) -> str:
    """What differs, and where it is short, how."""
    short = {key for key in different if not isinstance(asked.get(key), list)}
    return ", ".join(f"{key} {begun.get(key)}, now {asked.get(key)}" if key in short else key for key in different)


def _begun(path: Path) -> dict | None:
    """What the folder was begun for; none where it is new or empty."""
    try:
        return json.loads((path / _REQUEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        foreign = path.exists() and [one.name for one in path.iterdir() if one.name != _UNFINISHED]
    except ValueError:
        foreign = [_REQUEST]
    if foreign:
        reject(
            f"The folder {path} holds {', '.join(sorted(foreign)[:3])}, which is nothing that was begun here",
            "Matrices are written into a new or empty folder, or into one that holds a part of them",
            "Choose another folder",
        )
    return None


def _write_request(path: Path, asked: dict) -> None:
    path.mkdir(parents=True, exist_ok=True)
    with (path / _UNFINISHED).open("w", encoding="utf-8") as file:
        file.write(json.dumps(asked, indent=1) + "\n")
        file.flush()
        _flush(file.fileno())
    (path / _UNFINISHED).replace(path / _REQUEST)


def _demand_space(path: Path, names: tuple[str, ...], grid: Grid, dtype: str, kind: type) -> None:
    needed = len(names) * grid.shape[0] * grid.shape[1] * np.dtype(dtype).itemsize
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        reject(
            f"{len(names)} matrices of {grid.shape[0]} x {grid.shape[1]} as {dtype} need {needed / 1e9:.4g} GB",
            f"The disk of {path} has {free / 1e9:.4g} GB left",
            "Choose a folder on another disk, dtype='float32', or fewer inputs",
        )


def _finished(log: Path) -> dict[int, float]:
    """The finished tiles; a last line that was cut off is taken away."""
    if not log.exists():
        return {}
    text = log.read_text(encoding="ascii")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        os.truncate(log, len(whole))
    try:
        return {int(number): float(error) for number, error in (line.split() for line in whole.splitlines())}
    except ValueError:
        reject(
            f"{log}, which holds lines that are no finished tiles",
            "A line holds the number of a tile and its error",
            "Remove the folder and call again",
        )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= _SAME * max(abs(one), abs(other))
    return one == other


def _write(file, values: memoryview) -> None:
    """All of it: a full disk may take a part and complain about the rest."""
    while values:
        values = values[file.write(values) :]


def _flush(number: int) -> None:
    os.fsync(number)


def _zarr():
    with suppress(ImportError):
        import zarr

        return zarr
    return reject(
        "A folder with the ending .zarr, and no package zarr",
        "The format zarr needs it",
        "pip install 'widthwise[zarr]', or give a folder with another name, for NumPy's format",
    )
