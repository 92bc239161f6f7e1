"""Claims about critical points: where they are, and what networks that begin there do."""

import functools
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from widthwise.activations import Activation, activation, leaky_relu
from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate, normal_rule

from .maps import trajectory
from .moments import moments, values_and_slopes
from .origin import decay_logarithm, origin
from .setups import FIELD, at_critical, generator
from .solve import Criticality, critical_init

_DRAWS = 200_000
_VARIANCES = np.array([1e-4, 1e-2, 1.0, 100.0])
_EARLY, _LATE = 1000, 10_000
_SILU = (1.988004678269492, 0.5551431707215304)
_SILU_VARIANCE, _SLIPPED = 14.320173618025799, 0.055514317


def _slopes() -> tuple[float, ...]:
    """Slopes on the left of rectifiers whose slope on the right is one."""
    return (0.0, 0.2, -1.0)


def _predict_rectifiers(case: tuple[float, ...], scale=2.0, left=1.0) -> Estimate:
    weights = np.array([scale / (1.0 + left * slope**2) for slope in case])
    return Estimate(np.concatenate([weights, np.ones(2 * len(case))]), 1e-9)


@functools.cache
def _rectifier(slope: float) -> Criticality:
    return critical_init(leaky_relu(slope))


def _rectifiers(case: tuple[float, ...], key: Array) -> np.ndarray:
    r"""The weight variances that a scan finds, and $\chi_\parallel$, $\chi_\perp$ of random layers that have them."""
    found = [_rectifier(slope) for slope in case]
    z, parallel, perp = generator(key).standard_normal(_DRAWS), [], []
    for point in found:
        weight = float(point.weight_variance.value)
        value, slope = values_and_slopes(point.activation, z)
        parallel.append(weight * np.mean(z * value * slope))
        perp.append(weight * np.mean(slope**2))
    return np.array([*(float(point.weight_variance.value) for point in found), *parallel, *perp])


def _tanh() -> Activation:
    return activation("tanh")


def _predict_imbalance(act: Activation, order=2) -> Estimate:
    r"""$E\sigma\sigma''/E\sigma'^2$ by the second derivative itself."""
    (x, w), first = normal_rule(6000), jax.grad(act.fn)
    rows = [jax.jit(jax.vmap(f)) for f in (act.fn, first, jax.grad(first))]
    found = []
    for K in _VARIANCES:
        value, slope, bend = (np.asarray(f(jnp.asarray(np.sqrt(K) * x))) for f in rows)
        above = value * bend if order == 2 else value * slope
        found.append((w @ above) / (w @ slope**2))
    return Estimate(np.array(found), 1e-10)


def _imbalance(act: Activation, _key: Array) -> np.ndarray:
    return moments(act, _VARIANCES).imbalance.value


def _mirror(act: Activation, _key: Array) -> np.ndarray:
    return -_imbalance(act, _key)


def _smooth_activation(act: Activation) -> str | None:
    """The activation is smooth."""
    return None if act.smooth else f"a second derivative is needed, and {act.name} has a kink"


def _skewed(z):
    t = jnp.tanh(z)
    return t - 0.3 * t**2


def _fading() -> tuple[Activation, ...]:
    return (activation("tanh"), activation(_skewed, kinks=()))


def _predict_decay(case: tuple[Activation, ...], logarithm=1.0, even=True, half=1.0) -> Estimate:
    """The change of 1/K per layer between two depths, and what of it is logarithmic."""
    found = [origin(act) for act in case]
    leading = np.array([one.leading if even else one.angle for one in found]) / half
    logs = logarithm * np.array([decay_logarithm(act) for act in case]) * math.log(_LATE / _EARLY)
    per_layer = -leading + logs / (_LATE - _EARLY)
    # The next term of 1/K is of the order log(l)/l.
    off = 2 * math.log(_EARLY) / _EARLY
    return Estimate(np.concatenate([per_layer, logs]), np.repeat([off / (_LATE - _EARLY), off], len(case)))


