r"""The kernels of one pair of inputs as a function that JAX transforms: for gradients, and inside other programs.

Legend: $u = x/\|x\|$, gap $= \frac12\|u-v\|^2$, cogap $= \frac12\|u+v\|^2$.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.activations import ratio, root
from widthwise.numerics import demand_numbers, reject

from .layer import AbstractLayer, check_network, through
from .pair import Pair


def pair_kernel(network: AbstractLayer, x: ArrayLike, y: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""NNGP kernel and NTK of one pair of inputs, as JAX arrays; use ``jax.vmap``, ``jax.grad`` and ``jax.jit`` on it.

    The numbers are those of `kernel`, in the precision of the inputs as JAX takes them, which is float32 unless
    ``jax.config.update("jax_enable_x64", True)`` was called. An input that is not finite makes both NaN, as an error
    cannot be raised under ``jit``. Derivatives exist with respect to the inputs
    and to the variances and rates of the layers, which may be JAX arrays, and are finite everywhere: at equal,
    opposite and zero inputs too. Where the kernel itself has a kink (the NTK of a ReLU network at equal inputs) the
    derivative is that of its smooth part. Second derivatives at equal inputs are right too, but for activations with
    kinks and no closed dual. Activations without a closed dual have the terms they were made with, and no error is
    told: use `kernel` for that.

    Raises ``ValueError`` for inputs of different shapes, for complex ones and for what is no network.

    >>> import jax
    >>> from widthwise.networks import MLP
    >>> network, x = MLP(depth=1, activation="relu").network(), jnp.array([3.0, 4.0])
    >>> nngp, ntk = pair_kernel(network, x, x)
    >>> round(float(nngp), 6), round(float(ntk), 6)
    (12.5, 25.0)
    >>> jax.grad(lambda x: pair_kernel(network, x, x)[1])(x).round(6).tolist()
    [6.0, 8.0]
    """
    check_network(network)
    x, y = _real("x", x), _real("y", y)
    if x.shape != y.shape or x.ndim < 1:
        reject(
            f"inputs of shape {x.shape} and {y.shape}",
            "A pair has two inputs of one shape, (features,) or (*positions, channels)",
            "Use jax.vmap over the inputs of a set",
        )
    after = through(network, _crossed(x, y, itself=False))
    finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(y))
    nngp, ntk = (jnp.where(finite, part, jnp.nan) for part in (after.xy, after.ntk))
    return nngp, ntk


def _real(name: str, given: ArrayLike) -> Array:
    """An input as floating-point numbers."""
    demand_numbers(name, given)
    array = jnp.asarray(given)
    if jnp.iscomplexobj(array):
        reject(f"complex {name}", "Inputs are real numbers", "Stack real and imaginary parts as features")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _crossed(x: Array, y: Array, itself: bool) -> Pair:
    (xx, u), (yy, v) = _split(x), _split(y)
    rank = xx.ndim
    u, v = jnp.expand_dims(u, range(rank, 2 * rank)), jnp.expand_dims(v, range(rank))
    gap, cogap = 0.5 * jnp.sum((u - v) ** 2, axis=-1), 0.5 * jnp.sum((u + v) ** 2, axis=-1)
    zero = jnp.expand_dims(xx == 0.0, range(rank, 2 * rank)) | jnp.expand_dims(yy == 0.0, range(rank))
    gap, cogap = jnp.where(zero, 1.0, gap), jnp.where(zero, 1.0, cogap)
    nothing = jnp.zeros_like(gap)
    within = (_crossed(x, x, itself=True), _crossed(y, y, itself=True)) if rank and not itself else None
    error = jnp.zeros((), gap.dtype)
    return Pair(xx, yy, gap, cogap, nothing, error, within, x.shape[-1], gaussian=False, itself=itself)


def _split(x: Array) -> tuple[Array, Array]:
    """Mean squares and directions."""
    power = jnp.mean(x**2, axis=-1)
    return power, ratio(x, jnp.broadcast_to(root(power)[..., None] * x.shape[-1] ** 0.5, x.shape))
