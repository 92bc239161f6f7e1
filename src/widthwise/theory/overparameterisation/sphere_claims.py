r"""Claims about the two-layer network on the sphere: LAZY-29 and LAZY-30.

Legend: as in ``sphere``; $w_\infty$ and $u_\infty$ the ends of the flow and of its linearised twin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.random as jr
import numpy as np

from widthwise.claims import AtMost, Claim, Mutant, Scaling
from widthwise.numerics import Estimate
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.lipschitz import curvature_unknown

from .examples import network
from .runs import look, record
from .sphere import SphereNumbers, draw_sphere, sphere_bounds, sphere_numbers

_WIDTHS = (64.0, 256.0, 1024.0, 4096.0)
_NARROW = (32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True)
class Sphere:
    """How many inputs of which dimension, the width (where it is not varied) and the activation."""

    count: int = 6
    dim: int = 6
    width: int = 400
    activation: str = "tanh"


def _smooth(setup: Sphere) -> str | None:
    """The activation has two bounded derivatives."""
    return curvature_unknown(network(np.zeros((1, 1)), [1.0], setup.activation).activation)


def _rng(key) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jr.key_data(key)))


def _narrowed(net: Shallow, width: int) -> Shallow:
    """The first neurons of each sign, with the scale of their number."""
    half, m = width // 2, len(net.signs) // 2
    keep = np.r_[0:half, m : m + half]
    return network(np.asarray(net.W)[keep], np.asarray(net.signs)[keep], net.activation)


# The laziness at every width


def _laziness(setup: Sphere, key) -> np.ndarray:
    """h of one network to which neurons are added."""
    net, X, y = draw_sphere(_rng(key), setup.count, setup.dim, int(_WIDTHS[-1]), setup.activation)
    return np.array([sphere_numbers(_narrowed(net, int(width)), X, y).h for width in _WIDTHS])


def _predict_exponent(setup: Sphere, exponent: float = -0.5, widths: tuple[float, ...] = _WIDTHS) -> Estimate:
    # The fit has the 1/m term; the next one, (n/m)^2, is left and bends the line by that much at most.
    return Estimate(exponent, (setup.count / widths[0]) ** 2)


def _few_for(widths: tuple[float, ...]) -> Callable[[Sphere], str | None]:
    def few(setup: Sphere) -> str | None:
        """The least of the widths is many times the number of inputs."""
        if setup.count <= widths[0] / 4:
            return None
        return f"the exponent does not show because {widths[0]:g} neurons are few for {setup.count} inputs"

    return few


# The bounds in n and d


def _few_inputs(setup: Sphere) -> str | None:
    """There are well fewer inputs than dimensions, so that the inputs' own Gram matrix is well conditioned."""
    bound = sphere_bounds(setup.count, setup.dim, setup.width, setup.activation).sigma_min
    what = f"n = {setup.count} inputs of dimension {setup.dim}, width {setup.width}"
    return None if bound > 0 else f"for {what}, the bound on sigma_min is nothing"


def _falling(setup: Sphere) -> str | None:
    """The slope falls with the size of its argument, and the activation is bounded."""
    known = ("tanh", "erf", "sigmoid")
    return None if setup.activation in known else f"{setup.activation} is none of {', '.join(known)}"


def _rows(seen: SphereNumbers) -> np.ndarray:
    return np.array([seen.r0, 1 / seen.sigma_min, seen.sigma_max, seen.beta])


