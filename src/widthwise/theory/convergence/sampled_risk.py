r"""The risk of a function, by a sample: with the error of the sample.

Legend: $\ell(y, f(x))$ the loss of one example, $R(f) = \mathbb E\,\ell(Y, f(X))$ the risk, $f^0$ its minimiser in a
class and $\hat f$ the minimiser of the mean over n training examples; s the standard deviation of the noise.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from widthwise.claims import Claim, Equal, Mutant
from widthwise.numerics import Estimate, mean_and_sem, reject

from .landscapes import generator


def squared(y: Any, output: Any) -> Any:
    r"""The loss $(y-a)^2$, in every component.

    >>> squared(1.0, 3.0)
    4.0
    """
    return (y - output) ** 2


def risk(
    f: Callable[[Any], Any],
    data: Any,
    loss: Callable[[Any, Any], Any] = squared,
    *,
    count: int | None = None,
    key: Array | None = None,
) -> Estimate:
    r"""Estimate $\mathbb E\,\ell(Y, f(X))$ by the mean over N examples; the error is $\mathrm{sd}(\ell)/\sqrt N$.

    Args:
        f: the function of one x.
        data: a pair (X, y) of N examples, or a sampler: a function (key, count) -> (X, y).
        loss: a function (y, output) of one example; where it returns an array, there is one risk for each entry.
        count: N, for a sampler; 10,000 without it.
        key: for a sampler; `jax.random.key(0)` without it.

    Raises ``ValueError`` for data that do not fit together, no example at all, and a loss that is not finite. The error
    of a single example is infinite. On training data this is the *empirical* risk, which is below the risk.

    >>> found = risk(lambda x: 2 * x, (np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])))
    >>> round(float(found.value), 6), round(float(found.error), 6)
    (0.666667, 0.333333)
    """
    X, y = _examples(data, 10_000 if count is None else count, jr.key(0) if key is None else key)
    losses = np.asarray(jax.vmap(lambda x, label: jnp.asarray(loss(label, f(x))))(X, y))
    if not np.all(np.isfinite(losses)):
        bad = int(np.argmin(np.isfinite(losses.reshape(len(losses), -1)).all(axis=1)))
        reject(
            f"a loss that is not finite at example {bad}", "A risk is a mean of finite losses", "Look at that example"
        )
    return mean_and_sem(losses)


def _examples(data: Any, count: int, key: Array) -> tuple[Array, Array]:
    if callable(data):
        if count < 1:
            reject(f"count={count}", "A sample has at least one example", "Give for example count=1000")
        data = data(key, count)
    if not (isinstance(data, tuple | list) and len(data) == 2):
        reject(f"data of type {type(data).__name__}", "Data are a pair (X, y) or a sampler", "Give (X, y)")
    X, y = (jnp.asarray(one) for one in data)
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y) or len(X) == 0:
        reject(f"X of shape {X.shape}, y of shape {y.shape}", "Each of N >= 1 inputs has one label", "Check the rows")
    return X, y


class Line(eqx.Module):
    r"""$y = ax + s\epsilon$ fitted by bx, all standard normal: the loss is $v\chi^2_1$ with $v = (a-b)^2+s^2$."""

    slope: float = 1.0
    fitted: float = 0.4
    noise: float = 0.8
    count: int = eqx.field(static=True, default=16)
    repeats: int = eqx.field(static=True, default=30000)

    @property
    def variance(self) -> float:
        """The risk, v."""
        return (self.slope - self.fitted) ** 2 + self.noise**2

    def sample(self, key: Array, count: int) -> tuple[np.ndarray, np.ndarray]:
        """So many examples, each once for every repetition."""
        x, noise = generator(key).normal(size=(2, count, self.repeats))
        return x, self.slope * x + self.noise * noise


def _estimated(setup: Line, key: Array, deviation: bool = False) -> Float[np.ndarray, " 3"]:
    """The mean estimate, and N times its squared error: the one made and the one told."""
    found = risk(lambda x: setup.fitted * x, setup.sample, count=setup.count, key=key)
    told = found.error * np.sqrt(setup.count) if deviation else found.error
    made = np.mean((found.value - setup.variance) ** 2)
    return np.array([np.mean(found.value), setup.count * made, setup.count * np.mean(told**2)])


def _predict_estimated(setup: Line, per_example: float = 1.0) -> Estimate:
    square = 2.0 * setup.variance**2
    return Estimate(np.array([setup.variance, square * per_example, square * per_example]), 0.0)


class Plane(eqx.Module):
    r"""Least squares of d coefficients by n examples, $y = \theta\cdot x+s\epsilon$, all normal."""

    dim: int = eqx.field(static=True, default=5)
    count: int = eqx.field(static=True, default=12)
    noise: float = 0.7
    repeats: int = eqx.field(static=True, default=5000)


def _two_risks(setup: Plane, key: Array, fresh: bool = True) -> Float[np.ndarray, " 3"]:
    r"""The mean empirical risk of $\hat f$, its mean risk on 8 fresh examples, and the empirical risk of $f^0$."""
    rng = generator(key)
    X = rng.normal(size=(setup.repeats, setup.count, setup.dim))
    noise = setup.noise * rng.normal(size=(setup.repeats, setup.count))
    squares, moments = np.einsum("rni,rnj->rij", X, X), np.einsum("rni,rn->ri", X, noise)
    off = np.linalg.solve(squares, moments[..., None])[..., 0]
    training = noise - np.einsum("rni,ri->rn", X, off)
    others = setup.noise * rng.normal(size=(setup.repeats, 8)) - np.einsum(
        "rni,ri->rn", rng.normal(size=(setup.repeats, 8, setup.dim)), off
    )
    return np.array([np.mean(one**2) for one in (training, others if fresh else training, noise)])


def _predict_two(setup: Plane, taken: int = 1) -> Estimate:
    n, d = setup.count, setup.dim
    return Estimate(setup.noise**2 * np.array([1.0 - d / n, 1.0 + d / (n - d - taken), 1.0]), 0.0)


def _over(setup: Plane) -> str | None:
    if setup.count > setup.dim + 1:
        return None
    return f"the mean risk of least squares is infinite because n = {setup.count} is at most d + 1 = {setup.dim + 1}"


CLAIMS = (
    Claim(
        id="LAZY-1",
        name="risk-by-a-sample",
        statement=r"The mean loss over N independent examples estimates the risk $\mathbb E\,\ell(Y,f(X))$ with the "
        r"standard error $\mathrm{sd}(\ell)/\sqrt N$, which the sample tells.",
        sources=("bartlett2021deep",),
        setup=Line,
        predict=_predict_estimated,
        measure=_estimated,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("standard deviation for the error", {"measure": partial(_estimated, deviation=True)}),
            Mutant("error of 2N examples", {"predict": partial(_predict_estimated, per_example=0.5)}),
        ),
    ),
    Claim(
        id="LAZY-1b",
        name="empirical-minimiser-and-its-risks",
        statement=r"Least squares with n normal inputs in d dimensions has the mean empirical risk $s^2(1-\frac dn)$, "
        r"below that of the population's minimiser, $s^2$, and the mean risk $s^2(1+\frac d{n-d-1})$ above it.",
        setup=Plane,
        predict=_predict_two,
        measure=_two_risks,
        relation=Equal(),
        assumptions=(_over,),
        derived_here=True,
        draws=16,
        mutants=(
            Mutant("empirical risk for the risk", {"measure": partial(_two_risks, fresh=False)}),
            Mutant("n - d for n - d - 1", {"predict": partial(_predict_two, taken=0)}),
        ),
    ),
)
