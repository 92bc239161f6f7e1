r"""What every section of a report starts from: the data, the network, the settings, shared results.

Conventions of the whole report: float64, the NTK parameterisation unless the network says
otherwise, $n$ training inputs, $k$ outputs, and the risk $R = \frac1{2n}\sum_i\|f(x_i)-t_i\|^2$, the
mean over inputs of half the squared distance, summed over outputs. For it the gradient flow of the
outputs is $\dot f = -\frac1n\Theta(f - t)$, and gradient descent on the tangent model is stable for
steps below $2n/\lambda_{\max}(\Theta)$.
"""

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from widthwise.data import Dataset, Standardised
from widthwise.measure import hessian_sharpness, ntk_sharpness
from widthwise.networks import Chain, Kernels, kernel, sample
from widthwise.numerics import Estimate, Spectrum, nearest, reject, spectrum

from .own import Own, Plan, plan
from .progress import Progress, Silent
from .section import Section

Optimizer = Literal["gd", "flow", "sgd", "adam"]
Shared = TypeVar("Shared")

STEPS, QUICK_STEPS = 400, 100
_TOLERANCE = (
    1e-8  # relative error of a kernel entry: far below what widths and draws can tell, and much faster than 1e-10
)


@dataclass(frozen=True)
class Settings:
    """How the network is trained and how much is measured.

    optimizer: "gd" (full batch), "flow" (gradient flow), "sgd" or "adam" (mini-batches).
    learning_rate: None takes half the smaller of two stable limits, of the kernel at infinite width and of this
        network's own; for Adam 0.001. For the flow it is the time that one step stands for.
    steps: number of updates; None means 400, or 100 when quick.
    batch: rows in a mini-batch of SGD and Adam.
    seed: every random choice follows from it.
    quick: fewer draws, widths and steps, for a first look.
    test_fraction: share of the rows that are held out.
    rows: at most so many training rows are used, and as many test rows; the rest is left out.
    time_limit: work that is estimated to take longer, in seconds, is refused before it begins.

    Raises `ValueError` for values that are out of range.

    >>> Settings(quick=True).steps
    100
    """

    optimizer: Optimizer = "gd"
    learning_rate: float | None = None
    steps: int | None = None
    batch: int = 32
    seed: int = 0
    quick: bool = False
    test_fraction: float = 0.2
    rows: int = 2000
    time_limit: float = 3600.0

    def __post_init__(self):
        if self.optimizer not in get_args(Optimizer):
            reject(
                f"optimizer={self.optimizer!r}{nearest(str(self.optimizer), get_args(Optimizer))}",
                f"Known are {', '.join(get_args(Optimizer))}",
                "Choose one of them",
            )
        if self.steps is None:
            object.__setattr__(self, "steps", QUICK_STEPS if self.quick else STEPS)
        for name, least in (("steps", 1), ("batch", 1), ("seed", 0), ("rows", 4)):
            _demand_whole(name, getattr(self, name), least)
        if self.seed >= 2**32:
            reject(f"seed={self.seed}", "A seed is below 2^32", "Give for example seed=1")
        _demand_positive("time_limit", self.time_limit, "Give for example time_limit=7200")
        if self.learning_rate is not None:
            _demand_positive("learning_rate", self.learning_rate, "Leave it out for a stable one")
        if not (_is_real(self.test_fraction) and 0 < self.test_fraction < 1):
            reject(
                f"test_fraction={self.test_fraction!r}",
                "The share of held-out rows lies strictly between 0 and 1",
                "Give for example test_fraction=0.2",
            )

    @property
    def updates(self) -> int:
        """The number of steps, which is settled when the settings are made."""
        return self.steps or STEPS


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _demand_positive(name: str, value: Any, todo: str) -> None:
    if not (_is_real(value) and math.isfinite(value) and value > 0):
        reject(f"{name}={value!r}", "It is a positive number", todo)


def _demand_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        reject(f"{name}={value!r}", f"It is a whole number of at least {least}", f"Give for example {name}={least + 1}")


