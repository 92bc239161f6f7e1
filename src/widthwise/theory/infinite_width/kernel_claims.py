"""Claims about the tangent kernel: finite networks come near it, layer by layer, and it depends on few numbers."""

import dataclasses
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation
from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.measure import empirical_ntk
from widthwise.networks import MLP, Affine, Chain, Composed, Dense, compile_profile, kernel
from widthwise.numerics import Estimate

from .by_parameter import ntk_by_parameter
from .normalisation import normalised_covariance
from .setups import (
    FIELD,
    Case,
    exactly_solvable,
    inputs,
    limit,
    networks,
    normals,
    polynomially_bounded,
    to_infinity,
    upper,
    wide_enough,
)

_WIDTHS = (8.0, 16.0, 32.0, 64.0)


def _case(depth: int = 2, nets: int = 150) -> Case:
    mlp = MLP(width=24, depth=depth, activation="erf", weight_variance=1.5, bias_variance=0.1)
    return Case(mlp, inputs(), nets)


@eqx.filter_jit
def _ntks(models: Callable, X: Float[Array, "n d"]) -> Float[Array, "nets n n"]:
    return eqx.filter_vmap(lambda model: empirical_ntk(model, X))(models)


def _drawn_ntks(case: Case, width: int, key: Array) -> np.ndarray:
    network = case.mlp.at_width(width).network()
    return np.asarray(_ntks(networks(network, case.X.shape[1], key, case.nets), case.X))


def _mean_ntk(case: Case, key: Array) -> np.ndarray:
    return to_infinity(lambda width, one: upper(np.mean(_drawn_ntks(case, width, one), axis=0)), case.mlp.width, key)


def _left_over(case: Case, found: Estimate) -> Estimate:
    """Extrapolation leaves what is of the order (depth/width)^2."""
    scale = float(np.max(np.abs(found.value)))
    return Estimate(found.value, found.error + (case.mlp.depth / case.mlp.width) ** 2 * scale)


def _predict_ntk(case: Case) -> Estimate:
    return _left_over(case, limit(case, "ntk"))


def _predict_readout(case: Case) -> Estimate:
    """The part of the last layer, which is the NNGP kernel."""
    return _left_over(case, limit(case, "nngp"))


def _predict_frozen_readout(case: Case) -> Estimate:
    ntk, readout = limit(case, "ntk"), limit(case, "nngp")
    return _left_over(case, Estimate(ntk.value - readout.value, ntk.error))


def _deviations(case: Case, key: Array) -> np.ndarray:
    """The root mean square distance of the empirical NTK from its limit, at each width."""
    ntk = kernel(case.mlp.at_width(1).network(), case.X).ntk
    off = [_drawn_ntks(case, int(width), key) - ntk for width in _WIDTHS]
    return np.array([np.sqrt(np.mean(np.sum(one**2, axis=(1, 2)))) for one in off])


def _predict_rate(case: Case) -> Estimate:
    # The fit has the first correction; the next one, (depth/width)^2, bends the line by that much at most.
    return Estimate(-0.5, (case.mlp.depth / _WIDTHS[0]) ** 2)


@eqx.filter_jit
def _grams(models: Callable, X: Float[Array, "n d"]) -> list[Float[Array, "n n"]]:
    """The mean Gram matrix of the derivatives in each array: of the NTK parameterisation, then of the standard one."""

    def one(model):
        still = jax.tree.map(jnp.zeros_like, model)
        rows = jax.jacrev(lambda weights, shift: _moved(weights, shift, X), argnums=(0, 1))(model, still)
        flat = [leaf.reshape(len(X), -1) for leaf in jax.tree.leaves(rows)]
        return [leaf @ leaf.T for leaf in flat]

    return [jnp.mean(gram, axis=0) for gram in eqx.filter_vmap(one)(models)]


