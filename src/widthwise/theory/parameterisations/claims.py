"""Claims: how far pre-activations, outputs, weights and kernels move as the width grows, in each parameterisation.

Exponents are fitted with their first correction in 1/n; 0.05 is left for the next ones, at the widths that are trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from widthwise.claims import Claim, Equal, Mutant
from widthwise.numerics import Estimate, exponent

from .abc import MUP_ONE_RATE, Exponents, Optimiser, Parameterisation, parameterisation, predict
from .network import Case, Run, kernel_regime, measured_exponents, scaled_shallow

_FIELD = "infinite-width"
_WIDTHS = (32, 64, 128, 256)
_NEXT = 0.05  # what corrections beyond 1/n may leave of an exponent
_EXPONENTS = Equal(scale=1.0, resolution=0.2)


def _run(one: Parameterisation, rate: float, **fields) -> Run:
    return Run(one.layers(3), rate, one.optimiser, **fields)


def _sgd_case() -> Case:
    ntk, slow, mup = (parameterisation(name) for name in ("ntk", "standard, rate 1/n", "mup"))
    return Case((_run(ntk, 0.5), _run(slow, 0.5), _run(MUP_ONE_RATE, 0.5), _run(mup, 0.5)), _WIDTHS, seeds=8)


def _first_case() -> Case:
    return Case((_run(parameterisation("standard"), 1e-3, steps=1),), _WIDTHS, seeds=16)


def _adam_case() -> Case:
    mup, ntk = (parameterisation(name, "adam") for name in ("mup", "ntk"))
    fast = parameterisation("standard, rate 1/n", "adam")
    return Case((_run(mup, 0.05), _run(ntk, 0.05), _run(fast, 0.01, steps=1)), _WIDTHS, seeds=8)


def _biased_case() -> Case:
    return Case((_run(parameterisation("mup"), 0.3, biases=True),), _WIDTHS, seeds=8)


def _mean_field_case() -> Case:
    layers = (Exponents(0.0, 0.0, -1.0), Exponents(1.0, 0.0, -1.0))
    return Case((Run(layers, 0.5),), _WIDTHS, seeds=8)


def _predict(
    case: Case,
    rule: Optimiser | None = None,
    first_step: bool | None = None,
    fixed_fan_in: bool = True,
    aligned: bool = True,
) -> Estimate:
    """The predicted exponents of all layers and of the outputs, run by run; the arguments are mistakes."""
    found: list[float] = []
    for run in case.runs:
        first = run.steps == 1 if first_step is None else first_step
        said = predict(run.layers, rule or run.optimiser, first)
        layers = [*said.layers] if fixed_fan_in else [one + 1.0 for one in said.layers]
        found += [one - (0.5 if not aligned and at else 0.0) for at, one in enumerate(layers)]
        found += [said.output, *([0.0] * run.depth if run.biases else [])]
    return Estimate(np.array(found), _NEXT)


def _one_rate(case: Case, key: Array, power: float) -> np.ndarray:
    """The readout's small initial scale alone, with one rate for all tensors."""
    runs = []
    for run in case.runs:
        layers = tuple(replace(one, c=power) for one in run.layers)
        runs.append(replace(run, layers=layers, rate=run.rate if power else 1e-3, steps=5 if power else 1))
    return measured_exponents(replace(case, runs=tuple(runs)), key)


@dataclass(frozen=True)
class Quantities:
    """Which quantities are followed over the widths, from how many seeds for one draw, and after how many steps."""

    measured: Callable[..., Array]
    names: tuple[str, ...]
    places: tuple[int, ...]
    seeds: int = 16
    steps: int = 15
    widths: tuple[int, ...] = _WIDTHS


def _slopes(setup: Quantities, key: Array) -> np.ndarray:
    keys = jr.split(key, setup.seeds)
    squares = [
        np.mean(np.asarray(setup.measured(keys, n, jnp.asarray(setup.steps))) ** 2, axis=0) for n in setup.widths
    ]
    columns = np.sqrt(squares).T
    return np.array([exponent(setup.widths, columns[place]) for place in setup.places])


