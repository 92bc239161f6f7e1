"""Claims about how fast the kernel of a finite network approaches its limit, on networks that are drawn."""

import functools
import math
from functools import partial

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation
from widthwise.claims import AtLeast, AtMost, Claim, Mutant, Scaling
from widthwise.numerics import Estimate

from .bernstein import Bernstein, bernstein
from .deviation import difference, matrix_variance, mean_kernel, norm, summand_bound

_WIDTHS = (200.0, 800.0, 3200.0, 12800.0)
_COUNTS = (24.0, 48.0, 96.0, 192.0)
_FAILURE = 1e-6


class Features(eqx.Module):
    """Inputs, the activation, the width of the networks, and which of their kernels is looked at."""

    X: Float[np.ndarray, "n d"]
    activation: Activation
    width: int
    kernel: str = eqx.field(static=True, default="readout")

    def mean(self) -> np.ndarray:
        """The limit."""
        return _mean(self.X.tobytes(), self.X.shape, self.activation, self.kernel)

    def bounded(self, size: float | None = None) -> Bernstein:
        """Matrix Bernstein from the bound on a summand, and the variance that follows from it."""
        size = summand_bound(self.activation, self.X, self.kernel) if size is None else size
        return bernstein(size * norm(self.mean()) / self.width, size / self.width, (len(self.X), len(self.X)))

    def variance(self) -> Estimate:
        """The exact matrix variance, sampled."""
        rng = np.random.default_rng(17)
        return matrix_variance(rng, self.activation, self.X, self.width, self.mean(), self.kernel)


@functools.lru_cache(maxsize=16)
def _mean(X: bytes, shape: tuple[int, int], activation: Activation, kernel: str) -> np.ndarray:
    """The limit kernel, once for the draws of a claim."""
    return np.asarray(mean_kernel(np.frombuffer(X).reshape(shape), activation, kernel).value)


def _features(name: str = "tanh", count: int = 15, dim: int = 20, width: int = 12800, **fields) -> Features:
    return Features(_units(count, dim), activation(name), width, **fields)


def _units(count: int, dim: int, shift: float = 0.0) -> Float[np.ndarray, "n d"]:
    """Unit vectors, around the first axis where there is a shift."""
    rows = np.random.default_rng(0).normal(size=(count, dim))
    rows = rows / np.linalg.norm(rows, axis=1)[:, None] + shift * np.eye(dim)[0]
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def _correlated() -> Features:
    """Inputs around one direction, whose Gram matrix has a norm of the order of their number."""
    return Features(_units(200, 20, shift=2.0), activation("relu"), 80, "hidden")


def _difference(case: Features, key: Array) -> np.ndarray:
    rng = np.random.default_rng(np.asarray(jr.key_data(key)))
    return difference(rng, case.activation, case.X, case.width, case.mean(), case.kernel)


def _distance(case: Features, key: Array) -> float:
    return norm(_difference(case, key))


def _twice(case: Features, key: Array) -> np.ndarray:
    return np.full(2, _distance(case, key))


def _predict_radii(case: Features) -> Estimate:
    bound, variance = case.bounded(), case.variance()
    exact = Bernstein(float(variance.value), bound.bound, bound.dimension)
    slope = math.log(bound.dimension / _FAILURE) / exact.radius(_FAILURE)
    error = np.array([0.0, 5.0 * float(variance.error) * slope])
    return Estimate(np.array([bound.radius(_FAILURE), exact.radius(_FAILURE)]), error)


def _predict_printed(case: Features) -> Estimate:
    return Estimate(np.full(2, math.sqrt(len(case.X) / case.width)), 0.0)


def _predict_without_variance(case: Features) -> Estimate:
    bound = case.bounded()
    return Estimate(np.full(2, bernstein(0.0, bound.bound, (len(case.X), len(case.X))).radius(_FAILURE)), 0.0)


def _bounded(case: Features) -> str | None:
    """The activation, or its slope for the hidden kernel, is bounded."""
    if math.isfinite(summand_bound(case.activation, case.X, case.kernel)):
        return None
    what = "slope of " if case.kernel == "hidden" else ""
    return f"matrix Bernstein does not apply because the {what}activation {case.activation.name} is not bounded"


def _over_width(case: Features, key: Array) -> np.ndarray:
    keys = jr.split(key, len(_WIDTHS))
    cases = [Features(case.X, case.activation, int(width), case.kernel) for width in _WIDTHS]
    return np.array([_distance(one, part) for one, part in zip(cases, keys, strict=True)])


def _predict_over_width(case: Features, exponent=-0.5) -> Estimate:
    # The fit has the first correction in n/N; its square is left.
    return Estimate(exponent, (len(case.X) / _WIDTHS[0]) ** 2)


def _few_inputs(case: Features) -> str | None:
    """The first correction, of the order of n/N, is small at the least width."""
    if len(case.X) ** 2 <= 0.04 * _WIDTHS[0] ** 2:
        return None
    return f"the exponent does not show because {_WIDTHS[0]:g} neurons are few for {len(case.X)} inputs"


def _over_count(case: Features, key: Array) -> np.ndarray:
    # One network for all counts, so that chance does not come between them.
    whole = _difference(case, key)
    return np.array([norm(whole[: int(count), : int(count)]) for count in _COUNTS])


