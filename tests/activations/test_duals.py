"""Every activation of the catalogue: its dual, its bounds, its critical point."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from kinds import KINDS, one_of_each_kind
from oracles.reference import dual as slow_dual
from widthwise.activations import ACTIVATIONS, activation, angle, leaky_relu
from widthwise.numerics import normal_rule

NAMES = sorted(ACTIVATIONS)
# (q1, q2, cosine): equal and unequal norms, near, opposite, orthogonal.
PAIRS = [(1.0, 1.0, 0.3), (0.7, 1.9, -0.4), (1.2, 0.8, 0.5), (2.0, 2.0, 0.999), (0.5, 1.5, -0.999), (1.0, 1.0, 0.0)]


_dual = eqx.filter_jit(lambda act, *pair: act.dual(*pair))


def moments(act, q1, q2, cosine):
    out = _dual(act, *(jnp.asarray(v) for v in (q1, q2, 1 - cosine, 1 + cosine)))
    mean = np.sqrt(out.xx * out.yy) * 0.5 * (out.cogap - out.gap)
    return float(out.xx), float(out.yy), float(mean), float(out.slope), float(out.error)


def converged(act, q1, q2, cosine):
    """The dual by cells when kinked, by the tensor trapezoid rule when smooth: no code shared with closed forms."""
    if act.kinks:
        return moments(replace(act, closed=None), q1, q2, cosine)
    x, w = normal_rule(600)
    u = np.sqrt(q1) * x[:, None] + 0 * x[None, :]
    v = np.sqrt(q2) * (cosine * x[:, None] + np.sqrt(1 - cosine**2) * x[None, :])
    weight, slope = w[:, None] * w[None, :], jnp.vectorize(jax.grad(act.fn))
    total = lambda values: float(np.sum(weight * np.asarray(values)))  # noqa: E731
    fn = act.fn
    return total(fn(u) ** 2), total(fn(v) ** 2), total(fn(u) * fn(v)), total(slope(u) * slope(v)), 0.0


# Numerical duals of kinked functions have references of their own, in test_cells.py.
CHECKED = [name for name in NAMES if ACTIVATIONS[name].smooth or ACTIVATIONS[name].closed]
# Closed forms have sixty digits to agree with in test_closed.py.
MORE = ("leaky_relu", "silu", "sigmoid", "mish", "arctan", "gelu_tanh")


@pytest.mark.parametrize("name", one_of_each_kind(CHECKED))
@pytest.mark.parametrize("pair", PAIRS)
def test_duals_equal_quadrature(name, pair):
    act = replace(ACTIVATIONS[name], degree=512)
    *got, error = moments(act, *pair)
    *wanted, _ = converged(act, *pair)
    scale = np.sqrt(got[0] * got[1])
    # Rounding of 360,000 terms, and what the series says it leaves out.
    np.testing.assert_allclose(got[:3], wanted[:3], atol=(1e-13 + error) * scale, rtol=0)
    assert abs(got[3] - wanted[3]) < 1e-13 + error * max(1.0, abs(wanted[3])) * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("tanh", mp.tanh),
        ("erf", mp.erf),
        ("gelu", lambda z: z * mp.ncdf(z)),
        ("softplus", lambda z: mp.log1p(mp.exp(z))),
    ],
)
def test_duals_equal_mpmath(name, fn):
    act = replace(ACTIVATIONS[name], degree=512)
    q1, q2, cosine = 0.9, 1.4, 0.6
    wanted = slow_dual(fn, q1, cosine * np.sqrt(q1 * q2), q2)
    assert moments(act, q1, q2, cosine)[2] == pytest.approx(wanted, rel=1e-12)


def test_reference_numbers_of_numerical_duals():
    # Hermite coefficients of tanh and the rank-one check of SiLU at unequal norms.
    _, _, mean, _, _ = moments(replace(ACTIVATIONS["silu"], degree=256), 0.7, 1.9, np.cos(2.0))
    assert mean == pytest.approx(-0.0543363260460075, abs=3e-15)
    _, _, mean, _, _ = moments(replace(ACTIVATIONS["tanh"], degree=512), 1.0, 1.0, 0.6)
    # By a tensor trapezoid rule; Gauss-Hermite rules of 60 nodes are still wrong in the ninth digit.
    assert mean == pytest.approx(0.2252221535268836, abs=3e-15)


@pytest.mark.parametrize("degree", [8, 16, 32, 64])
def test_the_error_of_the_series_is_a_bound_and_not_a_guess(degree):
    act = ACTIVATIONS["tanh"]
    rough, fine = (moments(replace(act, degree=k), 1.0, 1.5, 0.9) for k in (degree, 1024))
    scale = np.sqrt(fine[0] * fine[1])
    assert abs(rough[2] - fine[2]) / scale <= rough[4]
    assert rough[4] < 1.0 and rough[4] > fine[4]


@pytest.mark.parametrize("name", one_of_each_kind())
def test_equal_inputs_stay_equal(name):
    out = _dual(ACTIVATIONS[name], *(jnp.asarray(v) for v in (1.3, 1.3, 0.0, 2.0)))
    assert float(out.gap) == 0.0
    assert float(out.xx) == float(out.yy)


@pytest.mark.parametrize("name", [name for name in NAMES if ACTIVATIONS[name].closed is not None])
def test_equal_variances_have_derivatives_of_their_own(name):
    def powers(variances):
        out = ACTIVATIONS[name].dual(*variances, jnp.asarray(0.4), jnp.asarray(1.6))
        return jnp.stack([out.xx, out.yy])

    found = jax.jacfwd(powers)(jnp.asarray([1.3, 1.3]))
    np.testing.assert_allclose(found, found[0, 0] * np.eye(2), rtol=1e-14)


@pytest.mark.parametrize("name", ["identity", "erf", "sin", "tanh"])
def test_odd_functions_keep_opposite_inputs_opposite(name):
    out = ACTIVATIONS[name].dual(*(jnp.asarray(v) for v in (1.3, 1.3, 2.0, 0.0)))
    # Even coefficients vanish to rounding, and the cogap is quadratic in them.
    assert float(out.cogap) < 1e-25


@pytest.mark.parametrize("name", one_of_each_kind([name for name in NAMES if ACTIVATIONS[name].smooth]))
def test_small_gaps_keep_their_relative_precision(name):
    """At equal norms the new gap is slope q/F times the small gap, to first order in it."""
    q = jnp.asarray(1.3)
    act = replace(ACTIVATIONS[name], degree=512)
    for gap in (1e-20, 1e-12):
        out = act.dual(q, q, jnp.asarray(gap), jnp.asarray(2.0 - gap))
        expected = gap * out.slope * q / out.xx
        assert float(out.gap / expected) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("gap", [1e-30, 1e-18, 1e-12, 1e-8, 1e-4, 0.01, 0.04, 0.05, 0.3, 1.0, 1.9])
@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0])
def test_rectifier_gaps_to_relative_rounding(gap, slope):
    with mp.workdps(50):
        exact = mp.mpf(gap)
        theta = 2 * mp.asin(mp.sqrt(exact / 2))
        a, power = mp.mpf(slope), (1 + mp.mpf(slope) ** 2) / 2
        mean = (1 - a) ** 2 / (2 * mp.pi) * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) + a * mp.cos(theta)
        wanted = float(1 - mean / power)
    one = jnp.asarray(1.0)
    got = leaky_relu(slope).dual(one, one, jnp.asarray(gap), jnp.asarray(2 - gap))
    assert float(got.gap) == pytest.approx(wanted, rel=2e-14)


# A jump has no bound on its slope, which automatic differentiation takes to be zero.
JUMPS = ("sign", "step")


@pytest.mark.parametrize("name", one_of_each_kind())
def test_bounds_are_suprema(name):
    act = ACTIVATIONS[name]
    z = jnp.linspace(-12, 12, 200_001)
    first, second = jax.vmap(jax.grad(act.fn)), jax.vmap(jax.grad(jax.grad(act.fn)))
    for bound, order in ((act.slope_bound, first), (act.curvature_bound, second), (act.value_bound, act.fn)):
        sizes = jnp.abs(order(z))
        if np.isfinite(bound):
            # Some suprema are approached only far away, or at a kink.
            far = jnp.abs(order(jnp.asarray([-1e6, -1e-9, 1e-9, 1e6])))
            assert float(jnp.max(sizes)) <= bound * (1 + 1e-9)
            assert max(float(jnp.max(sizes)), float(jnp.max(far))) >= bound * (1 - 1e-4)
        elif not act.kinks or order is not second:
            assert name in JUMPS or float(jnp.max(sizes)) > 1.5 * float(jnp.max(sizes[jnp.abs(z) < 6]))
    assert not act.kinks or np.isinf(act.curvature_bound)
    assert name not in JUMPS or np.isinf(act.slope_bound)


# The variance at which an initialisation is critical; for the others it is the limit of zero.
FIXED = {
    "gelu": (3 + 17**0.5) / 2,
    "silu": 14.320173618025799,
    "gelu_tanh": 3.55677284472,
    "mish": 1.67016913248,
    "hard_swish": 4.80385594888,
}


CRITICAL = [name for name in NAMES if ACTIVATIONS[name].critical]


@pytest.mark.parametrize("name", one_of_each_kind(CRITICAL, (*KINDS, *FIXED)))
def test_critical_points_are_critical(name):
    """Both susceptibilities are one at the fixed point (in the limit of zero variance for the others)."""
    act = ACTIVATIONS[name]
    act = replace(act, degree=512) if act.smooth else act
    weight, bias = act.critical
    fixed = FIXED.get(name, 1e-10)
    seen, *around = (power(act, fixed * (1 + step)) for step in (0.0, 0.01, -0.01, 0.02, -0.02))
    first, second = (float(a.xx - b.xx) for a, b in (around[:2], around[2:]))
    along = weight * (8 * first - second) / (0.12 * fixed)
    # A curvature that jumps at zero makes a difference of order sqrt(q), 1e-5, and q to the order one elsewhere.
    tolerance = 1e-7 if act.smooth or bias else 1e-4
    assert weight * float(seen.slope) == pytest.approx(1.0, abs=tolerance)
    assert along == pytest.approx(1.0, abs=tolerance)
    if bias:
        assert bias + weight * float(seen.xx) == pytest.approx(fixed, rel=1e-9)


def power(act, q):
    """The dual of an input of mean square q with itself."""
    return _dual(act, *(jnp.asarray(v) for v in (q, q, 0.0, 2.0)))


def test_angles_are_right_at_both_ends():
    for theta in (1e-14, 1e-7, 0.5, np.pi / 2, np.pi - 1e-7):
        gap, cogap = 2 * np.sin(theta / 2) ** 2, 2 * np.cos(theta / 2) ** 2
        assert float(angle(jnp.asarray(gap), jnp.asarray(cogap))) == pytest.approx(theta, rel=1e-15)


def test_unknown_activations_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        activation("gleu")


def test_a_slope_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        leaky_relu(float("inf"))
