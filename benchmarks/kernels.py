"""Kernels of infinitely wide networks: time and error against one matrix product and against neural-tangents."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np

from widthwise.networks import MLP, Chain, kernel

HERE = Path(__file__).parent
_REPEATS, _BLOCK = 5, 60


@dataclass(frozen=True)
class Work:
    """NNGP and NTK of a fully connected network on n Gaussian inputs of d features, with themselves."""

    name: str
    activation: str
    depth: int
    dtype: str
    n: int = 4000
    d: int = 784
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    sphere: bool = False

    def inputs(self) -> np.ndarray:
        X = np.random.default_rng(0).normal(size=(self.n, self.d))
        return X / np.linalg.norm(X, axis=1, keepdims=True) * self.d**0.5 if self.sphere else X

    def network(self) -> Chain:
        return MLP(
            depth=self.depth,
            activation=self.activation,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
        ).network()


@dataclass(frozen=True)
class OnDisk:
    """NNGP and NTK of a ReLU network on n Gaussian inputs of d features with themselves, to disk."""

    name: str
    depth: int = 5
    dtype: str = "float32"
    n: int = 60_000
    d: int = 100


BIASED = {"weight_variance": 1.5, "bias_variance": 0.1}
ROWS = (
    Work("ReLU, 3 layers, float32", "relu", 3, "float32"),
    Work("ReLU, 10 layers, float32", "relu", 10, "float32"),
    Work("ReLU, 20 layers, float32", "relu", 20, "float32"),
    Work("ReLU, 10 layers, float64", "relu", 10, "float64"),
    Work("tanh, 3 layers, float64, unequal norms", "tanh", 3, "float64", n=1000, **BIASED),
    Work("tanh, 3 layers, float64, on a sphere", "tanh", 3, "float64", n=1000, sphere=True, **BIASED),
    Work("GELU with biases, 3 layers, float64, unequal norms", "gelu", 3, "float64", **BIASED),
)


def best(run, repeats: int = _REPEATS) -> tuple[float, float, object]:
    """The first time, which includes compilation, the best of the others, and what was computed."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:]), result


def measure(work: Work, peer: str | None) -> dict:
    X = work.inputs()
    left = X.astype(work.dtype)
    right, out = left.copy(), np.empty((work.n, work.n), work.dtype)
    _, product, _ = best(lambda: np.matmul(left, right.T, out=out))
    network = work.network()
    first, ours, found = best(lambda: kernel(network, X, dtype=work.dtype, method="profile"))
    exact = kernel(network, X[:_BLOCK], method="pairs", tolerance=1e-13)
    row = {
        **asdict(work),
        "product_s": product,
        "ours_s": ours,
        "ours_first_s": first,
        "ours_method": found.method,
        "ours_stated_error": found.error,
        "ours_error": deviation(found.nngp, found.ntk, exact),
        "ours_over_product": ours / product,
    }
    if peer:
        theirs = ask(peer, work, X)
        row |= {
            "peer_s": theirs["seconds"],
            "peer_first_s": theirs["first"],
            "peer_error": deviation(np.array(theirs["nngp"]), np.array(theirs["ntk"]), exact),
            "peer_over_ours": theirs["seconds"] / ours,
        }
    return row


def deviation(nngp, ntk, exact) -> float:
    """The largest error of a block of both kernels, in units of the geometric mean of the diagonal entries."""
    worst = 0.0
    for got, wanted in ((nngp, exact.nngp), (ntk, exact.ntk)):
        own = np.sqrt(np.diag(wanted))
        worst = max(worst, float(np.max(np.abs(got[:_BLOCK, :_BLOCK] - wanted) / np.outer(own, own))))
    return worst


def ask(peer: str, work: Work, X: np.ndarray) -> dict:
    """The same work in the environment of the peer."""
    path = HERE / "inputs.npy"
    try:
        np.save(path, X)
        told = json.dumps(asdict(work) | {"inputs": str(path), "repeats": _REPEATS, "block": _BLOCK})
        done = subprocess.run(
            [peer, str(HERE / "kernels_peer.py")], input=told, capture_output=True, text=True, check=True
        )
    finally:
        path.unlink(missing_ok=True)
    return json.loads(done.stdout)


def measure_on_disk(work: OnDisk, folder: Path | None) -> dict:
    """Both kernels to disk against the product to disk, each in a process of its own; the files are removed."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        free, needed = shutil.disk_usage(place).free, 2 * work.n**2 * np.dtype(work.dtype).itemsize
        if free < needed:
            return {**asdict(work), "left_out": f"{needed / 1e9:.1f} GB do not fit into {free / 1e9:.1f} GB"}
        alone = _child(work, place, "product")
        Path(place, "product.npy").unlink()
        ours = _child(work, place, "kernels")
    return {
        **asdict(work),
        "product_s": alone["seconds"],
        "product_peak_memory_bytes": alone["peak_memory_bytes"],
        "ours_s": ours["seconds"],
        "ours_peak_memory_bytes": ours["peak_memory_bytes"],
        "ours_over_product": ours["seconds"] / alone["seconds"],
    }


def _child(work: OnDisk, place: str, what: str) -> dict:
    told = json.dumps(asdict(work) | {"what": what, "folder": place})
    script = str(HERE / "kernels_on_disk.py")
    done = subprocess.run([sys.executable, script], input=told, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def machine() -> dict:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="the interpreter of an environment with neural-tangents")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "kernels.json")
    parser.add_argument("--only", default="", help="only the rows whose names hold this")
    parser.add_argument("--disk", type=Path, help="the folder for the matrices on disk, which are removed afterwards")
    parser.add_argument("--disk-n", type=int, default=OnDisk.n, help="how many inputs these have")
    options = parser.parse_args()
    rows = []
    for work in (*ROWS, OnDisk("ReLU, 5 layers, float32, to disk", n=options.disk_n)):
        if options.only not in work.name:
            continue
        large = isinstance(work, OnDisk)
        rows.append(measure_on_disk(work, options.disk) if large else measure(work, options.peer))
        shown = {key: value for key, value in rows[-1].items() if key.startswith(("product", "ours", "peer", "left"))}
        sys.stdout.write(f"{work.name}: {json.dumps(shown)}\n")
        sys.stdout.flush()
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
