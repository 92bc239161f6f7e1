"""Claims about the eigenvalues of kernels on the sphere."""

from functools import partial

import equinox as eqx
import numpy as np
from jaxtyping import Array

from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.networks import MLP, AbstractLayer, kernel
from widthwise.numerics import Estimate

from .setups import FIELD, normals
from .sphere import SphereSpectrum, multiplicity, sphere_spectrum

_GROUPS = 3
_DEGREES = tuple(float(k) for k in range(16, 257, 16))


class SphereCase(eqx.Module):
    """A network and so many random inputs, uniform on a sphere in so many dimensions."""

    network: AbstractLayer
    dimension: int
    points: int = 128
    kernel: str = "ntk"


def _case() -> SphereCase:
    return SphereCase(MLP(depth=3, activation="relu").network(), 3)


def _spectrum(case: SphereCase, degrees: int) -> SphereSpectrum:
    return sphere_spectrum(case.network, case.dimension, degrees, kernel=case.kernel)


def _mean_eigenvalues(case: SphereCase, key: Array) -> np.ndarray:
    """The largest eigenvalues of K/N, averaged over the multiplicity of each degree, for N to infinity.

    From 2N points and both halves of them: $2a_{2N} - a_N$ is without the correction of order 1/N.
    """
    N, counts = case.points, [int(multiplicity(case.dimension, degree)) for degree in range(_GROUPS)]
    X = np.asarray(normals(key, (2 * N, case.dimension)))
    X = X * np.sqrt(case.dimension) / np.linalg.norm(X, axis=1)[:, None]
    K = getattr(kernel(case.network, X), case.kernel)

    def means(part: slice) -> np.ndarray:
        values = np.linalg.eigvalsh(K[part, part])[::-1] / len(K[part])
        return np.array([np.mean(group) for group in np.split(values, np.cumsum(counts))[:_GROUPS]])

    return 2.0 * means(slice(None)) - 0.5 * (means(slice(N)) + means(slice(N, None)))


def _predict_eigenvalues(case: SphereCase, which: str | None = None, weighted=False) -> Estimate:
    spectrum = _spectrum(SphereCase(case.network, case.dimension, case.points, which or case.kernel), _GROUPS - 1)
    value = spectrum.eigenvalues.value * (spectrum.multiplicities if weighted else 1.0)
    # Extrapolation leaves what is of the order of the squared number of eigenvalues over that of the points.
    rest = (np.sum(spectrum.multiplicities) / case.points) ** 2
    return Estimate(value, spectrum.eigenvalues.error + rest * value)


def _falling(case: SphereCase) -> str | None:
    """The first eigenvalues fall with the degree and are far above the others, so that they can be told apart."""
    values = _spectrum(case, _GROUPS).eigenvalues.value
    if np.all(values[1:] < 0.7 * values[:-1]):
        return None
    return "the degrees cannot be told apart because their eigenvalues do not fall"


def _even_eigenvalues(case: SphereCase, key: Array) -> np.ndarray:
    return _spectrum(case, int(_DEGREES[-1])).eigenvalues.value[np.array(_DEGREES, dtype=int)]


def _predict_decay(case: SphereCase, change=0) -> Estimate:
    decay = _spectrum(case, 0).decay
    assert decay is not None
    # (k + d/2 - 1)^-p (1 + O(1/k^2)): the fit knows 1/k, and 1/k^2 is left.
    return Estimate(-float(decay + change), decay * (case.dimension / _DEGREES[0]) ** 2)


def _singular(case: SphereCase) -> str | None:
    """The kernel is not smooth at equal or opposite inputs."""
    if _spectrum(case, 0).decay is not None:
        return None
    return "the eigenvalues fall faster than any power because the kernel is smooth"


CLAIMS = (
    Claim(
        id="KERN-15",
        name="eigenvalues-on-the-sphere",
        statement=r"The eigenvalues of $K/N$ on N uniform points of a sphere tend to $\mu_k=c_d\int\kappa(\theta)"
        r"P_k(\cos\theta)\sin^{d-2}\theta\,d\theta$, each as often as there are spherical harmonics of degree k.",
        sources=("bietti2019inductive",),
        field=FIELD,
        setup=_case,
        predict=_predict_eigenvalues,
        measure=_mean_eigenvalues,
        relation=Equal(),
        assumptions=(_falling,),
        draws=16,
        mutants=(
            Mutant("times the multiplicity", {"predict": partial(_predict_eigenvalues, weighted=True)}),
            Mutant("NNGP for NTK", {"predict": partial(_predict_eigenvalues, which="nngp")}),
        ),
    ),
    Claim(
        id="KERN-15b",
        name="decay-of-the-eigenvalues-of-a-rectifier-network",
        statement=r"On the sphere in d dimensions the eigenvalues of a rectifier network of any depth fall like "
        r"$k^{-d}$ for the NTK and like $k^{-(d+2)}$ for the NNGP kernel.",
        sources=("bietti2021deep", "bietti2019inductive"),
        field=FIELD,
        setup=_case,
        predict=_predict_decay,
        measure=_even_eigenvalues,
        relation=Scaling(sizes=_DEGREES),
        assumptions=(_singular,),
        mutants=(
            Mutant("the exponent of the NNGP kernel", {"predict": partial(_predict_decay, change=2)}),
            Mutant("one dimension lost", {"predict": partial(_predict_decay, change=-1)}),
        ),
    ),
)
