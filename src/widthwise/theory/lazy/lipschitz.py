r"""Certified Lipschitz constants $\beta$ of the Jacobian, $\|J_w - J_v\|_{op} \le \beta\|w - v\|$.

Legend: inputs X (n, d), Gram matrix $G = XX^\top$, activation $\sigma$ with $s_1 = \sup|\sigma'|$ and
$s_2 = \sup|\sigma''|$, readout a (m,). ``deep`` has the bound for networks of any depth, ``curvature``
the estimates, which certify nothing.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.activations import ACTIVATIONS, Activation
from widthwise.numerics import nearest, reject

# Covers the rounding of a dozen float64 matrix operations and of constants that are stated to ten digits.
MARGIN = 1.0 + 1e-10


@dataclass(frozen=True)
class Smoothness:
    r"""A Lipschitz constant of the Jacobian on the ball of a radius around $w_0$, and what it is worth.

    Only a ``certified`` constant is a bound; an estimate says how large the truth is at least. An
    infinite value means that no bound is known, and ``method`` says why. Called with a radius it
    answers for that ball, so a constant is a profile too.

    >>> Smoothness(0.3, certified=True, method="flattened Gram matrix")
    Smoothness(0.3, certified, flattened Gram matrix)
    >>> Smoothness(0.3, certified=True, radius=1.0)(2.0).certified
    False
    """

    value: float
    certified: bool
    radius: float = math.inf
    method: str = ""

    def __post_init__(self):
        if math.isnan(self.value) or self.value < 0:
            reject(
                f"a Lipschitz constant of {self.value}", "It is a number of at least 0, or infinite", "Check its inputs"
            )

    def __call__(self, radius: float) -> "Smoothness":
        if radius <= self.radius:
            return self
        return unknown(f"the constant is known within {self.radius:.4g} of the start, and {radius:.4g} is needed")

    def __repr__(self) -> str:
        kind = "certified" if self.certified else "estimated" if math.isfinite(self.value) else "unknown"
        where = "" if math.isinf(self.radius) else f" within {self.radius:.4g}"
        return f"Smoothness({self.value:.6g}{where}, {kind}{', ' + self.method if self.method else ''})"

    def scaled(self, factor: float) -> "Smoothness":
        """The constant of a multiple of the map."""
        return Smoothness(factor * self.value, self.certified, self.radius, self.method)


# From a radius to the constant on that ball; a Smoothness is one too.
Profile = Callable[[float], Smoothness]


def unknown(why: str) -> Smoothness:
    """No bound is known, and why."""
    return Smoothness(math.inf, certified=False, method=why)


def demand_profile(given: object, words: Sequence[str] = ()) -> None:
    """Refuse what is neither a ``Smoothness``, nor a function from a radius to one, nor one of these words.

    >>> demand_profile(Smoothness(0.3, certified=True))
    """
    if callable(given) or (isinstance(given, str) and given in words):
        return
    number = float(given) if isinstance(given, Real) and not isinstance(given, bool) else 0.3
    reject(
        f"smoothness={given!r}{nearest(given, words) if isinstance(given, str) else ''}",
        f"It is {''.join(f'{word!r}, ' for word in words)}a Smoothness or a function from a radius to one",
        f"Give for example Smoothness({number:g}, certified=True) where that is a bound",
    )


def curvature_unknown(s: Activation) -> str | None:
    """Why an activation has no certified bounds, or nothing."""
    if not s.smooth:
        where = ", ".join(f"{kink:g}" for kink in s.kinks)
        return f"the activation {s.name} has a kink at {where}, where the Jacobian or its derivative jumps"
    if not math.isfinite(s.slope_bound * s.curvature_bound):
        return f"the activation {s.name} has no bound on its second derivative (curvature_bound)"
    return None


def quadratic(B: ArrayLike) -> Smoothness:
    r"""Certify $f(w)_i = (J_0w)_i + \tfrac12w^\top B_iw$, whose Jacobian changes by $B(w-v)$; $\beta = \|B\|$ unfolded.

    ``B`` (n, p, p) is symmetric in its last two axes and unfolds to (p, np).

    >>> round(quadratic([[[-3.0]]]).value, 8)
    3.0
    """
    B = np.asarray(B, dtype=float)
    unfolded = B.transpose(1, 0, 2).reshape(B.shape[1], -1)
    return Smoothness(MARGIN * float(np.linalg.norm(unfolded, 2)), True, method="unfolded second derivative")


def shallow(
    X: ArrayLike, readout: ArrayLike, s: Activation, scale: float | None = None, form: str = "flattened"
) -> Smoothness:
    r"""Certify $f(x) = \gamma\sum_ja_j\sigma(w_j\cdot x)$ with only the $w_j$ trained, on the whole space.

    $\beta \le \gamma\max|a_j|\,s_2\sqrt{\lambda_{max}(G\circ G)}$ for ``form="flattened"``, because
    $\sum_iv_i\nabla^2f_i$ is block diagonal over neurons. Weaker are ``"schur"`` with $\|X\|\max_i\|x_i\|$ and
    ``"frobenius"`` with $\sqrt{\sum_i\|x_i\|^4}$ for the root. ``scale`` is $\gamma$, $1/\sqrt m$ unless given.
    Raises ``ValueError`` for an unknown form. Derived here; source of the last: telgarsky2021deep.

    >>> from widthwise.activations import activation
    >>> forms = ("flattened", "frobenius")
    >>> [round(shallow(np.eye(2), [1.0, -1.0], activation("sin"), form=form).value, 6) for form in forms]
    [0.707107, 1.0]
    """
    X, a = np.asarray(X, dtype=float), np.asarray(readout, dtype=float)
    forms = {"flattened": _flattened, "schur": _schur, "frobenius": _frobenius}
    if form not in forms:
        reject(f"form={form!r}{nearest(form, forms)}", f"The forms are {', '.join(forms)}", "Choose one of them")
    if why := curvature_unknown(s):
        return unknown(why)
    scale = 1.0 / math.sqrt(a.size) if scale is None else scale
    value = scale * float(np.max(np.abs(a))) * s.curvature_bound * forms[form](X)
    return Smoothness(MARGIN * value, True, method=f"first layer, {form}")


def _flattened(X: np.ndarray) -> float:
    return math.sqrt(np.linalg.eigvalsh((X @ X.T) ** 2)[-1])


def _schur(X: np.ndarray) -> float:
    return float(np.linalg.norm(X, 2) * np.linalg.norm(X, axis=1).max())


def _frobenius(X: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.sum(X**2, axis=1) ** 2)))


def shallow_local(
    X: ArrayLike, weights: ArrayLike, readout: ArrayLike, s: Activation, scale: float | None = None
) -> Profile:
    r"""Certify the network of ``shallow`` on balls: $\gamma\max_j|a_j|\sqrt{\lambda_{max}(D_j(G\circ G)D_j)}$.

    $D_j = \text{diag}_i\sup\{|\sigma''(z)| : |z - w_j\cdot x_i| \le \rho\|x_i\|\}$, so that it is below the
    global constant where the radius $\rho$ is small; ``weights`` (m, d) are the $w_j$. Derived here.

    >>> from widthwise.activations import activation
    >>> profile = shallow_local(np.eye(2), np.zeros((1, 2)), [1.0], activation("tanh"))
    >>> round(profile(0.0).value, 9), round(profile(1.0).value, 6)
    (0.0, 0.7698)
    """
    if why := curvature_unknown(s):
        return unknown(why)
    X, W, a = (np.asarray(part, dtype=float) for part in (X, weights, readout))
    scale = 1.0 / math.sqrt(a.size) if scale is None else scale
    squares, preactivations, reach = (X @ X.T) ** 2, X @ W.T, np.linalg.norm(X, axis=1)

    def at(radius: float) -> Smoothness:
        D = curvature_on(s, preactivations, radius * reach[:, None])
        blocks = D.T[:, :, None] * squares * D.T[:, None, :]
        value = scale * np.max(np.abs(a) * np.sqrt(np.linalg.eigvalsh(blocks)[:, -1]))
        return Smoothness(MARGIN * float(value), True, radius, "first layer, intervals of the activation")

    return at


# Where |s''| of a known activation has its local maxima at z >= 0; all of these |s''| are even.
_PEAKS = {
    "identity": (),
    "tanh": (0.6584789484624083,),
    "sigmoid": (1.3169578969248166,),
    "erf": (math.sqrt(0.5),),
    "softplus": (0.0,),
    "gelu": (0.0, 2.0),
}


def curvature_on(s: Activation, centre: Float[np.ndarray, "n m"], reach: Float[np.ndarray, "n #m"]) -> np.ndarray:
    r"""Bound $|s''|$ on the intervals centre ± reach: exactly where its maxima are known, else by $s_2$."""
    known = ACTIVATIONS.get(s.name)
    if s.name not in _PEAKS or known is None or s.fn is not known.fn:
        return np.full(centre.shape, s.curvature_bound)
    low, high = np.maximum(np.abs(centre) - reach, 0.0), np.abs(centre) + reach
    second = jax.vmap(jax.grad(jax.grad(s.fn)))
    with jax.enable_x64(True):
        sizes = [np.abs(np.asarray(second(jnp.asarray(z.ravel())))).reshape(z.shape) for z in (low, high)]
        peaks = [(peak, abs(float(second(jnp.array([peak]))[0]))) for peak in _PEAKS[s.name]]
    bound = np.maximum(*sizes)
    for peak, height in peaks:
        bound = np.where((low <= peak) & (peak <= high), np.maximum(bound, height), bound)
    return bound


# Functions of jax.nn whose slope jumps.
_KINKED = re.compile(r"\bname=((?:relu6?|leaky_relu|hard_\w+)\b)")


def kinked_call(f: Callable, w: Float[Array, " p"]) -> str | None:
    """The first function of `jax.nn` with a kink that a map calls, by name.

    >>> kinked_call(lambda w: jax.nn.relu(w), jnp.ones(2)), kinked_call(lambda w: jnp.maximum(w, 0.0), jnp.ones(2))
    ('relu', None)
    """
    found = _KINKED.search(str(jax.make_jaxpr(f)(w)))
    return found and found[1]


def sharpest_change(
    f: Callable, w0: ArrayLike, radius: float, key: Array, *, lines: int = 8, halvings: int = 20
) -> float:
    r"""The largest $\|(J_w-J_v)^\top u\|/\|w-v\|$ found, less its rounding: at most $\beta$, and far above it at kinks.

    On each random line through the ball the part in which $J^\top u$ bends most, for a random unit vector u, is halved
    again and again, so that what jumps shows as a quotient that doubles each time.

    >>> smooth, kinked = (sharpest_change(f, [0.3], 1.0, jr.key(0)) for f in (lambda w: w**2, lambda w: jnp.abs(w)))
    >>> round(smooth, 3), kinked > 1e5
    (2.0, True)
    """
    with jax.enable_x64(True):
        start, size = jnp.asarray(w0, dtype=float), jnp.asarray(radius, dtype=float)
        found = _halved(f, start, size, jr.split(key, lines), halvings)
    return float(np.max(np.asarray(found)))


@eqx.filter_jit
def _halved(f: Callable, w0: Array, radius: Array, keys: Array, halvings: int) -> Float[Array, " lines"]:
    eps, shape = float(np.finfo(float).eps), jax.eval_shape(f, w0).shape

    def one(key):
        u, v = (part / jnp.linalg.norm(part) for part in map(jr.normal, jr.split(key), (w0.shape, shape)))

        def slope(s):
            return jax.grad(lambda w: jnp.vdot(v, f(w)))(w0 + s * radius * u)

        def halve(_, state):
            places, slopes = state
            quarter, third = jax.vmap(slope)(0.5 * (places[1:] + places[:-1]))
            left, right = jnp.stack([slopes[0], quarter, slopes[1]]), jnp.stack([slopes[1], third, slopes[2]])
            bends = [jnp.linalg.norm(part[0] - 2 * part[1] + part[2]) for part in (left, right)]
            first = bends[0] > bends[1]
            ends = jnp.where(first, places[:2], places[1:])
            return jnp.stack([ends[0], 0.5 * (ends[0] + ends[1]), ends[1]]), jnp.where(first, left, right)

        begin = jnp.array([-1.0, 0.0, 1.0])
        places, slopes = jax.lax.fori_loop(0, halvings, halve, (begin, jax.vmap(slope)(begin)))
        rounding = 1e4 * eps * jnp.linalg.norm(slopes[0])
        change = jnp.maximum(jnp.linalg.norm(slopes[2] - slopes[0]) - rounding, 0.0)
        return change / ((places[2] - places[0]) * radius + 4 * eps * jnp.linalg.norm(w0))

    return jax.lax.map(one, keys)
