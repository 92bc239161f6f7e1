"""Claims about the kernel of the features of a shallow network, and what it tends to."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.measure import empirical_ntk
from widthwise.networks import Apply, Chain, Dense
from widthwise.numerics import Estimate

from ..lazy import Shallow, limit_gram, tangent_gram
from ..lazy.shallow import slopes
from .setups import FIELD, networks, normals, upper
from .shallow_model import kernel_spread, rectifier_kernel
from .shallow_setups import Shallows, is_rectifier, shallows, signs


@eqx.filter_jit
def _mean_gram(case: Shallows, W: Float[Array, "nets m d"]) -> Float[Array, "n n"]:
    scale = 1.0 / math.sqrt(case.width)
    gram = jax.vmap(lambda one: tangent_gram(Shallow(one, signs(case.width), case.activation, scale), case.X))
    return jnp.mean(gram(W), axis=0)


def _random_kernel(case: Shallows, key: Array) -> np.ndarray:
    return upper(_mean_gram(case, normals(key, (case.nets, case.width, case.X.shape[1]))))


def _predict_kernel(case: Shallows, over_inputs=False) -> Estimate:
    found = limit_gram(case.X, case.activation)
    G = np.asarray(case.X @ case.X.T) if over_inputs else 1.0
    return Estimate(upper(found.value / G), float(np.max(found.error)))


@eqx.filter_jit
def _grams(case: Shallows, W: Float[Array, "nets m d"]) -> Float[Array, "nets n n"]:
    def one(weights):
        slope = slopes(Shallow(weights, signs(case.width), case.activation), case.X)
        return (case.X @ case.X.T) * (slope @ slope.T) / case.width

    return jax.vmap(one)(W)


def _spreads(case: Shallows, key: Array) -> np.ndarray:
    r"""$m\,\mathrm{Var}\,k_m$ over many networks."""
    grams = np.asarray(_grams(case, normals(key, (case.nets, case.width, case.X.shape[1]))))
    return upper(case.width * np.var(grams, axis=0, ddof=1))


def _predict_spread(case: Shallows, centred=True) -> Estimate:
    found = kernel_spread(case.X, case.activation)
    value = found.value if centred else found.value + limit_gram(case.X, case.activation).value ** 2
    return Estimate(upper(value), float(np.max(found.error)))


def _predict_single(case: Shallows) -> Estimate:
    return Estimate(_predict_spread(case).value / case.width, 0.0)


def _half_planes(case: Shallows, key: Array) -> np.ndarray:
    """The inner product times the fraction of random half-spaces that contain both inputs."""
    X = np.asarray(case.X)
    active = X @ np.asarray(normals(key, (case.nets * case.width, X.shape[1]))).T > 0
    return upper(X @ X.T * (active.astype(float) @ active.T) / active.shape[1])


def _predict_half_planes(case: Shallows, factor=1.0, outside=False) -> Estimate:
    X = np.asarray(case.X)
    value = 0.5 * X @ X.T - rectifier_kernel(X, X) if outside else factor * rectifier_kernel(X, X)
    return Estimate.rounded(upper(value))


@eqx.filter_jit
def _mean_ntk(models, X: Float[Array, "n d"]) -> Float[Array, "n n"]:
    return jnp.mean(eqx.filter_vmap(lambda model: empirical_ntk(model, X))(models), axis=0)


def _both_layers(case: Shallows, key: Array) -> np.ndarray:
    d = case.X.shape[1]
    network = Chain((Dense(float(d), size=case.width), Apply(case.activation), Dense(1.0, size=1)))
    return upper(_mean_ntk(networks(network, d, key, case.nets), case.X))


def _predict_both_layers(case: Shallows, first=1.0, second=1.0) -> Estimate:
    X = np.asarray(case.X)
    norms = np.linalg.norm(X, axis=1)
    theta = np.arccos(np.clip(X @ X.T / np.outer(norms, norms), -1.0, 1.0))
    features = np.outer(norms, norms) * (np.sin(theta) + (math.pi - theta) * np.cos(theta)) / (2.0 * math.pi)
    # The angle from its cosine has lost half of its digits on the diagonal.
    return Estimate(upper(first * rectifier_kernel(X, X) + second * features), 1e-7)


CLAIMS = (
    Claim(
        id="KERN-37",
        name="kernel-of-random-features",
        statement=r"The kernel of the features of a shallow network is an average over neurons, of mean "
        r"$k(x,x')=x^\top x'\,E[\sigma'(w^\top x)\sigma'(w^\top x')]$ at any width.",
        sources=("jacot2018neural", "bartlett2021deep"),
        field=FIELD,
        setup=shallows,
        predict=_predict_kernel,
        measure=_random_kernel,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("inner product of the inputs lost", {"predict": partial(_predict_kernel, over_inputs=True)}),
            Mutant("probability for slopes", {"predict": _predict_half_planes}),
        ),
    ),
    Claim(
        id="LAZY-15",
        name="spread-of-the-kernel-of-random-features",
        statement=r"$m\,\mathrm{Var}\,k_m(x,x')=(x^\top x')^2\,\mathrm{Var}[\sigma'(w^\top x)\sigma'(w^\top x')]$; for "
        r"a rectifier $(x^\top x')^2p(1-p)$ with $p=\frac{\pi-\theta}{2\pi}$.",
        sources=("bartlett2021deep",),
        field="lazy-training",
        setup=partial(shallows, "relu", width=4, nets=5000),
        predict=_predict_spread,
        measure=_spreads,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("mean not subtracted", {"predict": partial(_predict_spread, centred=False)}),
            Mutant("of the mean over neurons", {"predict": _predict_single}),
        ),
    ),
    Claim(
        id="KERN-38",
        name="kernel-of-a-rectifier-by-geometry",
        statement=r"For a rectifier $k(x,x')=x^\top x'\,\frac{\pi-\theta}{2\pi}$: the probability that a random "
        r"half-space contains both inputs, at any norms.",
        sources=("cho2009kernel", "du2019gradient"),
        field=FIELD,
        setup=partial(shallows, "relu", 0.5, nets=400),
        predict=_predict_half_planes,
        measure=_half_planes,
        relation=Equal(),
        assumptions=(is_rectifier,),
        draws=16,
        mutants=(
            Mutant("pi for 2 pi", {"predict": partial(_predict_half_planes, factor=2.0)}),
            Mutant("the angle for its supplement", {"predict": partial(_predict_half_planes, outside=True)}),
        ),
    ),
    Claim(
        id="LAZY-16",
        name="kernel-of-both-layers-of-a-rectifier-network",
        statement=r"Training the readout too adds $E[\sigma(w^\top x)\sigma(w^\top x')]=\frac{\|x\|\|x'\|}{2\pi}"
        r"(\sin\theta+(\pi-\theta)\cos\theta)$ to $x^\top x'\,\frac{\pi-\theta}{2\pi}$.",
        sources=("cho2009kernel", "jacot2018neural"),
        field="lazy-training",
        setup=partial(shallows, "relu", 0.5, nets=250),
        predict=_predict_both_layers,
        measure=_both_layers,
        relation=Equal(),
        assumptions=(is_rectifier,),
        draws=16,
        mutants=(
            Mutant("the first layer alone", {"predict": partial(_predict_both_layers, second=0.0)}),
            Mutant("the readout alone", {"predict": partial(_predict_both_layers, first=0.0)}),
        ),
    ),
)
