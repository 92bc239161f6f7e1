"""Claims about how far a shallow network is from its linearisation, each attacked by an adversary."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr

from widthwise.activations import Activation
from widthwise.claims import AtMost, Claim, Equal, Mutant
from widthwise.numerics import Estimate

from ..infinite_width import (
    rectifier_error_bound,
    taylor_error_bound,
    worst_rectifier_constant,
    worst_rectifier_error,
)
from ..infinite_width.setups import normals, to_infinity
from ..infinite_width.shallow_setups import Shallows, is_rectifier, shallows
from ..lazy import Shallow
from ..lazy.lipschitz import curvature_unknown
from ..lazy.maps import ShallowMap
from .rectifier import rectifier_worst_case
from .search import Found, adversarial_gap, departure

_RADII = (0.3, 3.0, 30.0)
_STEPS = (0.1, 1e-2, 1e-3)
_WIDTHS = (24, 96)
_PUSH = 3.0


def _map(net: Shallow, x: Float[Array, " d"]) -> tuple[ShallowMap, Float[np.ndarray, " p"]]:
    return ShallowMap(net, x[None, :]), np.asarray(net.W).ravel()


def _steepest(case: Shallows) -> float:
    """Where the second derivative is largest."""
    z = np.linspace(-8.0, 8.0, 160_001)
    return float(z[np.argmax(np.abs(np.asarray(_derivative(case.activation, jnp.asarray(z), 2))))])


@eqx.filter_jit
def _derivative(s: Activation, z: Float[Array, " k"], order: int) -> Float[Array, " k"]:
    fn = s.fn
    for _ in range(order):
        fn = jax.grad(fn)
    return jax.vmap(fn)(z)


def _bent(case: Shallows, x: Array) -> Shallow:
    """The worst network for an input: every neuron where its activation bends most, with equal signs."""
    W = np.tile(np.asarray(_steepest(case) * x / (x @ x)), (case.width, 1))
    return Shallow(jnp.asarray(W), jnp.asarray(np.ones(case.width)), case.activation, case.width**-0.5)


def _attacked(case: Shallows, key: Array, reads: Callable[[Shallow, Array, Found], float]) -> np.ndarray:
    """A random network and the worst one, with unequal $|a_j|$, attacked within each radius."""
    rows, x = [], case.X[-1]
    for net in map(_uneven, (case.draw(key), _bent(case, x))):
        f, w0 = _map(net, x)
        found = [adversarial_gap(f, w0, radius, key, restarts=4, rounds=40) for radius in _RADII]
        rows.append([reads(net, x, one) for one in found])
    return np.array(rows)


def _uneven(net: Shallow) -> Shallow:
    """The network with three times the readout of half of its neurons."""
    width = len(net.signs)
    larger = np.where(np.arange(width) < (width + 1) // 2, 3.0, 1.0)
    return Shallow(net.W, net.signs * jnp.asarray(larger), net.activation, net.scale)


def _gap_found(net: Shallow, x: Array, found: Found) -> float:
    return found.gap


def _change_found(net: Shallow, x: Array, found: Found) -> float:
    r"""What is printed in the notes: $|f(x; W) - \tilde f(x; V)|$ with $V = W_0$."""
    moved = net.at(net.W.ravel() + jnp.asarray(found.displacement))
    return abs(float(moved.outputs(x[None, :])[0]) - float(net.outputs(x[None, :])[0]))


def _predict_smooth(case: Shallows, factor=1.0, of_input=True, of_readout=True) -> Estimate:
    x, net = case.X[-1], _uneven(case.draw(jax.random.key(0)))
    factor = factor if of_input else factor / float(x @ x)
    factor = factor if of_readout else factor / float(jnp.max(jnp.abs(net.signs)))
    row = [factor * taylor_error_bound(net, x, radius) for radius in _RADII]
    return Estimate(np.array([row, row]), 3 * 64 * 2.0**-52 * math.sqrt(case.width))


def _curvature_is_bounded(case: Shallows) -> str | None:
    """The second derivative of the activation is bounded."""
    why = curvature_unknown(case.activation)
    return None if why is None else f"there is no such bound because {why}"


def _sharpness(case: Shallows, key: Array) -> np.ndarray:
    """The largest gap over the bound, for the worst network and small steps, all neurons alike or as an adversary does.

    To the leading order in the step all directions are equal, so that an adversary alone is slow to tell them apart.
    """
    net, x, found = _bent(case, case.X[0]), case.X[0], []
    f, w0 = _map(net, x)
    for step in _STEPS:
        radius = step * math.sqrt(case.width)
        attacked = adversarial_gap(f, w0, radius, key, restarts=4, rounds=40).gap
        alike = [abs(departure(f, w0, sign * step * np.tile(x, case.width))[0]) for sign in (-1.0, 1.0)]
        found.append(max(attacked, *alike) / taylor_error_bound(net, x, radius))
    return np.array(found)


def _predict_sharpness(case: Shallows, whole=1.0) -> Estimate:
    r"""$1 + \frac{\sigma''''(z)}{12\sigma''(z)}\epsilon^2 + O(\epsilon^3)$ where $\sigma'''(z) = 0$."""
    z, steps = jnp.asarray(np.array([_steepest(case)])), np.array(_STEPS)
    second, fourth, fifth = (float(_derivative(case.activation, z, order)[0]) for order in (2, 4, 5))
    value = 1.0 + fourth / second / 12.0 * steps**2
    # The next terms, and differences of sums of size one.
    rounding = 64 * 2.0**-52 * math.sqrt(case.width) / (0.5 * case.activation.curvature_bound * steps**2)
    return Estimate(whole * value, (1.0 + abs(fifth / second) / 60.0) * steps**3 + rounding)


def _bends(case: Shallows) -> str | None:
    bends = case.activation.curvature_bound > 0
    return None if bends else f"nothing attains the bound 0 because {case.activation.name} does not bend"


def _unit_input(case: Shallows) -> str | None:
    size = float(jnp.linalg.norm(case.X[0]))
    return None if abs(size - 1.0) < 1e-12 else f"the input has norm {size:.4g}, and this is about unit inputs"


def _ball_attacked(case: Shallows, key: Array, sign=1.0) -> np.ndarray:
    """The gap that an adversary finds, and errors at points of the ball of expansions at other points of it."""
    net, x = case.draw(key), case.X[:1]
    f, w0 = _map(net, x[0])
    found = adversarial_gap(f, w0, 1.0, key, restarts=4, rounds=40)
    worst, spread = jnp.asarray(found.displacement), (net.signs[:, None] * x / math.sqrt(case.width)).ravel()
    errors = [
        _pair(f, jnp.asarray(w0), *pair, sign) for pair in ((worst, 0.0 * worst), (worst, -worst), (spread, -spread))
    ]
    return np.array([found.gap, *map(float, errors)])


@eqx.filter_jit
def _pair(f: ShallowMap, w0: Array, first: Array, second: Array, sign: float) -> Array:
    value, along = jax.jvp(f, (w0 + first,), (second - first,))
    return jnp.abs(f(w0 + second) - (value + sign * along))[0]


def _predict_ball(case: Shallows) -> Estimate:
    bounds = np.array([rectifier_error_bound(case.width, 1.0, pair=pair) for pair in (False, True, True, True)])
    return Estimate(bounds, 1e-12)


def _predict_recalled(case: Shallows) -> Estimate:
    r"""$B^{4/3}/m^{1/3}$."""
    return Estimate(np.full(4, case.width ** (-1 / 3)), 0.0)


def _small(case: Shallows) -> Shallow:
    """A few neurons, not all of the same distance from their kink."""
    return Shallow(case.draw(jax.random.key(8)).W, jnp.asarray(_signs(case.width)), case.activation, 0.3)


def _signs(width: int) -> np.ndarray:
    return np.where(np.arange(width) < width // 2, 1.0, -1.0)


@eqx.filter_jit
def _departures(f: ShallowMap, w0: Array, deltas: Float[Array, "k p"]) -> Float[Array, " k"]:
    start, push = jax.linearize(f, w0)
    return jax.vmap(lambda delta: jnp.abs(f(w0 + delta) - start - push(delta))[0])(deltas)


def _enumerated(case: Shallows, key: Array, radius=1.3) -> np.ndarray:
    """The largest error over all sets of neurons that are moved alike, and over what an adversary finds."""
    net, x = _small(case), case.X[1]
    f, w0 = _map(net, x)
    chosen = np.array([*itertools.product((0.0, 1.0), repeat=case.width)])[1:]
    away = np.where(np.asarray(net.W @ x) > 0, -1.0, 1.0)
    moves = radius * chosen * away / np.linalg.norm(chosen, axis=1, keepdims=True)
    unit = np.asarray(x / jnp.linalg.norm(x))
    deltas = (moves[:, :, None] * unit).reshape(len(moves), -1)
    gaps = np.asarray(_departures(f, jnp.asarray(w0), jnp.asarray(deltas)))
    attacked = adversarial_gap(f, w0, radius, key, restarts=24, rounds=80)
    return np.asarray(max(float(np.max(gaps)), attacked.gap))


def _predict_enumerated(case: Shallows, radius=1.3, apart=True) -> Estimate:
    net = _small(case)
    net = net if apart else Shallow(net.W, jnp.ones(case.width), net.activation, net.scale)
    return Estimate.rounded(rectifier_worst_case(net, case.X[1], radius).low)


def _predict_all_that_flip(case: Shallows, radius=1.3) -> Estimate:
    r"""All neurons within $B/\sqrt k$ of their kink, in place of those within half of that."""
    net, x = _small(case), np.asarray(case.X[1])
    z, size = np.asarray(net.W) @ x, float(np.linalg.norm(x))
    found = 0.0
    for sign in (1.0, -1.0):
        near = np.sort(np.abs(z[np.asarray(net.signs) == sign]))
        reach = radius * size / np.sqrt(np.arange(1, len(near) + 1))
        k = int(np.max(np.flatnonzero(near < reach), initial=0)) + 1
        found = max(found, net.scale * float(k * reach[k - 1] - np.sum(near[:k])))
    return Estimate(found, 0.0)


def _few(case: Shallows) -> str | None:
    """All sets of neurons can be tried."""
    return None if case.width <= 14 else f"{case.width} neurons have too many subsets to try all of them"


def _scaled_worst(case: Shallows, key: Array, power=1 / 6) -> np.ndarray:
    r"""$m^{1/6}\sup|f-\tilde f|$ in a ball of radius 1, with as many signs of each kind and with equal ones."""

    def at(root, key):
        z = np.asarray(normals(key, (root**3,)))
        found = [worst_rectifier_error(z, signs, 1.0) for signs in (_signs(root**3), np.ones(root**3))]
        return root ** (3 * power) * np.array(found)

    return to_infinity(at, round(case.width ** (1 / 3)), key)


def _predict_constants(case: Shallows, swapped=False) -> Estimate:
    values = np.array([worst_rectifier_constant(balanced) for balanced in (True, False)])
    # Extrapolation leaves what is of the order of the square of m^(-1/3).
    return Estimate(values[::-1] if swapped else values, values * case.width ** (-2 / 3))


@eqx.filter_jit
def _pushed(W: Float[Array, "nets m d"], x: Float[Array, " d"], signs: Float[Array, " m"]) -> Float[Array, " nets"]:
    r"""The error after the step $-c\nabla f$ of each network, by which its active neurons move $c/\sqrt m$."""
    scale = signs.size**-0.5

    def one(W):
        def f(w):
            return scale * (signs @ jax.nn.relu(w @ x))

        step = -_PUSH * jax.grad(f)(W)
        start, along = jax.jvp(f, (W,), (step,))
        return f(W + step) - start - along

    return jax.vmap(one)(W)


def _after_a_step(case: Shallows, key: Array) -> np.ndarray:
    r"""$\sqrt m$ times the mean error."""
    found = []
    for width, one in zip(_WIDTHS, jax.random.split(key, len(_WIDTHS)), strict=True):
        W = normals(one, (case.nets, width, case.X.shape[1]))
        errors = _pushed(W, case.X[0], jnp.asarray(_signs(width)))
        found.append(math.sqrt(width) * float(jnp.mean(errors)))
    return np.array(found)


def _predict_after_a_step(case: Shallows, factor=1.0) -> Estimate:
    r"""$\frac m2\{\delta(\Phi(\delta)-\frac12) - \varphi(0) + \varphi(\delta)\}$, $\delta = c/\sqrt m$."""
    m = np.array(_WIDTHS, dtype=float)
    delta = _PUSH / np.sqrt(m)
    lost = -np.expm1(-0.5 * delta**2) / math.sqrt(2 * math.pi)
    return Estimate(factor * 0.5 * m * (delta * (ndtr(delta) - 0.5) - lost), 1e-10)


def _predict_worst_possible(case: Shallows) -> Estimate:
    distance = _PUSH / math.sqrt(2.0)  # half of the neurons move by c/root(m)
    worst = worst_rectifier_constant() * distance ** (4 / 3)
    return Estimate(worst * np.array(_WIDTHS, dtype=float) ** (1 / 3), 0.0)


CLAIMS = (
    Claim(
        id="LAZY-13",
        name="gap-of-smooth-networks-under-attack",
        statement=r"If $|\sigma''|\le L$ then for all W and V, $|f(x;W)-f(x;V)-\langle\nabla f(x;V),W-V\rangle|\le"
        r"\frac L{2\sqrt m}\max_j|a_j|\,\|x\|^2\|W-V\|_F^2$: no adversary finds more, in any ball around any network.",
        sources=("bartlett2021deep", "telgarsky2021deep"),
        setup=partial(shallows, spread=1.0),
        predict=_predict_smooth,
        measure=partial(_attacked, reads=_gap_found),
        relation=AtMost(),
        assumptions=(_curvature_is_bounded,),
        draws=2,
        mutants=(
            Mutant("half the curvature", {"predict": partial(_predict_smooth, factor=0.5)}),
            Mutant("1/m for one over root m", {"predict": partial(_predict_smooth, factor=50**-0.5)}),
            Mutant("|x|^2 lost", {"predict": partial(_predict_smooth, of_input=False)}),
            Mutant("max|a| lost", {"predict": partial(_predict_smooth, of_readout=False)}),
            Mutant("gradient left out, as printed", {"measure": partial(_attacked, reads=_change_found)}),
        ),
    ),
    Claim(
        id="LAZY-13b",
        name="gap-of-smooth-networks-is-sharp",
        statement=r"The constant $\frac L{2\sqrt m}$ cannot be improved: with every neuron where $|\sigma''|=L$, "
        r"moving each by $\epsilon$ attains $1+\frac{\sigma''''}{12\sigma''}\epsilon^2+O(\epsilon^3)$ of it.",
        derived_here=True,
        setup=partial(shallows, width=16),
        predict=_predict_sharpness,
        measure=_sharpness,
        relation=Equal(),
        assumptions=(_curvature_is_bounded, _bends, _unit_input),
        mutants=(
            Mutant("the half lost", {"predict": partial(_predict_sharpness, whole=0.5)}),
            Mutant("L for its square", {"predict": partial(_predict_sharpness, whole=0.7698003589)}),
        ),
    ),
    Claim(
        id="LAZY-14",
        name="gap-of-rectifier-networks-under-attack",
        statement=r"For a rectifier and Gaussian $W_0$, with probability $1-\delta$ no adversary within B of $W_0$ "
        r"finds $|f-\tilde f|$ above $(2B^{4/3}+B\ln(1/\delta)^{1/4})/m^{1/6}$; three times the first and twice the "
        r"second term bound the error of an expansion at one point of the ball at any other one.",
        sources=("telgarsky2021deep",),
        setup=partial(shallows, "relu", width=10_000),
        predict=_predict_ball,
        measure=_ball_attacked,
        relation=AtMost(),
        assumptions=(is_rectifier, _unit_input),
        draws=2,
        mutants=(
            Mutant("the bound as recalled, without its constants", {"predict": _predict_recalled}),
            Mutant("minus for plus in the expansion, as printed", {"measure": partial(_ball_attacked, sign=-1.0)}),
        ),
    ),
    Claim(
        id="LAZY-14b",
        name="worst-case-of-a-rectifier-network-by-sorting",
        statement=r"For $a_j=\pm1$ the largest $|f-\tilde f|$ over $\|W-W_0\|_F\le B$ is, at any width, "
        r"$\gamma\max_k(\sqrt kB\|x\|-\sum_{i\le k}|z|_{(i)})$ over the neurons of one sign, sorted by $|z_j|$.",
        derived_here=True,
        setup=partial(shallows, "relu", 0.5, width=10),
        predict=_predict_enumerated,
        measure=_enumerated,
        relation=Equal(),
        assumptions=(is_rectifier, _few),
        mutants=(
            Mutant("neurons of both signs together", {"predict": partial(_predict_enumerated, apart=False)}),
            Mutant("all neurons that flip", {"predict": _predict_all_that_flip}),
        ),
    ),
    Claim(
        id="LAZY-14c",
        name="worst-case-constants-of-rectifier-networks",
        statement=r"$\sup|f-\tilde f|=c\,B^{4/3}m^{-1/6}(1+o(1))$ with $c=\frac382^{2/3}\varphi(0)^{1/3}$ for "
        r"$a_j=\pm1$ in equal numbers and $c=\frac34\varphi(0)^{1/3}$ where all are equal.",
        derived_here=True,
        setup=partial(shallows, "relu", width=15625),
        predict=_predict_constants,
        measure=_scaled_worst,
        relation=Equal(resolution=0.02),
        assumptions=(is_rectifier,),
        draws=16,
        mutants=(
            Mutant("the two constants swapped", {"predict": partial(_predict_constants, swapped=True)}),
            Mutant("the power 1/3 of the width", {"measure": partial(_scaled_worst, power=1 / 3)}),
        ),
    ),
    Claim(
        id="LAZY-14d",
        name="gap-of-a-rectifier-network-after-a-gradient-step",
        statement=r"A gradient step that moves every active neuron of a Gaussian network, with signs $\pm1$ in equal "
        r"numbers, by $c/\sqrt m$ is far from the worst case: it leaves a mean gap of "
        r"$\frac{\sqrt m}2\int_0^{c/\sqrt m}(\frac c{\sqrt m}-z)\varphi(z)\,dz\approx"
        r"\frac{\varphi(0)c^2}{4\sqrt m}$.",
        derived_here=True,
        setup=partial(shallows, "relu", nets=1000),
        predict=_predict_after_a_step,
        measure=_after_a_step,
        relation=Equal(),
        assumptions=(is_rectifier, _unit_input),
        draws=16,
        mutants=(
            Mutant("neurons of both signs", {"predict": partial(_predict_after_a_step, factor=2.0)}),
            Mutant("as in the worst case", {"predict": _predict_worst_possible}),
        ),
    ),
)
