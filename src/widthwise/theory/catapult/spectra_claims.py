r"""Claims about Hessian products: random traces, and the quadrature of Lanczos.

Legend: H the Hessian, z random signs or Gaussians, v the start of k steps of Lanczos.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.measure import quadrature, tridiagonalise
from widthwise.numerics import Estimate
from widthwise.operators import hessian

from .growth_claims import FIELD


@dataclass(frozen=True)
class Small:
    r"""The network $V\tanh(Ux)$ with 24 weights and its mean cross-entropy on six inputs of three classes."""

    gaussian: bool = False
    vectors: int = 4000
    steps: int = 4

    @property
    def model(self):
        """The network, with weights that are sines and cosines."""
        i, j = jnp.arange(4.0)[:, None], jnp.arange(3.0)[None]
        U, V = jnp.sin(1.1 * (i + 1) + 0.7 * (j + 1)), jnp.cos(0.9 * (j.T + 1) + 1.3 * (i.T + 1))
        return jax.tree_util.Partial(lambda w, x: w[1] @ jnp.tanh(w[0] @ x), (U, V))

    @staticmethod
    def loss(model) -> Float[Array, ""]:
        """The mean cross-entropy."""
        c, k = jnp.repeat(jnp.arange(3), 2), jnp.arange(3.0)[None]
        phase = 2.0 * (jnp.repeat(jnp.arange(3.0), 2) + 1) + 0.31 * (jnp.tile(jnp.arange(2.0), 3) + 1)
        X = jnp.sin(0.5 * (k + 1) + phase[:, None])
        z = jax.vmap(model)(X)
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(6), c])

    @property
    def matrix(self) -> Float[np.ndarray, "24 24"]:
        """The Hessian by differentiating twice, column by column of the identity."""
        return np.asarray(jax.vmap(self.product)(jnp.eye(24)))

    def product(self, v: Float[Array, " 24"]) -> Float[Array, " 24"]:
        """The product with the Hessian, without forming it."""
        made = hessian(self.loss, self.model).mv((v[:12].reshape(4, 3), v[12:].reshape(3, 4)))
        return jnp.concatenate([one.ravel() for one in made])


def dense_hessian(setup: Small) -> Float[np.ndarray, "24 24"]:
    """The Hessian by `jax.hessian` on the vector of weights."""
    apply = setup.model.func

    def loss(w):
        return setup.loss(lambda x: apply((w[:12].reshape(4, 3), w[12:].reshape(3, 4)), x))

    U, V = setup.model.args[0]
    return np.asarray(jax.hessian(loss)(jnp.concatenate([U.ravel(), V.ravel()])))


def _predict_variance(setup: Small, of=None) -> Estimate:
    H = dense_hessian(setup)
    gaussian = setup.gaussian if of is None else of
    variance = 2.0 * (np.sum(H**2) - (0.0 if gaussian else np.sum(np.diag(H) ** 2)))
    return Estimate.rounded(np.array([np.trace(H), variance]))


@partial(jax.jit, static_argnums=0)
def _forms(setup: Small, z: Float[Array, "b 24"]) -> Float[Array, " b"]:
    return jax.vmap(lambda one: one @ setup.product(one))(z)


def _traces(setup: Small, key: Array, halves=False) -> np.ndarray:
    """Mean and variance of $z^\\top Hz$ over many vectors."""
    shape = (setup.vectors, 24)
    z = jr.normal(key, shape) if setup.gaussian else jr.rademacher(key, shape, jnp.float64)
    z = 0.5 * (z + jnp.roll(z, 1, axis=0)) if halves else z
    values = np.asarray(_forms(setup, z))
    return np.array([np.mean(values), np.var(values)])


def _predict_moments(setup: Small) -> Estimate:
    H, v = dense_hessian(setup), np.ones(24)
    moments = [v @ np.linalg.matrix_power(H, power) @ v for power in range(2 * setup.steps)]
    return Estimate(np.array(moments), 1e-10 * np.max(np.abs(moments)))


def _moments(setup: Small, key: Array, fewer=0, even=False) -> np.ndarray:
    rule = quadrature(tridiagonalise(setup.product, jnp.ones(24), setup.steps - fewer))
    weights = np.full_like(rule.weights, np.mean(rule.weights)) if even else rule.weights
    return np.array([rule.nodes**power @ weights for power in range(2 * setup.steps)])


CLAIMS = (
    Claim(
        id="HESS-30",
        name="variance-of-a-random-trace",
        statement=r"$z^\top Hz$ with random signs z has mean $\mathrm{tr}H$ and variance "
        r"$2(\|H\|_F^2-\sum_iH_{ii}^2)$; with Gaussian z it is $2\|H\|_F^2$.",
        sources=("hutchinson1990stochastic",),
        field=FIELD,
        setup=Small,
        predict=_predict_variance,
        measure=_traces,
        relation=Equal(resolution=0.02),
        draws=16,
        mutants=(
            Mutant("the variance of Gaussians", {"predict": partial(_predict_variance, of=True)}),
            Mutant("vectors of another size", {"measure": partial(_traces, halves=True)}),
        ),
    ),
    Claim(
        id="HESS-30b",
        name="lanczos-is-a-gauss-quadrature",
        statement=r"k steps of Lanczos from v give $v^\top p(H)v$ exactly for polynomials p of degree up to $2k-1$.",
        sources=("golub2010matrices",),
        field=FIELD,
        setup=Small,
        predict=_predict_moments,
        measure=_moments,
        relation=Equal(),
        mutants=(
            Mutant("one step less", {"measure": partial(_moments, fewer=1)}),
            Mutant("equal weights", {"measure": partial(_moments, even=True)}),
        ),
    ),
)
