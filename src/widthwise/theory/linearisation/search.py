r"""How far a map departs from its tangent at the start: sampled in a ball, and sought there by an adversary.

Legend: $f: \mathbb R^p \to \mathbb R^n$, J its Jacobian at $w_0$, $e(\delta) = f(w_0 + \delta) - f(w_0) - J\delta$ the
departure, $\|e(\delta)\|$ the *gap* at $\delta$ (Euclidean over all n outputs), R the radius of the ball of $\delta$.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.numerics import reject


class Found(NamedTuple):
    """The largest gap that a search found, the displacement (p,) that has it, and how much of it may be rounding."""

    gap: float
    displacement: Float[np.ndarray, " p"]
    rounding: float


def departure(f: Callable, w0: ArrayLike, displacement: ArrayLike) -> Float[np.ndarray, " n"]:
    r"""$e(\delta) = f(w_0 + \delta) - f(w_0) - Df(w_0)\,\delta$, in float64; w0 and the displacement are (p,).

    >>> departure(lambda w: w**3, [1.0], [2.0]).tolist()
    [20.0]
    """
    with jax.enable_x64(True):
        w0, delta = jnp.asarray(w0, dtype=float), jnp.asarray(displacement, dtype=float)
        return np.asarray(_departed(f, w0, delta))


def sampled_gaps(f: Callable, w0: ArrayLike, radius: float, key: Array, count: int = 64) -> Float[np.ndarray, " count"]:
    r"""The gaps $\|e(\delta)\|$ at random displacements, uniform in the ball of radius R.

    In p dimensions nearly all of them lie close to the surface of the ball. They say what a typical displacement does,
    which can be far less than the worst. Raises ``ValueError`` as `adversarial_gap`, and for a count below 1.

    >>> gaps = sampled_gaps(lambda w: w**2, [0.0], 0.5, jr.key(0), count=100)
    >>> bool(np.all(gaps <= 0.25)), len(gaps)
    (True, 100)
    """
    w0 = _checked(w0, radius, count=count)
    rng = _generator(key)
    shares = rng.uniform(size=count) ** (1.0 / w0.size)
    with jax.enable_x64(True):
        start = jnp.asarray(w0)
        found = [_departed(f, start, jnp.asarray(radius * share * _direction(rng, w0.size))) for share in shares]
        return np.array([np.linalg.norm(np.asarray(one)) for one in found])


def adversarial_gap(
    f: Callable, w0: ArrayLike, radius: float, key: Array, *, restarts: int = 8, rounds: int = 60
) -> Found:
    r"""Search the ball $\|\delta\| \le R$ for the largest gap $\|e(\delta)\|$, by projected gradient ascent.

    Each restart begins at a random point of the sphere and goes up along the normalised gradient
    $(J_{w_0+\delta} - J)^\top e$, with steps that shrink. Three of four look for the gradient at points nearby, less
    and less far, which finds kinks that the present point has not crossed. What is returned is the largest gap at any
    point that was visited, within R: a lower bound of the supremum, and no more than that.

    Args:
        f: a map (p,) -> (n,), differentiable almost everywhere; as a PyTree it is compiled once.
        w0: the start (p,).
        radius: R, at least 0.

    Raises ``ValueError`` for a start that is no finite vector, a radius that is negative or not finite, counts
    below 1, and a map that is not finite at the points where it begins. Derived here.

    >>> found = adversarial_gap(lambda w: jnp.stack([w[0] ** 2, 2 * w[1] ** 2]), [0.0, 0.0], 0.5, jr.key(0))
    >>> round(found.gap, 6), np.abs(found.displacement).round(3).tolist()
    (0.5, [0.0, 0.5])
    """
    w0 = _checked(w0, radius, restarts=restarts, rounds=rounds)
    noises = np.array([0.0, 0.1, 0.3, w0.size**-0.25])[np.arange(restarts) % 4]
    stays = (np.arange(restarts) % 4 != 2).astype(float)
    rng = _generator(key)
    with jax.enable_x64(True):
        start, found = jnp.asarray(w0), []
        for noise, stay in zip(noises, stays, strict=True):
            numbers = jnp.asarray([radius, noise, stay, rounds])
            found.append(_climb(f, start, jnp.asarray(_direction(rng, w0.size)), numbers))
        gap, delta, size = max(found, key=lambda one: np.nan_to_num(float(one[0]), nan=-1.0))
    if not np.isfinite(float(gap)):
        reject(
            f"a map with the gap {float(gap)} within {radius:.4g} of its start",
            "Its values and derivatives are finite there",
            "Look for the first layer that overflows, or take a smaller radius",
        )
    return Found(float(gap), np.asarray(delta), 64 * 2.0**-52 * float(size))


def _generator(key: Array) -> np.random.Generator:
    """NumPy's generator: for a new shape nothing is compiled."""
    return np.random.default_rng(np.asarray(jr.key_data(key)))


