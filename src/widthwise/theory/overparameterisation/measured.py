r"""The width from which on a network trains lazily, measured: networks of many widths and seeds are trained.

Legend: as in ``families``; $K_t$ the tangent kernel on the way, w the parameters and u those of the linearised twin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthwise.measure import FlowCode, gradient_flow
from widthwise.numerics import Estimate
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.maps import ShallowMap

from .families import Family
from .runs import look

CRITERIA = {
    "kernel": "the tangent kernel changes by at most {:.3g} of its norm",
    "departure": "weights end at most {:.3g} of their way from those of the linearised twin",
}
# Followed until the slowest direction, or one with a twentieth of the largest singular value, has decayed by e^-8.
_UNITS, _CONDITION = 8.0, 20.0
_TIMES = tuple(np.geomspace(_UNITS / 64, _UNITS, 7).tolist())
_COARSE, _FINE = 4, 1  # steps of half an octave


@dataclass(frozen=True, eq=False)
class MeasuredWidth:
    r"""The measured lazy width of every seed, and what it rests on.

    ``widths`` (w,) are the widths at which networks were trained, ``values`` (w, s) what was measured there for each of
    s seeds; ``per_seed`` (s,) the widths at which the values fall to the ``threshold``, interpolated, infinite where
    they do not within the widest network and 0 where they are below it everywhere.
    """

    criterion: str
    threshold: float
    widths: Float[np.ndarray, " w"]
    values: Float[np.ndarray, "w s"]

    @property
    def per_seed(self) -> Float[np.ndarray, " s"]:
        return np.array([_crossing(self.widths, row, self.threshold) for row in self.values.T])

    @property
    def width(self) -> Estimate:
        """The mean over seeds with its standard error."""
        found = self.per_seed
        spread = float(np.std(found, ddof=1)) / math.sqrt(len(found)) if np.all(np.isfinite(found)) else math.inf
        return Estimate(float(np.mean(found)), spread)

    @property
    def says(self) -> str:
        """The criterion in words."""
        return CRITERIA[self.criterion].format(self.threshold)

    def __repr__(self) -> str:
        return f"MeasuredWidth({told(self)}: {self.says})"


def told(seen: MeasuredWidth) -> str:
    """The width with its error, or on which side of all that was trained it lies."""
    if np.any(np.isinf(seen.per_seed)):
        return f"> {seen.widths.max():,.0f}"
    if np.all(seen.per_seed == 0):
        return f"< {seen.widths.min():,.0f}"
    return f"{seen.width.value:,.0f} ± {seen.width.error:,.0f}"


def _crossing(widths: np.ndarray, values: np.ndarray, threshold: float) -> float:
    """Where the values fall to the threshold for good, between widths in the logarithm of both."""
    above = np.flatnonzero(values > threshold)
    if not len(above):
        return 0.0
    last = above[-1]
    if last == len(widths) - 1:
        return math.inf
    (w, wider), (v, lower) = (np.log(np.maximum(part[last : last + 2], 1e-300)) for part in (widths, values))
    return float(np.exp(w + (wider - w) * (v - math.log(threshold)) / (v - lower)))


def measured_width(
    family: Family,
    X: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    *,
    seeds: int = 4,
    criterion: str = "kernel",
    threshold: float = 0.1,
    widest: int = 4096,
    progress: Callable[[int, int], Any] | None = None,
) -> MeasuredWidth:
    r"""Find the width at which a criterion is met, by bisection over the width, on networks of several seeds.

    ``"kernel"``: $\max_t\|K_t-K_0\|/\|K_0\|$; ``"departure"``: $\|w-u\|/\|w-w_0\|$ at the end. From a width of 16 on it
    goes by factors of 4 until every seed is below the threshold, or downwards until every seed is above it, and then
    halves the ratio between the widths where the mean crosses it, down to a root of 2. Networks are trained by
    `measure.gradient_flow`. ``progress(done, total)`` is called after each training.
    Raises ``RuntimeError`` where a flow cannot be followed.
    """
    search = _Search(family, X, y, seeds, criterion, widest, progress or (lambda done, total: None))
    coarse = list(range(8, 2 * int(math.log2(widest)) + 1, _COARSE))
    step = 0
    while np.any(search.at(coarse[step]) > threshold) and step + 1 < len(coarse):
        step += 1
    down = coarse[0] - _COARSE
    while down >= 2 and np.any(search.at(min(search.seen)) <= threshold):
        search.at(down)
        down -= _COARSE
    if np.any(search.at(max(search.seen)) > threshold) and (last := int(2 * math.log2(widest))) not in search.seen:
        search.at(last)
    while (between := search.between(threshold)) is not None:
        search.at(between)
    search.finish()
    steps = sorted(search.seen)
    widths = np.array([float(width_at(k)) for k in steps])
    return MeasuredWidth(criterion, threshold, widths, np.stack([search.seen[k] for k in steps]))


def width_at(step: int) -> int:
    """The even width nearest to so many half octaves."""
    return max(2, 2 * round(2.0 ** (step / 2 - 1)))


class _Search:
    """Trains at a width once, and remembers what came."""

    def __init__(self, family, X, y, seeds, criterion, widest, tick):
        self.family, self.X, self.y, self.seeds, self.criterion, self._tick = family, X, y, seeds, criterion, tick
        self.seen: dict[int, np.ndarray] = {}
        # Where a network is small, padding it costs nothing, and compilation does.
        most = min(1024, 1 << (widest - 1).bit_length())
        self._least = min(max(64, 1 << (2**18 // X.size).bit_length()), most)
        self._total = seeds * (int(math.log2(widest) / 2) + 3)

    def at(self, step: int) -> np.ndarray:
        if step not in self.seen:
            values = []
            for seed in range(self.seeds):
                values.append(self._one(seed, width_at(step)))
                done = self.seeds * len(self.seen) + len(values)
                self._total = max(self._total, done + 1)
                self._tick(done, self._total)
            self.seen[step] = np.array(values)
        return self.seen[step]

    def finish(self) -> None:
        done = self.seeds * len(self.seen)
        self._tick(done, done)

    def between(self, threshold: float) -> int | None:
        """The step between two neighbours around which the mean crosses the threshold."""
        steps = sorted(self.seen)
        means = [np.exp(np.mean(np.log(np.maximum(self.seen[k], 1e-300)))) for k in steps]
        above = [i for i, mean in enumerate(means) if mean > threshold]
        if not above or above[-1] == len(steps) - 1:
            return None
        low, high = steps[above[-1]], steps[above[-1] + 1]
        return (low + high) // 2 if high - low > _FINE else None

    def _one(self, seed: int, width: int) -> float:
        net = self.family.draw(seed, width, self.X.shape[1])
        size = self._least
        while size < width:
            size *= 4
        return laziness(_padded(net, size), self.X, self.y)[self.criterion]


def _padded(net: Shallow, size: int) -> Shallow:
    """The same function with neurons that have no weight in the output, so that few shapes are compiled."""
    extra = size - len(net.signs)
    with jax.enable_x64(True):
        W = np.pad(np.asarray(net.W), ((0, extra), (0, 0)))
        signs = np.pad(float(net.scale) * np.asarray(net.signs), (0, extra))
        return Shallow(jnp.asarray(W), jnp.asarray(signs), net.activation, 1.0)


def laziness(net: Shallow, X: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> dict[str, float]:
    r"""Train a network by the flow of $\frac12\|f-y\|^2$ and measure how lazily: the value of every criterion.

    >>> from widthwise.activations import activation
    >>> net = Family(activation("tanh")).draw(0, 64, 2)
    >>> seen = laziness(net, np.eye(2), np.array([0.3, -0.3]))
    >>> bool(0 < seen["kernel"] < 0.2), bool(0 < seen["departure"] < 0.2)
    (True, True)
    """
    with jax.enable_x64(True):
        W = np.asarray(net.W)
        start = look(net, X, W)
        values, Q = np.linalg.eigh(start.gram)
        values = np.where(values > 64 * len(values) * np.finfo(float).eps * values[-1], values, 0.0)
        rate = max(values[0], values[-1] / _CONDITION**2)
        if rate == 0.0:
            return dict.fromkeys(CRITERIA, 0.0)  # no weight moves any output
        flow = gradient_flow(
            ShallowMap(net, jnp.asarray(X)),
            W.ravel(),
            y,
            times=np.array(_TIMES),
            rate=rate,
            rtol=1e-6,
            least_step=0.0 if net.activation.smooth else 0.5 * rate / values[-1],
            throw=False,
        )
        if flow.code is not FlowCode.SUCCESSFUL:
            raise RuntimeError(f"A network of width {np.count_nonzero(net.signs)} was not trained: {flow.reason}")
        steps = flow.displacements.reshape(-1, *W.shape)
        kernels = [look(net, X, W + step).gram for step in steps]
    change = max(float(np.linalg.norm(K - start.gram, 2)) for K in kernels) / values[-1]
    rates = values * _UNITS / rate
    gain = np.where(values > 0, -np.expm1(-rates) / np.where(values > 0, values, 1.0), 0.0)
    pull = Q @ (gain * (Q.T @ (y - start.outputs)))
    twin = float(net.scale) * np.asarray(net.signs)[:, None] * ((start.slopes * pull[:, None]).T @ X)
    went = float(np.linalg.norm(steps[-1]))
    return {"kernel": change, "departure": float(np.linalg.norm(steps[-1] - twin)) / went if went else 0.0}
