r"""How far a network is from its linearisation within a ball: from above, exactly, by an adversary and by chance.

Legend: as in ``search``; $\beta(\rho)$ bounds $\|J_w-J_v\|/\|w-v\|$ on the ball of radius $\rho$.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.numerics import reject

from ..lazy.lipschitz import Profile
from .search import Found, adversarial_gap, demand_key, demand_radius, sampled_gaps
from .subjects import Subject, subject


@dataclass(frozen=True, eq=False)
class Gap:
    r"""What is known of $\sup\{\|f(w_0+\delta) - f(w_0) - J\delta\| : \|\delta\| \le R\}$, R = ``radius``.

    ``certified`` bounds it from above, and is infinite where no bound is known; ``method`` says how or why.
    ``adversarial`` bounds it from below: the gap at ``displacement`` (p,), the worst point that was found, up to
    ``rounding``. ``exact`` is its value where that is known (rectifier networks with one trained layer, one input).
    ``sampled`` (s,) are the gaps at random points of the ball.
    """

    name: str
    radius: float
    certified: float
    method: str
    exact: float | None
    adversarial: float
    displacement: Float[np.ndarray, " p"]
    rounding: float
    sampled: Float[np.ndarray, " s"]

    @property
    def slack(self) -> float:
        """Certified over adversarial, at least 1: the truth lies between. Infinite without a bound."""
        if self.certified == 0.0:
            return 1.0
        return self.certified / self.adversarial if self.adversarial > 0 else math.inf

    @property
    def mean(self) -> float:
        """The mean over the random points."""
        return float(np.mean(self.sampled))

    @property
    def spread(self) -> float:
        """The standard deviation over the random points."""
        return float(np.std(self.sampled, ddof=1)) if len(self.sampled) > 1 else math.inf

    def __repr__(self) -> str:
        return f"Gap({self.name}, radius {self.radius:.4g}: {self.adversarial:.4g} to {self.certified:.4g})"

    def __str__(self) -> str:
        known = math.isfinite(self.certified)
        above = f"at most  {self.certified:.4g} ({self.method})" if known else f"no bound, because {self.method}"
        rows = [
            f"{self.name}: distance from the linearisation within {self.radius:.4g} of the start",
            f"  certified    {above}",
            *([] if self.exact is None else [f"  exact                 {self.exact:.4g}"]),
            f"  adversarial  at least {self.adversarial:.4g}" + (f" (slack {self.slack:.3g})" if known else ""),
            f"  at random             {self.mean:.2g} +- {self.spread:.1g} ({len(self.sampled)} points, "
            f"largest {np.max(self.sampled):.2g})",
        ]
        if self.adversarial <= self.rounding:
            rows.append(f"  nothing can be seen below the rounding of {self.rounding:.1g}; take a larger radius")
        return "\n".join(rows)


@dataclass(frozen=True, eq=False)
class GapCurve:
    """The gaps over several radii, smallest first."""

    gaps: tuple[Gap, ...]

    @property
    def radii(self) -> Float[np.ndarray, " k"]:
        """The radii."""
        return np.array([gap.radius for gap in self.gaps])

    @property
    def exponents(self) -> Float[np.ndarray, " steps"]:
        r"""$d\log\text{gap}/d\log R$ of the adversarial gap from one radius to the next.

        2 where the activation is smooth and the ball small; 4/3 for a wide rectifier network; 1 for large balls.
        """
        found = np.array([gap.adversarial for gap in self.gaps])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.diff(np.log(found)) / np.diff(np.log(self.radii))

    def __repr__(self) -> str:
        return f"GapCurve({self.gaps[0].name}, {len(self.gaps)} radii)"

    def __str__(self) -> str:
        known = any(gap.exact is not None for gap in self.gaps)
        names = ["radius", "at random", "adversarial", *(["exact"] if known else []), "certified", "slack"]
        rows = ["".join(f"{name:>12}" for name in names)]
        for gap in self.gaps:
            middle = [gap.exact if gap.exact is not None else math.nan] if known else []
            numbers = [gap.radius, gap.mean, gap.adversarial, *middle, gap.certified, gap.slack]
            rows.append("".join(f"{number:>12.4g}" for number in numbers))
        return "\n".join(rows)


def gap(
    model: Any,
    X: ArrayLike | None = None,
    *,
    radius: float,
    key: Array | None = None,
    samples: int = 64,
    restarts: int = 8,
    rounds: int = 60,
    smoothness: Profile | None = None,
    **options: Any,
) -> Gap:
    r"""How far a network can depart from its linearisation within R of its parameters, known from both sides.

    The gap $\|f(w_0+\delta) - f(w_0) - J\delta\|$ is Euclidean over all outputs on X; for one input give one row.

    Args:
        model: a `Shallow` network, of which the first layer is trained; a `LazyProblem` (with its alpha, without X);
            or anything that `adapt` takes, to which ``options`` go. Float64 is used.
        X: inputs (n, ...).
        radius: R, at least 0; for example how far training went.
        key: of the random points and restarts (default: 0).
        samples, restarts, rounds: see `sampled_gaps` and `adversarial_gap`.
        smoothness: a certified Lipschitz constant of the Jacobian, or a profile of it, where there is none in the
            library.

    The certified bound is `remainder_bound` of the Lipschitz constant of the Jacobian, or `rectifier_worst_case` for a
    shallow rectifier network; there is none for other activations with kinks and for architectures without a known
    constant, and the answer says why.

    Raises ``ValueError`` for what `adapt` refuses, a wrong radius or key, inputs that are not finite, and a bound of
    yours that the adversary exceeds. Derived here, after bartlett2021deep.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> from widthwise.theory.lazy import Shallow
    >>> net = Shallow(jnp.full((16, 1), -0.6584789), jnp.ones(16), activation("tanh"), 0.25)
    >>> print(gap(net, [[1.0]], radius=0.04, samples=8))
    Shallow: distance from the linearisation within 0.04 of the start
      certified    at most  0.000154 (first layer, intervals of the activation)
      adversarial  at least 0.000154 (slack 1)
      at random             ...
    """
    demand_radius(radius)
    key, chosen = demand_key(key), subject(gap, model, X, smoothness, options)
    return _gap(chosen, radius, key, samples, (restarts, rounds))


def gap_curve(
    model: Any,
    X: ArrayLike | None = None,
    *,
    radii: Sequence[float],
    key: Array | None = None,
    samples: int = 64,
    restarts: int = 8,
    rounds: int = 60,
    smoothness: Profile | None = None,
    **options: Any,
) -> GapCurve:
    """The `gap` at several radii, from the smallest to the largest; the arguments are those of `gap`.

    Raises ``ValueError`` as `gap`, and without radii.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> from widthwise.theory.lazy import Shallow
    >>> net = Shallow(jnp.zeros((4, 1)), jnp.ones(4), activation("sin"), 0.5)
    >>> curve = gap_curve(net, [[1.0]], radii=[0.01, 0.02])  # at an inflection: the third power
    >>> [round(float(one), 2) for one in curve.exponents]
    [3.0]
    """
    radii = sorted(np.asarray(radii, dtype=float).ravel().tolist())
    if not radii:
        reject("no radii came", "A curve has at least one", "Give for example radii=[0.1, 0.3, 1.0]")
    key, chosen = demand_key(key), subject(gap_curve, model, X, smoothness, options)
    return GapCurve(tuple(_gap(chosen, radius, key, samples, (restarts, rounds)) for radius in radii))


def certified_gap(
    model: Any, X: ArrayLike | None = None, *, radius: float, smoothness: Profile | None = None, **options: Any
) -> float:
    r"""The certified bound alone, without a search; the arguments are those of `gap`.

    Raises ``ValueError`` where there is none, such as for activations with kinks.

    >>> import jax.numpy as jnp
    >>> from widthwise.activations import activation
    >>> from widthwise.theory.lazy import Shallow
    >>> certified_gap(Shallow(jnp.eye(2), jnp.ones(2), activation("elu")), jnp.eye(2), radius=1.0)
    Traceback (most recent call last):
        ...
    ValueError: no certified bound because the activation elu has a kink at 0, where the Jacobian or its ...
    """
    value, method, _ = subject(certified_gap, model, X, smoothness, options).bounds(radius)
    if not math.isfinite(value):
        reject(
            f"no certified bound because {method}",
            "It needs smooth activations and an architecture whose Jacobian has a known Lipschitz constant, or a "
            "shallow network of rectifiers",
            "Use gap for what an adversary finds, or give smoothness=Smoothness(beta, certified=True)",
        )
    return value


def _gap(chosen: Subject, radius: float, key: Array, samples: int, effort: tuple[int, int]) -> Gap:
    first, second = jr.split(key)
    found: Found = adversarial_gap(chosen.f, chosen.w0, radius, first, restarts=effort[0], rounds=effort[1])
    sampled = sampled_gaps(chosen.f, chosen.w0, radius, second, samples)
    value, method, exact = chosen.bounds(radius)
    largest = max(found.gap, float(np.max(sampled)))
    if largest > value * (1.0 + 1e-9) + found.rounding:
        reject(
            f"the bound {value:.6g} ({method}), and a point with the gap {largest:.6g}",
            f"A bound holds everywhere within {radius:.4g} of the start",
            "Give as smoothness a constant that bounds the Jacobian's change there",
        )
    return Gap(chosen.name, float(radius), value, method, exact, found.gap, found.displacement, found.rounding, sampled)
