r"""Whether a limit kernel is positive definite on given data, why, and by how much.

Legend: K the readout kernel $E\,\sigma(w\cdot x)\sigma(w\cdot x')$ or the hidden kernel
$x\cdot x'\,E\,\sigma'(w\cdot x)\sigma'(w\cdot x')$ over $w \sim N(0, I)$. The readout kernel is singular if and only if
some $\sum_ic_i\sigma(w\cdot x_i)$ vanishes. Powers $x^{\otimes k}$ of inputs on L different lines are independent from
$k = L - 1$ on; so in a sum that vanishes, what belongs to one line is a polynomial in $w\cdot x$: nothing for a line
with one input, unless $\sigma$ is a polynomial, and a multiple of the part of $\sigma$ that is a polynomial, if one is,
the even or the odd, for a line with two opposite ones. The same holds for the hidden kernel and
$\sum_ic_i\sigma'(w\cdot x_i)x_i$.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.activations import activation as look_up
from widthwise.numerics import Estimate, spectrum

from .alignment import Alignment, align
from .deviation import mean_kernel
from .expansion import expand
from .kernels import check_kernel, check_rows, limit_kernel
from .structure import Structure, hidden_structure, structure

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Definiteness:
    r"""Whether a limit kernel is positive definite on data: yes, no, or None where neither is known.

    ``reasons`` say why; ``aligned`` names the pairs of inputs on one line. ``smallest`` is the smallest
    eigenvalue of the kernel, with what rounding leaves open; ``gershgorin``, ``termwise``
    and ``truncated`` are lower bounds of it from the Hermite series, by discs, by the eigenvalues of each term, and by
    those of the sum; 0 where they say nothing.
    """

    definite: bool | None
    reasons: tuple[str, ...]
    aligned: Alignment
    smallest: Estimate
    gershgorin: float
    termwise: float
    truncated: float

    @property
    def certified(self) -> float:
        """The best of the lower bounds."""
        return max(self.gershgorin, self.termwise, self.truncated)

    def __repr__(self) -> str:
        value, error = float(self.smallest.value), float(self.smallest.error)
        return f"Definiteness({self.definite}, smallest eigenvalue {value:.6g} +- {error:.1g})"

    def __str__(self) -> str:
        head = {True: "positive definite", False: "singular", None: "not decided"}[self.definite]
        value, error = float(self.smallest.value), float(self.smallest.error)
        numbers = f"smallest eigenvalue {value:.6g} +- {error:.1g}, certified at least {self.certified:.6g}"
        return "\n".join([f"{head}: {numbers}", *(f"- {reason}" for reason in self.reasons)])


def positive_definite(
    activation: Activation | str, X: ArrayLike, *, kernel: str = "readout", degree: int = 128
) -> Definiteness:
    r"""Say whether the limit kernel of a shallow network is positive definite on X (n, d), and why.

    With $K = \sum_kD_kR^{\circ k}D_k$ as in ``expand``, every term is positive, so that those up to ``degree`` bound K
    from below, and with it its smallest eigenvalue. A sum of ridge
    functions decides the rest: without two inputs on one line K is positive definite unless $\sigma$ is a
    polynomial; with $x$ and $-x$ among the inputs it is singular if $\sigma$ is odd or even; a polynomial spans
    finitely many functions only. All that is said of an activation is seen at points, to rounding.

    Args:
        activation: an activation or its name.
        X: the inputs.
        kernel: "readout" or "hidden".
        degree: of the series.

    Raises ``ValueError`` for inputs that are not (n, d) and finite, another kernel and a degree below 1.
    Sources: daniely2016toward, du2019gradient; the exceptions are derived here.

    >>> print(positive_definite("tanh", [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))  # doctest: +ELLIPSIS
    singular: smallest eigenvalue ...
    - inputs 0 and 1 are opposite and tanh is odd
    >>> positive_definite("relu", [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]).definite
    True
    """
    s, X = look_up(activation), check_rows(X)
    check_kernel(kernel)
    series = expand(X, s, kernel, degree)
    kind, aligned = hidden_structure(s) if kernel == "hidden" else structure(s), align(X)
    # A closed dual has the most digits, a series needs no compiler and takes inputs of every norm.
    K = mean_kernel(X, s, kernel) if s.closed is None else limit_kernel(X, s, kernel)
    found = spectrum(K.value)
    smallest = Estimate(float(found.values[-1]), found.floor + len(X) * float(K.error))
    bounds = series.gershgorin(), series.termwise(), series.truncated()
    singular = _singular(X, s, kernel, kind, aligned)
    definite, reasons = _decide(singular, _theorem(s.name, kind, aligned), max(bounds), smallest)
    return Definiteness(definite, reasons, aligned, smallest, *bounds)


def _decide(
    singular: list[str], theorem: str | None, certified: float, smallest: Estimate
) -> tuple[bool | None, tuple[str, ...]]:
    if singular:
        return False, tuple(singular)
    why = [] if theorem is None else [theorem]
    if certified > 0:
        return True, (*why, f"the series certifies a smallest eigenvalue of at least {certified:.6g}")
    if why:
        return True, (*why, "the series certifies no amount")
    if smallest.value > smallest.error:
        return True, ("its smallest eigenvalue is above what rounding changes; no theorem covers inputs like these",)
    return None, ("no theorem covers inputs like these, and the smallest eigenvalue is zero to rounding",)


def _theorem(name: str, kind: Structure, aligned: Alignment) -> str | None:
    """Why the kernel is positive definite whatever its eigenvalues look like, or None where no theorem says so."""
    if kind.polynomial or aligned.duplicate or not aligned.equal_norms:
        return None
    if not aligned.antipodal:
        return f"no two inputs lie on one line and {name} is not a polynomial"
    if kind.even is None and kind.odd is None:
        return f"no two inputs are equal and neither the even nor the odd part of {name} is a polynomial"
    return None


def _singular(X: np.ndarray, s: Activation, kernel: str, kind: Structure, aligned: Alignment) -> list[str]:
    """Every reason for which the kernel is singular."""
    name, reasons = s.name, []
    if kind.even == kind.odd == -1:
        return [f"{'the slope of ' * (kernel == 'hidden')}{name} is zero, and so is the kernel"]
    if aligned.zero and (kernel == "hidden" or _at_zero(s) == 0.0):
        reasons.append(f"{_inputs(aligned.zero)} zero, where the kernel vanishes")
    elif len(aligned.zero) > 1:
        reasons.append(f"{_inputs(aligned.zero)} zero and so equal")
    if aligned.duplicate:
        reasons.append(f"{_pairs(aligned.duplicate)} equal")
    if aligned.antipodal and kind.parity:
        reasons.append(f"{_pairs(aligned.antipodal)} opposite and {_called(s, kernel, kind)}")
    if aligned.parallel and kind.power is not None:
        reasons.append(f"{_pairs(aligned.parallel)} parallel and {name} is homogeneous")
    if aligned.opposite and kind.power is not None and kind.parity:
        reasons.append(f"{_pairs(aligned.opposite)} opposite, and {name} is homogeneous and {kind.parity}")
    return [*reasons, *_too_many(X, name, kind, aligned)]


def _too_many(X: np.ndarray, name: str, kind: Structure, aligned: Alignment) -> list[str]:
    """The reasons by counting: more inputs, or opposite ones, than a polynomial, or a polynomial part, spans."""
    if kind.even is not None and kind.odd is not None:
        spanned, degree = _spanned(X, kind.even) + _spanned(X, kind.odd), max(kind.even, kind.odd)
        what, count, told = f"{name} is", len(X), f"{len(X)} inputs"
    else:
        side, degree = ("odd", kind.odd) if kind.even is None else ("even", kind.even)
        homogeneous = kind.power is not None
        lines = _lines((*aligned.antipodal, *(aligned.opposite if homogeneous else ())))
        if degree is None or degree < 0 or not lines:
            return []
        # A constant is a function of the even part that the input zero has too; other powers vanish there.
        zeros = list(aligned.zero[:1]) if side == "even" and not (homogeneous and degree) else []
        rows = X[lines + zeros]
        if homogeneous and degree:  # the norm is a factor, and the part a single power
            rows = rows / np.linalg.norm(rows, axis=1)[:, None]
        spanned, count = _spanned(rows, degree), len(lines) + len(zeros)
        told = f"{len(lines)} pair{'s' * (len(lines) > 1)} of opposite inputs{' and zero' * len(zeros)}"
        what = f"the {side} part of {name} is"
    if count <= spanned:
        return []
    functions = f"{spanned} function{'s' * (spanned != 1)}"
    return [f"{what} a polynomial of degree {degree}, which spans only {functions} on {told}"]


def _lines(pairs: tuple[tuple[int, int], ...]) -> list[int]:
    """One input of every line that such pairs lie on."""
    lines, seen = [], set()
    for pair in sorted(pairs):
        if seen.isdisjoint(pair):
            lines.append(pair[0])
        seen.update(pair)
    return lines


def _spanned(X: np.ndarray, degree: int) -> int:
    """How many dimensions the even or odd polynomials up to a degree have on inputs like these."""
    if degree < 0:
        return 0
    d, norms = int(np.linalg.matrix_rank(X)), np.linalg.norm(X, axis=1)
    # On a sphere a lower power is a higher one times a power of the norm.
    one_norm = np.ptp(norms) <= 1e-14 * np.max(norms)
    powers = [degree] if one_norm else range(degree % 2, degree + 1, 2)
    return sum(math.comb(d + k - 1, k) if d else int(k == 0) for k in powers)


def _at_zero(s: Activation) -> float:
    with jax.enable_x64(True):
        return float(s(jnp.zeros(())))


def _called(s: Activation, kernel: str, kind: Structure) -> str:
    """The parity of an activation; of the hidden kernel a constant is no part."""
    return f"{s.name} is {kind.parity}" + " but for a constant" * (kernel == "hidden" and structure(s).even == 0)


def _inputs(some: tuple[int, ...]) -> str:
    named = ", ".join(map(str, some[:_SHOWN])) + (", ..." if len(some) > _SHOWN else "")
    return f"input {named} is" if len(some) == 1 else f"inputs {named} are"


def _pairs(some: tuple[tuple[int, int], ...]) -> str:
    named = ", ".join(f"{i} and {j}" for i, j in some[:_SHOWN])
    more = f" (and {len(some) - _SHOWN} more pairs)" if len(some) > _SHOWN else ""
    return f"inputs {named}{more} are"
