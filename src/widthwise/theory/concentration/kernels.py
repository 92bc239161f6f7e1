r"""The two kernels of a shallow network, and their limits at infinite width.

Legend: $f(x) = \frac1{\sqrt N}\sum_{k\le N}a_k\sigma(w_k\cdot x)$ of width N, X (n, d) the inputs, $G = XX^\top$; of
its tangent kernel $K = K_1 + K_2$ the *readout* kernel $K_2 = \frac1N\sum_k\sigma(Xw_k)\sigma(Xw_k)^\top$ belongs to
the $a_k$, the *hidden* kernel $K_1 = G\circ\frac1N\sum_ka_k^2\,\sigma'(Xw_k)\sigma'(Xw_k)^\top$ to the $w_k$.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.networks import Apply, Chain, Dense, check_inputs
from widthwise.networks import kernel as network_kernel
from widthwise.numerics import Estimate, nearest, reject

from ..criticality.moments import values_and_slopes

KERNELS = ("readout", "hidden", "both")


def readout_kernel(W: ArrayLike, X: ArrayLike, activation: Activation) -> Float[np.ndarray, "n n"]:
    r"""$K_2 = \frac1N\sum_k\sigma(Xw_k)\sigma(Xw_k)^\top$ of the weights W (N, d) on the inputs X (n, d).

    >>> from widthwise.activations import activation
    >>> readout_kernel([[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0]], activation("identity")).tolist()
    [[6.5]]
    """
    W, X = np.asarray(W, dtype=float), np.asarray(X, dtype=float)
    features = values_and_slopes(activation, X @ W.T)[0]
    return features @ features.T / len(W)


def hidden_kernel(
    W: ArrayLike, X: ArrayLike, activation: Activation, readout: ArrayLike = 1.0
) -> Float[np.ndarray, "n n"]:
    r"""$K_1 = G\circ\frac1N\sum_ka_k^2\,\sigma'(Xw_k)\sigma'(Xw_k)^\top$ of weights W (N, d) and ``readout`` a (N,).

    Source: jacot2018neural.

    >>> from widthwise.activations import activation
    >>> hidden_kernel([[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0]], activation("identity"), [1.0, -3.0]).tolist()
    [[50.0]]
    """
    W, X = np.asarray(W, dtype=float), np.asarray(X, dtype=float)
    slopes = values_and_slopes(activation, X @ W.T)[1] * np.asarray(readout, dtype=float)
    return (X @ X.T) * (slopes @ slopes.T) / len(W)


def limit_kernel(X: ArrayLike, activation: Activation, kernel: str = "readout") -> Estimate:
    r"""The limit (n, n) at infinite width, over $w \sim N(0, I)$ and $a = \pm1$, from the Gaussian dual.

    ``"readout"`` $E\,\sigma(w\cdot x)\sigma(w\cdot x')$, ``"hidden"``
    $x\cdot x'\,E\,\sigma'(w\cdot x)\sigma'(w\cdot x')$ or ``"both"``, their sum. Raises ``ValueError`` for inputs that
    are not (n, d) and finite and for an unknown kernel.

    >>> from widthwise.activations import activation
    >>> np.round(limit_kernel([[1.0, 0.0], [0.0, 1.0]], activation("relu")).value, 6).tolist()
    [[0.5, 0.159155], [0.159155, 0.5]]
    """
    X = check_rows(X)
    check_kernel(kernel)
    d = X.shape[1]  # a weight variance of d takes the mean over coordinates back
    found = network_kernel(Chain((Dense(float(d)), Apply(activation), Dense(1.0))), X)
    value = {"readout": found.nngp, "hidden": found.ntk - found.nngp, "both": found.ntk}[kernel]
    largest = found.nngp if kernel == "readout" else found.ntk if kernel == "both" else found.nngp + found.ntk
    return Estimate(value, found.error * float(np.max(np.diag(largest))))


def check_rows(X: ArrayLike) -> Float[np.ndarray, "n d"]:
    """Refuse what are no inputs of shape (n, d)."""
    X = check_inputs("X", X)
    if X.ndim != 2:
        reject(f"X of shape {X.shape}", "Inputs are of shape (n, d) here", "Flatten each input")
    return np.asarray(X, dtype=float)


def check_kernel(kernel: str) -> None:
    """Refuse an unknown kernel."""
    if kernel not in KERNELS:
        reject(f"kernel={kernel!r}{nearest(str(kernel), KERNELS)}", f"Known are {', '.join(KERNELS)}", "Choose one")
