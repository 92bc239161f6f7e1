"""Kernels of infinitely wide convolutional networks: time and error against neural-tangents."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from kernels import best, machine

from widthwise.networks import Apply, Chain, Conv, Dense, Flatten, GlobalPool, kernel

HERE = Path(__file__).parent
_REPEATS, _BLOCK = 3, 2


@dataclass(frozen=True)
class Work:
    """NNGP and NTK of 3x3 convolutions with ReLU on n Gaussian images, with themselves."""

    name: str
    head: str
    dtype: str
    n: int
    depth: int = 5
    side: int = 32
    channels: int = 3
    weight_variance: float = 2.0

    def inputs(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(self.n, self.side, self.side, self.channels))

    def network(self) -> Chain:
        body = (Conv((3, 3), self.weight_variance), Apply("relu")) * self.depth
        return Chain((*body, {"pool": GlobalPool, "flatten": Flatten}[self.head](), Dense(size=1)))


ROWS = (
    Work("5 layers, global pooling, float32", "pool", "float32", 4),
    Work("5 layers, global pooling, float64", "pool", "float64", 4),
    Work("5 layers, flattened, float32", "flatten", "float32", 100),
    Work("5 layers, flattened, float64", "flatten", "float64", 100),
)


def measure(work: Work, peer: str | None) -> dict:
    X, network = work.inputs(), work.network()
    first, ours, found = best(lambda: kernel(network, X, dtype=work.dtype), _REPEATS)
    exact = kernel(network, X[:_BLOCK], method="pairs")
    row = {
        **asdict(work),
        "ours_s": ours,
        "ours_first_s": first,
        "ours_method": found.method,
        "ours_stated_error": found.error,
        "ours_error": deviation(found.nngp, found.ntk, exact),
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


def deviation(nngp: np.ndarray, ntk: np.ndarray, exact) -> float:
    """The largest relative error of a block of both kernels."""
    parts = ((nngp, exact.nngp), (ntk, exact.ntk))
    return max(float(np.max(np.abs(got[:_BLOCK, :_BLOCK] - wanted) / np.max(wanted))) for got, wanted in parts)


def ask(peer: str, work: Work, X: np.ndarray) -> dict:
    """The same work in the environment of the peer."""
    path = HERE / "inputs.npy"
    try:
        np.save(path, X)
        told = json.dumps(asdict(work) | {"inputs": str(path), "repeats": _REPEATS, "block": _BLOCK})
        script = str(HERE / "convolutions_peer.py")
        done = subprocess.run([peer, script], input=told, capture_output=True, text=True, check=True)
    finally:
        path.unlink(missing_ok=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="the interpreter of an environment with neural-tangents")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "convolutions.json")
    options = parser.parse_args()
    rows = []
    for work in ROWS:
        rows.append(measure(work, options.peer))
        shown = {key: value for key, value in rows[-1].items() if key.startswith(("ours", "peer"))}
        sys.stdout.write(f"{work.name}: {json.dumps(shown)}\n")
        sys.stdout.flush()
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
