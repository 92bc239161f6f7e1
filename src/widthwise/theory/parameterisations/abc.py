r"""abc-parameterisations: how initial scales, multipliers and rates go with the width, and what follows.

Legend: L hidden layers of width n; $W^{(l)} = n^{-a_l}w^{(l)}$, $w^{(l)}_{ij} \sim N(0, n^{-2b_l})$ up to constants,
and the rate of $w^{(l)}$ is $\eta n^{-c_l}$; $r_l$: the update of layer l adds $\Theta(n^{-r_l})$ to each coordinate of
$z^{(l)}$; $A$: an entry of the readout is $\Theta(n^{-A})$.

Adam (derived in this project): an entry of Adam's update is its rate times a number of order one, whatever the
gradient (while that stays above epsilon), so that $\Delta W^{(l)}_{ij} = \Theta(n^{-a_l-c_l})$. It is a function of
$\sum_\alpha\delta_{i\alpha}h_{j\alpha}$ and so correlated with $h_j$: the sum over the fan-in adds up,
$\Delta W^{(l)}h = \Theta(n^{1-a_l-c_l})$, and $n^{-a_1-c_1}$ in the first layer, whose fan-in is fixed. Hence
$r_l = a_l + c_l - 1 + 1[l=1]$, without A. The change of f has the readout's own part, $n^{1-a_{L+1}-c_{L+1}}$, and
$W^{(L+1)}\Delta h$, which adds up too, because $\delta^{(L)}$ is proportional to the readout:
$n^{1-a_{L+1}-b_{L+1}-r}$.
Scaling a weight by $n^s$ takes Adam's rate with it once, not twice: (a + s, b - s, c - s) is the same training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from widthwise.numerics import nearest, reject

Optimiser = str  # "sgd" or "adam"
ROLES = ("input", "hidden", "output")


@dataclass(frozen=True)
class Exponents:
    """Multiplier $n^{-a}$, initial standard deviation $n^{-b}$ and rate $n^{-c}$ of one tensor."""

    a: float
    b: float
    c: float

    def shifted(self, s: float, optimiser: Optimiser) -> "Exponents":
        """The same training with the multiplier $n^{-a-s}$.

        >>> Exponents(0.0, 0.5, 1.0).shifted(0.5, "sgd")
        Exponents(a=0.5, b=0.0, c=0.0)
        """
        return Exponents(self.a + s, self.b - s, self.c - (2 * s if optimiser == "sgd" else s))

    def invariants(self, optimiser: Optimiser) -> tuple[float, float]:
        """What no shift changes: a + b, and 2a + c for SGD or a + c for Adam."""
        return self.a + self.b, (2 * self.a if optimiser == "sgd" else self.a) + self.c


@dataclass(frozen=True)
class Parameterisation:
    """The exponents of the input layer, of all hidden layers and of the readout, for one optimiser."""

    name: str
    optimiser: Optimiser
    input: Exponents
    hidden: Exponents
    output: Exponents

    def __post_init__(self):
        if self.optimiser not in ("sgd", "adam"):
            reject(
                f"optimiser={self.optimiser!r}", "Known are 'sgd' and 'adam'", "Choose the one that is nearer to yours"
            )

    def of(self, role: str) -> Exponents:
        """The exponents of "input", "hidden" or "output"."""
        return {"input": self.input, "hidden": self.hidden, "output": self.output}[role]

    def shifted(self, s: float) -> "Parameterisation":
        """The same training written with other multipliers."""
        moved = {role: self.of(role).shifted(s, self.optimiser) for role in ROLES}
        return replace(self, **moved)

    def layers(self, depth: int) -> tuple[Exponents, ...]:
        """The exponents of the L + 1 layers of a network of ``depth`` hidden layers."""
        return self.input, *[self.hidden] * (depth - 1), self.output

    def predict(self, depth: int = 2, first_step: bool = False) -> "Prediction":
        """What `predict` says for so many hidden layers."""
        return predict(self.layers(depth), self.optimiser, first_step)


@dataclass(frozen=True)
class Prediction:
    r"""Exponents of n: ``layers`` of the RMS of $\Delta z^{(l)}$ and ``own`` of what each layer's own update adds,
    $-r_l$, l = 1..L; ``output`` of $\Delta f$, ``start`` of $f_0$; ``gradients`` of the RMS entry of
    $\partial L/\partial w^{(l)}$ and ``updates`` of $\Delta w^{(l)}$, l = 1..L+1."""

    layers: tuple[float, ...]
    own: tuple[float, ...]
    output: float
    start: float
    gradients: tuple[float, ...]
    updates: tuple[float, ...]

    @property
    def stable(self) -> bool:
        """Nothing grows with the width."""
        return max(*self.layers, self.output, self.start) <= 1e-9

    @property
    def trains(self) -> bool:
        """The outputs move at every width."""
        return abs(self.output) <= 1e-9

    @property
    def learns_features(self) -> bool:
        """The last hidden layer moves at every width."""
        return abs(self.layers[-1]) <= 1e-9

    @property
    def regime(self) -> str:
        """ "unstable", "trivial", "feature learning" or "kernel"."""
        if not self.stable:
            return "unstable"
        if not self.trains:
            return "trivial"
        return "feature learning" if self.learns_features else "kernel"


def predict(layers: Sequence[Exponents], optimiser: Optimiser = "sgd", first_step: bool = False) -> Prediction:
    r"""The exponents of every tensor under training from the exponents of the L + 1 layers.

    With $A = \min(a_{L+1}+b_{L+1}, 2a_{L+1}+c_{L+1})$, of which the first step only has the first entry, and
    $r_l = A + c_l + 2a_l - 1 + 1[l=1]$ for SGD, $r_l = a_l + c_l - 1 + 1[l=1]$ for Adam, $l \le L$:
    $\Delta z^{(l)} \sim n^{-\min_{k\le l}r_k}$, and $\Delta f$ has the exponent
    $\max(1-2a_{L+1}-c_{L+1}, 1-a_{L+1}-b_{L+1}-\min_lr_l)$; for Adam $a_{L+1}$ stands in place of $2a_{L+1}$, also in
    A, which then matters for gradients only. Raises ``ValueError`` unless $a_1+b_1 = 0$ and $a_l+b_l = \frac12$ in
    between, without which signals vanish or explode at the start.

    >>> mup = Parameterisation("mup", "sgd", Exponents(-0.5, 0.5, 0), Exponents(0, 0.5, 0), Exponents(0.5, 0.5, 0))
    >>> predict(mup.layers(3)).layers, predict(mup.layers(3)).output
    ((0.0, 0.0, 0.0), 0.0)

    Sources: yang2021tensor; Adam: derived in this project.
    """
    if len(layers) < 2:
        reject(f"{len(layers)} layers", "A network has at least one hidden layer and a readout", "Give two or more")
    for place, layer in enumerate(layers[:-1]):
        wanted = 0.0 if place == 0 else 0.5
        if abs(layer.a + layer.b - wanted) > 1e-9:
            reject(
                f"a + b = {layer.a + layer.b:g} in layer {place + 1}",
                "Signals keep their size at the start for a + b = 0 in layer 1 and 1/2 in the hidden layers after it",
                f"Set b to {wanted - layer.a:g} there",
            )
    last, twice = layers[-1], 2 if optimiser == "sgd" else 1
    start, own_output = last.a + last.b, twice * last.a + last.c
    entry = start if first_step else min(start, own_output)
    back = entry if optimiser == "sgd" else 0.0
    own = [back + one.c + twice * one.a - 1 + (place == 0) for place, one in enumerate(layers[:-1])]
    gradients = [*(-one.a - entry for one in layers[:-1]), -last.a]
    updates = [-one.c + (g if optimiser == "sgd" else 0.0) for one, g in zip(layers, gradients, strict=True)]
    return Prediction(
        tuple(-min(own[: place + 1]) + 0.0 for place in range(len(own))),
        tuple(0.0 - r for r in own),
        max(1 - own_output, 1 - start - min(own)),
        0.5 - start,
        tuple(gradients),
        tuple(updates),
    )


def _named(
    name: str, optimiser: Optimiser, a: Sequence[float], b: Sequence[float], c: Sequence[float]
) -> Parameterisation:
    return Parameterisation(name, optimiser, *(Exponents(*map(float, one)) for one in zip(a, b, c, strict=True)))


PARAMETERISATIONS: tuple[Parameterisation, ...] = (
    _named("ntk", "sgd", (0, 0.5, 0.5), (0, 0, 0), (0, 0, 0)),
    _named("standard", "sgd", (0, 0, 0), (0, 0.5, 0.5), (0, 0, 0)),
    _named("standard, rate 1/n", "sgd", (0, 0, 0), (0, 0.5, 0.5), (1, 1, 1)),
    _named("mup", "sgd", (0, 0, 0), (0, 0.5, 1), (-1, 0, 1)),
    _named("ntk", "adam", (0, 0.5, 0.5), (0, 0, 0), (0.5, 1, 0.5)),
    _named("standard", "adam", (0, 0, 0), (0, 0.5, 0.5), (0, 0, 0)),
    _named("standard, rate 1/n", "adam", (0, 0, 0), (0, 0.5, 0.5), (1, 1, 1)),
    _named("mup", "adam", (0, 0, 0), (0, 0.5, 1), (0, 1, 1)),
)
# Of one hidden layer, f = (1/n) sum a_i s(w_i . x) with rates proportional to n: muP with other multipliers.
MEAN_FIELD = _named("mean field", "sgd", (0, 1, 1), (0, 0, 0), (-1, -1, -1))
# muP as Yang & Hu write it, with one rate for all.
MUP_ONE_RATE = _named("mup", "sgd", (-0.5, 0, 0.5), (0.5, 0.5, 0.5), (0, 0, 0))


def parameterisation(name: str, optimiser: Optimiser = "sgd") -> Parameterisation:
    """Find "standard", "standard, rate 1/n", "ntk" or "mup" for "sgd" or "adam"; "mean field" for one hidden layer.

    >>> parameterisation("ntk").predict(2).regime, parameterisation("mup", "adam").predict(3).regime
    ('kernel', 'feature learning')

    Raises ``ValueError`` for another name.
    """
    known = {(one.name, one.optimiser): one for one in (*PARAMETERISATIONS, MEAN_FIELD)}
    if (name, optimiser) not in known:
        names = [word for word, own in known if own == optimiser] or [f"{a} with {b}" for a, b in known]
        reject(
            f"{name!r} with {optimiser!r}{nearest(name, names)}",
            f"Known are {', '.join(sorted(set(names)))}",
            "Choose one of them, or make a Parameterisation of your own",
        )
    return known[name, optimiser]
