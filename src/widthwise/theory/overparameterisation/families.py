r"""Two-layer networks of any width with one initialisation, each seed's narrow networks inside its wide ones.

Legend: $f(x) = \frac1{\sqrt m}\sum_{j\le m}a_j\sigma(w_j\cdot x)$, $w_j \sim N(0, I)$, $a$ fixed; n inputs X (n, d); K
the tangent kernel in the first layer, $\bar K = E[a^2]\,G\circ E[\sigma'\sigma']$ its limit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from widthwise.activations import Activation
from widthwise.numerics import nearest, reject
from widthwise.theory.lazy import Shallow, limit_gram
from widthwise.theory.lazy.shallow_limits import mean_square

from .examples import network
from .runs import evaluate

# The readout: every neuron with both signs, so that f = 0 at the start; independent signs; uniform on [-1, 1].
INITS = ("mirrored", "signs", "uniform")
_CHUNK = 4096
_DOUBT = 1e-9  # errors above this part of the largest eigenvalue are more than rounding


@dataclass(frozen=True)
class Family:
    r"""The networks of one activation and one initialisation of the readout a.

    ``"mirrored"``: half of the $a_j$ are 1 and half -1, with the same weights, so that $f = 0$ at the start;
    ``"signs"``: independent signs; ``"uniform"``: uniform on [-1, 1]. Raises ``ValueError`` for another name.

    >>> from widthwise.activations import activation
    >>> family = Family(activation("tanh"), "mirrored")
    >>> wide, narrow = family.draw(0, 8, 3), family.draw(0, 4, 3)
    >>> bool((wide.W[:2] == narrow.W[:2]).all()), narrow.signs.tolist()
    (True, [1.0, 1.0, -1.0, -1.0])
    """

    activation: Activation
    init: str = "mirrored"

    def __post_init__(self):
        if self.init not in INITS:
            reject(
                f"init={self.init!r}{nearest(self.init, INITS)}",
                f"The initialisations are {', '.join(INITS)}",
                "Choose one",
            )

    @property
    def mirrored(self) -> bool:
        return self.init == "mirrored"

    @property
    def mean_square_readout(self) -> float:
        r"""$E[a^2]$."""
        return 1 / 3 if self.init == "uniform" else 1.0

    def draw(self, seed: int, width: int, dim: int) -> Shallow:
        """The network of a seed and a width, which is even for mirrored ones."""
        count = width // 2 if self.mirrored else width
        W, a = self._neurons(seed, count, dim)
        return (
            network(np.concatenate([W, W]), np.concatenate([a, -a]), self.activation)
            if self.mirrored
            else network(W, a, self.activation)
        )

    def _neurons(self, seed: int, count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
        weights, readout = (np.random.default_rng([seed, part]) for part in (0, 1))
        return weights.normal(size=(count, dim)), self._readout(readout, count)

    def _readout(self, rng: np.random.Generator, count: int) -> np.ndarray:
        if self.init == "uniform":
            return rng.uniform(-1, 1, size=count)
        return np.ones(count) if self.mirrored else rng.choice([-1.0, 1.0], size=count)

    def starts(
        self, seed: int, X: Float[np.ndarray, "n d"], widths: Sequence[int]
    ) -> Iterator[tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"]]]:
        """Tangent kernel and outputs at the start for rising widths, by adding neurons and never holding them all."""
        weights, readout = (np.random.default_rng([seed, part]) for part in (0, 1))
        G, sums, outputs, done = X @ X.T, np.zeros((len(X), len(X))), np.zeros(len(X)), 0
        for width in widths:
            count = width // 2 if self.mirrored else width
            while done < count:
                more = min(_CHUNK, count - done)
                W, a = weights.normal(size=(more, X.shape[1])), self._readout(readout, more)
                values, slopes = _padded(self.activation, X @ W.T)
                sums += (slopes * a) @ (slopes * a).T
                outputs += 0.0 if self.mirrored else values @ a
                done += more
            yield G * sums / count, outputs / math.sqrt(count)

    def limit(self, X: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n n"], float]:
        r"""$\bar K$ and a bound on its error in the spectral norm."""
        with jax.enable_x64(True):
            gram = limit_gram(X, self.activation)
        K, share = np.asarray(gram.value), self.mean_square_readout
        error = float(np.linalg.norm(gram.error)) + 64 * np.finfo(float).eps * float(np.trace(K))
        return share * K, share * error

    def mean_square_residual(self, X: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> float:
        r"""$E\|f - y\|^2$ at the start: $\|y\|^2$, and unless mirrored $E[a^2]\sum_iE\,\sigma(w\cdot x_i)^2$ more."""
        with jax.enable_x64(True):
            own = 0.0 if self.mirrored else self.mean_square_readout * float(np.sum(mean_square(X, self.activation)))
        return float(y @ y) + own


def _padded(s: Activation, Z: Float[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate at a power of two of neurons, so that few shapes are compiled."""
    size = 1 << max(6, (Z.shape[1] - 1).bit_length())
    with jax.enable_x64(True):
        values, slopes = evaluate(s, np.pad(Z, ((0, 0), (0, size - Z.shape[1]))))
    return values[:, : Z.shape[1]], slopes[:, : Z.shape[1]]


def singular(X: Float[np.ndarray, "n d"], K: Float[np.ndarray, "n n"], error: float) -> str | None:
    r"""Why a limiting kernel has no least eigenvalue above its error, with the inputs to blame, or nothing.

    >>> print(singular(np.array([[1.0, 0], [0, 1], [1, 0]]), np.array([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]), 1e-12))
    the limiting kernel is singular, lambda_0 = 0: inputs 0 and 2 are equal
    """
    values = np.linalg.eigvalsh(K)
    if values[0] > error:
        return None
    told = "the limiting kernel is singular, lambda_0 = 0: "
    norms = np.linalg.norm(X, axis=1)
    if not norms.all():
        return told + f"input {int(np.argmin(norms))} is zero"
    found, known = _on_one_line(X, norms), error <= _DOUBT * values[-1]
    if found is not None and (known or found[2] == "equal"):
        return told + f"inputs {found[0]} and {found[1]} are {found[2]}"
    if not known:
        return (
            f"the limiting kernel is known to +-{error:.2g} only for inputs of norm up to {norms.max():.3g}; "
            "scale the inputs, or use erf"
        )
    count = int(np.sum(values <= error))
    return told + f"{count} of its {len(K)} directions are lost, by an activation of few degrees or by too many inputs"


def _on_one_line(X: Float[np.ndarray, "n d"], norms: Float[np.ndarray, " n"]) -> tuple[int, int, str] | None:
    """The two inputs that are nearest to one line, and how they lie on it; None where they do not."""
    if len(X) < 2:
        return None
    units = X / norms[:, None]
    cosines = units @ units.T
    pairs = np.triu_indices(len(X), 1)
    nearest_pair = np.argmax(np.abs(cosines[pairs]))
    first, second = (int(rows[nearest_pair]) for rows in pairs)
    side = math.copysign(1.0, cosines[first, second])
    if np.linalg.norm(units[first] - side * units[second]) >= 1e-6:
        return None
    equal = np.allclose(X[first], X[second], rtol=1e-6)
    return first, second, "equal" if equal else "opposite" if side < 0 else "parallel"