def _predict_over_count(case: Features, exponent=1.0) -> Estimate:
    # What belongs to the fluctuations of single inputs is of the order of 1/sqrt(n) beside the mean, and not fitted.
    return Estimate(exponent, 0.5 / math.sqrt(_COUNTS[0]))


def _mean_is_not_zero(case: Features) -> str | None:
    """The activation has a mean over the weights, and the inputs suffice."""
    if len(case.X) < _COUNTS[-1]:
        return f"the growth over {_COUNTS[-1]:g} inputs does not show because there are {len(case.X)}"
    mean = case.mean()
    if np.sum(mean) > 0.1 * len(mean) * float(np.trace(mean)):
        return None
    return f"the deviation may grow slower because the mean of {case.activation.name} over the weights is small"


def _square_distance(case: Features, key: Array) -> float:
    return float(np.mean([_distance(case, one) ** 2 for one in jr.split(key, 4)]))


def _predict_variance(case: Features, exact=True) -> Estimate:
    found = case.variance()
    if not exact:
        return Estimate(case.bounded().variance, 0.0)
    return Estimate(found.value, 5.0 * np.asarray(found.error))


def _predict_mean(case: Features, longest=False) -> Estimate:
    size = float(np.max(np.sum(case.X**2, axis=1))) * case.activation.slope_bound**2 if longest else None
    return Estimate(case.bounded(size).mean, 0.0)


CLAIMS = (
    Claim(
        id="LAZY-36",
        name="readout-kernel-concentrates",
        statement=r"For $|\sigma|\le1$ the readout kernel of a network of width N on n inputs is within "
        r"$\sqrt{2n\|EK\|\ell/N}+\frac{2n\ell}{3N}$ of its mean, $\ell=\ln\frac{2n}\delta$, with probability "
        r"$1-\delta$, and within less with the exact matrix variance.",
        sources=("tropp2015introduction",),
        setup=_features,
        predict=_predict_radii,
        measure=_twice,
        relation=AtMost(),
        assumptions=(_bounded,),
        draws=16,
        mutants=(
            Mutant(
                "root of n/N as printed, for a mean that is not zero",
                {"predict": _predict_printed, "setup": partial(_features, "cos", 80, 100, 4000)},
            ),
            Mutant("variance lost", {"predict": _predict_without_variance}),
        ),
    ),
    Claim(
        id="LAZY-36b",
        name="kernels-approach-their-limit-like-root-width",
        statement=r"The distance of the kernel of a finite network from its limit falls like $N^{-1/2}$.",
        sources=("tropp2015introduction", "arora2019exact"),
        setup=_features,
        predict=_predict_over_width,
        measure=_over_width,
        relation=Scaling(sizes=_WIDTHS),
        assumptions=(_few_inputs,),
        draws=16,
        mutants=(Mutant("like an average of squares", {"predict": partial(_predict_over_width, exponent=-1.0)}),),
    ),
    Claim(
        id="LAZY-36c",
        name="distance-of-kernels-grows-with-the-number-of-inputs",
        statement=r"Where $\sigma$ has a mean, $\|EK\|$ and the distance of the readout kernel from its limit grow "
        r"like the number n of inputs, not like $\sqrt n$.",
        sources=("tropp2015introduction",),
        derived_here=True,
        setup=partial(_features, "cos", 192, 200, 500),
        predict=_predict_over_count,
        measure=_over_count,
        relation=Scaling(sizes=_COUNTS),
        assumptions=(_mean_is_not_zero,),
        draws=12,
        mutants=(Mutant("root of n, as printed", {"predict": partial(_predict_over_count, exponent=0.5)}),),
    ),
    Claim(
        id="LAZY-36d",
        name="matrix-variance-is-a-lower-bound-too",
        statement=r"$E\|K_N-EK\|^2\ge v=\frac1N\|E[\|s\|^2ss^\top]-(EK)^2\|$, $s=\sigma(Xw)$: the variance of matrix "
        r"Bernstein is right but for the logarithm.",
        sources=("tropp2015introduction",),
        derived_here=True,
        setup=partial(_features, width=400),
        predict=_predict_variance,
        measure=_square_distance,
        relation=AtLeast(of="mean"),
        draws=24,
        mutants=(Mutant("bounded variance for the exact one", {"predict": partial(_predict_variance, exact=False)}),),
    ),
    Claim(
        id="LAZY-36e",
        name="tangent-kernel-concentrates",
        statement=r"With $|\sigma'|\le1$ the hidden kernel of width N has a mean distance of at most "
        r"$\sqrt{2\|G\|\|EK\|\ln(2n)/N}+\frac{\|G\|\ln(2n)}{3N}$ from its limit.",
        sources=("tropp2015introduction", "du2019gradient"),
        derived_here=True,
        setup=_correlated,
        predict=_predict_mean,
        measure=_distance,
        relation=AtMost(of="mean"),
        assumptions=(_bounded,),
        draws=40,
        mutants=(Mutant("largest length for the norm of G", {"predict": partial(_predict_mean, longest=True)}),),
    ),
)
