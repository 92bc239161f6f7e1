r"""Self-attention with infinitely many heads.

Legend: tokens a, b of x and c, d of y; G logits, $\zeta$ attention weights, $\sigma_{QK}^2 = C_QC_K$, $\sigma_{OV}^2 =
C_OC_V$ (Hron et al. 2020).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from widthwise.activations import ACTIVATIONS, Activation, activation, root
from widthwise.numerics import nearest, reject

from .apply import dual_of
from .dense import check_count, check_variance
from .layer import AbstractLayer, Role, Shape
from .mixing import combined, from_covariance, product
from .pair import AllPositionsNeeded, Pair, add, constant
from .pool import demand_positions

SCALINGS = ("linear", "root")


def _weights(given) -> str | Activation:
    known = ("softmax", *ACTIVATIONS)
    if isinstance(given, str) and given not in known:
        came = f"weights={given!r}{nearest(given, known)}"
        reject(came, "Weights are 'softmax', or an activation of every entry", "Choose one of them, or pass a function")
    return given if given == "softmax" else activation(given)


class Attention(AbstractLayer):
    r"""Global self-attention $f(x)_a = \sum_b\zeta(G)_{ab}V_b$ of every head, and fresh output weights.

    ``scaling="linear"``: $G = QK^\top/d$ with tied Q and K. The weights become deterministic, $Z(x) =
    \zeta(\sigma_{QK}K(x, x))$, with $\zeta$ the softmax of every row or a function of every entry, and
    $K' = \sigma_{OV}^2Z(x)KZ(y)^\top + C_b$, $\Theta' = \sigma_{OV}^2Z(x)\Theta Z(y)^\top + 2(K'-C_b) + C_b$.

    ``scaling="root"``: $G = QK^\top/\sqrt d$ with independent Q and K; the logits are Gaussian with $E[G_{ab}(x)
    G_{cd}(y)] = \sigma_{QK}^2K_{ac}K_{bd}$, and $K'_{ac} = \sigma_{OV}^2\sum_{bd}E[\zeta_{ab}\zeta_{cd}]K_{bd} + C_b$.
    For a function of every entry (``weights="identity"``, ``"relu"``, any activation) the expectations are its
    duals; the softmax has no closed form there.

    The positions of an image are its tokens, in one list. With an entrywise function and ``"root"``, time and memory
    grow with the fourth power of their number. Raises ``ValueError`` for inputs without positions, unknown scalings
    and variances that make no sense.

    >>> Attention("relu", "root").weights
    Activation(relu)
    """

    weights: str | Activation = eqx.field(converter=_weights, default="softmax")
    scaling: str = eqx.field(static=True, default="linear")
    query_variance: float = 1.0
    key_variance: float = 1.0
    value_variance: float = 1.0
    out_variance: float = 1.0
    bias_variance: float = 0.0
    size: int | None = eqx.field(static=True, default=None)
    heads: int | None = eqx.field(static=True, default=None)
    role: ClassVar[Role] = "fresh"

    def __post_init__(self):
        for name in ("query_variance", "key_variance", "value_variance", "out_variance", "bias_variance"):
            check_variance(name, getattr(self, name))
        for name in ("size", "heads"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.scaling not in SCALINGS:
            came = f"scaling={self.scaling!r}{nearest(str(self.scaling), SCALINGS)}"
            reject(came, "Known are linear (1/d) and root (1/sqrt(d))", "Choose one of them")
        if self.weights == "softmax" and self.scaling == "root":
            reject(
                "attention with softmax and scaling='root'",
                "The expectation of a product of two softmaxes of Gaussian logits has no closed form",
                "Use SampledAttention(), which draws the logits, or scaling='linear'",
            )

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        return sampled_heads(self, key, shape, width, self._attend)

    def propagate(self, pair: Pair) -> Pair:
        demand_positions(self, pair.positions)
        if not pair.crossed:
            raise AllPositionsNeeded
        tokens = with_positions(pair, (math.prod(pair.positions),))
        after = self._deterministic(tokens) if self.scaling == "linear" else self._entrywise(tokens)
        return with_positions(after, pair.positions)

    def _attend(self, logits: Float[Array, "..."]) -> Float[Array, "..."]:
        if isinstance(self.weights, Activation):
            return self.weights(logits)
        return jax.nn.softmax(logits, axis=-1)

    def _deterministic(self, pair: Pair) -> Pair:
        """Attention weights that do not depend on the draw."""
        mixing = math.sqrt(self.query_variance * self.key_variance)
        left, right = (self._attend(mixing * part.xy) for part in pair.own)
        moved = combined(pair, lambda v: jnp.tensordot(left, v, 1), lambda v: jnp.tensordot(right, v, 1))
        return finished(self, moved)

    def _entrywise(self, pair: Pair) -> Pair:
        """Attention weights that are a function of each Gaussian logit."""
        assert isinstance(self.weights, Activation)
        variance = self.query_variance * self.key_variance
        (x, _), (y, _) = (_attended(self.weights, variance, part) for part in pair.own)
        xy, ntk = _attended(self.weights, variance, pair)
        return finished(self, from_covariance(pair, x, y, xy, ntk))


def _attended(function: Activation, variance: float, pair: Pair) -> tuple[Array, Array]:
    """Covariance and tangent kernel (a, c) after attention by a function of the logits, without the values' own."""
    pairs_of_tokens = _logits(pair, variance)
    dual = dual_of(function, pairs_of_tokens)
    second = root(dual.xx)[:, :, None, None] * root(dual.yy)[None, None] * 0.5 * (dual.cogap - dual.gap)  # (a, b, c, d)
    covariance = jnp.einsum("abcd,bd->ac", second, pair.xy)
    slope = variance * dual.slope
    moved = jnp.einsum("abcd,bd->ac", second, pair.ntk)
    moved += jnp.einsum("abcd,bd,bd->ac", slope, pair.xy, pair.xy) * (2.0 * pair.xy + pair.ntk)
    moved += jnp.einsum("abcd,bd,bd->ac", slope, pair.xy, pair.ntk) * pair.xy
    return covariance, moved


def _logits(pair: Pair, variance: float) -> Pair:
    """The pair of the logits (a, b) of x and (c, d) of y."""
    first = (pair.gap[:, None, :, None], pair.cogap[:, None, :, None])
    second = (pair.gap[None, :, None, :], pair.cogap[None, :, None, :])
    gap, cogap = product(first, second)
    xx, yy = (variance * part[:, None] * part[None, :] for part in (pair.xx, pair.yy))
    return Pair(xx, yy, gap, cogap, jnp.zeros_like(gap), pair.error)


def with_positions(pair: Pair, positions: tuple[int, ...]) -> Pair:
    """The same pair, its positions arranged in another shape."""
    own = pair.within
    within = None if own is None else (with_positions(own[0], positions), with_positions(own[1], positions))
    gap, cogap, ntk = (part.reshape(2 * positions) for part in (pair.gap, pair.cogap, pair.ntk))
    xx, yy = pair.xx.reshape(positions), pair.yy.reshape(positions)
    return replace(pair, xx=xx, yy=yy, gap=gap, cogap=cogap, ntk=ntk, within=within)


def finished(layer, moved: Pair) -> Pair:
    """Values, output weights and biases after the attention, and what they add to the tangent kernel."""
    moved = moved.scaled(layer.out_variance * layer.value_variance)
    after = add(moved, constant(layer.bias_variance, moved))
    return replace(after, ntk=after.ntk + 2.0 * moved.xy + layer.bias_variance, size=layer.size, gaussian=True)


class Heads(eqx.Module):
    """Finite attention: query, key, value (heads, in, d), out (heads d, size) and bias (size,) or none."""

    query: Float[Array, "h n d"]
    key: Float[Array, "h n d"] | None
    value: Float[Array, "h n d"]
    out: Float[Array, "hd size"]
    bias: Float[Array, " size"] | None
    scales: tuple[float, ...] = eqx.field(static=True)
    attend: Callable = eqx.field(static=True)
    linear: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*p n"]) -> Float[Array, "*p size"]:
        tokens = x.reshape(-1, x.shape[-1])
        query, key, value = (
            jnp.einsum("sn,hnd->hsd", tokens, part) / math.sqrt(tokens.shape[1])
            for part in (self.query, self.query if self.key is None else self.key, self.value)
        )
        size = query.shape[-1]
        logits = self.scales[0] * jnp.einsum("hsd,htd->hst", query, key) / (size if self.linear else math.sqrt(size))
        heads = jnp.einsum("hst,htd->shd", self.attend(logits), value).reshape(len(tokens), -1)
        z = self.scales[1] * (heads @ self.out) / math.sqrt(heads.shape[1])
        z = z if self.bias is None else z + self.scales[2] * self.bias[None, :]
        return z.reshape(*x.shape[:-1], -1)


def sampled_heads(layer, key: Array, shape: Shape, width: int | None, attend: Callable) -> tuple[Heads, Shape]:
    """Finite attention with as many heads, and as large ones, as the width."""
    size, heads, linear = layer.size or width, layer.heads or width, layer.scaling == "linear"
    each = width or size
    if size is None or heads is None or each is None:
        reject(f"{layer!r} and no width", "A finite network needs every size", "Give width=64 to sample")
    keys = jr.split(key, 5)
    query, tied, value = (jr.normal(one, (heads, shape[-1], each)) for one in keys[:3])
    out, bias = jr.normal(keys[3], (heads * each, size)), jr.normal(keys[4], (size,))
    scales = (
        math.sqrt(layer.query_variance * layer.key_variance),
        math.sqrt(layer.out_variance * layer.value_variance),
        math.sqrt(layer.bias_variance),
    )
    drawn = (query, None if linear else tied, value, out, bias if layer.bias_variance > 0 else None)
    return Heads(*drawn, scales, attend, linear), (*shape[:-1], size)
