"""Plain functions f(params, x): layers and control flow that no library has to name."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import lax

from operators.adapters.case import Case, collection, inputs, tokens, weights

PLAIN = {}
plain = collection(PLAIN)


def one(f, params, X, **options):
    """A function of one example."""
    return Case((f, params), X, lambda: jax.jit(jax.vmap(lambda x: f(params, x)))(X), options)


def layers(width=4, depth=3, size=3):
    pairs = pairwise([size, *[width] * depth, 2])
    drawn = [weights(w=(a, b), b=(b,), seed=i) for i, (a, b) in enumerate(pairs)]
    return [{"w": layer["w"], "b": 0.1 * layer["b"]} for layer in drawn]


def mlp(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


@plain
def dense():
    return one(mlp, layers(), inputs(3))


@plain
def dense_on_batches():
    def f(params, X):
        hidden = jnp.einsum("nd,dk->nk", X, params["w"])
        return jnp.einsum("nk,ko->no", jax.nn.gelu(hidden), params["v"])

    params, X = weights(w=(3, 5), v=(5, 2)), inputs(3)
    return Case((f, params), X, lambda: jax.jit(f)(params, X))


@plain
def tied_weights():
    def f(params, x):
        return jnp.tanh(jnp.tanh(x @ params["w"]) @ params["w"].T) @ params["w"]

    return one(f, weights(w=(4, 4)), inputs(4))


@plain
def einsum_layers():
    def f(params, x):
        heads = jnp.einsum("td,dhk->htk", x, params["in"])
        mixed = jnp.einsum("htk,hsk,st->hk", heads, heads, params["mix"])
        return jnp.einsum("hk,hko->o", mixed, params["out"])

    params = weights(**{"in": (3, 2, 4), "mix": (5, 5), "out": (2, 4, 2)})
    return one(f, params, inputs(5, 3))


@plain
def gated_units():
    def f(params, x):
        return (jax.nn.silu(x @ params["gate"]) * (x @ params["up"])) @ params["down"]

    return one(f, weights(gate=(3, 6), up=(3, 6), down=(6, 2)), inputs(3))


@plain
def gru_under_scan():
    def f(params, x):
        def step(h, now):
            z = jax.nn.sigmoid(now @ params["wz"] + h @ params["uz"])
            r = jax.nn.sigmoid(now @ params["wr"] + h @ params["ur"])
            candidate = jnp.tanh(now @ params["wh"] + (r * h) @ params["uh"])
            return (1 - z) * h + z * candidate, None

        return lax.scan(step, params["start"], x)[0] @ params["out"]

    square, wide = (4, 4), (3, 4)
    params = weights(wz=wide, uz=square, wr=wide, ur=square, wh=wide, uh=square, start=(4,), out=(4, 2))
    return one(f, params, inputs(5, 3))


@plain
def stacked_layers_under_scan():
    def f(params, x):
        hidden, _ = lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), x, params["stack"])
        return hidden @ params["out"]

    return one(f, weights(stack=(3, 4, 4), out=(4, 2)), inputs(4))


@plain
def remat():
    block = jax.checkpoint(lambda layer, h: jnp.tanh(h @ layer["w"] + layer["b"]))

    def f(params, x):
        for layer in params:
            x = block(layer, x)
        return x

    return one(f, layers(), inputs(3))


@plain
def residual():
    def f(params, x):
        hidden = x @ params["in"]
        for name in ("first", "second"):
            hidden = hidden + jax.nn.relu(hidden @ params[name])
        return hidden @ params["out"]

    return one(f, weights(**{"in": (3, 5), "first": (5, 5), "second": (5, 5), "out": (5, 2)}), inputs(3))


@plain
def cond():
    def f(params, x):
        hidden = lax.cond(x[0] > 0, lambda h: jnp.tanh(h @ params["w"]), lambda h: h @ params["v"], x)
        return hidden @ params["out"]

    return one(f, weights(w=(3, 4), v=(3, 4), out=(4, 2)), inputs(3))


@plain
def switch():
    def f(params, x):
        branches = [lambda h, w=params[name]: jnp.sin(h @ w) for name in ("a", "b", "c")]
        return lax.switch(jnp.argmax(x), branches, x)

    return one(f, weights(a=(3, 2), b=(3, 2), c=(3, 2)), inputs(3), batched=False)


@plain
def fori_loop():
    def f(params, x):
        hidden = lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ params["w"] + i * params["b"]), x)
        return hidden @ params["out"]

    return one(f, weights(w=(4, 4), b=(4,), out=(4, 2)), inputs(4))


@plain
def unused_parameters():
    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    return one(f, weights(w=(3, 4), unused=(7, 2), v=(4, 2)), inputs(3))


@plain
def scalar_parameters():
    def f(params, x):
        return params["scale"] * jnp.sum(jnp.tanh(params["temperature"] * x)) + params["shift"]

    return one(f, {"scale": 1.5, "temperature": jnp.array(0.7), "shift": jnp.array(-0.2)}, inputs(3))


@plain
def dict_output():
    def f(params, x):
        hidden = jnp.tanh(x @ params["w"])
        return {"hidden": hidden, "logits": hidden @ params["v"]}

    params, X = weights(w=(3, 4), v=(4, 2)), inputs(3)
    return Case((f, params), X, lambda: jax.vmap(lambda x: f(params, x)["logits"])(X), {"output": "logits"})


@plain
def language_model_with_tied_embedding():
    def f(params, x):
        hidden = params["table"][x] + params["places"]
        hidden = hidden + jnp.tanh(jnp.cumsum(hidden, axis=0) @ params["w"])
        return hidden @ params["table"].T

    return one(f, weights(table=(6, 4), places=(5, 4), w=(4, 4)), tokens(5, 6))


def attention(params, x, mask=None):
    q, k, v = (jnp.einsum("td,dhk->htk", x, params[name]) for name in "qkv")
    scores = jnp.einsum("htk,hsk->hts", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    mixed = jnp.einsum("hts,hsk->thk", jax.nn.softmax(scores, axis=-1), v)
    return jnp.einsum("thk,hko->to", mixed, params["o"])


@plain
def masked_attention():
    def f(params, x):
        mask = jnp.tril(jnp.ones((1, 4, 4), bool)).repeat(2, axis=0)
        return jnp.mean(x + attention(params, x, mask), axis=0)

    return one(f, weights(q=(4, 2, 3), k=(4, 2, 3), v=(4, 2, 3), o=(2, 3, 4)), inputs(4, 4))


def convolution(w, x, **options):
    return lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


@plain
def convolutions_on_batches():
    """Stride, dilation and groups."""

    def f(params, X):
        X = jax.nn.relu(convolution(params["strided"], X, window_strides=(2, 1), padding="SAME"))
        X = jnp.tanh(convolution(params["dilated"], X, window_strides=(1, 1), padding="VALID", rhs_dilation=(1, 2)))
        X = convolution(params["grouped"], X, window_strides=(1, 1), padding="SAME", feature_group_count=2)
        return jnp.mean(X, axis=(1, 2))

    params, X = weights(strided=(3, 3, 2, 4), dilated=(2, 2, 4, 4), grouped=(3, 3, 2, 4)), inputs(6, 7, 2)
    return Case((f, params), X, lambda: jax.jit(f)(params, X))


@plain
def ensemble_under_vmap():
    def f(params, x):
        return jnp.mean(jax.vmap(lambda w, v: jnp.tanh(x @ w) @ v)(params["w"], params["v"]), axis=0)

    return one(f, weights(w=(3, 3, 4), v=(3, 4, 2)), inputs(3))
