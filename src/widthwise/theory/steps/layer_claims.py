r"""Claims about what each layer adds to the tangent kernel, and by which rates that depends on neither width nor depth.

Legend: $n$ width, L number of hidden layers, $n_0$ inputs, $P^{(l)}$ what arrives at the output from layer l.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.networks import MLP, Chain, Dense, sample
from widthwise.numerics import Estimate
from widthwise.operators import parameters
from widthwise.theory.infinite_width import ntk_by_parameter

from .layers import depth_rates
from .setups import FIELD

WIDTHS = (16, 32, 64, 128)


@dataclass(frozen=True, eq=False)
class Trained:
    """A multilayer perceptron in the standard parameterisation whose biases start at zero, and its inputs X (n, d)."""

    mlp: MLP
    X: Float[np.ndarray, "n d"]
    nets: int = 64

    def network(self, width: int | None = None) -> Chain:
        """The network with trained biases in every layer."""
        layers = self.mlp.at_width(width or self.mlp.width).network().layers
        return Chain(tuple(replace(one, use_bias=True) if isinstance(one, Dense) else one for one in layers))


def _inputs(count: int, dim: int) -> Float[np.ndarray, "n d"]:
    rows = np.random.default_rng(1).normal(size=(count, dim))
    return rows / np.sqrt(np.mean(rows**2, axis=1, keepdims=True))


def _he() -> Trained:
    return Trained(MLP(width=128, depth=3, activation="relu", parameterisation="standard"), _inputs(1, 20), nets=100)


def _draws(network: Chain, in_size: int, nets: int, key: Array) -> list[np.ndarray]:
    """Parameters of so many nets in the order of `parameters`: a weight and a bias for each layer, nets first."""
    rng, fan, found = np.random.default_rng(np.asarray(jr.key_data(key)).tolist()), in_size, []
    for layer in network.layers:
        if isinstance(layer, Dense):
            size = layer.size or 1
            found.append(rng.normal(size=(nets, size, fan)) * (float(layer.weight_variance) / fan) ** 0.5)
            found.append(rng.normal(size=(nets, size)) * float(layer.bias_variance) ** 0.5)
            fan = size
    return found


@eqx.filter_jit
def _gradients(network: Chain, X: Array, leaves: list) -> tuple[Array, ...]:
    """Gradients of the output of each of the nets for each input, (nets, n, numbers) for each array of parameters."""
    _, rebuild = parameters(sample(network, jr.key(0), X.shape[1]))
    slope = jax.grad(lambda leaves, x: rebuild(leaves)(x)[0])
    found = jax.vmap(lambda net: jax.vmap(lambda x: slope(net, x))(X))(tuple(leaves))
    return tuple(part.reshape(*part.shape[:2], -1) for part in found)


def _contributions(case: Trained, key: Array) -> np.ndarray:
    """The squared gradients of weights and biases, layer by layer, for the first input; mean over nets."""
    X, network = jnp.asarray(case.X[:1]), case.network()
    found = _gradients(network, X, _draws(network, X.shape[1], case.nets, key))
    return np.array([float(jnp.mean(jnp.sum(part**2, axis=-1))) for part in found])


def _predict_contributions(case: Trained, fan_in=1.0, halved=True) -> Estimate:
    r"""$n_{l-1}G^{(l-1)}P^{(l)}$ and $P^{(l)}$; at He's initialisation all $G^{(l)} = 1$ and $P^{(l)} = \frac12$."""
    L, n, d = case.mlp.depth, case.mlp.width, case.X.shape[1]
    fans = np.array([d] + [n] * L) ** fan_in
    power = np.array([0.5 if halved else 1.0] * L + [1.0])
    return Estimate(np.stack([fans * power, power], axis=1).ravel(), 0.0)


def _rectifier_at_criticality(case: Trained) -> str | None:
    """He's initialisation of a rectifier network, for which the recursion is solved."""
    if str(case.mlp).find("relu") > 0 and case.mlp.variances == (2.0, 0.0):
        return None
    return f"the contributions are equal only at the critical initialisation of a rectifier; it is {case.mlp}"


@dataclass(frozen=True)
class Deep:
    """A deep tanh network without biases' variance, in which the covariance dies out, at parts of its depth."""

    depth: int = 400
    places: tuple[float, ...] = (0.25, 0.5, 0.75)
    act: str = "tanh"


def _ramp(setup: Deep, key: Array) -> np.ndarray:
    r"""$P^{(l)}$ at the places, the mean of all $P^{(l)}$, and the sum of the weights' parts in the NTK units."""
    case = Trained(MLP(width=64, depth=setup.depth, activation=setup.act, parameterisation="standard"), np.ones((1, 1)))
    shares = ntk_by_parameter(case.network(), case.X)
    P = np.array([share.bias.value.item() for share in shares])
    fans = np.array([1] + [64] * setup.depth)
    weights = np.array([share.weight.value.item() for share in shares]) / fans
    return np.array([*P[[round(place * setup.depth) - 1 for place in setup.places]], np.mean(P[:-1]), np.sum(weights)])


def _predict_ramp(setup: Deep, steady=False) -> Estimate:
    places = np.ones(len(setup.places)) if steady else np.array(setup.places)
    # The corrections are of the order log(L)/L.
    return Estimate(np.array([*places, 1.0 if steady else 0.5, 0.5]), np.log(setup.depth) / setup.depth)


