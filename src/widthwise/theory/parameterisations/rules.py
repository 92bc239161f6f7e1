"""Which rule of muP is an optimiser's: that of updates which grow with the gradient, SGD's, or of others, Adam's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import nearest, reject

from .abc import Optimiser

_ADAPTIVE = (
    "adam",
    "adamw",
    "nadam",
    "nadamw",
    "radam",
    "amsgrad",
    "adamax",
    "adabelief",
    "adagrad",
    "rmsprop",
    "yogi",
)
_ADAPTIVE += ("yogi", "lamb", "adafactor", "lion", "signsgd")
_RULES: dict[str, Optimiser] = {"sgd": "sgd", "momentum": "sgd", "nesterov": "sgd", **dict.fromkeys(_ADAPTIVE, "adam")}
_STEPS = 32  # within which an optimiser moves, also after a warm-up from 0 or by accumulated gradients
_SETTLED = 8  # steps after which one that starts like SGD, as radam, has become what it is
_SIZES = 1e-3, 1e4  # of gradients: below what is clipped, and far above any epsilon


def rule_of(optimizer: Any, params: Any) -> Optimiser:
    """The rule for an optimiser that is named, made by optax, or a function of the rate that makes one.

    >>> import optax
    >>> rule_of("AdamW", None), rule_of(optax.sgd(0.1, momentum=0.9), [jnp.zeros(2)])
    ('adam', 'sgd')
    """
    word = optimizer.lower().replace("_", "") if isinstance(optimizer, str) else None
    if word in _RULES:
        return _RULES[word]
    made = _made(optimizer) if callable(optimizer) else optimizer
    if word is None and hasattr(made, "update") and (found := measured_rule(made, params)):
        return found
    return reject(
        f"optimizer={optimizer!r}{nearest(optimizer, _RULES) if word else ''}",
        f"Known are {', '.join(map(repr, _RULES))}, and optimisers of optax whose updates grow with the gradient at "
        "every size of it, or at none, which clipping or a large epsilon leaves open",
        "Choose 'adam' if updates do not grow with the gradient, 'sgd' if they do, and hand your optimiser to the "
        "method optimizer of what mup returns",
    )


def _made(function: Callable) -> Any:
    try:
        return function(1e-3)
    except Exception:
        return None


def measured_rule(optimizer: Any, params: Any) -> Optimiser | None:
    """The rule by how updates grow with gradients that are small and large; None where they leave it open.

    Clipped gradients, and an epsilon or a first square that is not small, leave it open; so do parts with different
    optimisers.
    """
    small = jax.tree.map(lambda one: np.ones([min(2, size) for size in one.shape], one.dtype), params)
    sizes = np.array([scale * size for size in _SIZES for scale in (0.0, 1.0, 10.0)])
    try:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a whole power
            moved = np.asarray(jax.jit(jax.vmap(lambda size: _updates(optimizer, small, size)))(sizes))
    except Exception:  # one that needs more than gradients, or other parameters than these
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        still, once, tenfold = moved.reshape(len(_SIZES), 3, _STEPS, -1).swapaxes(0, 1)
        degrees = np.log10(np.abs(tenfold - still) / np.abs(once - still))[:, _SETTLED:]
    degrees = degrees[np.isfinite(degrees)]
    if degrees.size and np.all(degrees > 0.9):
        return "sgd"
    return "adam" if degrees.size and np.all(degrees < 0.1) else None


def _updates(optimizer: Any, params: Any, size: Array) -> Float[Array, "steps tensors"]:
    """The first entry of the update of each tensor, for gradients of equal entries."""
    gradient = jax.tree.map(lambda one: jnp.full_like(one, size), params)

    def step(state: Any, _: None) -> tuple[Any, Array]:
        updates, state = optimizer.update(gradient, state, params)
        return state, jnp.stack([jnp.ravel(one)[0] for one in jax.tree.leaves(updates)])

    return jax.lax.scan(step, optimizer.init(params), None, _STEPS)[1]
