r"""Data attribution: how a prediction changes when a training example is left out.

Legend: n training examples X with targets Y, m test examples, k outputs; $r = Y - f_0(X)$; the linearised model
of least $\frac12\sum_i\|f(x_i) - y_i\|^2 + \frac\rho2\|\theta-\theta_0\|^2$ (ridge regression) predicts
$f(x) = f_0(x) + \Theta(x, X)\alpha$ with $\alpha = A^{-1}r$, $A = \Theta + \rho I$; trained without example i, at the
same $\rho$, it predicts $f^{(-i)}$.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.linalg
from jax.typing import ArrayLike
from jaxtyping import Float

from widthwise.numerics import nearest, reject

from .adapters import adapt, examples
from .empirical import entk
from .trained import demand_targets

OUTPUTS = ("all", "trace")


@dataclass(frozen=True, eq=False)
class Influence:
    r"""What leaving out each training example changes.

    ``change`` (n, m, k): $f^{(-i)}(x) - f(x)$ for each training example i and test example x;
    ``left_out`` (n, k): the residual $y_i - f^{(-i)}(x_i)$ of each training example, predicted from the others.
    """

    change: Float[np.ndarray, "n m k"]
    left_out: Float[np.ndarray, "n k"]


def influence(
    model: Any, X: ArrayLike, Y: ArrayLike, X_test: ArrayLike, ridge: float, *, outputs: str = "all"
) -> Influence:
    r"""The exact effect of each training example on predictions of the linearised model, without refitting.

    $f^{(-i)}(x) - f(x) = -\Theta(x, X)(A^{-1})_{:i}\,[(A^{-1})_{ii}]^{-1}\alpha_i$ and
    $y_i - f^{(-i)}(x_i) = [(A^{-1})_{ii}]^{-1}\alpha_i$, with blocks (k, k) of example i.

    Args:
        model: what `adapt` takes.
        X, Y: training examples (n, ...) and targets (n, k), or (n,) for one output.
        X_test: test examples (m, ...).
        ridge: $\rho > 0$ of the loss that is a sum, not a mean, over examples.
        outputs: "all" uses the kernel of all outputs, $(nk)^2$ numbers; "trace" its mean over outputs for each of
            them, $n^2$ numbers.

    Raises ``ValueError`` for a ridge that is not above 0 and for shapes that do not fit.
    Source: koh2017understanding.

    >>> import jax.numpy as jnp
    >>> model = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 1)))
    >>> found = influence(model, jnp.ones((2, 1)), jnp.array([1.0, 4.0]), jnp.ones((1, 1)), 1.0)
    >>> (5 / 3 + found.change.ravel()).round(12).tolist()
    [2.0, 0.5]
    """
    _demand_ridge(ridge)
    if outputs not in OUTPUTS:
        reject(f"outputs={outputs!r}{nearest(outputs, OUTPUTS)}", "Known are 'all' and 'trace'", "Choose one of them")
    X = examples(X)
    model = adapt(model, X)
    start = np.asarray(jax.jit(jax.vmap(model))(X), dtype=float)
    residual = demand_targets(Y, start.shape) - start
    K, cross = entk(model, X, outputs=outputs), entk(model, examples(X_test), X, outputs=outputs)
    if outputs == "trace":
        K, cross, residual = K[:, None, :, None], cross[:, None, :, None], residual[:, None]
    else:
        residual = residual[:, :, None]
    return _influence(np.asarray(K, dtype=float), np.asarray(cross, dtype=float), residual, ridge, True)


def projected_influence(
    features: ArrayLike,
    residual: ArrayLike,
    test_features: ArrayLike,
    ridge: float,
    *,
    leverage: bool = True,
) -> Influence:
    r"""The same from features $\Phi$ of `projected_gradients`, for many examples, as TRAK does.

    With $G = \Phi^\top\Phi + \rho I$ (size, size), $h_i = \Phi_iG^{-1}\Phi_i^\top$ and the residual $e_i$ of the fit:
    $f^{(-i)}(x) - f(x) = -\Phi(x)\,G^{-1}\Phi_i^\top(I - h_i)^{-1}e_i$, exact for the kernel $\Phi\Phi^\top$. With
    ``leverage=False`` the factor $(I - h_i)^{-1}$ is left out: the first order in the weight of the example.

    Args:
        features: (n, k, size), or (n, size) for the mean over outputs.
        residual: $Y - f_0(X)$ (n, k), the targets less the network's outputs.
        test_features: those of m test examples, made with the same key.
        ridge: $\rho > 0$ of the loss that is a sum over examples.

    Raises ``ValueError`` for a ridge that is not above 0 and for shapes that do not fit. Source: park2023trak.

    >>> found = projected_influence(np.ones((2, 1)), np.array([[1.0], [4.0]]), np.ones((1, 1)), 1.0)
    >>> found.left_out.ravel().round(12).tolist()
    [-1.0, 3.5]
    """
    _demand_ridge(ridge)
    train, test, residual = (np.asarray(part, dtype=float) for part in (features, test_features, residual))
    _demand_features(train, test, residual)
    if train.ndim == 2:
        train, test, residual = train[:, None], test[:, None], residual[:, None]
    else:
        residual = residual[:, :, None]
    if train.shape[0] * train.shape[1] < train.shape[2]:
        K, cross = (np.einsum("ikp,jlp->ikjl", one, train, optimize=True) for one in (train, test))
        return _influence(K, cross, residual, ridge, leverage)
    rows = train.reshape(-1, train.shape[2])
    factor = scipy.linalg.cho_factor(rows.T @ rows + ridge * np.eye(rows.shape[1]))
    solved = scipy.linalg.cho_solve(factor, rows.T)  # (size, n k)
    fit = (rows @ (solved @ residual.reshape(len(rows), -1))).reshape(residual.shape)
    pulled = solved.T.reshape(train.shape)
    rest = np.eye(train.shape[1]) - train @ np.swapaxes(pulled, 1, 2)
    left_out = np.linalg.solve(rest, residual - fit)
    return _finished(np.einsum("akp,ijp->akij", test, pulled, optimize=True), left_out, residual - fit, leverage)


def _influence(K: np.ndarray, cross: np.ndarray, residual: np.ndarray, ridge: float, leverage: bool) -> Influence:
    """From kernels (n, k, n, k) and (m, k, n, k), and residuals (n, k, c)."""
    n, k = K.shape[:2]
    factor = scipy.linalg.cho_factor(K.reshape(n * k, n * k) + ridge * np.eye(n * k))
    inverse = scipy.linalg.cho_solve(factor, np.eye(n * k))
    alpha = scipy.linalg.cho_solve(factor, residual.reshape(n * k, -1)).reshape(residual.shape)
    diagonal = inverse.reshape(n, k, n, k)[np.arange(n), :, np.arange(n), :]
    pulled = (cross.reshape(-1, n * k) @ inverse).reshape(cross.shape)
    return _finished(pulled, np.linalg.solve(diagonal, alpha), ridge * alpha, leverage)


def _finished(pulled: np.ndarray, left_out: np.ndarray, residual: np.ndarray, leverage: bool) -> Influence:
    """From what an example's outputs add to predictions (m, k, n, k), and its residuals (n, k, c)."""
    change = -np.einsum("akij,ijc->iakc", pulled, left_out if leverage else residual, optimize=True)
    return Influence(change.reshape(*change.shape[:2], -1), left_out.reshape(len(left_out), -1))


def _demand_ridge(ridge: float) -> None:
    if not 0 < ridge < math.inf:
        reject(
            f"ridge={ridge}",
            "Leaving out an example has a bounded effect for a ridge above 0",
            "Give 1e-3 times the mean of the kernel's diagonal",
        )


def _demand_features(train: np.ndarray, test: np.ndarray, residual: np.ndarray) -> None:
    alike = train.ndim in (2, 3) and test.ndim == train.ndim and test.shape[1:] == train.shape[1:]
    wanted = train.shape[:2] if train.ndim == 3 else (len(train), *residual.shape[1:]) if train.ndim else ()
    if not alike or residual.ndim != 2 or residual.shape != wanted:
        reject(
            f"features of shapes {train.shape} and {test.shape} with residuals of shape {residual.shape}",
            "They are (n, k, size), (m, k, size) and (n, k); or (n, size), (m, size) and (n, k)",
            "Make both sets of features by projected_gradients with the same size and outputs",
        )
    if not all(np.all(np.isfinite(part)) for part in (train, test, residual)):
        reject("features or residuals with NaN or inf", "They are finite numbers", "Leave out such examples")
