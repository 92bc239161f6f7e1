r"""How the tangent kernel, the weights and the features of any model move while it trains, in any training loop.

Legend: as in ``drift``.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.numerics import demand_numbers, reject
from widthwise.operators import adapt, demand_options

from .drift import Features, Instrument, LossFunction, Start, columns, instrument, loss_of, ranks, similarity
from .drift_store import Stored, as_dataset, load, write
from .kernels import alignment
from .renew import renewed

Row = dict[str, Any]
_ASKING = 1e-3  # seconds that it may take to find that there is nothing to wait for


@dataclass
class Cadence:
    """When to look: every so many steps, or as often as a share of the time allows."""

    every: int | None
    budget: float
    begun: float | None = None
    spent: float = 0.0
    cost: float = 0.0

    def due(self, step: int, now: float) -> bool:
        """Whether to look now: the first time, and then when another look leaves the share within the budget."""
        if self.every is not None:
            return step % self.every == 0
        if self.begun is None:
            return True
        return self.spent + self.cost <= self.budget * (now + self.cost - self.begun)

    def paid(self, begun: float, ended: float) -> None:
        """A look took this time."""
        self.begun = begun if self.begun is None else self.begun
        self.cost = ended - begun
        self.spent += self.cost


class KernelRecorder:
    r"""Follow the empirical NTK $\Theta_t$ of a model while any loop trains it.

    A recorder is made with the model at its start and is called after every step with the number of steps made so far
    and the new parameters: ``recorder(step, params)``. On a fixed probe, ``size`` rows of ``X`` drawn by ``seed``
    (all of them if there are no more), a record holds

    - ``distance`` $\|\Theta_t - \Theta_0\|_F/\|\Theta_0\|_F$ and ``cosine`` $\langle\Theta_t, \Theta_0\rangle_F/
      \|\Theta_t\|_F\|\Theta_0\|_F$, not centred (one minus it is the kernel distance of Fort et al. 2020);
    - ``velocity`` $\|\Theta_t - \Theta_s\|_F/(\|\Theta_0\|_F(t - s))$ per step since the record before, at s;
    - ``top_eigenvalue`` of $\Theta_t$, ``effective_rank`` (the participation ratio $(\sum\lambda)^2/\sum\lambda^2$) and
      ``entropy_rank`` ($e^S$, S the entropy of $\lambda/\sum\lambda$);
    - ``weight_change`` $\|W_t - W_0\|/\|W_0\|$ of each layer, its weights and biases together;
    - ``feature_change`` $\|h_t - h_0\|/\|h_0\|$: of what goes into each layer where the model is a network of this
      package; of any other model its *outputs*, unless ``features`` says where they are;
    - with labels ``Y``: ``loss`` on the probe, and ``alignment`` of $\Theta_t$ with them (`alignment`, centred).

    $\Theta$ is averaged over outputs, as ``entk(..., outputs="trace")``. What is relative to nothing is nan.

    Args:
        model: anything that `adapt` takes, to which ``options`` go, such as ``params`` or ``output``.
        X: inputs (n, ...); Y: their classes (n,) as integers or targets (n, k) as real numbers.
        every: record every so many steps. Without it, ``budget`` bounds the share of the wall time since the first
            record that the recorder takes: it clocks itself and skips calls. The first call is recorded at once.
        loss: a function (outputs (n, k), labels) in place of the mean cross-entropy or half the mean square.
        features: a function (parameters, x) of one input that returns an array or a dictionary of them, or names of
            outputs of the model, as ``output`` of `adapt`.
        clock: what tells the time in seconds.

    The model is traced and compiled once, when the recorder is made, which does not count as training. In the loop it
    takes the parameters as a tree like the one that was given (for Flax NNX ``nnx.state(model, nnx.Param)``), or the
    model itself, in evaluation mode, whose running statistics it then follows too; of PyTorch the module.
    The arrays of the start are copied.

    Raises ``ValueError`` for a model that `adapt` refuses, for inputs or labels that do not fit, for parameters of
    another structure, and for steps that do not rise.

    >>> params = {"w": jnp.ones((1, 2))}
    >>> recorder = KernelRecorder(lambda p, x: (p["w"] @ x) ** 2, np.eye(2), every=2, params=params)
    >>> [recorder(step, {"w": (1.0 + step) * params["w"]}) for step in range(4)]
    [True, False, True, False]
    >>> recorder.records["distance"].tolist()
    [0.0, 8.0]
    """

    def __init__(
        self,
        model: Any,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        every: int | None = None,
        budget: float = 0.08,
        size: int = 64,
        seed: int = 0,
        loss: LossFunction | None = None,
        features: Features | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ):
        demand_options(KernelRecorder, options)
        _demand(every, budget, size)
        self.X, self.Y = _probe(X, Y, size, seed)
        self._model: Any = adapt(model, self.X, **options)
        again = {name: one for name, one in options.items() if name != "params"}
        self._readapt = partial(adapt, **{**again, "batched": self._model.batched})
        outputs = jax.eval_shape(self._model, jnp.asarray(self.X[0])).size
        chosen = loss_of(self.Y, outputs, loss)
        labels = None if self.Y is None else jnp.asarray(self.Y)
        self._instrument: Instrument = instrument(self._model, jnp.asarray(self.X), labels, chosen, features)
        self._start: Start = self._instrument.start(self._model)
        self._targets = None if self.Y is None else columns(self.Y)
        self._cadence, self._clock = Cadence(every, budget), clock
        self._rows: list[Row] = []
        self._last: tuple[int, np.ndarray] | None = None
        self._resumed = False
        self.config = {"every": every or 0, "budget": budget, "size": len(self.X), "seed": seed, "loss": _name(chosen)}

    def __repr__(self) -> str:
        return f"KernelRecorder({len(self._rows)} records on {len(self.X)} inputs)"

    def __call__(self, step: Any, model: Any) -> bool:
        """Record this step if it is due, and say whether it was."""
        begun = self._clock()
        if self._cadence.due(whole_step(step), begun):
            return self.record(step, model)
        self._cadence.spent += self._clock() - begun
        return False

    def record(self, step: Any, model: Any) -> bool:
        """Record this step in any case, such as the last one; False where it has been recorded already."""
        begun = self._clock()
        step = self._placed(whole_step(step))
        if self._rows and self._rows[-1]["step"] == step:
            return False
        ready = self._clock()
        jax.block_until_ready(model)
        begun += max(0.0, self._clock() - ready - _ASKING)  # to wait for the training is not the recorder's time
        seen = self._instrument(renewed(self._model, model, self._readapt), self._start)
        row = self._row(step, jax.tree.map(partial(np.asarray, dtype=float), {**seen, "features": None}))
        self._rows.append(row)
        self._cadence.paid(begun, self._clock())
        row["seconds"] = self._cadence.cost
        return True

    def _placed(self, step: int) -> int:
        """The step, where it may come; training that was taken up again may go back, and forgets what it makes anew."""
        if self._resumed and self._rows and step < self._rows[-1]["step"]:
            self._rows, self._last = [row for row in self._rows if row["step"] < step], None
        if self._rows and step < self._rows[-1]["step"]:
            reject(
                f"step={step} after step {self._rows[-1]['step']}",
                "Steps count from the start of the training and rise",
                "Count on from one epoch to the next; take up an interrupted training by KernelRecorder.resume",
            )
        self._resumed = False
        return step

    def _row(self, step: int, seen: dict[str, Any]) -> Row:
        K, first = seen["kernel"], self._start.kernel
        distance, cosine = similarity(K, first)
        top, participation, entropy = ranks(K)
        row = {"step": step, "distance": distance, "cosine": cosine, "velocity": float("nan")}
        if self._last is not None:
            before, old = self._last
            row["velocity"] = similarity(K - old + first, first)[0] / (step - before)
        row |= {"top_eigenvalue": top, "effective_rank": participation, "entropy_rank": entropy}
        if self._targets is not None:
            row |= {"loss": float(seen["loss"]), "alignment": alignment(K, self._targets)}
        self._last = step, K
        return row | {name: seen[name] for name in ("weight_change", "feature_change")}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers with parameters."""
        return tuple(self._instrument.layers)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(self._instrument.features)

    @property
    def initial_kernel(self) -> Float[np.ndarray, "n n"]:
        r"""$\Theta_0$ on the probe."""
        return self._start.kernel

    @property
    def share(self) -> float:
        """The share of the wall time since the first record that the recorder took."""
        begun = self._cadence.begun
        return 0.0 if begun is None else self._cadence.spent / max(self._clock() - begun, 1e-12)

    @property
    def records(self) -> dict[str, np.ndarray]:
        """The records as arrays, one entry for each along the first axis; changes of several layers in columns."""
        names = ["step", "distance", "cosine", "velocity", "top_eigenvalue", "effective_rank", "entropy_rank"]
        names += ["seconds"] if self.Y is None else ["loss", "alignment", "seconds"]
        found = {name: np.array([row[name] for row in self._rows], int if name == "step" else float) for name in names}
        for name, columns_ in (("weight_change", self.layers), ("feature_change", self.features)):
            found[name] = np.array([row[name] for row in self._rows], float).reshape(-1, len(columns_))
        return found

    def dataset(self) -> Any:
        """The records as an `xarray.Dataset` over step, layer and feature; raises ``ValueError`` without the extra."""
        return as_dataset(self._stored())

    def save(self, path: str | os.PathLike) -> None:
        """Write the records into a zarr folder, or append those that it lacks.

        Raises ``ValueError`` for a folder that holds something else, and without the extra xarray.
        """
        write(path, self._stored())

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike,
        model: Any,
        *,
        loss: LossFunction | None = None,
        features: Features | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ) -> "KernelRecorder":
        r"""Go on with what `save` wrote: its probe, its $\Theta_0$ and its other arrays of the start, its records.

        ``model`` is the model at any moment, brought as it was; functions for ``loss`` and ``features`` are given
        again. The first record may lie before the last one, as training goes on from a checkpoint before it; the
        records from there on are then made anew. Raises ``ValueError`` for a folder without records, and for a
        model with other layers.
        """
        held = load(path)
        settings = {name: held.config[name] for name in ("budget", "seed")}
        made = cls(
            *(model, held.X, held.Y),
            every=held.config["every"] or None,
            size=len(held.X),
            loss=loss,
            features=features,
            clock=clock,
            **settings,
            **options,
        )
        made._take_up(path, held)
        return made

    def _take_up(self, path: str | os.PathLike, held: Stored) -> None:
        own = self._stored()
        shapes = [[one.shape for one in (*part.weights, *part.features)] for part in (own, held)]
        names = [(part.layer_names, part.feature_names, part.config["loss"]) for part in (own, held)]
        if names[0] != names[1] or shapes[0] != shapes[1]:
            reject(
                f"a model with layers {', '.join(own.layer_names)}, features {', '.join(own.feature_names)} and loss "
                f"{own.config['loss']}",
                f"{path} holds records of layers {', '.join(held.layer_names)}, features "
                f"{', '.join(held.feature_names)} and loss {held.config['loss']}",
                "Bring the model as it was brought, with the same loss and features",
            )
        like = self._start
        restored = [
            tuple(jnp.asarray(new, old.dtype) for new, old in zip(*pair, strict=True))
            for pair in ((held.weights, like.weights), (held.features, like.features))
        ]
        self._start = Start(held.kernel, *restored)
        self._rows = [{name: column[at] for name, column in held.records.items()} for at in range(held.count)]
        for row in self._rows:
            row["step"] = int(row["step"])
        self._last, self._resumed = held.last, True

    def _stored(self) -> Stored:
        start = self._start
        arrays = (tuple(map(np.asarray, part)) for part in (start.weights, start.features))
        last = self._last
        return Stored(
            self.records, self.config, self.layers, self.features, self.X, self.Y, start.kernel, *arrays, last=last
        )


