"""One product, or two kernels, of many inputs to disk: the work as JSON comes in, its time and memory go out."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from widthwise.networks import MLP, kernel

_STRIP = 1000


def product(X: np.ndarray, path: Path) -> None:
    """The simplest way: strip after strip into a memory map."""
    out = np.lib.format.open_memmap(path / "product.npy", mode="w+", dtype=X.dtype, shape=(len(X), len(X)))
    for top in range(0, len(X), _STRIP):
        out[top : top + _STRIP] = X[top : top + _STRIP] @ X.T
    out.flush()


def kernels(work: dict, X: np.ndarray, path: Path) -> None:
    kernel(MLP(depth=work["depth"], activation="relu").network(), X, dtype=work["dtype"], out=path / "kernels")


def main() -> None:
    work = json.load(sys.stdin)
    X = np.random.default_rng(0).normal(size=(work["n"], work["d"])).astype(work["dtype"])
    path = Path(work["folder"])
    start = time.perf_counter()
    if work["what"] == "product":
        product(X, path)
    else:
        kernels(work, X, path)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"seconds": seconds, "peak_memory_bytes": memory}, sys.stdout)


if __name__ == "__main__":
    main()
