r"""Functions of a user: whether they can be activations, and where they have kinks.

Legend: $s^{(m)}$ the derivatives by automatic differentiation, m = 0..3. In every interval of a fine
grid, and for every m, the half is followed in which $s^{(m)}$ changes by more than its slope
explains; where a change is left when the interval has shrunk to rounding, $s^{(m)}$ jumps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.numerics import reject

_SPAN = 10.0  # functions are checked on [-10, 10]
_SEARCH, _INTERVALS = 32.0, 4096  # and searched for kinks on [-32, 32]
_HALVINGS = 46  # 64 / 4096 / 2**46 is below rounding at every place but zero
_JUMP = 1e-6  # a smaller jump, relative to the derivative, is rounding

_WRITE = "Write it with jax.numpy for arrays of any shape: jnp.tanh for math.tanh and np.tanh, jnp.where for if"


def check_elementwise(name: str, fn: Callable) -> None:
    """Refuse a function that is not elementwise, real and finite on [-10, 10], in values and slopes."""
    z = jnp.asarray(_SPAN / 200 * np.arange(-200, 201))  # zero is one of them
    values = _attempt(name, fn, z)
    if getattr(values, "shape", None) != z.shape:
        came = f"shape {values.shape}" if hasattr(values, "shape") else f"a {type(values).__name__}"
        reject(f"function {name}, which makes {came} of shape {z.shape}", "An activation keeps the shape", _WRITE)
    if values.dtype != z.dtype:
        reject(
            f"function {name}, which makes {values.dtype} of {z.dtype}",
            "An activation is real and keeps the type of its argument",
            "Return floating-point numbers of the type that came, for example with .astype(z.dtype)",
        )
    alone = _attempt(name, jax.vmap(fn), z)
    if not np.allclose(alone, values, rtol=1e-12, atol=1e-12, equal_nan=True):
        reject(
            f"function {name}, whose value at one number depends on the others",
            "An activation acts on every number alone",
            "Make softmax, normalisation and pooling layers of their own",
        )
    _demand_finite(name, "value", z, values)
    _demand_finite(name, "slope", z, _attempt(name, jax.vmap(jax.grad(fn)), z))


def _attempt(name: str, fn: Callable, z: Float[Array, " n"]) -> Any:
    """The values under jit, as the library calls the function; whatever it raises is explained."""
    try:
        return jax.jit(fn)(z)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        reject_from(error, f"function {name}, which fails on an array ({first[:120]})")


def reject_from(error: Exception, came: str) -> None:
    """Refuse, with what was raised as the cause."""
    try:
        reject(came, "An activation is a function of one array", _WRITE)
    except ValueError as refusal:
        raise refusal from error


def _demand_finite(name: str, what: str, z: Array, values: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(values)))
    if len(bad):
        at = float(z[bad[0]])
        reject(
            f"function {name} with {what} {float(values[bad[0]])} at {at:g}",
            f"An activation and its slope are finite between {-_SPAN:g} and {_SPAN:g}",
            "Guard the argument as well as the result: jnp.where(ok, f(jnp.where(ok, z, 1.0)), other)",
        )


@np.errstate(over="ignore", invalid="ignore")  # what overflows far out has no kinks there
def find_kinks(fn: Callable) -> tuple[float, ...]:
    """Where the function or one of its first three derivatives jumps, between -32 and 32.

    Two kinks closer than 1/64 count as one, and jumps below a millionth of the derivative are not seen.

    >>> with jax.enable_x64(True):
    ...     find_kinks(lambda z: jnp.clip(z, -1.0, 2.5))
    (-1.0, 2.5)
    """
    derivatives = _derivatives(fn)
    # No grid point falls on a round number.
    grid = np.linspace(-_SEARCH, _SEARCH, _INTERVALS + 1) + 1e-3 / np.pi
    left, right = np.tile(grid[:-1], (4, 1)), np.tile(grid[1:], (4, 1))
    for _ in range(_HALVINGS):
        middle = 0.5 * (left + right)
        at = [derivatives(place) for place in (left, middle, right)]
        first = _excess(left, middle, *at[:2]) > _excess(middle, right, *at[1:])
        left, right = np.where(first, left, middle), np.where(first, middle, right)
    below, above = (np.diagonal(derivatives(place), axis1=0, axis2=1).T for place in (left, right))
    jumps = np.abs(above - below) > _JUMP * np.maximum(1.0, np.maximum(np.abs(below), np.abs(above)))
    return _distinct(0.5 * (left + right)[jumps])


def _derivatives(fn: Callable) -> Callable:
    """A function z (4, n) -> s^(m)(z) as (m, 4, n), on whole arrays."""
    chain = [fn]
    for _ in range(3):
        chain.append(jax.grad(chain[-1]))
    compiled = jax.jit(jax.vmap(lambda z: jnp.stack([f(z) for f in chain]), out_axes=1))
    return lambda z: np.asarray(compiled(jnp.asarray(z.ravel()))).reshape(4, *z.shape)


def _excess(a: np.ndarray, b: np.ndarray, at_a: np.ndarray, at_b: np.ndarray) -> np.ndarray:
    """By how much s^(m) changes from a to b beyond its mean slope there; row m follows the derivative m."""
    rows = np.arange(4)
    change = at_b[rows, rows] - at_a[rows, rows]
    above = np.minimum(rows + 1, 3)
    slope = 0.5 * (at_a[above, rows] + at_b[above, rows]) * (rows < 3)[:, None]
    return np.nan_to_num(np.abs(change - (b - a) * slope), nan=0.0, posinf=0.0)


def _distinct(places: np.ndarray) -> tuple[float, ...]:
    """Sorted, each once, with the rounding of the search removed."""
    found: list[float] = []
    for place in np.sort(places):
        short = float(np.round(place, 12)) + 0.0
        exact = short if abs(short - place) < 1e-13 else float(place)
        if not found or exact - found[-1] > 1e-9:
            found.append(exact)
    return tuple(found)
