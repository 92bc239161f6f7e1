"""Small PyTorch modules that between them use most of what modules are made of."""

import copy

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from operators.adapters.case import Case, collection, inputs, tokens

TORCH = {}
enter = collection(TORCH)


class Applied(nn.Module):
    """A function of this module's layers and x."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x, **call):
        return self.function(self, x, **call)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def made(make, X):
    """The module that a function makes, always the same one, with inputs and its own outputs in float64."""
    torch.manual_seed(0)
    module = make().eval()
    with torch.no_grad():
        own = copy.deepcopy(module).double()(torch.tensor(np.asarray(X)))
    return Case(module, X, lambda: jnp.asarray(own.numpy()))


def gated(self, x):
    h = F.glu(self.a(x)) + torch.sigmoid(self.b(x)) * F.silu(self.c(x))
    return self.norm(h) * self.scale + F.normalize(h, dim=-1)


def pooled(self, x):
    y = [
        F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        F.max_pool2d(x, 2, 2, dilation=2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        F.avg_pool2d(x, (2, 3), count_include_pad=False, padding=1),
        F.avg_pool2d(x, 2, divisor_override=3),
        F.adaptive_avg_pool2d(x, (2, 3)),
        F.adaptive_max_pool2d(x, (3, 2)),
        F.max_pool1d(x[..., 0], 2),
        F.avg_pool1d(x[..., 0], 2, padding=1),
        F.adaptive_avg_pool1d(x[..., 0], 2),
        F.lp_pool2d(x.abs(), 2, 2),
        F.interpolate(x, scale_factor=2, mode="nearest"),
        F.interpolate(x, size=(3, 9), mode="bilinear", align_corners=False),
        F.pixel_shuffle(x[:, :4], 2),
    ]
    return sum(torch.sin(one).flatten(1).sum(1, keepdim=True) * (k + 1) for k, one in enumerate(y)) * self.w


def convolved(self, x):
    y = self.depthwise(self.grouped(x)) + self.dilated(x)
    y = self.transposed(y)
    line = self.same(self.line(y.flatten(2)))
    return self.volume(y[:, None]).flatten(1) + line.mean((1, 2))[:, None]


def attentive(self, x):
    q, k, v = self.qkv(x).view(x.shape[0], 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y = y + F.scaled_dot_product_attention(q, k, v, attn_mask=mask & mask.flip(0), scale=0.3)
    y = y + F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
    scores = (q @ k.transpose(-2, -1) / 2).masked_fill(~mask, float("-inf"))
    return self.out((y + scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], 5, 8))


def attending(self, x):
    y, weights = self.attention(x, x, x, key_padding_mask=torch.arange(5)[None].expand(len(x), -1) > 3)
    return torch.cat([y.flatten(1), weights.flatten(1)], 1)


def recurrent(self, x):
    y, last = self.gru(x)
    z, (h, c) = self.lstm(y.transpose(0, 1))
    w, _ = self.rnn(z.transpose(0, 1))
    return torch.cat([last[-1], h[0], c[-1], w[:, -1], self.cell(x[:, 0])[0]], 1)


def language(self, tokens):
    x = self.table(tokens) + self.places(torch.arange(tokens.shape[1])) + self.wave * torch.arange(4)
    return F.log_softmax(self.head(torch.tanh(x)), -1)


def arithmetic(self, x):
    w, s = self.w, self.s
    y = x * w + s
    shift = y - y.mean(-1, keepdim=True)
    parts = [
        shift / (y.var(-1, keepdim=True) + 1e-3).sqrt(),
        (y.std(-1, keepdim=True, correction=0) + y.var(-1, False, True)).expand_as(y),
        torch.rsqrt(y**2 + 1),
        torch.pow(2.0, y),
        (y.abs() + 0.1) ** w.abs(),
        3 - y,
        2 / (2 + y.abs()),
        y.clamp(-0.5, 0.7).clamp_min(-0.3),
        torch.maximum(y, -y) - torch.minimum(y, x) + torch.max(y, x),
        torch.where(y > 0.1, y.exp(), 3 * y),
        y.masked_fill(x < 0, 0.25),
        y.cumsum(-1),
        (y + 3).cumprod(-1),
        y.amax(-1, keepdim=True) + y.min(-1, keepdim=True).values + y.sum() * 0,
        y.logsumexp(-1, keepdim=True).expand_as(y),
        y.softmax(-1) * y.log_softmax(1),
        y.norm(dim=-1, keepdim=True) + y.norm(p=3, dim=-1, keepdim=True) + y.norm(p=1, dim=-1, keepdim=True) + y * 0,
        torch.lerp(y, x, 0.3) + torch.addcmul(y, x, y, value=0.5) + torch.addcdiv(y, x, y.abs() + 1),
        torch.remainder(y, 0.7) + torch.fmod(y, 0.6) + torch.atan2(y, x),
        torch.floor(y) + y.round() + torch.sign(y) + torch.div(y, 0.3, rounding_mode="floor") + torch.frac(y),
        torch.log1p(y.abs()) + torch.expm1(y) + torch.erf(y) + torch.sinc(y) + torch.logaddexp(y, x),
        y * torch.arange(6) + (torch.arange(6) > 2).to(y.dtype) + torch.full((6,), 2),
        y * torch.linspace(0, 1, 6, dtype=y.dtype) + torch.eye(6, dtype=y.dtype)[2] + torch.zeros_like(y),
    ]
    parts = torch.broadcast_tensors(*parts)
    return torch.cat(parts[:-6], -1) + torch.stack(parts[-6:], 1).mean(1).repeat(1, len(parts) - 6)


def indexed(self, x):
    x = x * self.w
    y = x.clone()
    y[:, 0] = x[:, 1] ** 2
    y[:, 2:4] += 1
    y[:, ::2] *= 2
    parts = [
        y[:, [2, 0]].flatten(1),
        x[:, 1:, -2],
        x[..., None, 0].squeeze(),
        x[:, :, torch.tensor([0, 2])].flip(1).flatten(1),
        torch.gather(x, 2, x.argsort(-1)[..., :2]).flatten(1),
        x.topk(2, -1).values.flatten(1) + x.sort(1, descending=True).values[:, :, :2].flatten(1),
        F.pad(x, (1, 1), mode="reflect")[:, :, 0] + F.pad(x, (1, 0, 0, 0), value=2.0)[:, :, 0],
        F.pad(x, (1, 2), mode="circular")[:, :, -1] + F.pad(x, (1, 2), mode="replicate")[:, :, -1],
        torch.stack(x.unbind(1), 0).mean((0, 2))[:, None],
        x.unfold(1, 2, 1).sum((1, 2)),
        x.roll(1, 2).tril().diagonal(dim1=1, dim2=2),
        *[one.sum(1) for one in x.chunk(2, 1)],
        *[one.sum(1) for one in x.split([1, 3], 1)],
        x.index_select(1, torch.tensor([3, 1])).prod(1),
        x.max(1).values + x.amin(1) + x.argmax(1),
        (x > 0).any(1) + x.isnan().all(1) * x.sum(1),
        F.one_hot(x.argmax(1), 4).to(x.dtype).sum(2) * x.triu(1).sum(1),
        torch.outer(x[:, 0, 0], self.w[:, 0]) + torch.einsum("nij,kj->nk", x, self.w),
        x.movedim(1, 2).unflatten(2, (2, 2)).swapaxes(1, 3).flatten(1)[:, :3],
    ]
    return torch.cat(parts, 1)


def activations(self, x):
    x = x * self.w
    each = [
        F.relu,
        F.gelu,
        lambda x: F.gelu(x, approximate="tanh"),
        F.silu,
        F.elu,
        F.selu,
        F.celu,
        F.softplus,
        torch.tanh,
        F.mish,
    ]
    each += [F.hardtanh, F.hardswish, F.leaky_relu, F.relu6, F.logsigmoid, F.softsign, F.tanhshrink]
    each += [F.softshrink, F.hardshrink, lambda x: F.softplus(x, 3.0, 1.0), lambda x: F.threshold(x, 0.2, 0.1), self.p]
    each += [lambda x: F.rrelu(x, training=False), torch.sin, lambda x: F.dropout(x, 0.5, training=self.training)]
    return torch.stack([one(x) for one in each], 1)


def stopped(self, x):
    y = self.a(x)
    return y + (torch.round(y) - y).detach() + y.detach() ** 2


@enter
def torch_mlp():
    return made(lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2)), inputs(3))


@enter
def torch_gated():
    layers = lambda: {"a": nn.Linear(3, 8), "b": nn.Linear(3, 4), "c": nn.Linear(3, 4, False), "norm": nn.RMSNorm(4)}  # noqa: E731
    return made(lambda: Applied(gated, scale=parameter(1), **layers()), inputs(3))


@enter
def torch_cnn():
    def make():
        norms = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        nn.init.uniform_(norms[0].running_var, 0.5, 2.0)
        stem = nn.Conv2d(3, 4, 3, stride=2, padding=1), norms[0], nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(*stem, *norms[1:], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    return made(make, inputs(3, 9, 9))


@enter
def torch_convolutions():
    def make():
        return Applied(
            convolved,
            grouped=nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
            depthwise=nn.Conv2d(6, 6, (1, 3), padding=(0, 1), groups=6, padding_mode="circular"),
            dilated=nn.Conv2d(4, 6, 2, stride=2, dilation=2, padding=1, bias=False),
            transposed=nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
            volume=nn.Conv3d(1, 1, 2, stride=2),
            line=nn.Conv1d(4, 2, 3, padding="same"),
            same=nn.ConvTranspose1d(2, 2, 3, dilation=2),
        )

    return made(make, inputs(4, 7, 7))


@enter
def torch_pooling():
    return made(lambda: Applied(pooled, w=parameter(3)), inputs(4, 7, 7))


def encoder(**options):
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2, **options)


@enter
def torch_encoder():
    return made(encoder, inputs(4, 8))


@enter
def torch_encoder_with_mask():
    mask = lambda x: nn.Transformer.generate_square_subsequent_mask(4, dtype=x.dtype)  # noqa: E731
    return made(lambda: Applied(lambda self, x: self.encoder(x, mask(x))[:, -1], encoder=encoder()), inputs(4, 8))


@enter
def torch_dot_products():
    layers = lambda: {"qkv": nn.Linear(3, 24), "out": nn.Linear(8, 2), "bias": parameter(5, 5)}  # noqa: E731
    return made(lambda: Applied(attentive, **layers()), inputs(5, 3))


@enter
def torch_attention():
    return made(lambda: Applied(attending, attention=nn.MultiheadAttention(4, 2, batch_first=True)), inputs(5, 4))


@enter
def torch_recurrent():
    def make():
        return Applied(
            recurrent,
            gru=nn.GRU(3, 4, 2, batch_first=True, bidirectional=True),
            lstm=nn.LSTM(8, 4, proj_size=2, bias=False),
            rnn=nn.RNN(2, 3, batch_first=True),
            cell=nn.LSTMCell(3, 2),
        )

    return made(make, inputs(5, 3))


@enter
def torch_tied_language_model():
    def make():
        layers = {"table": nn.Embedding(7, 4, padding_idx=2), "places": nn.Embedding(5, 4), "head": nn.Linear(4, 7)}
        module = Applied(language, **layers)
        module.head.weight = module.table.weight
        module.register_buffer("wave", torch.randn(4))
        return module

    return made(make, tokens(5, 7))


@enter
def torch_arithmetic():
    return made(lambda: Applied(arithmetic, w=parameter(6), s=nn.Parameter(torch.tensor(0.3))), inputs(6))


@enter
def torch_indexing():
    return made(lambda: Applied(indexed, w=parameter(4, 3)), inputs(4, 3))


@enter
def torch_activations():
    return made(lambda: Applied(activations, w=parameter(6), p=nn.PReLU(6)), inputs(6))


@enter
def torch_stopped_gradients():
    return made(lambda: Applied(stopped, a=nn.Linear(3, 4)), inputs(3))


@enter
def torch_weight_norm():
    return made(
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Softmax(-1)), inputs(3)
    )


@enter
def torch_einsum():
    f = lambda self, x: torch.einsum("nti,hij,nsj->nhts", x, self.w, x)  # noqa: E731
    return made(lambda: Applied(f, w=parameter(2, 3, 3)), inputs(4, 3))
