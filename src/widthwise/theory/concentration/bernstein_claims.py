"""Claims about sums of independent random matrices, on sums that are drawn."""

import math
from functools import partial

import equinox as eqx
import jax.random as jr
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from .bernstein import Bernstein, bernstein

_TRIALS = 1000
_FAILURES = (0.5, 0.1, 1e-3, 1e-9)


class SignedSum(eqx.Module):
    r"""The sum $\sum_j\sum_{i\le r}\epsilon_{ji}A_j$ with independent signs, and the distances it is looked for at."""

    matrices: Float[np.ndarray, "j d1 d2"]
    repeats: int
    levels: tuple[float, ...]

    def bound(self) -> Bernstein:
        """Matrix Bernstein with the exact variance and the exact largest norm."""
        A = self.matrices
        squares = np.einsum("jab,jcb->ac", A, A), np.einsum("jab,jac->bc", A, A)
        variance = self.repeats * max(float(np.linalg.norm(square, 2)) for square in squares)
        return bernstein(variance, float(np.max(np.linalg.norm(A, 2, axis=(1, 2)))), A.shape[1:])

    def norms(self, key: Array, trials: int) -> Float[np.ndarray, " trials"]:
        """Norms of sums; a sum of r signs is twice the number of those that are +1, less r."""
        rng = np.random.default_rng(np.asarray(jr.key_data(key)))
        heads = rng.binomial(self.repeats, 0.5, (trials, len(self.matrices)))
        sums = np.tensordot(2.0 * heads - self.repeats, self.matrices, 1)
        return np.sqrt(np.maximum(np.linalg.eigvalsh(sums @ np.swapaxes(sums, 1, 2))[:, -1], 0.0))


def _turned() -> SignedSum:
    """Eight directions that do not meet, where the norm is the largest of eight sums: dimension costs most."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(size, 8)))[0] for size in (8, 10))
    return SignedSum(np.einsum("aj,bj->jab", left, right), 400, (50.0, 60.0, 70.0, 80.0))


def one_dimension() -> SignedSum:
    """The sum of 400 signs, at twice its standard deviation."""
    return SignedSum(np.ones((1, 1, 1)), 400, (40.0,))


def _frequencies(case: SignedSum, key: Array) -> np.ndarray:
    norms = case.norms(key, _TRIALS)
    return np.array([np.mean(norms >= level) for level in case.levels])


def _predict_tail(case: SignedSum) -> Estimate:
    return Estimate(case.bound().tail(case.levels), 0.0)


def printed_tail(case: SignedSum, dimension=False, half=False) -> Estimate:
    """Variants that lose the dimension, the half, or, as in the lecture, both."""
    bound, t = case.bound(), np.asarray(case.levels)
    exponent = -(0.5 if half else 1.0) * t**2 / (bound.variance + bound.bound * t / 3.0)
    return Estimate((bound.dimension if dimension else 1) * np.exp(exponent), 0.0)


def _mean_norm(case: SignedSum, key: Array) -> float:
    return float(np.mean(case.norms(key, _TRIALS)))


def _predict_mean(case: SignedSum, logarithm=True) -> Estimate:
    bound = case.bound()
    return Estimate(bound.mean if logarithm else math.sqrt(bound.variance), 0.0)


def _solved_radii(case: SignedSum, key: Array) -> np.ndarray:
    """Where the tail falls to each probability, by bracketing."""
    bound, far = case.bound(), 1e3 * math.sqrt(case.bound().variance)
    # The logarithm of the tail, without the cut at 1: it has one sign change.
    return np.array(
        [
            scipy.optimize.brentq(lambda t, p=p: math.log(float(_raw(bound, t)) / p), 0.0, far, xtol=1e-13)
            for p in _FAILURES
        ]
    )


def _raw(bound: Bernstein, t: float) -> float:
    return bound.dimension * math.exp(max(-0.5 * t * t / (bound.variance + bound.bound * t / 3.0), -700.0))


def _predict_radii(case: SignedSum) -> Estimate:
    radii = np.array([case.bound().radius(p) for p in _FAILURES])
    # The root is found to 1e-14 of itself, the logarithm there known to some ulps of its terms.
    return Estimate(radii, 1e-12 * radii)


def _wrong_radii(case: SignedSum, double=2.0, third=3.0) -> Estimate:
    bound = case.bound()
    logarithms = [math.log(bound.dimension / p) for p in _FAILURES]
    parts = [(logarithm * bound.bound / third, double * bound.variance * logarithm) for logarithm in logarithms]
    return Estimate(np.array([linear + math.sqrt(linear**2 + square) for linear, square in parts]), 0.0)


CLAIMS = (
    Claim(
        id="LAZY-35",
        name="matrix-bernstein",
        statement=r"A sum of independent matrices of mean zero with $\|S_j\|\le L$ and matrix variance v satisfies "
        r"$P(\|\sum_jS_j\|\ge t)\le(d_1+d_2)\exp\frac{-t^2/2}{v+Lt/3}$.",
        sources=("tropp2015introduction",),
        setup=_turned,
        predict=_predict_tail,
        measure=_frequencies,
        relation=AtMost(of="mean"),
        draws=24,
        mutants=(
            Mutant("dimension lost", {"predict": partial(printed_tail, half=True)}),
            Mutant("half lost", {"predict": partial(printed_tail, dimension=True)}),
            Mutant("as printed, for 400 signs", {"predict": printed_tail, "setup": one_dimension}),
        ),
    ),
    Claim(
        id="LAZY-35b",
        name="radius-of-matrix-bernstein",
        statement=r"The bound of matrix Bernstein falls to $\delta$ at $t_\delta=\frac{\ell L}3+"
        r"\sqrt{(\frac{\ell L}3)^2+2v\ell}$ with $\ell=\ln\frac{d_1+d_2}\delta$.",
        sources=("tropp2015introduction",),
        derived_here=True,
        setup=_turned,
        predict=_predict_radii,
        measure=_solved_radii,
        relation=Equal(),
        mutants=(
            Mutant("half lost", {"predict": partial(_wrong_radii, double=1.0)}),
            Mutant("third lost", {"predict": partial(_wrong_radii, third=1.0)}),
        ),
    ),
    Claim(
        id="LAZY-35c",
        name="mean-of-matrix-bernstein",
        statement=r"A sum of independent matrices of mean zero satisfies $E\|\sum_jS_j\|\le\sqrt{2v\ln(d_1+d_2)}+"
        r"\frac L3\ln(d_1+d_2)$: the root of the variance is not enough.",
        sources=("tropp2015introduction",),
        setup=_turned,
        predict=_predict_mean,
        measure=_mean_norm,
        relation=AtMost(of="mean"),
        draws=16,
        mutants=(Mutant("logarithm lost", {"predict": partial(_predict_mean, logarithm=False)}),),
    ),
)
