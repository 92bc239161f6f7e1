r"""The shallow case study at large width: the limiting kernel, the initial risk, and the width that is enough.

Legend: as in ``shallow``; $v \sim N(0, I)$, $\bar K = G\circ E[\sigma'\sigma']$, $\beta$ the Lipschitz
constant of the Jacobian without a factor on the output.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.numerics import Estimate, reject

from .lipschitz import shallow as certified


def limit_gram(X, activation: Activation) -> Estimate:
    r"""$\bar K = G\circ E[\sigma'(v^\top x)\sigma'(v^\top x')]$, the limit of $K/(\gamma^2m)$, with its error.

    The expectation comes from the activation's Gaussian dual. The error of one without a closed form is relative to
    $\sup|\sigma'|^2$ where that is finite: quadrature can miss a narrow slope, and its own values with it.
    """
    X = jnp.asarray(X, dtype=float)
    norms = jnp.linalg.norm(X, axis=1)
    # An input of zero has no direction; its row of G is zero whatever is taken.
    units = X / jnp.where(norms == 0, 1.0, norms)[:, None]

    value, error = _mean_slopes(units, norms**2, activation)
    G = np.asarray(X @ X.T)
    known = activation.closed is not None or not math.isfinite(activation.slope_bound)
    largest = float(jnp.max(value)) if known else activation.slope_bound**2
    return Estimate(G * np.asarray(value), np.abs(G) * np.asarray(error) * largest)


@eqx.filter_jit
def _mean_slopes(units: Float[Array, "n d"], variances: Float[Array, " n"], activation: Activation):
    def pair(u, v, xx, yy):
        gap, cogap = 0.5 * jnp.vdot(u - v, u - v), 0.5 * jnp.vdot(u + v, u + v)
        dual = activation.dual(xx, yy, gap, cogap)
        return dual.slope, dual.error

    row = jax.vmap(pair, in_axes=(None, 0, None, 0))
    return jax.vmap(row, in_axes=(0, None, 0, None))(units, units, variances, variances)


def demand_targets(y: ArrayLike) -> np.ndarray:
    """Targets as numbers, one column of them (n, 1) as (n,); refuses what are no numbers.

    >>> demand_targets([[1], [-1]]).tolist()
    [1.0, -1.0]
    """
    found = np.asarray(y)
    if found.dtype.kind not in "buif":
        reject(
            f"targets y of type {found.dtype}, such as {found.ravel()[:1].tolist()}",
            "Targets are real numbers",
            "Give two classes as -1 and 1",
        )
    return np.asarray(found.ravel() if found.ndim == 2 and found.shape[1] == 1 else found, dtype=float)


def singular_limits(X, activation: Activation) -> Estimate:
    r"""The limits of $\sigma_{min}(J)/(\gamma\sqrt m)$ and $\sigma_{max}(J)/(\gamma\sqrt m)$ for large width.

    They are $\sqrt{\lambda_{min}(\bar K)}$ and $\sqrt{\lambda_{max}(\bar K)}$.
    """
    gram = limit_gram(X, activation)
    ends = np.linalg.eigvalsh(gram.value)[[0, -1]]
    # Weyl: eigenvalues move by at most the norm of the perturbation, here below the Frobenius norm.
    moved = float(np.linalg.norm(gram.error)) + 64 * np.finfo(float).eps * ends[-1]
    roots = np.sqrt(np.maximum(ends, 0.0))
    return Estimate(roots, moved / np.maximum(roots, math.sqrt(moved)))


def mean_square(X, activation: Activation) -> Float[np.ndarray, " n"]:
    r"""$E\,\sigma(v^\top x_i)^2$ over $v \sim N(0, I)$, for each input."""
    variances = jnp.sum(jnp.asarray(X, dtype=float) ** 2, axis=1)
    same, opposite = jnp.zeros_like(variances), jnp.full_like(variances, 2.0)
    return np.asarray(_new_variances(activation, variances, variances, same, opposite))


@eqx.filter_jit
def _new_variances(activation: Activation, *pairs: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.vmap(lambda *pair: activation.dual(*pair).xx)(*pairs)


def mean_initial_risk(X, y, width: int, activation: Activation, alpha=1.0, scale=1.0) -> float:
    r"""The mean over initialisations with symmetric signs of the risk $\tfrac12\|\alpha f(w_0) - y\|^2$.

    $\tfrac12\|y\|^2 + \tfrac{\alpha^2\gamma^2m}2\sum_iE\,\sigma(v^\top x_i)^2$ grows like $\alpha^2mn$, so a large
    alpha alone does not make an uncentred network lazy.

    >>> from widthwise.activations import activation
    >>> round(mean_initial_risk(np.eye(3), np.zeros(3), 50, activation("identity")), 10)
    75.0
    """
    network = (alpha * scale) ** 2 * width * float(np.sum(mean_square(X, activation)))
    return 0.5 * float(np.sum(np.asarray(y) ** 2)) + 0.5 * network


def lazy_width(X, activation: Activation, bound: str = "flattened", theorem: str = "ball") -> float:
    r"""The width beyond which an uncentred shallow network is certified lazy when $\alpha^2mn \gg \|y\|^2$.

    Then alpha cancels. ``"ball"``: $\frac{4\beta^2V}{\lambda_{min}(\bar K)^2}$ from $h \le 1$;
    ``"printed"``: $\frac{576\,\beta^2V\lambda_{max}(\bar K)}{\lambda_{min}(\bar K)^3}$ from the theorem with
    the constant 1152; $V = \sum_iE\,\sigma(v^\top x_i)^2$. Infinite for activations with kinks.

    Raises ``ValueError`` for an unknown theorem. Source: chizat2019lazy, telgarsky2021deep; derived here.
    """
    if theorem not in ("ball", "printed"):
        reject(f"theorem={theorem!r}", "The theorems are 'ball' and 'printed'", "Choose one by name")
    least, largest = np.asarray(singular_limits(X, activation).value) ** 2
    size = certified(X, np.ones(1), activation, 1.0, bound).value ** 2 * float(np.sum(mean_square(X, activation)))
    return 4.0 * size / least**2 if theorem == "ball" else 576.0 * size * largest / least**3