def _odd_and_critical(setup: Deep) -> str | None:
    """The covariance tends to zero like 1/l, as for tanh with C_w = 1."""
    return None if setup.act in ("tanh", "sin") else f"the covariance of {setup.act} does not tend to zero like 1/l"


def _few() -> Trained:
    return Trained(MLP(width=64, depth=3, activation="relu", parameterisation="standard"), _inputs(4, 10), nets=24)


def _top_at(case: Trained, width: int, key: Array, rates: Callable) -> float:
    r"""The mean of $\lambda_{max}(\Theta^\eta)$ over finite nets of a width."""
    X, network = jnp.asarray(case.X), case.network(width)
    found = _gradients(network, X, _draws(network, X.shape[1], case.nets, key))
    flat = [rate for pair in rates(network, X.shape[1]) for rate in pair]
    kernels = [rate * np.asarray(J) @ np.swapaxes(J, 1, 2) for rate, J in zip(flat, found, strict=True)]
    return float(np.mean(np.linalg.eigvalsh(sum(kernels))[:, -1]))


def one_rate(network: Chain, in_size: int) -> list[tuple[float, float]]:
    """Rate 1 for all parameters."""
    return [(1.0, 1.0) for layer in network.layers if isinstance(layer, Dense)]


def root_rates(network: Chain, in_size: int) -> list[tuple[float, float]]:
    """The rates of `depth_rates` with the root of the fan-in."""
    sizes = [in_size, *(layer.size for layer in network.layers if isinstance(layer, Dense))]
    return [(rate * size**0.5, bias) for (rate, bias), size in zip(depth_rates(network, in_size), sizes, strict=False)]


def _tops(case: Trained, key: Array, rates: Callable = one_rate) -> np.ndarray:
    return np.array([_top_at(case, n, one, rates) for n, one in zip(WIDTHS, jr.split(key, len(WIDTHS)), strict=True)])


CLAIMS = (
    Claim(
        id="INIT-35",
        name="contribution-of-every-layer",
        statement=r"In the standard parameterisation the weights of layer l add $n_{l-1}G^{(l-1)}P^{(l)}$ to the "
        r"tangent kernel and its biases $P^{(l)}=\prod_{l'\ge l}C_wD^{(l')}$; at He's initialisation all hidden layers "
        r"of width n add as much, $\frac n2$ and $\frac12$ on the diagonal, the readout n and 1.",
        sources=("sohldickstein2020infinite", "jacot2018neural"),
        field=FIELD,
        derived_here=True,
        setup=_he,
        predict=_predict_contributions,
        measure=_contributions,
        relation=Equal(resolution=0.03),
        assumptions=(_rectifier_at_criticality,),
        draws=16,
        mutants=(
            Mutant("root of the fan-in", {"predict": partial(_predict_contributions, fan_in=0.5)}),
            Mutant("slope of the rectifier forgotten", {"predict": partial(_predict_contributions, halved=False)}),
        ),
    ),
    Claim(
        id="INIT-35b",
        name="contributions-ramp-up-where-the-covariance-dies-out",
        statement=r"Of a deep network with an odd activation whose covariance dies out like $1/l$ (tanh, $C_w=1$, "
        r"$C_b=0$) $P^{(l)}\simeq l/L$: the biases' parts grow towards the output and add up to $L/2$, and the "
        r"weights' parts in the NTK parameterisation add up to $\frac12$ at any depth.",
        field=FIELD,
        derived_here=True,
        setup=Deep,
        predict=_predict_ramp,
        measure=_ramp,
        relation=Equal(resolution=0.03),
        assumptions=(_odd_and_critical,),
        mutants=(Mutant("as much from every layer", {"predict": partial(_predict_ramp, steady=True)}),),
    ),
    Claim(
        id="INIT-36",
        name="curvature-grows-with-the-width",
        statement=r"With one rate for all parameters of the standard parameterisation $\lambda_{max}(\Theta)$ grows "
        r"like the width n, so that the largest stable rate falls like $1/n$.",
        sources=("sohldickstein2020infinite", "bartlett2021deep"),
        field=FIELD,
        setup=_few,
        predict=lambda case: Estimate(1.0, 0.0),
        measure=_tops,
        relation=Scaling(WIDTHS),
        draws=16,
        mutants=(
            Mutant("root of the width", {"predict": lambda case: Estimate(0.5, 0.0)}),
            Mutant("no growth", {"predict": lambda case: Estimate(0.0, 0.0)}),
        ),
    ),
    Claim(
        id="INIT-36b",
        name="rates-by-fan-in-fix-the-curvature",
        statement=r"With $\eta_W^{(l)}=\frac1{(L+1)n_{l-1}}$ and $\eta_b^{(l)}=\frac1{L+1}$ in the standard "
        r"parameterisation $\lambda_{max}(\Theta^\eta)$ depends on the width no longer.",
        sources=("sohldickstein2020infinite", "bartlett2021deep"),
        field=FIELD,
        derived_here=True,
        setup=_few,
        predict=lambda case: Estimate(0.0, 0.0),
        measure=partial(_tops, rates=depth_rates),
        relation=Scaling(WIDTHS),
        draws=16,
        mutants=(Mutant("root of the fan-in in the rate", {"measure": partial(_tops, rates=root_rates)}),),
    ),
)
