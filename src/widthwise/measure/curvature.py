r"""The largest curvature of a loss as an optimiser sees it, followed through a training at a bounded cost.

Legend: H the Hessian of the loss, G its Gauss-Newton matrix, D the diagonal of $\eta P^{-1}$, the rate times the
inverse preconditioner of the optimiser at this moment; sharpness: the largest eigenvalue of $D^{1/2}HD^{1/2}$ or of
$D^{1/2}GD^{1/2}$, each by Lanczos from the vector of the look before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from widthwise.numerics import Estimate, UpdateRule, reject
from widthwise.operators import parameters

from .lanczos import top_pair
from .objective import Custom, Objective, gauss_newton_product, hessian_product
from .response import Leaves, Response, answers, is_preconditioned, probe, read_response, reject_signs, unrecognised

Starts = dict[str, Leaves]
_FRESH = 0.03  # the part of a random vector in each start, which finds a curvature that has overtaken the last one
_SURE = 0.03  # a residual of this part of an eigenvalue leaves about its square as the error
_ROUNDS = 4
_SOMETIMES = (optax.MultiStepsState, optax.LookaheadState)


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen at one moment: the loss, the optimiser's response and the sharpness by kind of curvature."""

    loss: float
    response: Response
    sharpness: dict[str, Estimate]
    starts: Starts

    @property
    def margin(self) -> dict[str, float]:
        """The sharpness over the threshold: above 1 the linearised training is unstable."""
        return {kind: float(one.value) / self.response.threshold for kind, one in self.sharpness.items()}


