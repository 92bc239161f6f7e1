r"""Training an infinitely wide network: the law of its outputs over initialisations, in closed form.

Legend: X the n training inputs, T test inputs, k outputs (independent copies), $\Theta$ the NTK, K
the NNGP kernel, y the targets (n, k); at the start $f_0 \sim GP(0, K)$ and $\Theta$ never changes, so
$f_t(X) = y + E_t(f_0(X) - y)$ with $E_t = e^{-\Theta t}$, or $(I - \eta\Theta)^s$ after s steps.

Conventions of the loss, by name: ``"half-sum"`` $\tfrac12\sum_i\|f(x_i)-y_i\|^2$; ``"half-mean"``
$\tfrac1{2n}\sum_i\|f(x_i)-y_i\|^2$, whose clock is slower by n.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.numerics import Spectrum, Steps, gain, gone, left, reject, spectrum

LOSSES = ("half-sum", "half-mean")
Moment = float | int | Steps


@dataclass(frozen=True, eq=False)
class Ensemble:
    r"""The law over initialisations of an infinitely wide network in training, built by ``ensemble``.

    Methods take a moment: a time t >= 0 of the flow (``math.inf`` too) or ``Steps`` of gradient
    descent. Eigenvalues of $\Theta$ that cannot be told from zero count as zero: nothing moves there.
    """

    ntk: Spectrum
    nngp: Float[np.ndarray, "n n"]
    y: Float[np.ndarray, "n k"]
    loss: str = "half-mean"

    def mean(self, moment: Moment) -> Float[np.ndarray, "n k"]:
        r"""$E[f_t(X)] = (I - E_t)\,y$."""
        return self.ntk.vectors @ (self._gone(moment)[:, None] * self._labels)

    def covariance(self, moment: Moment) -> Float[np.ndarray, "n n"]:
        r"""$\mathrm{Cov}[f_t(X)] = E_tKE_t$, for each output."""
        left = self.ntk.vectors * self._left(moment)
        return left @ self._start @ left.T

    def test_mean(self, moment: Moment, ntk_cross: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        r"""$E[f_t(T)] = A_ty$ with $A_t = \Theta_{TX}\Theta^{-1}(I - E_t)$, from $\Theta_{TX}$ (m, n)."""
        return self._coordinates(moment, ntk_cross) @ self._labels

    def test_covariance(
        self,
        moment: Moment,
        ntk_cross: Float[np.ndarray, "m n"],
        nngp_cross: Float[np.ndarray, "m n"],
        nngp_test: Float[np.ndarray, "m m"],
    ) -> Float[np.ndarray, "m m"]:
        r"""$\mathrm{Cov}[f_t(T)] = K_{TT} + A_tKA_t^\top - A_tK_{XT} - K_{TX}A_t^\top$, for each output."""
        A = self._coordinates(moment, ntk_cross)
        mixed = A @ (nngp_cross @ self.ntk.vectors).T
        return nngp_test + A @ self._start @ A.T - mixed - mixed.T

    def test_variance(
        self,
        moment: Moment,
        ntk_cross: Float[np.ndarray, "m n"],
        nngp_cross: Float[np.ndarray, "m n"],
        nngp_diagonal: Float[np.ndarray, " m"],
    ) -> Float[np.ndarray, " m"]:
        """The diagonal of ``test_covariance``, without the rest of it."""
        A = self._coordinates(moment, ntk_cross)
        mixed = np.sum(A * (nngp_cross @ self.ntk.vectors), axis=1)
        return nngp_diagonal + np.sum(A @ self._start * A, axis=1) - 2.0 * mixed

    def risk(self, moment: Moment) -> float:
        r"""The mean training loss over initialisations, $\tfrac12(\|E_ty\|^2 + k\,\mathrm{tr}\,E_tKE_t)$ (over n).

        >>> law = ensemble(np.eye(2), np.eye(2), np.ones((2, 1)), loss="half-sum")
        >>> law.risk(0.0), round(law.risk(1.0), 12), round(float(2 * np.exp(-2.0)), 12)
        (2.0, 0.270670566473, 0.270670566473)
        """
        square = self._left(moment) ** 2
        start = np.sum(self._labels**2, axis=1) + self.y.shape[1] * np.diag(self._start)
        return float(0.5 * square @ start) / self._clock

    def risk_spread(self, moment: Moment) -> float:
        r"""The standard deviation of the training loss over initialisations.

        $\mathrm{Var}\|E_t(f_0-y)\|^2 = \sum_j 2\,\mathrm{tr}(E_tKE_t)^2 + 4\,y_j^\top E_t^2KE_t^2y_j$, of a Gaussian.
        """
        square = self._left(moment) ** 2
        return 0.5 * math.sqrt(max(0.0, float(square @ self._fourth @ square))) / self._clock

    @functools.cached_property
    def _labels(self) -> Float[np.ndarray, "n k"]:
        return self.ntk.vectors.T @ self.y

    @functools.cached_property
    def _start(self) -> Float[np.ndarray, "n n"]:
        """The NNGP kernel in the eigenbasis of the NTK."""
        return self.ntk.vectors.T @ self.nngp @ self.ntk.vectors

    @functools.cached_property
    def _fourth(self) -> Float[np.ndarray, "n n"]:
        return self._start * (2.0 * self.y.shape[1] * self._start + 4.0 * self._labels @ self._labels.T)

    @property
    def _clock(self) -> int:
        return len(self.y) if self.loss == "half-mean" else 1

    @property
    def _rates(self) -> Float[np.ndarray, " n"]:
        return np.where(self.ntk.values > self.ntk.floor, self.ntk.values, 0.0) / self._clock

    def _coordinates(self, moment: Moment, ntk_cross: np.ndarray) -> Float[np.ndarray, "m n"]:
        return (ntk_cross @ self.ntk.vectors) * gain(self._rates, moment) / self._clock

    def _left(self, moment: Moment) -> Float[np.ndarray, " n"]:
        """The part of each component of the residual that is left."""
        return left(self._rates, moment)

    def _gone(self, moment: Moment) -> Float[np.ndarray, " n"]:
        """The part that is gone."""
        return gone(self._rates, moment)


def ensemble(ntk: ArrayLike | Spectrum, nngp: ArrayLike, y: ArrayLike, loss: str = "half-mean") -> Ensemble:
    r"""Build the law of an infinitely wide network in training from its kernels on the training set.

    Args:
        ntk: $\Theta$ (n, n), or its ``Spectrum``.
        nngp: $K$ (n, n), the covariance of the outputs at the start.
        y: targets (n, k).
        loss: "half-mean" or "half-sum".

    Raises ``ValueError`` for shapes that do not fit and an unknown loss. Source: lee2019wide.

    >>> from widthwise.networks import MLP, kernel
    >>> circle = lambda degrees: np.sqrt(2) * np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)])
    >>> train, test = circle([0, 60, 150]), circle([30, 100])
    >>> network = MLP(depth=3, activation="relu").network()
    >>> K, cross = kernel(network, train), kernel(network, test, train)
    >>> law = ensemble(K.ntk, K.nngp, [[1.0], [-1.0], [0.5]], loss="half-sum")
    >>> np.round(law.test_mean(1.0, cross.ntk)[:, 0], 9).tolist()
    [-0.00759249, -0.34496979]
    """
    nngp, y = np.asarray(nngp, dtype=float), np.asarray(y, dtype=float)
    ntk = ntk if isinstance(ntk, Spectrum) else spectrum(np.asarray(ntk, dtype=float))
    n = len(ntk.values)
    if nngp.shape != (n, n) or y.ndim != 2 or len(y) != n:
        reject(
            f"an NTK of {n} inputs, an NNGP kernel of shape {nngp.shape} and targets of shape {y.shape}",
            "They are (n, n), (n, n) and (n, k) for the same n inputs",
            "Give y[:, None] for a single output",
        )
    if loss not in LOSSES:
        reject(f"loss={loss!r}", f"The conventions are {' and '.join(map(repr, LOSSES))}", "Choose one by name")
    return Ensemble(ntk, nngp, y, loss)
