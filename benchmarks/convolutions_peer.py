"""The same convolutional kernels by neural-tangents, in its own environment: work as JSON comes in, times go out."""

import json
import sys
import time

import jax
import numpy as np

work = json.load(sys.stdin)
jax.config.update("jax_enable_x64", work["dtype"] == "float64")
from neural_tangents import stax  # noqa: E402  after the precision is set

LONG = 10.0  # seconds, after which one time is enough

layers = []
for _ in range(work["depth"]):
    layers += [stax.Conv(1, (3, 3), padding="SAME", W_std=work["weight_variance"] ** 0.5, b_std=None), stax.Relu()]
head = {"pool": stax.GlobalAvgPool, "flatten": stax.Flatten}[work["head"]]()
kernel_fn = stax.serial(*layers, head, stax.Dense(1, W_std=1.0, b_std=None))[2]
apply = jax.jit(lambda x: kernel_fn(x, None, ("nngp", "ntk")))
x = jax.numpy.asarray(np.load(work["inputs"]), work["dtype"])
times = []
for _ in range(work["repeats"] + 1):
    start = time.perf_counter()
    found = jax.block_until_ready(apply(x))
    times.append(time.perf_counter() - start)
    if len(times) > 1 and times[-1] > LONG:
        break
block = {name: np.asarray(getattr(found, name))[: work["block"], : work["block"]].tolist() for name in ("nngp", "ntk")}
json.dump({"first": times[0], "seconds": min(times[1:]), **block}, sys.stdout)
