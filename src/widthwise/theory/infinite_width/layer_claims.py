"""Claims about layers on sequences: finite networks of growing width come near the kernels of infinite width.

Each family of layers is a few small networks. The mean tangent kernel of each is taken to infinite width, which removes
a correction of order 1/n, and its standard deviation at two widths must fall as their inverse root.
"""

from collections.abc import Callable
from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import (
    AbstractLayer,
    Apply,
    Attention,
    Chain,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    LayerNorm,
    Mix,
    Parallel,
    Pool,
    PositionalEmbedding,
    Residual,
    Resize,
    RMSNorm,
    Scale,
    Slice,
    kernel,
)
from widthwise.numerics import Estimate
from widthwise.operators import flatten

from .setups import FIELD, networks, upper

Family = tuple[Callable[[int], Chain], ...]
_GRAPH = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]) / 2.0


class Layers(eqx.Module):
    """Networks as functions of their width, the inputs they are looked at on, and how many of each make one draw."""

    family: Family = eqx.field(static=True)
    X: Float[Array, "n p c"]
    width: int = eqx.field(static=True, default=24)
    nets: int = eqx.field(static=True, default=400)


def _setup(family: Family, width: int = 24, nets: int = 400) -> Layers:
    i, p, c = np.indices((2, 4, 2))
    return Layers(family, jnp.asarray(np.sin(1.0 + i + 2 * p + 3 * c + i * p)), width, nets)


def _predict(case: Layers, family: Family | None = None) -> Estimate:
    r"""$\Theta/\max\Theta$ of every network, and the exponent -1/2 of its standard deviation.

    Extrapolation leaves what is of the order of (3 layers/width)^2, and the exponent is off by the order of 3/width.
    """
    values, errors = [], []
    for network, wrong in zip(case.family, family or case.family, strict=True):
        found = _kernel(wrong, case.width, _hashable(case))
        values += [*found.value / _largest(case, network), -0.5]
        errors += [float(found.error) + (3.0 / case.width) ** 2] * len(found.value) + [3.0 / case.width]
    return Estimate(np.array(values), np.array(errors))


def _measure(case: Layers, key: Array) -> np.ndarray:
    each = zip(case.family, jr.split(key, len(case.family)), strict=True)
    return np.concatenate([_one(case, network, one) for network, one in each])


def _one(case: Layers, network: Callable[[int], Chain], key: Array) -> np.ndarray:
    means, spreads = zip(
        *(
            _moments(network, width, case.nets, _hashable(case), np.asarray(jr.key_data(one)).tobytes())
            for width, one in zip((case.width, 2 * case.width), jr.split(key), strict=True)
        ),
        strict=True,
    )
    return np.array([*(2.0 * means[1] - means[0]) / _largest(case, network), np.log2(spreads[1] / spreads[0])])


def _largest(case: Layers, network: Callable[[int], Chain]) -> float:
    return float(np.max(_kernel(network, case.width, _hashable(case)).value))


def _hashable(case: Layers) -> tuple:
    X = np.asarray(case.X)
    return X.shape, X.tobytes()


@cache
def _kernel(network: Callable[[int], Chain], width: int, inputs: tuple) -> Estimate:
    """The tangent kernel at infinite width, on and above the diagonal."""
    found = kernel(network(width), np.frombuffer(inputs[1]).reshape(inputs[0]))
    return Estimate(upper(found.ntk), found.error)


@cache  # a mutant that predicts something else is held against the same draws
def _moments(network: Callable[[int], Chain], width: int, nets: int, inputs: tuple, key: bytes):
    """Mean tangent kernel of many networks, on and above the diagonal, and the root of the mean variance."""
    X = jnp.asarray(np.frombuffer(inputs[1]).reshape(inputs[0]))
    models = networks(network(width), X.shape[1:], jr.wrap_key_data(jnp.asarray(np.frombuffer(key, np.uint32))), nets)
    ntks = np.stack([upper(one) for one in np.asarray(_ntks(models, X))])
    return ntks.mean(axis=0), np.sqrt(np.mean(np.var(ntks, axis=0, ddof=1)))


@eqx.filter_jit
def _ntks(models: Callable, X: Float[Array, "n p c"]) -> Float[Array, "nets n n"]:
    drawn, fixed = eqx.partition(models, eqx.is_array)

    def one(drawn):
        vector, rebuild = flatten(eqx.combine(drawn, fixed))
        rows = jax.jacrev(lambda vector: jax.vmap(rebuild(vector))(X)[:, 0])(vector)
        return rows @ rows.T

    return jax.lax.map(one, drawn)  # one after the other: convolutions of many networks at once are slow