def _direction(rng: np.random.Generator, size: int) -> Float[np.ndarray, " p"]:
    drawn = rng.standard_normal(size)
    return drawn / np.linalg.norm(drawn)


@eqx.filter_jit
def _departed(f: Callable, w0: Array, delta: Array) -> Float[Array, " n"]:
    start, along = jax.jvp(f, (w0,), (delta,))
    return f(w0 + delta) - start - along


@eqx.filter_jit
def _climb(f: Callable, w0: Array, direction: Array, numbers: Array) -> tuple[Array, Array, Array]:
    """The largest gap on the way up, where it is, and the size of the vectors whose difference it is."""
    radius, noise, stay, rounds = numbers
    start, push = jax.linearize(f, w0)

    def square(delta):
        return jnp.sum((f(w0 + delta) - start - push(delta)) ** 2)

    def round_(k, state):
        delta, best, highest = state
        passed = k.astype(float)
        # The entries of one random vector, moved on, do for a new one.
        near = noise * (1.0 - passed / rounds) * math.sqrt(w0.size) * jnp.roll(direction, 7 * k + 1)
        uphill = _unit(jax.grad(square)(delta + radius * near))
        # Where nothing bends, go on outwards.
        uphill = jnp.where(jnp.any(uphill != 0), uphill, _unit(delta))
        length = jnp.where(stay > 0, 1.0 / (1.0 + 0.1 * passed), 1.0)
        delta = _into_ball(stay * delta + radius * length * uphill, radius)
        found = square(delta)
        better = found > highest
        return delta, jnp.where(better, delta, best), jnp.where(better, found, highest)

    first = _into_ball(radius * direction, radius)
    _, best, highest = jax.lax.fori_loop(0, rounds.astype(int), round_, (first, first, square(first)))
    sizes = [jnp.linalg.norm(part) for part in (f(w0 + best), start, push(best))]
    return jnp.sqrt(highest), best, sizes[0] + sizes[1] + sizes[2]


def _unit(v: Array) -> Array:
    norm = jnp.linalg.norm(v)
    return jnp.where(norm > 0, v / jnp.where(norm > 0, norm, 1.0), jnp.zeros_like(v))


def _into_ball(v: Array, radius: Array) -> Array:
    """The nearest point of the ball, inside of it by a few roundings."""
    norm = jnp.linalg.norm(v)
    inside = radius * (1.0 - 8 * 2.0**-52)
    return v * jnp.where(norm > inside, inside / jnp.where(norm > 0, norm, 1.0), 1.0)


def _checked(w0: ArrayLike, radius: float, **counts: int) -> Float[np.ndarray, " p"]:
    w0 = np.asarray(w0, dtype=float)
    if w0.ndim != 1 or not w0.size or not np.all(np.isfinite(w0)):
        reject(
            f"a start of shape {w0.shape}" + ("" if np.all(np.isfinite(w0)) else " with NaN or infinity"),
            "It is a vector (p,) of finite numbers",
            "Flatten the parameters, see operators.flatten",
        )
    demand_radius(radius)
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            reject(f"{name}={count!r}", "It is a whole number of at least 1", f"Leave {name} out for the default")
    return w0


def demand_key(key: Any) -> Array:
    """The key, or that of 0 for none; refuse what is no key."""
    if key is None:
        return jr.key(0)
    if not isinstance(key, Array) or not (key.shape or jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        reject(f"key={key!r}", "A key is one of jax.random", "Give for example key=jax.random.key(0)")
    return key


def demand_radius(radius: Any) -> None:
    """Refuse what is no radius."""
    real = np.ndim(radius) == 0 and np.asarray(radius).dtype.kind in "iuf"
    if not (real and math.isfinite(radius) and radius >= 0):
        reject(
            f"radius={radius!r}",
            "The radius of a ball of parameters is a finite number of at least 0",
            "Give for example the distance that training went, |w - w0|",
        )
