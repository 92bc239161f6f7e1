r"""What one layer, or many, make of a variance and of the correlation of two inputs.

Legend: $q$ the variance of the pre-activations of both inputs, $\rho$ their correlation, ``gap`` $= 1 - \rho$;
$F(\rho) = E\,\sigma(u)\sigma(v)$ and $D(\rho) = E\,\sigma'(u)\sigma'(v)$ the duals at (q, q, $\rho$). A layer maps
$q' = C_b + C_wF(1)$ and $1 - \rho' = \frac{C_wF(1)}{q'}\left(1 - \frac{F(\rho)}{F(1)}\right)$: the gap keeps its
digits.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as find_activation
from widthwise.numerics import Estimate, reject

from .moments import moments, times

_MOST_TERMS = 2048
_ENOUGH = 1e-10
_EPS = 2.0**-52
_MOST_DEPTH = 1_000_000


@dataclass(frozen=True, eq=False)
class VarianceMap:
    r"""$q \mapsto q' = C_b + C_wm_0(q)$ and its slope $\chi_\parallel$, at the variances q (n,)."""

    activation: Activation
    weight_variance: float
    bias_variance: float
    variances: Float[np.ndarray, " n"]
    mapped: Estimate
    chi_parallel: Estimate


@dataclass(frozen=True, eq=False)
class CorrelationMap:
    r"""$\rho \mapsto \rho'$ at the variance q of both inputs, and its slope, at the correlations (n,).

    ``gap`` is $1 - \rho'$ with all of its digits; the slope is $q\,C_wD(\rho)/q'$, which is $\chi_\perp$ at
    $\rho = 1$ where q
    is kept.
    """

    activation: Activation
    weight_variance: float
    bias_variance: float
    variance: float
    correlations: Float[np.ndarray, " n"]
    gap: Estimate
    slope: Estimate

    @property
    def mapped(self) -> Estimate:
        r"""$\rho'$."""
        return Estimate(1.0 - self.gap.value, self.gap.error)


@dataclass(frozen=True, eq=False)
class Trajectory:
    r"""The exact infinite-width recursion: variances $q^{(l)}$ and gaps $1 - \rho^{(l)}$, l = 1..depth, of two
    inputs."""

    variance: Float[np.ndarray, " depth"]
    gap: Float[np.ndarray, " depth"]

    @property
    def correlation(self) -> Float[np.ndarray, " depth"]:
        r"""$\rho^{(l)}$."""
        return 1.0 - self.gap


def check_variances(weight_variance: ArrayLike, bias_variance: ArrayLike) -> None:
    """Refuse a weight variance that is not above 0 and a bias variance below 0."""
    weight, bias = np.asarray(weight_variance, dtype=float), np.asarray(bias_variance, dtype=float)
    if not np.all(np.isfinite(weight) & (weight > 0)):
        reject(
            f"weight_variance={weight_variance}", "A weight variance is finite and above 0", "Give weight_variance=1.0"
        )
    if not np.all(np.isfinite(bias) & (bias >= 0)):
        reject(f"bias_variance={bias_variance}", "A bias variance is finite and at least 0", "Give bias_variance=0.0")


def variance_map(
    activation: str | Activation | Callable,
    weight_variance: float,
    bias_variance: float = 0.0,
    variances: ArrayLike = 1.0,
) -> VarianceMap:
    r"""Map variances through one layer: $q' = C_b + C_wE_q\sigma^2$.

    Raises ``ValueError`` for what is no activation, for $C_w \le 0$, $C_b < 0$ and variances that are not positive.
    Source: poole2016exponential.

    >>> found = variance_map("relu", 1.5, 0.5, [1.0, 2.0])
    >>> found.mapped.value.round(12), found.chi_parallel.value.round(12)
    (array([1.25, 2.  ]), array([0.75, 0.75]))
    """
    act, q = find_activation(activation), _positive("variances", variances)
    check_variances(weight_variance, bias_variance)
    found = moments(act, q)
    used = times(weight_variance, found.square)
    mapped = Estimate(bias_variance + used.value, used.error + _EPS * (bias_variance + used.value))
    return VarianceMap(act, weight_variance, bias_variance, q, mapped, times(weight_variance, found.growth))


