r"""The reference experiment (LAZY-C7): twenty digits, 512 tanh neurons in mirrored pairs, seven factors alpha.

Inputs are the first 20 digits, centred by the mean over all 1,797 and normalised; targets +1 for even and
-1 for odd digits; test inputs are the digits 1,000 to 1,049. The first layer (256, 64) is drawn by
``numpy.random.default_rng(0)`` and mirrored, so that the outputs start at zero; only it is trained.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.activations import activation
from widthwise.claims import Claim, Equal, Mutant
from widthwise.data import BUILTIN
from widthwise.numerics import Estimate

from .certificates import certify, certify_theorem
from .problem import LazyProblem, shallow_problem
from .shallow import Shallow
from .trajectory import follow

ALPHAS = (1.0, 2.5, 5.2, 10.2, 20.0, 100.0, 726.1)


@functools.cache
def reference_problem(alpha: float = 1.0, form: str = "flattened", centred: bool = True) -> LazyProblem:
    r"""The problem of the reference experiment; ``form`` chooses the bound on the Lipschitz constant.

    >>> problem = reference_problem()
    >>> round(problem.tangency.sigma_min, 10), round(problem.tangency.kappa, 8)
    (0.3010567339, 4.02954211)
    >>> round(certify(problem).threshold, 4)
    5.0712
    """
    digits = BUILTIN["digits"]("digits")
    X = digits.X - digits.X.mean(axis=0) if centred else digits.X
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    half = np.random.default_rng(0).normal(size=(256, 64))
    signs = np.repeat([1.0, -1.0], 256)
    with jax.enable_x64(True):
        net = Shallow(jnp.asarray(np.concatenate([half, half])), jnp.asarray(signs), activation("tanh"), 512**-0.5)
    y = np.where(digits.y[:20] % 2 == 0, 1.0, -1.0)
    return shallow_problem(net, X[:20], y, alpha, X_test=X[1000:1050], form=form)


@dataclass(frozen=True)
class Row:
    r"""One alpha of the sweep: largest measured/bound of each theorem (nan where none applies), and what was measured.

    ``theorem_*`` belong to LAZY-22 with the Frobenius bound on the Lipschitz constant, ``bmr_distance`` to
    $2r_0/(\alpha\sigma_{min})$, ``ball_*`` to LAZY-C1; ``gap``, ``distance`` and ``path`` are those at the end,
    ``train_gap``, ``test_gap`` and ``kernel_drift`` (over $\sigma_{max}^2$) the largest on the way.
    """

    alpha: float
    h: float
    theorem_risk: float
    theorem_distance: float
    bmr_distance: float
    ball_residual: float
    ball_path: float
    ball_gap: float
    ball_kernel: float
    gap: float
    distance: float
    path: float
    train_gap: float
    test_gap: float
    kernel_drift: float


def row(problem: LazyProblem) -> Row:
    """Measure one alpha of the sweep."""
    seen, start = follow(problem), problem.tangency
    unit = start.residual / (problem.alpha * start.sigma)
    tau = (problem.alpha * start.sigma_min) ** 2 * seen.seconds
    return Row(
        problem.alpha,
        problem.h,
        theorem_risk=float(np.max(seen.residual**2 / (start.residual**2 * np.exp(-tau / 2)))),
        theorem_distance=float(seen.distance.max() / (6 * start.kappa * unit)),
        bmr_distance=float(seen.distance.max() / (2 * unit)),
        **_ball_ratios(problem),
        gap=float(seen.gap[-1]),
        distance=float(seen.distance[-1]),
        path=float(seen.path[-1]),
        train_gap=float(seen.train_gap.max()),
        test_gap=float(seen.test_gap.max(initial=0.0)),
        kernel_drift=float(seen.kernel_drift.max()) / start.sigma_max**2,
    )


def _ball_ratios(problem: LazyProblem) -> dict[str, float]:
    bounds, seen = certify(problem).bounds, follow(problem)
    if bounds is None:
        return dict.fromkeys(("ball_residual", "ball_path", "ball_gap", "ball_kernel"), math.nan)
    return {
        "ball_residual": float(np.max(seen.residual / bounds.residual(seen.seconds))),
        "ball_path": float(seen.path.max() / bounds.path(math.inf)),
        "ball_gap": float(seen.gap.max() / bounds.gap(math.inf)),
        "ball_kernel": float((bounds.smallest_singular_value(math.inf) / seen.sigma_min.min()) ** 2),
    }


def sweep(
    problem: LazyProblem, alphas: tuple[float, ...] = ALPHAS, progress: Callable[[int, int], None] | None = None
) -> tuple[Row, ...]:
    """Measure a problem at several alphas; ``progress(done, total)`` is called after each."""
    rows = []
    for done, alpha in enumerate(alphas, start=1):
        rows.append(row(problem.at(alpha)))
        if progress is not None:
            progress(done, len(alphas))
    return tuple(rows)


def thresholds(problem: LazyProblem, crude: LazyProblem) -> dict[str, float]:
    r"""The smallest alpha of each theorem; ``crude`` is the same problem with the Frobenius bound.

    >>> found = thresholds(reference_problem(), reference_problem(form="frobenius"))
    >>> {name: round(value, 2) for name, value in found.items()}
    {'ball': 5.07, 'bmr': 10.14, 'theorem': 726.01, 'theorem, 288': 363.01, 'theorem, flattened': 245.22}
    """
    return {
        "ball": certify(problem).threshold,
        "bmr": 2 * certify(problem).threshold,
        "theorem": certify_theorem(crude).threshold,
        "theorem, 288": certify_theorem(crude, 288.0).threshold,
        "theorem, flattened": certify_theorem(problem).threshold,
    }


# As published with the experiment: thresholds, then one line per alpha in the order of Row, rounded.
_THRESHOLDS = ("5.07122", "10.1424", "726.01", "363.01", "245.22")
_TABLE = """
1     5.0712  .4401 .01701 .2057 n/a   n/a   n/a    n/a   .292526  6.11001   7.27337  1.36e-3 1.92e-3 4.58e-3
2.5   2.0285  .4400 .01700 .2055 n/a   n/a   n/a    n/a   .0468627 2.44241   2.90799  2.18e-4 3.14e-4 7.33e-4
5.2   .97524  .4400 .01700 .2055 .6879 .2832 .00136 .0248 .0108339 1.17412   1.39798  5.04e-5 7.29e-5 1.70e-4
10.2  .49718  .4400 .01700 .2055 .6883 .4182 .00505 .5028 .00281584 .598560  .712685  1.31e-5 1.90e-5 4.41e-5
20    .25356  .4400 .01700 .2055 .6885 .4561 .00643 .7464 7.324e-4 .305264   .363468  3.41e-6 4.93e-6 1.15e-5
100   .05071  .4400 .01700 .2055 .6886 .4831 .00751 .9493 2.930e-5 .0610526  .0726935 1.36e-7 1.97e-7 4.58e-7
726.1 .00698  .4400 .01700 .2055 .6887 .4885 .00774 .9930 5.557e-7 .00840829 .0100115 2.66e-9 3.75e-9 8.69e-9
"""


def published(alpha: float) -> Estimate:
    """The published row of an alpha, nan where no theorem applies; right to its last digit, to 1e-3 and to 1e-10.

    The last is what its integration to 1e-9 leaves of differences of functions.
    """
    line = next(line.split() for line in _TABLE.strip().splitlines() if float(line.split()[0]) == alpha)
    return _printed(line)


def _printed(words) -> Estimate:
    value = np.array([math.nan if word == "n/a" else float(word) for word in words])
    return Estimate(value, 1e-3 * np.abs(value) + [_half_digit(word) for word in words] + 1e-10)


def _half_digit(word: str) -> float:
    """Half a unit of the last digit of a printed number."""
    digits, _, power = word.partition("e")
    return 0.0 if word == "n/a" else 0.5 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


@dataclass(frozen=True)
class Experiment:
    """The part of the reference experiment that a check repeats; without centring it is another experiment."""

    alphas: tuple[float, ...] = ALPHAS
    centred: bool = True

    def problem(self, form: str = "flattened") -> LazyProblem:
        return reference_problem(1.0, form, self.centred)


def _is_the_experiment(setup) -> str | None:
    """It is the one fixed experiment."""
    if isinstance(setup, Experiment):
        return None
    return "it is about one fixed experiment on twenty digits; sweep(problem) does the same for any problem"


def _predict(setup: Experiment) -> Estimate:
    parts = [_printed(_THRESHOLDS), *map(published, setup.alphas)]
    value, error = (np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "error"))
    return Estimate(value[np.isfinite(value)], error[np.isfinite(value)])


def _predict_squared(setup: Experiment) -> Estimate:
    r"""The threshold with $\sigma_{min}^2$, as misprinted."""
    right = _predict(setup)
    value = right.value.copy()
    value[2] = 218.57
    return Estimate(value, right.error)


def _measure(setup: Experiment, key) -> np.ndarray:
    found = [np.array(list(thresholds(setup.problem(), setup.problem("frobenius")).values()))]
    for one, alpha in zip(sweep(setup.problem(), setup.alphas), setup.alphas, strict=True):
        found.append(np.array(astuple(one))[np.isfinite(published(alpha).value)])
    return np.concatenate(found)


def _measure_uncentred(setup: Experiment, key) -> np.ndarray:
    return _measure(replace(setup, centred=False), key)


CLAIMS = (
    Claim(
        id="LAZY-C7",
        name="reference-experiment",
        statement=(
            r"On twenty digits and 512 mirrored tanh neurons the sharp ball certificate applies from $\alpha = 5.0712$ "
            r"on, the lazy-training theorem from 726.01; every measured quantity is below its bound for $\alpha$ from "
            r"1 to 726, $\|w-w_0\|$ falls like $1/\alpha$ and $\|w-u\|$ like $1/\alpha^2$."
        ),
        sources=("chizat2019lazy", "telgarsky2021deep", "bartlett2021deep"),
        setup=Experiment,
        predict=_predict,
        measure=_measure,
        relation=Equal(),
        assumptions=(_is_the_experiment,),
        mutants=(
            Mutant("inputs that are not centred", {"setup": lambda: Experiment(()), "measure": _measure_uncentred}),
            Mutant(
                "the threshold with sigma_min squared", {"setup": lambda: Experiment(()), "predict": _predict_squared}
            ),
        ),
        derived_here=True,
    ),
)
