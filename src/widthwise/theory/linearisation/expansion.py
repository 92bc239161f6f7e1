r"""The first-order expansion of a shallow network: its features, what it is at zero, and the scale of its start.

Legend: $f(x; W) = \gamma\sum_{j=1}^ma_j\sigma(w_j^\top x)$ with the factor $\gamma$ named ``scale``, $1/\sqrt m$ in
this theory; $\tilde f(x; W) = f(x; W_0) + \langle\Phi(x), W - W_0\rangle$.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.activations import Activation
from widthwise.numerics import Estimate, mean_and_sem, reject

from ..infinite_width import taylor_model
from ..lazy import Shallow
from ..lazy.shallow import slopes


def feature_map(net: Shallow, X: ArrayLike) -> Float[np.ndarray, "n p"]:
    r"""The features $\Phi(x)_{(j,\cdot)} = \gamma a_j\sigma'(w_{0,j}^\top x)\,x^\top$ of inputs X (n, d), p = md.

    With $\gamma = 1/\sqrt m$ the kernel $\Phi(x)\cdot\Phi(x')$ is an average over neurons; without it, m times that.
    Source: bartlett2021deep.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("relu"), 0.5)
    >>> feature_map(net, [[3.0, -1.0]]).tolist()
    [[1.5, -0.5, -0.0, 0.0]]
    """
    X = jnp.asarray(X, dtype=net.W.dtype)
    weighted = net.scale * slopes(net, X) * net.signs[None, :]
    return np.asarray(weighted[:, :, None] * X[:, None, :]).reshape(len(X), -1)


def expansion_at_zero(net: Shallow, X: ArrayLike) -> Float[np.ndarray, " n"]:
    r"""The expansion around W = 0, at the network's W: $\gamma\sum_ja_j\{\sigma(0) + \sigma'(0)\,w_j^\top x\}$.

    It is affine in the inputs X (n, d) whatever the activation, so nothing that is not linear can be learned by it.
    For an activation with a kink at 0 the slope there is that of JAX.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.eye(2), jnp.array([1.0, -1.0]), activation("tanh"))
    >>> expansion_at_zero(net, [[3.0, 1.0], [6.0, 2.0]]).tolist()
    [2.0, 4.0]
    """
    zero = Shallow(jnp.zeros_like(net.W), net.signs, net.activation, net.scale)
    return taylor_model(zero, X, net.W)


def least_norm_solution(
    J: ArrayLike, f0: ArrayLike, w0: ArrayLike, y: ArrayLike, alpha: float = 1.0
) -> Float[np.ndarray, " p"]:
    r"""$\hat u = J^+(y/\alpha + Jw_0 - f_0)$, the parameters of *least norm* that fit with the tangent model.

    Gradient flow does not go there from $w_0$: it ends at $\hat u + (I - J^+J)w_0 = w_0 + J^+(y/\alpha - f_0)$, the
    solution nearest to $w_0$, which is ``w0 + tangent(J, f0, y, alpha).displacement(jnp.inf)``. The two are equal only
    if $w_0$ lies in the range of $J^\top$. ``J`` (n, p), ``f0`` (n,), ``w0`` (p,), ``y`` (n,); where J has no full row
    rank, of least norm among those of least squares.

    Raises ``ValueError`` for shapes that do not fit and numbers that are not finite. Source: bartlett2021deep;
    the way to the other solution derived here.

    >>> least_norm_solution([[1.0, 1.0]], [0.0], [3.0, -3.0], [2.0]).round(12).tolist()
    [1.0, 1.0]
    """
    J, f0, w0, y = (np.asarray(part, dtype=float) for part in (J, f0, w0, y))
    if J.ndim != 2 or f0.shape != J.shape[:1] or y.shape != f0.shape or w0.shape != J.shape[1:] or not J.size:
        reject(
            f"J of shape {J.shape}, f0 of shape {f0.shape}, w0 of shape {w0.shape}, y of shape {y.shape}",
            "They are (n, p), (n,), (p,) and (n,), none empty",
            "Give one row of J for each target",
        )
    if not (all(np.all(np.isfinite(part)) for part in (J, f0, w0, y)) and np.isfinite(alpha) and alpha > 0):
        reject("numbers that are not finite", "All are finite, and alpha is above 0", "Look where they came from")
    return np.linalg.lstsq(J, y / alpha + J @ w0 - f0, rcond=None)[0]


def start_scales(
    activation: Activation, x: ArrayLike, width: int, key: Array, nets: int = 1000, power: float = 0.5
) -> Estimate:
    r"""$E f_0(x)^2$ and $E\,k_m(x, x)$ over networks with the factor $m^{-\text{power}}$, sampled, with their errors.

    $w_j \sim N(0, I)$, $a_j = \pm1$, $k_m(x, x) = \|\Phi(x)\|^2$. Both are the same at every width for the power 1/2:
    $E\sigma(w^\top x)^2$ and $\|x\|^2E\sigma'(w^\top x)^2$. With another power they go like $m^{1-2\,\text{power}}$.

    Raises ``ValueError`` for a width below 1 and fewer than two networks. Source: bartlett2021deep.

    >>> from widthwise.activations import activation
    >>> found = start_scales(activation("identity"), [0.6, 0.8], 30, jax.random.key(0))
    >>> bool(abs(found.value[0] - 1.0) < 5 * found.error[0]), found.value[1].round(12).item()
    (True, 1.0)
    """
    if width < 1 or nets < 2:
        reject(
            f"width={width}, nets={nets}", "A width is at least 1, and an error needs two networks", "Give nets=1000"
        )
    x = np.asarray(x, dtype=float)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    z, a = rng.standard_normal((nets, width, len(x))) @ x, rng.choice([-1.0, 1.0], size=(nets, width))
    with jax.enable_x64(True):
        value, slope = (np.asarray(part) for part in jax.jvp(activation, (jnp.asarray(z),), (jnp.ones(z.shape),)))
    factor = float(width) ** -power
    outputs = factor * np.sum(a * value, axis=1)
    kernels = factor**2 * float(x @ x) * np.sum(slope**2, axis=1)
    return mean_and_sem(np.stack([outputs**2, kernels], axis=1))
