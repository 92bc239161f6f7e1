r"""The phi functions of exponential integrators, on the negative axis and without cancellation.

Legend: $\varphi_0(z) = e^z$, $\varphi_k(z) = \int_0^1 e^{(1-s)z}\frac{s^{k-1}}{(k-1)!}\,ds$, so that
$\varphi_k(z) = \frac1{k!} + z\,\varphi_{k+1}(z)$ and $\varphi_k(0) = \frac1{k!}$.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

# Upwards the recurrence divides its errors by |z|, downwards it multiplies them: from here on upwards is better.
_LARGE = 8.0
# So many terms of the series at -8 leave 8^44 / 44! = 2e-15 of its first, and they add up to e^8.
_TERMS = 44


def phi(count: int, z: Float[Array, "*shape"]) -> Float[Array, "count *shape"]:
    r"""$\varphi_0(z), \dots, \varphi_{count-1}(z)$ for $z \le 0$, each within some tens of units in the last place.

    Beyond $z = -8$ by the recurrence from $e^z$ upwards. Nearer to 0 the last one by the series
    $\varphi_k(z) = \frac{e^z}{k!}\sum_j \frac{k}{k+j}\frac{(-z)^j}{j!}$, whose terms are all positive, and the
    recurrence downwards. ``count`` is at least 2. Source: hochbruck2010exponential.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     values = phi(3, jnp.array([0.0, -1.0, -1e9]))
    >>> [[float(f"{one:.12g}") for one in row] for row in values]
    [[1.0, 0.367879441171, 0.0], [1.0, 0.632120558829, 1e-09], [0.5, 0.367879441171, 9.99999999e-10]]
    """
    near, far = jnp.maximum(z, -_LARGE), jnp.minimum(z, -_LARGE)
    top = count - 1
    total = jnp.zeros_like(near)
    for j in reversed(range(_TERMS)):
        total = top / (top + j) / math.factorial(j) - near * total
    inner = [jnp.exp(near) * total / math.factorial(top)]
    for k in reversed(range(2, top)):
        inner.append(1.0 / math.factorial(k) + near * inner[-1])
    if top > 1:
        inner.append(jnp.where(near < 0, jnp.expm1(near) / jnp.where(near < 0, near, -1.0), 1.0))
    inner.append(jnp.exp(near))
    outer = [jnp.exp(far)]
    for k in range(top):
        outer.append((outer[-1] - 1.0 / math.factorial(k)) / far)
    return jnp.where((z > -_LARGE)[None], jnp.stack(inner[::-1]), jnp.stack(outer))