def _moved(model: Composed, shift: Composed, X: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The outputs with the weights and biases themselves shifted."""

    def moved(piece, by):
        if not isinstance(piece, Affine):
            return piece
        weight, bias = piece.weight_scale * piece.weight + by.weight, piece.bias
        return Affine(weight, None if bias is None else piece.bias_scale * bias + by.bias, 1.0, 1.0)

    return jax.vmap(Composed(tuple(map(moved, model.pieces, shift.pieces))))(X)[:, 0]


def _shares(case: Case, key: Array) -> np.ndarray:
    """The parts of the kernel of each array of parameters, in both parameterisations, the standard one over fan-in."""

    def at(width, key):
        models = networks(_biased(case, width), case.X.shape[1], key, case.nets)
        fan_in = [case.X.shape[1], *[width] * case.mlp.depth]
        factors = np.concatenate([np.ones(2 * len(fan_in)), *([1.0 / size, 1.0] for size in fan_in)])
        return np.concatenate(
            [factor * upper(gram) for factor, gram in zip(factors, _grams(models, case.X), strict=True)]
        )

    return to_infinity(at, case.mlp.width, key)


def _biased(case: Case, width: int, parameterisation: str = "ntk") -> Chain:
    """The network with a bias in the readout too, so that all arrays come in pairs."""
    layers = case.mlp.at_width(width).network().layers
    dense = [
        dataclasses.replace(one, parameterisation=parameterisation) if isinstance(one, Dense) else one for one in layers
    ]
    last = Dense(1.0, 0.3, 1, parameterisation)
    return Chain((*dense[:-1], last))


def _predict_shares(case: Case, forget=0.0, raw=1.0) -> Estimate:
    found = []
    for parameterisation in ("ntk", "standard"):
        network = _biased(case, case.mlp.width, parameterisation)
        sizes = [case.X.shape[1], *[case.mlp.width] * case.mlp.depth]
        for size, share in zip(sizes, ntk_by_parameter(network, case.X), strict=True):
            per = size if parameterisation == "standard" else 1.0
            found += [upper(share.weight.value) / per**raw, upper(share.bias.value) * (1.0 - forget)]
    return _left_over(case, Estimate(np.concatenate(found), 1e-12))


def _biases(case: Case) -> str | None:
    """Every layer has a bias, so that all arrays of parameters come in pairs."""
    return None if case.mlp.variances[1] > 0 else "there are no biases whose shares could be seen"


class NormCase(eqx.Module):
    """Two inputs' signals before a norm over so many neurons."""

    activation: Activation
    variances: tuple[float, float]
    rho: float
    epsilon: float
    neurons: int = 8192


def _norm_case() -> NormCase:
    return NormCase(activation("relu"), (1.3, 0.6), 0.4, 0.05)


def _predict_norm(case: NormCase, centred=True, epsilon: float | None = None) -> Estimate:
    found = normalised_covariance(
        case.activation, case.variances, case.rho, case.epsilon if epsilon is None else epsilon, centred=centred
    )
    # A ratio of means over n neurons has a bias of a few 1/n.
    return Estimate(np.asarray(found.value), float(found.error) + 4.0 / case.neurons)


def _predict_unnormalised(case: NormCase) -> Estimate:
    return Estimate(np.asarray(case.rho), 0.0)


def _measure_norm(case: NormCase, key: Array) -> np.ndarray:
    x, y = np.asarray(normals(key, (2, case.neurons)))
    signals = (x, case.rho * x + np.sqrt(1.0 - case.rho**2) * y)
    after = [case.activation(jnp.asarray(np.sqrt(q) * z)) for q, z in zip(case.variances, signals, strict=True)]
    first, second = ((np.asarray(a) - np.mean(a)) / np.sqrt(np.var(a) + case.epsilon) for a in after)
    return np.asarray(np.mean(first * second))


def _sphere_case() -> Case:
    """Inputs of one norm, some of them equal, nearly equal and opposite."""
    X = np.asarray(normals(jax.random.key(5), (12, 4)))
    X = np.concatenate([X, -X[:1], X[:1] + 1e-9, X[1:2]])
    return Case(MLP(depth=3, activation="relu"), jnp.asarray(2 * X / np.linalg.norm(X, axis=1)[:, None]))


def _by_angle(case: Case, key: Array, in_cosine=False, norms=True) -> np.ndarray:
    r"""Both kernels as Chebyshev series in $2\theta/\pi-1$, compiled without looking at the inputs."""
    X, q = np.asarray(case.X), np.array([case.mean_square])
    profile = compile_profile(case.mlp.network(), X.shape[1], q[0], q[0], 1e-10)
    assert profile is not None
    unit = X / np.linalg.norm(X, axis=1)[:, None]
    away, along = (np.linalg.norm(unit[:, None] + sign * unit[None], axis=2) for sign in (-1.0, 1.0))
    theta = 2.0 * np.arctan2(away, along)
    place = -np.cos(theta) if in_cosine else 2.0 * theta / np.pi - 1.0
    levels = profile.own(q)[:, 0] if norms else np.ones(2)
    series = [np.polynomial.chebyshev.chebval(place, part[:, 0, 0]) for part in (profile.nngp, profile.ntk)]
    return np.concatenate([upper(level * part) for level, part in zip(levels, series, strict=True)])


def _predict_pairs(case: Case) -> Estimate:
    K = kernel(case.mlp.network(), case.X, method="pairs")
    value = np.concatenate([upper(K.nngp), upper(K.ntk)])
    # The bound of the compiled kernel, relative to the diagonal.
    return Estimate(value, (K.error + 1e-10) * np.max(value))


def _one_norm(case: Case) -> str | None:
    """All inputs have one norm."""
    norms = np.linalg.norm(np.asarray(case.X), axis=1)
    return None if np.ptp(norms) <= 1e-12 * norms.max() else "the kernels depend on the norms too, which differ here"


def _rescaled(case: Case, key: Array, power=0.0) -> np.ndarray:
    r"""Both kernels of inputs with random norms a, over $ab\,(a/b + b/a)^p/2^p$."""
    factors = np.exp(np.asarray(normals(key, (len(case.X),))))
    K = kernel(case.mlp.network(), factors[:, None] * np.asarray(case.X))
    unequal = 0.5 * (factors[:, None] / factors + factors / factors[:, None])
    norms = np.outer(factors, factors) * unequal**power
    return np.concatenate([upper(K.nngp / norms), upper(K.ntk / norms)])


CLAIMS = (
    Claim(
        id="KERN-8",
        name="mean-tangent-kernel-of-finite-networks",
        statement=r"The empirical NTK of a finite network is, up to $O(1/n)$ in the mean, "
        r"$\Theta^{(1)}=K^{(1)}$, $\Theta^{(l+1)}=K^{(l+1)}+C_wE[\sigma'(u)\sigma'(v)]\,\Theta^{(l)}$.",
        sources=("jacot2018neural", "lee2019wide"),
        field=FIELD,
        setup=_case,
        predict=_predict_ntk,
        measure=_mean_ntk,
        relation=Equal(resolution=0.03),
        assumptions=(polynomially_bounded, wide_enough),
        draws=16,
        mutants=(
            Mutant("the readout does not learn", {"predict": _predict_frozen_readout}),
            Mutant("only the readout learns", {"predict": _predict_readout}),
        ),
    ),
    Claim(
        id="KERN-8b",
        name="fluctuations-of-the-tangent-kernel",
        statement=r"The empirical NTK of one network deviates from its limit by $O(n^{-1/2})$.",
        sources=("jacot2018neural",),
        field=FIELD,
        setup=partial(_case, 1, 60),
        predict=_predict_rate,
        measure=_deviations,
        relation=Scaling(sizes=_WIDTHS),
        assumptions=(polynomially_bounded,),
        draws=16,
        mutants=(
            Mutant("rate 1/n", {"predict": lambda case: Estimate(-1.0, 0.0)}),
            Mutant("no averaging", {"predict": lambda case: Estimate(0.0, 0.0)}),
        ),
    ),
    Claim(
        id="KERN-9",
        name="tangent-kernel-by-layers",
        statement=r"$\Theta=\sum_l(\lambda_b+\lambda_WG^{(l-1)})\prod_{l'\ge l}C_wD^{(l')}$: weights and biases "
        r"of a layer enter with $\lambda_W=C_w$, $\lambda_b=C_b$ in the NTK parameterisation and with "
        r"$\lambda_W=n_{l-1}$, $\lambda_b=1$ in the standard one.",
        sources=("sohldickstein2020infinite", "jacot2018neural"),
        field=FIELD,
        setup=partial(_case, nets=300),
        predict=_predict_shares,
        measure=_shares,
        relation=Equal(resolution=0.03),
        assumptions=(polynomially_bounded, wide_enough, _biases),
        draws=16,
        mutants=(
            Mutant("biases do not learn", {"predict": partial(_predict_shares, forget=1.0)}),
            Mutant("fan-in forgotten", {"predict": partial(_predict_shares, raw=0.0)}),
        ),
    ),
    Claim(
        id="KERN-12",
        name="layer-norm-of-two-inputs",
        statement=r"A layer norm after an activation maps the covariance to "
        r"$(F-m_1m_2)/\sqrt{(F_{11}-m_1^2+\epsilon)(F_{22}-m_2^2+\epsilon)}$, $F=E[\sigma(u)\sigma(v)]$, $m=E\sigma$.",
        sources=("ba2016layer",),
        field=FIELD,
        derived_here=True,
        setup=_norm_case,
        predict=_predict_norm,
        measure=_measure_norm,
        relation=Equal(resolution=0.02),
        draws=16,
        mutants=(
            Mutant("mean not subtracted", {"predict": partial(_predict_norm, centred=False)}),
            Mutant("epsilon lost", {"predict": partial(_predict_norm, epsilon=0.0)}),
            Mutant("activation forgotten", {"predict": _predict_unnormalised}),
        ),
    ),
    Claim(
        id="KERN-14",
        name="kernels-on-a-sphere-are-functions-of-the-angle",
        statement=r"On inputs of one norm the kernels of any network are functions of the angle alone, analytic in it "
        r"even where the activation has a kink: a few Chebyshev coefficients in $\theta$ give all digits.",
        sources=("bietti2021deep",),
        field=FIELD,
        derived_here=True,
        setup=_sphere_case,
        predict=_predict_pairs,
        measure=_by_angle,
        relation=Equal(),
        assumptions=(_one_norm,),
        mutants=(
            Mutant("the cosine for the angle", {"measure": partial(_by_angle, in_cosine=True)}),
            Mutant("norms forgotten", {"measure": partial(_by_angle, norms=False)}),
        ),
    ),
    Claim(
        id="KERN-14b",
        name="homogeneous-networks-multiply-by-the-norms",
        statement=r"With positively homogeneous activations and no biases $K(ax,bx')=ab\,K(x,x')$ and "
        r"$\Theta(ax,bx')=ab\,\Theta(x,x')$ for $a,b>0$.",
        sources=("cho2009kernel", "bietti2019inductive"),
        field=FIELD,
        setup=_sphere_case,
        predict=_predict_pairs,
        measure=_rescaled,
        relation=Equal(),
        assumptions=(exactly_solvable,),
        mutants=(
            Mutant("mean square for product", {"measure": partial(_rescaled, power=1.0)}),
            Mutant("harmonic mean for product", {"measure": partial(_rescaled, power=-1.0)}),
        ),
    ),
)
