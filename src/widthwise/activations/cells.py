r"""Duals of activations with kinks or jumps anywhere, by quadrature, with the error they leave.

Legend as in ``dual``. With independent standard normal $X, Y$ and half the angle, $a = \theta/2$,
$u = \sqrt{q_1}(X\cos a - Y\sin a)$ and $v = \sqrt{q_2}(X\cos a + Y\sin a)$. For each $Y$ the kinks $b$ of
$s(u)$ and of $s(v)$ lie at $X = (b/\sqrt{q_1} + Y\sin a)/\cos a$ and $X = (b/\sqrt{q_2} - Y\sin a)/\cos a$:
straight lines, which cut the plane into cells where $s(u)s(v)$ is smooth. Gauss-Legendre runs in $X$
between the lines and in $Y$ between their crossings, so no end of an interval is singular. For
$\theta > \pi/2$ the pair $(u, -v)$, at the angle $\pi - \theta$, takes the place of $(u, v)$.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthwise.numerics import unit_rule

from .dual import Dual, Scalar, between, ratio, root

_REACH = 9.0  # standard deviations; beyond lies a mass of 2e-19
_ROUNDING = 32 * 2.0**-52


def cells(
    fn: Callable, kinks: tuple[float, ...], degree: int, xx: Scalar, yy: Scalar, gap: Scalar, cogap: Scalar
) -> Dual:
    r"""Dual of an activation that is smooth between its ``kinks``, where it may also jump.

    $1 \mp \rho'$ are half the mean squares of the difference and the sum of the normalised
    activations. An interval has $\sqrt{8\,\text{degree}}$ nodes; the error is the difference to
    three quarters of them.
    """
    count = round((8 * degree) ** 0.5)
    fine, coarse = (_integrate(fn, kinks, n, xx, yy, gap, cogap) for n in (count, 3 * count // 4))
    moments, sxx, syy = fine
    rough, _, _ = coarse
    unit = root(sxx) * root(syy)
    error = jnp.abs(moments[2] - rough[2]) + ratio(jnp.abs(moments[3] - rough[3]), unit)
    error += sum(ratio(jnp.abs(moments[k] - rough[k]), moments[k]) for k in (0, 1))
    equal = (gap == 0.0) & (xx == yy)  # whatever rounding makes of their difference
    new_gap, new_cogap = jnp.where(equal, 0.0, between(moments[2])), between(moments[4])
    return Dual(moments[0], moments[1], new_gap, new_cogap, moments[3], error + _ROUNDING)


def _integrate(fn, kinks, count, xx, yy, gap, cogap):
    """(E s(u)^2, E s(v)^2, gap, slope, cogap), and the mean square slopes of both inputs."""
    (fxx, sxx), (fyy, syy) = (_powers(fn, kinks, count, q) for q in (xx, yy))
    cosine, sine = root(0.5 * jnp.maximum(gap, cogap)), root(0.5 * jnp.minimum(gap, cogap))
    side = jnp.where(cogap < gap, -1.0, 1.0)
    left, right = _places(kinks, xx), side * _places(kinks, yy)
    both = jax.vmap(jax.value_and_grad(fn))

    def row(total, node):
        y, weight = node
        cuts = jnp.concatenate([(left + sine * y) / cosine, (right - sine * y) / cosine, _middle(kinks)])
        x, inner = _panels(cuts, count)
        (a, da), (b, db) = (
            both(root(xx) * (cosine * x - sine * y)),
            both(side * root(yy) * (cosine * x + sine * y)),
        )
        a, b = ratio(a, root(fxx)), ratio(b, root(fyy))
        sums = (0.5 * jnp.sum(inner * (a - b) ** 2), jnp.sum(inner * da * db), 0.5 * jnp.sum(inner * (a + b) ** 2))
        return tuple(old + weight * new for old, new in zip(total, sums, strict=True)), None

    crossings = [ratio(right[j] - left[i], 2 * sine, _REACH) for i, j in _pairs(kinks)]
    start = (jnp.zeros_like(gap),) * 3
    sums, _ = jax.lax.scan(row, start, _panels(jnp.stack([jnp.zeros_like(gap), *crossings]), count))
    return (fxx, fyy, *sums), sxx, syy


def _powers(fn: Callable, kinks: tuple[float, ...], count: int, q: Scalar) -> tuple[Scalar, Scalar]:
    """E[s(sqrt(q) X)^2] and E[s'(sqrt(q) X)^2]."""
    x, weight = _panels(jnp.concatenate([_places(kinks, q), _middle(kinks)]), 2 * count)
    value, slope = jax.vmap(jax.value_and_grad(fn))(root(q) * x)
    return jnp.sum(weight * value**2), jnp.sum(weight * slope**2)


def _places(kinks: tuple[float, ...], q: Scalar) -> Float[Array, " k"]:
    """Where sqrt(q) X meets the kinks, within what can be reached."""
    far = 4 * _REACH
    return jnp.stack([jnp.clip(ratio(kink + 0.0 * q, root(q), far if kink else 0.0), -far, far) for kink in kinks])


def _middle(kinks: tuple[float, ...]) -> Float[Array, " k"]:
    """One more cut at zero, that no interval is long, where no kink is there."""
    return jnp.zeros(0 if 0.0 in kinks else 1)


def _pairs(kinks: tuple[float, ...]) -> list[tuple[int, int]]:
    """The pairs of kinks whose lines may cross away from Y = 0."""
    numbers = range(len(kinks))
    return [(i, j) for i in numbers for j in numbers if kinks[i] or kinks[j]]


def _panels(cuts: Float[Array, " k"], count: int) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Gauss-Legendre nodes of every interval between the cuts, and weights with the normal density in them."""
    t, weight = (jnp.asarray(part) for part in unit_rule(count))
    ends = jnp.sort(jnp.concatenate([jnp.clip(cuts, -_REACH, _REACH), jnp.asarray([-_REACH, _REACH])]))
    width = jnp.diff(ends)[:, None]
    nodes = ends[:-1, None] + width * t[None, :]
    weights = width * weight[None, :] * jnp.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)
    return nodes.ravel(), weights.ravel()
