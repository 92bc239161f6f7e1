r"""Lazy or rich: how far a model leaves its linearisation while it trains, and what turns the dial.

Legend: w the parameters after training, $w_0$ before; $f$ the outputs, $f_{lin}$ those of the tangent model that is
trained in the same way; $\Theta$ the empirical NTK on a probe; $z^{(l)}$ the pre-activations of the traced layer l;
$\alpha$ a factor on the outputs, with the learning rate divided by $\alpha^2$ (of a network of one hidden layer of n
units, $\sqrt n$ leads from the mean-field to the NTK parameterisation).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.numerics import Estimate, demand_pair, exponent_estimate, mean_and_sem, reject
from widthwise.operators import ADAPTED, Frozen, adapt, demand_options, parameters

from .drift import columns
from .dynamics import Method
from .sharpness import ntk_sharpness
from .traced import Trace, trace
from .training import Run, train
from .width_inputs import made

LAZY, RICH = 0.1, 0.5  # of the function gap and the kernel's drift, whichever is larger
_ALPHAS = (1.0, 4.0, 16.0, 64.0)
_RECORDS, _PROBE, _EVERY = 8, 24, 5  # moments, rows of the probe, and every so manieth row is held out


@dataclass(frozen=True, eq=False)
class Moved:
    r"""How far training moved a model, over draws (r,), and layers (r, m).

    ``kernel`` $\|\Theta_w - \Theta_{w_0}\|/\|\Theta_{w_0}\|$; ``gap`` $\|f - f_{lin}\|/\|f_{lin} - f_0\|$ on held-out
    rows, infinite where the tangent model diverged alone; ``weights`` $\|w - w_0\|/\|w_0\|$; ``features``
    $\|z^{(l)} - z^{(l)}_0\|/\|z^{(l)}_0\|$ and ``flips``, the share of pre-activations whose sign changed, on the
    probe; ``left``, the risk at the end over that at the start. ``alpha``, ``width``: where on the dials.
    """

    alpha: float
    width: int | None
    kernel: Float[np.ndarray, " r"]
    gap: Float[np.ndarray, " r"]
    weights: Float[np.ndarray, " r"]
    features: Float[np.ndarray, "r m"]
    flips: Float[np.ndarray, "r m"]
    left: Float[np.ndarray, " r"]

    @property
    def hidden(self) -> Float[np.ndarray, " r"]:
        """The root mean square of ``features`` over all layers but the last, whose output is the model's own."""
        return np.sqrt(np.mean(self.features[:, : max(1, self.features.shape[1] - 1)] ** 2, axis=1))

    @property
    def distance(self) -> Estimate:
        """The larger of gap and kernel drift: its mean over draws and standard error (infinite for one draw)."""
        return mean_and_sem(np.maximum(self.gap, self.kernel))