def _predict_numbers(setup: Sphere, changes: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> Estimate:
    bounds = _rows(sphere_bounds(setup.count, setup.dim, setup.width, setup.activation)) * np.array(changes)
    return Estimate(bounds, 1e-12 * bounds)


def _one_over_width(setup: Sphere) -> Estimate:
    """With 1/m for its root in the gradient."""
    root = 1 / math.sqrt(setup.width)
    return _predict_numbers(setup, (1.0, 1.0 / root, root, root))


def _unit_inputs(setup: Sphere) -> Estimate:
    """As for inputs of norm one."""
    root = 1 / math.sqrt(setup.dim)
    return _predict_numbers(setup, (1.0, 1.0, root, root**2))


def _numbers(setup: Sphere, key) -> np.ndarray:
    return _rows(sphere_numbers(*draw_sphere(_rng(key), setup.count, setup.dim, setup.width, setup.activation)))


# The end of the flow and of its twin


def coupling(net: Shallow, X: np.ndarray, y: np.ndarray, units: float = 9.0, tolerance: float = 1e-6) -> float:
    r"""$\|w-u\|$ at the end of a flow that is followed for ``units`` times $1/\sigma_{min}^2$.

    >>> net, X, y = draw_sphere(np.random.default_rng(0), 3, 5, 200, mirrored=True)
    >>> 0.01 < coupling(net, X, y) < 1.0
    True
    """
    with jax.enable_x64(True):
        W = np.asarray(net.W)
        start = look(net, X, W)
        values, Q = np.linalg.eigh(start.gram)
        run = record(net, X, y, [0.0, units * len(y) / values[0]], tolerance)
    pull = Q @ (-np.expm1(-units * values / values[0]) / values * (Q.T @ (y - start.outputs)))
    twin = float(net.scale) * np.asarray(net.signs)[:, None] * ((start.slopes * pull[:, None]).T @ X)
    return float(np.linalg.norm(run.weights[-1] - W - twin))


def _couplings(setup: Sphere, key) -> np.ndarray:
    """The data are the same for all networks: of few inputs, some are almost parallel."""
    _, X, y = draw_sphere(np.random.default_rng(0), setup.count, setup.dim, 2, setup.activation)
    net, _, _ = draw_sphere(_rng(key), setup.count, setup.dim, int(_NARROW[-1]), setup.activation, mirrored=True)
    return np.array([coupling(_narrowed(net, int(width)), X, y) for width in _NARROW])


def first_order(net: Shallow, X: np.ndarray, y: np.ndarray) -> float:
    r"""The first-order bound, $\frac{8\sigma_{max}}{\sigma_{min}^2}r_0+\frac{8\beta}{\sigma_{min}^3}r_0^2$: true, but
    it does not vanish.

    >>> net, X, y = draw_sphere(np.random.default_rng(0), 3, 5, 200, mirrored=True)
    >>> first_order(net, X, y) > 100 * coupling(net, X, y)
    True
    """
    seen = sphere_numbers(net, X, y)
    return 8 * seen.r0 * (seen.sigma_max / seen.sigma_min**2 + seen.beta * seen.r0 / seen.sigma_min**3)


def _first_orders(setup: Sphere, key) -> np.ndarray:
    net, X, y = draw_sphere(_rng(key), setup.count, setup.dim, int(_WIDTHS[-1]), setup.activation, mirrored=True)
    return np.array([first_order(_narrowed(net, int(width)), X, y) for width in _WIDTHS])


CLAIMS = (
    Claim(
        id="LAZY-29",
        name="sphere-network-is-lazier-like-root-width",
        statement=(
            r"For the two-layer network on the sphere with n Gaussian inputs of dimension d, "
            r"$h=2L_nr_0/\sigma_{min}^2$ falls like $m^{-1/2}$ with the width."
        ),
        sources=("bartlett2021deep",),
        setup=Sphere,
        predict=_predict_exponent,
        measure=_laziness,
        relation=Scaling(sizes=_WIDTHS),
        assumptions=(_smooth, _few_for(_WIDTHS)),
        draws=16,
        mutants=(
            Mutant("1/m in the gradient", {"predict": partial(_predict_exponent, exponent=-1.0)}),
            Mutant("independent of the width", {"predict": partial(_predict_exponent, exponent=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-29b",
        name="sphere-network-in-numbers-of-data",
        statement=(
            r"For the two-layer network on the sphere, with high probability $r_0\lesssim\sqrt n$, "
            r"$\sigma_{max}\lesssim\sqrt n+\sqrt d$, $L_n\lesssim\sqrt{d/m}(\sqrt n+\sqrt d)$ and, for n well below d, "
            r"$\sigma_{min}\gtrsim\sqrt d$, with explicit constants."
        ),
        sources=("bartlett2021deep",),
        setup=partial(Sphere, dim=256),
        predict=_predict_numbers,
        measure=_numbers,
        relation=AtMost(),
        assumptions=(_smooth, _falling, _few_inputs),
        draws=4,
        derived_here=True,
        mutants=(
            Mutant("1/m in the gradient", {"predict": _one_over_width}),
            Mutant("inputs of norm one", {"predict": _unit_inputs}),
        ),
    ),
    Claim(
        id="LAZY-30",
        name="sphere-network-joins-its-twin",
        statement=(
            r"For the two-layer network on the sphere $\|\theta_\infty-\bar\theta_\infty\|$ falls like $m^{-1/2}$; the "
            r"first-order bound $\frac{8\sigma_{max}}{\sigma_{min}^2}r_0+\frac{8L_n}{\sigma_{min}^3}r_0^2$ tends to a "
            r"constant and cannot show it."
        ),
        sources=("bartlett2021deep",),
        setup=partial(Sphere, count=3, dim=8),
        predict=partial(_predict_exponent, widths=_NARROW),
        measure=_couplings,
        relation=Scaling(sizes=_NARROW),
        assumptions=(_smooth, _few_for(_NARROW)),
        draws=8,
        mutants=(
            Mutant("the first-order bound", {"measure": _first_orders, "relation": Scaling(sizes=_WIDTHS)}),
            Mutant("1/m for its root", {"predict": partial(_predict_exponent, exponent=-1.0, widths=_NARROW)}),
        ),
    ),
)
