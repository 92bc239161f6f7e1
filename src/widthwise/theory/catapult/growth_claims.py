"""Claims about the catapult: its borders, its exact recursion, where it ends and when it peaks."""

from dataclasses import dataclass
from functools import partial

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from .maps import peak_growth_time, quadratic_orbit
from .networks import CATAPULT, DIVERGENT, MONOTONE, Rectifier, linear_descent, outcome, train_rectifiers

FIELD = "large-rates"


def _phases(products: Float[np.ndarray, " k"], lazy: float, last: float) -> np.ndarray:
    r"""The outcome at each $\eta\lambda_0$ with these borders."""
    return np.where(products < lazy, MONOTONE, np.where(products < last, CATAPULT, DIVERGENT))


def _predict_rectifiers(setup: Rectifier, lazy=2.0, last=4.0) -> Estimate:
    return Estimate.exact(_phases(np.array(setup.products), lazy, last))


def _outcomes(setup: Rectifier, key: Array, per_input=1.0) -> np.ndarray:
    return train_rectifiers(setup, key, per_input)[:, 0]


def _wide(setup: Rectifier) -> str | None:
    """The network is so wide that the loss grows before the curvature falls."""
    return None if setup.width >= 512 else f"the phases are those of wide networks, and the width is {setup.width}"


def _off_the_borders(setup: Rectifier) -> str | None:
    """No rate is near a border, which at a finite width is not sharp."""
    near = [one for one in setup.products if abs(one - 2.0) < 0.2 or abs(one - 4.0) < 0.8]
    return f"at rate * kernel = {near[0]} both phases occur at this width" if near else None


@dataclass(frozen=True)
class Linear:
    r"""Networks $f = n^{-1/2}v^\top u$ with Gaussian weights, a rate of given $\eta\lambda_0$ for each."""

    products: tuple[float, ...] = (1.2,)
    widths: tuple[int, ...] = (50,)
    steps: int = 40
    outputs: tuple[float, ...] = ()


