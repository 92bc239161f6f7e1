"""Operations that move, choose and make numbers: shapes, indices, joining, padding, sums along axes."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.numerics import reject

from .elementwise import magnitude
from .registry import aten, enter, same

_PADS = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@aten("view", "_unsafe_view", "reshape")
def view(x, size):
    if isinstance(size, np.dtype):
        reject(f"a view of the bits of a tensor as {size}", "Only values are translated", "Use tensor.to(dtype)")
    return jnp.reshape(x, size)


@aten()
def expand(x, size, implicit=False):
    """Broadcast; -1 keeps an axis as it is."""
    kept = (1,) * (len(size) - x.ndim) + x.shape
    return jnp.broadcast_to(x, [old if new == -1 else new for old, new in zip(kept, size, strict=True)])


@aten()
def select(x, dim, index):
    return jax.lax.index_in_dim(x, index, dim, keepdims=False)


def _bounds(size, start, end):
    """As Python's slices."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


@aten("slice")
def slice_(x, dim=0, start=None, end=None, step=1):
    return jax.lax.slice_in_dim(x, *_bounds(x.shape[dim], start, end), step, dim)


def _at(x, dim, chosen):
    return x.at[(slice(None),) * (dim % x.ndim) + (chosen,)]


@aten()
def slice_scatter(x, source, dim=0, start=None, end=None, step=1):
    if _bounds(x.shape[dim], start, end) == (0, x.shape[dim]) and step == 1:
        return source
    return _at(x, dim, slice(start, end, step)).set(source)


@aten()
def copy(x, source, non_blocking=False):
    return jnp.broadcast_to(source, x.shape)


@aten("split", "split_with_sizes")
def split(x, size, dim=0):
    """Pieces of one size, the last one smaller, or of the given sizes."""
    bounds = np.cumsum(size)[:-1] if isinstance(size, list | tuple) else range(size, x.shape[dim], size)
    return tuple(jnp.split(x, [int(b) for b in bounds], dim))


@aten()
def unfold(x, dim, size, step):
    """Windows along an axis; their entries become the last axis."""
    if not x.ndim:
        return x.reshape(1)
    starts = np.arange(0, x.shape[dim] - size + 1, step)
    windows = jnp.take(x, starts[:, None] + np.arange(size), axis=dim)
    return jnp.moveaxis(windows, dim % x.ndim + 1, -1)


@aten()
def index(x, indices):
    return x[tuple(slice(None) if i is None else i for i in indices)]


@aten()
def index_put(x, indices, values, accumulate=False):
    at = x.at[tuple(slice(None) if i is None else i for i in indices)]
    return at.add(values) if accumulate else at.set(values)


@aten()
def gather(x, dim, index, sparse_grad=False):
    kept = tuple(slice(None) if d == dim % x.ndim else slice(n) for d, n in enumerate(index.shape))
    return jnp.take_along_axis(x[kept], index, dim)


@aten()
def embedding(weight, indices, padding_idx=-1, *_):
    """Rows of a table; the row of padding gets no gradient, an index beyond the table gives NaN."""
    rows = jnp.take(weight, indices, axis=0)
    if padding_idx < 0:
        return rows
    return jnp.where((indices == padding_idx)[..., None], jax.lax.stop_gradient(rows), rows)