@dataclass(frozen=True, eq=False)
class Context:
    """Everything the sections share; what is costly is computed when it is first asked for, once.

    dataset: the data as loaded; data: split, standardised and, where there were too many rows, thinned.
    spec: the network in words, an `MLP`, or a model that somebody brought, an `Own`, for which no limit of infinite
        width is known; settings: how it is trained; progress: where to tell how far it is.
    notes: what was reduced and why; finished: the sections that are done, by key.
    """

    dataset: Dataset
    data: Standardised
    spec: Any
    settings: Settings = field(default_factory=Settings)
    progress: Progress = field(default_factory=Silent)
    notes: tuple[str, ...] = ()
    finished: dict[str, Section] = field(default_factory=dict)
    _once: dict[Callable, Any] = field(default_factory=dict, repr=False)

    @property
    def X_train(self) -> Float[np.ndarray, "n d"]:
        """Standardised training inputs."""
        return self.data.train.X

    @property
    def T_train(self) -> Float[np.ndarray, "n k"]:
        """Training targets: what the outputs are fitted to."""
        return self.data.train.targets

    @property
    def y_train(self) -> Shaped[np.ndarray, " n"]:
        """Training labels: class indices, or values in their own unit."""
        return self.data.train.y

    @property
    def X_test(self) -> Float[np.ndarray, "m d"]:
        """Standardised held-out inputs."""
        return self.data.test.X

    @property
    def T_test(self) -> Float[np.ndarray, "m k"]:
        """Held-out targets."""
        return self.data.test.targets

    @property
    def y_test(self) -> Shaped[np.ndarray, " m"]:
        """Held-out labels: class indices, or values in their own unit."""
        return self.data.test.y

    @property
    def classification(self) -> bool:
        """Whether the labels are classes."""
        return self.data.task == "classification"

    @property
    def inputs(self) -> int:
        """The number of features d."""
        return self.X_train.shape[1]

    @property
    def outputs(self) -> int:
        """The number of outputs k."""
        return self.T_train.shape[1]

    @property
    def own(self) -> Own | None:
        """The model that somebody brought, or None for a network whose limit of infinite width is known."""
        return self.spec if isinstance(self.spec, Own) else None

    @functools.cached_property
    def plan(self) -> Plan | None:
        """On how many rows a model that somebody brought is looked at; None where all rows are used."""
        return self.own and plan(self.own, self.settings, (len(self.X_train), len(self.X_test)))

    @property
    def curvature_rows(self) -> Int[np.ndarray, " c"]:
        """The training rows on which eigenvalues are measured and other rates are tried."""
        return self.some_rows("curvature", self.plan.curvature if self.plan else len(self.X_train))

    @property
    def network(self) -> Chain:
        """The network with the right number of outputs."""
        return self.spec.network(self.outputs)

    def key(self, purpose: str) -> Array:
        """The random key for one purpose: the same words and the same seed give the same key."""
        return jr.fold_in(jr.key(self.settings.seed), zlib.crc32(purpose.encode()))

    def some_rows(self, purpose: str, count: int) -> Int[np.ndarray, " c"]:
        """Choose at most so many training rows at random, the same for equal words and seed; in ascending order."""
        total = len(self.X_train)
        rng = np.random.default_rng([self.settings.seed, zlib.crc32(purpose.encode())])
        return np.sort(rng.choice(total, min(count, total), replace=False))

    @functools.cached_property
    def model(self) -> Callable:
        """The finite network at its start, a callable PyTree (d,) -> (k,) in float64."""
        if self.own:
            return self.own.model
        with jax.enable_x64(True):
            return sample(self.network, self.key("model"), self.inputs)

    @functools.cached_property
    def kernel_train(self) -> Kernels:
        """NNGP and NTK of the infinitely wide network on the training inputs, each (n, n), one output."""
        return kernel(self.spec.network(), self.X_train, tolerance=_TOLERANCE)

    @functools.cached_property
    def kernel_cross(self) -> Kernels:
        """NNGP and NTK between the test inputs (rows) and the training inputs (columns), each (m, n)."""
        return kernel(self.spec.network(), self.X_test, self.X_train, tolerance=_TOLERANCE)

    @functools.cached_property
    def ntk_spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of the infinite-width NTK on the training inputs."""
        return spectrum(self.kernel_train.ntk, self.kernel_train.error)

    @functools.cached_property
    def nngp_spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of the NNGP kernel on the training inputs."""
        return spectrum(self.kernel_train.nngp, self.kernel_train.error)

    @property
    def stable_rate(self) -> float:
        r"""The largest stable step of gradient descent on the tangent model, $2n/\lambda_{\max}(\Theta)$."""
        return 2.0 * len(self.X_train) / self.ntk_spectrum.largest

    @property
    def own_stable_rate(self) -> float:
        r"""The same from the network's own kernel at the start, $2n/\lambda_{\max}(\hat\Theta)$."""
        return 2.0 / self.once(kernel_curvature).value

    @property
    def learning_rate(self) -> float:
        """The learning rate that is used: the given one, half the smaller stable one, or 0.001 for Adam."""
        if self.settings.learning_rate is not None:
            return float(self.settings.learning_rate)
        if self.settings.optimizer == "adam":
            return 1e-3
        other = 2.0 / self.once(hessian_curvature).value if self.own else self.stable_rate
        return 0.5 * min(other, self.own_stable_rate)

    def once(self, compute: "Callable[[Context], Shared]") -> Shared:
        """Return ``compute(context)``, computed when it is first asked for and then kept.

        Sections share results in this way: both call ``context.once(trained)`` with one function.
        """
        if compute not in self._once:
            self._once[compute] = compute(self)
        return self._once[compute]


def kernel_curvature(context: Context) -> Estimate:
    r"""The largest eigenvalue of $\hat\Theta/n$, the network's own kernel at the start; kept by ``context.once``."""
    return ntk_sharpness(context.model, jnp.asarray(context.X_train[context.curvature_rows]))


def hessian_curvature(context: Context) -> Estimate:
    r"""The largest eigenvalue of $\nabla^2R$ at the start; kept by ``context.once``."""
    return hessian_sharpness(context.model, *curvature_data(context))


def curvature_data(context: Context) -> tuple[Array, Array]:
    """Inputs and targets on which eigenvalues are measured."""
    rows = context.curvature_rows
    return jnp.asarray(context.X_train[rows]), jnp.asarray(context.T_train[rows])
