"""Signal propagation against closed forms and published or independently computed fixed points."""

import numpy as np
import pytest

from widthwise.networks import MLP, Apply, Chain, Dense
from widthwise.theory.signal import fixed_point, propagation, response


def block(name, weight_variance, bias_variance=0.0):
    return Chain((Apply(name), Dense(float(weight_variance), float(bias_variance))))


# tanh at C_b = 0.05: (C_w, q*, chi_parallel, chi_perp), computed with another quadrature.
TANH = [
    (1.0, 0.193592520245, 0.564279982, 0.7590316472),
    (1.5, 0.418037200533, 0.5519832057, 0.9386362682),
    (2.5, 1.06395837742, 0.4284638509, 1.133515699),
    (4.0, 2.19549392803, 0.3181950994, 1.342402414),
]


@pytest.mark.parametrize(("weight", "q", "parallel", "perpendicular"), TANH)
@pytest.mark.parametrize("start", [0.01, 30.0])
def test_fixed_points_of_tanh(weight, q, parallel, perpendicular, start):
    found = fixed_point(block("tanh", weight, 0.05), start)
    assert found.value == pytest.approx(q, rel=1e-11)
    assert found.response.parallel == pytest.approx(parallel, rel=1e-9)
    assert found.response.perpendicular == pytest.approx(perpendicular, rel=1e-9)
    assert found.response.phase == ("ordered" if perpendicular < 1 else "chaotic")


def test_depth_scale_of_the_ordered_phase():
    """Published for tanh at C_w = 1, C_b = 0.05 as xi_c = 3.62698."""
    assert fixed_point(block("tanh", 1.0, 0.05), 1.0).depth_scale == pytest.approx(3.62698, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "weight", "value", "phase", "everywhere"),
    [
        ("relu", 2.0, 0.7, "critical", True),
        ("relu", 1.5, 0.0, "ordered", False),
        ("relu", 2.5, np.inf, "chaotic", False),
        ("tanh", 1.0, 0.0, "critical", False),
        ("erf", np.pi / 4, 0.0, "critical", False),
    ],
)
def test_ends_at_zero_and_infinity(name, weight, value, phase, everywhere):
    found = fixed_point(block(name, weight), 0.7)
    assert found.value == value
    assert found.response.phase == phase
    assert found.everywhere is everywhere


def test_edge_of_chaos_of_erf():
    r"""In closed form $C_w = \frac\pi4\sqrt{1 + 4q}$, $C_b = q - C_w\frac2\pi\arcsin\frac{2q}{1+2q}$; here q = 1."""
    weight = np.pi / 4 * np.sqrt(5.0)
    bias = 1.0 - weight * 2 / np.pi * np.arcsin(2 / 3)
    found = response(block("erf", weight, bias), 1.0)
    assert found.perpendicular == pytest.approx(1.0, abs=1e-13)
    assert found.phase == "critical"
    assert fixed_point(block("erf", weight, bias), 3.0).value == pytest.approx(1.0, rel=1e-9)


def test_response_is_the_derivative_of_the_variance():
    step = 1e-5
    network = Chain((Apply("gelu"), Dense(1.3, 0.2)))
    around = [propagation(network, [0.8 + sign * step]).variance[0, 0] for sign in (1, -1)]
    slope = (around[0] - around[1]) / (2 * step)
    assert response(network, 0.8).parallel == pytest.approx(slope, rel=1e-8)


def test_propagation_of_a_relu_network_is_a_product():
    found = propagation(MLP(depth=3, activation="relu", weight_variance=1.6).network(), [1.0, 2.5, 0.0])
    np.testing.assert_allclose(found.variance[0], [1.6, 1.6 * 0.8, 1.6 * 0.8**2, 0.5 * 1.6 * 0.8**2], rtol=1e-14)
    np.testing.assert_allclose(found.variance[1], 2.5 * found.variance[0], rtol=1e-14)
    # The mean slope of the readout, of weight variance 1, is 1/2; of each hidden layer 0.8.
    np.testing.assert_allclose(found.gradient[0], [0.5 * 0.8**2, 0.5 * 0.8, 0.5, 1.0], rtol=1e-14)
    assert np.all(found.variance[2] == 0)


@pytest.mark.slow
def test_large_inputs_get_the_terms_they_need():
    """The terms grow with the input; the finest result is that of a plain sum over a dense grid."""
    network = MLP(depth=1, activation="tanh").network()
    rough = propagation(network, [0.5, 8.0], tolerance=1e-2).gradient[:, 0]
    fine = propagation(network, [0.5, 8.0], tolerance=1e-9).gradient[:, 0]
    assert rough[0] == pytest.approx(fine[0], rel=1e-9)
    assert 1e-6 < abs(rough[1] / fine[1] - 1) < 1e-2
    nodes = np.linspace(-12, 12, 4001)
    weight = np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi) * (nodes[1] - nodes[0])
    assert fine[1] == pytest.approx(np.sum(weight / np.cosh(np.sqrt(8.0) * nodes) ** 4), rel=1e-9)


@pytest.mark.slow
def test_what_no_number_of_terms_reaches_is_refused():
    with pytest.raises(ValueError, match="tolerance"):
        propagation(MLP(depth=1, activation="tanh").network(), [5000.0])


@pytest.mark.parametrize("q", [[-1.0], [np.nan], [np.inf], [[1.0]]])
def test_impossible_mean_squares_are_refused(q):
    with pytest.raises(ValueError, match="mean square"):
        propagation(MLP().network(), q)


@pytest.mark.parametrize("start", [0.0, -1.0, np.inf])
def test_impossible_starts_are_refused(start):
    with pytest.raises(ValueError, match="variance of"):
        fixed_point(block("relu", 2.0), start)
    with pytest.raises(ValueError, match="positive variance"):
        response(block("relu", 2.0), start)
