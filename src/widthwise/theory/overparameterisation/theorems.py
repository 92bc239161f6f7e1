r"""The width from which on each theorem certifies lazy training, by the limiting kernel and on sampled networks.

Legend: as in ``families``; $\lambda_0 = \lambda_{min}(K)$, $\beta = \bar\beta/\sqrt m$ the Lipschitz constant of the
Jacobian, $r_0 = \|f - y\|$ at the start. Every certificate depends on K, the residual and $\beta$ alone, so that an n
by n square root of K stands for the network, and the factor $\sqrt m$ for $\alpha$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthwise.numerics import Estimate
from widthwise.theory.lazy import Certificate, LazyProblem, Smoothness, certify, certify_spectrum, certify_theorem
from widthwise.theory.lazy.lipschitz import shallow
from widthwise.theory.lazy.maps import QuadraticMap

from .families import Family, singular
from .stability import Sizes, sizes, slope_unknown, sufficient_width
from .statistical import certify_statistical


@dataclass(frozen=True)
class TheoremWidth:
    r"""From which width on a theorem certifies lazy training.

    ``width``: by the limiting kernel and the mean residual at the start; infinite where the theorem never applies, and
    then ``reason`` says why. ``sampled``: the mean over sampled networks of the width from which on each is certified,
    with its standard error; ``None`` where it is larger than was sampled, or nothing was. ``says``: what follows.
    """

    claim_id: str
    name: str
    says: str
    width: float
    sampled: Estimate | None = None
    reason: str = ""

    @property
    def applies(self) -> bool:
        """Whether there is such a width."""
        return not self.reason


@dataclass(frozen=True)
class Start:
    """What the theorems see of a network at its start: kernel (n, n), residual (n,), width, sizes and constants."""

    K: Float[np.ndarray, "n n"]
    r: Float[np.ndarray, " n"]
    width: float
    sizes: Sizes
    beta: float
    crude: float

    def spectrum(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
        """Eigenvalues of the kernel, less what rounding may have added, and eigenvectors."""
        values, Q = np.linalg.eigh(self.K)
        return np.maximum(values - 64 * len(values) * np.finfo(float).eps * values[-1], 0.0), Q

    def problem(self, crude: bool = False) -> LazyProblem:
        """A linear map with the same kernel, of which the certificates know only the Lipschitz constant."""
        values, Q = self.spectrum()
        root, n = Q * np.sqrt(values), len(self.r)
        with jax.enable_x64(True):
            f = QuadraticMap(jnp.asarray(root), jnp.zeros((n, n, n)))
        beta = (self.crude if crude else self.beta) / math.sqrt(self.width)
        return LazyProblem(f, np.zeros(n), -self.r, smoothness=Smoothness(beta, True), name="kernel")


@dataclass(frozen=True)
class Theorem:
    """A theorem: its certificate for a network at its start, or a rule for the width by itself."""

    claim_id: str
    name: str
    says: str
    certificate: Callable[[Start], Certificate] | None = None
    # Certificates that look at more than the size of the residual need to know it.
    aligned: bool = False

    def width(self, start: Start) -> float:
        r"""The width that is needed when K and the residual stay as they are: $\alpha$ and $\sqrt m$ do the same."""
        if self.certificate is None:
            loss = 0.5 * float(np.mean(start.r**2))
            return sufficient_width("du", start.sizes, loss, float(start.spectrum()[0][0]))
        return start.width * self.certificate(start).threshold ** 2

    def holds(self, start: Start) -> bool:
        """Whether it certifies this very network."""
        if self.certificate is None:
            return bool(start.width > self.width(start))
        return self.certificate(start).certified


THEOREMS = (
    Theorem("LAZY-42", "Du and others, constant 128", "no neuron moves far, lambda_min stays above lambda_0/2"),
    Theorem(
        "LAZY-22",
        "textbook, constant 1152",
        "risk and distance bounds",
        lambda start: certify_theorem(start.problem(crude=True)),
    ),
    Theorem(
        "LAZY-27",
        "Bartlett, Montanari, Rakhlin",
        "bounds on risk, distance and predictions",
        lambda start: certify_statistical(start.problem()),
    ),
    Theorem("LAZY-C1", "sharp ball", "bounds on everything, optimal constant", lambda start: certify(start.problem())),
    Theorem(
        "LAZY-C2",
        "spectral",
        "bounds on everything, uses the targets",
        lambda start: certify_spectrum(start.problem()),
        aligned=True,
    ),
)


def theorem_widths(
    family: Family,
    X: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    seeds: int = 0,
    largest: int = 2**15,
    tick: Callable[[], None] = lambda: None,
) -> tuple[TheoremWidth, ...]:
    r"""From which width on each theorem applies, by the limiting kernel and on ``seeds`` sampled networks.

    A network is sampled at widths that are an eighth of an octave apart, walking from the limiting width, until it is
    certified at one of them and not at the next; its width is then what its own kernel and residual ask for. Beyond the
    ``largest`` width nothing is sampled. ``tick`` is called after each seed.

    >>> from widthwise.activations import activation
    >>> found = theorem_widths(Family(activation("tanh")), np.eye(2), np.array([0.1, -0.1]))
    >>> [(one.claim_id, round(one.width, 1)) for one in found[2:4]]
    [('LAZY-27', 0.9), ('LAZY-C1', 0.2)]
    """
    K, error = family.limit(X)
    why = slope_unknown(family.activation) or singular(X, K, error)
    if why:
        return tuple(_without(one, why) for one in THEOREMS)
    size, norm = math.sqrt(family.mean_square_residual(X, y)), float(np.linalg.norm(y))
    # Of theorems that look at its size alone, the direction of the residual does not matter.
    residual = y * (size / norm) if norm else np.full(len(y), size / math.sqrt(len(y)))
    limit = _limit(family, X, K, residual)
    limits = {one.claim_id: one.width(limit) for one in THEOREMS if family.mirrored or not one.aligned}
    sampled: dict[str, list[float]] = {one.claim_id: [] for one in THEOREMS}
    for seed in range(seeds):
        for one in THEOREMS:
            if not one.aligned and limits[one.claim_id] <= largest:
                walk = _walk(family, X, y, seed, one, limit, limits[one.claim_id], largest)
                sampled[one.claim_id].append(walk)
        tick()
    return tuple(_found(one, limits.get(one.claim_id), sampled[one.claim_id]) for one in THEOREMS)


def _without(theorem: Theorem, why: str) -> TheoremWidth:
    return TheoremWidth(theorem.claim_id, theorem.name, theorem.says, math.inf, reason=why)


def _found(theorem: Theorem, width: float | None, sampled: list[float]) -> TheoremWidth:
    if width is None:
        return _without(theorem, "outputs start at random, and with them how the residual lies; use init='mirrored'")
    if math.isinf(width):
        return _without(theorem, "its condition fails at every width")
    seen = _mean(sampled) if sampled and np.all(np.isfinite(sampled)) else None
    return TheoremWidth(theorem.claim_id, theorem.name, theorem.says, width, seen)


def _limit(family: Family, X: np.ndarray, K: np.ndarray, r: np.ndarray) -> Start:
    """What the theorems see in the limit, as if of width one."""
    one, s = np.ones(1), family.activation
    beta, crude = (shallow(X, one, s, 1.0, form).value for form in ("flattened", "frobenius"))
    return Start(K, r, 1.0, sizes(X, one, s, 1.0), beta, crude)


def _walk(family: Family, X, y, seed: int, theorem: Theorem, limit: Start, width: float, largest: int) -> float:
    """What the narrowest certified network asks for, walking from the limiting width; infinite beyond the largest."""

    def at(step: int) -> int:
        return max(2, 2 * round(2.0 ** (step / 8 - 1)))

    def start(step: int) -> Start:
        K, outputs = next(family.starts(seed, X, [at(step)]))
        return replace(limit, K=K, r=outputs - y, width=float(at(step)))

    def holds(step: int) -> bool:
        return theorem.holds(start(step))

    step = max(8, math.ceil(8 * math.log2(max(width, 2.0))))
    if holds(step):
        while at(step) > 2 and holds(step - 1):
            step -= 1
        return theorem.width(start(step))
    while at(step) <= largest:
        step += 1
        if holds(step):
            return theorem.width(start(step))
    return math.inf


def _mean(widths: list[float]) -> Estimate:
    count = len(widths)
    spread = float(np.std(widths, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(np.mean(widths)), spread)