def _drawn(setup: Linear, width: int, key: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and rates; with ``outputs`` those of networks with these, by turning v towards u or away."""
    u, v = np.asarray(jr.normal(key, (2, len(setup.products), width)))
    if setup.outputs:
        wanted = np.array(setup.outputs) * width**0.5
        v = v + ((wanted - np.sum(u * v, axis=1)) / np.sum(u * u, axis=1))[:, None] * u
    kernel = (np.sum(u**2, axis=1) + np.sum(v**2, axis=1)) / width
    return u, v, np.array(setup.products) / kernel


def _follow(setup: Linear, key: Array) -> np.ndarray:
    """Outputs and kernels of one network, minus what the recursion says from its start."""
    return _deviation(setup, key, quadratic_orbit)


def _deviation(setup: Linear, key: Array, orbit) -> np.ndarray:
    u, v, rate = _drawn(setup, setup.widths[0], key)
    f, kernel = linear_descent(u, v, rate, setup.steps + 1)
    found = orbit(float(f[0, 0]), float(kernel[0, 0]), float(rate[0]), 1.0 / setup.widths[0], 0.0, setup.steps)
    return np.concatenate([f[0] - found[0], kernel[0] - found[1]])


def _without_curvature(r, kernel, rate, c, label, steps):
    """The recursion without its term of second order in the rate."""
    rs, kernels = [r], [kernel]
    for _ in range(steps):
        r, kernel = rs[-1] * (1.0 - rate * kernels[-1]), kernels[-1] + c * rate * rs[-1] ** 2 * (rate * kernels[-1] - 4)
        rs.append(r)
        kernels.append(kernel)
    return np.array(rs), np.array(kernels)


def _with_two(r, kernel, rate, c, label, steps):
    """The recursion with 2 for 4."""
    rs, kernels = [r], [kernel]
    for _ in range(steps):
        r, kernel = rs[-1], kernels[-1]
        rs.append(r * (1.0 - rate * kernel + c * rate**2 * r**2))
        kernels.append(kernel + c * rate * r**2 * (rate * kernel - 2.0))
    return np.array(rs), np.array(kernels)


def _predict_none(setup: Linear) -> Estimate:
    return Estimate(np.zeros(2 * (setup.steps + 1)), 1e-12)


def _every_width() -> Linear:
    return Linear(tuple(np.linspace(0.35, 5.65, 54).round(6)), (2, 3, 5, 10, 100), 2000, (1e-3,))


def _predict_phases(setup: Linear, lazy=2.0, last=4.0) -> Estimate:
    return Estimate.exact(np.tile(_phases(np.array(setup.products), lazy, last), (len(setup.widths), 1)))


def _linear_outcomes(setup: Linear, key: Array, scale=1.0) -> np.ndarray:
    rows = []
    for width, one in zip(setup.widths, jr.split(key, len(setup.widths)), strict=True):
        u, v, rate = _drawn(setup, width, one)
        f, _ = linear_descent(u, v, scale * rate, setup.steps)
        rows.append([outcome(0.5 * row**2) for row in f])
    return np.array(rows)


def _between(setup: Linear) -> str | None:
    """No product is a border itself."""
    hit = [one for one in setup.products if min(abs(one - 2.0), abs(one - 4.0)) < 1e-3]
    return f"rate * kernel = {hit[0]} is a border between two phases" if hit else None


def _small_output(setup: Linear) -> str | None:
    """The first output is small, so that every catapult begins with a rise."""
    small = setup.outputs and max(np.abs(setup.outputs)) < 0.1
    return None if small else "a large first output may fall at once at every rate"


def _predict_flat(setup: Rectifier, bound=2.0) -> Estimate:
    return Estimate(np.full(len(setup.products), bound), 0.0)


def _final(setup: Rectifier, key: Array) -> np.ndarray:
    return train_rectifiers(setup, key)[:, 1]


def _start(setup: Rectifier, key: Array) -> np.ndarray:
    return np.array(setup.products)


def _converging(setup: Rectifier) -> str | None:
    """All rates are below those that diverge."""
    high = [one for one in setup.products if one > 3.5]
    return f"training diverges at rate * kernel = {high[0]}" if high else None


def _times() -> Linear:
    # First outputs over one factor of growth, so that the whole steps of all peaks average to the real time.
    outputs = 0.5 * 1.5 ** (np.arange(16) / 16)
    return Linear((2.5,) * 16, (10**2, 10**3, 10**4), 45, tuple(outputs))


def _predict_slope(setup: Linear, square=True) -> Estimate:
    slope = peak_growth_time(setup.products[0])
    return Estimate(np.array([slope if square else 2.0 * slope]), 0.0)


def _slope(setup: Linear, key: Array, kernel=False) -> np.ndarray:
    """The slope of the time of the largest loss over the logarithm of the width."""
    means = []
    for width, one in zip(setup.widths, jr.split(key, len(setup.widths)), strict=True):
        u, v, rate = _drawn(setup, width, one)
        f, kernels = linear_descent(u, v, rate, setup.steps)
        means.append(np.mean(np.argmax(kernels if kernel else np.abs(f), axis=1)))
    return np.polyfit(np.log(setup.widths), means, 1)[:1]


def _rising(setup: Linear) -> str | None:
    """All networks are thrown, and none diverges."""
    return None if all(2.2 <= one <= 3.5 for one in setup.products) else "the loss peaks only in a catapult"


CLAIMS = (
    Claim(
        id="CATA-1",
        name="three-phases-of-the-rate",
        statement=r"On $\frac1{2N}\sum r^2$ wide networks of one hidden layer train monotonically for "
        r"$\eta\lambda_0<2$, are thrown and then converge for $2<\eta\lambda_0<4$, and diverge above, with "
        r"$\lambda_0$ the largest eigenvalue of the tangent kernel over N.",
        sources=("lewkowycz2020large",),
        field=FIELD,
        setup=Rectifier,
        predict=_predict_rectifiers,
        measure=_outcomes,
        relation=Equal(scale=1.0),
        assumptions=(_wide, _off_the_borders),
        draws=4,
        mutants=(
            Mutant("1/lambda for 2/lambda", {"predict": partial(_predict_rectifiers, lazy=1.0)}),
            Mutant("divergence at 2", {"predict": partial(_predict_rectifiers, last=2.0)}),
            Mutant("tangent kernel not divided by N", {"measure": partial(_outcomes, per_input=1 / 16)}),
        ),
    ),
    Claim(
        id="CATA-4",
        name="recursion-of-a-two-layer-linear-network",
        statement=r"Gradient descent on $f^2/2$ with $f=n^{-1/2}v^\top u$ obeys $f'=f(1-\eta\lambda+\eta^2f^2/n)$ and "
        r"$\lambda'=\lambda+\frac{\eta f^2}n(\eta\lambda-4)$ with $\lambda=(\|u\|^2+\|v\|^2)/n$, at every width.",
        sources=("lewkowycz2020large",),
        field=FIELD,
        setup=Linear,
        predict=_predict_none,
        measure=_follow,
        relation=Equal(scale=1.0),
        mutants=(
            Mutant("no term of second order", {"measure": partial(_deviation, orbit=_without_curvature)}),
            Mutant("2 for 4", {"measure": partial(_deviation, orbit=_with_two)}),
        ),
    ),
    Claim(
        id="CATA-5",
        name="phases-at-every-width",
        statement=r"For the two-layer linear network with label 0 the borders $\eta\lambda_0=2$ and $4$ are exact at "
        r"every width, down to $n=2$.",
        sources=("lewkowycz2020large",),
        derived_here=True,
        field=FIELD,
        setup=_every_width,
        predict=_predict_phases,
        measure=_linear_outcomes,
        relation=Equal(scale=1.0),
        assumptions=(_between, _small_output),
        draws=4,
        mutants=(
            Mutant("borders of a quadratic loss", {"predict": partial(_predict_phases, last=2.0)}),
            Mutant("loss without 1/2", {"measure": partial(_linear_outcomes, scale=2.0)}),
        ),
    ),
    Claim(
        id="CATA-6",
        name="catapults-end-at-flat-points",
        statement=r"Where training converges after a catapult, $\eta\lambda_\infty\le2$.",
        sources=("lewkowycz2020large",),
        field=FIELD,
        setup=partial(Rectifier, (2.2, 2.6, 3.0), 512, 16, 8, 300),
        predict=_predict_flat,
        measure=_final,
        relation=AtMost(),
        assumptions=(_converging,),
        draws=4,
        mutants=(
            Mutant("1/lambda for 2/lambda", {"predict": partial(_predict_flat, bound=1.0)}),
            Mutant("curvature of the start", {"measure": _start}),
        ),
    ),
    Claim(
        id="CATA-6b",
        name="catapults-peak-at-a-logarithmic-time",
        statement=r"The loss of a catapult peaks later by $\frac1{2\log(\eta\lambda_0-1)}$ steps for each factor e of "
        r"the width.",
        sources=("lewkowycz2020large",),
        field=FIELD,
        setup=_times,
        predict=_predict_slope,
        measure=_slope,
        relation=Equal(resolution=0.05),
        assumptions=(_rising,),
        draws=8,
        mutants=(
            Mutant("the growth of f for that of its square", {"predict": partial(_predict_slope, square=False)}),
            Mutant("the time at which the kernel is largest", {"measure": partial(_slope, kernel=True)}),
        ),
    ),
)
