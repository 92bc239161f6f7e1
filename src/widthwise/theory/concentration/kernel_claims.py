"""Claims about the two kernels of a shallow network, and about Gram matrices, on networks that are differentiated."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation
from widthwise.claims import AtLeast, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from ..criticality.moments import values_and_slopes
from ..lazy.landscapes import unit_inputs
from .kernels import hidden_kernel, readout_kernel

_ULP = 2.0**-52


class TwoLayers(eqx.Module):
    r"""$f(x) = \frac1{\sqrt N}\sum_ka_k\sigma(w_k\cdot x)$ with both layers trained, and its inputs."""

    W: Float[Array, "m d"]
    a: Float[Array, " m"]
    X: Float[Array, "n d"]
    activation: Activation


def _network(width: int = 12) -> TwoLayers:
    """Readout weights of both signs and of all sizes, so that a lost square shows; more inputs than directions."""
    W = jr.normal(jr.key(1), (width, 3))
    return TwoLayers(W, jnp.linspace(-2.0, 2.5, width), unit_inputs(40, 3), activation("tanh"))


@eqx.filter_jit
def _jacobian(case: TwoLayers):
    def outputs(parameters):
        W, a = parameters
        return case.activation(case.X @ W.T) @ a / math.sqrt(a.size)

    W, a = jax.jacrev(outputs)((case.W, case.a))
    return jnp.concatenate([jnp.reshape(W, (W.shape[0], -1)), a], axis=1)


def _differentiated(case: TwoLayers, key: Array) -> np.ndarray:
    J = np.asarray(_jacobian(case))
    return J @ J.T


def _parts(case: TwoLayers) -> tuple[np.ndarray, np.ndarray]:
    """K1, K2."""
    return hidden_kernel(case.W, case.X, case.activation, case.a), readout_kernel(case.W, case.X, case.activation)


def _rounded(value: np.ndarray, case: TwoLayers) -> Estimate:
    return Estimate.rounded(value, ulps=64.0 + case.a.size)


def _predict_sum(case: TwoLayers) -> Estimate:
    return _rounded(np.add(*_parts(case)), case)


def _predict_readout_alone(case: TwoLayers) -> Estimate:
    return _rounded(_parts(case)[1], case)


def _wrong_squares(case: TwoLayers, first: bool) -> np.ndarray:
    """The hidden kernel with the squared norm of the first layer's weights for the squares, or without the square."""
    weights = np.sum(np.asarray(case.W) ** 2, axis=1) if first else np.asarray(case.a)
    X = np.asarray(case.X)
    slopes = values_and_slopes(case.activation, X @ np.asarray(case.W).T)[1]
    return (X @ X.T) * ((slopes * weights) @ slopes.T) / weights.size


def _predict_wrong_squares(case: TwoLayers, first=True) -> Estimate:
    return _rounded(_wrong_squares(case, first) + _parts(case)[1], case)


def _least_parts(case: TwoLayers, key: Array, hidden=None) -> np.ndarray:
    """The least eigenvalues of what the kernel by differentiation leaves without K1, and without K2."""
    K, (first, second) = _differentiated(case, key), _parts(case)
    first = first if hidden is None else hidden(case)
    return np.array([np.linalg.eigvalsh(K - part)[0] for part in (first, second)])


def _predict_nonnegative(case: TwoLayers, least=0.0) -> Estimate:
    # The subtraction, and the eigenvalues, are right to some ulps of the largest eigenvalue.
    largest = float(np.linalg.norm(np.add(*_parts(case)), 2))
    return Estimate(np.full(2, least * largest), (64 + len(case.X)) * _ULP * largest)


class Columns(eqx.Module):
    """A matrix whose columns span a parallelepiped."""

    B: Float[np.ndarray, "r c"]


def _columns() -> Columns:
    return Columns(np.random.default_rng(3).normal(size=(6, 4)))


def _volume(case: Columns, key: Array) -> float:
    """The product of the heights: of each column over the span of those before it."""
    B, volume = case.B, 1.0
    for j in range(B.shape[1]):
        flat = B[:, :j] @ np.linalg.lstsq(B[:, :j], B[:, j], rcond=None)[0] if j else 0.0
        volume *= float(np.linalg.norm(B[:, j] - flat))
    return volume


