"""The activations that ship: append one value to add one."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as _erf

from widthwise.numerics import nearest, reject

from . import closed
from .activation import Activation
from .detect import check_elementwise, find_kinks
from .families import error_function, exponential, gabor, gaussian, leaky_relu, rbf, rectified_monomial, sinusoid

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

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
    replace(gabor(), name="gabor", slope_bound=1.0, curvature_bound=2.1153218510200773, value_bound=0.3966529610854711),
    replace(rbf(), name="rbf"),
    replace(error_function(0.5, math.sqrt(0.5), 0.5), name="normal_cdf"),
    replace(rectified_monomial(2), name="squared_relu"),
    Activation("elu", jax.nn.elu, kinks=(0.0,), slope_bound=1.0, critical=(1.0, 0.0)),
    Activation(
        "selu",
        jax.nn.selu,
        kinks=(0.0,),
        slope_bound=_SELU_SCALE * _SELU_ALPHA,
        critical=(2 / (_SELU_SCALE**2 * (1 + _SELU_ALPHA**2)), 0.0),
    ),
    Activation("softsign", jax.nn.soft_sign, kinks=(0.0,), slope_bound=1.0, value_bound=1.0, critical=(1.0, 0.0)),
    Activation("hard_tanh", jax.nn.hard_tanh, kinks=(-1.0, 1.0), slope_bound=1.0, value_bound=1.0, critical=(1.0, 0.0)),
    Activation("relu6", jax.nn.relu6, kinks=(0.0, 6.0), slope_bound=1.0, value_bound=6.0),
    Activation(
        "hard_swish",
        jax.nn.hard_swish,
        kinks=(-3.0, 3.0),
        slope_bound=1.5,
        critical=(1.97328958364, 0.507145848789),
    ),
    Activation(
        "mish",
        jax.nn.mish,
        slope_bound=1.0884981613,
        curvature_bound=0.6442046373,
        critical=(2.01352406972, 0.0945217873707),
    ),
    Activation(
        "arctan",
        jnp.arctan,
        slope_bound=1.0,
        curvature_bound=3 * math.sqrt(3) / 8,
        value_bound=math.pi / 2,
        critical=(1.0, 0.0),
    ),
    Activation(
        "gelu_tanh",
        jax.nn.gelu,
        slope_bound=1.1289930687,
        curvature_bound=math.sqrt(2 / math.pi),
        critical=(1.98288823982, 0.172895198264),
    ),
)


ACTIVATIONS: dict[str, Activation] = {value.name: value for value in _CATALOGUE} | {"leaky_relu": leaky_relu()}


def activation(
    wanted: str | Activation | Callable, *, kinks: Sequence[float] | None = None, name: str | None = None
) -> Activation:
    """Look an activation up by name, or make one of a function; a value is passed through.

    A function of the catalogue, such as ``jax.nn.relu``, gives that activation. Any other is checked
    to be elementwise, real and finite, and searched for kinks and jumps between -32 and 32, unless
    ``kinks`` names them; its dual is computed numerically. ``name`` is what it prints as.

    Raises ``ValueError`` for an unknown name, with the nearest one, for a function that is no
    activation, and for ``kinks`` or ``name`` without a function.

    >>> activation("tanh")
    Activation(tanh)
    >>> activation(lambda z: jnp.where(z > 0.5, z - 0.5, 0.0), name="late_relu").kinks
    (0.5,)
    """
    if callable(wanted) and not isinstance(wanted, Activation):
        return _wrap(wanted, None if kinks is None else tuple(map(float, kinks)), name)
    if kinks is not None or name is not None:
        reject(
            f"kinks={kinks} and name={name!r} for {wanted!r}",
            "They belong to a function of your own",
            "Leave them out, or pass a function",
        )
    if isinstance(wanted, Activation):
        return wanted
    if wanted not in ACTIVATIONS:
        reject(
            f"activation {wanted!r}{nearest(str(wanted), ACTIVATIONS)}",
            f"Known are {', '.join(sorted(ACTIVATIONS))}",
            "Choose one, or pass a function or a widthwise.Activation of your own",
        )
    return ACTIVATIONS[wanted]


@functools.lru_cache(maxsize=256)
def _wrap(fn: Callable, kinks: tuple[float, ...] | None, name: str | None) -> Activation:
    """The activation of a function: that of the catalogue, or a new one with its kinks."""
    known = next((value for value in ACTIVATIONS.values() if value.fn is fn), None)
    if known is not None and kinks is None and name is None:
        return known
    called = name or str(getattr(fn, "__name__", type(fn).__name__)).strip("<>")
    with jax.enable_x64(True):
        check_elementwise(called, fn)
        return Activation(called, fn, kinks=find_kinks(fn) if kinks is None else kinks)