def _conv(n: int, **options) -> Conv:
    return Conv(3, 1.5, 0.1, n, **options)


def _convolution(n: int, padding: str = "SAME", head: type = GlobalPool) -> Chain:
    layers = (_conv(n, padding=padding), Apply("erf"), _conv(n, padding=padding), Apply("erf"))
    return Chain((*layers, head(), Dense(size=1)))


def _first(layer: Conv, head: AbstractLayer) -> Chain:
    return Chain((layer, Apply("erf"), head, Dense(size=1)))


def _circular(n: int, padding: str = "CIRCULAR") -> Chain:
    return _first(_conv(n, padding=padding), GlobalPool())


def _strided(n: int, variance: float = 1.5) -> Chain:
    return _first(Conv(2, variance, 0.1, n, strides=2, padding="VALID"), Flatten())


def _transposed(n: int, padding: str = "SAME", variance: float = 2.5) -> Chain:
    return _first(Conv(3, variance, 0.1, n, 2, padding, transposed=True), GlobalPool())


def _local(n: int, shared: bool = False) -> Chain:
    return _first(_conv(n, shared=shared), GlobalPool())


def _before(n: int, layer: AbstractLayer, head: type = Flatten) -> Chain:
    """A network with a layer before an activation."""
    return Chain((_conv(n), layer, Apply("erf"), head(), Dense(size=1)))


def _each(network: Callable, *layers: AbstractLayer) -> Family:
    return tuple(partial(network, layer=layer) for layer in layers)


def _residual(n: int, scale: float = 0.5) -> Chain:
    block = Residual(Chain((Apply("erf"), Dense(1.5, 0.1, n))), scale)
    return Chain((Dense(1.5, 0.1, n), block, Apply("erf"), Flatten(), Dense(size=1)))


def _joined(n: int, join: str) -> Chain:
    branches = Parallel((Conv(3, 1.5, 0.1, n), Conv(1, 0.7, 0.2, n)), join)
    return Chain((branches, Dense(1.5, 0.1, n), Apply("erf"), Flatten(), Dense(size=1)))


def _attention(n: int, weights: str, scaling: str, query: float = 1.0) -> Chain:
    attention = Attention(weights, scaling, query, 1.0, 1.0, 1.0, 0.1, n, n)
    return Chain((Conv(1, 1.5, 0.1, n), attention, Flatten(), Dense(size=1)))


CONVOLUTIONS: Family = (_convolution, _circular, _strided)
OTHERS: Family = (_transposed, _local)
POOLINGS: Family = _each(_before, Pool(2), Pool(2, 1, "VALID", "sum"))
MIXTURES: Family = _each(_before, Mix(_GRAPH), Resize((6,)), Slice(slice(0, 2)))
_pooled = partial(_before, head=GlobalPool)
EMBEDDINGS: Family = _each(_pooled, PositionalEmbedding(0.5, 2.0), PositionalEmbedding(0.5, trained=False))
NORMS: Family = _each(_before, LayerNorm(), RMSNorm())
BRANCHES: Family = (_residual, *(partial(_joined, join=join) for join in ("sum", "concatenate", "product")))
ATTENTIONS: Family = (
    partial(_attention, weights="softmax", scaling="linear"),
    partial(_attention, weights="softmax", scaling="root"),
)


def _mutant(name: str, *family: Callable[[int], Chain]) -> Mutant:
    return Mutant(name, {"predict": partial(_predict, family=family)})


def _claim(item: str, name: str, statement: str, source: str, family: Family, *mutants: Mutant, **options) -> Claim:
    case = {"width": 24, "nets": 400} | options
    rate = r" The mean of finite networks is off by $O(1/n)$, and their standard deviation is $O(n^{-1/2})$."
    return Claim(
        id=item,
        name=name,
        statement=statement + rate,
        sources=(source,),
        field=FIELD,
        setup=partial(_setup, family, **case),
        predict=_predict,
        measure=_measure,
        relation=Equal(resolution=0.3),
        draws=8,
        mutants=mutants,
    )


