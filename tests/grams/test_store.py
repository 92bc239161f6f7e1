"""Matrices on disk: the same numbers, a run that goes on where it was cut off, and refusals that say what to do."""

import builtins
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from widthwise.grams import Grid, on_disk
from widthwise.networks import MLP, Apply, Chain, Conv, Dense, GlobalPool, kernel

STORE, KERNEL = (sys.modules[f"widthwise.{name}"] for name in ("grams.store", "networks.kernel"))
NETWORK = MLP(depth=2, activation="relu").network()
X = np.random.default_rng(0).normal(size=(20, 5))
FORMATS = pytest.mark.parametrize("folder", ["kernels", "kernels.zarr"])


class Values:
    """Known matrices as tiles, which counts them and can stop at one."""

    def __init__(self, n: int = 10, m: int | None = None, stop: int | None = None):
        full = np.random.default_rng(1).normal(size=(n, n if m is None else m))
        self.matrix = full + full.T if m is None else full
        self.grid, self.asked, self.stop = Grid.of(n, m, 4), [], stop

    def __call__(self, rows: slice, columns: slice):
        if len(self.asked) == self.stop:
            raise KeyboardInterrupt
        self.asked.append((rows.start, columns.start))
        part = self.matrix[rows, columns]
        return (part, 2 * part), 0.1 * len(self.asked)

    def write(self, path: Path, **words):
        request = {"network": [0.1 + 0.2, 3.0]} | words
        return on_disk(path, self.grid, self, ("one", "two"), "float64", request)


@FORMATS
@pytest.mark.parametrize(("n", "m"), [(10, None), (3, None), (1, None), (9, 5), (3, 11)])
def test_what_is_written_is_what_was_computed(tmp_path, folder, n, m):
    values = Values(n, m)
    (one, two), error = values.write(tmp_path / folder)
    assert np.array_equal(one[:], values.matrix) and np.array_equal(two[:], 2 * values.matrix)
    assert error == 0.1 * len(values.grid)


@FORMATS
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_an_interrupted_run_goes_on_after_the_last_finished_tile(tmp_path, folder, stop):
    first, second = Values(stop=stop), Values()
    with pytest.raises(KeyboardInterrupt):
        first.write(tmp_path / folder)
    (one, _), error = second.write(tmp_path / folder)
    assert len(second.asked) == len(second.grid) - stop
    assert not {*first.asked} & {*second.asked}
    assert np.array_equal(one[:], second.matrix)
    assert error == 0.1 * max(stop, len(second.asked))
    third = Values()
    third.write(tmp_path / folder)
    assert third.asked == []


@FORMATS
def test_a_tile_counts_as_finished_only_when_its_numbers_are_on_the_disk(tmp_path, folder, monkeypatch):
    """Every flush is where a machine may stop: before it nothing of the tile may be promised."""
    values, promised = Values(), []

    def flush(number):
        log = tmp_path / folder / "finished.txt"
        promised.append(len(log.read_text().splitlines()) if log.exists() else 0)
        os.fsync(number)

    monkeypatch.setattr(STORE, "_flush", flush)
    values.write(tmp_path / folder)
    # The request is flushed first; a tile flushes two files, or of each matrix one chunk or two, and then the log.
    chunks = folder.endswith(".zarr")
    flushes = [4 if chunks and rows != columns else 2 for rows, columns in values.grid]
    assert promised == [0, *(one for k, n in enumerate(flushes) for one in [k] * n + [k + 1])]


def test_a_line_of_the_log_that_was_cut_off_does_not_count(tmp_path):
    Values().write(tmp_path)
    log = tmp_path / "finished.txt"
    log.write_text(log.read_text()[:-3])
    again = Values()
    again.write(tmp_path)
    assert len(again.asked) == 1
    Values().write(tmp_path)
    assert len(log.read_text().splitlines()) == len(again.grid)


