r"""The largest stable learning rate of a real model with an optimiser of optax.

Legend: H the Hessian of the loss, G its Gauss-Newton matrix (the empirical NTK of a squared error), $\eta$ the rate,
P the preconditioner of the optimiser at this moment; sharpness: the largest eigenvalue of $P^{-1/2}HP^{-1/2}$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from widthwise.numerics import Estimate, demand_classes, demand_rate, reject
from widthwise.operators import ADAPTED, adapt, demand_options

from .curvature import Lens, Look, demand_answer
from .objective import Custom, Objective, objective
from .recurrence import largest_multiple
from .response import Response, demand_optimiser, unrecognised

_SAME = 1e-3  # between two rates, of which one was read off in float32
_KINDS = {"hessian": ("hessian",), "ntk": ("ntk",), "both": ("hessian", "ntk")}


@dataclass(frozen=True, eq=False)
class StableRate:
    r"""What `stable_rate` finds; dictionaries have an entry for each kind of curvature, "hessian" and "ntk".

    ``curvature``: the largest eigenvalues of H and G; ``sharpness``: those of $P^{-1/2}HP^{-1/2}$ and
    $P^{-1/2}GP^{-1/2}$, the same without a preconditioner; ``threshold``: the sharpness above which ``rate`` is
    unstable; ``largest``: the rates below which training is stable. ``margin``: rate over the largest one, above 1
    where it is unstable. ``route``: "rule" where the optimiser was understood as a momentum with a preconditioner,
    "recurrence" where the whole step was linearised, which knows no sharpness. ``convention``: the loss.
    """

    convention: str
    loss: float
    curvature: dict[str, Estimate]
    sharpness: dict[str, Estimate]
    threshold: float | None
    rate: float | None
    largest: dict[str, Estimate]
    route: str
    notes: tuple[str, ...] = ()

    @property
    def margin(self) -> dict[str, float]:
        """The rate over the largest stable one; empty without a rate."""
        if self.rate is None:
            return {}
        return {kind: self.rate / float(one.value) for kind, one in self.largest.items()}

    @property
    def sentence(self) -> str:
        """The answer in words."""
        kind = next(iter(self.largest))
        most, of = float(self.largest[kind].value), {"hessian": "Hessian", "ntk": "empirical NTK"}[kind]
        if math.isinf(most):
            return f"No rate is too large at this moment: the {of} has no positive curvature."
        told = f"By the {of}, rates below {most:.4g} are stable at this moment"
        if self.rate is None:
            return f"{told}."
        share = self.margin[kind]
        said = "stable" if share < 1 else "unstable: a catapult, or divergence" if share < 2 else "unstable"
        return f"{told}; {self.rate:.4g} is {share:.3g} times that, {said}."

    def __repr__(self) -> str:
        return f"StableRate({self.sentence})"

    def __str__(self) -> str:
        return " ".join((self.sentence, f"Loss: {self.convention}.", *self.notes))


def stable_rate(
    model: Any,
    data: Any,
    loss: Any = "half-mean",
    *,
    optimizer: Any = None,
    state: Any = None,
    rate: float | None = None,
    at: str = "both",
    steps: int = 12,
    **options: Any,
) -> StableRate:
    r"""The largest stable learning rate of a model at this moment, by the curvature of its loss.

    Gradient descent is stable where $\eta\lambda_{\max}(H) < 2$. An optimiser of optax is differentiated at its present
    state: its update is $-\eta P^{-1}$ times a running gradient with momentum $\beta$, and the threshold of
    $\eta\lambda_{\max}(P^{-1/2}HP^{-1/2})$ is that of `largest_curvature`, for Adam $2(1+\beta)/(1-\beta)$. Any other
    optimiser is linearised as a whole with its state, and the multiple of its rate is found where an oscillation grows.

    Args:
        model: anything that `adapt` takes, to which ``options`` go, such as ``params``.
        data: a pair (X, y), or what a function ``loss`` takes; the whole training data, or a large batch.
        loss: "half-mean" $\frac1{2n}\sum_i\|f(x_i)-y_i\|^2$ or another convention of `Loss`, such as "mean-entries",
            ``jnp.mean((f - y)**2)``; "cross-entropy" (its mean, of classes as integers); or a function (model, data),
            where the model maps one example.
        optimizer: an `optax.GradientTransformation`; gradient descent without it.
        state: the optimiser's state at this moment; needed where it divides by running squares of the gradient.
        rate: of gradient descent, the rate that is asked about; of an optimiser the rate that it was made with, where
            it cannot be read off (Adam and its like).
        at: "hessian", "ntk" (the Gauss-Newton matrix, which for a squared error has the eigenvalues of the
            empirical NTK), or "both"; a loss of one's own has "hessian" alone.
        steps: products with each matrix in a round of Lanczos, of which there are up to four.

    Models, losses and optimisers of the same form are compiled once; as under ``jax.jit``, they are functions of their
    arguments alone. Raises ``ValueError`` for what is no optimiser, an optimiser by signs, a missing rate or state, a
    loss that is not finite, and data that do not fit. Sources: cohen2021gradient, cohen2022adaptive.

    >>> model = jax.tree_util.Partial(lambda w, x: w * x, jax.numpy.ones(2))
    >>> found = stable_rate(model, (np.array([[1.0, 3.0]]), np.zeros((1, 2))), rate=0.1)
    >>> print(found.sentence)
    By the Hessian, rates below 0.2222 are stable at this moment; 0.1 is 0.45 times that, stable.
    """
    demand_options(stable_rate, options, (*ADAPTED, "dtype", "X"))
    lens, model, kinds = _prepared(model, data, loss, optimizer, rate, at, steps, options)
    plain = Lens(model, lens.loss, None, None, steps)
    seen = plain(model, None, plain.starts(model, kinds))
    demand_finite(seen.loss)
    bare = StableRate(lens.loss.convention, seen.loss, seen.sharpness, seen.sharpness, None, None, {}, "rule")
    if optimizer is None:
        return _by_rule(bare, seen, rate)
    held = lens.state(model, state)
    reason = unrecognised(held)
    answer = lens.look(model, held, lens.starts(model, kinds)) if reason is None else reason
    if isinstance(answer, str):
        return _by_recurrence(bare, lens, model, held, rate, answer)
    return _by_rule(bare, answer, _rate(rate, _own_rate(answer.response), held))


def _prepared(model, data, loss, optimizer, rate, at, steps, options) -> tuple[Lens, Any, tuple[str, ...]]:
    if at not in _KINDS:
        reject(f"at={at!r}", "A curvature is that of at='hessian', at='ntk' or at='both'", "Give one of them")
    if not (isinstance(steps, int) and steps >= 1):
        reject(f"steps={steps!r}", "A round of Lanczos has at least one step", "Give steps=12")
    if rate is not None:
        demand_rate(rate)
    if optimizer is not None:
        demand_optimiser(optimizer)
    chosen = objective(data, loss)
    model = adapted(model, chosen, options)
    if isinstance(chosen, Custom) and at == "ntk":
        reject(
            "at='ntk' with a loss of your own",
            "The Gauss-Newton matrix needs the loss as a function of the outputs",
            "Give data=(X, y) and the name of a loss, or at='hessian'",
        )
    kinds = ("hessian",) if isinstance(chosen, Custom) else _KINDS[at]
    return Lens(model, chosen, optimizer, rate, steps), model, kinds


def adapted(model: Any, loss: Objective | Custom, options: dict[str, Any]) -> Any:
    """The model for this loss, whose outputs fit the labels."""
    if isinstance(loss, Custom):
        return adapt(model, options.pop("X", None), **options)
    model = adapt(model, np.asarray(loss.X), **options)
    outputs = jax.eval_shape(model, loss.X[0]).size
    if loss.name == "cross-entropy":
        demand_classes(loss.Y, outputs)
    elif loss.Y.size != len(loss.Y) * outputs:
        reject(
            f"labels of shape {loss.Y.shape} for a model with {outputs} outputs",
            "A squared error has one target for each output",
            "Give such targets, or loss='cross-entropy' for classes as integers",
        )
    return model


def demand_finite(loss: float) -> None:
    """Refuse a loss that is not finite."""
    if not math.isfinite(loss):
        reject(
            f"a model whose loss is {loss}",
            "Its loss and gradient on the data are finite",
            "Look for the first layer that overflows, or take the parameters of an earlier step",
        )


def _rate(given: float | None, read: float | None, state: Any) -> float:
    hyper = [getattr(node, "hyperparams", {}) for node in jax.tree.leaves(state, is_leaf=_is_injected)]
    held = [float(one["learning_rate"]) for one in hyper if "learning_rate" in one]
    known = held[0] if held else read
    if given is not None and known is not None and abs(given - known) > _SAME * known:
        reject(
            f"rate={given} with an optimiser that was made with {known:.4g}",
            "The rate of an optimiser is its own",
            "Make the optimiser with the rate that you ask about, or leave rate out",
        )
    if (found := known if given is None else given) is not None:
        return found
    return reject(
        "an optimiser whose rate cannot be read off its update, and no rate",
        "The largest stable rate is a multiple of the one that it was made with",
        "Give rate=1e-3 or whatever it is, or make it by optax.inject_hyperparams",
    )


def _own_rate(response: Response) -> float | None:
    """The rate of an optimiser that did not clip its gradient."""
    return response.rate if abs(response.clipped - 1.0) < _SAME else None


def _is_injected(node: Any) -> bool:
    return hasattr(node, "hyperparams")


def _by_rule(bare: StableRate, seen: Look, rate: float | None) -> StableRate:
    """The answer from sharpness and rule."""
    response, unit = seen.response, rate or 1.0
    sharpness = {kind: Estimate(one.value / unit, one.error / unit) for kind, one in seen.sharpness.items()}
    rule = replace(response.rule, weight_decay=response.rule.weight_decay / unit)
    if bare.curvature is seen.sharpness:  # without an optimiser the look was one at rate 1
        sharpness = bare.curvature
    largest = {kind: _inverse(rule.largest_rate, one) for kind, one in sharpness.items()}
    threshold = None if rate is None else float(rule.largest_curvature(rate))
    return replace(bare, sharpness=sharpness, threshold=threshold, rate=rate, largest=largest, notes=_notes(seen))


def _inverse(largest_rate: Callable, sharpness: Estimate) -> Estimate:
    if not sharpness.value > 0:
        return Estimate(float("inf"), 0.0)
    most = float(largest_rate(sharpness.value))
    return Estimate(most, most * sharpness.error / sharpness.value)


def _notes(seen: Look) -> tuple[str, ...]:
    factor = seen.response.clipped
    if math.isnan(factor):
        return (
            "The update of this moment is not the linear one (gradients clipped entry by entry, for example): the rate "
            "holds for small gradients.",
        )
    if abs(factor - 1.0) < 1e-2:
        return ()
    return (f"Gradients are clipped to {factor:.2g} of their size at this moment; the rate holds where they are not.",)


def _by_recurrence(bare, lens: Lens, model: Any, state: Any, rate: float | None, reason: str) -> StableRate:
    """The answer from the whole step, linearised."""
    demand_answer(lens.optimizer, state, *lens.moment(model, state))
    rate = _rate(rate, None, state)
    multiple = largest_multiple(lens.loss, model, lens.optimizer, state, lens.tree_of(state))
    most = Estimate(rate * multiple.value, rate * multiple.error)
    note = f"The whole step was linearised, because {reason}."
    return replace(bare, sharpness={}, rate=rate, largest={"hessian": most}, route="recurrence", notes=(note,))
