"""What the claims about wide networks share: their setup, their assumptions, and how a width is taken to infinity."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation, activation
from widthwise.measure import covariances_from, hidden_sizes
from widthwise.networks import MLP, AbstractLayer, kernel, sample
from widthwise.numerics import Estimate

from .fluctuations import fluctuations, homogeneous

FIELD = "infinite-width"
_STEEPEST = 1e12  # a factor from 10 to 100 above which a function is taken to outgrow every polynomial


class Case(eqx.Module):
    """A kind of network, the inputs it is looked at on, and how many networks make one draw."""

    mlp: MLP = eqx.field(static=True)
    X: Float[Array, "n d"]
    nets: int = eqx.field(static=True, default=100)

    @property
    def act(self) -> Activation:
        """The activation of the hidden layers."""
        return activation(self.mlp.activation)

    @property
    def mean_square(self) -> float:
        """The mean square of the first input."""
        return float(jnp.mean(self.X[0] ** 2))


def inputs() -> Float[Array, "3 4"]:
    """Three inputs at different angles and of different norms."""
    return jnp.asarray([[1.0, -0.5, 0.8, 0.3], [0.2, 1.1, 0.9, -0.7], [-1.2, 0.1, 0.4, 1.5]])


def one_input() -> Float[Array, "1 4"]:
    """One input of mean square 1."""
    return jnp.ones((1, 4))


def upper(matrix) -> np.ndarray:
    """The entries on and above the diagonal."""
    return np.asarray(matrix)[np.triu_indices(len(matrix))]


def limit(case: Case, which: str = "nngp") -> Estimate:
    """A kernel at infinite width, its entries on and above the diagonal."""
    # The kernel does not depend on the width; without it, networks of all widths share what is compiled.
    found = kernel(case.mlp.at_width(1).network(), case.X)
    matrix = getattr(found, which)
    return Estimate(upper(matrix), found.error * float(np.max(np.abs(matrix))))


def limit_variance(case: Case) -> float:
    """The variance of an output at the first input, at infinite width."""
    return float(fluctuations(case.mlp.network(), case.mean_square).limit.value[-1])


def to_infinity(at: Callable[[int, Array], ArrayLike], width: int, key: Array) -> np.ndarray:
    r"""$2a_{2n} - a_n$: the first correction, of order 1/n, is removed, and one of order $1/n^2$ is left."""
    narrow, wide = jr.split(key)
    return np.asarray(2.0 * np.asarray(at(2 * width, wide)) - np.asarray(at(width, narrow)))


def normals(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normals of NumPy's generator: for a new shape nothing is compiled."""
    return jnp.asarray(_normals(key, shape))


def _normals(key: Array, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    return np.random.default_rng(np.asarray(jr.key_data(key))).standard_normal(shape)


def networks(network: AbstractLayer, in_size: int | tuple[int, ...], key: Array, nets: int) -> Callable:
    """Many networks in the NTK parameterisation, whose parameters are standard normal, stacked in one callable."""
    shape = eqx.filter_eval_shape(lambda key: sample(network, key, in_size), jr.key(0))
    drawn, fixed = eqx.partition(shape, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    leaves, tree = jax.tree.flatten(drawn)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = np.split(_normals(key, (nets, int(ends[-1]))), ends[:-1], axis=1)
    filled = [jnp.asarray(part.reshape(nets, *leaf.shape)) for part, leaf in zip(parts, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, filled), fixed)


@eqx.filter_jit
def outputs(models: Callable, X: Float[Array, "n d"]) -> Float[Array, "nets n k"]:
    """The outputs of many networks at all inputs."""
    return eqx.filter_vmap(lambda model: jax.vmap(model)(X))(models)


def draws(mlp: MLP, X: Float[Array, "n d"], key: Array, nets: int, size: int = 1) -> np.ndarray:
    """The outputs (nets, n, k) of many networks, their weights drawn."""
    return np.asarray(outputs(networks(mlp.network(size), X.shape[1], key, nets), X))


@eqx.filter_jit
def _covariances(network: AbstractLayer, X: Float[Array, "n d"], fresh: Float[Array, "nets n m"]):
    return jax.vmap(lambda one: jnp.stack(covariances_from(network, X, one)))(fresh)


def covariances(network: AbstractLayer, X: Float[Array, "n d"], key: Array, nets: int) -> np.ndarray:
    r"""$\hat K^{(l)}$ of every layer of many networks (nets, L + 1, n, n), no weight drawn."""
    fresh = normals(key, (nets, len(X), sum(hidden_sizes(network))))
    return np.asarray(_covariances(network, X, fresh))


def polynomially_bounded(case: Case) -> str | None:
    """The activation grows no faster than a polynomial."""
    near, far = (np.max(np.abs(np.asarray(case.act(jnp.asarray([-z, z]))))) for z in (10.0, 100.0))
    if np.isfinite(far) and far <= _STEEPEST * max(near, 1.0):
        return None
    return f"the theorem does not apply because {case.act.name} outgrows every polynomial"


def exactly_solvable(case: Case) -> str | None:
    """The activation is positively homogeneous and there are no biases."""
    if case.mlp.variances[1] > 0:
        return "the moments are known exactly only without biases"
    if not homogeneous(case.act):
        return f"the moments are known exactly only for homogeneous activations, and {case.act.name} is not"
    return None


def wide_enough(case: Case) -> str | None:
    """The depth is small against the width, in whose inverse the prediction is an expansion."""
    least = 8 * case.mlp.depth
    if case.mlp.width >= least:
        return None
    return f"the expansion in depth/width does not apply because width = {case.mlp.width} is below 8 depth = {least}"