def _decay(case: tuple[Activation, ...], _key: Array) -> np.ndarray:
    change = []
    for act in case:
        path = trajectory(act, 1.0 / origin(act).slope, depth=_LATE).variance
        change.append(1.0 / path[_LATE - 1] - 1.0 / path[_EARLY - 1])
    leading = np.array([origin(act).leading for act in case])
    total = np.array(change)
    return np.concatenate([total / (_LATE - _EARLY), total + leading * (_LATE - _EARLY)])


def _fades(case: tuple[Activation, ...]) -> str | None:
    """Variances fall to zero like a power of the depth, and the activations are smooth at zero."""
    bad = [act.name for act in case if not origin(act).critical or not origin(act).leading < 0 or 0.0 in act.kinks]
    return f"variances need not fall like 1/l with {', '.join(bad)}" if bad else None


@dataclass(frozen=True)
class Kept:
    """Activations whose networks begin a little beside their critical variance, on the side that is drawn to it."""

    names: tuple[str, ...] = ("gelu", "silu", "mish", "hard_swish", "relu")
    beside: float = 0.05
    depth: int = 200


def _predict_band(case: Kept) -> Estimate:
    return Estimate(np.full(len(case.names), case.beside), 1e-9)


def _farthest(case: Kept, _key: Array, factor=1.0) -> np.ndarray:
    r"""The largest $|K^{(l)}/K_* - 1|$ in all layers, with the weight variance changed by a factor."""
    found = []
    for name in case.names:
        best = at_critical(name).best
        rest = 1.0 if best.kind == "scale-invariant" else float(best.variance.value)
        start = rest * (1.0 - case.beside if best.side == "below" else 1.0 + case.beside)
        weight, bias = factor * float(best.weight_variance.value), max(float(best.bias_variance.value), 0.0)
        path = trajectory(name, weight, bias, depth=case.depth, variance=start).variance
        found.append(np.max(np.abs(path / rest - 1.0)))
    return np.array(found)


def _have_points(case: Kept) -> str | None:
    """Every activation has a critical point above zero."""
    kinds = {name: at_critical(name).kind for name in case.names}
    bad = [name for name, kind in kinds.items() if kind not in ("half-stable", "scale-invariant")]
    return f"no variance is kept by {', '.join(bad)}" if bad else None


def _depths() -> int:
    return 200


def _predict_silu(_depth: int) -> Estimate:
    found = at_critical("silu").variance
    # Deviations grow by less than one part in a hundred there: the root and the printed digits are all that is left.
    return Estimate(np.array([float(found.value)]), 1e-9)


def _after_many(depth: int, _key: Array, bias=_SILU[1]) -> np.ndarray:
    return trajectory("silu", _SILU[0], bias, depth=depth + 1, variance=_SILU_VARIANCE).variance[-1:]


def _predict_gelu(_case: None, root=17.0, mixed=1.0) -> Estimate:
    r"""$K_* = \frac{3+\sqrt{17}}2$, $1/C_w = E\sigma'^2$ in closed form, $C_b = K_* - C_wE\sigma^2$."""
    K = 0.5 * (3.0 + math.sqrt(root))
    arc, r = math.asin(K / (1 + K)) / (2 * math.pi), math.sqrt(1 + 2 * K)
    kappa = (1 - K**2) / (1 + K) ** 2
    N = (1 + mixed * kappa) * K**2
    slope = 0.25 + arc + (K * (1 + 2 * kappa) / r + K * N / r**3) / (2 * math.pi)
    square = K * (0.25 + arc) + N / (2 * math.pi * r)
    return Estimate(np.array([K, 1 / slope, K - square / slope]), 1e-11)


def _gelu(_case: None, _key: Array) -> np.ndarray:
    best = at_critical("gelu").best
    return np.array([float(part.value) for part in (best.variance, best.weight_variance, best.bias_variance)])


