"""Records of a training as labelled arrays, and in a folder in zarr's format that a later run goes on with.

The folder holds the records at its root, as ``xarray.open_zarr(path, consolidated=False)`` reads them, and the arrays
of the start in the group ``start``. Rows are appended; what a run that was cut off left half written is cut away by
the next one.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from widthwise.numerics import reject

_CHUNK = 256  # records in one file
_MARK = "widthwise kernel records"
_START, _LAST = "start", "last"
_AXES = {"weight_change": ("step", "layer"), "feature_change": ("step", "feature")}
_MEANINGS = {
    "distance": "||K_t - K_0||_F / ||K_0||_F",
    "cosine": "<K_t, K_0>_F / ||K_t||_F ||K_0||_F",
    "velocity": "||K_t - K_s||_F / ||K_0||_F (t - s), s the record before",
    "top_eigenvalue": "the largest eigenvalue of K_t",
    "effective_rank": "(sum lambda)^2 / sum lambda^2",
    "entropy_rank": "exp of the entropy of lambda / sum lambda",
    "loss": "loss on the probe",
    "alignment": "centred alignment of K_t with the labels",
    "seconds": "time that the record took",
    "weight_change": "||W_t - W_0|| / ||W_0||",
    "feature_change": "||h_t - h_0||_F / ||h_0||_F",
}


@dataclass(frozen=True, eq=False)
class Stored:
    """Records, how they were made, and what is needed to make more of them."""

    records: dict[str, np.ndarray]
    config: dict[str, Any]
    layer_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    X: np.ndarray
    Y: np.ndarray | None
    kernel: np.ndarray
    weights: tuple[np.ndarray, ...]
    features: tuple[np.ndarray, ...]
    last: tuple[int, np.ndarray] | None = None

    @property
    def count(self) -> int:
        return len(self.records["step"])

    @property
    def identity(self) -> str:
        """Tells these records from those of another model or probe."""
        arrays = (self.X, self.kernel, *self.weights)
        return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)).hexdigest()


def as_dataset(held: Stored) -> Any:
    """The records as a labelled data set, with the kernel of the start, settings and versions."""
    xarray = xarray_package()
    # Strings as objects: those of a fixed length have no place in the format's specification yet.
    layers, features = (np.array(one, dtype=object) for one in (held.layer_names, held.feature_names))
    names = {"step": held.records["step"], "layer": layers, "feature": features}
    made = xarray.Dataset(
        {
            name: xarray.Variable(_AXES.get(name, ("step",)), column, {"long_name": _MEANINGS[name]})
            for name, column in held.records.items()
            if name != "step"
        },
        coords=names,
        attrs={
            "title": _MARK,
            "kernel": "empirical NTK on the probe, averaged over outputs",
            "identity": held.identity,
            **held.config,
            **{f"{one}_version": version(one) for one in ("widthwise", "jax", "numpy")},
        },
    )
    return made.assign(initial_kernel=(("input", "other_input"), held.kernel))


def write(path: str | os.PathLike, held: Stored) -> None:
    """Write what the folder lacks; records that were made anew replace those from there on."""
    path, zarr, whole = Path(path), _zarr(), as_dataset(held)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        _begin(path, held)
    group = _opened(path)
    begun = group.attrs.get("identity")
    if begun not in (None, held.identity):
        reject(
            f"{path}, which holds the records of another training",
            "Records are appended to those of the same start and probe",
            "Choose another folder, or go on by KernelRecorder.resume",
        )
    rows = whole.drop_dims(["input", "other_input"])
    if begun is None or not {*rows.variables} <= {*group}:
        for name in {*rows.variables} & {*group}:  # of a run that was cut off when it began
            del group[name]
        chunks = {name: {"chunks": (_CHUNK, *rows[name].shape[1:])} for name in (*rows.data_vars, "step")}
        whole.to_zarr(path, mode="a", encoding=chunks, consolidated=False)
    else:
        common = _trimmed(group, held.records)
        new = rows.isel(step=slice(common, None)).drop_vars(["layer", "feature"])
        if new.sizes["step"]:
            new.to_zarr(path, mode="a", append_dim="step", consolidated=False)
    if held.last is not None:
        kept = zarr.open_group(path / _START, mode="a")
        kept.create_array(_LAST, data=held.last[1], overwrite=True).attrs["step"] = held.last[0]


def load(path: str | os.PathLike) -> Stored:
    """Read what `write` wrote."""
    path = Path(path)
    xarray_package()
    group = _opened(path) if path.is_dir() else None
    if group is None or not {"identity"} <= {*group.attrs} or "step" not in group:
        reject(
            f"{path}, which holds no records",
            "A training is taken up from a folder that KernelRecorder.save has written",
            "Give its path, or begin with KernelRecorder(model, X)",
        )
    _trimmed(group)
    start = group[_START]
    kept = json.loads(start.attrs["config"])
    columns = {name: np.asarray(group[name][:]) for name in ("step", *_MEANINGS) if name in group}
    count, last = len(columns["step"]), None
    if _LAST in start and count and start[_LAST].attrs["step"] == columns["step"][-1]:
        last = int(start[_LAST].attrs["step"]), np.asarray(start[_LAST][:])
    labels = np.asarray(start["Y"][...]) if "Y" in start else None
    of_layers, of_features = (tuple(kept.pop(name)) for name in ("layers", "features"))
    weights, features = (_numbered(start, name) for name in ("weight", "feature"))
    X, kernel = (np.asarray(start[name][...]) for name in ("X", "kernel"))
    return Stored(columns, kept, of_layers, of_features, X, labels, kernel, weights, features, last)


def _begin(path: Path, held: Stored) -> None:
    """Write the arrays of the start; records without them would be of no use."""
    start = _zarr().open_group(path, mode="w").create_group(_START)
    arrays = {"X": held.X, "kernel": held.kernel} | ({} if held.Y is None else {"Y": held.Y})
    arrays |= {f"weight {at}": one for at, one in enumerate(held.weights)}
    arrays |= {f"feature {at}": one for at, one in enumerate(held.features)}
    for name, one in arrays.items():
        start.create_array(name, data=np.ascontiguousarray(one))
    kept = held.config | {"layers": held.layer_names, "features": held.feature_names}
    start.attrs["config"] = json.dumps(kept)


def _numbered(group: Any, name: str) -> tuple[np.ndarray, ...]:
    count = sum(one.startswith(f"{name} ") for one in group)
    return tuple(np.asarray(group[f"{name} {at}"][...]) for at in range(count))


def _opened(path: Path) -> Any:
    zarr = _zarr()
    with suppress(OSError, ValueError, KeyError):
        group = zarr.open_group(path, mode="r+")
        if _START in group and "config" in group[_START].attrs:
            return group
    return reject(
        f"{path}, which holds something else than records of a training",
        "Records are written into a new folder, or into one that holds the first of them",
        "Choose another folder",
    )


def _trimmed(group: Any, records: dict[str, np.ndarray] | None = None) -> int:
    """How many rows all columns have, and have in common with these records; further ones are cut away."""
    columns = {name: group[name] for name in ("step", *_MEANINGS) if name in group}
    whole = min(one.shape[0] for one in columns.values())
    for name, own in (records or {}).items():
        pairs = zip(columns[name][:whole], own[:whole], strict=False)
        equal = [np.array_equal(there, own, equal_nan=True) for there, own in pairs]
        whole = equal.index(False) if False in equal else len(equal)
    for one in columns.values():
        if one.shape[0] != whole:
            one.resize((whole, *one.shape[1:]))
    return whole


def xarray_package() -> Any:
    """The package xarray, where zarr is there too."""
    with suppress(ImportError):
        import xarray
        import zarr  # noqa: F401

        return xarray
    return reject(
        "Records as labelled arrays, and no packages xarray and zarr",
        "A data set and its folder need them",
        "pip install 'widthwise[xarray]', or take the plain arrays of recorder.records",
    )


def _zarr() -> Any:
    xarray_package()
    import zarr

    return zarr
