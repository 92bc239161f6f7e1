"""What a training at several widths takes: a function that makes models, an optimizer, data and a loss."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from widthwise.numerics import demand_classes, demand_pair, reject
from widthwise.operators import adapt

from .drift import LossFunction, cross_entropy, loss_of

MakeModel = Callable[[int, int], Any]
Optimizer = optax.GradientTransformation | Callable[[int], optax.GradientTransformation]


def adapted_models(make_model: MakeModel, width: int, seeds: int, X: Array, first_seed: int = 0) -> list[Any]:
    """The models of one width; only the first one is tried out on X."""
    first: Any = adapt(made(make_model, width, first_seed), X)
    others = [made(make_model, width, first_seed + seed) for seed in range(1, seeds)]
    return [first, *(_adapted_like(first, one, X) for one in others)]


def _adapted_like(first: Any, model: Any, X: Array) -> Any:
    # A module of PyTorch is translated by its inputs, and what is adapted already is a model of one example.
    if hasattr(model, "named_parameters") or isinstance(model, type(first)):
        return adapt(model, X)
    return adapt(model, batched=first.batched)


def made(make_model: Any, *arguments: int) -> Any:
    """What a function of the width and the seed, or of the seed alone, makes; a model in its place is refused."""
    # A model is callable too, and may even take two arguments.
    is_model = isinstance(make_model, eqx.Module) and not isinstance(make_model, eqx.Partial)
    if is_model or not callable(make_model):
        came = f"a model of type {type(make_model).__name__} instead of a function that makes models"
        _reject_maker(came, len(arguments))
    try:
        return make_model(*arguments)
    except TypeError as error:
        told = ", ".join(map(str, arguments))
        _reject_maker(f"make_model({told}) raised {type(error).__name__}: {error}", len(arguments))


def _reject_maker(came: str, count: int) -> NoReturn:
    names, width, of = ("width, seed", "width", "both") if count == 2 else ("seed", "64", "the seed")
    reject(
        came,
        f"Models of several {'widths and ' if count == 2 else ''}seeds are made by a function of {of}",
        f"Give make_model({names}), for example lambda {names}: eqx.nn.MLP(2, 1, {width}, 2, key=jax.random.key(seed))",
    )


def optimizer_of_width(optimizer: Any) -> Callable[[int], optax.GradientTransformation]:
    """The optimizer as a function of the width."""
    if isinstance(optimizer, optax.GradientTransformation):
        return lambda width: optimizer
    if not callable(optimizer):
        _reject_optimizer(f"optimizer={optimizer!r}")
    first = _first_argument(optimizer)
    taken = {
        None: "no arguments",
        "learning_rate": "a learning rate first, which the width would become",
        "params": "parameters first, as those of PyTorch do",
    }
    if first in taken:
        _reject_optimizer(f"an optimizer that takes {taken[first]}")

    def of_width(width: int) -> optax.GradientTransformation:
        chosen = optimizer(width)
        if not isinstance(chosen, optax.GradientTransformation):
            _reject_optimizer(f"optimizer({width}) of type {type(chosen).__name__}")
        return chosen

    return of_width


def _first_argument(function: Callable) -> str | None:
    """The name of the first argument, of the function within a partial one."""
    inner = function.func if isinstance(function, partial) else function
    return next(iter(inspect.signature(inner).parameters), None)


def _reject_optimizer(came: str) -> NoReturn:
    reject(
        came,
        "An optimizer is an optax transformation, or a function optimizer(width) that returns one",
        "Give for example optax.sgd(0.1), or lambda width: optax.adam(1.0 / width)",
    )


def demand_data(data: Any, least: int = 2) -> tuple[Array, Any]:
    """The inputs, at ``least`` so many, and their labels, where they are such a pair."""
    demand_pair(data)
    X, Y = jnp.asarray(data[0]), jnp.asarray(data[1])
    if 0 in (X.ndim, Y.ndim) or len(X) < least or len(X) != len(Y):
        reject(
            f"inputs of shape {X.shape} with labels of shape {Y.shape}",
            f"There are at least {least} inputs, each with its label",
            "Give data=(X, Y) with equal lengths",
        )
    for name, part in (("X", X), ("Y", Y)):
        if jnp.issubdtype(part.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(part))):
            reject(
                f"{name} with entries that are not finite", "Data are finite numbers", "Remove or replace NaN and inf"
            )
    return X, Y


def loss_for(Y: Array, outputs: int, loss: LossFunction | None) -> LossFunction:
    """The loss: the user's, or the one that goes with the labels; classes of several positions (N, s) too."""
    labels = np.asarray(Y)
    if loss is None and np.issubdtype(labels.dtype, np.integer) and labels.ndim == 2 and outputs % labels.shape[1] == 0:
        if labels.shape[1] == outputs:
            reject(
                f"whole numbers of shape {labels.shape} for a model with {outputs} outputs",
                "Whole numbers are classes, of which a position has at least two, and quantities are real numbers",
                "Give Y.astype(float) for quantities, and for classes a model with an output for each",
            )
        demand_classes(labels.reshape(-1), outputs // labels.shape[1])
        return lambda f, y: cross_entropy(f.reshape(y.size, -1), y.reshape(-1))
    chosen = loss_of(labels, outputs, loss)
    return chosen if chosen is not None else cross_entropy
