"""Edges of chaos, phases, depth scales and maps against published numbers and closed forms."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.theory.criticality import (
    correlation_map,
    depth_scales,
    edge_of_chaos,
    phase_diagram,
    trajectory,
    variance_map,
)

# tanh: (q, C_w, C_b), computed with another quadrature.
EDGE = [
    (0.1, 1.17756909616, 8.32280424686e-4),
    (0.5, 1.68797512058, 0.0380412011113),
    (1.0, 2.1533026489, 0.150964629379),
    (2.0, 2.8611624, 0.512264947595),
]
# tanh at fixed C_b: the C_w of the edge; 1.76 at 0.05 is published.
AT_BIAS = [(0.01, 1.42420529049), (0.05, 1.76095463961), (0.1, 1.98607264114), (0.3, 2.50512718968)]
# tanh at C_b = 0.05: C_w, q*, chi_parallel, chi_perp, xi_q, rho*, xi_c.
SCALES = [
    (1.0, 0.193592520245, 0.564279982, 0.7590316472, 1.74763, 1.0, 3.62698),
    (1.5, 0.418037200533, 0.5519832057, 0.9386362682, 1.68283, 1.0, 15.791),
    (2.5, 1.06395837742, 0.4284638509, 1.133515699, 1.17987, 0.4468042323, 11.7956),
    (4.0, 2.19549392803, 0.3181950994, 1.342402414, 0.873293, 0.165064962, 6.98027),
]


def test_edge_of_chaos_of_tanh():
    q, weight, bias = np.array(EDGE).T
    found = edge_of_chaos("tanh", q)
    np.testing.assert_allclose(found.weight_variance.value, weight, rtol=5e-12)
    np.testing.assert_allclose(found.bias_variance.value, bias, rtol=5e-12)
    assert np.all(found.weight_variance.error < 1e-13)
    assert np.all(found.reachable)
    assert np.all(found.chi_parallel.value < 1)


@pytest.mark.parametrize(("bias", "weight"), AT_BIAS)
def test_edge_of_chaos_at_a_bias_variance(bias, weight):
    point = edge_of_chaos("tanh").at_bias_variance(bias)
    assert point.weight_variance.value == pytest.approx([weight], rel=5e-12)
    if bias == 0.05:
        assert point.variances == pytest.approx([0.570047881641], rel=5e-12)


def test_edge_of_chaos_of_erf_in_closed_form():
    q = np.geomspace(0.01, 10.0, 7)
    found = edge_of_chaos("erf", q)
    weight = math.pi / 4 * np.sqrt(1 + 4 * q)
    bias = q - weight * 2 / math.pi * np.arcsin(2 * q / (1 + 2 * q))
    for part, value in ((found.weight_variance, weight), (found.bias_variance, bias)):
        assert np.all(np.abs(part.value - value) <= part.error + 1e-15 * q)


def test_the_rectifier_has_one_point():
    found = edge_of_chaos("relu", [0.5, 3.0])
    np.testing.assert_allclose(found.weight_variance.value, 2.0, rtol=1e-14)
    np.testing.assert_allclose(found.bias_variance.value, 0.0, atol=1e-14)


@pytest.mark.parametrize(("weight", "q", "parallel", "perp", "xi_q", "rho", "xi_c"), SCALES)
def test_depth_scales_of_tanh(weight, q, parallel, perp, xi_q, rho, xi_c):
    found = depth_scales("tanh", weight, 0.05)
    printed = ((found.variance, q, 5e-12), (found.chi_parallel, parallel, 5e-10), (found.chi_perp, perp, 5e-10))
    for part, value, digits in (
        *printed,
        (found.xi_q, xi_q, 4e-6),
        (found.correlation, rho, 5e-10),
        (found.xi_c, xi_c, 4e-6),
    ):
        assert float(part.value) == pytest.approx(value, rel=digits)
        assert part.error < 1e-10
    assert found.phase == ("ordered" if perp < 1 else "chaotic")


ENDS = [
    ("relu", 2.0, 0.0, 0.7, "critical", True),
    ("relu", 1.5, 0.0, 0.0, "ordered", False),
    ("relu", 2.5, 0.0, math.inf, "chaotic", False),
    ("relu", 1.0, 1e-7, 2e-7, "ordered", False),
    ("tanh", 1.0, 0.0, 0.0, "critical", False),
    ("hard_tanh", 1.0, 0.0, 0.0, "critical", False),
    ("exp", 5.0, 0.1, math.inf, "chaotic", False),
]


@pytest.mark.parametrize(("name", "weight", "bias", "value", "phase", "everywhere"), ENDS)
def test_ends_at_zero_and_infinity(name, weight, bias, value, phase, everywhere):
    """The rectifier's are exact; hard_tanh falls so slowly that rounding must not be taken for a fixed point."""
    found = depth_scales(name, weight, bias, start=0.7)
    assert float(found.variance.value) == pytest.approx(value, rel=1e-12)
    assert bool(found.everywhere) is everywhere
    if math.isfinite(value):
        assert found.phase == phase


