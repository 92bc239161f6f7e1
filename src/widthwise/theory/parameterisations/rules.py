"""Which rule of muP is an optimiser's: that of updates which grow with the gradient, SGD's, or of others, Adam's."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from widthwise.numerics import nearest, reject

from .abc import Optimiser

_RULES: dict[str, Optimiser] = {"sgd": "sgd", "momentum": "sgd", "nesterov": "sgd"}
_RULES |= dict.fromkeys(
    ("adam", "adamw", "nadam", "nadamw", "amsgrad", "adamax", "adabelief", "adagrad", "rmsprop", "lion", "signsgd"),
    "adam",
)
_STEPS = 8  # within which an optimiser moves, also after a warm-up from 0
_SIZES = 1e-3, 1e-2  # of gradients, far above the epsilon of Adam and below what is clipped


def rule_of(optimizer: Any, params: Any) -> Optimiser:
    """The rule for an optimiser that is named, made by optax, or a function of the rate that makes one.

    >>> rule_of("AdamW", None), rule_of(optax.sgd(0.1, momentum=0.9), [jnp.zeros(2)])
    ('adam', 'sgd')
    """
    word = optimizer.lower().replace("_", "") if isinstance(optimizer, str) else None
    if word in _RULES:
        return _RULES[word]
    made = _made(optimizer) if callable(optimizer) else optimizer
    if word is None and isinstance(made, optax.GradientTransformation) and (found := measured_rule(made, params)):
        return found
    return reject(
        f"optimizer={optimizer!r}{nearest(optimizer, _RULES) if word else ''}",
        f"Known are {', '.join(map(repr, _RULES))}, and optimisers of optax whose updates tell them apart",
        "Choose 'adam' if updates do not grow with the gradient, 'sgd' if they do, and hand your optimiser to the "
        "method optimizer of what mup returns",
    )


def _made(function: Callable) -> Any:
    try:
        return function(1e-3)
    except Exception:
        return None


def measured_rule(optimizer: optax.GradientTransformation, params: Any) -> Optimiser | None:
    """The rule by how updates grow with the gradient, at parameters of zero; None for an optimiser that makes none."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    small, large = (_moved(optimizer, zeros, size) for size in _SIZES)
    if not (small > 0 and math.isfinite(large)):
        return None
    return "sgd" if math.log(large / small) > 0.5 * math.log(_SIZES[1] / _SIZES[0]) else "adam"


def _moved(optimizer: optax.GradientTransformation, zeros: Any, size: float) -> float:
    """The largest entry of the first update that is not zero."""
    gradient = jax.tree.map(lambda one: jnp.full_like(one, size), zeros)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a whole power
        state = optimizer.init(zeros)
        for _ in range(_STEPS):
            updates, state = optimizer.update(gradient, state, zeros)
            most = max(float(jnp.max(jnp.abs(one))) for one in jax.tree.leaves(updates))
            if most != 0:
                return most
    return 0.0
