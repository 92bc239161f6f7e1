r"""How near a training is to instability, in any training loop, and what will become of it.

Legend: as in ``curvature`` and ``phases``.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from widthwise.numerics import demand_rate, reject
from widthwise.operators import ADAPTED, adapt, demand_options

from .curvature import Lens, Look
from .drift_store import xarray_package
from .objective import Custom, objective
from .phases import Moment, Phase, advanced, advice
from .recorder import Cadence, whole_step
from .renew import renewed
from .response import demand_optimiser
from .stable_rate import adapted, demand_finite

_ASKING = 1e-3  # seconds that it may take to find that there is nothing to wait for
_TITLE = "widthwise stability records"
_MEANINGS = {
    "loss": "loss on the data of the monitor",
    "sharpness": "largest eigenvalue of the preconditioned Hessian",
    "error": "bound on the error of the sharpness",
    "ntk_sharpness": "largest eigenvalue of the preconditioned Gauss-Newton matrix",
    "threshold": "sharpness above which the optimiser is unstable",
    "margin": "sharpness over threshold",
    "ntk_margin": "ntk_sharpness over threshold",
    "seconds": "time that the record took",
    "status": "state of the training",
}
_NAMES = ("step", "loss", "sharpness", "error", "ntk_sharpness", "threshold", "margin", "ntk_margin", "seconds")


class StabilityMonitor:
    r"""Watch a training in any loop: its sharpness against the threshold of its optimiser, and the state it is in.

    A monitor is made with the model at its start and is called after every step with the number of steps made so far,
    the new parameters and the optimiser's state: ``monitor(step, params, state)``. A record holds

    - ``sharpness``, the largest eigenvalue of $P^{-1/2}HP^{-1/2}$, with its ``error``; H the Hessian of the loss on
      ``data``, P the preconditioner of the optimiser at this moment (none for gradient descent and momentum);
    - ``ntk_sharpness``, that of the Gauss-Newton matrix, for a squared error the empirical NTK;
    - ``threshold``, the sharpness at which the optimiser becomes unstable: $2/\eta$ for gradient descent;
    - ``margin`` and ``ntk_margin``, sharpness over threshold; ``loss`` on ``data``; ``seconds`` that it took.

    ``status`` is one of

    - "stable": the margin is below 1;
    - "progressive sharpening": it is below 1 and rises;
    - "edge of stability": it has risen to 1 and stays there, while the loss falls on the whole;
    - "catapult": it is above 1, so that the loss rises, and the curvature will fall (or falls) until it is below 1;
    - "divergent": it is above 1, and the curvature will not fall in time; or the loss has exploded.

    Before the curvature has answered to a rising loss, the last two are told apart by the rule of two-layer networks,
    which diverge from the margin 2 on; deeper ones may bear more. ``advice`` says what to do.

    Args:
        model, data, loss: as in `stable_rate`; of a pair (X, y) ``size`` rows are drawn by ``seed``.
        optimizer: an optax optimiser, understood by its momentum and running squares; gradient descent without it.
        state: its state at the start, by which the monitor is compiled, where it differs in form from
            ``optimizer.init(params)``.
        rate: that of gradient descent; of an optimiser the one that it was made with, in which ``sharpness`` is
            measured. Without it, the sharpness of Adam and its like includes the rate.
        every: record every so many steps. Without it, ``budget`` bounds the share of the wall time since the first
            record that the monitor takes: it clocks itself and skips calls. The first call is recorded at once.
        steps: products with each matrix for a record, of which the last eigenvectors are the start.
        clock: what tells the time in seconds.

    The model is traced and compiled once, when the monitor is made. Raises ``ValueError`` as `stable_rate`, for an
    optimiser that is not understood, a missing rate, and steps that do not rise.
    Sources: cohen2021gradient, cohen2022adaptive, lewkowycz2020large.

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.array([[2.0]])}
    >>> monitor = StabilityMonitor(
    ...     lambda p, x: p["w"] @ x, (np.ones((1, 1)), np.zeros((1, 1))), rate=0.5, every=1, params=params
    ... )
    >>> monitor(0, params), monitor.status, monitor.records["margin"].round(6).tolist()
    (True, 'stable', [0.25])
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        loss: str | Callable = "half-mean",
        *,
        optimizer: Any = None,
        state: Any = None,
        rate: float | None = None,
        every: int | None = None,
        budget: float = 0.045,
        size: int | None = 1024,
        seed: int = 0,
        steps: int = 6,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ):
        demand_options(StabilityMonitor, options, (*ADAPTED, "dtype", "X"))
        _demand(optimizer, rate, every, budget, steps)
        self.loss = objective(data, loss, size, seed)
        self._model = adapted(model, self.loss, dict(options))
        again = {name: one for name, one in options.items() if name not in ("params", "X")}
        self._readapt = partial(adapt, **{**again, "batched": self._model.batched})
        self._kinds = ("hessian",) if isinstance(self.loss, Custom) else ("hessian", "ntk")
        self._lens, self.rate = Lens(self._model, self.loss, optimizer, rate, steps), rate
        self._starts = self._lens.starts(self._model, self._kinds)
        self._cadence, self._clock = Cadence(every, budget), clock
        self._rows: list[dict[str, float]] = []
        self._moments: list[Moment] = []
        self._phases: list[Phase] = []
        self._losses: list[tuple[int, float]] = []
        self._begin(optimizer, state)

    def _begin(self, optimizer: Any, state: Any) -> None:
        """Compile the look, and refuse what can be refused at once."""
        if optimizer is not None and state is None:
            state = optimizer.init(self._lens.weights(self._model))
        demand_finite(self._lens(self._model, state, self._starts).loss)

    def __repr__(self) -> str:
        return f"StabilityMonitor({len(self._rows)} records, {self.status})"

    def __call__(self, step: Any, model: Any, state: Any = None, loss: Any = None) -> bool:
        """Record this step if it is due, and say whether it was; ``loss``: that of the loop, kept in ``losses``."""
        begun, step = self._clock(), whole_step(step)
        if self._cadence.due(step, begun):
            return self.record(step, model, state, loss)
        self._keep(step, loss)
        self._cadence.spent += self._clock() - begun
        return False

    def record(self, step: Any, model: Any, state: Any = None, loss: Any = None) -> bool:
        """Record this step in any case, such as the last one; False where it has been recorded already."""
        begun, step = self._clock(), whole_step(step)
        self._demand_step(step)
        if self._rows and self._rows[-1]["step"] == step:
            return False
        ready = self._clock()
        jax.block_until_ready((model, state, loss))
        begun += max(0.0, self._clock() - ready - _ASKING)  # to wait for the training is not the monitor's time
        self._keep(step, loss)
        look = self._lens(renewed(self._model, model, self._readapt), state, self._starts)
        if np.isfinite(look.loss):
            self._starts = look.starts
        self._add(step, look)
        self._cadence.paid(begun, self._clock())
        self._rows[-1]["seconds"] = self._cadence.cost
        return True

    def _keep(self, step: int, loss: Any) -> None:
        if loss is not None:
            self._losses.append((step, loss))

    def dataset(self) -> Any:
        """The records as an `xarray.Dataset` over the steps, which ``.to_zarr(path)`` saves.

        Raises ``ValueError`` without the extra xarray.
        """
        xarray = xarray_package()
        columns = self.records
        made = {
            name: ("step", column, {"long_name": _MEANINGS[name]})
            for name, column in columns.items()
            if name in _MEANINGS
        }
        attrs = {"title": _TITLE, "loss": self.loss.convention, "rate": self.rate or float("nan")}
        return xarray.Dataset(made, coords={"step": columns["step"]}, attrs=attrs)

    def restore(self, records: Any) -> None:
        """Go on after the ``records`` of an earlier run: its `dataset`, as ``xarray.open_zarr`` reads it, or `records`.

        Raises ``ValueError`` where this monitor has records already, and for columns that are missing or do not fit.
        """
        missing = [name for name in _NAMES if name not in records]
        if self._rows or missing:
            reject(
                f"records without {', '.join(missing)}" if missing else f"a monitor with {len(self._rows)} records",
                "Records are taken over by a new monitor, with all of their columns",
                "Make a monitor and give it dataset() of the other one before the first step",
            )
        columns = [np.asarray(records[name]) for name in _NAMES]
        if any(one.shape != columns[0].shape or one.ndim != 1 for one in columns) or np.any(np.diff(columns[0]) <= 0):
            reject(
                "records whose columns do not fit", "All columns are as long, and steps rise", "Give them as they were"
            )
        for values in zip(*columns, strict=True):
            self._keep_row(dict(zip(_NAMES, (int(values[0]), *map(float, values[1:])), strict=True)))

    def _keep_row(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        self._moments.append(
            Moment(int(row["step"]), *(row[name] for name in ("loss", "margin", "ntk_margin", "threshold")))
        )
        self._phases.append(advanced(self._phases[-1] if self._phases else Phase(), self._moments))

    def _demand_step(self, step: int) -> None:
        if self._rows and step < self._rows[-1]["step"]:
            reject(
                f"step={step} after step {self._rows[-1]['step']:.0f}",
                "Steps count from the start of the training and rise",
                "Count on from one epoch to the next",
            )

    def _add(self, step: int, look: Look) -> None:
        unit = look.response.rate or self.rate or 1.0
        sharp = {kind: (float(one.value) / unit, float(one.error) / unit) for kind, one in look.sharpness.items()}
        nothing = float("nan")
        ntk, margins = sharp.get("ntk", (nothing, nothing)), look.margin
        values = (sharp["hessian"][0], sharp["hessian"][1], ntk[0], look.response.threshold / unit)
        margin, ntk_margin = margins["hessian"], margins.get("ntk", nothing)
        self._keep_row(dict(zip(_NAMES, (step, look.loss, *values, margin, ntk_margin, 0.0), strict=True)))

    @property
    def status(self) -> str:
        """The state of the training at the last record."""
        return self._phases[-1].status if self._phases else "not yet seen"

    @property
    def advice(self) -> str:
        """What the status means and what to do."""
        return advice(self._phases[-1], self._moments) if self._phases else "Call the monitor in the loop."

    @property
    def crossing(self) -> float | None:
        """The step at which the sharpness first rose through the threshold, between two records; None before."""
        return self._phases[-1].crossing if self._phases else None

    @property
    def events(self) -> list[tuple[int, str]]:
        """Each step at which the status became another one."""
        return list(self._changes())

    def _changes(self) -> Iterator[tuple[int, str]]:
        before = None
        for moment, phase in zip(self._moments, self._phases, strict=True):
            if phase.status != before:
                yield moment.step, phase.status
            before = phase.status

    @property
    def share(self) -> float:
        """The share of the wall time since the first record that the monitor took."""
        begun = self._cadence.begun
        return 0.0 if begun is None else self._cadence.spent / max(self._clock() - begun, 1e-12)

    @property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """The losses that the loop gave, as steps and values."""
        steps, values = zip(*self._losses, strict=True) if self._losses else ((), ())
        return np.array(steps, int), np.array([float(one) for one in values])

    @property
    def records(self) -> dict[str, np.ndarray]:
        """The records as arrays, with the ``status`` of each."""
        found = {name: np.array([row[name] for row in self._rows], int if name == "step" else float) for name in _NAMES}
        return found | {"status": np.array([phase.status for phase in self._phases], dtype=object)}


def _demand(optimizer: Any, rate: float | None, every: Any, budget: Any, steps: Any) -> None:
    if optimizer is None and rate is None:
        reject(
            "neither an optimiser nor a rate",
            "A threshold is one of an optimiser at its rate",
            "Give optimizer=optax.adam(1e-3) or its like, or rate=0.1 for gradient descent",
        )
    if optimizer is not None:
        demand_optimiser(optimizer)
    if rate is not None:
        demand_rate(rate)
    whole = [one is None or (isinstance(one, int | np.integer) and one >= 1) for one in (every, steps)]
    if not all(whole) or steps is None:
        reject(
            f"every={every!r}, steps={steps!r}",
            "Both are whole numbers of at least 1",
            "Give every=10, or steps=6 alone",
        )
    if not (isinstance(budget, int | float) and 0 < budget < 1):
        reject(f"budget={budget!r}", "The budget is a share of the time, between 0 and 1", "Give budget=0.05")
