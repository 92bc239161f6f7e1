r"""How far a trained function is from the truth: approximation, estimation and optimisation.

Legend: $f_*$ the truth, $f^0$ its best approximation in the class, $\hat f$ the minimiser of the empirical risk,
$\tilde f$ what training found; norms are those of $L^2(P)$ for the law P of the inputs.
"""

from functools import partial

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpy.polynomial import legendre

from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate, reject, unit_rule

from .landscapes import generator
from .record import ULPS


class Decomposition(eqx.Module):
    r"""$\|f_*-f^0\|$, $\|f^0-\hat f\|$, $\|\hat f-\tilde f\|$ and the ``total`` $\|f_*-\tilde f\|$.

    ``within`` is $\|f^0-\tilde f\|$. For the square loss ``excess`` $= \|f_*-\tilde f\|^2$ is the excess risk.
    """

    approximation: float
    estimation: float
    optimisation: float
    total: float
    within: float

    @property
    def excess(self) -> float:
        r"""$R(\tilde f)-R(f_*)$ of the square loss $\mathbb E(y-f(x))^2$."""
        return self.total**2

    @property
    def triangle(self) -> float:
        """The sum of the three parts, at least the total."""
        return self.approximation + self.estimation + self.optimisation

    @property
    def pythagoras(self) -> float:
        r"""$\|f_*-f^0\|^2+\|f^0-\tilde f\|^2$, which is the excess risk for a linear class."""
        return self.approximation**2 + self.within**2

    def __str__(self) -> str:
        parts = f"approximation {self.approximation:.4g}, estimation {self.estimation:.4g}"
        return f"{parts}, optimisation {self.optimisation:.4g}; total {self.total:.4g} <= {self.triangle:.4g}"


def decompose(
    truth: ArrayLike, best: ArrayLike, empirical: ArrayLike, trained: ArrayLike, weights: ArrayLike | None = None
) -> Decomposition:
    r"""Split the error of a trained function, $f_*-\tilde f = (f_*-f^0)+(f^0-\hat f)+(\hat f-\tilde f)$.

    All are values (N,) at inputs with weights (N,) of sum 1: nodes of a quadrature, or a sample of equal weights.
    Raises ``ValueError`` for shapes that do not fit, weights that are no law, and values that are not finite.
    Source: bartlett2021deep.

    >>> print(decompose([1.0, -1.0], [0.5, -0.5], [0.5, 0.0], [0.25, 0.0]))
    approximation 0.5, estimation 0.3536, optimisation 0.1768; total 0.8839 <= 1.03
    """
    values = [np.asarray(one, dtype=float) for one in (truth, best, empirical, trained)]
    count = values[0].size
    law = np.full(count, 1.0 / max(count, 1)) if weights is None else np.asarray(weights, dtype=float)
    if not count or any(one.shape != (count,) for one in (*values, law)):
        shapes = [one.shape for one in (*values, law)]
        reject(f"values and weights of shapes {shapes}", "All are (N,) with N >= 1", "Evaluate at the same inputs")
    if not all(np.all(np.isfinite(one)) for one in (*values, law)) or np.any(law < 0) or abs(law.sum() - 1) > 1e-9:
        reject(f"weights of sum {law.sum():g}", "Weights sum to 1, and all numbers are finite", "Normalise them")

    def norm(first: int, second: int) -> float:
        return float(np.sqrt(law @ (values[first] - values[second]) ** 2))

    return Decomposition(norm(0, 1), norm(1, 2), norm(2, 3), norm(0, 3), norm(1, 3))


