"""The command in a process of its own: pipes, float64, interruption."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RELU = ("--network", "mlp(depth=1, activation=relu)")  # its kernel is closed, and so quick


def in_a_process(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-m", "widthwise", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    process = in_a_process("list", stdout=write)
    os.close(write)
    assert process.communicate()[1] == ""
    assert process.returncode == 0


@pytest.mark.slow
def test_the_module_runs_and_sets_float64(tmp_path):
    out = tmp_path / "K.npz"
    process = in_a_process("kernel", "iris", *RELU, "--out", str(out), stdout=subprocess.PIPE)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert str(out) in said
    with np.load(out) as written:
        assert written["ntk"].dtype == np.float64


def test_control_c_ends_with_a_sentence():
    """A real interruption, sent while a long kernel is being computed."""
    code = """
import os, signal, time, widthwise.cli.kernel as command
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell switches off for what it runs behind
from widthwise.cli import main
command.kernel = lambda *_, **__: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60))
raise SystemExit(main(["kernel", "iris"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 130
    assert "Interrupted." in done.stderr
    assert "Traceback" not in done.stderr
    assert signal.getsignal(signal.SIGINT) is not None
