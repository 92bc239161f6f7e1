r"""A whole network as one function of an angle and two mean squares, in a few polynomial coefficients.

Legend: $q_1, q_2$ mean squares of two inputs, $\theta$ the angle between them, $K$ the NNGP kernel
or the NTK. What is interpolated is the normalised kernel
$\kappa(q_1, q_2, \theta) = K(q_1, q_2, \theta)/\sqrt{K(q_1, q_1, 0)K(q_2, q_2, 0)}$, in $\theta$ by Chebyshev
polynomials and in $\log q$ by Lagrange's through Chebyshev nodes. In the angle even a kinked
activation is analytic (in the cosine it is not), so some thirty coefficients give all digits. Where
$\kappa$ does not depend on the mean squares (inputs on a sphere, a homogeneous network without
biases, a layer norm) one node in $\log q$ is enough, and a network of any depth is a polynomial of
one variable. Where it does and an activation has a kink, the kernel has the tip of a cone at $\theta = 0,
q_1 = q_2$ (a bias turns unequal norms into an angle, and a kink is not smooth at angle zero), which no polynomial
follows: then there is no profile.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .chain import Chain
from .layer import AbstractLayer
from .pair import Pair
from .pairwise import MAX_DEGREE, has_kinks, series_degree, set_degree, uses_cells

_ANGLES, _MOST_ANGLES = 48, 768
_NORMS, _MOST_NORMS = 5, 65
_SAME = 1e-13  # mean squares that agree to this relative width are one
_SETTLED = 4e-14  # coefficients below this are rounding
_LINES = 24  # pairs of mean squares that are propagated at once
_CHECKED = 16
_FAR = 1e4  # an error so many times the tolerance needs many more terms


@dataclass(frozen=True, eq=False)
class Profile:
    r"""The kernels of a network, for inputs with mean squares between ``low`` and ``high``.

    ``nngp`` and ``ntk`` (k, r, r): Chebyshev coefficients in $2\theta/\pi-1$ of the normalised kernels at r
    nodes of $\log q_1$ and of $\log q_2$; ``levels`` (2, s): logarithms of the two kernels of an input with
    itself; ``error`` bounds the error of the normalised kernels.
    """

    low: float
    high: float
    nngp: Float[np.ndarray, "k r r"]
    ntk: Float[np.ndarray, "l r r"]
    levels: Float[np.ndarray, "2 s"]
    error: float

    @property
    def degrees(self) -> tuple[int, int]:
        """The degree in the angle and the number of nodes in each mean square."""
        return max(len(self.nngp), len(self.ntk)) - 1, self.nngp.shape[1]

    def basis(self, q: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n r"]:
        """Lagrange's polynomials of the nodes in the logarithm, at these mean squares."""
        return lagrange(self.nngp.shape[1], self._position(q))

    def own(self, q: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 n"]:
        """Both kernels of inputs with themselves."""
        return np.exp(self.levels @ lagrange(self.levels.shape[1], self._position(q)).T)

    def _position(self, q: np.ndarray) -> np.ndarray:
        return position(np.log(q), np.log(self.low), np.log(self.high))


def position(value, low: float, high: float):
    """Map [low, high] to [-1, 1]; a single point to 0."""
    return (2.0 * value - low - high) / (high - low) if high > low else 0.0 * value


def nodes(count: int) -> Float[np.ndarray, " k"]:
    """Chebyshev nodes of the first kind in [-1, 1]."""
    return np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))


def transform(count: int) -> Float[np.ndarray, "k k"]:
    """The matrix from values at the nodes to Chebyshev coefficients."""
    rows = 2.0 / count * np.cos(np.outer(np.arange(count), (2 * np.arange(count) + 1) * np.pi / (2 * count)))
    rows[0] *= 0.5
    return rows


