r"""How the step of any optax optimiser answers a change of the gradient, read off its state by differentiation.

Legend: an optimiser maps a gradient g, its state and the parameters w to an update u and a new state. Where the state
holds one running gradient m, and its running squares are frozen, each parameter has

    m' = beta m + b (g + omega w),        u = -d (g + omega w) - e m - f w,

with b, d, e per parameter: d is the diagonal of $P^{-1}$ times the rate, times the share of the newest gradient in m.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from widthwise.numerics import UpdateRule, reject

Leaves = tuple[Array, ...]
# What the states of optax hold: running gradients, running squares of them, and what is kept of these.
_MOMENTA = {
    optax.TraceState: "trace",
    optax.EmaState: "ema",
    optax.ScaleByAdamState: "mu",
    optax.ScaleByAmsgradState: "mu",
}
_SQUARES = {
    optax.ScaleByAdamState: "nu",
    optax.ScaleByAmsgradState: "nu",
    optax.ScaleByRmsState: "nu",
    optax.ScaleByRssState: "sum_of_squares",
}
_HELD = {optax.ScaleByAmsgradState: "nu_max"}
_KNOWN = tuple({**_MOMENTA, **_SQUARES})
_OF_MEMORY = ("d", "e", "beta", "b", "pull")
_NOTHING = 1e-9  # a decay in one step that rounding in float32 may leave
_TRANSIENT = 0.1
_UNIFORM = 1e-3  # what rounding in float32 and corrections of the bias may leave between equal numbers


@dataclass(frozen=True, eq=False)
class Response:
    r"""The linear response of an optimiser at one moment, as an `UpdateRule` with a diagonal preconditioner.

    ``rule`` at rate 1 acts on $\operatorname{diag}(\text{gain})\,(H + \operatorname{diag}(\text{decay}))$, with
    ``gain`` $= \eta P^{-1}$ per parameter, of which ``share`` is the answer d to the newest gradient. ``rate`` is
    $\eta$ where all gains are equal. ``clipped``: the factor by which the gradient of this moment was clipped, 1 where
    it was not. ``frozen``: the gain comes from running squares.
    """

    rule: UpdateRule
    share: float
    gain: Leaves
    decay: Leaves
    rate: float | None
    clipped: float
    frozen: bool

    @property
    def threshold(self) -> float:
        r"""The largest stable eigenvalue of $\operatorname{diag}(\text{gain})H$: 2 without momentum."""
        return float(self.rule.largest_curvature(1.0))


def demand_optimiser(optimizer: Any) -> None:
    """Refuse what is no optax optimiser."""
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        reject(
            f"an optimiser of type {type(optimizer).__name__}",
            "An optimiser is an optax.GradientTransformation, with init and update",
            "Give for example optax.adam(1e-3), or none and rate=... for gradient descent",
        )


def unrecognised(state: Any) -> str | None:
    """What in the state of an optimiser is neither a running gradient nor a running square, or None."""
    for path, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_known):
        hyper = any(getattr(part, "name", "") in ("hyperparams", "hyperparams_states") for part in path)
        if not _is_known(node) and eqx.is_inexact_array(node) and not hyper:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return f"its state holds {name or 'an array'}, which is not known to be a running gradient or its square"
    return None


def answers(optimizer: Any, state: Any, gradient: Any, weights: Any) -> bool:
    """Whether the update changes with a small change of the gradient; by signs it does not."""

    def updates(gradient):
        return jax.tree.leaves(optimizer.update(gradient, state, weights)[0])

    with jax.numpy_dtype_promotion("standard"):
        moved = jax.jvp(updates, (gradient,), (gradient,))[1]
    return any(bool(jnp.any(one != 0)) for one in moved)


def is_preconditioned(state: Any) -> bool:
    """Whether the state holds running squares of gradients."""
    nodes = jax.tree.leaves(state, is_leaf=_is_known)
    return any(type(node) in _SQUARES for node in nodes)


def probe(optimizer: Any, state: Any, gradient: Any, weights: Any) -> dict[str, Any]:
    """The derivatives of the update with respect to gradient, running gradient and parameters; works under jit.

    All trees have the structure that the optimiser was made for; see `read_response` for what is made of them.
    """
    with jax.numpy_dtype_promotion("standard"):  # optax raises Adam's decay, a float, to a whole power
        return _probe(optimizer, state, gradient, weights)


def _probe(optimizer: Any, state: Any, gradient: Any, weights: Any) -> dict[str, Any]:
    zero = jax.tree.map(jnp.zeros_like, gradient)
    made, after = optimizer.update(gradient, state, weights)
    _, decayed = optimizer.update(zero, _replaced(state, _SQUARES, jnp.ones_like), weights)
    frozen = _frozen(state, after, decayed)
    memory = _held(state, _MOMENTA)

    def step(gradient, memory, weights):
        updates, later = optimizer.update(gradient, _filled(frozen, _MOMENTA, memory), weights)
        return tuple(jax.tree.leaves(updates)), _held(later, _MOMENTA)

    def along(which: int, like: Any) -> tuple[Leaves, Leaves]:
        tangents = [jax.tree.map(jnp.zeros_like, part) for part in (zero, memory, weights)]
        tangents[which] = like
        return jax.jvp(step, (zero, memory, weights), tuple(tangents))[1]

    ones = jax.tree.map(jnp.ones_like, zero)
    keys = jax.tree.unflatten(jax.tree.structure(zero), [*jr.split(jr.key(0), len(jax.tree.leaves(zero)))])
    signs = jax.tree.map(lambda leaf, key: jr.rademacher(key, leaf.shape, leaf.dtype), zero, keys)
    (d, b), (e, beta) = along(0, ones), along(1, jax.tree.map(jnp.ones_like, memory))
    (f, pull), (mixed, _) = along(2, jax.tree.map(jnp.ones_like, weights)), along(0, signs)
    still, _ = step(zero, memory, weights)
    wanted = [one - two for one, two in zip(jax.tree.leaves(made), still, strict=True)]
    linear = [one * two for one, two in zip(d, jax.tree.leaves(gradient), strict=True)]
    skew = [one - two * three for one, two, three in zip(mixed, d, jax.tree.leaves(signs), strict=True)]
    dots = _dot(wanted, linear), _dot(linear, linear), _dot(wanted, wanted)
    found = {
        "d": d,
        "b": b,
        "e": e,
        "beta": beta,
        "f": f,
        "pull": pull,
        "dots": dots,
        "coupled": _coupled(d, b, f, pull),
    }
    return found | {"skew": _dot(skew, skew) / jnp.maximum(_dot(mixed, mixed), jnp.finfo(mixed[0].dtype).tiny)}


def _coupled(d: Leaves, b: Leaves, f: Leaves, pull: Leaves) -> Leaves:
    """The weight decay that acts as a curvature: what goes into a running gradient, or all where there is none."""
    if not b:
        return tuple(_ratio(one, two) for one, two in zip(f, d, strict=True))
    if [one.shape for one in b] != [one.shape for one in d]:
        return tuple(jnp.zeros_like(one) for one in d)
    return tuple(_ratio(one, two) for one, two in zip(pull, b, strict=True))


def _ratio(above: Array, below: Array) -> Array:
    return jnp.where(below == 0, 0.0, above / jnp.where(below == 0, 1.0, below))


def _frozen(state: Any, after: Any, decayed: Any) -> Any:
    """The state from which a zero gradient leads to the running squares that the gradient of this moment leads to."""
    smallest = [jnp.finfo(one.dtype).tiny for one in _held(after, _SQUARES)]
    squares = [
        jnp.maximum(new, least) / jnp.maximum(share, least)
        for new, share, least in zip(_held(after, _SQUARES), _held(decayed, _SQUARES), smallest, strict=True)
    ]
    return _filled(_filled(state, _SQUARES, tuple(squares)), _HELD, _held(after, _HELD))


def read_response(found: dict[str, Any], shapes: list[tuple[int, ...]], frozen: bool) -> Response | str:
    """What `probe` found as a rule with a preconditioner, or why the update is no such thing.

    Raises ``ValueError`` for an update that no small change of the gradient changes, as one by signs.
    """
    d, e, f = ([np.asarray(one, dtype=float) for one in found[name]] for name in "def")
    if not all(np.all(np.isfinite(one)) for one in (*d, *e, *f)):
        return "its update has no finite derivative"
    if not any(np.any(one) for one in d):
        reject_signs()
    if any(np.any(one > 0) for one in d):
        return "its update goes along the gradient, not against it"
    if not float(found["skew"]) < _UNIFORM**2:
        return "its update mixes the gradients of several parameters"
    memory = _memory(found, shapes)
    return memory if isinstance(memory, str) else _assembled(found, d, f, memory, frozen)


def reject_signs() -> NoReturn:
    """Refuse an update by signs."""
    reject(
        "an optimiser whose update does not change with the size of the gradient",
        "A largest stable rate needs an update that is linear in small gradients; signs of gradients (Lion, sign "
        "descent) move by the same amount at every sharpness",
        "Lower its rate until the loss stops oscillating, or use Adam or momentum",
    )


@dataclass(frozen=True)
class _Memory:
    momentum: float
    nesterov: bool
    averaged: bool


def _memory(found: dict[str, Any], shapes: list[tuple[int, ...]]) -> _Memory | str:
    """What the running gradient is like."""
    d, e, beta, b, pull = ([np.asarray(one, dtype=float) for one in found[name]] for name in _OF_MEMORY)
    if not beta:
        return _Memory(0.0, False, False)
    rate, matched = _common(beta), [one.shape for one in b] == shapes
    if rate is None or not 0 <= rate < 1:
        return "its parameters have running gradients of several kinds"
    share = _common(b)
    if not matched and (share is None or any(np.any(one) for one in pull)):
        return "its parameters have running gradients of several kinds"
    b = b if matched else [np.full(shape, share) for shape in shapes]
    averaged = share is not None and abs(share - (1.0 - rate)) < _UNIFORM * (1.0 - rate) and rate > 0
    nesterov = _kind(rate, [one * two / three for one, two, three in _where_moved(e, b, d)])
    if nesterov is None:
        return "its momentum is neither the heavy ball's nor Nesterov's at this moment"
    return _Memory(rate, nesterov, averaged)


def _where_moved(e: list, b: list, d: list) -> list[tuple[np.ndarray, ...]]:
    """The parts of these where the newest gradient moves the parameters at all."""
    triples = zip(e, b, d, strict=True)
    return [tuple(one[three != 0] for one in (first, two, three)) for first, two, three in triples]


def _kind(momentum: float, ratios: list[np.ndarray]) -> bool | None:
    r"""Whether the momentum is Nesterov's, by the threshold $2(1+\beta)/(1+\beta-eb/d)$ of d; None for neither.

    Corrections of the bias, which differ between the two terms of NAdam, may shift it for a while.
    """
    ratio = _common([one for one in ratios if one.size])
    if ratio is None or not ratio < 1.0 + momentum:
        return None
    found = 1.0 + momentum - ratio
    known = {False: 1.0, True: 1.0 + momentum - momentum**2 / (1.0 + momentum)}
    off = {kind: abs(found / one - 1.0) for kind, one in known.items()}
    kind = min(off, key=lambda one: off[one])
    return kind if off[kind] < _TRANSIENT else None


def _assembled(found: dict[str, Any], d: list, f: list, memory: _Memory, frozen: bool) -> Response:
    coupled = [np.asarray(one, dtype=float) for one in found["coupled"]]
    decoupled = [two * three - one for one, two, three in zip(f, d, coupled, strict=True)]
    # Where only some parameters decay, the strongest decay is taken for all: the threshold is then a little low.
    decay = max((float(np.max(one, initial=0.0)) for one in decoupled), default=0.0)
    decay = decay if decay > _NOTHING else 0.0
    rule = UpdateRule(memory.momentum, memory.nesterov, decay, decay > 0, memory.averaged)
    share = (1.0 - memory.momentum if memory.averaged else 1.0) * (1.0 + memory.momentum * memory.nesterov)
    gain = [-one / share for one in d]
    dots = [float(one) for one in found["dots"]]
    clipped = _clipping(*dots)
    leaves = tuple(jnp.asarray(one, like.dtype) for one, like in zip(gain, found["d"], strict=True))
    return Response(
        rule, share, leaves, found["coupled"], None if frozen or memory.averaged else _common(gain), clipped, frozen
    )


def _clipping(across: float, linear: float, wanted: float) -> float:
    """The factor c with update = c times the linear one; nan where the two are not parallel."""
    if linear <= 0 or wanted <= 0:
        return 1.0
    if across**2 < (1.0 - 1e-4) * linear * wanted:
        return float("nan")
    return across / linear


def _common(leaves: list[np.ndarray]) -> float | None:
    """The number that all entries are equal to, or None."""
    low, high = min(np.min(one) for one in leaves), max(np.max(one) for one in leaves)
    return float(0.5 * (low + high)) if high - low <= _UNIFORM * max(abs(low), abs(high)) else None


def _is_known(node: Any) -> bool:
    return isinstance(node, _KNOWN)


def _replaced(state: Any, fields: dict[type, str], change: Callable[[Array], Array]) -> Any:
    """The state with the arrays of these fields changed."""

    def at(node):
        name = fields.get(type(node))
        return node if name is None else node._replace(**{name: jax.tree.map(change, getattr(node, name))})

    return jax.tree.map(at, state, is_leaf=_is_known)


def _held(state: Any, fields: dict[type, str]) -> Leaves:
    nodes = [node for node in jax.tree.leaves(state, is_leaf=_is_known) if type(node) in fields]
    return tuple(leaf for node in nodes for leaf in jax.tree.leaves(getattr(node, fields[type(node)])))


def _filled(state: Any, fields: dict[type, str], new: Leaves) -> Any:
    given = iter(new)
    return _replaced(state, fields, lambda _: next(given))


def _dot(first: Any, second: Any) -> Array:
    start, *rest = (jnp.vdot(one, two) for one, two in zip(first, second, strict=True))
    return sum(rest, start)