def test_a_matrix_that_is_gone_is_computed_anew(tmp_path):
    Values().write(tmp_path)
    (tmp_path / "two.npy").unlink()
    again = Values()
    (_, two), _ = again.write(tmp_path)
    assert len(again.asked) == len(again.grid)
    assert np.array_equal(two, 2 * again.matrix)


CHILD = """
import sys
import numpy as np
from widthwise.networks import MLP, kernel
sys.modules["widthwise.networks.kernel"]._HEIGHT = 50
X = np.random.default_rng(0).normal(size=(400, 5))
network = MLP(depth=2, activation="relu").network()
kernel(network, X, method="profile", out=sys.argv[1], progress=lambda *told: print(*told, flush=True))
"""


def child(code: str, *arguments: str) -> subprocess.Popen:
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_ENABLE_X64": "1"})


@pytest.mark.slow
def test_a_killed_process_costs_at_most_one_tile(tmp_path, monkeypatch):
    process = child(CHILD, str(tmp_path))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("4 "):
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    finished, told = len((tmp_path / "finished.txt").read_text().splitlines()), []
    assert 3 <= finished < 8  # the kill was sent when the fourth was computed and perhaps not yet written
    monkeypatch.setattr(KERNEL, "_HEIGHT", 50)
    inputs, computed = np.random.default_rng(0).normal(size=(400, 5)), []
    gram = KERNEL.gram
    monkeypatch.setattr(KERNEL, "gram", lambda *words: computed.append(1) or gram(*words))
    found = kernel(NETWORK, inputs, method="profile", out=tmp_path, progress=lambda *one: told.append(one))
    assert len(computed) == 8 * (8 - finished)
    assert told == [(done, 8) for done in range(1, 9)]
    whole = kernel(NETWORK, inputs, method="profile")
    np.testing.assert_allclose(found.ntk, whole.ntk, rtol=0, atol=1e-13)
    assert np.array_equal(found.ntk, found.ntk.T)


@FORMATS
@pytest.mark.parametrize("method", ["pairs", "profile"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_on_disk_are_the_kernels(tmp_path, folder, method, dtype, monkeypatch):
    monkeypatch.setattr(KERNEL, "_SIDE", 8)
    monkeypatch.setattr(KERNEL, "_HEIGHT", 8)
    monkeypatch.setattr(KERNEL, "_SIDE_BY_PAIRS", 8)
    Z = X.copy()
    Z[3], Z[4] = 0.0, Z[5]  # a zero input and two equal ones
    whole = kernel(NETWORK, Z, method=method, dtype=dtype)
    found = kernel(NETWORK, Z, method=method, dtype=dtype, out=tmp_path / folder)
    assert (found.method, found.ntk.dtype) == (whole.method, whole.ntk.dtype)
    assert found.error == pytest.approx(whole.error)
    for one, other in ((found.nngp, whole.nngp), (found.ntk, whole.ntk)):
        np.testing.assert_allclose(one[:], other, rtol=0, atol=whole.error * np.max(other))
        assert np.array_equal(one[:], one[:].T)


def test_two_sets_on_disk_with_tiles_larger_than_both(tmp_path):
    whole, found = kernel(NETWORK, X, X[:3]), kernel(NETWORK, X, X[:3], out=tmp_path / "new" / "folder")
    assert isinstance(found.ntk, np.memmap)
    assert np.array_equal(found.ntk, whole.ntk)
    with pytest.raises(ValueError, match="read-only"):
        found.ntk[0, 0] = 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": X + 1e-12}, "inputs"),
        ({"network": MLP(depth=3, activation="relu").network()}, "network"),
        ({"dtype": "float32"}, "dtype float64, now float32"),
        ({"tolerance": 1e-9}, "tolerance 1e-10, now 1e-09"),
        ({"Y": X}, "inputs"),
        ({"method": "profile"}, "method auto, now profile"),
        ({"inputs": X[:19]}, "shape"),
    ],
)
def test_a_folder_is_not_continued_with_anything_else(tmp_path, change, named):
    def ask(network=NETWORK, inputs=X, **words):
        return kernel(network, inputs, out=tmp_path, **words)

    ask()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"begun for another matrix: .*{named}.* Choose another folder"):
        ask(**change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["notes.txt", "ntk.npy", "request.json"])
