"""Flax models, NNX and linen, which act on batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from operators.adapters.case import Case, collection, double, inputs, lenient, tokens

NNX, LINEN = {}, {}
nnx_model, linen_model = collection(NNX), collection(LINEN)
F64 = {"param_dtype": jnp.float64}


class Block(nnx.Module):
    """Layers, and a function that says how they are used."""

    def __init__(self, forward, **layers):
        self.forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, X):
        with lenient():
            return self.forward(self, X)


def batch(model, X):
    model.eval()
    return Case(model, X, lambda: nnx.jit(lambda model: model(X))(model))


def keys():
    return nnx.Rngs(0)


@nnx_model
def nnx_dense():
    return batch(
        nnx.Sequential(nnx.Linear(3, 5, rngs=keys(), **F64), nnx.tanh, nnx.Linear(5, 2, rngs=keys(), **F64)), inputs(3)
    )


@nnx_model
def nnx_convolutions():
    """Stride, dilation, groups, and pooling."""
    model = Block(
        lambda m, X: m.out(jnp.mean(nnx.max_pool(m.grouped(nnx.relu(m.dilated(m.strided(X)))), (2, 2)), axis=(1, 2))),
        strided=nnx.Conv(2, 4, (3, 3), strides=2, rngs=keys(), **F64),
        dilated=nnx.Conv(4, 4, (2, 2), kernel_dilation=2, rngs=keys(), **F64),
        grouped=nnx.Conv(4, 4, (3, 3), feature_group_count=2, rngs=keys(), **F64),
        out=nnx.Linear(4, 2, rngs=keys(), **F64),
    )
    return batch(model, inputs(8, 8, 2))


@nnx_model
def nnx_depthwise():
    model = Block(
        lambda m, X: jnp.mean(m.point(nnx.gelu(m.depth(X))), axis=1),
        depth=nnx.Conv(3, 6, (3,), feature_group_count=3, rngs=keys(), **F64),
        point=nnx.Conv(6, 2, (1,), rngs=keys(), **F64),
    )
    return batch(model, inputs(5, 3))


def exact(query, key, value, mask=None, **_):
    """The default takes its softmax in float32, whatever comes in."""
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / query.shape[-1] ** 0.5
    scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("...hqk,...khd->...qhd", nnx.softmax(scores), value)


def attention():
    return nnx.MultiHeadAttention(2, 4, decode=False, attention_fn=exact, rngs=keys(), **F64)


def attention_model(mask):
    return Block(
        lambda m, X: m.out(jnp.mean(X + m.attention(X, mask=mask), axis=1)),
        attention=attention(),
        out=nnx.Linear(4, 2, rngs=keys(), **F64),
    )


@nnx_model
def nnx_attention():
    return batch(attention_model(None), inputs(4, 4))


@nnx_model
def nnx_masked_attention():
    def forward(m, X):
        mask = jnp.tril(jnp.ones((1, 1, 4, 4), bool))
        return jnp.mean(X + m.attention(X, mask=mask), axis=1)

    return batch(Block(forward, attention=attention()), inputs(4, 4))


@nnx_model
def nnx_norms():
    """Batch norm with trained statistics, dropout that is off, layer, group and root-mean-square norm."""
    model = Block(
        lambda m, X: m.out(m.rms(nnx.tanh(m.group(m.layer(m.dropout(m.batch(m.linear(X)))))))),
        linear=nnx.Linear(3, 8, rngs=keys(), **F64),
        batch=nnx.BatchNorm(8, rngs=keys(), **F64),
        dropout=nnx.Dropout(0.3, rngs=keys()),
        layer=nnx.LayerNorm(8, use_fast_variance=False, rngs=keys(), **F64),
        group=nnx.GroupNorm(8, num_groups=2, use_fast_variance=False, rngs=keys(), **F64),
        rms=nnx.RMSNorm(8, rngs=keys(), **F64),
        out=nnx.Linear(8, 2, rngs=keys(), **F64),
    )
    model.batch.mean = nnx.BatchStat(jnp.linspace(-0.4, 0.3, 8))
    model.batch.var = nnx.BatchStat(jnp.linspace(0.5, 2.0, 8))
    return batch(model, inputs(3))


@nnx_model
def nnx_tied_embedding():
    model = Block(
        lambda m, X: m.table.attend(nnx.tanh(m.linear(m.table(X)))),
        table=nnx.Embed(6, 4, rngs=keys(), **F64),
        linear=nnx.Linear(4, 4, rngs=keys(), **F64),
    )
    return batch(model, tokens(3, 6))


@nnx_model
def nnx_shared_layer():
    layer = nnx.Linear(4, 4, rngs=keys(), **F64)
    return batch(Block(lambda m, X: m.second(nnx.tanh(m.first(X))), first=layer, second=layer), inputs(4))


@nnx_model
def nnx_gru():
    model = Block(
        lambda m, X: m.out(m.cells(X)[:, -1]),
        cells=nnx.RNN(nnx.GRUCell(3, 4, rngs=keys(), **F64), rngs=keys()),
        out=nnx.Linear(4, 2, rngs=keys(), **F64),
    )
    return batch(model, inputs(5, 3))


class Lenient(nn.Module):
    inner: nn.Module

    def __call__(self, X, **call):
        with lenient():
            return self.inner(X, **call)


def linen(module, X, call=None):
    module, call = Lenient(module), call or {}
    variables = jax.jit(lambda: module.init(jax.random.key(0), X, **call))()
    return Case(
        (module, variables), X, lambda: jax.jit(lambda: module.apply(double(variables), X, **call))(), {"call": call}
    )


@linen_model
def linen_dense():
    return linen(nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(2)]), inputs(3))


class Images(nn.Module):
    @nn.compact
    def __call__(self, X, train):
        X = nn.Conv(4, (3, 3), strides=(2, 2))(X)
        X = nn.relu(nn.BatchNorm(use_running_average=not train)(X))
        X = nn.Dropout(0.5, deterministic=not train)(X)
        X = nn.avg_pool(nn.Conv(4, (3, 3), feature_group_count=4)(X), (2, 2))
        return nn.Dense(2)(X.reshape((X.shape[0], -1)))


@linen_model
def linen_convolutions_with_batch_norm():
    return linen(Images(), inputs(6, 6, 2), {"train": False})


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, X):
        X = nn.LayerNorm()(nn.Embed(6, 4)(X))
        X = X + nn.MultiHeadDotProductAttention(2)(X, X, mask=nn.make_causal_mask(X[..., 0]))
        return nn.Dense(2)(nn.gelu(X).mean(axis=1))


@linen_model
def linen_causal_encoder():
    return linen(Encoder(), tokens(4, 6))


class Checkpointed(nn.Module):
    @nn.compact
    def __call__(self, X):
        for _ in range(2):
            X = X + nn.tanh(nn.remat(nn.Dense)(3)(X))
        return X


@linen_model
def linen_remat():
    return linen(Checkpointed(), inputs(3))


class Stack(nn.Module):
    @nn.compact
    def __call__(self, X):
        layer = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return layer()(X, None)[0]


class Layer(nn.Module):
    @nn.compact
    def __call__(self, X, _):
        return X + nn.tanh(nn.Dense(3)(X)), None


@linen_model
def linen_scan():
    return linen(Stack(), inputs(3))
