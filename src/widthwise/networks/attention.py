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
from jaxtyping import Array, Bool, Float

from widthwise.activations import ACTIVATIONS, Activation, activation, root
from widthwise.numerics import nearest, reject

from .apply import dual_of
from .dense import check_count, check_variance
from .layer import AbstractLayer, Role, Shape
from .mixing import combined, from_covariance, product
from .pair import AllPositionsNeeded, Pair, add, constant
from .pool import demand_positions

SCALINGS = ("linear", "root")
Present = tuple[Bool[Array, "..."] | None, ...]


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
    duals. The softmax has no closed form there: its expectations are means over ``draws`` draws of the logits, the
    same for all pairs, and `kernel` repeats them and states three standard errors as its error.

    The positions of an image are its tokens, in one list. With an entrywise function and ``"root"``, time and memory
    grow with the fourth power of their number. Raises ``ValueError`` for inputs without positions, unknown scalings
    and variances that make no sense.

    >>> Attention("relu", "root").weights
    Activation(relu)
    """

    weights: str | Activation = eqx.field(converter=_weights, default="softmax")
    scaling: str = eqx.field(static=True, default="linear")
    query_variance: float | Array = 1.0
    key_variance: float | Array = 1.0
    value_variance: float | Array = 1.0
    out_variance: float | Array = 1.0
    bias_variance: float | Array = 0.0
    size: int | None = eqx.field(static=True, default=None)
    heads: int | None = eqx.field(static=True, default=None)
    draws: int = eqx.field(static=True, default=512)
    seed: int | Array = 0
    role: ClassVar[Role] = "fresh"

    def __post_init__(self):
        for name in ("query_variance", "key_variance", "value_variance", "out_variance", "bias_variance"):
            check_variance(name, getattr(self, name))
        for name in ("size", "heads", "draws"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.scaling not in SCALINGS:
            came = f"scaling={self.scaling!r}{nearest(str(self.scaling), SCALINGS)}"
            reject(came, "Known are linear (1/d) and root (1/sqrt(d))", "Choose one of them")

    @property
    def drawn(self) -> bool:
        """Whether expectations are means over draws."""
        return self.weights == "softmax" and self.scaling == "root"

    def sample(self, key: Array, shape: Shape, width: int | None = None) -> tuple[Callable, Shape]:
        demand_positions(self, shape[:-1])
        return sampled_heads(self, key, shape, width, self._attend)

    def propagate(self, pair: Pair, present: Present = (None, None)) -> Pair:
        """Map a pair; ``present`` says at which positions of x and of y there is a token, everywhere unless given."""
        demand_positions(self, pair.positions)
        if not pair.crossed:
            raise AllPositionsNeeded
        present = tuple(None if part is None else part.reshape(-1) for part in present)
        tokens = with_positions(pair, (math.prod(pair.positions),))
        if self.scaling == "linear":
            after = self._deterministic(tokens, present)
        else:
            after = self._drawn(tokens, present) if self.drawn else self._entrywise(tokens)
        return with_positions(after, pair.positions)

    def _attend(self, logits: Float[Array, "..."], present: Bool[Array, "..."] | None = None) -> Float[Array, "..."]:
        return self.weights(logits) if isinstance(self.weights, Activation) else _softmax(logits, present)

    def _deterministic(self, pair: Pair, present: Present) -> Pair:
        """Attention weights that do not depend on the draw."""
        mixing = (self.query_variance * self.key_variance) ** 0.5
        left, right = (self._attend(mixing * part.xy, seen) for part, seen in zip(pair.own, present, strict=True))
        moved = combined(pair, lambda v: jnp.tensordot(left, v, 1), lambda v: jnp.tensordot(right, v, 1))
        return finished(self, moved)

    def _entrywise(self, pair: Pair) -> Pair:
        """Attention weights that are a function of each Gaussian logit."""
        assert isinstance(self.weights, Activation)
        variance = self.query_variance * self.key_variance
        (x, _), (y, _) = (_attended(self.weights, variance, part) for part in pair.own)
        xy, ntk = _attended(self.weights, variance, pair)
        return finished(self, from_covariance(pair, x, y, xy, ntk))

    def _drawn(self, pair: Pair, present: Present) -> Pair:
        """Softmax of Gaussian logits, by draws."""
        variance, key = self.query_variance * self.key_variance, jr.key(self.seed)
        own = zip(pair.own, present, strict=True)
        (x, _), (y, _) = (_softmaxed(key, self.draws, variance, part, (seen, seen)) for part, seen in own)
        xy, ntk = _softmaxed(key, self.draws, variance, pair, present)
        # Beside the standard error of the draws, rounding is nothing.
        return finished(self, replace(from_covariance(pair, x, y, xy, ntk), error=pair.error))


def _softmax(logits: Float[Array, "..."], present: Bool[Array, "..."] | None) -> Float[Array, "..."]:
    """The softmax of every row, over the tokens that are present."""
    if present is not None:
        seen = jnp.expand_dims(present, tuple(range(logits.ndim - 1)))
        logits = jnp.where(seen, logits, jnp.finfo(logits.dtype).min)
    return jax.nn.softmax(logits, axis=-1)


def _softmaxed(key: Array, draws: int, variance: float | Array, pair: Pair, present: Present) -> tuple[Array, Array]:
    r"""Mean covariance and tangent kernel (a, c) after softmax attention with Gaussian logits, over draws.

    The logits of x and y are the diagonal blocks of $\sigma_{QK}RZR$, with R the root of the covariance of all tokens
    of both and Z standard normal.
    """
    left, right = pair.own
    K, T, tokens = pair.xy, pair.ntk, len(pair.xx)
    together = jnp.block([[left.xy, K], [K.T, right.xy]])
    values, vectors = jnp.linalg.eigh(together)
    root_of = (vectors * root(jnp.maximum(values, 0.0))[None, :]) @ vectors.T

    def one(key: Array) -> tuple[Array, Array]:
        logits = variance**0.5 * root_of @ jr.normal(key, together.shape, K.dtype) @ root_of
        P = _softmax(logits[:tokens, :tokens], present[0])
        Q = P if pair.itself else _softmax(logits[tokens:, tokens:], present[1])
        covariance = P @ K @ Q.T
        through_logits = (2.0 * K + T) * _pulled(P, Q, K, K) + K * _pulled(P, Q, K, T)
        return covariance, P @ T @ Q.T + variance * through_logits

    def add(total: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(jnp.add, total, one(key)), None

    start = (jnp.zeros_like(K), jnp.zeros_like(K))
    total, _ = jax.lax.scan(add, start, jr.split(key, draws))
    return total[0] / draws, total[1] / draws


def _pulled(P: Array, Q: Array, K: Array, M: Array) -> Array:
    r"""The derivatives of two softmaxes contracted with K and M.

    $\sum_{bdef}\frac{\partial P_{ab}}{\partial G_{ae}}\frac{\partial Q_{cd}}{\partial G'_{cf}}K_{bd}M_{ef}$ for rows
    P and Q of attention weights with logits G and G'.
    """
    left, right = (P @ K) * (P @ M), (K @ Q.T) * (M @ Q.T)
    return P @ (K * M) @ Q.T - left @ Q.T - P @ right + (P @ K @ Q.T) * (P @ M @ Q.T)


def _attended(function: Activation, variance: float | Array, pair: Pair) -> tuple[Array, Array]:
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


def _logits(pair: Pair, variance: float | Array) -> Pair:
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

    def __call__(self, x: Float[Array, "*p n"], present: Bool[Array, "*p"] | None = None) -> Float[Array, "*p size"]:
        tokens, seen = x.reshape(-1, x.shape[-1]), None if present is None else present.reshape(-1)
        query, key, value = (
            jnp.einsum("sn,hnd->hsd", tokens, part) / math.sqrt(tokens.shape[1])
            for part in (self.query, self.query if self.key is None else self.key, self.value)
        )
        size = query.shape[-1]
        logits = self.scales[0] * jnp.einsum("hsd,htd->hst", query, key) / (size if self.linear else math.sqrt(size))
        heads = jnp.einsum("hst,htd->shd", self.attend(logits, seen), value).reshape(len(tokens), -1)
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
