r"""Train shallow networks over output scale, width and label scale; the legend is that of ``diagram``."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as resolve
from widthwise.measure import LAZY
from widthwise.numerics import demand_count, nearest, reject

from ..lazy import LazyProblem, Shallow, certify, draw_shallow, shallow_problem
from ..lazy.certificates import in_steps
from ..lazy.shallow_limits import demand_targets
from ..lazy.spectral import integrals, smallest_ball
from .diagram import MEASURES, LazyPhaseDiagram, ratios
from .flows import Task, departures

STARTS = ("centred", "mirrored", "drawn")
POWERS = {"ntk": 0.5, "mean-field": 0.0}
_SHARED = 256  # widths up to it share a compilation, then those up to four times as many, ...


def lazy_phase_diagram(
    X: ArrayLike,
    y: ArrayLike,
    alphas: ArrayLike,
    widths: ArrayLike,
    *,
    label_scales: ArrayLike = (1.0,),
    activation: Any = "tanh",
    parameterisation: str | float = "ntk",
    start: str = "centred",
    seeds: int = 4,
    seed: int = 0,
    by: str = "kernel",
    threshold: float = LAZY,
    risk: float = 1e-3,
    patience: float = 1000.0,
    X_test: ArrayLike | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> LazyPhaseDiagram:
    r"""Where shallow networks are certified lazy, measured lazy and rich, over $\alpha$, width and label scale.

    Trains $F = \alpha m^{p-1}\sum_js_j\sigma(w_j^\top x)$, $w_j \sim N(0, I)$, $s_j = \pm1$ fixed, by the
    gradient flow of $\tfrac12\|F - \ell y\|^2$ until a part ``risk`` of the initial risk is left, everywhere on a grid.

    Args:
        X: inputs (n, d).
        y: targets (n,), or one column of them.
        alphas: factors $\alpha$ on the output.
        widths: numbers m of neurons.
        label_scales: factors $\ell$ on the targets.
        activation: $\sigma$, a name or an ``Activation``; one with kinks is never certified.
        parameterisation: p, or ``"ntk"`` for 1/2 and ``"mean-field"`` for 0.
        start: ``"centred"`` subtracts the outputs at the start, ``"mirrored"`` takes every neuron twice with both
            signs (even widths), ``"drawn"`` leaves the outputs as they are: then no $\alpha$ makes a network lazy.
        seeds: networks at every point, trained at once.
        seed: of the key from which they are drawn.
        by: ``"kernel"`` (relative change in spectral norm), ``"gap"`` ($\|w-u\|/\|w-w_0\|$) or ``"function"`` (distance
            to the tangent model on ``X_test``, relative to how far that went); below ``threshold`` is lazy.
        risk: the part of the initial risk at which a training ends.
        patience: give up where the risk falls so many times more slowly than the tangent model's slowest direction.
        X_test: inputs (q, d) for ``function``; those of training unless given.
        progress: called with the numbers of trainings done and to do.

    Certificates are LAZY-C1 and LAZY-C2. Runs in float64. Sources: chizat2019lazy, geiger2020disentangling. Raises
    ``ValueError`` for shapes that do not fit, numbers that are not finite or not positive, odd mirrored widths, equal
    inputs with different targets, and targets that are all zero.

    >>> found = lazy_phase_diagram(np.eye(3), [1.0, -1.0, 1.0], alphas=[0.1, 10.0], widths=[64], seeds=2)
    >>> found.areas[0, :, 0].tolist()
    ['rich', 'certified lazy']
    """
    inputs = [np.asarray(part, dtype=float) for part in (X, X if X_test is None else X_test)]
    data = [inputs[0], demand_targets(y), inputs[1]]
    _check_data(data[0], data[1], data[2], start)
    given = {"alphas": alphas, "widths": widths, "label_scales": label_scales}
    grid = {name: _demand_places(name, values) for name, values in given.items()}
    seeds = demand_count("seeds", seeds, least=1)
    _demand_positive(threshold=threshold, patience=patience, risk=risk)
    _demand_options(start, by, risk, grid["widths"])
    with jax.enable_x64(True):
        task = Task(*(jnp.asarray(part) for part in (*data, float(risk), float(patience))))
        sweep = _Sweep(task, resolve(activation), _power(parameterisation), start, seeds, seed)
        return _swept(sweep, grid, parameterisation, by, float(threshold), progress or (lambda done, total: None))


@dataclass(frozen=True, eq=False)
class _Sweep:
    """What all points of a grid have in common."""

    task: Task
    activation: Activation
    power: float
    start: str
    seeds: int
    seed: int

    def networks(self, width: int) -> list[Shallow]:
        """Independent networks of one width, with neurons of sign 0 up to the next width that is compiled."""
        keys = jr.split(jr.fold_in(jr.key(self.seed), width), self.seeds)
        most = _SHARED * 4 ** max(0, math.ceil(math.log(width / _SHARED, 4)))
        there, half = np.arange(most) < width, np.arange(most) % max(1, width // 2)
        return [self._network(key, width, there, half) for key in keys]

    def _network(self, key: Array, width: int, there: np.ndarray, half: np.ndarray) -> Shallow:
        scale = float(width) ** (self.power - 1.0)
        net = draw_shallow(key, there.size, self.task.X.shape[1], self.activation, scale)
        W, signs = np.asarray(net.W), np.asarray(net.signs)
        if self.start == "mirrored":
            W, signs = W[half], np.where(np.arange(there.size) < width // 2, 1.0, -1.0)
        return Shallow(jnp.asarray(W * there[:, None]), jnp.asarray(signs * there), self.activation, scale)

    def problem(self, net: Shallow) -> LazyProblem:
        """The problem of one network, for its certificates."""
        problem = shallow_problem(net, np.asarray(self.task.X), np.asarray(self.task.y))
        return problem.centred() if self.start == "centred" else problem


def _swept(
    sweep: _Sweep, grid: dict, word: str | float, by: str, threshold: float, progress: Callable[[int, int], Any]
) -> LazyPhaseDiagram:
    alphas, widths, scales = grid["alphas"], [int(width) for width in grid["widths"]], grid["label_scales"]
    places, where = ratios(alphas, scales)
    columns = []
    for done, width in enumerate(widths):
        tick = _tick(progress, done * len(places), len(widths) * len(places))
        columns.append(_column(sweep, width, places, tick))
    edges = np.array([one.pop("certified_from") for one in columns])
    arrays = {name: np.stack([one[name] for one in columns], axis=1)[where] for name in columns[0]}
    arrays["time"] = arrays["time"] / scales[:, None, None, None] ** 2
    name = f"{sweep.activation.name} networks, {word} parameterisation, {sweep.start} outputs"
    risk = float(sweep.task.risk)
    return LazyPhaseDiagram(
        scales, alphas, tuple(widths), certified_from=edges, threshold=threshold, by=by, risk=risk, name=name, **arrays
    )


def _tick(progress: Callable[[int, int], Any], before: int, total: int) -> Callable[[int], Any]:
    return lambda done: progress(before + done, total)


def _column(sweep: _Sweep, width: int, places: np.ndarray, tick: Callable[[int], Any]) -> dict[str, Any]:
    """Everything at one width: arrays (q, r) over the ratios and the networks."""
    nets = sweep.networks(width)
    problems = [sweep.problem(net) for net in nets]
    edge = certified_from(problems, sweep.start)
    W, readout = jnp.stack([net.W for net in nets]), jnp.stack([net.scale * net.signs for net in nets])
    centred = jnp.asarray(float(sweep.start == "centred"))
    rows = []
    for done, place in enumerate(places, start=1):
        seen = departures(sweep.task, W, readout, jnp.asarray(place), centred, sweep.activation)
        at = [problem.at(float(place)) for problem in problems]
        row = {name: np.asarray(value) for name, value in seen._asdict().items() if name != "difference"}
        rows.append(row | {"h": [one.h for one in at], "certified": [certified(one) for one in at]})
        tick(done)
    found = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    return found | {"certified_from": edge}


def certified_from(problems: list[LazyProblem], start: str) -> float:
    r"""The smallest $\alpha$ at which LAZY-C1 applies to all problems; infinite where there is none.

    Where outputs start elsewhere than at zero it applies to each on a window of $\alpha$, and these may not meet.

    >>> from widthwise.theory.lazy.examples import extremal
    >>> round(certified_from([extremal(y=0.5), extremal(y=1.0)], "centred"), 6)
    2.0
    """
    edge = max(certify(one).threshold for one in problems)
    if start != "drawn" or not 0 < edge < math.inf:
        return edge
    beyond = (1 + 1e-9) * edge  # at the edge itself rounding decides
    return edge if all(certify(one.at(beyond)).certified for one in problems) else math.inf


def certified(problem: LazyProblem) -> bool:
    """Whether LAZY-C1 or LAZY-C2 applies, without the search for the smallest alpha of the latter.

    >>> from widthwise.theory.lazy.examples import aligned_quadratic, extremal
    >>> certified(extremal(y=0.49)), certified(extremal(y=0.51))
    (True, False)
    """
    ball = certify(problem)
    if ball.certified or not math.isfinite(ball.h) or not ball.smoothness.certified:
        return ball.certified
    flow = integrals(problem).over(problem.alpha)
    seen = problem.tangency
    return smallest_ball(seen.sigma, flow, in_steps(problem.smoothness), seen.rounding) is not None


def _power(word: str | float) -> float:
    if isinstance(word, str) and word not in POWERS:
        reject(
            f"parameterisation={word!r}{nearest(word, POWERS)}",
            f"It is {', '.join(map(repr, POWERS))} or the power p of the width in alpha m^p / m",
            "Give for example parameterisation=0.25",
        )
    power = POWERS[word] if isinstance(word, str) else float(word)
    if not math.isfinite(power):
        reject(f"parameterisation={word}", "The power of the width is a finite number", "Give 0.5 for the NTK")
    return power


def _demand_places(name: str, values: Any) -> np.ndarray:
    numeric = np.asarray(values).dtype.kind in "iuf"
    found = np.asarray(values, dtype=float) if numeric else np.zeros(0)
    good = found.ndim == 1 and found.size and np.all(np.isfinite(found)) and np.all(found > 0)
    if not good or (name == "widths" and np.any(found != np.round(found))):
        kind = "whole numbers of at least 1" if name == "widths" else "finite numbers above 0"
        reject(f"{name}={values}", f"They are one or more {kind}", f"Give for example {name}=[1, 4, 16]")
    return np.unique(found)


def _demand_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            reject(f"{name}={value}", "It is a finite number above 0", f"Leave {name} out for its default")


def _demand_options(start: str, by: str, risk: float, widths: np.ndarray) -> None:
    for name, value, kinds in (("start", start, STARTS), ("by", by, MEASURES)):
        if value not in kinds:
            reject(f"{name}={value!r}{nearest(value, kinds)}", f"It is one of {', '.join(kinds)}", "Choose one of them")
    if risk >= 1:
        reject(f"risk={risk}", "It is the part of the initial risk at which a training ends", "Give risk=1e-3")
    if start == "mirrored" and np.any(widths % 2):
        odd = int(widths[widths % 2 == 1][0])
        reject(f"the width {odd} for mirrored networks", "Their neurons come in pairs", f"Give {odd + 1}")


def _check_data(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, start: str) -> None:
    if X.ndim != 2 or not X.size or y.shape != X.shape[:1] or X_test.ndim != 2 or X_test.shape[1:] != X.shape[1:]:
        reject(
            f"X of shape {X.shape}, y of shape {y.shape}, X_test of shape {X_test.shape}",
            "They are (n, d), (n,) and (q, d), none empty",
            "Give one target for each row of X; of several columns of targets one, y[:, 0]",
        )
    for name, part in (("X", X), ("y", y), ("X_test", X_test)):
        if not np.all(np.isfinite(part)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
            reject(f"{name}{list(where)} is {part[where]}", "Every entry is a finite number", "Leave such rows out")
    _, first, again = np.unique(X, axis=0, return_index=True, return_inverse=True)
    same = first[again.ravel()]
    if np.any(y != y[same]):
        row = int(np.flatnonzero(y != y[same])[0])
        reject(
            f"equal inputs {int(same[row])} and {row} with targets {y[same[row]]:g} and {y[row]:g}",
            "A flow to any small risk needs targets that a function of the inputs can have",
            "Leave one of them out, or average their targets",
        )
    if start != "drawn" and not np.any(y):
        reject("targets that are all zero", "Outputs that start at zero would have nothing to learn", "Give other ones")
