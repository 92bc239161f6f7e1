"""Claims about layers on images and sequences: finite networks of them come near the kernels of infinite width."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import Apply, Attention, Chain, Conv, Dense, Flatten, GlobalPool, Residual, kernel
from widthwise.numerics import Estimate
from widthwise.operators import flatten

from .setups import FIELD, networks, to_infinity, upper


class Layers(eqx.Module):
    """A network on sequences whose open sizes a width fills, the inputs, and how many networks make one draw."""

    network: Chain
    X: Float[Array, "n p c"]
    width: int = eqx.field(static=True)
    nets: int = eqx.field(static=True, default=60)


def _sequences() -> Float[Array, "2 4 2"]:
    i, p, c = np.indices((2, 4, 2))
    return jnp.asarray(np.sin(1.0 + i + 2 * p + 3 * c + i * p))


def _convolution(padding: str = "SAME", head: type = GlobalPool) -> Chain:
    layers = (Conv(3, 1.5, 0.1, padding=padding), Apply("erf"), Conv(3, 1.5, 0.1, padding=padding), Apply("erf"))
    return Chain((*layers, head(), Dense(size=1)))


def _residual(scale: float = 0.7) -> Chain:
    block = Residual(Chain((Apply("erf"), Dense(1.5, 0.1))), scale)
    return Chain((Dense(1.5, 0.1), block, block, Apply("erf"), Flatten(), Dense(size=1)))


def _attention(weights: str = "softmax", scaling: str = "linear", query: float = 2.0) -> Chain:
    attention = Attention(weights, scaling, query, 1.0, 1.0, 1.0, 0.1)
    return Chain((Conv(1, 1.5, 0.1), attention, Flatten(), Dense(size=1)))


def _setup(network: Callable[[], Chain], width: int, nets: int = 60) -> Layers:
    return Layers(network(), _sequences(), width, nets)


def _predict(case: Layers, network: Callable[[], Chain] | None = None) -> Estimate:
    """The kernel at infinite width; extrapolation leaves what is of the order of (four layers / width)^2."""
    found = kernel(case.network if network is None else network(), case.X)
    value, scale = upper(found.ntk), float(np.max(found.ntk))
    return Estimate(value, scale * (found.error + (4.0 / case.width) ** 2))


@eqx.filter_jit
def _ntks(models: Callable, X: Float[Array, "n p c"]) -> Float[Array, "nets n n"]:
    def one(model):
        vector, rebuild = flatten(model)
        rows = jax.jacrev(lambda vector: jax.vmap(rebuild(vector))(X)[:, 0])(vector)
        return rows @ rows.T

    return eqx.filter_vmap(one)(models)


def _measure(case: Layers, key: Array) -> np.ndarray:
    def at(width: int, key: Array) -> np.ndarray:
        models = networks(_filled(case.network, width), case.X.shape[1:], key, case.nets)
        return upper(np.mean(np.asarray(_ntks(models, case.X)), axis=0))

    return to_infinity(at, case.width, key)


def _filled(network: Chain, width: int) -> Chain:
    """The network with every open size filled in."""

    def filled(leaf):
        open_size = isinstance(leaf, Dense | Conv | Attention) and leaf.size is None
        return replace(leaf, size=width) if open_size else leaf

    return jax.tree.map(filled, network, is_leaf=lambda node: isinstance(node, Dense | Conv | Attention))


CLAIMS = (
    Claim(
        id="KERN-10",
        name="tangent-kernel-of-convolutions",
        statement=r"Convolutional networks have, up to $O(1/n)$ in the mean, the kernel of the recursion "
        r"$\Theta'_{pp'}=K'_{pp'}+C_w\frac1{|P|}\sum_\delta\Theta_{p+\delta,p'+\delta}$, and a global average pooling "
        r"averages it over all pairs of positions.",
        sources=("novak2019bayesian", "arora2019exact"),
        field=FIELD,
        setup=partial(_setup, _convolution, 24),
        predict=_predict,
        measure=_measure,
        relation=Equal(resolution=0.06),
        draws=8,
        mutants=(
            Mutant("no border", {"predict": partial(_predict, network=partial(_convolution, "CIRCULAR"))}),
            Mutant(
                "equal positions alone", {"predict": partial(_predict, network=partial(_convolution, head=Flatten))}
            ),
        ),
    ),
    Claim(
        id="KERN-11",
        name="tangent-kernel-of-residual-branches",
        statement=r"With a branch that ends in weights of its own, $K'=K+\beta^2K_{br}$ and "
        r"$\Theta'=\Theta+\beta^2\Theta_{br}$, up to $O(1/n)$ in the mean.",
        sources=("yang2017meanfield",),
        field=FIELD,
        setup=partial(_setup, _residual, 24),
        predict=_predict,
        measure=_measure,
        relation=Equal(resolution=0.06),
        draws=8,
        mutants=(
            Mutant("scale not squared", {"predict": partial(_predict, network=partial(_residual, 0.7**0.5))}),
            Mutant("no branch", {"predict": partial(_predict, network=partial(_residual, 0.0))}),
        ),
    ),
    Claim(
        id="KERN-13",
        name="tangent-kernel-of-attention",
        statement=r"With $1/d$ scaling and tied queries and keys the attention weights are those of the limit, "
        r"$Z(x)=\mathrm{softmax}(\sigma_{QK}K(x,x))$, and $\Theta'=\sigma_{OV}^2Z\Theta Z'^\top+2(K'-C_b)+C_b$.",
        sources=("hron2020infinite",),
        field=FIELD,
        setup=partial(_setup, _attention, 16, 40),
        predict=_predict,
        measure=_measure,
        relation=Equal(resolution=0.15),
        draws=8,
        mutants=(
            Mutant("uniform attention", {"predict": partial(_predict, network=partial(_attention, query=0.0))}),
            Mutant("no softmax", {"predict": partial(_predict, network=partial(_attention, "identity"))}),
        ),
    ),
)