CLAIMS = (
    _claim(
        "KERN-10",
        "tangent-kernel-of-convolutions",
        r"$\Theta'_{pp'}=K'_{pp'}+C_w\frac1{|P|}\sum_\delta\Theta_{sp+\delta,sp'+\delta}$; a global average pooling "
        r"averages over all pairs of positions, and `Flatten` over equal ones.",
        "novak2019bayesian",
        CONVOLUTIONS,
        _mutant("no border", CONVOLUTIONS[0], partial(_circular, padding="SAME"), CONVOLUTIONS[2]),
        _mutant("equal positions alone", partial(_convolution, head=Flatten), *CONVOLUTIONS[1:]),
        _mutant("sum over the filter", *CONVOLUTIONS[:2], partial(_strided, variance=3.0)),
    ),
    _claim(
        "KERN-10b",
        "transposed-and-locally-connected-convolutions",
        r"A transposed convolution with stride s sees inputs with $s-1$ zeros between them. With weights and "
        r"biases for each position, $K'_{pp'}=\Theta'_{pp'}=0$ for $p\ne p'$, and at equal positions nothing changes.",
        "novak2019bayesian",
        OTHERS,
        _mutant("nothing between the inputs", partial(_transposed, variance=5.0), _local),
        _mutant("shared weights", _transposed, partial(_local, shared=True)),
    ),
    _claim(
        "KERN-10c",
        "tangent-kernel-of-pooling",
        r"A mean over windows averages kernel and tangent kernel over all pairs of positions of two windows, and a sum "
        r"adds them up.",
        "novak2019bayesian",
        POOLINGS,
        _mutant("mean for sum", POOLINGS[0], partial(_before, layer=Pool(2, 1, "VALID"))),
        _mutant("one position of each window", partial(_before, layer=Slice(slice(None, None, 2))), POOLINGS[1]),
    ),
    _claim(
        "KERN-10d",
        "fixed-mixtures-of-positions",
        r"A matrix along the positions, as the edges of a graph, a resizing or a slice are, acts on both sides: "
        r"$K'=MKM^\top$, $\Theta'=M\Theta M^\top$.",
        "novak2019bayesian",
        MIXTURES,
        _mutant("no neighbours", partial(_before, layer=Mix(np.diag(np.diag(_GRAPH)))), *MIXTURES[1:]),
        _mutant("other positions", *MIXTURES[:2], partial(_before, layer=Slice(slice(2, 4)))),
    ),
    _claim(
        "KERN-10e",
        "positional-embeddings",
        r"A Gaussian embedding of the position with covariance R adds R to the covariance of the signals, and to the "
        r"tangent kernel where it is trained.",
        "hron2020infinite",
        EMBEDDINGS,
        _mutant("never trained", partial(_pooled, layer=PositionalEmbedding(0.5, 2.0, False)), EMBEDDINGS[1]),
        _mutant("positions independent", partial(_pooled, layer=PositionalEmbedding(0.5)), EMBEDDINGS[1]),
    ),
    _claim(
        "KERN-11",
        "tangent-kernel-of-branches",
        r"With a branch that ends in weights of its own, $K'=K+\beta^2K_{br}$ and $\Theta'=\Theta+\beta^2\Theta_{br}$. "
        r"Kernels of independent branches are summed, averaged by their channels, or multiplied, "
        r"$\Theta=\Theta_1K_2+K_1\Theta_2$.",
        "yang2017meanfield",
        BRANCHES,
        _mutant("scale not squared", partial(_residual, scale=0.5**0.5), *BRANCHES[1:]),
        _mutant("no branch", partial(_residual, scale=0.0), *BRANCHES[1:]),
        _mutant("sum for concatenation", *BRANCHES[:2], BRANCHES[1], BRANCHES[3]),
        _mutant("sum for product", *BRANCHES[:3], BRANCHES[1]),
    ),
    _claim(
        "KERN-12b",
        "tangent-kernel-of-norms",
        r"A layer norm over Gaussian channels divides $K$ and $\Theta$ by $\sqrt{K_{xx}K_{yy}}$; so does an RMS norm.",
        "ba2016layer",
        NORMS,
        _mutant("no norm", partial(_before, layer=Scale(1.0)), NORMS[1]),
    ),
    _claim(
        "KERN-13",
        "tangent-kernel-of-attention",
        r"With $1/d$ scaling and tied queries and keys the attention weights are those of the limit, "
        r"$Z(x)=\mathrm{softmax}(\sigma_{QK}K(x,x))$, and $\Theta'=\sigma_{OV}^2Z\Theta Z'^\top+2(K'-C_b)+C_b$; with "
        r"$1/\sqrt d$ the logits stay Gaussian, and the weights random.",
        "hron2020infinite",
        ATTENTIONS,
        _mutant(
            "uniform attention", partial(_attention, weights="softmax", scaling="linear", query=0.0), *ATTENTIONS[1:]
        ),
        _mutant("deterministic weights", ATTENTIONS[0], ATTENTIONS[0]),
        _mutant("independent logits", ATTENTIONS[0], partial(ATTENTIONS[1], query=0.0)),
    ),
)