def lagrange(count: int, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
    """Lagrange's polynomials of so many Chebyshev nodes."""
    return np.polynomial.chebyshev.chebvander(x, count - 1) @ transform(count)


def compile_profile(network: AbstractLayer, size: int, low: float, high: float, tolerance: float) -> Profile | None:
    """Propagate pairs at the nodes, as many as the kernels need; none where the tolerance is not reached.

    >>> from widthwise.networks import MLP
    >>> found = compile_profile(MLP(depth=3, activation="relu").network(), 10, 0.5, 2.0, 1e-10)
    >>> found.degrees[1], found.error < 1e-13  # homogeneous: the norms do not matter
    (1, True)
    """
    low, high = (low, high) if high - low > _SAME * high else (high, high)
    angles, norms = _ANGLES, _NORMS if high > low else 1
    while angles <= _MOST_ANGLES and norms <= _MOST_NORMS:
        found = _sampled(network, size, low, high, angles, norms)
        if found is None:
            return None
        kernels, levels, error = found
        if error > tolerance:
            degree = (4 if error > _FAR * tolerance else 2) * series_degree(network)
            if not 0 < degree <= MAX_DEGREE:
                return None
            network = set_degree(network, degree)
            continue
        coefficients = [np.einsum("kt,tab->kab", transform(angles), part) for part in kernels]
        angles_suffice = all(np.abs(part[-4:]).max() <= _SETTLED for part in coefficients)
        tail = 0.0 if norms == 1 else max(map(_norm_tail, (*coefficients, levels)))
        if angles_suffice and tail <= _SETTLED:
            shortened = _shortened(low, high, coefficients, levels, error)
            return _checked(network, size, shortened, tolerance)
        if tail > _SETTLED and has_kinks(network):
            return None
        angles, norms = angles if angles_suffice else 2 * angles, norms if tail <= _SETTLED else _more(norms, tail)
    return None


def _more(norms: int, tail: float) -> int:
    """As many nodes as suffice where the coefficients fall geometrically, from one to this tail."""
    guess = 3 + round((norms - 2) * np.log(_SETTLED) / np.log(tail)) if tail < 0.5 else 4 * norms
    return min(max(guess, norms + 2), 4 * norms)


def _sampled(network: AbstractLayer, size: int, low: float, high: float, angles: int, norms: int):
    """Normalised kernels (t, r, r) at all nodes, levels (2, r) and the error of duals; none where they do not exist."""
    q = np.exp(0.5 * (np.log(low) + np.log(high)) + 0.5 * (np.log(high) - np.log(low)) * nodes(norms))
    theta = np.append(0.5 * np.pi * (1.0 + nodes(angles)), 0.0)
    first, second = np.triu_indices(norms)
    cosine, ntk, variance, error = _lines(network, size, q[first], q[second], np.tile(theta, (len(first), 1)))
    same = first == second
    levels = np.stack([variance[same], ntk[same, -1]])
    if not (np.all(np.isfinite(ntk)) and np.all(np.isfinite(cosine)) and np.all(levels > 0)):
        return None
    ntk = ntk / np.sqrt(levels[1][first] * levels[1][second])[:, None]
    grids = []
    for values in (cosine, ntk):
        grid = np.empty((angles, norms, norms))
        grid[:, first, second] = grid[:, second, first] = values[:, :-1].T
        grids.append(grid)
    return grids, np.log(levels), error


def _lines(network: AbstractLayer, size: int, first: np.ndarray, second: np.ndarray, theta: np.ndarray):
    """Correlation and NTK (p, t) of pairs with mean squares (p,) at angles (p, t), variance of the first, error."""
    together = 1 if uses_cells(network) else _LINES
    parts = []
    for start in range(0, len(first), together):
        chosen = np.minimum(np.arange(start, start + together), len(first) - 1)
        parts.append(_propagated(network, size, *(part[chosen] for part in (first, second, theta))))
    cosine, ntk, variance, error = (np.concatenate(part)[: len(first)] for part in zip(*parts, strict=True))
    return cosine, ntk, variance, float(np.max(error))


class _Pairs(eqx.Module):
    """Pairs as in ``Pair``, on lines: the mean squares belong to a line (p,), all else to its angles (p, t)."""

    xx: Float[Array, " p"]
    yy: Float[Array, " p"]
    gap: Float[Array, "p t"]
    cogap: Float[Array, "p t"]
    ntk: Float[Array, "p t"]
    error: Float[Array, "p t"]
    size: int | None = eqx.field(static=True)
    gaussian: bool = eqx.field(static=True)


def _propagated(network: AbstractLayer, size: int, first: np.ndarray, second: np.ndarray, theta: np.ndarray):
    gap, cogap = 2.0 * np.sin(0.5 * theta) ** 2, 2.0 * np.cos(0.5 * theta) ** 2
    zero = np.zeros_like(gap)
    xx, yy, gap, cogap, zero = map(jnp.asarray, (first, second, gap, cogap, zero))
    after = _through(network, _Pairs(xx, yy, gap, cogap, zero, zero, size, gaussian=False))
    gap, cogap, ntk, variance, error = map(np.asarray, (after.gap, after.cogap, after.ntk, after.xx, after.error))
    return 0.5 * (cogap - gap), ntk, variance, np.max(error, axis=1)


def _through(network: AbstractLayer, pairs: _Pairs) -> _Pairs:
    """Layer by layer, so that equal layers are compiled once: deep networks repeat themselves."""
    if not isinstance(network, Chain):
        return _step(network, pairs)
    for layer in network.units:
        pairs = _through(layer, pairs)
    return pairs


@eqx.filter_jit
def _step(layer: AbstractLayer, pairs: _Pairs) -> _Pairs:
    """One layer; what belongs to one input alone is computed once for a line, not for each of its angles."""
    seen = []

    def line(xx, yy, *rest):
        def one(gap, cogap, ntk, error):
            after = layer.propagate(Pair(xx, yy, gap, cogap, ntk, error, None, pairs.size, pairs.gaussian))
            seen.append((after.size, after.gaussian))
            return after.xx, after.yy, after.gap, after.cogap, after.ntk, after.error

        return jax.vmap(one, out_axes=(None, None, 0, 0, 0, 0))(*rest)

    after = jax.vmap(line)(pairs.xx, pairs.yy, pairs.gap, pairs.cogap, pairs.ntk, pairs.error)
    return _Pairs(*after, *seen[-1])


def _norm_tail(values: np.ndarray) -> float:
    """The largest of the last two coefficients in the last variable."""
    count = values.shape[-1]
    return float(np.abs(values @ transform(count)[-2:].T).max())


def _shortened(low: float, high: float, coefficients: list, levels: np.ndarray, error: float) -> Profile:
    """Leave out what is rounding: trailing coefficients, and norms on which nothing depends."""
    norms = levels.shape[1]
    if norms > 1 and all(np.ptp(part, axis=(1, 2)).max() <= _SETTLED for part in coefficients):
        coefficients = [part[:, :1, :1] for part in coefficients]
    nngp, ntk = (part[: _needed(part)] for part in coefficients)
    return Profile(low, high, nngp, ntk, levels, error + 2 * _SETTLED)


def _needed(coefficients: np.ndarray) -> int:
    """How many coefficients are left when the last ones sum to less than what is settled."""
    largest = np.abs(coefficients).max(axis=(1, 2))
    left_out = np.cumsum(largest[::-1])[::-1]
    return int(np.sum(left_out > 0.5 * _SETTLED)) or 1


def _checked(network: AbstractLayer, size: int, found: Profile, tolerance: float) -> Profile | None:
    """Compare with propagation at random pairs, and put what is seen into the error."""
    rng = np.random.default_rng(0)
    q = np.exp(rng.uniform(np.log(found.low), np.log(found.high), (2, _CHECKED)))
    theta = np.append(np.pi * rng.uniform(size=(_CHECKED, _ANGLES)), np.zeros((_CHECKED, 1)), axis=1)
    cosine, ntk, variance, _ = _lines(network, size, q[0], q[1], theta)
    levels = [found.own(part) for part in q]
    scale = np.sqrt(levels[0] * levels[1])[:, :, None]
    bases = [found.basis(part) for part in q]
    worst = float(np.max(np.abs(variance / levels[0][0] - 1.0)))
    for coefficients, wanted in ((found.nngp, cosine), (found.ntk, ntk / scale[1])):
        at = np.einsum("kab,pa,pb->kp", coefficients, *bases)
        seen = np.stack([clenshaw(at[:, p], 2.0 * theta[p] / np.pi - 1.0) for p in range(_CHECKED)])
        worst = max(worst, float(np.max(np.abs(seen - wanted))))
    error = found.error + worst
    if not error <= tolerance:
        return None
    return Profile(found.low, found.high, found.nngp, found.ntk, found.levels, error)


def clenshaw(coefficients, x):
    r"""$\sum_k c_kT_k(x)$, for coefficients (k, ...) that fit x."""
    last, before = 0.0 * x, 0.0 * x
    for one in coefficients[:0:-1]:
        last, before = one + 2.0 * x * last - before, last
    return coefficients[0] + x * last - before
