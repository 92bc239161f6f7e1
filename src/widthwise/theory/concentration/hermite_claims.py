"""Claims about the Hermite series of limit kernels, on networks that are drawn and on kernels from the dual."""

import math
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.special import comb

from widthwise.activations import Activation, activation, polynomial
from widthwise.claims import AtLeast, Claim, Equal, Mutant
from widthwise.numerics import Estimate, spectrum

from .alignment import align
from .expansion import Expansion, expand, hermite_coefficients
from .kernels import limit_kernel, readout_kernel
from .structure import structure

_NEURONS, _DEGREE = 20_000, 12


class Inputs(eqx.Module):
    """Inputs, an activation, and how many neurons make one draw."""

    X: Float[np.ndarray, "n d"]
    activation: Activation
    neurons: int = _NEURONS

    def draw(self, key: Array) -> np.ndarray:
        """The readout kernel of one network."""
        rng = np.random.default_rng(np.asarray(jr.key_data(key)))
        return readout_kernel(rng.normal(size=(self.neurons, self.X.shape[1])), self.X, self.activation)


def _shifted(z):
    return jnp.tanh(z + 0.5)


def on_circle(angles=(0.0, 0.6, 1.2, 1.9, 2.5), name: str = "relu") -> Inputs:
    """Unit inputs at these angles."""
    return Inputs(np.stack([np.cos(angles), np.sin(angles)], axis=1), activation(name))


def _three() -> Inputs:
    """An activation with even and odd coefficients, on inputs at an acute, an obtuse and a small angle."""
    return Inputs(on_circle((0.0, 0.3, 1.9)).X, activation(_shifted, name="tanh(z + 0.5)"))


def _upper(K: np.ndarray) -> np.ndarray:
    return K[np.triu_indices(len(K))]


def _drawn(case: Inputs, key: Array) -> np.ndarray:
    return _upper(case.draw(key))


def _powers(case: Inputs, scale=1.0, normalised=True, power=2) -> Estimate:
    """The series with coefficients of another weight, of other polynomials, or to another power."""
    found = hermite_coefficients(case.activation, 40, scale)
    weights = np.abs(found.value) ** power
    if not normalised:
        weights = weights * np.array([float(math.factorial(k)) for k in range(41)])
    cosines = np.clip(case.X @ case.X.T, -1.0, 1.0)
    left = float(np.max(np.abs(found.value[-3:]))) ** 2 * 41  # what is left falls faster than this
    return Estimate(_upper(sum((w * cosines**k for k, w in enumerate(weights)), 0.0 * cosines)), left + 1e-12)


def _unit(case: Inputs) -> str | None:
    """The inputs have norm 1."""
    off = np.max(np.abs(np.linalg.norm(case.X, axis=1) - 1.0))
    return None if off < 1e-12 else "the coefficients differ between inputs because their norms are not 1"


def _coefficients(act: Activation, key: Array) -> np.ndarray:
    return hermite_coefficients(act, _DEGREE).value ** 2


def rectifier_squares(degree: int, shift: int = 3, all_degrees: bool = False) -> np.ndarray:
    r"""$\sigma_k^2$ of the rectifier: $\frac1{2\pi}, \frac14, \frac{((k-3)!!)^2}{2\pi k!}$ for even k, else 0."""
    k = np.arange(2, degree + 1)
    doubles = np.array([math.prod(range(one - shift, 0, -2)) for one in k.tolist()], dtype=float)
    tail = doubles**2 / (2.0 * math.pi * np.array([math.factorial(one) for one in k.tolist()], dtype=float))
    even = np.where((k % 2 == 0) | all_degrees, tail, 0.0)
    return np.concatenate([[1.0 / (2.0 * math.pi), 0.25], even])[: degree + 1]


def _predict_coefficients(act: Activation, shift=3, all_degrees=False) -> Estimate:
    return Estimate(rectifier_squares(_DEGREE, shift, all_degrees), 1e-14)


def _series(case: Inputs) -> Expansion:
    return expand(case.X, case.activation)


def _predict_bounds(case: Inputs) -> Estimate:
    series = _series(case)
    return Estimate(np.array([series.gershgorin(), series.termwise(), series.truncated()]), 0.0)


def _predict_careless(case: Inputs, power=2, largest=False) -> Estimate:
    """Discs with another power of the coefficients, or with the largest entry for the sum over a row."""
    weights = np.abs(hermite_coefficients(case.activation, 128).value) ** power
    away = np.abs(case.X @ case.X.T) * (1.0 - np.eye(len(case.X)))
    rows = [np.max(away**k) if largest else np.max(np.sum(away**k, axis=1)) for k in range(len(weights))]
    return Estimate(np.full(3, float(np.sum(weights * np.maximum(1.0 - np.array(rows), 0.0)))), 0.0)


def _smallest(case: Inputs, key: Array) -> np.ndarray:
    return np.full(3, np.linalg.eigvalsh(limit_kernel(case.X, case.activation).value)[0])


def opposite(name: str = "tanh") -> Inputs:
    """A pair of opposite inputs, and a third."""
    return Inputs(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), activation(name), 500)


def _not_odd() -> Inputs:
    return Inputs(opposite().X, activation(_shifted, name="tanh(z + 0.5)"), 500)


def _smallest_drawn(case: Inputs, key: Array) -> float:
    return float(np.linalg.eigvalsh(case.draw(key))[0])


def _predict_singular(case: Inputs) -> Estimate:
    # Some ulps of the largest eigenvalue, to which no input of norm r gives more than sigma(8 r)^2.
    far = 8.0 * float(np.max(np.linalg.norm(case.X, axis=1)))
    largest = float(np.max(np.abs(np.asarray(case.activation(jnp.asarray([-far, far]))))))
    return Estimate(0.0, 64 * 2.0**-52 * len(case.X) * max(largest, 1.0) ** 2)


