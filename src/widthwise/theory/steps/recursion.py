r"""The steps of an optimiser on a linear model, mode by mode: one small matrix, and what batches add to it.

Legend: the model's outputs are $f = f_0 + J(\theta - \theta_0)$ (N,), the loss $L = \frac s2\|f - Y\|^2$, and
$\Theta = JJ^\top = U\Lambda U^\top$. The path stays in $\theta_t = J^\top a_t + (1 + e_t)\theta_0$: with weight decay
the start $\theta_0$ fades by itself, as a mode without curvature. In the basis U a coefficient $a$ has the gradient
$g = s(\lambda a + eh + r_0) + \omega_ca$, $h = J\theta_0$ and $r_0 = f_0 - Y$, and e has $\omega_c(1 + e)$; m and q are
their running gradients. One step is a matrix on $(a, m, e, q, 1)$. See `widthwise.numerics.UpdateRule` for the rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from widthwise.numerics import UpdateRule

Rate = float | Callable[[int], float]
_START = np.array([0.0, 0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Modes:
    r"""A linear model in the basis of its kernel: $\lambda$, $h$ and $r_0$ (N,), the scale s of the loss, and the rule.

    Where $\lambda = 0$ nothing moves, so h and $r_0$ count as 0 there.
    """

    values: Float[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]
    residual: Float[np.ndarray, " N"]
    scale: float
    rule: UpdateRule

    def step(self, rate: float) -> Float[np.ndarray, "N 5 5"]:
        """The matrix of one step on (a, m, e, q, 1)."""
        rule, moves = self.rule, self.values > 0
        coupled, decoupled = (0.0, rule.weight_decay) if rule.decoupled else (rule.weight_decay, 0.0)
        slope = np.zeros((len(self.values), 2, 5))
        slope[:, 0, 0] = self.scale * self.values + coupled
        slope[:, 0, 2] = self.scale * np.where(moves, self.weights, 0.0)
        slope[:, 0, 4] = self.scale * np.where(moves, self.residual, 0.0)
        slope[:, 1, [2, 4]] = coupled
        running = np.zeros((2, 5))
        running[[0, 1], [1, 3]] = rule.momentum
        running = running + self._gain * slope
        update = self._gain * slope + rule.momentum * running if rule.nesterov else running
        matrix = np.zeros((len(self.values), 5, 5))
        matrix[:, [1, 3]] = running
        matrix[:, [0, 2]] = -rate * update
        matrix[:, [0, 2], [0, 2]] += 1.0 - rate * decoupled
        matrix[:, 2, 4] -= rate * decoupled
        matrix[:, 4, 4] = 1.0
        return matrix

    def after(self, rate: Rate, count: int) -> Float[np.ndarray, "N 5"]:
        """The state after so many steps: by squaring for a constant rate, step by step for a schedule."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not callable(rate):
                return np.linalg.matrix_power(self.step(rate), count) @ _START
            *_, last = self.along(rate, count)
            return last

    def along(self, rate: Rate, count: int) -> Iterator[Float[np.ndarray, "N 5"]]:
        """The states from the start to the last of so many steps."""
        state = np.broadcast_to(_START, (len(self.values), 5))
        yield state
        constant = self.step(1.0 if callable(rate) else rate)
        for index in range(count):
            now = self.step(rate(index)) if callable(rate) else constant
            state = (now @ state[:, :, None])[:, :, 0]
            yield state

    def noise_input(self, rate: float) -> tuple[float, float]:
        """How an error of the gradient enters (a, m)."""
        return -rate * self._gain * (1.0 + self.rule.momentum * self.rule.nesterov), self._gain

    @property
    def _gain(self) -> float:
        return 1.0 - self.rule.momentum if self.rule.averaged else 1.0


@dataclass(frozen=True, eq=False)
class BatchNoise:
    r"""The covariance of a gradient from B examples drawn from n, with or without replacement.

    The batch's residuals are $Dr$, $D = \frac nB\mathrm{diag}(c)$ with the counts c of the examples, so that
    $E D = I$. With replacement c is multinomial, and the coefficients $sDr$ of the gradient have given
    $R = E\,rr^\top$ the covariance $\frac{s^2}B\big(n\,\mathrm{blockdiag}(R) - R\big)$, with one block of k outputs
    for each example. Without, $E c_i^2 = E c_i = \frac Bn$ and $E c_ic_j = \frac{B(B-1)}{n(n-1)}$, which multiplies
    that by $\frac{n-B}{n-1}$, exactly: 0 for B = n.
    """

    basis: Float[np.ndarray, "N N"]
    outputs: int
    batch: int
    replacement: bool = True

    def covariance(self, second: Float[np.ndarray, "N N"], scale: float) -> Float[np.ndarray, "N N"]:
        """The covariance in the kernel's basis from $R$ in that basis."""
        size = len(second) // self.outputs
        U = self.basis
        R = U @ second @ U.T
        same = np.kron(np.eye(size), np.ones((self.outputs, self.outputs)))
        left = 1.0 if self.replacement else (size - self.batch) / max(1, size - 1)
        return left * scale**2 / self.batch * (U.T @ (size * same * R - R) @ U)


def spread(modes: Modes, noise: BatchNoise, rate: Rate, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    r"""Mean states (N, 5) and covariances of $a$ in the kernel's basis, (N, N), from the start to the last step.

    With $C$ the 2x2 companion matrix of a mode, $P_{ij}$ the covariance (2, 2) of (a, m) of two modes and
    $b$ how the gradient enters, $P_{ij} \leftarrow C_iP_{ij}C_j^\top + b\,Q_{ij}b^\top$, Q from `BatchNoise`; exact.
    """
    moves, values = modes.values > 0, modes.values
    P = np.zeros((2, 2, len(values), len(values)))
    frozen = np.where(moves, 0.0, modes.residual)
    for index, state in enumerate(modes.along(rate, count)):
        yield state, P[0, 0]
        if index == count:
            return
        now = rate(index) if callable(rate) else rate
        a, e = state[:, 0], state[:, 2]
        r = values * a + np.where(moves, e * modes.weights + modes.residual, frozen)
        second = values[:, None] * P[0, 0] * values + np.outer(r, r)
        Q = noise.covariance(second, modes.scale) * np.outer(moves, moves)
        C, b = np.moveaxis(modes.step(now)[:, :2, :2], 0, -1), np.array(modes.noise_input(now))
        half = np.einsum("abi,bcij->acij", C, P)
        P = np.einsum("acij,dcj->adij", half, C) + np.multiply.outer(np.outer(b, b), Q)
