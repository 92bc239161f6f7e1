r"""The lazy-to-rich transition of shallow networks over output scale, width and label scale.

Legend: $F = \alpha\gamma\sum_js_j\sigma(w_j^\top x)$ with m neurons, of which only the $w_j$ learn, $\gamma = m^{p-1}$,
p = 1/2 in the NTK parameterisation and p = 0 in the mean-field one; targets $\ell y$ with the label scale $\ell$;
$h = 2\beta r_0/(\alpha\sigma_{min}^2)$. Training $\alpha f$ to $\ell y$ takes the way of $\frac\alpha\ell f$ to y
(LAZY-3b), so only the ratios $\alpha/\ell$ are trained.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

MEASURES = {
    "kernel": "relative change of the tangent kernel",
    "gap": "distance |w - u| / |w - w0| from the tangent model's weights",
    "function": "relative distance from the tangent model's outputs",
}
AREAS = ("rich", "measured lazy", "certified lazy")
_SLACK = 2.0  # a flow that slides along a kink ends above the risk that was asked for, by up to this factor


@dataclass(frozen=True, eq=False)
class LazyPhaseDiagram:
    r"""What `lazy_phase_diagram` trained: arrays over label scales (k), alphas (a), widths (w) and seeds (r).

    ``h`` $2\beta r_0/(\alpha\sigma_{min}^2)$ (infinite without full rank or bounded curvature); ``certified``, whether
    LAZY-C1 or LAZY-C2 applies; ``kernel``, ``gap``, ``movement``, ``function``, ``left`` and ``time`` as in
    ``Departure``; ``threshold``: lazy is what stays below it in the quantity ``by``; ``risk``: to which part of the
    initial risk was trained; ``certified_from`` (w,) the smallest $\alpha/\ell$ at which LAZY-C1 applies to every seed,
    infinite where there is none; outputs that are ``"drawn"`` are certified on a window of $\alpha/\ell$ from there.
    """

    label_scales: Float[np.ndarray, " k"]
    alphas: Float[np.ndarray, " a"]
    widths: tuple[int, ...]
    h: Float[np.ndarray, "k a w r"]
    certified: Bool[np.ndarray, "k a w r"]
    kernel: Float[np.ndarray, "k a w r"]
    gap: Float[np.ndarray, "k a w r"]
    movement: Float[np.ndarray, "k a w r"]
    function: Float[np.ndarray, "k a w r"]
    left: Float[np.ndarray, "k a w r"]
    time: Float[np.ndarray, "k a w r"]
    certified_from: Float[np.ndarray, " w"]
    threshold: float
    by: str
    risk: float
    name: str

    @property
    def measured(self) -> Float[np.ndarray, "k a w r"]:
        """The quantity that decides between lazy and rich."""
        return getattr(self, self.by)

    @property
    def trained(self) -> Bool[np.ndarray, "k a w r"]:
        """Which trainings got to twice the risk or below (k, a, w, r); bounded outputs may not be able to."""
        return self.left <= _SLACK * self.risk

    @property
    def lazy(self) -> Bool[np.ndarray, "k a w"]:
        """Where every seed was trained and stayed below the threshold (k, a, w)."""
        return np.all(self.trained & (self.measured < self.threshold), axis=-1)

    @property
    def areas(self) -> Shaped[np.ndarray, "k a w"]:
        """Names of ``AREAS`` (k, a, w): certified for every seed, else lazy for every seed, else rich."""
        found = np.where(self.lazy, AREAS[1], AREAS[0])
        return np.where(np.all(self.certified, axis=-1), AREAS[2], found)

    @property
    def ratios(self) -> Float[np.ndarray, " q"]:
        r"""The different values of $\alpha/\ell$, increasing."""
        return ratios(self.alphas, self.label_scales)[0]

    def along(self, values: np.ndarray) -> np.ndarray:
        r"""An array (k, a, ...) over the ratios $\alpha/\ell$ (q, ...), on which alone it depends."""
        _, place = ratios(self.alphas, self.label_scales)
        first = [np.argwhere(place == one)[0] for one in range(place.max() + 1)]
        return np.stack([values[k, a] for k, a in first])

    @property
    def lazy_from(self) -> Float[np.ndarray, " w"]:
        r"""The $\alpha/\ell$ from which on every seed is lazy, between grid points by a power law.

        The smallest ratio where all are, and nan where the largest is not.
        """
        worst = np.max(np.where(self.along(self.trained), self.along(self.measured), np.inf), axis=-1)
        return np.array([_crossing(self.ratios, column, self.threshold) for column in worst.T])

    def __repr__(self) -> str:
        shape = f"{len(self.label_scales)} label scales, {len(self.alphas)} alphas, {len(self.widths)} widths"
        return f"LazyPhaseDiagram({self.name}, {shape}, {self.left.shape[-1]} seeds)"

    def __str__(self) -> str:
        reached = np.all(self.along(self.trained), axis=-1)
        count = self.left.shape[-1]
        letters = np.where(reached, np.vectorize(lambda area: area[0].upper())(self.along(self.areas)), "r")
        lines = [
            f"{self.name}: {count} network{'s' * (count > 1)} a point, trained to {self.risk:g} of the initial risk; "
            f"lazy is a {MEASURES[self.by]} below {self.threshold:g}.",
            "C certified lazy, M measured lazy, R rich (r: not every network got to the risk); the width goes to the "
            "right, alpha / label scale downwards.",
            f"{'':12}" + "".join(f"{width:>7}" for width in self.widths),
        ]
        for ratio, row in zip(self.ratios, letters, strict=True):
            lines.append(f"{ratio:<12.4g}" + "".join(f"{letter:>7}" for letter in row))
        for label, edge in (("lazy from", self.lazy_from), ("certified", self.certified_from)):
            lines.append(f"{label:12}" + "".join(f"{one:>7.3g}" if np.isfinite(one) else f"{'-':>7}" for one in edge))
        return "\n".join(lines)


def ratios(alphas: np.ndarray, label_scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""The different $\alpha/\ell$, and which of them stands where (k, a); equal are those that rounding parts."""
    all_ratios = alphas[None, :] / label_scales[:, None]
    distinct, place = np.unique(np.round(np.log(all_ratios), 9), return_inverse=True)
    place = place.reshape(all_ratios.shape)
    return np.array([all_ratios[place == one][0] for one in range(len(distinct))]), place


def _crossing(places: np.ndarray, values: np.ndarray, level: float) -> float:
    above = np.flatnonzero(~(values < level))
    if not len(above):
        return float(places[0])
    last = above[-1]
    if last == len(places) - 1:
        return float("nan")
    if not np.isfinite(values[last]) or values[last + 1] <= 0:  # no power law runs through these
        return float(places[last + 1])
    x, z = np.log(places[last : last + 2]), np.log(values[last : last + 2])
    return float(np.exp(x[0] + (np.log(level) - z[0]) / (z[1] - z[0]) * (x[1] - x[0])))
