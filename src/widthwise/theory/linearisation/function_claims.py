"""Claims about two-layer networks as functions, and about their first-order expansion."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation, activation, negative_slope
from widthwise.claims import Claim, Equal, Mutant
from widthwise.networks import Apply, Chain, Dense
from widthwise.numerics import Estimate

from ..infinite_width import taylor_model
from ..infinite_width.setups import networks, normals, outputs
from ..infinite_width.shallow_setups import Shallows, shallows
from ..lazy import Shallow, limit_gram
from ..lazy.lipschitz import curvature_unknown
from ..lazy.shallow import jacobian
from ..lazy.shallow_limits import mean_square
from .expansion import expansion_at_zero, feature_map, least_norm_solution, start_scales
from .flips import expected_flips, flip_fraction

_SMOOTH = ("tanh", "sigmoid", "softplus", "erf", "gelu", "silu", "sin", "gaussian")
_WIDTHS = (4, 16, 64)
_MOVES = (0.5, -1.0, 2.0)
_DESCENT = 4000


class Drawn(eqx.Module):
    """Networks with one hidden layer and biases in both, and how many inputs they are looked at on."""

    activation: Activation
    dim: int = 3
    width: int = 12
    nets: int = 40
    count: int = 30


def _drawn(name: str = "identity") -> Drawn:
    return Drawn(activation(name))


def _rank(case: Drawn, key: Array, name: str | None = None) -> np.ndarray:
    """The rank of the outputs of many networks on many inputs: the dimension of what they span."""
    layers = Dense(1.0, 1.0, case.width), Apply(name or case.activation), Dense(1.0, 1.0, 1)
    X = normals(jax.random.fold_in(key, 1), (case.count, case.dim))
    found = np.asarray(outputs(networks(Chain(layers), case.dim, key, case.nets), X))
    return np.asarray(float(np.linalg.matrix_rank(found.reshape(case.nets, -1))))


def _predict_rank(case: Drawn, of_width=False, bias=1) -> Estimate:
    return Estimate.exact(float((case.width if of_width else case.dim) + bias))


def _is_identity(case: Drawn) -> str | None:
    """The activation is the identity, and there are networks and inputs enough to see a larger rank."""
    if case.activation.fn is not activation("identity").fn:
        return f"this is about the identity, not about {case.activation.name}"
    enough = min(case.nets, case.count) > case.dim + 1
    return None if enough else f"a rank of {case.dim + 1} takes more than {min(case.nets, case.count)} networks"


@eqx.filter_jit
def _derivatives(names: tuple[str, ...], z: Float[Array, " k"]) -> Float[Array, "names 2 k"]:
    def one(s: Activation):
        first = jax.grad(s.fn)
        return jnp.stack([jax.vmap(first)(z), jax.vmap(jax.grad(first))(z)])

    return jnp.abs(jnp.stack([one(activation(name)) for name in names]))


def _suprema(names: tuple[str, ...], key: Array) -> np.ndarray:
    """The largest first and second derivatives on a fine grid, refined by a parabola through three points."""
    sizes = np.asarray(_derivatives(names, jnp.linspace(-40.0, 40.0, 240_001)))
    peak = np.clip(np.argmax(sizes, axis=2), 1, sizes.shape[2] - 2)[..., None]
    before, top, after = (np.take_along_axis(sizes, peak + shift, axis=2)[..., 0] for shift in (-1, 0, 1))
    bend = before - 2 * top + after
    return top - np.where(bend < 0, (after - before) ** 2 / (8 * np.where(bend < 0, bend, -1.0)), 0.0)


def _predict_suprema(names: tuple[str, ...], factors=(1.0, 1.0)) -> Estimate:
    known = [(s.slope_bound, s.curvature_bound) for s in map(activation, names)]
    # They are stated to ten digits; the parabola leaves the cube of the distance 3e-4, with derivatives below ten.
    return Estimate(np.array(known) * np.array(factors), 5e-10)


def _have_bounds(names: tuple[str, ...]) -> str | None:
    """The activations are smooth, with bounds."""
    return next((why for name in names if (why := curvature_unknown(activation(name)))), None)


def _start(case: Shallows) -> tuple[Shallow, Array]:
    """A network and targets that are not its outputs."""
    return case.draw(jax.random.key(5)), jnp.linspace(-1.0, 1.0, len(case.X))


@eqx.filter_jit
def _descended(net: Shallow, X: Array, y: Array) -> Float[Array, " p"]:
    r"""Where gradient descent on $\frac12\|f^{lin}(u) - y\|^2$ ends that starts at $w_0$."""
    w0 = net.W.ravel()
    start, push = jax.linearize(lambda w: net.at(w).outputs(X), w0)
    rate = 1.0 / jnp.linalg.norm(jacobian(net, X), 2) ** 2

    def loss(u):
        return 0.5 * jnp.sum((start + push(u - w0) - y) ** 2)

    return jax.lax.fori_loop(0, _DESCENT, lambda _, u: u - rate * jax.grad(loss)(u), w0)


def _end(case: Shallows, key: Array) -> np.ndarray:
    net, y = _start(case)
    return np.asarray(_descended(net, case.X, y))


def _predict_end(case: Shallows, projected=1.0, start=1.0) -> Estimate:
    net, y = _start(case)
    J, w0 = np.asarray(jacobian(net, case.X)), np.asarray(net.W).ravel()
    least = least_norm_solution(J, np.asarray(net.outputs(case.X)), w0, np.asarray(y))
    _, s, Vt = np.linalg.svd(J, full_matrices=False)
    # What descent leaves in the slowest direction, and the rounding of its steps.
    left = (1.0 - (s[-1] / s[0]) ** 2) ** _DESCENT * float(np.linalg.norm(least - w0))
    error = left + 64 * 2.0**-52 * (s[0] / s[-1]) ** 2 * float(np.max(np.abs(w0)))
    return Estimate(least + start * (w0 - projected * Vt.T @ (Vt @ w0)), error)


def _full_rank(case: Shallows) -> str | None:
    """The Jacobian has full row rank, and descent arrives."""
    net, _ = _start(case)
    s = np.linalg.svd(np.asarray(jacobian(net, case.X)), compute_uv=False)
    if len(case.X) > net.W.size or s[-1] <= 1e-10 * s[0]:
        return "the Jacobian has no full row rank"
    slow = (1.0 - (s[-1] / s[0]) ** 2) ** _DESCENT > 1e-6
    return f"descent takes more than {_DESCENT} steps at the condition number {s[0] / s[-1]:.3g}" if slow else None


def _moved(case: Shallows) -> tuple[Shallow, Array]:
    """A network, and other weights far from its own."""
    net = case.draw(jax.random.key(3))
    return net, net.W + 0.7 * normals(jax.random.key(4), net.W.shape)


def _linearised(case: Shallows, key: Array) -> np.ndarray:
    net, W = _moved(case)
    value, push = jax.linearize(lambda w: net.at(w).outputs(case.X), net.W.ravel())
    return np.asarray(value + push((W - net.W).ravel()))


def _predict_linearised(case: Shallows, factor=1.0, start=1.0) -> Estimate:
    net, W = _moved(case)
    moved = np.asarray(W - net.W).ravel()
    value = start * np.asarray(net.outputs(case.X)) + factor * feature_map(net, case.X) @ moved
    return Estimate.rounded(value, ulps=64.0 + case.width)


def _scales(case: Shallows, key: Array, power=0.5) -> np.ndarray:
    x = np.asarray(case.X[-1])
    keys = jax.random.split(key, len(_WIDTHS))
    found = [start_scales(case.activation, x, m, k, case.nets, power) for m, k in zip(_WIDTHS, keys, strict=True)]
    return np.array([one.value for one in found])


def _predict_scales(case: Shallows, swapped=False, of_input=True) -> Estimate:
    x = case.X[-1:]
    kernel = limit_gram(x, case.activation)
    square = float(kernel.value[0, 0]) / (1.0 if of_input else float(jnp.sum(x**2)))
    values = [float(mean_square(x, case.activation)[0]), square]
    row = np.array(values[::-1] if swapped else values)
    return Estimate(np.tile(row, (len(_WIDTHS), 1)), float(kernel.error[0, 0]) + 1e-10)


def _flips(case: Shallows, key: Array) -> np.ndarray:
    r"""The fraction of flipped neurons when every $w_j$ moves by $c/\sqrt m$ along the input."""
    x = np.asarray(case.X[0])
    W = np.asarray(normals(key, (case.nets * case.width, len(x))))
    before = W @ x
    moves = [before + c / math.sqrt(case.width) for c in _MOVES]
    return np.array([flip_fraction(before[None], after[None])[0] for after in moves])


def _predict_flips(case: Shallows, factor=1.0, power=0.5) -> Estimate:
    return Estimate.rounded(factor * expected_flips(np.array(_MOVES) / case.width**power))


def _unit_input(case: Shallows) -> str | None:
    """The first input has norm 1."""
    size = float(jnp.linalg.norm(case.X[0]))
    return None if abs(size - 1.0) < 1e-12 else f"the input has norm {size:.4g}, and this is about unit inputs"


def _bend(case: Shallows, key: Array, at_zero=True) -> np.ndarray:
    r"""The second difference in x of the expansion at zero, relative to that of the expansion at $W_0$."""
    net, W = _moved(case)
    x, step = case.X, normals(key, case.X.shape)
    moved = net.at(W.ravel())

    def second(expansion):
        return expansion(x + step) - 2.0 * expansion(x) + expansion(x - step)

    own = second(lambda inputs: taylor_model(net, inputs, W))
    found = second(partial(expansion_at_zero, moved)) if at_zero else own
    return np.asarray(found) / float(np.max(np.abs(own)))


def _predict_no_bend(case: Shallows) -> Estimate:
    # Outputs and second differences are of the same size; four outputs of m terms each are added.
    return Estimate(np.zeros(len(case.X)), 64 * 2.0**-52 * case.width)


def _expansions(case: Shallows, key: Array) -> np.ndarray:
    r"""$\tilde f(x; W)$ and $f(x; W)$."""
    net, W = _moved(case)
    return np.concatenate([_linearised(case, key), np.asarray(net.at(W.ravel()).outputs(case.X))])


def _predict_homogeneous(case: Shallows, degree=1.0, at_start=False) -> Estimate:
    net, W = _moved(case)
    w, here = np.asarray(W).ravel(), net if at_start else net.at(W.ravel())
    value = np.concatenate([feature_map(net, case.X) @ w, feature_map(here, case.X) @ w])
    return Estimate.rounded(value / degree, ulps=64.0 + case.width)


def _homogeneous(case: Shallows) -> str | None:
    """The activation is a rectifier."""
    known = negative_slope(case.activation.closed) is not None
    return None if known else f"this is about rectifiers, and {case.activation.name} is no rectifier"


def _curved(case: Shallows) -> str | None:
    """The activation is not the identity, whose expansions are all affine."""
    curved = case.activation.fn is not activation("identity").fn
    return (
        None if curved else "expansions differ at zero and elsewhere unless sigma is affine, and this is the identity"
    )


CLAIMS = (
    Claim(
        id="LAZY-2",
        name="identity-networks-are-linear",
        statement=r"With the identity for $\sigma$ the networks $\beta_0+\sum_j\beta_j\sigma(b_j+w_j^\top x)$ of any "
        r"width span only the affine functions of $x\in\mathbb R^d$, of dimension $d+1$.",
        sources=("bartlett2021deep",),
        setup=_drawn,
        predict=_predict_rank,
        measure=_rank,
        relation=Equal(),
        assumptions=(_is_identity,),
        mutants=(
            Mutant("a curved activation", {"measure": partial(_rank, name="tanh")}),
            Mutant("one dimension for each neuron", {"predict": partial(_predict_rank, of_width=True)}),
            Mutant("biases lost", {"predict": partial(_predict_rank, bias=0)}),
        ),
    ),
    Claim(
        id="LAZY-2b",
        name="bounds-on-the-derivatives-of-activations",
        statement=r"The stated $s_1=\sup|\sigma'|$ and $s_2=\sup|\sigma''|$ of smooth activations, which certificates "
        r"rest on, are the suprema to nine decimals: "
        r"for tanh $1$ and $\frac4{3\sqrt3}$, for sigmoid $\frac14$ and $\frac1{6\sqrt3}$.",
        derived_here=True,
        setup=lambda: _SMOOTH,
        predict=_predict_suprema,
        measure=_suprema,
        relation=Equal(),
        assumptions=(_have_bounds,),
        mutants=(
            Mutant("half the curvature", {"predict": partial(_predict_suprema, factors=(1.0, 0.5))}),
            Mutant("slopes one per mille too small", {"predict": partial(_predict_suprema, factors=(0.999, 1.0))}),
        ),
    ),
    Claim(
        id="LAZY-7",
        name="where-descent-on-the-tangent-model-ends",
        statement=r"Gradient descent and gradient flow on the tangent model end at $\hat u+(I-J^+J)w_0$, the solution "
        r"nearest to $w_0$, not at the pseudo-inverse solution $\hat u=J^+(y+Jw_0-f(w_0))$, which has the least norm.",
        sources=("bartlett2021deep",),
        setup=partial(shallows, width=8),
        predict=_predict_end,
        measure=_end,
        relation=Equal(),
        assumptions=(_full_rank,),
        mutants=(
            Mutant("the pseudo-inverse solution", {"predict": partial(_predict_end, start=0.0)}),
            Mutant("projection lost", {"predict": partial(_predict_end, projected=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-8",
        name="features-of-a-shallow-network",
        statement=r"$\tilde f(x;W)=f(x;W_0)+\langle\Phi(x),W-W_0\rangle$ with the features "
        r"$\Phi(x)_j=\frac1{\sqrt m}a_j\sigma'(w_{0,j}^\top x)\,x$.",
        sources=("bartlett2021deep",),
        setup=shallows,
        predict=_predict_linearised,
        measure=_linearised,
        relation=Equal(),
        mutants=(
            Mutant("root of the width lost in the features", {"predict": partial(_predict_linearised, factor=50**0.5)}),
            Mutant("outputs at the start left out", {"predict": partial(_predict_linearised, start=0.0)}),
        ),
    ),
    Claim(
        id="LAZY-9",
        name="why-one-over-root-width",
        statement=r"With the factor $1/\sqrt m$, and with no other power of $m$, outputs and kernel at the start have "
        r"the same means at every width, $E f_0(x)^2=E\,\sigma(w^\top x)^2$ and "
        r"$E\,k_m(x,x)=\|x\|^2E\,\sigma'(w^\top x)^2$.",
        sources=("bartlett2021deep",),
        setup=partial(shallows, "erf", spread=1.0, nets=5000),
        predict=_predict_scales,
        measure=_scales,
        relation=Equal(),
        draws=16,
        mutants=(
            Mutant("1/m", {"measure": partial(_scales, power=1.0)}),
            Mutant("no factor", {"measure": partial(_scales, power=0.0)}),
            Mutant("values for slopes", {"predict": partial(_predict_scales, swapped=True)}),
            Mutant("|x|^2 lost", {"predict": partial(_predict_scales, of_input=False)}),
        ),
    ),
    Claim(
        id="LAZY-10",
        name="how-many-neurons-flip",
        statement=r"If each pre-activation of a unit input moves by $c/\sqrt m$, up or down, the fraction "
        r"$\Phi(|c|/\sqrt m)-\frac12=\varphi(0)|c|/\sqrt m\,(1+O(1/m))$ of the neurons changes sign.",
        sources=("bartlett2021deep",),
        derived_here=True,
        setup=partial(shallows, "relu", width=10_000, nets=40),
        predict=_predict_flips,
        measure=_flips,
        relation=Equal(),
        assumptions=(_unit_input,),
        draws=16,
        mutants=(
            Mutant("moves to both sides", {"predict": partial(_predict_flips, factor=2.0)}),
            Mutant("root of the width lost", {"predict": partial(_predict_flips, power=1.0)}),
        ),
    ),
    Claim(
        id="LAZY-11",
        name="expansion-at-zero-is-affine",
        statement=r"Expanded at $W=0$, $\frac1{\sqrt m}\sum_ja_j\{\sigma(0)+\sigma'(0)w_j^\top x\}$ is affine in x "
        r"whatever the activation; expanded at $W_0$ it is not.",
        sources=("bartlett2021deep",),
        setup=shallows,
        predict=_predict_no_bend,
        measure=_bend,
        relation=Equal(scale=1.0),
        assumptions=(_curved,),
        mutants=(Mutant("expanded at the start", {"measure": partial(_bend, at_zero=False)}),),
    ),
    Claim(
        id="LAZY-12",
        name="rectifiers-are-homogeneous",
        statement=r"For a rectifier $\sigma(z)=z\sigma'(z)$, so $\tilde f(x;W)=\langle\nabla f(x;W_0),W\rangle$ and "
        r"$f(x;W)=\langle\nabla f(x;W),W\rangle$.",
        sources=("bartlett2021deep",),
        setup=partial(shallows, "relu", width=10_000),
        predict=_predict_homogeneous,
        measure=_expansions,
        relation=Equal(),
        assumptions=(_homogeneous,),
        mutants=(
            Mutant("homogeneous of degree two", {"predict": partial(_predict_homogeneous, degree=2.0)}),
            Mutant("both gradients at the start", {"predict": partial(_predict_homogeneous, at_start=True)}),
        ),
    ),
)