def _in_kernel_regime(keys: Array, n: int, steps: Array, power: float = 0.5) -> Array:
    return kernel_regime(keys, jnp.asarray(power), n, jnp.asarray(0.5), steps)


def _shallow(keys: Array, m: int, steps: Array, power: float = 0.5) -> Array:
    return scaled_shallow(keys, jnp.asarray(power), m, steps)


def _with_small_readout(setup: Quantities, key: Array) -> np.ndarray:
    """The readout with multiplier 1/n and its rates, in which features move."""
    return _slopes(replace(setup, measured=partial(_in_kernel_regime, power=1.0)), key)


def _both(keys: Array, m: int, steps: Array) -> Array:
    """The NTK scale and the mean-field scale."""
    return jnp.concatenate([_shallow(keys, m, steps), _shallow(keys, m, steps, 0.0)], axis=1)


def _said(setup: Quantities, slopes: tuple[float, ...]) -> Estimate:
    del setup
    return Estimate(np.array(slopes), _NEXT)


def _features() -> Quantities:
    return Quantities(_in_kernel_regime, ("z1", "z2", "w2", "kernel"), (0, 1, 2, 3))


def _tangent() -> Quantities:
    return Quantities(_in_kernel_regime, ("gap",), (4,))


def _scales() -> Quantities:
    names = ("move", "kernel", "start")
    return Quantities(
        _both, (*(f"NTK {one}" for one in names), *(f"mean field {one}" for one in names)), tuple(range(6))
    )