# Without a correlation of its own: the limit is where the first layer's correlation leads.
STARTS_COUNT = [
    ("tanh", 0.5, 0.0),
    ("tanh", 1.0, 0.0),
    ("elu", 1.0, 0.0),
    ("identity", 1.0, 0.0),
    ("identity", 0.5, 0.0),
    ("identity", 3.0, 0.1),
]


@pytest.mark.parametrize(("name", "weight", "bias"), STARTS_COUNT)
def test_correlations_that_depend_on_their_start(name, weight, bias):
    found = depth_scales(name, weight, bias)
    assert math.isnan(found.correlation.value)
    assert found.correlation.error == math.inf
    assert found.xi_c.value == math.inf
    for start in (0.2, 0.8):
        gap = trajectory(name, weight, bias, depth=400, correlation=start).gap
        assert abs(gap[-1] - (1 - start)) < 0.15  # of its own
        assert abs(gap[-1] / gap[200] - 1) < 1e-2


# Inputs that merge like a power of the depth: gaps of the rectifier's kink fall like l^-2, by variances like l^-1.
MERGING = [
    ("relu", 2.0, 0.0, -2),
    ("relu", 1.5, 0.0, -2),
    ("relu", 3.0, 0.1, -2),
    ("leaky_relu", 1.0, 0.0, -2),
    ("selu", 0.3, 0.0, -2),
    ("gelu", 2.5, 0.0, -2),
    ("identity", 1.0, 0.1, -1),
]


@pytest.mark.parametrize(("name", "weight", "bias", "power"), MERGING)
def test_inputs_that_merge_like_a_power_of_the_depth(name, weight, bias, power):
    found = depth_scales(name, weight, bias)
    assert (float(found.correlation.value), float(found.correlation.error)) == (1.0, 0.0)
    assert found.xi_c.value == math.inf
    # This root grows like l + l_0, with corrections of the order log(l)/l.
    root = trajectory(name, weight, bias, depth=400, correlation=0.2).gap[[199, 299, 399]] ** (1 / power)
    assert (root[2] - root[1]) / (root[1] - root[0]) == pytest.approx(1.0, abs=0.02)


def test_correlations_of_variances_that_vanish_faster_than_exponentially():
    r"""For $z^2$ a layer maps $\rho' = (1 + 2\rho^2)/3$, with the fixed point 1/2 and the slope 2/3 there."""
    square = activation(lambda z: z**2, kinks=())
    found = depth_scales(square, 0.1, start=0.5)
    assert abs(found.correlation.value - 0.5) <= found.correlation.error < 1e-6
    assert abs(found.xi_c.value - 1 / math.log(1.5)) <= found.xi_c.error < 1e-5
    # Before numbers underflow.
    path = trajectory(square, 0.1, depth=7, variance=0.5, correlation=0.6).correlation
    assert (path[-1] - 0.5) / (path[-2] - 0.5) == pytest.approx(2 / 3, abs=0.02)


def test_bent_activations_lead_to_one_half_where_variances_fall_slowly():
    bent = activation(lambda z: jnp.tanh(z) + 0.5 * z * jnp.tanh(z), kinks=())
    assert depth_scales(bent, 1.0).variance.value == 0.0
    assert depth_scales(bent, 1.0).correlation.value == 0.5
    assert math.isnan(depth_scales(bent, 0.5).correlation.value)
    ends = [trajectory(bent, 1.0, depth=20_000, correlation=start).correlation[[2000, 19999]] for start in (0.1, 0.9)]
    assert np.all(np.abs(np.array(ends)[:, 1] - 0.5) < np.abs(np.array(ends)[:, 0] - 0.5))


@pytest.mark.parametrize("start", [20.0, 0.7])
def test_half_stable_points_are_passed_by(start):
    """Below the critical variance of GELU, at the same weights and biases, lies one that is stable from both sides."""
    found = depth_scales("gelu", 1.983058257437547, 0.17292239075606736, start=start)
    q = float(found.variance.value)
    assert q == pytest.approx(3.035, abs=1e-3)
    path = trajectory("gelu", 1.983058257437547, 0.17292239075606736, depth=2, variance=q).variance
    assert path[1] == pytest.approx(q, rel=1e-12)
    assert found.chi_parallel.value < 1


