"""Duals of activations with kinks: closed forms, Price and Plackett, polar sectors, and each other."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from oracles.reference import plackett, polar_dual
from widthwise.activations import ACTIVATIONS, Activation, leaky_relu
from widthwise.networks import MLP, kernel

# (q1, q2, cosine)
CASES = (
    (1.0, 1.0, 0.5),
    (0.7, 1.9, -0.6),
    (2.0, 0.5, 0.9),
    (4.0, 4.0, 0.99),
    (4.0, 4.0001, 0.9999),
    (16.0, 9.0, 0.3),
    (1.3, 1.3, -0.999),
)
_duals = eqx.filter_jit(lambda act, pairs: jax.vmap(act.dual)(*pairs))


def duals(act, cases):
    pairs = [(q1, q2, 1 - cosine, 1 + cosine) for q1, q2, cosine in cases]
    columns = tuple(jnp.asarray(column, dtype=float) for column in zip(*pairs, strict=True))
    return jax.tree.map(np.asarray, _duals(act, columns))


def means(out):
    return np.sqrt(out.xx) * np.sqrt(out.yy) * 0.5 * (out.cogap - out.gap)


def numerical(act, **changes):
    return replace(act, closed=None, **changes)


@pytest.mark.parametrize(
    "act", [leaky_relu(0.3), ACTIVATIONS["abs"], ACTIVATIONS["step"], ACTIVATIONS["squared_relu"]], ids=str
)
def test_cells_equal_closed_forms(act):
    got, wanted = duals(numerical(act), CASES), duals(act, CASES)
    scale = np.sqrt(wanted.xx * wanted.yy)
    np.testing.assert_allclose(got.xx, wanted.xx, rtol=2e-14)
    np.testing.assert_allclose(means(got) / scale, means(wanted) / scale, rtol=0, atol=3e-14)
    np.testing.assert_allclose(got.gap, wanted.gap, rtol=1e-12, atol=1e-30)
    np.testing.assert_allclose(got.slope, wanted.slope, rtol=3e-14, atol=3e-14)


def relu6_mean(q):
    root, z = math.sqrt(q), 6 / math.sqrt(q)
    return root * (1 - math.exp(-z * z / 2)) / math.sqrt(2 * math.pi) + 6 * ndtr(-z)


PIECEWISE = {
    "hard_tanh": ((-1.0, 1.0), (1.0, -1.0), lambda q: 0.0, lambda q: 2 * ndtr(1 / math.sqrt(q)) - 1),
    "relu6": ((0.0, 6.0), (1.0, -1.0), relu6_mean, lambda q: ndtr(6 / math.sqrt(q)) - 0.5),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_linear_functions_equal_price_and_plackett(name):
    out = duals(ACTIVATIONS[name], CASES)
    wanted = np.array([plackett(*PIECEWISE[name], *case) for case in CASES])
    # Nearly opposite inputs leave a mean of 6e-6, the difference of two gaps near one.
    np.testing.assert_allclose(means(out), wanted[:, 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(out.slope, wanted[:, 1], rtol=1e-12)
    assert np.all(out.error < 1e-12)


# F and D at (1, 1, .5), (.7, 1.9, -.6) and (2, .5, .9), for the last two functions (4, 4, .99).
TABLE = {
    "elu": (
        (0.324783648956759, 0.617184210078254),
        (-0.343882773636314, 0.523603312976056),
        (0.573726905260561, 0.64840189244477),
    ),
    "hard_tanh": (
        (0.238169165800769, 0.497971777839208),
        (-0.291891212995517, 0.450514039385318),
        (0.726256229872597, 0.343173736717156),
    ),
    "relu6": (
        (0.304498889535540, 0.333333331360936),
        (0.044716108892866, 0.147583615319224),
        (1.970675704579742, 0.475875017113154),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_reference_numbers(name):
    out = duals(ACTIVATIONS[name], CASES)
    rows = [0, 1, 2 if name == "elu" else 3]
    # Printed to the fifteenth decimal.
    np.testing.assert_allclose(np.stack([means(out), out.slope], axis=1)[rows], TABLE[name], rtol=1e-13, atol=2e-15)


@pytest.mark.parametrize("name", [pytest.param("selu", marks=pytest.mark.slow), "softsign"])
def test_cells_equal_polar_sectors(name):
    act = replace(ACTIVATIONS[name], degree=512)
    cases = [case for case in CASES if max(case[:2]) < 2.5]  # the sectors resolve softsign to moderate variances
    out, slope = duals(act, CASES), jax.jit(jax.vmap(jax.vmap(jax.grad(act.fn))))
    for index, case in enumerate(CASES):
        if case in cases:
            wanted = polar_dual(act.fn, slope, *case)
            assert means(out)[index] == pytest.approx(wanted[0], abs=1e-13 * out.xx[index])
            assert out.slope[index] == pytest.approx(wanted[1], abs=1e-13)


@pytest.mark.slow
def test_kinks_that_are_none_change_nothing():
    """Cuts elsewhere leave the dual as it is: also where they cross, at small angles and beyond what is reached."""
    more = numerical(ACTIVATIONS["relu"], kinks=(-2.0, 0.0, 0.5, 40.0))
    cases = [*CASES, (1.3, 1.3, 1 - 1e-9)]
    got, wanted = duals(more, cases), duals(ACTIVATIONS["relu"], cases)
    np.testing.assert_allclose(means(got) / wanted.xx, means(wanted) / wanted.xx, rtol=0, atol=3e-14)
    np.testing.assert_allclose(got.slope, wanted.slope, rtol=0, atol=3e-14)


@pytest.mark.slow
def test_a_kink_that_is_not_named_is_seen_in_the_error():
    hidden = Activation("hidden", lambda z: jnp.maximum(z, 0.4), kinks=(0.0,))
    told = replace(hidden, kinks=(0.4,))
    wrong, right = duals(hidden, CASES), duals(told, CASES)
    assert np.all(right.error < 1e-12) and np.all(wrong.error > 1e-5)
    off = np.abs(wrong.gap - right.gap) + np.abs(wrong.slope - right.slope)
    assert np.all(off > 1e-6)


def test_the_error_is_a_bound():
    rough, fine = (duals(replace(ACTIVATIONS["softsign"], degree=degree), CASES) for degree in (8, 512))
    off = np.abs(rough.gap - fine.gap)
    assert np.all(off <= rough.error + fine.error) and np.all(rough.error < 0.2)
    assert off.max() > 1e-9


def test_jumps_away_from_zero():
    """The mean of two indicators of u, v > b is a normal orthant probability; at equal inputs it is that of one."""
    act = Activation("late_step", lambda z: jnp.where(z > 1.0, 1.0, 0.0 * z), kinks=(1.0,))
    out = duals(act, [(1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (4.0, 1.0, 0.0)])
    np.testing.assert_allclose(means(out), [ndtr(-1) ** 2, ndtr(-1), ndtr(-0.5) * ndtr(-1)], rtol=1e-13)
    assert np.all(out.slope == 0) and out.gap[1] == 0


CORNERS = [
    (1.3, 1.3, 0.0, 2.0),
    (1.3, 1.3, 2.0, 0.0),
    (0.0, 1.0, 1.0, 1.0),
    (0.0, 0.0, 1.0, 1.0),
    (0.7, 1.9, 0.4, 1.6),
]


@pytest.mark.parametrize("name", [pytest.param("hard_tanh", marks=pytest.mark.slow), "elu"])
def test_gradients_are_finite_and_right(name):
    act = ACTIVATIONS[name]
    columns = tuple(jnp.asarray(column) for column in zip(*CORNERS, strict=True))
    out, jacobian = jax.jit(
        lambda pairs: (
            jax.vmap(act.dual)(*pairs),
            jax.vmap(jax.jacfwd(lambda pair: jnp.stack(jax.tree.leaves(act.dual(*pair))[:5])))(pairs),
        )
    )(columns)
    assert all(np.all(np.isfinite(part)) for part in jacobian)
    # Price: dF/dc = D, so the new gap grows with the gap by D sqrt(q1 q2) / sqrt(F11 F22).
    wanted = out.slope[-1] * math.sqrt(0.7 * 1.9) / np.sqrt(out.xx[-1] * out.yy[-1])
    assert float(jacobian[2][-1, 2] - jacobian[3][-1, 2]) == pytest.approx(float(wanted), rel=1e-10)


@pytest.mark.slow
def test_kernels_take_as_many_nodes_as_the_tolerance_needs():
    network, X = (
        MLP(activation="softsign", depth=1, weight_variance=16.0).network(),
        np.array([[1.0, 0.5], [0.3, -1.0]]),
    )
    rough, fine = kernel(network, X, tolerance=1e-4), kernel(network, X)
    assert 1e-10 < rough.error < 1e-4 and fine.error < 1e-10
    assert np.abs(rough.ntk - fine.ntk).max() <= (rough.error + fine.error) * fine.ntk.max() * 16


def test_too_many_kinks_and_impossible_ones_are_refused():
    with pytest.raises(ValueError, match=r"'stairs' with 9 kinks.*at most 8 kinks.*Give closed="):
        Activation("stairs", jnp.floor, kinks=tuple(map(float, range(9))))
    for kinks in ((math.nan,), (1.0, 1.0)):
        with pytest.raises(ValueError, match="finite numbers, each named once"):
            Activation("odd", jnp.tanh, kinks=kinks)