CLAIMS = (
    Claim(
        id="INIT-37",
        name="wide-networks-train-like-their-tangent-model",
        statement=r"In the NTK parameterisation the outputs after a fixed time differ from those of the tangent model "
        r"by $\Theta(1/n)$.",
        sources=("lee2019wide", "jacot2018neural"),
        field=_FIELD,
        setup=_tangent,
        predict=partial(_said, slopes=(-1.0,)),
        measure=_slopes,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("as slowly as features", {"predict": partial(_said, slopes=(-0.5,))}),
            Mutant(
                "readout with multiplier 1/n",
                {"measure": _with_small_readout},
            ),
        ),
    ),
    Claim(
        id="INIT-38",
        name="features-stand-still-in-the-kernel-regime",
        statement=r"In the NTK parameterisation training moves pre-activations by $\Theta(n^{-1/2})$, each weight "
        r"matrix by $\Theta(1)$ in Frobenius norm, and the tangent kernel relatively by $\Theta(1/n)$.",
        sources=("jacot2018neural", "lee2019wide", "yang2021tensor"),
        field=_FIELD,
        setup=_features,
        predict=partial(_said, slopes=(-0.5, -0.5, 0.0, -1.0)),
        measure=_slopes,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("kernel moves as features", {"predict": partial(_said, slopes=(-0.5, -0.5, 0.0, -0.5))}),
            Mutant(
                "readout with multiplier 1/n",
                {"measure": _with_small_readout},
            ),
        ),
    ),
    Claim(
        id="INIT-39",
        name="layerwise-rates-let-deep-networks-learn-features",
        statement=r"With a readout $N(0,1/n^2)$ and SGD's rates $\propto n$ (first layer, hidden biases), 1 (hidden "
        r"weights, last bias) and $1/n$ (readout), pre-activations, outputs and hidden biases all move by $\Theta(1)$.",
        sources=("yang2021tensor",),
        field=_FIELD,
        setup=_biased_case,
        predict=_predict,
        measure=measured_exponents,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("one rate 1/n", {"measure": partial(_one_rate, power=1.0)}),
            Mutant("one rate of order one", {"measure": partial(_one_rate, power=0.0)}),
        ),
    ),
    Claim(
        id="INIT-39b",
        name="mean-field-scale-of-one-hidden-layer",
        statement=r"For one hidden layer $f=\frac1n\sum_ia_i\sigma(w_i\cdot x)$ with rates $\propto n$ moves "
        r"pre-activations and outputs by $\Theta(1)$.",
        sources=("mei2018meanfield", "chizat2019lazy"),
        field=_FIELD,
        setup=_mean_field_case,
        predict=_predict,
        measure=measured_exponents,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("fan-in of the first layer grows", {"predict": partial(_predict, fixed_fan_in=False)}),
            Mutant("one rate of order one", {"measure": partial(_one_rate, power=0.0)}),
        ),
    ),
    Claim(
        id="INIT-40",
        name="exponents-of-abc-parameterisations",
        statement=r"With multipliers $n^{-a_l}$, initial scales $n^{-b_l}$ and SGD rates $n^{-c_l}$ layer l moves by "
        r"$n^{-\min_{k\le l}r_k}$ with $r_l=\min(a_{L+1}+b_{L+1},2a_{L+1}+c_{L+1})+c_l+2a_l-1+1[l=1]$.",
        sources=("yang2021tensor",),
        field=_FIELD,
        setup=_sgd_case,
        predict=_predict,
        measure=measured_exponents,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("fan-in of the first layer grows", {"predict": partial(_predict, fixed_fan_in=False)}),
            Mutant("as with Adam", {"predict": partial(_predict, rule="adam")}),
        ),
    ),
    Claim(
        id="INIT-40b",
        name="first-step-of-the-standard-parameterisation",
        statement=r"The first step of SGD at a rate of order one moves layer 1 of a standard network by $n^{-1/2}$, "
        r"hidden layers by $n^{1/2}$ and the outputs by n.",
        sources=("yang2021tensor",),
        field=_FIELD,
        setup=_first_case,
        predict=_predict,
        measure=measured_exponents,
        relation=_EXPONENTS,
        draws=24,
        mutants=(Mutant("as in later steps", {"predict": partial(_predict, first_step=False)}),),
    ),
    Claim(
        id="INIT-40c",
        name="exponents-of-abc-parameterisations-with-adam",
        statement=r"With Adam layer l moves by $n^{-\min_{k\le l}r_k}$ with $r_l=a_l+c_l-1+1[l=1]$, and the outputs by "
        r"the larger of $n^{1-a_{L+1}-c_{L+1}}$ and $n^{1-a_{L+1}-b_{L+1}-\min_lr_l}$.",
        sources=("yang2022tuning", "everett2024scaling"),
        derived_here=True,
        field=_FIELD,
        setup=_adam_case,
        predict=_predict,
        measure=measured_exponents,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("as with SGD", {"predict": partial(_predict, rule="sgd")}),
            Mutant("updates not aligned with activations", {"predict": partial(_predict, aligned=False)}),
        ),
    ),
    Claim(
        id="LAZY-3",
        name="scale-of-a-shallow-network-decides-between-regimes",
        statement=r"For $f=\frac\alpha m\sum_ja_j\sigma(w_j\cdot x)$ at the rate $m/\alpha^2$, weights move relatively "
        r"by $m^{-1/2}$ and the kernel by $m^{-1}$ if $\alpha=\sqrt m$, both by $\Theta(1)$ if $\alpha=1$; and "
        r"$f_0\sim\alpha/\sqrt m$.",
        sources=("chizat2019lazy", "mei2018meanfield"),
        field="lazy-training",
        setup=_scales,
        predict=partial(_said, slopes=(-0.5, -1.0, 0.0, 0.0, 0.0, -0.5)),
        measure=_slopes,
        relation=_EXPONENTS,
        draws=24,
        mutants=(
            Mutant("kernel moves as weights", {"predict": partial(_said, slopes=(-0.5, -0.5, 0.0, 0.0, 0.0, -0.5))}),
            Mutant("mean field is lazy too", {"predict": partial(_said, slopes=(-0.5, -1.0, 0.0, -0.5, -1.0, -0.5))}),
        ),
    ),
)