class Lens:
    """An instrument for all models that differ from the first one in their arrays only.

    What it compiles is kept for other instruments with equal models, named losses and optimisers, whatever their arrays
    hold.
    ``optimizer`` None is gradient descent at ``rate``. ``kinds``: "hessian", "ntk" or both, the second for a loss that
    is known by its outputs. Each look makes ``steps`` products with each matrix, and up to four times as many where
    the last start does not suffice.
    """

    def __init__(self, model: Any, loss: Objective | Custom, optimizer: Any, rate: float | None, steps: int):
        self.loss, self.optimizer, self.rate = loss, optimizer, rate
        leaves, _ = parameters(model)
        self.shapes = [leaf.shape for leaf in leaves]
        self.tree = jax.tree.structure(eqx.filter(getattr(model, "parameters", model), eqx.is_inexact_array))
        if self.tree.num_leaves != len(leaves):
            self.tree = jax.tree.structure(leaves)
        self._steps = steps
        # A loss of the user's own is compiled with its data as constants, on which it may branch, and for itself.
        named = isinstance(loss, Objective)
        self._varied = (eqx.is_array, eqx.is_array if named else False)
        form = eqx.filter((model, loss), self._varied, inverse=True)
        self._seen = (_compiled if named else _program)(form, optimizer, rate, steps)

    def weights(self, model: Any) -> Any:
        """The parameters as the tree that the optimiser takes."""
        return jax.tree.unflatten(self.tree, [*parameters(model)[0]])

    def starts(self, model: Any, kinds: tuple[str, ...]) -> Starts:
        """Random starts."""
        leaves, _ = parameters(model)
        return {kind: _random(jr.key(place), leaves) for place, kind in enumerate(kinds)}

    def state(self, model: Any, state: Any) -> Any:
        """The state that the optimiser has, or the one that it starts from where that does not matter."""
        if self.optimizer is None:
            return None
        if state is None:
            state = self.optimizer.init(self.weights(model))
            if is_preconditioned(state):
                reject(
                    "an optimiser that divides by running squares of the gradient, without its state",
                    "Its largest stable rate is another one at every moment",
                    "Give its state at this moment as state, after a few steps of training",
                )
            return state
        own = jax.eval_shape(self.optimizer.init, self.weights(model))
        if _sizes(own) != _sizes(state):
            reject(
                f"a state with {len(_sizes(state))} arrays of which some fit no state of this optimiser",
                f"Its states hold {len(_sizes(own))} arrays, those of optimizer.init(params)",
                "Give the state of this optimiser and of this model at the present moment",
            )
        return state

    def __call__(self, model: Any, state: Any, starts: Starts) -> Look:
        """Look at the model; raises ``ValueError`` for an optimiser that is not understood."""
        state = self.state(model, state)
        if (reason := unrecognised(state)) is not None:
            demand_answer(self.optimizer, state, *self.moment(model, state))
            reject_optimiser(reason)
        found = self.look(model, state, starts)
        return reject_optimiser(found) if isinstance(found, str) else found

    def look(self, model: Any, state: Any, starts: Starts) -> Look | str:
        """Look at the model, or say why the optimiser is not understood; a loss may be found not finite."""
        tree, arrays, at = self.tree_of(state), eqx.filter((model, self.loss), self._varied), 0
        while True:
            seen = self._seen(arrays, state, starts, jr.key(at), tree)
            starts = {kind: top[2] for kind, top in seen["tops"].items()}
            tops = {kind: (float(top[0]), float(top[1])) for kind, top in seen["tops"].items()}
            sure, at = all(bound <= _SURE * abs(value) for value, bound in tops.values()), at + 1
            if sure or at == _ROUNDS:
                break
        value = float(seen["loss"])
        if not (np.isfinite(value) and bool(seen["finite"])):
            return Look(value, _nothing(), {kind: Estimate(float("nan"), float("nan")) for kind in tops}, starts)
        response = self._response(seen, is_preconditioned(state))
        if isinstance(response, str):
            return response
        ulps = 8 * self._steps * float(jnp.finfo(seen["loss"].dtype).eps)
        found = {
            kind: Estimate(top / response.share, (bound + ulps * abs(top)) / response.share)
            for kind, (top, bound) in tops.items()
        }
        return Look(value, response, found, starts)

    def _response(self, seen: dict[str, Any], frozen: bool) -> Response | str:
        if self.optimizer is None:
            return Response(UpdateRule(), 1.0, seen["gain"], (), float(self.rate or 1.0), 1.0, False)
        return read_response(seen["probe"], self.shapes, frozen)

    def moment(self, model: Any, state: Any) -> tuple[Any, Any]:
        """Gradient and parameters as the trees that the optimiser takes."""
        leaves, rebuild = parameters(model)
        gradient = jax.grad(lambda new: self.loss(rebuild(new)))(leaves)
        tree = self.tree_of(state)
        return jax.tree.unflatten(tree, [*gradient]), jax.tree.unflatten(tree, [*leaves])

    def tree_of(self, state: Any) -> Any:
        """The structure of the arrays in the state of the optimiser, which may be wrapped otherwise than here."""
        held = [getattr(node, name) for node in jax.tree.leaves(state, is_leaf=_has_moments) for name in _moments(node)]
        trees = [jax.tree.structure(one) for one in held]
        return next((tree for tree in trees if tree.num_leaves == len(self.shapes)), self.tree)


def _compiled(form: Any, *settings: Any) -> Callable:
    """A look at all models and losses of this form; kept, unless a part of the form cannot be hashed or compared."""
    leaves, structure = jax.tree.flatten(form)
    try:
        return _kept(structure, tuple((type(one), one) for one in leaves), *settings)
    except (TypeError, ValueError):
        return _program(form, *settings)


@lru_cache(maxsize=16)
def _kept(structure: Any, leaves: tuple[tuple[type, Any], ...], *settings: Any) -> Callable:
    return _program(jax.tree.unflatten(structure, [one for _, one in leaves]), *settings)


def _program(form: Any, *settings: Any) -> Callable:
    return jax.jit(partial(_see, form, *settings), static_argnames="tree")


