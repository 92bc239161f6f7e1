"""What a report would cost, asked before the work begins."""

from dataclasses import dataclass

from widthwise.activations import activation
from widthwise.data import demand_memory
from widthwise.networks import MLP
from widthwise.numerics import reject

from .context import Context, Settings

_FLOPS = 8e9  # float64 operations per second of two ordinary cores
_CLOSED, _SERIES, _CELLS = 2e-7, 3e-6, 1e-3  # seconds per pair of inputs and hidden layer, by kind of dual
_TRIALS = 160  # steps of gradient descent that section 4 takes at other rates
_PASSES = 22  # passes of 2 p n operations per step: forward and back, for the network and for its linearisation
_NUMBER = 8  # bytes


@dataclass(frozen=True)
class Cost:
    """Bytes for the kernel matrices and for training, and seconds for all of it."""

    kernel_bytes: int
    training_bytes: int
    seconds: float


def count_parameters(spec: MLP, inputs: int, outputs: int) -> int:
    """Count the trainable numbers of a network.

    >>> count_parameters(MLP(width=4, depth=2), inputs=3, outputs=1)
    32
    """
    bias = 1 if spec.bias_variance else 0
    hidden = (inputs + bias) * spec.width + (spec.depth - 1) * (spec.width + bias) * spec.width
    return hidden + spec.width * outputs


def estimate(spec: MLP, settings: Settings, rows: tuple[int, int], inputs: int, outputs: int) -> Cost:
    """Estimate what a report costs; ``rows`` are the numbers of training and of test rows."""
    n, m = rows
    size = count_parameters(spec, inputs, outputs)
    kind = activation(spec.activation)
    pair = _CLOSED if kind.closed else _SERIES if kind.smooth else _CELLS
    kernels = 7 * n * n + 2 * n * m  # both kernels, their eigenvectors and work space, and the cross kernels
    training = 12 * size + 6 * n * spec.width * spec.depth
    batch = n if settings.optimizer in ("gd", "flow") else min(settings.batch, n)
    operations = 2.0 * _PASSES * size * (settings.updates * batch + _TRIALS * n) + 60.0 * n**3
    seconds = operations / _FLOPS + pair * spec.depth * (0.5 * n * n + n * m)
    return Cost(_NUMBER * kernels, _NUMBER * training, seconds)


def demand_affordable(context: Context) -> None:
    """Refuse a report that would not fit into memory or would take longer than its time limit."""
    rows = (len(context.X_train), len(context.X_test))
    cost = estimate(context.spec, context.settings, rows, context.inputs, context.outputs)
    demand_memory(
        cost.kernel_bytes,
        f"The kernels of {rows[0]:,} training and {rows[1]:,} test rows",
        "Take fewer with rows=2000",
    )
    demand_memory(
        cost.training_bytes,
        f"Training a network of {count_parameters(context.spec, context.inputs, context.outputs):,} parameters",
        "Take a smaller width or depth, or fewer rows",
    )
    if cost.seconds > context.settings.time_limit:
        reject(
            f"This report would take about {in_words(cost.seconds)}",
            f"At most {in_words(context.settings.time_limit)} are allowed (time_limit)",
            "Take a smaller width, fewer steps or fewer rows, or raise time_limit",
        )


def in_words(seconds: float) -> str:
    """Say a duration in the unit that suits it.

    >>> in_words(42), in_words(5400), in_words(1e6)
    ('42 s', '1.5 h', '12 days')
    """
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}" if seconds / length < 1e5 else f"{seconds / length:.0e} {unit}"
    return f"{seconds:.2g} s"
