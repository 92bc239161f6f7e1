r"""How wide must my network be for my data: by each theorem, and measured.

Legend: as in ``families`` and ``theorems``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as find_activation
from widthwise.numerics import demand_count, demand_numbers, nearest, reject
from widthwise.theory.lazy.shallow_limits import demand_targets

from .families import Family
from .measured import CRITERIA, MeasuredWidth, measured_width, told
from .theorems import TheoremWidth, theorem_widths


@dataclass(frozen=True, eq=False)
class WidthNeeded:
    """The widths of all theorems and the measured one, side by side; prints as a table.

    ``theorems`` and ``measured`` (None where it was left out), ``family``: activation and initialisation, ``count`` and
    ``dim`` those of the inputs, ``lambda0`` and ``kappa`` of the limiting kernel: its least eigenvalue, 0 where that is
    not above its error, and the root of the ratio of the largest to it.
    """

    theorems: tuple[TheoremWidth, ...]
    measured: MeasuredWidth | None
    family: Family
    count: int
    dim: int
    lambda0: float
    kappa: float

    def theorem(self, claim_id: str) -> TheoremWidth:
        """What one theorem says; raises ``ValueError`` for one that is not in the table."""
        known = {one.claim_id: one for one in self.theorems}
        if claim_id not in known:
            reject(
                f"{claim_id!r}{nearest(claim_id, known)}",
                f"The theorems are {', '.join(known)}",
                "Choose one by its id",
            )
        return known[claim_id]

    def __str__(self) -> str:
        rows = [("", "by the limit", "on samples", "then"), *(_row(one) for one in self.theorems)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [_head(self)]
        for label, limit, sampled, says in rows:
            lines.append(f"{label:<{widths[0]}}  {limit:>{widths[1]}}  {sampled:>{widths[2]}}  {says}".rstrip())
        if self.measured is not None:
            count = self.measured.values.shape[1]
            lines.append(f"measured on {count} seeds: {told(self.measured)}; then {self.measured.says}")
        reasons = {one.reason for one in self.theorems if one.reason}
        for reason in sorted(reasons):
            lines.append(f"not applicable, because {reason}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        found = ", ".join(f"{one.claim_id} {_number(one.width)}" for one in self.theorems if one.applies)
        measured = "" if self.measured is None else f", measured {told(self.measured)}"
        return f"WidthNeeded({found or 'no theorem applies'}{measured})"


def _head(seen: WidthNeeded) -> str:
    kernel = f"lambda_0 = {seen.lambda0:.3g}" + (f", kappa = {seen.kappa:.3g}" if math.isfinite(seen.kappa) else "")
    what = f"n = {seen.count}, d = {seen.dim}, {seen.family.activation.name}, {seen.family.init}"
    return f"Width needed for {what} ({kernel})"


def _row(one: TheoremWidth) -> tuple[str, str, str, str]:
    label = f"{one.claim_id} {one.name}"
    if not one.applies:
        return label, "n/a", "-", "-"
    sampled = "-" if one.sampled is None else f"{one.sampled.value:,.0f} ± {one.sampled.error:,.0f}"
    return label, _number(one.width), sampled, one.says


def _number(width: float) -> str:
    return "any" if width == 0 else f"{math.ceil(width):,}" if width < 1e7 else f"{width:.2g}"


def width_needed(
    X: ArrayLike,
    y: ArrayLike,
    activation: Activation | str | Callable = "tanh",
    init: str = "mirrored",
    *,
    measure: bool = True,
    criterion: str = "kernel",
    threshold: float = 0.1,
    seeds: int = 4,
    widest: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> WidthNeeded:
    r"""Say how wide a two-layer network must be to train lazily on data: by each theorem, and measured.

    The network is $f(x) = \frac1{\sqrt m}\sum_{j\le m}a_j\sigma(w_j\cdot x)$, $w_j \sim N(0, I)$ trained by gradient
    flow of the squared error, a fixed. *By the limit* the theorems see the limiting kernel and the mean residual at the
    start; *on samples* they see networks, as far as these are not wider than ``8 * widest``. *Measured* are trained
    networks.

    Args:
        X, y: inputs (n, d) and targets (n,) or (n, 1), as the network gets them.
        activation: a name, an ``Activation`` or a function.
        init: of the readout a, "mirrored" ($\pm1$ in pairs, so that f = 0 at the start), "signs" ($\pm1$) or "uniform"
            (on [-1, 1]).
        measure: train networks; without it only the theorems are asked.
        criterion: "kernel", $\max_t\|K_t-K_0\|/\|K_0\|$ at most the ``threshold``, or "departure", $\|w-u\|/\|w-w_0\|$
        at the end, with u the linearised twin's parameters. seeds: networks of each width; the error is the standard
        error over them. widest: the widest network that is trained. progress: called as progress(done, total) after
        each training; the total is a guess that may grow.

    Raises ``ValueError`` for data that do not fit or are not finite, for unknown names and for seeds below 2, and
    ``RuntimeError`` where a network cannot be trained. Sources: du2019gradient, chizat2019lazy, bartlett2021deep; the
    sharp and the spectral certificate are derived here.

    >>> X, y = np.eye(3), np.array([0.5, -0.5, 0.2])
    >>> found = width_needed(X, y, measure=False)
    >>> [round(found.theorem(one).width) for one in ("LAZY-42", "LAZY-27", "LAZY-C1")]
    [11888, 24, 6]
    >>> print(width_needed(np.array([[1.0, 0], [1, 0]]), y[:2], measure=False).theorem("LAZY-C1").reason)
    the limiting kernel is singular, lambda_0 = 0: inputs 0 and 1 are equal
    """
    X, y = _data(X, y)
    family = Family(find_activation(activation), init)
    _options(criterion, threshold, seeds, widest)
    theorems = theorem_widths(family, X, y, seeds if measure else 0, 8 * widest)
    found = None
    if measure:
        found = measured_width(
            family, X, y, seeds=seeds, criterion=criterion, threshold=threshold, widest=widest, progress=progress
        )
    K, error = family.limit(X)
    values = np.linalg.eigvalsh(K)
    least = float(values[0]) if values[0] > error else 0.0
    kappa = math.sqrt(float(values[-1]) / least) if least else math.inf
    return WidthNeeded(theorems, found, family, len(X), X.shape[1], least, kappa)


def _data(X: ArrayLike, y: ArrayLike) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    demand_numbers("X", X)
    X, y = np.asarray(X, dtype=float), demand_targets(y)
    if X.ndim != 2 or y.shape != X.shape[:1] or not X.size:
        reject(
            f"X of shape {X.shape}, y of shape {y.shape}",
            "They are (n, d) and (n,), neither empty",
            "Give one number per row of X, classes as -1 and 1; of several columns of targets one, y[:, 0]",
        )
    for name, part in (("X", X), ("y", y)):
        if not np.all(np.isfinite(part)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
            reject(f"{name}{list(where)} is {part[where]}", "Every entry is a finite number", "Remove or replace it")
    return X, y


def _options(criterion: str, threshold: float, seeds: int, widest: int) -> None:
    if criterion not in CRITERIA:
        reject(
            f"criterion={criterion!r}{nearest(criterion, CRITERIA)}",
            f"The criteria are {', '.join(CRITERIA)}",
            "Choose one",
        )
    if not 0 < threshold < math.inf:
        reject(f"threshold={threshold}", "A threshold is a positive number", "Give for example 0.1")
    demand_count("seeds", seeds, least=2)
    demand_count("widest", widest, least=16)