@dataclass(frozen=True, eq=False)
class LazyOrRich:
    """What `lazy_or_rich` measured: the training as it is, and along the dials of output scale and width.

    ``names``: the traced layers. ``dial`` and ``widths``: trainings with the outputs at the start subtracted.
    """

    own: Moved
    dial: tuple[Moved, ...]
    widths: tuple[Moved, ...]
    names: tuple[str, ...]

    @property
    def word(self) -> Literal["lazy", "rich", "in between"]:
        """Lazy below 0.1 and rich above 0.5 of the distance, each by two standard errors where there are draws."""
        value, error = (float(part) for part in (self.own.distance.value, self.own.distance.error))
        margin = 2.0 * error if np.isfinite(error) else 0.0
        if value + margin < LAZY:
            return "lazy"
        return "rich" if value == np.inf or value - margin > RICH else "in between"

    def exponents(self, of: Literal["alpha", "width"] = "alpha") -> dict[str, Estimate]:
        r"""The exponents of ``kernel``, ``gap``, ``weights`` and ``features`` (of hidden layers) in alpha or the width.

        With the first correction to the power law; errors by bootstrap over draws. At a fixed width all of them tend
        to -1 in a large alpha, where every change is of first order in $w - w_0$. In the width, for the NTK
        parameterisation, they are -1, -1, -1 and -1/2: changes of first order average out over units, and weights of
        size n move by O(1). Raises ``ValueError`` for fewer than four points or two draws.
        """
        points = self.dial if of == "alpha" else self.widths
        if len(points) < 4 or len(self.own.kernel) < 2:
            reject(
                f"{len(points)} points of the dial {of} with {len(self.own.kernel)} draws",
                "An exponent with its error needs at least 4 points and 2 draws",
                "Give draws=4 with four alphas, or widths=(64, 128, 256, 512)",
            )
        places = np.array([point.alpha if of == "alpha" else point.width for point in points], dtype=float)
        features = [point.hidden for point in points]
        found = {name: [getattr(point, name) for point in points] for name in ("kernel", "gap", "weights")}
        return {
            name: exponent_estimate(places, np.stack(values, axis=1))
            for name, values in {**found, "features": features}.items()
        }

    @property
    def sentence(self) -> str:
        """The verdict, its numbers, and what would change it."""
        distance = self.own.distance
        error = f" ± {float(distance.error):.1g}" if np.isfinite(distance.error) else ""
        told = f"{float(distance.value):.2g}{error} from its linearisation"
        return f"This training is {self.word}: it ends {told}. {self._advice()}"

    def _advice(self) -> str:
        words = {"lazy": "it richer", "rich": "it lazier", "in between": "it lazier"}
        reached = [point.alpha for point in self.dial if float(point.distance.value) < LAZY]
        if self.word == "lazy":
            return "A factor alpha < 1 on the outputs, fewer units, or muP instead of a fixed scale makes it richer."
        if reached:
            return (
                f"A factor of {min(reached):g} on the outputs, centred, makes {words[self.word]}; so does more width."
            )
        return f"A larger factor on the outputs, centred, or more width makes {words[self.word]}; muP keeps it rich."

    def __str__(self) -> str:
        lines = [self.sentence, f"{'':16}kernel    gap       weights   features  signs flipped"]
        for name, point in self._rows():
            values = (point.kernel, point.gap, point.weights, point.hidden, point.flips[:, :-1])
            lines.append(f"{name:16}" + "".join(f"{float(np.mean(one)):<10.2g}" for one in values).rstrip())
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, Moved]]:
        dial = [(f"alpha {point.alpha:g}", point) for point in self.dial]
        return [("as it is", self.own), *dial, *((f"width {point.width}", point) for point in self.widths)]


class _Dial(eqx.Module):
    """A model of rows of numbers whose outputs are shifted and scaled."""

    model: Callable
    held: Frozen
    shape: tuple[int, ...] = eqx.field(static=True)
    integers: bool = eqx.field(static=True)

    def __call__(self, row: Float[Array, " d"]) -> Float[Array, " k"]:
        x = jnp.reshape(row, self.shape)
        x = x.astype(int) if self.integers else x
        alpha, centred, start = self.held.value
        return (alpha * (self.model(x) - centred * start(x))).astype(row.dtype)


