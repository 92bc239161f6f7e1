r"""Train any model together with its tangent model, and record how far they move and how far apart.

Legend: as in ``dynamics``; the probe is a small set of inputs on which the empirical NTK
$\Theta_w = J_wJ_w^\top$ is followed, averaged over outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from widthwise.numerics import reject
from widthwise.operators import parameters

from .dynamics import Method, Pair, State, advance, flow, risk
from .kernels import empirical_ntk

DIVERGED = 1e6  # times the risk at the start (or of predicting zero, if that is larger)
_CHUNK = 20  # steps between two looks at the keyboard
_BUFFER = 512  # short runs hold as many losses, so that they share their compiled code


@dataclass(frozen=True, eq=False)
class Run:
    r"""What was recorded of a network and its tangent model ("twin") at m moments.

    ``steps`` (m,): the moments in steps (for the flow: time/rate); the first is 0, all numbers are finite.
    ``train`` (m, n, k), ``test`` (m, q, k): outputs of the network; ``twin_train``, ``twin_test`` those of
    the tangent model at its first moments, as many as there are before it diverges.
    ``movement`` (m, l): $\|w_j - w_{0j}\|/\|w_{0j}\|$ of each array of parameters, named in ``names``.
    ``distance`` (m,): $\|w - w_0\|$; ``twin_distance``: $\|u - w_0\|$; ``gap``: $\|w - u\|$.
    ``drift`` (m,): $\|\Theta_w - \Theta_{w_0}\|_F/\|\Theta_{w_0}\|_F$ on the probe.
    ``risks`` (m,): the network's risk on all training rows; ``losses``: the risk before each step, on the rows of
    that step (none for the flow).
    ``diverged_at``, ``twin_diverged_at``: the step before which the risk was not finite or above ``limit``.
    """

    method: Method
    steps: Float[np.ndarray, " m"]
    train: Float[np.ndarray, "m n k"]
    test: Float[np.ndarray, "m q k"]
    twin_train: Float[np.ndarray, "t n k"]
    twin_test: Float[np.ndarray, "t q k"]
    names: tuple[str, ...]
    movement: Float[np.ndarray, "m l"]
    distance: Float[np.ndarray, " m"]
    twin_distance: Float[np.ndarray, " t"]
    gap: Float[np.ndarray, " t"]
    drift: Float[np.ndarray, " m"]
    risks: Float[np.ndarray, " m"]
    losses: Float[np.ndarray, " s"]
    limit: float
    diverged_at: int | None
    twin_diverged_at: int | None
    model: Callable

    @property
    def outcome(self) -> str:
        """ "diverged", "unstable" (ends above the start), "catapult" (rose above the start, ends below) or "stable".

        A rise counts when the risk of a step rises by 1 %, or doubles where steps see mini-batches.
        """
        if self.diverged_at is not None:
            return "diverged"
        if self.risks[-1] > self.risks[0]:
            return "unstable"
        rise = 1.01 if self.method.full_batch else 2.0
        return "catapult" if np.max(self.losses, initial=0.0) > rise * self.risks[0] else "stable"

    @property
    def times(self) -> Float[np.ndarray, " m"]:
        """The moments in units of the gradient flow: steps times rate."""
        return self.steps * self.method.rate


def moments(steps: int, count: int = 40) -> Int[np.ndarray, " m"]:
    """At most ``count`` moments from 0 to ``steps``, spaced evenly in the logarithm.

    >>> moments(100, 8)
    array([  0,   1,   2,   5,  10,  22,  46, 100])
    """
    return np.unique(np.round(np.concatenate([[0.0], np.geomspace(1.0, steps, max(2, count - 1))])).astype(int))


def train(
    model: Callable,
    X: ArrayLike,
    T: ArrayLike,
    X_test: ArrayLike,
    method: Method,
    *,
    key: Array,
    probe: ArrayLike | None = None,
    records: int = 40,
    progress: Callable[[int], Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    r"""Train a model and its tangent model on $R = \frac1{2n}\sum_i\|f(x_i) - t_i\|^2$, side by side.

    Args:
        model: a callable PyTree (d,) -> (k,), whose inexact arrays are the parameters.
        X, T: training inputs (n, d) and targets (n, k).
        X_test: other inputs (q, d) on which both are evaluated.
        method: how to train; both models see the same batches.
        key: for the order of mini-batches.
        probe: inputs (b, d) of the kernel drift, by default the first 24 of X.
        records: how many moments are recorded at most.
        progress: called with the number of steps made since the last call.
        stop: asked after every few steps; True ends the run there, which its last moment shows.

    Training stops when the network's risk is not finite or exceeds a million times its start; the
    run says at which step. A tangent model that diverges alone stops alone. Raises ``ValueError``
    for shapes that do not fit, and for a model that is not finite at the start. Runs in float64.

    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 2)))
    >>> run = train(model, np.eye(2), np.ones((2, 1)), np.eye(2), Method("gd", 1.0, 4), key=jax.random.key(0))
    >>> run.losses.tolist(), run.outcome
    ([0.5, 0.125, 0.03125, 0.0078125], 'stable')
    """
    X, T, X_test = (np.asarray(part, dtype=float) for part in (X, T, X_test))
    probe = X[:24] if probe is None else np.asarray(probe, dtype=float)
    with jax.enable_x64(True):
        pair = _prepare(model, X, T, method)
        first = pair.start(max(method.steps, _BUFFER), key)
        observer = _Observer(pair, jnp.asarray(X_test), jnp.asarray(probe))
        last, seen = first, [observer.first(first)]
        for state, due in _states(pair, method, first, records, key, progress or (lambda _: None)):
            last, ended = state, stop()
            if due or ended:
                seen.append(observer(state, jnp.asarray(seen[0]["gram"])))
            if ended:
                break
        return _run(pair, method, last, seen, parameters(model)[1](last.network))


def _prepare(model: Callable, X: np.ndarray, T: np.ndarray, method: Method) -> Pair:
    shape = jax.eval_shape(jax.vmap(model), jnp.asarray(X)).shape
    if X.ndim != 2 or T.shape != shape:
        reject(
            f"X of shape {X.shape}, T of shape {T.shape} and outputs of shape {shape}",
            "Inputs are (n, d), targets and outputs (n, k)",
            "Give one row of targets to each input",
        )
    rate = jnp.asarray(method.rate, dtype=float)
    pair = Pair(model, jnp.asarray(X), jnp.asarray(T), jnp.zeros(()), rate, method.name, method.batch)
    first = float(_risk(pair))
    if not np.isfinite(first):
        reject(
            f"A model with risk {first} at the start",
            "Its outputs are finite",
            "Look for the first layer that overflows",
        )
    limit = DIVERGED * max(first, 0.5 * float(np.mean(np.sum(T**2, axis=1))))
    return eqx.tree_at(lambda pair: pair.limit, pair, jnp.asarray(limit))


@eqx.filter_jit
def _risk(pair: Pair) -> Float[Array, ""]:
    return risk(pair.outputs(parameters(pair.model)[0], pair.X), pair.T)


def _states(pair, method, state, records, key, progress):
    """Yield the states after each chunk of steps, and whether they are due to be recorded."""
    if method.name == "flow":
        yield from _flow_states(pair, method, state, records, progress)
        return
    due = set(moments(method.steps, records).tolist()[1:])
    ends = sorted(due | set(range(_CHUNK, method.steps, _CHUNK)))
    for end in ends:
        before = int(state.step)
        state = advance(pair, state, jnp.asarray(end), key)
        made = int(state.step) - before
        progress(made)
        yield state, made > 0 and (end in due or not bool(state.alive))
        if not bool(state.alive):
            return


def _flow_states(pair, method, state, records, progress):
    """The same for the flow, whose clock stands at step * rate."""
    scale = _flow_scale(pair)
    step = jnp.asarray(0.1 * method.rate)
    for end in moments(method.steps, records)[1:]:
        while float(state.time) < float(end) * method.rate * (1 - 1e-12):
            before = round(float(state.time) / method.rate)
            state, step = flow(pair, state, jnp.asarray(end * method.rate), step, scale)
            progress(round(float(state.time) / method.rate) - before)
            done = float(state.time) >= float(end) * method.rate * (1 - 1e-12)
            yield state, done


@eqx.filter_jit
def _flow_scale(pair: Pair) -> Float[Array, ""]:
    r"""The typical displacement of one parameter, from the way to go $\ge R/\|\nabla R\|$."""
    leaves, _ = parameters(pair.model)
    value, gradient = pair.network_gradient(leaves, pair.X, pair.T)
    square = sum((jnp.sum(part**2) for part in gradient), jnp.zeros(()))
    count = sum(part.size for part in gradient)
    way = jnp.where(square > 0, value / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 1.0)
    return way / np.sqrt(count)


class _Observer(eqx.Module):
    """Looks at a state: outputs, distances and the kernel on the probe."""

    pair: Pair
    X_test: Array
    probe: Array

    def first(self, state: State) -> dict[str, Any]:
        """The first look, at which nothing has moved."""
        return self(state, None)

    def __call__(self, state: State, gram: Array | None) -> dict[str, Any]:
        clock = {name: getattr(state, name) for name in ("step", "time", "twin_alive")}
        return jax.tree.map(np.asarray, _observe(self, state, gram) | clock)


@eqx.filter_jit
def _observe(observer: _Observer, state: State, gram: Array | None) -> dict[str, Array]:
    pair = observer.pair
    base, rebuild = parameters(pair.model)
    moved = jax.tree.map(jnp.subtract, state.network, base)
    now = empirical_ntk(rebuild(state.network), observer.probe)
    gram = now if gram is None else gram
    relative = [_norm((a,)) / jnp.maximum(_norm((b,)), 1e-300) for a, b in zip(moved, base, strict=True)]
    seen = {"movement": jnp.stack(relative)}
    for name, X in (("train", pair.X), ("test", observer.X_test)):
        outputs, derivative, _ = pair.tangent(X)
        seen[name] = pair.outputs(state.network, X)
        seen[f"twin_{name}"] = outputs + derivative(state.twin)
    return seen | {
        "risk": risk(seen["train"], pair.T),
        "distance": _norm(moved),
        "twin_distance": _norm(state.twin),
        "gap": _norm(jax.tree.map(jnp.subtract, moved, state.twin)),
        "drift": jnp.linalg.norm(now - gram) / jnp.linalg.norm(gram),
        "gram": now,
    }


def _norm(leaves: Any) -> Float[Array, ""]:
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in leaves), jnp.zeros(())))


def _run(pair: Pair, method: Method, last: State, seen: list[dict[str, Any]], model: Callable) -> Run:
    seen = [record for record in seen if _finite(record, "train", "test", "movement", "drift", "risk")]
    both = [record for record in seen if record["twin_alive"] and _finite(record, "twin_train", "twin_test")]
    of = {
        name: np.stack([one[name] for one in seen])
        for name in ("train", "test", "movement", "distance", "drift", "risk")
    }
    twin = {name: np.stack([one[name] for one in both]) for name in ("twin_train", "twin_test", "twin_distance", "gap")}
    is_flow = method.name == "flow"
    steps = [float(record["time"]) / method.rate if is_flow else float(record["step"]) for record in seen]
    losses = np.asarray(last.losses)[: 0 if is_flow else int(last.step) + (not bool(last.alive))]
    dead = np.flatnonzero(np.isnan(np.asarray(last.twin_losses)[: len(losses)]))
    return Run(
        method=method,
        steps=np.array(steps),
        names=_names(pair.model),
        risks=of.pop("risk"),
        losses=losses,
        limit=float(pair.limit),
        diverged_at=None if bool(last.alive) else int(last.step),
        twin_diverged_at=int(dead[0]) if len(dead) else None,
        model=model,
        **of,
        **twin,
    )


def _finite(record: dict[str, Any], *names: str) -> bool:
    """Whether nothing overflowed: the last moment of a diverging run may not be worth keeping."""
    return all(np.all(np.isfinite(record[name])) for name in names)


def _names(model: Callable) -> tuple[str, ...]:
    """Each array of parameters as "array 1 (256 x 61)"."""
    leaves, _ = parameters(model)
    shapes = (" × ".join(map(str, leaf.shape)) or "scalar" for leaf in leaves)
    return tuple(f"array {index} ({shape})" for index, shape in enumerate(shapes, start=1))