def _predict_volume(case: Columns, power=0.5, rows=False) -> Estimate:
    A = case.B @ case.B.T if rows else case.B.T @ case.B
    value = max(float(np.linalg.det(A)), 0.0) ** power
    # The determinant is off by as many ulps as the matrix is ill-conditioned, which costs the root half of it.
    condition = np.linalg.cond(case.B) ** 2
    return Estimate(value, 64 * len(A) * _ULP * float(condition) * value)


def _independent(case: Columns) -> str | None:
    """The columns are independent, far enough from dependence for the digits of the determinant."""
    if case.B.shape[0] >= case.B.shape[1] and np.linalg.cond(case.B) < 1e5:
        return None
    return "the parallelepiped has no volume because columns depend on others, to rounding at least"


def _least_stretch(case: Columns, key: Array) -> float:
    """The least of |Bv|^2 over unit v, by the singular values of B itself."""
    return float(np.linalg.svd(case.B, compute_uv=False)[-1] ** 2)


def _predict_stretch(case: Columns, power: int | None = None) -> Estimate:
    A = case.B.T @ case.B
    others, determinant = len(A) - 1, float(np.linalg.det(A))
    bound = determinant * (max(others, 1) / float(np.trace(A))) ** (others if power is None else power)
    return Estimate(bound, 64 * len(A) * _ULP * float(np.trace(A)))


CLAIMS = (
    Claim(
        id="LAZY-34",
        name="kernel-of-a-simple-network",
        statement=r"The tangent kernel of $\frac1{\sqrt N}\sum_ka_k\sigma(w_k\cdot x)$ is $K_1+K_2$ with $K_1=x\cdot x'"
        r"\frac1N\sum_ka_k^2\,\sigma'(w_k\cdot x)\sigma'(w_k\cdot x')$ and "
        r"$K_2=\frac1N\sum_k\sigma(w_k\cdot x)\sigma(w_k\cdot x')$.",
        sources=("jacot2018neural", "du2019gradient"),
        setup=_network,
        predict=_predict_sum,
        measure=_differentiated,
        relation=Equal(),
        mutants=(
            Mutant("squares of the first layer's weights", {"predict": _predict_wrong_squares}),
            Mutant("square of the readout lost", {"predict": partial(_predict_wrong_squares, first=False)}),
            Mutant("the readout alone", {"predict": _predict_readout_alone}),
        ),
    ),
    Claim(
        id="LAZY-34b",
        name="kernel-of-a-network-is-above-that-of-each-layer",
        statement=r"$K\succeq K_1$ and $K\succeq K_2$, because both kernels are positive semidefinite; not strictly "
        r"where a layer has fewer weights than there are inputs.",
        sources=("jacot2018neural",),
        setup=_network,
        predict=_predict_nonnegative,
        measure=_least_parts,
        relation=AtLeast(),
        mutants=(
            Mutant(
                "square of the readout lost",
                {"measure": partial(_least_parts, hidden=partial(_wrong_squares, first=False))},
            ),
            Mutant(
                "squares of the first layer's weights",
                {"measure": partial(_least_parts, hidden=partial(_wrong_squares, first=True))},
            ),
            Mutant("strictly above", {"predict": partial(_predict_nonnegative, least=1e-6)}),
        ),
    ),
    Claim(
        id="LAZY-37",
        name="gram-determinant-is-a-squared-volume",
        statement=r"$\sqrt{\det B^\top B}$ is the volume of the parallelepiped that the columns of B span.",
        sources=("golub2010matrices",),
        setup=_columns,
        predict=_predict_volume,
        measure=_volume,
        relation=Equal(),
        assumptions=(_independent,),
        mutants=(
            Mutant("rows for columns", {"predict": partial(_predict_volume, rows=True)}),
            Mutant("root lost", {"predict": partial(_predict_volume, power=1.0)}),
        ),
    ),
    Claim(
        id="LAZY-37b",
        name="volume-bounds-the-least-eigenvalue",
        statement=r"$\lambda_{min}(A)\ge\det A\,(\frac{n-1}{\mathrm{tr}A})^{n-1}$ for $A=B^\top B$ with n columns: a "
        r"positive volume makes a Gram matrix positive definite, by a known amount.",
        derived_here=True,
        setup=_columns,
        predict=_predict_stretch,
        measure=_least_stretch,
        relation=AtLeast(),
        assumptions=(_independent,),
        mutants=(Mutant("power lost", {"predict": partial(_predict_stretch, power=1)}),),
    ),
)
