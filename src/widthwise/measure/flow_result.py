"""What following a gradient flow gives: its points at the saved times, and how it ended."""

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


class FlowCode(enum.Enum):
    """How an integration ended."""

    SUCCESSFUL = "successful"
    STIFF = "stiff"
    TOO_MANY_STEPS = "too many steps"
    STEP_TOO_SMALL = "step too small"
    NOT_FINITE = "not finite"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class Flow:
    r"""A gradient flow at the saved times that were reached.

    ``times`` (k,) are in units of 1/``rate``; ``displacements`` (k, p) are $w(t) - w_0$, of the last time alone where
    only that was kept; ``residuals`` (k, n) $\alpha f(w(t)) - y$, ``distances`` (k,) $\|w(t) - w_0\|$, ``lengths``
    (k,) the length of the path from $w_0$. ``error`` is a first-order bound on the error of a displacement and of a
    length: the tolerances of all steps added up, as where the flow contracts; infinite where steps were kept from
    shrinking. ``method`` is what followed it, ``evaluations`` how often it asked for the slope of the loss, and
    ``kernels`` how often for the tangent kernel.
    """

    times: Float[np.ndarray, " k"]
    rate: float
    displacements: Float[np.ndarray, "s p"]
    residuals: Float[np.ndarray, "k n"]
    distances: Float[np.ndarray, " k"]
    lengths: Float[np.ndarray, " k"]
    error: float
    steps: int
    code: FlowCode = FlowCode.SUCCESSFUL
    reason: str = ""
    method: str = "runge-kutta"
    evaluations: int = 0
    kernels: int = 0

    @property
    def residual_norms(self) -> Float[np.ndarray, " k"]:
        r"""$\|\alpha f(w(t)) - y\|$; half its square is the loss."""
        return np.linalg.norm(self.residuals, axis=1)

    def __repr__(self) -> str:
        return f"Flow({self.code.value}: {len(self.times)} times, {self.steps} steps)"