@aten()
def pad(x, pad, mode="constant", value=None):
    """Pad the last axes; ``pad`` lists before and after of the last axis, then of the one before it."""
    pairs = [*zip(pad[::2], pad[1::2], strict=True)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    if mode == "constant":
        return jax.lax.pad(x, jnp.asarray(value or 0, x.dtype), [(*pair, 0) for pair in widths])
    return jnp.pad(x, widths, mode=_PADS[mode])


@aten()
def roll(x, shifts, dims=()):
    return jnp.roll(x, tuple(shifts), tuple(dims)) if dims else jnp.roll(x.ravel(), shifts[0]).reshape(x.shape)


def _axes(x, dim):
    """None and nothing mean every axis."""
    dims = [dim] if isinstance(dim, int) else dim
    return tuple(d % x.ndim for d in dims) if dims and x.ndim else None


def along(function):
    """A sum-like function of NumPy's as PyTorch calls it."""
    return lambda x, dim=None, keepdim=False: function(x, _axes(x, dim), keepdims=keepdim)


def _chosen(function):
    """The first largest or smallest entries along an axis, and their indices."""

    def find(x, dim, keepdim=False):
        indices = function(x, axis=dim, keepdims=True)
        values = jnp.take_along_axis(x, indices, dim)
        return tuple(one if keepdim else jnp.squeeze(one, dim) for one in (values, indices))

    return find


def argument(function):
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


@aten("var.correction")
def variance(x, dim=None, correction=None, keepdim=False):
    """Variance with the divisor n - correction, which is 1 unless given."""
    axes = _axes(x, dim)
    count = math.prod(x.shape if axes is None else [x.shape[d] for d in axes])
    centred = x - jnp.mean(x, axes, keepdims=True)
    return jnp.sum(centred**2, axes, keepdims=keepdim) / max(count - (1 if correction is None else correction), 0)


def root(x):
    """Square root with the derivative 0 at 0, which PyTorch gives norms and standard deviations."""
    return jnp.where(x == 0, 0.0, jnp.sqrt(jnp.where(x == 0, 1.0, x)))


@aten("linalg_vector_norm")
def vector_norm(x, ord=2, dim=None, keepdim=False):
    axes, size = _axes(x, dim), magnitude(x)
    if ord == 2:
        return root(jnp.sum(x**2, axes, keepdims=keepdim))
    if math.isinf(ord):
        return (jnp.max if ord > 0 else jnp.min)(size, axes, keepdims=keepdim)
    total = jnp.sum(size if ord == 1 else power_or_zero(size, ord), axes, keepdims=keepdim)
    return total if ord in (0, 1) else jnp.where(total == 0, 0.0, jnp.where(total == 0, 1.0, total) ** (1 / ord))


def power_or_zero(size, ord):
    return jnp.where(size == 0, 0.0, jnp.where(size == 0, 1.0, size) ** ord)


@aten()
def sort(x, dim=-1, descending=False, stable=None):
    order = jnp.argsort(x, axis=dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, dim), order


@aten()
def topk(x, k, dim=-1, largest=True, sorted=True):
    return tuple(jax.lax.slice_in_dim(one, 0, k, axis=dim) for one in sort(x, dim, largest))


same(jnp, "full full_like zeros zeros_like ones ones_like arange linspace eye")
same(jnp, "stack tril triu diagonal cumsum cumprod")
enter({"permute": jnp.transpose, "t": jnp.transpose, "transpose": jnp.swapaxes, "unsqueeze": jnp.expand_dims})
enter({"squeeze": lambda x, dims: jnp.squeeze(x, tuple(dims)), "flip": lambda x, dims: jnp.flip(x, tuple(dims))})
enter({"sym_size": lambda x, dim: x.shape[dim], "sym_numel": lambda x: x.size, "repeat": jnp.tile})
enter({"cat": lambda xs, dim=0: jnp.concatenate(xs, dim), "unbind": lambda x, dim=0: tuple(jnp.moveaxis(x, dim, 0))})
enter({"index_select": lambda x, dim, index: jnp.take(x, index, axis=dim)})
enter({"select_scatter": lambda x, source, dim, index: _at(x, dim, index).set(source)})
enter({"constant_pad_nd": lambda x, widths, value=0: pad(x, widths, value=value)})
enter({"empty": jnp.zeros, "scalar_tensor": jnp.asarray, "fill": jnp.full_like})
enter({name: along(getattr(jnp, name)) for name in ("sum", "mean", "prod", "any", "all")})
enter({"amax": along(jnp.max), "amin": along(jnp.min), "logsumexp": along(jax.nn.logsumexp)})
enter({"max.default": jnp.max, "max.dim": _chosen(jnp.argmax), "max.other": jnp.maximum})
enter({"min.default": jnp.min, "min.dim": _chosen(jnp.argmin), "min.other": jnp.minimum})
enter({"argmax": argument(jnp.argmax), "argmin": argument(jnp.argmin)})
enter({"std.correction": lambda *args, **options: root(variance(*args, **options))})
enter(
    {"_softmax": lambda x, dim, _: jax.nn.softmax(x, dim), "_log_softmax": lambda x, dim, _: jax.nn.log_softmax(x, dim)}
)
