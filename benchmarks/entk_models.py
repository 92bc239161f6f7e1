"""The models whose empirical kernels are timed: functions f(params, x) of one example, with random parameters."""

from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

OUTPUTS = 10
TOKENS, WIDTH, HEADS = 64, 128, 4


def draw(shapes, seed=0):
    """Standard normal numbers over the root of the fan-in, in float32."""
    rng = np.random.default_rng(seed)
    fan_in = {name: max(1, prod(shape[:-1])) for name, shape in shapes.items()}
    return {name: (rng.normal(size=shape) / fan_in[name] ** 0.5).astype("float32") for name, shape in shapes.items()}


def mlp():
    sizes = (784, 512, 512, 512, OUTPUTS)
    shapes = {f"w{at}": pair for at, pair in enumerate(pairwise(sizes))}
    shapes |= {f"b{at}": (size,) for at, size in enumerate(sizes[1:])}

    def apply(params, x):
        for at in range(len(sizes) - 1):
            x = x @ params[f"w{at}"] + params[f"b{at}"]
            x = jax.nn.relu(x) if at < len(sizes) - 2 else x
        return x

    return apply, draw(shapes), (784,)


def convolved(x, w, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None], w, (stride, stride), "SAME", dimension_numbers=numbers)[0]


def cnn():
    channels = (3, 64, 64, 64)
    shapes = {f"w{at}": (3, 3, *pair) for at, pair in enumerate(pairwise(channels))}
    shapes |= {f"b{at}": (64,) for at in range(3)} | {"out": (64, OUTPUTS)}

    def apply(params, x):
        for at in range(3):
            x = jax.nn.relu(convolved(x, params[f"w{at}"]) + params[f"b{at}"])
        return x.mean((0, 1)) @ params["out"]

    return apply, draw(shapes), (16, 16, 3)


def normed(x, scale, shift):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale + shift


def transformer(layers=2, hidden=512):
    shapes = {"out": (WIDTH, OUTPUTS), "shift": (OUTPUTS,)}
    for at in range(layers):
        shapes |= {f"{at}.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "mixed")}
        shapes |= {f"{at}.up": (WIDTH, hidden), f"{at}.down": (hidden, WIDTH), f"{at}.wide": (hidden,)}
        shapes |= {f"{at}.{name}": (WIDTH,) for name in ("bq", "bk", "bv", "bm", "narrow", "g1", "h1", "g2", "h2")}

    def heads(x):
        return x.reshape(TOKENS, HEADS, -1).transpose(1, 0, 2)

    def apply(params, x):
        for at in range(layers):
            p = {name.split(".")[1]: value for name, value in params.items() if name.startswith(f"{at}.")}
            q, k, v = (heads(x @ p[w] + p[b]) for w, b in (("query", "bq"), ("key", "bk"), ("value", "bv")))
            mixed = jax.nn.softmax(q @ k.transpose(0, 2, 1) / (WIDTH / HEADS) ** 0.5) @ v
            mixed = mixed.transpose(1, 0, 2).reshape(TOKENS, WIDTH) @ p["mixed"] + p["bm"]
            x = normed(x + mixed, 1 + p["g1"], p["h1"])
            inner = jax.nn.relu(x @ p["up"] + p["wide"]) @ p["down"] + p["narrow"]
            x = normed(x + inner, 1 + p["g2"], p["h2"])
        return x.mean(0) @ params["out"] + params["shift"]

    return apply, draw(shapes), (TOKENS, WIDTH)


def resnet(stages=(64, 128, 256, 512)):
    """A residual network with the parameters of ResNet-18 for images of 32 x 32, its norms in evaluation."""
    shapes = {"in": (3, 3, 3, 64), "in.g": (64,), "in.h": (64,), "out": (512, OUTPUTS), "shift": (OUTPUTS,)}
    before = 64
    for stage, size in enumerate(stages):
        for block in range(2):
            name = f"{stage}.{block}"
            shapes |= {f"{name}.a": (3, 3, before, size), f"{name}.b": (3, 3, size, size)}
            shapes |= {f"{name}.{one}": (size,) for one in ("ag", "ah", "bg", "bh")}
            if before != size:
                shapes[f"{name}.short"] = (1, 1, before, size)
            before = size

    def apply(params, x):
        x = jax.nn.relu(convolved(x, params["in"]) * (1 + params["in.g"]) + params["in.h"])
        for stage in range(len(stages)):
            for block in range(2):
                name, stride = f"{stage}.{block}", 2 if stage and not block else 1
                y = convolved(x, params[f"{name}.a"], stride) * (1 + params[f"{name}.ag"]) + params[f"{name}.ah"]
                y = convolved(jax.nn.relu(y), params[f"{name}.b"]) * (1 + params[f"{name}.bg"]) + params[f"{name}.bh"]
                short = convolved(x, params[f"{name}.short"], stride) if f"{name}.short" in params else x
                x = jax.nn.relu(y + short)
        return x.mean((0, 1)) @ params["out"] + params["shift"]

    return apply, draw(shapes), (32, 32, 3)


MODELS = {"mlp": mlp, "cnn": cnn, "transformer": transformer, "resnet": resnet}


def inputs(shape, n):
    return np.random.default_rng(1).normal(size=(n, *shape)).astype("float32")


def parameters(params):
    return {name: jnp.asarray(value) for name, value in params.items()}
