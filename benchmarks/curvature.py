"""Cost of curvature in gradients: Hessian products, warm-started eigenvalues; and what watching costs a training."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from kernels import machine

from widthwise import KernelRecorder, StabilityMonitor
from widthwise.measure import top_pair
from widthwise.measure.objective import Objective, hessian_product
from widthwise.operators import adapt, parameters

HERE = Path(__file__).parent
_REPEATS = 5
_FRESH = 0.03  # of a random vector in each start, as in the monitor
_WIDTH, _INPUTS = 700, 64  # 64-700-700-700-10 has 1.03 million parameters


def network(dtype: str, width: int = _WIDTH):
    """A tanh network, its data and loss, trained a little so that its curvature has a top."""
    model = eqx.nn.MLP(_INPUTS, 10, width, 3, activation=jnp.tanh, dtype=dtype, key=jax.random.key(0))
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(512, _INPUTS)).astype(dtype), rng.normal(size=(512, 10)).astype(dtype)
    return model, Objective(jnp.asarray(X), jnp.asarray(Y), "half-mean")


def best(call) -> float:
    """The shortest of several times, after one call that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begun)
    return min(times)


def products(dtype: str) -> dict:
    """One product with the Hessian, alone and as one of eight from one linearisation, in gradients."""
    model, loss = network(dtype)
    leaves, rebuild = parameters(adapt(model))
    gradient = jax.jit(lambda w: jax.grad(lambda w: loss(rebuild(w)))(w))
    alone = jax.jit(lambda w, v: hessian_product(loss, rebuild, w)[2](v))

    @jax.jit
    def eight(w, v):
        product = hessian_product(loss, rebuild, w)[2]
        return jax.lax.fori_loop(0, 8, lambda _, v: product(v), v)

    unit = best(lambda: gradient(leaves))
    one, many = best(lambda: alone(leaves, leaves)), best(lambda: eight(leaves, leaves))
    found = {"name": f"Hessian product, {dtype}", "parameters": sum(leaf.size for leaf in leaves), "gradient_s": unit}
    return found | {"product_over_gradient": one / unit, "product_of_eight_over_gradient": many / unit / 8}


def eigenvalue(dtype: str, steps: int = 9, between: int = 10) -> dict:
    """The top eigenvalue, warm-started from that of ten steps of training before, against one from 30 products more."""
    model, loss = network(dtype)
    leaves, rebuild = parameters(adapt(model))
    gradient = jax.jit(lambda w: jax.grad(lambda w: loss(rebuild(w)))(w))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    start = tuple(jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True))
    look = jax.jit(lambda w, v, k: top_pair(hessian_product(loss, rebuild, w)[2], v, k), static_argnums=2)
    _, _, vector = look(leaves, start, 40)
    rate, errors = 0.1, []
    for _ in range(3):
        for _ in range(between):
            leaves = tuple(w - rate * g for w, g in zip(leaves, gradient(leaves), strict=True))
        scale = _FRESH * (sum(float(jnp.vdot(v, v)) for v in vector) / sum(float(jnp.vdot(v, v)) for v in start)) ** 0.5
        mixed = tuple(v + scale * s for v, s in zip(vector, start, strict=True))
        value, _, vector = look(leaves, mixed, steps)
        exact = float(look(leaves, vector, 30)[0])
        errors.append(abs(float(value) / exact - 1.0))
    cost = best(lambda: look(leaves, mixed, steps)) / best(lambda: gradient(leaves))
    found = {"name": f"top eigenvalue, warm, {dtype}", "products": steps, "gradient_equivalents": cost}
    return found | {"relative_errors": errors, "eigenvalue": exact}


def watched(name: str, make: Callable, seconds: float = 90.0) -> dict:
    """The share of the wall time that an instrument takes by itself, and the training's time with and without it."""
    model, loss = network("float32", 256)
    X, Y = np.asarray(loss.X), np.asarray(loss.Y)

    @eqx.filter_jit
    def step(model):
        gradient = eqx.filter_grad(lambda model: 0.5 * jnp.mean(jnp.sum((jax.vmap(model)(X) - Y) ** 2, axis=1)))(model)
        return eqx.apply_updates(model, jax.tree.map(lambda g: -0.05 * g, gradient))

    def train(steps: int, watch: Callable | None) -> float:
        trained, begun = model, time.perf_counter()
        for t in range(steps):
            trained = step(trained)
            if watch is not None:
                watch(t, trained)
        jax.block_until_ready(trained)
        return time.perf_counter() - begun

    train(3, None)
    steps = max(200, round(0.3 * seconds / (train(100, None) / 100)))
    watch = make(model, X, Y)
    plain, longer = train(steps, None), train(steps, watch)
    found = {"name": f"{name}, default budget", "steps": steps, "records": len(watch.records["step"])}
    return found | {"own_share": watch.share, "more_time": longer / plain - 1.0}


ROWS = {
    "products float64": lambda: products("float64"),
    "products float32": lambda: products("float32"),
    "eigenvalue float64": lambda: eigenvalue("float64"),
    "eigenvalue float32": lambda: eigenvalue("float32"),
    "monitor": lambda: watched("StabilityMonitor", lambda model, X, Y: StabilityMonitor(model, (X, Y), rate=0.05)),
    "recorder": lambda: watched("KernelRecorder", KernelRecorder),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "curvature.json")
    options = parser.parse_args()
    rows = []
    with jax.enable_x64(True):
        for name, measure in ROWS.items():
            if options.only in name:
                rows.append(measure())
                sys.stdout.write(f"{json.dumps(rows[-1])}\n")
                sys.stdout.flush()
    options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