CLAIMS = (
    Claim(
        id="INIT-22",
        name="critical-rectifiers",
        statement=r"A function with slopes $a_\pm$ on the two sides of zero is critical at $C_w=2/(a_+^2+a_-^2)$, "
        r"$C_b=0$, at every variance: He's initialisation for the rectifier.",
        sources=("he2015delving", "roberts2022principles"),
        field=FIELD,
        setup=_slopes,
        predict=_predict_rectifiers,
        measure=_rectifiers,
        relation=Equal(resolution=0.01),
        draws=16,
        mutants=(
            Mutant("1 for 2", {"predict": partial(_predict_rectifiers, scale=1.0)}),
            Mutant("left side forgotten", {"predict": partial(_predict_rectifiers, left=0.0)}),
        ),
    ),
    Claim(
        id="INIT-23",
        name="why-tanh-is-critical-at-zero-alone",
        statement=r"$\chi_\parallel/\chi_\perp-1=E\sigma\sigma''/E\sigma'^2$, which for tanh is below zero at every "
        r"variance but zero: both are one only in the limit $K_*\to0$.",
        sources=("roberts2022principles",),
        field=FIELD,
        setup=_tanh,
        predict=_predict_imbalance,
        measure=_imbalance,
        relation=Equal(),
        assumptions=(_smooth_activation,),
        mutants=(
            Mutant("a derivative lost", {"predict": partial(_predict_imbalance, order=1)}),
            Mutant("sign of the difference", {"measure": _mirror}),
        ),
    ),
    Claim(
        id="INIT-24",
        name="variance-falls-like-one-over-depth",
        statement=r"Where $\sigma(0)=0$, $C_w=\sigma'(0)^{-2}$ and $C_b=0$ the variance falls as "
        r"$1/K^{(l)}=-a_1l+\frac{a_1^2-a_2}{-a_1}\log l+O(1)$, for tanh $2l-\frac56\log l$, whatever it was at first.",
        sources=("roberts2022principles",),
        derived_here=True,
        field=FIELD,
        setup=_fading,
        predict=_predict_decay,
        measure=_decay,
        relation=Equal(),
        assumptions=(_fades,),
        mutants=(
            Mutant("no logarithm", {"predict": partial(_predict_decay, logarithm=0.0)}),
            Mutant("1/l for 1/(2l)", {"predict": partial(_predict_decay, half=2.0)}),
            Mutant(
                "1 for the 3/4 of a_1",
                {"predict": partial(_predict_decay, even=False)},
            ),
        ),
    ),
    Claim(
        id="INIT-25",
        name="critical-networks-keep-their-variance",
        statement=r"200 layers initialised at the critical point that is found keep a variance that begins within 5 % "
        r"of $K_*$, on its stable side, within 5 %; with a weight variance changed by 1 % they do not.",
        sources=("roberts2022principles",),
        derived_here=True,
        field=FIELD,
        setup=Kept,
        predict=_predict_band,
        measure=_farthest,
        relation=AtMost(),
        assumptions=(_have_points,),
        mutants=(
            Mutant("weight variance 1 % too large", {"measure": partial(_farthest, factor=1.01)}),
            Mutant("weight variance 1 % too small", {"measure": partial(_farthest, factor=0.99)}),
        ),
    ),
    Claim(
        id="INIT-26",
        name="critical-bias-of-silu",
        statement=r"SiLU is critical at $C_w=1.98800468$, $C_b=0.55514317$, where a variance of 14.3201736 stays "
        r"through 200 layers; with the digits 0.055514317, which are found in public code, it is lost.",
        sources=("roberts2022principles",),
        derived_here=True,
        field=FIELD,
        setup=_depths,
        predict=_predict_silu,
        measure=_after_many,
        relation=Equal(resolution=1e-6),
        mutants=(Mutant("a digit slipped", {"measure": partial(_after_many, bias=_SLIPPED)}),),
    ),
    Claim(
        id="INIT-26b",
        name="critical-point-of-gelu-in-closed-form",
        statement=r"GELU is critical at $K_*=\frac{3+\sqrt{17}}2$, with $C_w=1/E\sigma'^2=1.98305826$ and "
        r"$C_b=K_*-C_wE\sigma^2=0.17292239$ in closed form.",
        sources=("roberts2022principles",),
        derived_here=True,
        field=FIELD,
        setup=lambda: None,
        predict=_predict_gelu,
        measure=_gelu,
        relation=Equal(),
        mutants=(
            Mutant("13 under the root", {"predict": partial(_predict_gelu, root=13.0)}),
            Mutant("mixed term forgotten", {"predict": partial(_predict_gelu, mixed=0.0)}),
        ),
    ),
)
