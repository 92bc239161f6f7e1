r"""Gradient flows that are cheap to start: SciPy's method of order 8 drives a field that is compiled by itself.

A compiled integrator costs seconds for each new shape, a compiled field a fraction of one. The unknown is
the displacement from the start, so that rounding is relative to how far the flow went.
"""

from collections.abc import Callable

import numpy as np
import scipy  # scipy.integrate is loaded when it is first used
from jaxtyping import Float

from widthwise.numerics import reject

Field = Callable[[Float[np.ndarray, " p"]], Float[np.ndarray, " p"]]
_MOST_EVALUATIONS = 200_000


def solve(
    field: Field, size: int, times: Float[np.ndarray, " k"], unit: float, tolerance: float = 1e-10
) -> tuple[Float[np.ndarray, "k p"], Float[np.ndarray, " k"], float]:
    r"""Follow $\dot v = \mathrm{field}(v)$ from $v = 0$ (p,): v and the length of its path at ``times``, and an error.

    A step may be wrong by ``tolerance`` times ``unit``, a length that the flow covers; the error is the sum of that
    over all steps, a bound to first order where the flow contracts. Raises ``ValueError`` for times that do not rise
    from 0 and ``RuntimeError`` for a flow that does not get to its last time.

    >>> v, length, error = solve(lambda v: 1.0 - v, 1, np.array([0.0, 1.0]), 1.0)
    >>> [round(float(one), 9) for one in (v[1, 0], length[1])], error < 1e-7
    ([0.632120559, 0.632120559], True)
    """
    _check(times)
    calls = 0

    def extended(_, state):
        nonlocal calls
        calls += 1
        if calls > _MOST_EVALUATIONS:
            raise RuntimeError(
                f"The flow took more than {_MOST_EVALUATIONS} evaluations: it is stiff. Stop it earlier, or train on "
                "inputs that are farther apart."
            )
        velocity = field(state[:-1])
        return np.append(velocity, np.linalg.norm(velocity))

    # SciPy measures the error of a step by its root mean square over the components.
    per_component = tolerance * unit / np.sqrt(size + 1.0)
    start = np.zeros(size + 1)
    found = scipy.integrate.solve_ivp(
        extended, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-13, atol=per_component
    )
    if not found.success or not np.all(np.isfinite(found.y)):
        raise RuntimeError(f"The flow was not followed to its end: {found.message} Check the network, or stop earlier.")
    return found.y[:-1].T, found.y[-1], calls * tolerance * unit


def _check(times: np.ndarray) -> None:
    if (
        times.ndim != 1
        or times.size == 0
        or not np.all(np.isfinite(times))
        or times[0] < 0
        or np.any(np.diff(times) <= 0)
    ):
        reject(f"times {times}", "Times are finite, at least 0 and rise", "Give for example np.linspace(0, 10, 41)")
    if times[-1] == 0.0:
        reject("no time after 0", "A flow has somewhere to go", "Give for example np.linspace(0, 10, 41)")
