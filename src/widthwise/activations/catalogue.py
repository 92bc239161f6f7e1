"""The activations that ship: append one value to add one."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as _erf

from widthwise.numerics import nearest, reject

from . import closed
from .activation import Activation
from .families import error_function, exponential, gaussian, leaky_relu, rbf, rectified_monomial, sinusoid

# (sup|s'|, sup|s''|) and the critical (C_w, C_b) are recomputed from the functions in the tests.
_CATALOGUE = (
    Activation("identity", lambda z: z, closed.linear, slope_bound=1.0, curvature_bound=0.0, critical=(1.0, 0.0)),
    Activation("relu", jax.nn.relu, closed.rectifier(0.0, 0.0), kinks=(0.0,), slope_bound=1.0, critical=(2.0, 0.0)),
    Activation("abs", jnp.abs, closed.rectifier(-1.0, 0.0), kinks=(0.0,), slope_bound=1.0, critical=(1.0, 0.0)),
    Activation(
        "erf",
        _erf,
        closed.erf,
        slope_bound=2 / math.sqrt(math.pi),
        curvature_bound=2 * math.sqrt(2 / (math.pi * math.e)),
        value_bound=1.0,
        critical=(math.pi / 4, 0.0),
    ),
    Activation(
        "gelu",
        lambda z: jax.nn.gelu(z, approximate=False),
        closed.gelu,
        slope_bound=1.1289041452,
        curvature_bound=math.sqrt(2 / math.pi),
        critical=(1.9830582574375471, 0.17292239075606735),
    ),
    Activation(
        "tanh",
        jnp.tanh,
        slope_bound=1.0,
        curvature_bound=4 / (3 * math.sqrt(3)),
        value_bound=1.0,
        critical=(1.0, 0.0),
    ),
    Activation("sin", jnp.sin, closed.sine, slope_bound=1.0, curvature_bound=1.0, value_bound=1.0, critical=(1.0, 0.0)),
    Activation(
        "silu",
        jax.nn.silu,
        slope_bound=1.0998393202,
        curvature_bound=0.5,
        critical=(1.988004678269492, 0.5551431707215304),
    ),
    Activation("softplus", jax.nn.softplus, slope_bound=1.0, curvature_bound=0.25),
    Activation("sigmoid", jax.nn.sigmoid, slope_bound=0.25, curvature_bound=1 / (6 * math.sqrt(3)), value_bound=1.0),
    Activation("sign", jnp.sign, closed.sign, kinks=(0.0,), value_bound=1.0),
    Activation(
        "step",
        lambda z: 0.5 + 0.5 * jnp.sign(z),
        closed.summed(closed.scaled(closed.sign, 0.5), closed.constant(0.5)),
        kinks=(0.0,),
        value_bound=1.0,
    ),
    replace(sinusoid(1.0, math.pi / 2), name="cos", fn=jnp.cos, closed=closed.cosine),
    replace(exponential(), name="exp", fn=jnp.exp),
    replace(gaussian(), name="gaussian"),
    replace(rbf(), name="rbf"),
    replace(error_function(0.5, math.sqrt(0.5), 0.5), name="normal_cdf"),
    replace(rectified_monomial(2), name="squared_relu"),
)


ACTIVATIONS: dict[str, Activation] = {value.name: value for value in _CATALOGUE} | {"leaky_relu": leaky_relu()}


def activation(wanted: "str | Activation") -> Activation:
    """Look an activation up by name; a value is passed through.

    Raises ``ValueError`` for an unknown name, with the nearest one.

    >>> activation("tanh")
    Activation(tanh)
    """
    if isinstance(wanted, Activation):
        return wanted
    if wanted not in ACTIVATIONS:
        reject(
            f"activation {wanted!r}{nearest(str(wanted), ACTIVATIONS)}",
            f"Known are {', '.join(sorted(ACTIVATIONS))}",
            "Choose one, or pass a widthwise.Activation of your own",
        )
    return ACTIVATIONS[wanted]
