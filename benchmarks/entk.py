"""Empirical kernels of finite networks: time against three peers, memory against its limit."""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import entk_models
import jax
import jax.numpy as jnp
import numpy as np
from kernels import best, machine

from widthwise.operators import adapt, entk, entk_plan

HERE = Path(__file__).parent
_REPEATS = 5


@dataclass(frozen=True)
class Work:
    """The kernel of n inputs, of all outputs or traced, in float32, and the peers that are asked."""

    name: str
    model: str
    n: int
    outputs: str
    peers: tuple[str, ...] = ()
    torch: bool = False
    hooks: bool = False
    memory: str | None = None
    repeats: int = _REPEATS


ROWS = (
    Work(
        "MLP, 100 inputs, all outputs",
        "mlp",
        100,
        "all",
        ("STRUCTURED_DERIVATIVES", "NTK_VECTOR_PRODUCTS"),
        hooks=True,
    ),
    Work("MLP, 1000 inputs, all outputs", "mlp", 1000, "all", ("STRUCTURED_DERIVATIVES",), repeats=2),
    Work(
        "CNN, 16 inputs, all outputs",
        "cnn",
        16,
        "all",
        ("JACOBIAN_CONTRACTION", "STRUCTURED_DERIVATIVES"),
        hooks=True,
    ),
    Work("transformer, 32 inputs, traced (peer: torch.func)", "transformer", 32, "trace", torch=True),
    Work("ResNet-18, 256 inputs, all outputs, 8 GB", "resnet", 256, "all", memory="8GB", repeats=1),
)


def measure(work: Work, peer: str | None, torch: str | None, nngeometry: str | None) -> dict:
    apply, params, shape = entk_models.MODELS[work.model]()
    X = entk_models.inputs(shape, work.n)
    model = adapt((apply, entk_models.parameters(params)), X[:2])
    words = {"outputs": work.outputs, "memory": work.memory}
    plan = entk_plan(model, X, **words)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    first, ours, found = best(lambda: entk(model, X, **words), work.repeats)
    row = {**asdict(work), "algorithm": plan.chosen.algorithm, "tile": plan.chosen.side}
    row |= {"planned_operations": plan.chosen.operations, "planned_bytes": plan.chosen.memory}
    row |= {"ours_first_s": first, "ours_s": ours, "product_s": product(work)}
    row["peak_bytes_more"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    for algorithm in work.peers if peer else ():
        theirs = ask([str(peer), "entk_peer.py"], {"algorithm": algorithm} | asdict(work))
        row[f"{algorithm.lower()}_s"] = theirs["seconds"]
        row[f"{algorithm.lower()}_over_ours"] = theirs["seconds"] / ours
        row["deviation"] = deviation(found, np.array(theirs["block"]))
    if work.torch and torch:
        theirs = ask([torch, "entk_torch.py"], asdict(work))
        row |= {"torch_func_s": theirs["seconds"], "torch_func_over_ours": theirs["seconds"] / ours}
        row["torch_func_peak_bytes_more"] = theirs["peak"]
    if work.hooks and nngeometry:
        theirs = ask([nngeometry, "entk_nngeometry.py"], asdict(work) | {"repeats": 1})
        row |= {"nngeometry_s": theirs["seconds"], "nngeometry_over_ours": theirs["seconds"] / ours}
        row["deviation_from_nngeometry"] = deviation(found, np.array(theirs["block"]))
    times = [
        seconds
        for name, seconds in row.items()
        if name.endswith(("_derivatives_s", "_contraction_s", "_func_s", "geometry_s"))
    ]
    return row | ({"peer_s": min(times), "peer_over_ours": min(times) / ours} if times else {})


def product(work: Work) -> float:
    """One Gram product of the size of the kernel, with 512 columns: what two layers of the MLP need at the least."""
    rows = work.n * (entk_models.OUTPUTS if work.outputs == "all" else 1)
    matrix, multiply = jnp.ones((rows, 512), "float32"), jax.jit(lambda a: a @ a.T)
    return best(lambda: multiply(matrix).block_until_ready(), _REPEATS)[1]


def deviation(found: np.ndarray, block: np.ndarray) -> float:
    """The largest difference of a block of both, relative to its largest entry."""
    return float(np.max(np.abs(found[:2, ..., :2, :] - block)) / np.max(np.abs(block)))


def ask(command: list[str], work: dict) -> dict:
    """The same work in the environment of a peer."""
    words = [command[0], str(HERE / command[1])]
    done = subprocess.run(words, input=json.dumps(work), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="the interpreter of an environment with neural-tangents")
    parser.add_argument("--torch", help="the interpreter of an environment with PyTorch")
    parser.add_argument("--nngeometry", help="the interpreter of an environment with nngeometry and JAX")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "entk.json")
    options = parser.parse_args()
    rows = []
    for work in ROWS:
        if options.only in work.name:
            rows.append(measure(work, options.peer, options.torch, options.nngeometry))
            sys.stdout.write(f"{work.name}: {json.dumps(rows[-1])}\n")
            sys.stdout.flush()
    options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