def correlation_map(
    activation: str | Activation | Callable,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    variance: float = 1.0,
    correlations: ArrayLike | None = None,
) -> CorrelationMap:
    r"""Map the correlation of two inputs of the same variance through one layer.

    Args:
        activation: a name, an `Activation` or a function.
        weight_variance: $C_w$, above 0.
        bias_variance: $C_b$, at least 0.
        variance: q of both pre-activations; take the fixed point of `depth_scales` for the map deep in a network.
        correlations: $\rho$ (n,) in [-1, 1]; by default 101 of them.

    Raises ``ValueError`` for what is no activation and for arguments outside of these ranges.
    Sources: poole2016exponential, cho2009kernel.

    >>> found = correlation_map("relu", 2.0, correlations=[-1.0, 0.0, 1.0])
    >>> found.mapped.value.round(9) + 0.0  # 0, 1/pi, 1
    array([0.        , 0.31830989, 1.        ])
    """
    act = find_activation(activation)
    check_variances(weight_variance, bias_variance)
    q = float(_positive("variance", variance)[0])
    rho = np.linspace(-1.0, 1.0, 101) if correlations is None else np.atleast_1d(np.asarray(correlations, dtype=float))
    if rho.ndim != 1 or not np.all(np.abs(rho) <= 1.0):
        reject(f"correlations {correlations!r}", "A correlation lies between -1 and 1", "Give correlations=[0.0, 0.5]")
    power, gap, slope = dual_at(act, np.full(rho.size, q), 1.0 - rho)
    after = bias_variance + weight_variance * power
    share, turn = weight_variance * power / after, q * weight_variance / after
    return CorrelationMap(act, weight_variance, bias_variance, q, rho, times(share, gap), times(turn, slope))


def dual_at(
    act: Activation, q: Float[np.ndarray, " n"], gap: Float[np.ndarray, " n"]
) -> tuple[np.ndarray, Estimate, Estimate]:
    r"""$F(1)$, the gap $1 - F(\rho)/F(1)$ and $D(\rho)$ of pairs of equal variance; the last two as estimates.

    A numerical dual of a smooth activation gets more terms until its error is below 1e-10, or there are 2048.
    """
    with jax.enable_x64(True):
        power, new_gap, slope, error = map(np.asarray, _duals(act)(jnp.asarray(q), jnp.asarray(gap)))
    if act.closed is None and act.smooth and np.max(error) > _ENOUGH and 4 * act.degree <= _MOST_TERMS:
        return dual_at(replace(act, degree=4 * act.degree), q, gap)
    distinct, places = np.unique(q, return_inverse=True)
    return power, Estimate(new_gap, error), Estimate(slope, error * moments(act, distinct).slope.value[places])


@functools.lru_cache(maxsize=64)
def _duals(act: Activation) -> Callable:
    def one(q, gap):
        pair = act.dual(q, q, gap, 2.0 - gap)
        return pair.xx, pair.gap, pair.slope, pair.error

    return jax.jit(jax.vmap(one))


def trajectory(
    activation: str | Activation | Callable,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    depth: int,
    variance: float = 1.0,
    correlation: float = 1.0,
) -> Trajectory:
    r"""Follow two inputs of equal variance through so many layers of infinite width.

    Starts from $q^{(1)}$ = ``variance`` and $\rho^{(1)}$ = ``correlation`` in the first layer; entry l - 1 is layer l.

    Raises ``ValueError`` for what is no activation, a depth below 1, $C_w \le 0$, $C_b < 0$, a variance that is not
    positive and a correlation outside of [-1, 1].
    Sources: poole2016exponential, schoenholz2017deep.

    >>> found = trajectory("tanh", 1.0, depth=100)
    >>> round(float(found.variance[-1]), 12)
    0.005120715666
    """
    act = find_activation(activation)
    check_variances(weight_variance, bias_variance)
    q = float(_positive("variance", variance)[0])
    if not (isinstance(depth, int) and 1 <= depth <= _MOST_DEPTH):
        reject(f"depth={depth!r}", f"A depth is a whole number from 1 to {_MOST_DEPTH:,}", "Give depth=100")
    if not abs(correlation) <= 1.0:
        reject(f"correlation={correlation}", "A correlation lies between -1 and 1", "Give correlation=0.5")
    with jax.enable_x64(True):
        start = (jnp.asarray(q), jnp.asarray(1.0 - float(correlation)))
        variances = (jnp.asarray(float(weight_variance)), jnp.asarray(float(bias_variance)))
        # Without a second input the correlation is not computed at all.
        found = _walk(act, depth - 1, correlation != 1.0)(start, variances)
    return Trajectory(*(np.asarray(part) for part in found))


@functools.lru_cache(maxsize=64)
def _walk(act: Activation, steps: int, two: bool) -> Callable:
    def layer(state: tuple[Array, Array], variances: tuple[Array, Array]) -> tuple[Array, Array]:
        (q, gap), (weight, bias) = state, variances
        dual = act.dual(q, q, gap, 2.0 - gap)
        after = bias + weight * dual.xx
        return after, weight * dual.xx / after * dual.gap if two else gap

    def walk(start, variances):
        def step(state, _):
            after = layer(state, variances)
            return after, after

        _, path = jax.lax.scan(step, start, None, length=steps)
        return tuple(jnp.concatenate([first[None], rest]) for first, rest in zip(start, path, strict=True))

    return jax.jit(walk)


def _positive(name: str, values: ArrayLike) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=float))
    if array.ndim != 1 or not np.all(np.isfinite(array) & (array > 0.0)):
        reject(
            f"{name}={values!r}",
            "A variance is finite and above 0",
            f"Give {name}={'1.0' if name == 'variance' else '[1.0]'}",
        )
    return array
