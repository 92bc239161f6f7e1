r"""The largest eigenvalues of a symmetric operator and their eigenvectors, by a block Krylov method.

Legend: A symmetric of size N, b vectors at a time, Q (N, d) an orthonormal basis of what
$v, Av, A^2v, \dots$ span for all of them, $(\theta_i, Qs_i)$ the Ritz pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from widthwise.numerics import Estimate, reject

Blocks = Callable[[Float[np.ndarray, "b N"]], Float[np.ndarray, "b N"]]
_ROUNDINGS = 16


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    r"""Eigenvalues (c,) from the largest on, each with the bound $\|Au - \theta u\|$, and eigenvectors (c, ...).

    ``products``: so many products with A were taken; ``converged``: the bounds are below the tolerance.
    """

    values: Estimate
    vectors: Float[np.ndarray, "c ..."]
    products: int
    converged: bool


def top_eigenpairs(products: Blocks, start: Float[np.ndarray, "b N"], count: int, tolerance: float, most: int):
    r"""Find ``count`` eigenpairs at the top of the spectrum, from a block of b >= count random vectors.

    ``products`` takes and returns blocks (b, N). It ends when every $\|Au-\theta u\|$ is below ``tolerance``
    times the largest eigenvalue, when the space is exhausted, or before more than ``most`` products. Eigenvalues
    of multiplicity up to b are found as often as they occur. Source: musco2015randomized.

    >>> A, start = np.diag([5.0, 5.0, 1.0, 0.0]), np.random.default_rng(0).normal(size=(2, 4))
    >>> found = top_eigenpairs(lambda block: block @ A, start, 2, 1e-10, 100)
    >>> found.values.value.round(10).tolist(), found.converged
    ([5.0, 5.0], True)
    """
    block = _orthonormal(start, 0.0)
    basis, images = np.empty((0, start.shape[1])), np.empty((0, start.shape[1]))
    while True:
        image = np.asarray(products(block))
        ulp = np.finfo(image.dtype).eps
        basis, images = np.concatenate([basis, block]), np.concatenate([images, image])
        _demand_finite(image)
        T = basis @ images.T
        theta, S = np.linalg.eigh(0.5 * (T + T.T))
        theta, S = theta[::-1][:count], S[:, ::-1][:, :count]
        gaps = np.linalg.norm(S.T @ images - theta[:, None] * (S.T @ basis), axis=1)
        scale = float(np.max(np.abs(theta)))
        block = _orthonormal(_rest(image, basis), len(start[0]) * ulp * scale)
        converged = bool(np.all(gaps <= max(tolerance, _ROUNDINGS * ulp) * scale))
        if converged or not len(block) or len(basis) + len(block) > most:
            values = Estimate(theta, gaps + _ROUNDINGS * ulp * scale)
            return Eigenpairs(values, S.T @ basis, len(basis), converged or not len(block))


def _rest(image: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What of a block lies outside the basis; once more for what rounding left of it."""
    for _ in range(2):
        image = image - (image @ basis.T) @ basis
    return image


def _orthonormal(block: np.ndarray, least: float) -> np.ndarray:
    """Orthonormal rows that span those of the block, without directions below ``least``; at most as many as fit."""
    _, sizes, rows = np.linalg.svd(block, full_matrices=False)
    return rows[sizes > least]


def _demand_finite(image: np.ndarray) -> None:
    if not np.all(np.isfinite(image)):
        reject(
            "an operator with a product that is not finite",
            "Eigenvalues need finite products A v",
            "Look for the first overflow in the model or its inputs",
        )