def _see(
    form: Any,
    optimizer: Any,
    rate: float | None,
    steps: int,
    arrays: Any,
    state: Any,
    starts: Starts,
    key: Array,
    tree: Any,
) -> dict[str, Any]:
    """Loss, gain and largest eigenvalues, with the response of an optimiser whose weights have this tree."""
    model, loss = eqx.combine(arrays, form)
    leaves, rebuild = parameters(model)
    value, gradient, product = hessian_product(loss, rebuild, leaves)
    finite = jnp.isfinite(jnp.stack([jnp.sum(jnp.abs(one)) for one in gradient]))
    seen: dict[str, Any] = {"loss": value, "finite": jnp.all(finite)}
    if optimizer is None:
        gain = tuple(jnp.full_like(leaf, rate or 1.0) for leaf in leaves)
        decay = tuple(jnp.zeros_like(leaf) for leaf in leaves)
    else:
        weights, steep = (jax.tree.unflatten(tree, [*one]) for one in (leaves, gradient))
        seen["probe"] = probe(optimizer, state, steep, weights)
        gain, decay = tuple(-one for one in seen["probe"]["d"]), seen["probe"]["coupled"]
    roots = tuple(jnp.sqrt(one) for one in gain)
    products = {"hessian": lambda v: _added(product(v), decay, v)}
    if isinstance(loss, Objective):
        products["ntk"] = gauss_newton_product(loss, rebuild, leaves)
    tops = {}
    for kind, start in starts.items():
        fresh = _mixed(start, _random(key, leaves))
        tops[kind] = top_pair(lambda v, A=products[kind]: _times(roots, A(_times(roots, v))), fresh, steps)
    return seen | {"gain": gain, "tops": tops}


def reject_optimiser(reason: str) -> NoReturn:
    """Refuse an optimiser whose response is not a rule with a preconditioner."""
    reject(
        f"an optimiser that is not known by its running gradient and running squares: {reason}",
        "Followed are chains of gradient descent, momentum, Adam, AdamW, AMSGrad, RMSProp, Adagrad, weight decay, "
        "schedules and clipping",
        "Ask stable_rate(..., optimizer=..., state=...), which linearises any optimiser, at single moments",
    )


def demand_answer(optimizer: Any, state: Any, gradient: Any, weights: Any) -> None:
    """Refuse updates by signs, and those that only every few steps bring."""
    for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, _SOMETIMES)):
        if isinstance(node, _SOMETIMES):
            reject(
                f"an optimiser with {type(node).__name__}",
                "Steps are linearised one by one, each from a gradient to an update",
                "Give the optimiser inside it and its inner state",
            )
    if not answers(optimizer, state, gradient, weights):
        reject_signs()


def _sizes(state: Any) -> list[tuple[int, ...]]:
    """The shapes of all arrays, in whatever order and tree."""
    return sorted(tuple(np.shape(leaf)) for leaf in jax.tree.leaves(state))


def _nothing() -> Response:
    return Response(UpdateRule(), 1.0, (), (), None, 1.0, False)


def _has_moments(node: Any) -> bool:
    return bool(_moments(node))


def _moments(node: Any) -> tuple[str, ...]:
    return tuple(
        name
        for name in ("trace", "ema", "mu", "nu", "sum_of_squares")
        if hasattr(node, "_fields") and name in node._fields
    )


def _random(key: Array, leaves: Leaves) -> Leaves:
    keys = jr.split(key, len(leaves))
    return tuple(jr.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True))


def _mixed(start: Leaves, noise: Leaves) -> Leaves:
    scale = _FRESH * jnp.sqrt(_square(start) / _square(noise))
    return tuple(one + scale * two for one, two in zip(start, noise, strict=True))


def _square(leaves: Leaves) -> Array:
    first, *rest = (jnp.vdot(leaf, leaf) for leaf in leaves)
    return sum(rest, first)


def _times(roots: Leaves, v: Leaves) -> Leaves:
    return tuple(one * two for one, two in zip(roots, v, strict=True))


def _added(product: Leaves, decay: Leaves, v: Leaves) -> Leaves:
    return tuple(one + two * three for one, two, three in zip(product, decay, v, strict=True))