@pytest.mark.parametrize("name", ["erf", "hard_tanh"])
def test_phase_diagram_is_depth_scales_on_a_grid(name):
    weights, biases = np.array([0.8, 1.9, 3.0]), np.array([0.0, 0.2])
    grid = phase_diagram(name, weights, biases).scales
    assert grid.phase.shape == (2, 3)
    one = depth_scales(name, 3.0, 0.2)
    for field in ("variance", "correlation", "chi_perp", "xi_q", "xi_c"):
        cell, alone = getattr(grid, field), getattr(one, field)
        assert abs(cell.value[1, 2] - alone.value) <= cell.error[1, 2] + alone.error + 1e-12


def test_fixed_correlations_are_kept_by_the_map():
    for name in ("hard_tanh", "erf", "tanh"):
        found = depth_scales(name, 1.9, 0.1)
        if found.phase == "chaotic":
            rho = float(found.correlation.value)
            kept = correlation_map(name, 1.9, 0.1, variance=float(found.variance.value), correlations=[rho])
            assert kept.mapped.value == pytest.approx([rho], abs=1e-9)
            assert kept.slope.value == pytest.approx([math.exp(-1 / float(found.xi_c.value))], rel=1e-7)


def test_correlations_of_the_rectifier_in_closed_form():
    angle, found = math.pi / 3, trajectory("relu", 2.0, depth=4, correlation=0.5)
    for layer in range(1, 4):
        angle = math.acos((math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi)
        assert found.correlation[layer] == pytest.approx(math.cos(angle), rel=1e-14)
    expected = (0.915999908012604, 0.817693675530719, 0.740504639646550)
    np.testing.assert_allclose(np.arccos(found.correlation[1:]), expected, rtol=1e-13)


def test_variances_and_angles_of_tanh_far_down():
    found = trajectory("tanh", 1.0, depth=1000)
    expected = [0.0580118478402, 0.00512071566599, 0.000501666534947]
    np.testing.assert_allclose(found.variance[[9, 99, 999]], expected, rtol=5e-12)
    drift = trajectory("tanh", 1.0, depth=101, correlation=0.5).correlation
    np.testing.assert_allclose(drift[[1, 10, 100]], [0.47255140, 0.44626447, 0.44110955], atol=6e-9)


def test_variance_map_meets_the_diagonal_at_the_fixed_point():
    q = 0.418037200533
    found = variance_map("tanh", 1.5, 0.05, [q])
    assert found.mapped.value == pytest.approx([q], rel=1e-11)
    assert found.chi_parallel.value == pytest.approx([0.5519832057], rel=1e-9)


BAD = [
    (lambda: depth_scales("tanh", 0.0), "weight_variance=0"),
    (lambda: depth_scales("tanh", math.nan), "weight_variance=nan"),
    (lambda: depth_scales("tanh", 1.0, -0.1), "bias_variance=-0.1"),
    (lambda: depth_scales("tanh", 1.0, start=0.0), "start=0"),
    (lambda: phase_diagram("tanh", [[1.0]], [0.0]), "one-dimensional"),
    (lambda: phase_diagram("tanh", [], [0.0]), "one-dimensional"),
    (lambda: edge_of_chaos("tanh", [1.0, 0.5]), "increasing"),
    (lambda: edge_of_chaos("tanh", [-1.0]), "positive"),
    (lambda: edge_of_chaos("sign"), "jumps"),
    (lambda: edge_of_chaos("tanh").at_bias_variance(-1.0), "at least 0"),
    (lambda: edge_of_chaos("tanh", [1.0, 2.0]).at_bias_variance(9.0), "does not meet"),
    (lambda: edge_of_chaos("relu").at_bias_variance(0.0), "at all of 201 variances"),
    (lambda: trajectory("tanh", 1.0, depth=0), "depth=0"),
    (lambda: trajectory("tanh", 1.0, depth=3, correlation=1.5), "between -1 and 1"),
    (lambda: trajectory("tanh", -1.0, depth=3), "weight_variance=-1"),
    (lambda: correlation_map("tanh", 1.0, correlations=[2.0]), "between -1 and 1"),
    (lambda: correlation_map("tanh", 1.0, variance=0.0), "above 0"),
    (lambda: variance_map("tanh", 1.0, variances=[0.0]), "above 0"),
    (lambda: variance_map("thanh", 1.0), "did you mean 'tanh'"),
]


@pytest.mark.parametrize(("call", "told"), BAD, ids=range(len(BAD)))
def test_what_is_out_of_range_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
