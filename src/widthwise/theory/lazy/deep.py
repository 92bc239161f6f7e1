r"""Certified Lipschitz constants of the Jacobian of networks of any depth, all weights and biases trained.

Legend: $z_l = c_lW_lh_{l-1} + b_l\beta_l$ with trained $W_l, \beta_l$ and fixed factors $c_l, b_l$;
$h_l = \sigma_l(z_l)$ for l < L, $f = z_L$ one output; n inputs, everything on the ball of radius $\rho$
around the initial parameters. $U$ is a direction in parameter space, $u_l$ the norm of its part in
layer l. $P_l$ bounds $\|Dz_l\|$, $B_l = \partial f/\partial h_l$ with bounds $b_l$ (norm) and $b^\infty_l$
(largest entry), $e_l$ bounds $\|DB_l\|$. Per input
$|D^2f[U,U]| \le \sum_{l<L}s_2b^\infty_l\|Dz_l[U]\|^2 + 2\sum_{l\ge2}c_lb^z_ls_1u_l\|Dz_{l-1}[U]\| \le u^\top M u$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from widthwise.activations import Activation, activation
from widthwise.networks import Affine, Composed
from widthwise.numerics import reject

from .lipschitz import MARGIN, Profile, Smoothness, curvature_unknown, unknown


@dataclass(frozen=True, eq=False)
class Stage:
    """An affine layer, the activation after it, and what they do to the inputs at the initial parameters."""

    weight: Float[np.ndarray, "out in"]
    weight_scale: float
    bias_scale: float
    activation: Activation
    norm: float
    outputs: Float[np.ndarray, "n out"]
    slopes: Float[np.ndarray, "n out"]

    @property
    def s1(self) -> float:
        return MARGIN * self.activation.slope_bound

    @property
    def s2(self) -> float:
        return MARGIN * self.activation.curvature_bound


def certified_smoothness(model: Callable, X: ArrayLike, output: int = 0) -> Profile:
    r"""Certify $\beta(\rho) \ge \sup\|J_w-J_v\|/\|w-v\|$ for one output of a fully connected network on X (n, d).

    For models sampled from a ``Chain`` of ``Dense`` and ``Apply`` with smooth activations. Returns a
    function of the radius; for any other model, and for activations with kinks, its answer is an
    infinite constant that says why. In the NTK parameterisation it falls like the width to the -1/2;
    it is sound but loose, by about one order for three layers. Derived here, after liu2020linearity.

    >>> from widthwise.networks import MLP, sample
    >>> model = sample(MLP(width=64, depth=1).network(), jax.random.key(0), in_size=2)
    >>> beta = certified_smoothness(model, np.eye(2))
    >>> beta(0.0).certified, beta(0.0).value < beta(1.0).value
    (True, True)
    >>> certified_smoothness(sample(MLP(activation="relu").network(), jax.random.key(0), 2), np.eye(2))(1.0)
    Smoothness(inf, unknown, the activation relu has a kink at 0, where the Jacobian or its derivative jumps)
    """
    stages = _stages(model, X, output)
    if isinstance(stages, str):
        return unknown(stages)

    def at(radius: float) -> Smoothness:
        M = _forms(stages, radius)
        value = min(_joint(M), _both_layers(stages, radius) if len(stages) == 3 else math.inf)
        return Smoothness(MARGIN * value, True, radius, f"{len(stages) - 1} layers, recursion over depth")

    return at


def input_smoothness(model: Callable, X: ArrayLike, output: int = 0) -> Callable[[float], Float[np.ndarray, " n"]]:
    """Certify the gradient at every single input: from a radius to n constants, infinite where none is known."""
    stages = _stages(model, X, output)
    if isinstance(stages, str):
        return lambda _: np.full(len(np.asarray(X)), math.inf)
    return lambda radius: MARGIN * np.linalg.eigvalsh(_forms(stages, radius))[:, -1]


def _stages(model: Callable, X: ArrayLike, output: int) -> "list[Stage] | str":
    """The layers of a model, preceded by one that only holds the inputs; or why there is no bound."""
    with jax.enable_x64(True):
        return _stages_of(_flat(model), np.asarray(X, dtype=float), output)


def _stages_of(pieces: list, X: np.ndarray, output: int) -> "list[Stage] | str":
    stages = [_input(X)]
    while pieces:
        piece = pieces.pop(0)
        if not isinstance(piece, Affine):
            return f"no bound is known for {type(piece).__name__} at this place; chains of Dense and Apply have one"
        s = pieces.pop(0) if pieces and isinstance(pieces[0], Activation) else activation("identity")
        if why := curvature_unknown(s):
            return why
        last = not pieces
        if last and s.fn is not activation("identity").fn:
            return f"no bound is known for a network that ends in the activation {s.name}"
        stages.append(_stage(piece, s, stages[-1].outputs, output if last else None))
    return stages


def _flat(model: Callable) -> list:
    return [inner for piece in model.pieces for inner in _flat(piece)] if isinstance(model, Composed) else [model]


def _input(X: np.ndarray) -> Stage:
    return Stage(np.zeros((X.shape[1], 0)), 0.0, 0.0, activation("identity"), 0.0, X, np.ones_like(X))


def _stage(piece: Affine, s: Activation, inputs: np.ndarray, output: int | None) -> Stage:
    rows = slice(None) if output is None else [_row(output, len(piece.weight))]
    weight = np.asarray(piece.weight, dtype=float)[rows]
    z = piece.weight_scale * inputs @ weight.T
    if piece.bias is not None:
        z = z + piece.bias_scale * np.asarray(piece.bias, dtype=float)[rows]
    z = jnp.asarray(z)
    outputs, slopes = (np.asarray(part) for part in jax.jvp(s, (z,), (jnp.ones_like(z),)))
    bias_scale = 0.0 if piece.bias is None else piece.bias_scale
    return Stage(weight, piece.weight_scale, bias_scale, s, float(np.linalg.norm(weight, 2)), outputs, slopes)


def _row(output: int, count: int) -> int:
    if not -count <= output < count:
        reject(f"output={output}", f"The model has {count} outputs", f"Give one from 0 to {count - 1}")
    return output


def _joint(M: Float[np.ndarray, "n layers layers"]) -> float:
    r"""Bound $\sup_v\sup_U\sum_iv_iD^2f_i[U,U]$ by $\sqrt{\sum_i\lambda(M_i)^2}$ and $\lambda(\sqrt{\sum_iM_i^2})$."""
    each = math.sqrt(float(np.sum(np.linalg.eigvalsh(M)[:, -1] ** 2)))
    return min(each, float(np.linalg.eigvalsh(np.sqrt(np.sum(M**2, axis=0)))[-1]))


def _forms(stages: list[Stage], radius: float) -> Float[np.ndarray, "n layers layers"]:
    r"""The matrices $M_i \ge 0$ with $|D^2f_i[U,U]| \le u^\top M_iu$ on the ball."""
    inputs, stages = np.linalg.norm(stages[0].outputs, axis=1), stages[1:]
    if len(stages) == 1:  # an affine network bends nowhere
        return np.zeros((len(inputs), 1, 1))
    moved, depth = _forward(stages, inputs, radius), len(stages)
    sides = _backward(stages, np.linalg.norm(moved, axis=2), radius)
    M = np.zeros((len(inputs), depth, depth))
    for l, (_, largest) in enumerate(sides):
        M += (stages[l].s2 * largest)[:, None, None] * moved[l][:, :, None] * moved[l][:, None, :]
        after = np.ones(len(inputs)) if l + 2 == depth else stages[l + 1].s1 * sides[l + 1][0]
        cross = (stages[l + 1].weight_scale * stages[l].s1 * after)[:, None] * moved[l]
        M[:, l + 1, :] += cross
        M[:, :, l + 1] += cross
    return M


def _forward(stages: list[Stage], inputs: np.ndarray, radius: float) -> Float[np.ndarray, "hidden n layers"]:
    r"""Coefficients $a_{lk}$ with $\|Dz_l[U]\| \le \sum_ka_{lk}u_k$ for the hidden layers l."""
    moved = np.zeros((len(stages) - 1, len(inputs), len(stages)))
    size = inputs
    for l, stage in enumerate(stages[:-1]):
        if l:
            moved[l] = stage.weight_scale * (stage.norm + radius) * stages[l - 1].s1 * moved[l - 1]
        moved[l, :, l] = np.sqrt((stage.weight_scale * size) ** 2 + stage.bias_scale**2)
        grown = np.linalg.norm(stage.outputs, axis=1) + radius * stage.s1 * np.linalg.norm(moved[l], axis=1)
        size = np.minimum(stage.activation.value_bound * math.sqrt(len(stage.weight)), grown)
    return moved


def _backward(stages: list[Stage], P: Float[np.ndarray, "hidden n"], radius: float) -> list:
    r"""The bounds $(b_l, b^\infty_l)$ on $\|B_l\|$ and its largest entry, for the hidden layers."""
    last, n = stages[-1], P.shape[1]
    B = np.tile(last.weight_scale * last.weight, (n, 1))
    e, norm = np.full(n, last.weight_scale), np.linalg.norm(B, axis=1) + last.weight_scale * radius
    sides = [(norm, np.minimum(norm, np.abs(B).max(axis=1) + radius * e))]
    for l in range(len(stages) - 2, 0, -1):
        stage, (above, largest) = stages[l], sides[0]
        reach = stage.norm + radius
        B = stage.weight_scale * (stage.slopes * B) @ stage.weight
        e = stage.weight_scale * (stage.s1 * above + reach * (stage.s2 * largest * P[l] + stage.s1 * e))
        norm = np.minimum(stage.weight_scale * reach * stage.s1 * above, np.linalg.norm(B, axis=1) + radius * e)
        sides.insert(0, (norm, np.minimum(norm, np.abs(B).max(axis=1) + radius * e)))
    return sides


def _both_layers(stages: list[Stage], radius: float) -> float:
    r"""$\frac c2(A+\sqrt{A^2+4B^2})$, $A = (\|a\|_\infty+\rho)s_2\sqrt{\lambda_{max}(G\circ G)}$, $B = s_1\|X\|$."""
    first, readout = stages[1], stages[2]
    X = np.hstack([first.weight_scale * stages[0].outputs, np.full((len(first.outputs), 1), first.bias_scale)])
    A = (np.abs(readout.weight).max() + radius) * first.s2 * math.sqrt(np.linalg.eigvalsh((X @ X.T) ** 2)[-1])
    return 0.5 * readout.weight_scale * float(A + math.hypot(A, 2 * first.s1 * np.linalg.norm(X, 2)))
