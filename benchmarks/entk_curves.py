"""How time and memory of the empirical kernel's algorithms grow with inputs, outputs and width of a perceptron."""

import argparse
import json
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
from kernels import best, machine

from widthwise.operators import adapt, entk, entk_plan

HERE = Path(__file__).parent
DEPTH, IN_SIZE, REPEATS = 3, 64, 2
USUAL = {"inputs": 32, "outputs": 8, "width": 256}
SIZES = {
    "inputs": (8, 16, 32, 64, 128),
    "outputs": (2, 4, 8, 16, 32),
    "width": (64, 128, 256, 512, 1024),
}
ALGORITHMS = ("structured", "jacobian", "products")


def perceptron(width: int, outputs: int):
    """A function f(params, x) with its parameters."""
    sizes, rng = (IN_SIZE, *[width] * DEPTH, outputs), np.random.default_rng(0)
    params = [(rng.normal(size=pair) / pair[0] ** 0.5).astype("float32") for pair in pairwise(sizes)]

    def apply(params, x):
        for weights in params[:-1]:
            x = jax.nn.relu(x @ weights)
        return x @ params[-1]

    return apply, params


def measure(axis: str, algorithm: str) -> list[dict]:
    """Seconds, and the peak of memory above that after a small kernel, for growing sizes in this process."""
    X = np.ones((2, IN_SIZE), "float32")
    entk(adapt(perceptron(4, 2), X), X, algorithm=algorithm)  # so that the compiler is in memory
    rows, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in SIZES[axis]:
        at = USUAL | {axis: size}
        X = np.random.default_rng(1).normal(size=(at["inputs"], IN_SIZE)).astype("float32")
        model = adapt(perceptron(at["width"], at["outputs"]), X[:2])
        plan = entk_plan(model, X, algorithm=algorithm, memory="16GB").chosen
        _, seconds, _ = best(lambda m=model, X=X: entk(m, X, algorithm=algorithm, memory="16GB"), REPEATS)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        rows.append({"axis": axis, "size": size, "algorithm": algorithm, "seconds": seconds, "peak_bytes": peak})
        rows[-1] |= {"operations": plan.operations, "planned_bytes": plan.memory}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "curves" / "entk.json")
    options = parser.parse_args()
    if options.child:
        json.dump(measure(*options.child), sys.stdout)
        return
    rows = []
    for axis in SIZES:
        for algorithm in ALGORITHMS:
            words = [sys.executable, __file__, "--child", axis, algorithm]
            rows += json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            sys.stdout.write(f"{axis}, {algorithm}: {[round(row['seconds'], 4) for row in rows[-5:]]}\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine(), "usual": USUAL, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
