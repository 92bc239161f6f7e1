"""Layers: dense, convolution, normalisation, pooling, attention. Channels stand after the batch, as in PyTorch."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.numerics import reject

from .elementwise import dropout
from .registry import aten, enter


@aten()
def linear(x, weight, bias=None):
    """x W^T + b, contracted with W as it is."""
    y = jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return y if bias is None else y + bias


@aten("addmm", "baddbmm", "addmv")
def added_product(bias, x, y, beta=1, alpha=1):
    product = jnp.matmul(x, y)
    return (bias if beta == 1 else beta * bias) + (product if alpha == 1 else alpha * product)


@aten()
def einsum(equation, operands, path=None):
    return jnp.einsum(equation, *operands)


def _channels(vector, x):
    """A number for each channel, in a shape that fits x."""
    return vector.reshape((1, -1) + (1,) * (x.ndim - 2))


def _scaled(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@aten()
def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    """Cross-correlation with a kernel of shape (out, in / groups, ...), or its transpose, (in, out / groups, ...)."""
    if not transposed:
        y = _correlate(x, weight, [(p, p) for p in padding], dilation, groups, window_strides=stride)
    else:
        window, inputs = weight.shape[2:], weight.shape[0]
        kernel = jnp.swapaxes(weight.reshape(groups, inputs // groups, -1, *window), 1, 2)
        kernel = jnp.flip(kernel.reshape(-1, inputs // groups, *window), tuple(range(2, x.ndim)))
        reach = [d * (k - 1) - p for d, k, p in zip(dilation, window, padding, strict=True)]
        pads = [(r, r + extra) for r, extra in zip(reach, output_padding, strict=True)]
        y = _correlate(x, kernel, pads, dilation, groups, window_strides=[1] * len(window), lhs_dilation=stride)
    return y if bias is None else y + _channels(bias, x)


def _correlate(x, kernel, pads, dilation, groups, **options):
    space = "DHW"[5 - x.ndim :]
    names = (f"NC{space}", f"OI{space}", f"NC{space}")
    options |= {"rhs_dilation": dilation, "feature_group_count": groups, "dimension_numbers": names}
    return jax.lax.conv_general_dilated(x, kernel, padding=pads, **options)


@aten("_native_batch_norm_legit_no_training")
def batch_norm(x, weight, bias, mean, variance, momentum, eps):
    """With the statistics that training has gathered."""
    if mean is None:
        _mixes("batch norm without running statistics (track_running_stats=False)")
    scale = jax.lax.rsqrt(variance + eps)
    weight, bias = (None if one is None else _channels(one, x) for one in (weight, bias))
    return _scaled((x - _channels(mean, x)) * _channels(scale, x), weight, bias), None, None


def _mixes(layer):
    reject(
        f"the module holds a {layer}, which mixes the examples of a batch even in eval mode",
        "A model is a function of one example",
        "Normalise within each example (layer or group norm) or with running statistics",
    )


@aten("_native_batch_norm_legit", "_native_batch_norm_legit_functional", "native_batch_norm")
def batch_statistics(*_, **__):
    _mixes("batch norm that uses the statistics of the batch")


def _standardise(x, axes, eps):
    centred = x - jnp.mean(x, axes, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axes, keepdims=True) + eps)
    return centred * scale


@aten()
def layer_norm(x, shape, weight=None, bias=None, eps=1e-5, cudnn=True):
    return _scaled(_standardise(x, tuple(range(x.ndim - len(shape), x.ndim)), eps), weight, bias)


@aten()
def rms_norm(x, shape, weight=None, eps=None):
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = jnp.finfo(x.dtype).eps if eps is None else eps
    return _scaled(x * jax.lax.rsqrt(jnp.mean(x**2, axes, keepdims=True) + eps), weight, None)


@aten()
def group_norm(x, groups, weight=None, bias=None, eps=1e-5, cudnn=True):
    y = _standardise(x.reshape(x.shape[0], groups, -1), (2,), eps).reshape(x.shape)
    return _scaled(y, *(None if one is None else _channels(one, x) for one in (weight, bias)))


@aten()
def instance_norm(x, weight, bias, mean, variance, own, momentum, eps, cudnn):
    """Each channel of each example by itself, unless statistics were gathered."""
    if not own:
        return batch_norm(x, weight, bias, mean, variance, momentum, eps)[0]
    return group_norm(x, x.shape[1], weight, bias, eps)


def _each(value, count):
    """One number for each axis of space; a single one stands for all."""
    return (
        (list(value) * count if len(value) == 1 else list(value))
        if isinstance(value, list | tuple)
        else [value] * count
    )


def _windows(x, axis, size, stride, pad, dilation, ceil, fill):
    """Stack the entries of the windows along an axis: shape (size, ...). Also the number of windows."""
    length, reach = x.shape[axis], dilation * (size - 1)
    rest = length + 2 * pad - reach - 1
    count = (-(-rest // stride) if ceil else rest // stride) + 1
    count -= ceil and (count - 1) * stride >= length + pad  # a window must begin within the input
    beyond = max((count - 1) * stride + reach + 1 - length - pad, 0)
    widths = [(pad, beyond, 0) if one == axis else (0, 0, 0) for one in range(x.ndim)]
    padded = jax.lax.pad(x, jnp.asarray(fill, x.dtype), widths)
    span = (count - 1) * stride + 1
    return jnp.stack([jax.lax.slice_in_dim(padded, j, j + span, stride, axis) for j in range(0, reach + 1, dilation)])


def _first_largest(stack):
    """The largest along the first axis; of equal ones the first gets the gradient, as in PyTorch."""
    chosen = jnp.argmax(stack, axis=0, keepdims=True) == np.arange(len(stack)).reshape((-1,) + (1,) * (stack.ndim - 1))
    return jnp.sum(jnp.where(chosen, stack, jnp.zeros((), stack.dtype)), axis=0)


def max_pool(count):
    """Maximum over windows in ``count`` axes of space, one after the other, the last axis first."""

    def pool(x, size, stride=(), padding=0, dilation=1, ceil=False):
        lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
        settings = [_each(one, count) for one in (size, stride or size, padding, dilation)]
        for axis in reversed(range(count)):
            width, step, pad, reach = (one[axis] for one in settings)
            x = _first_largest(_windows(x, x.ndim - count + axis, width, step, pad, reach, ceil, lowest))
        return x, None

    return pool


def average_pool(count):
    """Mean over windows, divided by their size, with the padding or without it, or by a given number."""

    def pool(x, size, stride=(), padding=0, ceil=False, padded=True, divisor=None):
        settings = [_each(one, count) for one in (size, stride or size, padding)]
        for axis in reversed(range(count)):
            place, (width, step, pad) = x.ndim - count + axis, (one[axis] for one in settings)
            length = x.shape[place]
            x = jnp.sum(_windows(x, place, width, step, pad, 1, ceil, 0), axis=0)
            first = np.arange(x.shape[place]) * step - pad
            last = np.minimum(first + width, length + (pad if padded else 0))
            sizes = last - (first if padded else np.maximum(first, 0))
            if divisor is None:
                x = x / sizes.astype(x.dtype).reshape([-1 if one == place else 1 for one in range(x.ndim)])
        return x if divisor is None else x / divisor

    return pool


def _adaptive(length, count):
    """First and last position of each of ``count`` windows that cover an axis."""
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


@aten(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"
)
def adaptive_average_pool(x, sizes):
    for axis, size in enumerate(sizes, start=x.ndim - len(sizes)):
        weights = np.zeros((size, x.shape[axis]))
        for row, (first, last) in zip(weights, _adaptive(x.shape[axis], size), strict=True):
            row[first:last] = 1 / (last - first)
        x = _weighted(x, axis, weights)
    return x


def _weighted(x, axis, weights):
    """Sums along an axis with a row of weights for each place of the result."""
    return jnp.moveaxis(jnp.tensordot(x, jnp.asarray(weights, x.dtype), ((axis,), (1,))), -1, axis)


def _places(x, size, scales, corners=None):
    """For each axis of space where the entries of the enlarged array lie in x: at their left ends or, in the middle."""
    count = x.ndim - 2
    sizes = size or [int(n * scale) for n, scale in zip(x.shape[2:], scales, strict=True)]
    for axis, (new, scale) in enumerate(zip(sizes, scales or [None] * count, strict=True), start=2):
        old, places = x.shape[axis], np.arange(new)
        if corners:
            yield axis, places * ((old - 1) / max(new - 1, 1))
        else:
            step = old / new if scale is None else 1 / scale
            yield axis, places * step if corners is None else np.maximum((places + 0.5) * step - 0.5, 0)


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def nearest(x, size=None, scales=None):
    for axis, places in _places(x, size, scales):
        x = jnp.take(x, np.minimum(places.astype(int), x.shape[axis] - 1), axis=axis)
    return x


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def interpolate(x, size=None, corners=False, scales=None):
    """Linear interpolation along each axis of space."""
    for axis, places in _places(x, size, scales, bool(corners)):
        distance = np.abs(np.minimum(places, x.shape[axis] - 1)[:, None] - np.arange(x.shape[axis]))
        x = _weighted(x, axis, np.maximum(1 - distance, 0))
    return x


@aten("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(x, sizes):
    for axis, size in reversed([*enumerate(_each(sizes, 1), start=x.ndim - len(sizes))]):
        windows = [jax.lax.slice_in_dim(x, *bounds, axis=axis) for bounds in _adaptive(x.shape[axis], size)]
        x = jnp.stack([_first_largest(jnp.moveaxis(one, axis, 0)) for one in windows], axis)
    return x, None


@aten("scaled_dot_product_attention")
def attention(q, k, v, mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(scale q k^T + mask) v, where the scale is 1/sqrt(d) unless given; 0 where everything is masked."""
    dropout(q, dropout_p, train=True)
    if enable_gqa:
        k, v = (jnp.repeat(one, q.shape[-3] // one.shape[-3], axis=-3) for one in (k, v))
    scores = jnp.matmul(q, jnp.swapaxes(k, -1, -2)) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is None:
        return jnp.matmul(jax.nn.softmax(scores), v)
    scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    return jnp.matmul(masked_softmax(scores, -1), v)


@aten("_safe_softmax")
def masked_softmax(scores, dim):
    """Softmax that is 0 where every score is -inf."""
    nothing = jnp.all(scores == -jnp.inf, dim, keepdims=True)
    return jnp.where(nothing, 0.0, jax.nn.softmax(jnp.where(nothing, 0.0, scores), dim))


enter(dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot"), jnp.matmul))
enter({f"max_pool{n}d_with_indices": max_pool(n) for n in (2, 3)})
enter({f"avg_pool{n}d": average_pool(n) for n in (1, 2, 3)})