def wave(x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    r"""$\sin\pi x$."""
    return np.sin(np.pi * x)


def polynomials(x: Float[np.ndarray, " N"], degree: int) -> Float[np.ndarray, "N k"]:
    """Legendre polynomials up to a degree, orthonormal for the uniform law on [-1, 1]."""
    return legendre.legvander(x, degree) * np.sqrt(2.0 * np.arange(degree + 1.0) + 1.0)


_NODES = 60


class Fit(eqx.Module):
    r"""Steps of gradient descent on $\frac1n\sum(f(x_i)-y_i)^2$ over polynomials, for $\sin\pi x$ with noise."""

    degree: int = eqx.field(static=True, default=3)
    count: int = eqx.field(static=True, default=12)
    steps: int = eqx.field(static=True, default=6)
    rate: float = 0.1
    noise: float = 0.3

    def decomposed(self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[Decomposition, float]:
        r"""The decomposition, by a quadrature of 60 nodes, and $\|f_*-\hat f\|^2+\|\hat f-\tilde f\|^2$."""
        nodes, weights = unit_rule(_NODES)
        grid, truth = polynomials(2.0 * nodes - 1.0, self.degree), wave(2.0 * nodes - 1.0)
        features = polynomials(x, self.degree)
        trained = self.trained(features, y)
        best, empirical = grid.T @ (weights * truth), np.linalg.lstsq(features, y, rcond=None)[0]
        found = decompose(truth, grid @ best, grid @ empirical, grid @ trained, weights)
        return found, float(weights @ (truth - grid @ empirical) ** 2) + found.optimisation**2

    def excess_risk(self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
        r"""$\mathbb E(y-\tilde f(x))^2-\mathbb E(y-f_*(x))^2$ with noise of two values, by another quadrature."""
        trained = self.trained(polynomials(x, self.degree), y)
        nodes, weights = unit_rule(90)
        nodes = 2.0 * nodes - 1.0
        labels = wave(nodes)[None] + self.noise * np.array([[-1.0], [1.0]])
        functions = polynomials(nodes, self.degree) @ trained, wave(nodes)
        risks = [np.mean((labels - one[None]) ** 2, axis=0) @ weights for one in functions]
        return float(risks[0] - risks[1])

    def trained(self, features: Float[np.ndarray, "n k"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
        """The coefficients after the steps from zero."""
        found = np.zeros(self.degree + 1)
        for _ in range(self.steps):
            found = found - self.rate * (2.0 / len(y)) * features.T @ (features @ found - y)
        return found


def _data(setup: Fit, key: Array) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(key)
    x = rng.uniform(-1.0, 1.0, size=setup.count)
    return x, wave(x) + setup.noise * rng.normal(size=setup.count)


def _excess(setup: Fit, key: Array, split: str = "best") -> float:
    """The excess risk over what the split says it is."""
    x, y = _data(setup, key)
    found, around_empirical = setup.decomposed(x, y)
    squares = {
        "best": found.pythagoras,
        "empirical": around_empirical,
        "trained to the end": found.approximation**2 + found.estimation**2,
    }
    return setup.excess_risk(x, y) / squares[split]


def _total(setup: Fit, key: Array, squares: bool = False) -> float:
    """The total over the sum of the parts, or over the root of the sum of their squares."""
    found, _ = setup.decomposed(*_data(setup, key))
    parts = np.array([found.approximation, found.estimation, found.optimisation])
    return found.total / float(np.linalg.norm(parts) if squares else parts.sum())


def _determined(setup: Fit) -> str | None:
    """As many points as coefficients, so that the empirical minimiser is one."""
    if setup.count > setup.degree:
        return None
    return f"the empirical minimiser is not unique because {setup.count} points leave {setup.degree + 1} coefficients"


def _integrated(setup: Fit) -> str | None:
    """The quadrature is exact for products of two polynomials."""
    if setup.degree < _NODES:
        return None
    return f"a quadrature of {_NODES} nodes is not exact for products because the degree is {setup.degree}"


CLAIMS = (
    Claim(
        id="OPT-11",
        name="excess-risk-is-pythagorean",
        statement=r"For the square loss and a linear class, $R(\tilde f)-R(f_*)=\|f_*-f^0\|^2+\|f^0-\tilde f\|^2$, "
        r"$f^0$ the minimiser of the population risk in the class.",
        sources=("bartlett2021deep",),
        setup=Fit,
        # The quadratures are exact to rounding for these entire functions; the conditioning of a random fit is ours.
        predict=lambda _: Estimate(1.0, 1e3 * ULPS * 2.0**-52),
        measure=_excess,
        relation=Equal(),
        assumptions=(_determined, _integrated),
        mutants=(
            Mutant("empirical minimiser for the population's", {"measure": partial(_excess, split="empirical")}),
            Mutant("optimisation error lost", {"measure": partial(_excess, split="trained to the end")}),
        ),
    ),
    Claim(
        id="OPT-11b",
        name="error-decomposition",
        statement=r"The distance of the trained function to the truth is at most approximation plus estimation plus "
        r"optimisation error, $\|f_*-f^0\|+\|f^0-\hat f\|+\|\hat f-\tilde f\|$.",
        sources=("bartlett2021deep",),
        setup=Fit,
        predict=lambda _: Estimate(1.0, 1e3 * ULPS * 2.0**-52),
        measure=_total,
        relation=AtMost(),
        assumptions=(_determined,),
        draws=16,
        mutants=(Mutant("squares for norms", {"measure": partial(_total, squares=True)}),),
    ),
)
