"""`widthwise kernel`: files that are whole, and notes about the data."""

import contextlib
import json
import os

import numpy as np
import pytest

from widthwise.cli import console, main
from widthwise.data import capacity, load
from widthwise.networks import MLP, kernel
from widthwise.report import Silent

RELU = ("--network", "mlp(depth=1, activation=relu)")  # its kernel is closed, and so quick
CSV = "a,b,label\n1,2,x\n3,4.5,y\n5,6,x\n7,8,y\n"


def test_kernel_writes_what_kernel_computes(tmp_path, capsys):
    out = tmp_path / "K.npz"
    assert main(["kernel", "wine", "--network", "mlp(depth=1, activation=relu)", "--out", str(out)]) == 0
    assert f"{out}: nngp and ntk of shape (178, 178)" in capsys.readouterr().out
    expected = kernel(MLP(depth=1, activation="relu").network(), load("wine").X)
    with np.load(out) as written:
        np.testing.assert_array_equal(written["nngp"], expected.nngp)
        np.testing.assert_array_equal(written["ntk"], expected.ntk)
        assert written["error"] == expected.error
        config = json.loads(str(written["config"]))
    assert config["data"] == "wine"
    assert config["features"] == list(load("wine").feature_names)
    assert config["network"].startswith("mlp(")
    assert os.listdir(tmp_path) == ["K.npz"]


def test_kernel_of_standardised_features(tmp_path):
    main(["kernel", "wine", "--network", "mlp(1, 1, relu)", "--standardise", "--out", str(tmp_path / "K.npz")])
    X = load("wine").X
    expected = kernel(MLP(depth=1, activation="relu").network(), (X - X.mean(axis=0)) / X.std(axis=0))
    with np.load(tmp_path / "K.npz") as written:
        # The scales agree to a few roundings of numbers below 1e4; the kernel's entries are below 10.
        np.testing.assert_allclose(written["ntk"], expected.ntk, rtol=0, atol=1e-10)


def test_kernel_of_features_alone(tmp_path, capsys):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n3,4\n1,2\n")
    out = tmp_path / "K.npz"
    assert main(["kernel", str(tmp_path / "data.csv"), *RELU, "--target", "none", "--out", str(out)]) == 0
    assert "2 rows have the same features as another row; the kernel matrix is singular" in capsys.readouterr().err
    with np.load(out) as written:
        assert written["nngp"].shape == (3, 3)


def test_kernel_points_out_features_that_should_be_scaled(tmp_path, capsys):
    out = ["--out", str(tmp_path / "K.npz")]
    main(["kernel", "wine", *RELU, *out])
    assert "mean square up to 2.2e+05); --standardise" in capsys.readouterr().err
    main(["kernel", "wine", *RELU, *out, "--standardise"])
    assert "Note" not in capsys.readouterr().err


def test_kernel_says_which_column_it_left_out(tmp_path, capsys):
    (tmp_path / "data.csv").write_text(CSV)
    assert main(["kernel", str(tmp_path / "data.csv"), *RELU, "--out", str(tmp_path / "K.npz")]) == 0
    assert "the last column of data.csv, 'label', is taken" in capsys.readouterr().err


def test_a_kernel_too_large_for_memory_is_refused_with_its_price(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(capacity, "available_memory", lambda: 10**6)
    assert main(["kernel", "iris", *RELU, "--out", str(tmp_path / "K.npz")]) == 0
    monkeypatch.setattr(capacity, "available_memory", lambda: 10**5)
    assert main(["kernel", "iris", "--out", str(tmp_path / "L.npz")]) == 2
    error = capsys.readouterr().err
    assert "The kernel of 150 rows, two matrices of 0.00018 GB each, needs 0.000742 GB of memory" in error
    assert "Take fewer rows" in error
    assert os.listdir(tmp_path) == ["K.npz"]


@pytest.mark.parametrize(
    ("failure", "status"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)]
)
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch, capsys, failure, status):
    out = tmp_path / "K.npz"
    out.write_bytes(b"old")

    def half(file, **arrays):
        file.write(b"half")
        raise failure

    monkeypatch.setattr(np, "savez", half)
    assert main(["kernel", "iris", *RELU, "--out", str(out)]) == status
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["K.npz"]
    assert ("No space left" in capsys.readouterr().err) == (status == 2)


def test_progress_is_told_tile_by_tile(tmp_path, monkeypatch):
    told = []

    class Recorded(Silent):
        @contextlib.contextmanager
        def task(self, name, total=None):
            yield lambda steps=1: told.append((name, total))

    monkeypatch.setattr(console, "shown_progress", lambda: contextlib.nullcontext(Recorded()))
    assert main(["kernel", "iris", *RELU, "--out", str(tmp_path / "K.npz")]) == 0
    assert told
    assert told == [("Tiles", len(told))] * len(told)


def test_a_matrix_without_targets_says_how_to_go_without(tmp_path, capsys):
    np.savez(tmp_path / "X.npz", X=np.eye(3))
    command = ["kernel", str(tmp_path / "X.npz"), *RELU, "--out", str(tmp_path / "K.npz")]
    assert main(command) == 2
    assert "name the target 'none'" in capsys.readouterr().err
    assert main([*command, "--target", "none"]) == 0
