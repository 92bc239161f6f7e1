r"""Closed recursions of gradient descent at large rates.

Legend: z the output on the single input, y its label, $r = z - y$, $\lambda$ the tangent kernel, c of order 1/width
($1/n$ for $f = n^{-1/2}v^\top u$), $\eta$ the rate; $X = \eta\lambda$ and $Y = \eta^2cz^2$ where y = 0, in the region
$Y \le X^2/4$. At the edge of stability x is the displacement along the top eigenvector of the Hessian, y the sharpness
above $2/\eta$, $\alpha$ how fast the gradient flow sharpens and $\beta$ the squared gradient of the sharpness.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from widthwise.numerics import reject

_BLOWN = 1e150


class CatapultPoint(NamedTuple):
    r"""Where the map of a two-layer linear network ends: $X_\infty$, the largest Y on the way, and the steps taken."""

    X: float
    peak: float
    steps: int


def quadratic_orbit(
    residual: float, kernel: float, rate: float, c: float, label: float, steps: int
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    r"""Residuals and tangent kernels of a quadratic model of one datum: exact at any width, with loss $\frac12r^2$.

    $r' = r(1 - \eta\lambda + c\eta^2zr)$, $\lambda' = \lambda + c\eta r(\eta\lambda r - 4z)$; with y = 0 and $c = 1/n$
    that of $f = n^{-1/2}v^\top u$. It ends before $|r|$ exceeds $10^{150}$. Source: lewkowycz2020large; the label's
    part is derived here.

    >>> r, kernel = quadratic_orbit(0.5, 1.0, 1.0, 1e-6, 0.5, 100)
    >>> round(float(kernel[-1] - 1.0), 10)
    -1.75e-06
    """
    if not (rate > 0 and kernel > 0 and c >= 0):
        reject(
            f"rate={rate}, kernel={kernel}, c={c}", "Rate and kernel are above 0, c is at least 0", "Check their order"
        )
    residuals, kernels = [residual], [kernel]
    for _ in range(steps):
        r, z, held = residuals[-1], residuals[-1] + label, kernels[-1]
        new = r * (1.0 - rate * held + c * rate**2 * z * r)
        if not abs(new) <= _BLOWN:
            break
        residuals.append(new)
        kernels.append(held + c * rate * r * (rate * held * r - 4.0 * z))
    return np.array(residuals), np.array(kernels)


def catapult_orbit(X: float, Y: float, steps: int) -> Float[np.ndarray, "t 2"]:
    r"""The orbit $X' = X + Y(X - 4)$, $Y' = Y(1 - X + Y)^2$, which ends before Y exceeds $10^{150}$.

    Source: lewkowycz2020large.

    >>> catapult_orbit(3.0, 0.01, 1)[1].round(6).tolist()
    [2.99, 0.039601]
    """
    _demand_point(X, Y)
    X, Y = float(X), float(Y)
    orbit = [(X, Y)]
    for _ in range(steps):
        X, Y = _thrown(X, Y)
        if not Y <= _BLOWN:
            break
        orbit.append((X, Y))
    return np.array(orbit)


def catapult_limit(X: float, Y: float, most: int = 1_000_000) -> CatapultPoint:
    r"""Where the orbit ends: $X_\infty \le 2$ for every start with X < 4; infinite for X > 4.

    Just above the threshold, from $X_0 = 2 + \delta$ and a small Y, it ends near $2 - \delta$ after a peak of Y near
    $\delta^2/2$. Derived in this project. Raises ``ValueError`` for a start outside $0 \le Y \le X^2/4$.

    >>> end = catapult_limit(2.1, 1e-12)
    >>> round(end.X, 8), round(end.peak, 5)
    (1.8928807, 0.00534)
    """
    _demand_point(X, Y)
    X, Y = float(X), float(Y)
    peak = Y
    for step in range(most):
        if Y <= 1e-25 and X < 2.0:
            return CatapultPoint(X, peak, step)
        X, Y = _thrown(X, Y)
        peak = max(peak, Y)
        if not Y <= _BLOWN:
            return CatapultPoint(math.inf, math.inf, step + 1)
    return CatapultPoint(X, peak, most)


def _thrown(X: float, Y: float) -> tuple[float, float]:
    factor = 1.0 - X + Y
    return X + Y * (X - 4.0), Y * factor * factor


def _demand_point(X: float, Y: float) -> None:
    if not (X >= 0 and 0 <= Y <= X**2 / 4 * (1 + 1e-12)):
        reject(
            f"X={X}, Y={Y}",
            "The output of a network is bounded by its kernel, 0 <= Y <= X^2/4",
            "Take X = rate * kernel and Y = rate^2 * output^2 / width",
        )


def lazy_change(residual: float, kernel: float, rate: float, c: float, label: float) -> float:
    r"""How far the tangent kernel moves below the threshold $\eta\lambda < 2$, to first order in c.

    $c\left[\frac{(\eta\lambda-4)r^2}{\lambda(2-\eta\lambda)} - \frac{4yr}\lambda\right]$. Derived in this project.

    >>> round(lazy_change(0.5, 1.0, 1.0, 1e-6, 0.5), 12)
    -1.75e-06
    """
    if not 0 < rate * kernel < 2:
        reject(f"rate * kernel = {rate * kernel}", "The lazy phase is between 0 and 2", "Lower the rate")
    return c * (
        (rate * kernel - 4.0) * residual**2 / (kernel * (2.0 - rate * kernel)) - 4.0 * label * residual / kernel
    )


def peak_growth_time(product: float) -> float:
    r"""Steps by which the loss of a catapult peaks later when the width grows by the factor e.

    $\frac1{2\log(\eta\lambda_0-1)}$. Source: lewkowycz2020large.

    >>> round(peak_growth_time(3.0), 6)
    0.721348
    """
    if not product > 2:
        reject(f"rate * kernel = {product}", "A catapult begins above 2", "Give a product between 2 and 4")
    return 0.5 / math.log(product - 1.0)


def stabilisation_orbit(
    x: float, y: float, rate: float, alpha: float, beta: float, steps: int
) -> Float[np.ndarray, "t 2"]:
    r"""The orbit $x' = -(1 + \eta y)x$, $y' = y + \eta(\alpha - \frac\beta2x^2)$ of self-stabilisation.

    It turns about $x^2 = 2\alpha/\beta$, $y = 0$, slowly outwards. Source: damian2023self.

    >>> stabilisation_orbit(0.5, 0.0, 0.1, 1.0, 4.0, 1)[1].tolist()
    [-0.5, 0.05]
    """
    orbit = [(x, y)]
    for _ in range(steps):
        x, y = -(1.0 + rate * y) * x, y + rate * (alpha - 0.5 * beta * x * x)
        orbit.append((x, y))
    return np.array(orbit)


def stabilisation_energy(orbit: Float[np.ndarray, "t 2"], alpha: float, beta: float) -> Float[np.ndarray, " t"]:
    r"""$\frac{y^2}2 + \frac{\beta x^2}4 - \alpha\log|x|$, constant as the rate goes to 0. Source: damian2023self.

    >>> stabilisation_energy(np.array([[1.0, 2.0]]), 1.0, 4.0).tolist()
    [3.0]
    """
    x, y = orbit.T
    return 0.5 * y**2 + 0.25 * beta * x**2 - alpha * np.log(np.abs(x))