def test_foreign_files_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name}, which is nothing that was begun here"):
        Values().write(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"which is a file.*into a folder"):
        Values().write(tmp_path / "file")
    with pytest.raises(ValueError, match=r"Not a directory.*folder that can be written"):
        Values().write(tmp_path / "file" / "folder")


def test_a_log_that_somebody_else_wrote_is_refused(tmp_path):
    Values().write(tmp_path)
    (tmp_path / "finished.txt").write_text("mine\n")
    with pytest.raises(ValueError, match=r"no finished tiles.*Remove the folder"):
        Values().write(tmp_path)


def test_a_disk_without_space_is_seen_before_anything_is_written(tmp_path):
    grid = Grid.of(10**8, None, 10**8)
    with pytest.raises(ValueError, match=r"need 1.6e\+08 GB.*GB left.*another disk"):
        on_disk(tmp_path / "new", grid, Values(), ("one", "two"), "float64", {})
    assert not (tmp_path / "new").exists()


@FORMATS
def test_a_disk_that_fills_up_keeps_the_finished_tiles(tmp_path, folder, monkeypatch):
    def full(number):
        if log.exists() and len(log.read_text().splitlines()) == 2:
            raise OSError(28, "No space left on device")
        os.fsync(number)

    first, second, log = Values(), Values(), tmp_path / folder / "finished.txt"
    monkeypatch.setattr(STORE, "_flush", full)
    with pytest.raises(ValueError, match=r"No space left.*goes on after the last"):
        first.write(tmp_path / folder)
    monkeypatch.setattr(STORE, "_flush", os.fsync)
    second.write(tmp_path / folder)
    assert len(second.asked) == len(second.grid) - 2


def test_without_zarr_the_other_format_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **words):
        if name == "zarr":
            raise ImportError(name)
        return real(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"no package zarr.*pip install 'widthwise\[zarr\]'"):
        Values().write(tmp_path / "kernels.zarr")
    assert not (tmp_path / "kernels.zarr").exists()
    assert Values().write(tmp_path / "kernels")[1] > 0


def test_the_request_can_be_read(tmp_path):
    kernel(NETWORK, X, out=tmp_path)
    request = json.loads((tmp_path / "request.json").read_text())
    assert (request["shape"], request["dtype"], request["names"]) == ([20, 20], "float64", ["nngp", "ntk"])


@pytest.mark.slow
def test_images_on_disk_are_single_numbers_for_a_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(KERNEL, "_LEAST_SIDE", 3)
    images = np.random.default_rng(0).normal(size=(5, 4, 2))
    kept = Chain([Conv(3, weight_variance=2.0), Apply("relu")])
    pooled = Chain([*kept.layers, GlobalPool(), Dense(1.0)])
    whole, found = kernel(pooled, images), kernel(pooled, images, out=tmp_path / "pooled")
    np.testing.assert_allclose(found.ntk, whole.ntk, rtol=1e-12)
    with pytest.raises(ValueError, match=r"keeps positions, .*End the network with Flatten"):
        kernel(kept, images, out=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


MEMORY = """
import resource, sys
import numpy as np
from widthwise.networks import MLP, kernel
sys.modules["widthwise.networks.kernel"]._HEIGHT = 300
network = MLP(depth=2, activation="relu").network()
X = np.random.default_rng(0).normal(size=(3000, 20))
kernel(network, X[:900], method="profile", out=sys.argv[1] + "/small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kernel(network, X, method="profile", out=sys.argv[1] + "/large")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_tile_not_by_the_matrix(tmp_path):
    """Inputs in a few copies and some matrices of a tile: not the 144 MB of the two matrices."""
    process = child(MEMORY, str(tmp_path))
    more = int(process.communicate()[0])
    assert process.returncode == 0
    inputs, tile = 3000 * 20 * 8, 300 * 300 * 8
    assert more < 10 * inputs + 50 * tile