def whole_step(step: Any) -> int:
    if type(step) is int and step >= 0:
        return step
    if isinstance(step, bool) or not np.issubdtype(np.asarray(step).dtype, np.integer) or int(step) < 0:
        reject(f"step={step!r}", "A step is the number of steps made so far, 0 or more", "Count them in the loop")
    return int(step)


def _probe(X: ArrayLike, Y: ArrayLike | None, size: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of the probe, in the order in which they came."""
    demand_numbers("X", X)
    demand_numbers("Y", Y)
    X, Y = np.asarray(X), None if Y is None else np.asarray(Y)
    if X.ndim == 0 or len(X) == 0 or (np.issubdtype(X.dtype, np.inexact) and not np.all(np.isfinite(X))):
        reject(
            f"X of shape {X.shape}" + (" with NaN or infinity" if X.size and X.ndim else ""),
            "The probe is drawn from n >= 1 inputs along the first axis, all finite",
            "Give inputs such as the training data",
        )
    if Y is not None and (Y.ndim == 0 or len(Y) != len(X)):
        reject(f"X of shape {X.shape} and Y of shape {Y.shape}", "Each input has one label", "Check the rows")
    if Y is not None and np.issubdtype(Y.dtype, np.inexact) and not np.all(np.isfinite(Y)):
        reject("Y with NaN or infinity", "Targets are finite", "Remove or mend those rows")
    rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:size])
    return X[rows], None if Y is None else Y[rows]


def _demand(every: Any, budget: Any, size: Any) -> None:
    whole = [one is None or (isinstance(one, int | np.integer) and one >= 1) for one in (every, size)]
    if not all(whole) or size is None:
        reject(
            f"every={every!r}, size={size!r}",
            "Both are whole numbers of at least 1",
            "Give every=100, or size=64 alone",
        )
    if not (isinstance(budget, int | float) and 0 < budget < 1):
        reject(f"budget={budget!r}", "The budget is a share of the time, between 0 and 1", "Give budget=0.1")


def _name(loss: Array | Callable | None) -> str:
    return "none" if loss is None else getattr(loss, "__name__", type(loss).__name__)
