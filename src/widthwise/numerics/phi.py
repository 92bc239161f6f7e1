r"""The phi functions of exponential integrators, on the negative axis and without cancellation.

Legend: $\varphi_0(z) = e^z$, $\varphi_k(z) = \int_0^1 e^{(1-s)z}\frac{s^{k-1}}{(k-1)!}\,ds$, so that
$\varphi_k(z) = \frac1{k!} + z\,\varphi_{k+1}(z)$ and $\varphi_k(0) = \frac1{k!}$.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Beyond it the recurrence divides its errors by 8 or more each time; up to it 16 Gauss points integrate
# exp((1 - s)z) s^(k-1) to rounding, and nothing cancels where all terms are positive.
_LARGE = 8.0
_POINTS, _WEIGHTS = (
    (part + shift) / 2 for part, shift in zip(np.polynomial.legendre.leggauss(16), (1, 0), strict=True)
)


def phi(count: int, z: Float[Array, "*shape"]) -> Float[Array, "count *shape"]:
    r"""$\varphi_0(z), \dots, \varphi_{count-1}(z)$ for $z \le 0$, each to rounding.

    Up to $z = -8$ from the integral, by Gauss' rule; beyond by the recurrence from $e^z$ upwards. ``count`` is at
    least 2 and at most 8. Source: hochbruck2010exponential.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     values = phi(3, jnp.array([0.0, -1.0, -1e9]))
    >>> [[float(f"{one:.12g}") for one in row] for row in values]
    [[1.0, 0.367879441171, 0.0], [1.0, 0.632120558829, 1e-09], [0.5, 0.367879441171, 9.99999999e-10]]
    """
    near, far = jnp.maximum(z, -_LARGE), jnp.minimum(z, -_LARGE)
    rule = np.stack([_WEIGHTS * _POINTS**k / math.factorial(k) for k in range(count - 1)])
    inner = jnp.tensordot(rule, jnp.exp(jnp.multiply.outer(1.0 - _POINTS, near)), 1)
    outer = [jnp.exp(far)]
    for k in range(count - 1):
        outer.append((outer[-1] - 1.0 / math.factorial(k)) / far)
    inner = jnp.concatenate([jnp.exp(near)[None], inner])
    return jnp.where((z > -_LARGE)[None], inner, jnp.stack(outer))