def _parity_and_opposites(case: Inputs) -> str | None:
    """The activation is odd or even, and two inputs are opposite."""
    if not align(case.X).antipodal:
        return "nothing makes the kernel singular because no two inputs are opposite"
    if structure(case.activation).parity:
        return None
    return f"opposite inputs do no harm because {case.activation.name} is neither odd nor even"


def _polynomial() -> Inputs:
    X = np.random.default_rng(2).normal(size=(24, 3))
    return Inputs(X / np.linalg.norm(X, axis=1)[:, None], polynomial([0.3, 1.0, 0.5, 0.2]), 400)


def _rank(case: Inputs, key: Array) -> int:
    return spectrum(case.draw(key)).rank


def _predict_rank(case: Inputs, shift=-1, both=True) -> Estimate:
    kind, d = structure(case.activation), case.X.shape[1]
    degrees = [degree for degree in (kind.even, kind.odd) if degree is not None]
    degrees = degrees if both else [max(degrees)]
    return Estimate(float(sum(comb(d + k + shift, k, exact=True) for k in degrees)), 0.0)


def _polynomial_on_many(case: Inputs) -> str | None:
    """The activation is a polynomial with an even and an odd part, and there are more inputs than it spans."""
    if not structure(case.activation).polynomial:
        return f"the rank is not limited because {case.activation.name} is no polynomial"
    spanned = int(_predict_rank(case).value)
    return None if len(case.X) > spanned else f"the rank does not show because there are {len(case.X)} inputs"


CLAIMS = (
    Claim(
        id="LAZY-38",
        name="limit-kernel-is-a-power-series",
        statement=r"For unit inputs $E\,\sigma(w\cdot x)\sigma(w\cdot x')=\sum_k\sigma_k^2(x\cdot x')^k$ with "
        r"$\sigma_k=E\,\sigma(z)\frac{He_k(z)}{\sqrt{k!}}$, $z\sim N(0,1)$.",
        sources=("daniely2016toward",),
        setup=_three,
        predict=_powers,
        measure=_drawn,
        relation=Equal(),
        assumptions=(_unit,),
        draws=24,
        mutants=(
            Mutant("polynomials not normalised", {"predict": partial(_powers, normalised=False)}),
            Mutant("the weight of physicists", {"predict": partial(_powers, scale=math.sqrt(0.5))}),
            Mutant("square of the coefficients lost", {"predict": partial(_powers, power=1)}),
        ),
    ),
    Claim(
        id="LAZY-38b",
        name="hermite-coefficients-of-the-rectifier",
        statement=r"The rectifier has $\sigma_k^2=\frac1{2\pi},\frac14$ and $\frac{((k-3)!!)^2}{2\pi k!}$ for even "
        r"$k\ge2$, and none of the odd degrees from 3 on.",
        sources=("daniely2016toward", "cho2009kernel"),
        setup=partial(activation, "relu"),
        predict=_predict_coefficients,
        measure=_coefficients,
        relation=Equal(),
        mutants=(
            Mutant("double factorial of k - 1", {"predict": partial(_predict_coefficients, shift=1)}),
            Mutant("no coefficient vanishes", {"predict": partial(_predict_coefficients, all_degrees=True)}),
        ),
    ),
    Claim(
        id="LAZY-38c",
        name="hermite-series-bounds-the-least-eigenvalue",
        statement=r"$\lambda_{min}(EK)$ is at least $\sum_k\sigma_k^2(1-\max_i\sum_{j\ne i}|G_{ij}|^k)_+$, at least "
        r"$\sum_k\sigma_k^2\lambda_{min}(G^{\circ k})$, and at least that of any part of the series.",
        sources=("daniely2016toward", "du2019gradient"),
        derived_here=True,
        setup=on_circle,
        predict=_predict_bounds,
        measure=_smallest,
        relation=AtLeast(),
        assumptions=(_unit,),
        mutants=(
            Mutant("square of the coefficients lost", {"predict": partial(_predict_careless, power=1)}),
            Mutant("largest entry for the sum over a row", {"predict": partial(_predict_careless, largest=True)}),
        ),
    ),
    Claim(
        id="LAZY-38d",
        name="opposite-inputs-make-odd-activations-singular",
        statement=r"An odd or even activation has a singular readout kernel, at every width, on inputs of which two "
        r"are opposite: that inputs are distinct is not enough.",
        sources=("du2019gradient",),
        derived_here=True,
        setup=opposite,
        predict=_predict_singular,
        measure=_smallest_drawn,
        relation=Equal(scale=0.1),
        assumptions=(_parity_and_opposites,),
        mutants=(
            Mutant("for a shifted activation", {"setup": _not_odd, "assumptions": ()}),
            Mutant("for distinct inputs in general", {"setup": partial(on_circle, name="tanh"), "assumptions": ()}),
        ),
    ),
    Claim(
        id="LAZY-38e",
        name="rank-of-the-kernel-of-a-polynomial",
        statement=r"The readout kernel of a polynomial with even part of degree p and odd part of degree q has rank "
        r"$\binom{d+p-1}p+\binom{d+q-1}q$ on many unit inputs in general position.",
        sources=("daniely2016toward",),
        derived_here=True,
        setup=_polynomial,
        predict=_predict_rank,
        measure=_rank,
        relation=Equal(),
        assumptions=(_unit, _polynomial_on_many),
        draws=2,
        mutants=(
            Mutant("all powers up to the degree", {"predict": partial(_predict_rank, shift=0)}),
            Mutant("one part alone", {"predict": partial(_predict_rank, both=False)}),
        ),
    ),
)
