r"""What a layer norm makes of two inputs at infinite width.

Legend: $(u, v)$ Gaussian with variances $q_1, q_2$ and correlation $\rho$, the signals of one neuron for two inputs;
$F = E[\sigma(u)\sigma(v)]$, $m_i = E\,\sigma$ and $F_{ii} = E\,\sigma^2$ of each input.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.activations import Activation
from widthwise.numerics import Estimate, reject

from .fluctuations import normal_panels


def normalised_covariance(
    activation: Activation, variances: tuple[float, float], rho: float, epsilon: float = 0.0, *, centred: bool = True
) -> Estimate:
    r"""Predict the covariance of two inputs after $\sigma$ and a layer norm over infinitely many neurons.

    $\frac{F-m_1m_2}{\sqrt{(F_{11}-m_1^2+\epsilon)(F_{22}-m_2^2+\epsilon)}}$: mean and variance over the neurons become
    expectations. ``centred=False`` is the RMS norm, which subtracts no mean. With the identity for $\sigma$ this
    is the norm of a pre-activation, $K\mapsto K/\sqrt{(K_{11}+\epsilon)(K_{22}+\epsilon)}$.

    Args:
        activation: $\sigma$.
        variances: $(q_1, q_2)$, each above 0.
        rho: the correlation, in [-1, 1].
        epsilon: what is added to the variances, at least 0.

    Raises ``ValueError`` outside of these ranges. Source: ba2016layer.

    >>> from widthwise.activations import activation
    >>> round(float(normalised_covariance(activation("relu"), (1.3, 0.6), 0.4).value), 4)
    0.3313
    """
    _check(variances, rho, epsilon)
    with jax.enable_x64(True):
        dual = activation.dual(*(jnp.asarray(float(part)) for part in (*variances, 1.0 - rho, 1.0 + rho)))
        xx, yy, gap, cogap, off = map(float, (dual.xx, dual.yy, dual.gap, dual.cogap, dual.error))
    scale = math.sqrt(xx * yy)
    means = [_mean(activation, q) if centred else 0.0 for q in variances]
    first, second = xx - means[0] ** 2 + epsilon, yy - means[1] ** 2 + epsilon
    F, below = 0.5 * scale * (cogap - gap), math.sqrt(first * second)
    # The difference of the moments loses what they have in common.
    error = (off + 64 * 2.0**-52) * scale / min(first, second, below)
    return Estimate((F - means[0] * means[1]) / below, error)


def _mean(activation: Activation, variance: float) -> float:
    root = float(np.sqrt(variance))
    u, weight = normal_panels(activation.kinks, root, 64)
    with jax.enable_x64(True):
        return float(np.asarray(activation(jnp.asarray(root * u)), dtype=float) @ weight)


def _check(variances: tuple[float, float], rho: float, epsilon: float) -> None:
    if not all(np.isfinite(q) and q > 0 for q in variances):
        reject(f"variances={variances!r}", "Variances are finite numbers above 0", "Give for example (1.0, 1.0)")
    if not -1.0 <= rho <= 1.0:
        reject(f"rho={rho!r}", "A correlation is a number from -1 to 1", "Give for example rho=0.5")
    if not (np.isfinite(epsilon) and epsilon >= 0):
        reject(f"epsilon={epsilon!r}", "epsilon is a finite number of at least 0", "Give for example epsilon=1e-5")
