"""Claims about interpolants at finite width: the distance they cost, and how they approach those at infinite width."""

import math
from functools import partial

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array

from widthwise.activations import activation
from widthwise.claims import Claim, Equal, Mutant, Scaling
from widthwise.numerics import Estimate

from ..criticality.moments import values_and_slopes
from .universality import interpolate, on_slice

_WIDTHS = (250.0, 1000.0, 4000.0, 16000.0)


class Wave(eqx.Module):
    r"""The wave $\cos3\phi$ on the circle of fixed height, with so many centres, and the width of the network."""

    centres: int = 8
    width: int = 500
    height: float = 3**-0.5

    def nodes(self) -> np.ndarray:
        """The angles of the centres."""
        return 2.0 * np.pi * np.arange(self.centres) / self.centres + 0.1

    def fit(self, width: int | None, seed: int):
        """The interpolant."""
        nodes = self.nodes()
        return interpolate(on_slice(nodes, self.height), np.cos(3.0 * nodes), width=width, seed=seed, cutoff=1e-12)


def _seed(key: Array) -> int:
    return int(np.asarray(jr.key_data(key))[-1])


def _weights(case: Wave) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(case.width, 3))


def _distance_travelled(case: Wave, key: Array) -> float:
    """The norm of the least displacement of the weights with which the tangent model of the network fits the values."""
    X, W = on_slice(case.nodes(), case.height), _weights(case)
    slopes = values_and_slopes(activation("relu"), W @ X.T)[1]
    J = np.einsum("mi,id->imd", slopes, X).reshape(len(X), -1) / math.sqrt(case.width)
    return float(np.linalg.norm(np.linalg.lstsq(J, np.cos(3.0 * case.nodes()), rcond=1e-12)[0]))


def _predict_norm(case: Wave, power=1.0, widths=0.0, infinite=False) -> Estimate:
    f = case.fit(None if infinite else case.width, 7)
    value = f.norm**power * case.width**widths
    # The coefficients are off by as many ulps as the kernel is ill-conditioned, here mildly.
    return Estimate(value, 1e-9 * value)


def _fixed_coordinate(case: Wave) -> str | None:
    """There is a fixed coordinate."""
    return None if 0 < case.height < 1 else f"the values cannot be met because the height is {case.height:g}"


def _enough_neurons(case: Wave) -> str | None:
    """The network has more neurons than there are centres, many times over."""
    return _few(case.width, case.centres)


def _enough_everywhere(case: Wave) -> str | None:
    """The least of the widths is that of more neurons than there are centres, many times over."""
    return _few(int(_WIDTHS[0]), case.centres)


def _few(width: int, centres: int) -> str | None:
    if width >= 8 * centres:
        return None
    return f"the values may not be met because {width} neurons are few for {centres} centres"


def _distances(case: Wave, key: Array) -> np.ndarray:
    """The largest distance on the circle from the interpolant at infinite width, for each width."""
    Z = on_slice(np.linspace(0.0, 2.0 * np.pi, 50), case.height)
    limit = case.fit(None, 0)(Z)
    return np.array([np.max(np.abs(case.fit(int(width), _seed(key))(Z) - limit)) for width in _WIDTHS])


def _predict_exponent(case: Wave, exponent=-0.5) -> Estimate:
    # The fit has the first correction, of the order of N/m; its square is left.
    return Estimate(exponent, (case.centres / _WIDTHS[0]) ** 2)


CLAIMS = (
    Claim(
        id="LAZY-17b",
        name="norm-of-an-interpolant-is-the-distance-travelled",
        statement=r"The interpolant of least norm by the kernel of a finite network is the tangent function of that "
        r"network after the smallest move, and $\|W-W_0\|_F=\sqrt{c^\top Kc}$ is its norm.",
        sources=("bartlett2021deep",),
        setup=Wave,
        predict=_predict_norm,
        measure=_distance_travelled,
        relation=Equal(),
        assumptions=(_fixed_coordinate, _enough_neurons),
        mutants=(
            Mutant("root lost", {"predict": partial(_predict_norm, power=2.0)}),
            Mutant("scale of the network lost", {"predict": partial(_predict_norm, widths=0.5)}),
            Mutant("norm at infinite width", {"predict": partial(_predict_norm, infinite=True)}),
        ),
    ),
    Claim(
        id="LAZY-17c",
        name="interpolants-approach-those-at-infinite-width",
        statement=r"On a circle of fixed height the interpolant of a rectifier network of width m differs from that at "
        r"infinite width by $O(m^{-1/2})$ in the largest error.",
        sources=("bartlett2021deep",),
        derived_here=True,
        setup=Wave,
        predict=_predict_exponent,
        measure=_distances,
        relation=Scaling(sizes=_WIDTHS),
        assumptions=(_fixed_coordinate, _enough_everywhere),
        draws=16,
        mutants=(Mutant("rate 1/m", {"predict": partial(_predict_exponent, exponent=-1.0)}),),
    ),
)