def lazy_or_rich(
    model: Any,
    data: tuple[ArrayLike, ArrayLike],
    *,
    draws: int | None = None,
    seed: int = 0,
    alphas: Sequence[float] = _ALPHAS,
    widths: Sequence[int] = (),
    steps: int = 200,
    method: Method | None = None,
    progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> LazyOrRich:
    r"""Train a model and its tangent model, and say whether it is lazy or learns features.

    Args:
        model: what `adapt` takes; with ``draws`` a function ``make_model(seed)`` that makes it, and with ``widths`` as
            well a function ``make_model(width, seed)``.
        data: inputs (n, ...) and labels, classes (n,) as integers or targets (n, k); every fifth row is held out.
        draws: so many models, from the seeds ``seed``, ``seed + 1``, ..., for error bars.
        alphas: factors on the outputs, with these at the start subtracted; () leaves the dial out.
        widths: widths at which the same is trained, the first of which is also taken for the rest.
        steps: of gradient descent on half the mean square, at the rate $1/\lambda_{\max}(\Theta/n)$ of each model,
            which falls as $\alpha^{-2}$: time is then the same along the dials. ``method`` replaces it at alpha = 1
            in the training as it is.
        progress: called as progress(done, total), in steps of all models.
        options: ``output``, ``batched``, ``call`` of `adapt`.

    It is lazy when the function gap on held-out rows and the drift of the kernel stay below 0.1, and rich when one is
    above 0.5. Chizat, Oyallon & Bach (2019); Geiger et al. (2020). Raises ``ValueError`` for shapes that do not fit,
    a training that diverges, and dials that are not positive.

    >>> from widthwise.networks import MLP, sample
    >>> X = np.random.default_rng(0).normal(size=(10, 3))
    >>> wide = sample(MLP(width=512, depth=1).network(), jr.key(0), in_size=3)
    >>> found = lazy_or_rich(wide, (X, 0.1 * X[:, :1]), steps=20, alphas=(100.0,))
    >>> bool(found.dial[0].kernel[0] < found.own.kernel[0]), found.word
    (True, 'lazy')
    """
    demand_options(lazy_or_rich, options, ADAPTED)
    demand_pair(data)
    X, y = np.asarray(data[0]), np.asarray(data[1])
    _check(X, y, draws, alphas, widths)
    seeds = [None] if draws is None else [seed + place for place in range(draws)]

    def models(width: int | None) -> list[Callable]:
        sizes = () if width is None else (width,)
        every = [model if one is None else made(model, *sizes, one) for one in seeds]
        return [adapt(one, X, dtype="float64", **options) for one in every]

    with jax.enable_x64(True):
        given = models(widths[0] if widths else None)
        count = (steps if method is None else method.steps) + steps * (len(alphas) + len(widths))
        tick = _counted(progress, len(given) * count)
        found = trace(given[0], jnp.asarray(X[0]))

        def moved(these: list[Callable], alpha: float, centred: bool, width: int | None, how: Method | None) -> Moved:
            dials = [_dialled(one, X, alpha, centred) for one in these]
            return _moved([_trained(one, X, y, how, steps, tick) for one in dials], found, X, alpha, width)

        own = moved(given, 1.0, False, widths[0] if widths else None, method)
        dial = tuple(moved(given, float(alpha), True, None, None) for alpha in alphas)
        wide = tuple(moved(models(width), 1.0, True, width, None) for width in widths)
    return LazyOrRich(own, dial, wide, found.names)


def _check(X: np.ndarray, y: np.ndarray, draws: Any, alphas: Any, widths: Any) -> None:
    if X.ndim < 2 or len(X) < 2 or len(X) != len(y):
        reject(
            f"X of shape {X.shape} and y of shape {y.shape}",
            "Inputs are (n, ...), n >= 2, each with one label",
            "Check the rows",
        )
    if X.dtype.kind == "f" and not np.all(np.isfinite(X)):
        wrong = int(np.argmin(np.all(np.isfinite(X.reshape(len(X), -1)), axis=1)))
        reject(f"X with a number in row {wrong} that is not finite", "Inputs are finite numbers", "Drop such rows")
    if y.dtype.kind == "f" and not np.all(np.isfinite(y)):
        reject("y with a number that is not finite", "Labels are finite numbers or classes", "Drop such rows")
    if draws is not None and (isinstance(draws, bool) or not isinstance(draws, int) or draws < 2):
        reject(f"draws={draws!r}", "An error over draws needs at least two of them", "Give for example draws=4")
    if widths and draws is None:
        reject(f"widths={widths} without draws", "Widths need make_model(width, seed)", "Give draws=4 with it")
    if any(not 0 < one < np.inf for one in (*alphas, *widths)):
        reject(f"alphas={alphas}, widths={widths}", "Both are positive numbers", "Give alphas=(1.0, 4.0, 16.0, 64.0)")


def _counted(progress: Callable[[int, int], Any] | None, total: int) -> Callable[[int], Any]:
    """What is called with the number of steps since the last call, and tells how many there were of all."""
    done = 0

    def tick(made: int) -> None:
        nonlocal done
        done += made
        if progress is not None:
            progress(done, total)

    return tick


def _dialled(model: Callable, X: np.ndarray, alpha: float, centred: bool) -> _Dial:
    held = Frozen((jnp.asarray(alpha), jnp.asarray(float(centred)), model))
    return _Dial(model, held, X.shape[1:], np.issubdtype(X.dtype, np.integer))


def _trained(
    model: _Dial, X: np.ndarray, y: np.ndarray, method: Method | None, steps: int, tick: Callable[[int], Any]
) -> tuple[_Dial, Run]:
    rows = X.reshape(len(X), -1).astype(float)
    held_out = np.arange(len(X)) % _EVERY == _EVERY - 1 if len(X) >= _EVERY else np.zeros(len(X), bool)
    T, fit = _targets(model, rows, y), rows[~held_out]
    if method is None:
        method = Method("gd", 1.0 / float(ntk_sharpness(model, jnp.asarray(fit)).value), steps)
    test = rows[held_out] if held_out.any() else rows
    run = train(
        model, fit, T[~held_out], test, method, key=jr.key(0), probe=fit[:_PROBE], records=_RECORDS, progress=tick
    )
    if run.diverged_at is not None:
        reject(
            f"a training that diverges at step {run.diverged_at}",
            "Lazy or rich is a statement about a training that ends",
            "Give a method with a smaller rate, or leave method out",
        )
    return model, run


def _targets(model: _Dial, rows: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Classes as indicators, or as -1 and 1 for two classes and one output; targets as they are."""
    outputs, targets = jax.eval_shape(model, jnp.asarray(rows[0])).size, columns(y)
    classes = np.issubdtype(y.dtype, np.integer) and y.ndim == 1
    two = targets.shape[1] == 2 and outputs == 1 and classes
    if not two and targets.shape[1] != outputs:
        values = np.unique(y)
        named = f" (the classes {', '.join(map(str, values[:8]))}{', ...' * (len(values) > 8)})" * classes
        came = (
            f"labels of shape {y.shape} that make {targets.shape[1]} targets{named}, for a model with {outputs} outputs"
        )
        reject(
            came,
            "There is one target for each output; two classes may share one output",
            "Give numbers (n, k) for k outputs, or classes as integers (n,)",
        )
    return 2.0 * targets[:, 1:] - 1.0 if two else targets


def _moved(runs: list[tuple[_Dial, Run]], found: Trace, X: np.ndarray, alpha: float, width: int | None) -> Moved:
    probe = jnp.asarray(X[:_PROBE])
    sides = [_inside(trace(start.model, probe[0]) if width else found, start, run, probe) for start, run in runs]
    features, flips = (np.stack(part) for part in zip(*sides, strict=True))
    each = [run for _, run in runs]
    size = [float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in parameters(start)[0]))) for start, _ in runs]
    return Moved(
        alpha,
        width,
        np.array([run.drift[-1] for run in each]),
        np.array([_gap(run) for run in each]),
        np.array([run.distance[-1] for run in each]) / np.array(size),
        features,
        flips,
        np.array([run.risks[-1] / run.risks[0] if run.risks[0] > 0 else 0.0 for run in each]),
    )


def _inside(found: Trace, start: _Dial, run: Run, probe: Array) -> tuple[np.ndarray, np.ndarray]:
    before, after = (eqx.filter_jit(found.inside)(one.model, probe).outputs for one in (start, run.model))  # pyright: ignore
    pairs = [(np.asarray(one), np.asarray(two)) for one, two in zip(before, after, strict=True)]
    sizes = [float(np.linalg.norm(one)) for one, _ in pairs]
    change = [float(np.linalg.norm(two - one)) for one, two in pairs]
    relative = [way / size if size > 0 else np.nan for way, size in zip(change, sizes, strict=True)]
    return np.array(relative), np.array([np.mean(np.sign(one) != np.sign(two)) for one, two in pairs])


def _gap(run: Run) -> float:
    """The distance of the functions over how far the linearised one went, on held-out rows."""
    if run.twin_diverged_at is not None:
        return np.inf
    went = float(np.linalg.norm(run.twin_test[-1] - run.twin_test[0]))
    return float(np.linalg.norm(run.test[-1] - run.twin_test[-1])) / went if went > 0 else 0.0
