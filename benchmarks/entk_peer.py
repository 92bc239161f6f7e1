"""The same empirical kernels by neural-tangents, in its own environment: work as JSON comes in, times go out."""

import json
import sys
import time

import entk_models
import jax
import neural_tangents as nt
import numpy as np

work = json.load(sys.stdin)
apply, params, shape = entk_models.MODELS[work["model"]]()
params, X = entk_models.parameters(params), entk_models.inputs(shape, work["n"])
kernel = jax.jit(
    nt.empirical_ntk_fn(
        lambda params, X: jax.vmap(lambda x: apply(params, x))(X),
        trace_axes=() if work["outputs"] == "all" else (-1,),
        vmap_axes=0,
        implementation=getattr(nt.NtkImplementation, work["algorithm"]),
    )
)
times = []
for _ in range(work["repeats"] + 1):
    start = time.perf_counter()
    found = jax.block_until_ready(kernel(X, None, params))
    times.append(time.perf_counter() - start)
block = np.asarray(found)[:2, :2]
block = np.moveaxis(block, 1, 2) if work["outputs"] == "all" else block
json.dump({"first": times[0], "seconds": min(times[1:]), "block": block.tolist()}, sys.stdout)
