"""Critical points of activations against independently computed tables, scaling laws and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import ACTIVATIONS, activation, leaky_relu
from widthwise.theory.criticality import critical_init, decay_logarithm, origin, second_term


def quick_gelu(z):
    return z * jax.nn.sigmoid(1.702 * z)


def shifted_softplus(z):
    return jax.nn.softplus(z) - math.log(2.0)


# (activation, C_w, C_b, K*, bend a_1) with the printed digits of the table; another quadrature, checked with mpmath.
HALF_STABLE = [
    ("gelu", 1.9830582574375471, 0.17292239075606735, 3.5615528128088303, -1.436e-4),
    ("gelu_tanh", 1.98288823982, 0.172895198264, 3.55677284472, None),
    ("silu", 1.988004678269492, 0.5551431707215304, 14.320173618025799, 2.85e-6),
    (activation(quick_gelu, kinks=()), 1.98800467827, 0.191639879923, 4.94343891338, None),
    ("mish", 2.01352406972, 0.0945217873707, 1.67016913248, 7.89e-3),
    ("hard_swish", 1.97328958364, 0.507145848789, 4.80385594888, 1.39e-3),
]


@pytest.mark.parametrize(("wanted", "weight", "bias", "variance", "bend"), HALF_STABLE, ids=lambda one: str(one)[:24])
def test_half_stable_points(wanted, weight, bias, variance, bend):
    found = critical_init(wanted)
    assert found.kind == "half-stable"
    best = found.best
    for part, value in ((best.weight_variance, weight), (best.bias_variance, bias), (best.variance, variance)):
        assert part.value == pytest.approx(value, abs=max(part.error, 6e-12 * max(1.0, value)))
        assert part.error < 1e-11
    assert abs(best.chi_parallel.value - 1.0) <= best.chi_parallel.error < 1e-13
    assert best.chi_perp.error < 1e-13
    if bend is not None:
        assert best.bend.value == pytest.approx(bend, rel=2e-3)
    assert best.side == ("above" if best.bend.value < 0 else "below")
    # The input scale that starts at K* is not K*.
    assert found.input_mean_square == pytest.approx((variance - bias) / weight, rel=1e-9)
    assert [point.kind for point in found.points] == ["half-stable", "unstable"]


# Scale-invariant ones and those that are critical at K* = 0: (C_w, bend, power of the bend).
AT_ZERO = [
    ("tanh", 1.0, -2.0, 2.0),
    ("sin", 1.0, -1.0, 2.0),
    ("arctan", 1.0, -2.0, 2.0),
    ("hard_tanh", 1.0, 0.0, 2.0),
    ("erf", math.pi / 4, -2.0, 2.0),
    ("softsign", 1.0, -4 * math.sqrt(2 / math.pi), 1.5),
    ("elu", 1.0, -math.sqrt(2 / math.pi), 1.5),
    ("selu", 0.476771017883, None, 1.5),
    ("relu6", 2.0, 0.0, 1.5),
    (activation(jnp.arcsinh, kinks=()), 1.0, -1.0, 2.0),
]


@pytest.mark.parametrize(("wanted", "weight", "bend", "power"), AT_ZERO, ids=lambda one: str(one)[:24])
def test_points_at_variance_zero(wanted, weight, bend, power):
    found = critical_init(wanted)
    assert (found.kind, len(found.points), found.best.power) == ("vanishing", 1, power)
    assert found.weight_variance.value == pytest.approx(weight, abs=5e-13)
    assert found.bias_variance.value == found.variance.value == 0.0
    if bend is not None:
        assert found.best.bend.value == pytest.approx(bend, rel=1e-13)
    assert found.input_mean_square is None


@pytest.mark.parametrize(("slope", "weight"), [(0.01, 1.99980002), (0.2, 1.92307692308), (-1.0, 1.0), (0.0, 2.0)])
def test_scale_invariant_activations(slope, weight):
    found = critical_init(leaky_relu(slope))
    assert found.kind == "scale-invariant"
    assert found.weight_variance.value == pytest.approx(weight, abs=5e-12)
    assert math.isnan(found.variance.value)
    assert found.best.side == "everywhere"


@pytest.mark.parametrize(("fn", "weight"), [(jnp.sinh, 1.0), (jnp.expm1, 1.0), (shifted_softplus, 4.0)])
def test_unstable_points_at_zero_are_told(fn, weight):
    found = critical_init(activation(fn, kinks=()))
    assert (found.kind, found.best.side) == ("unstable", "neither")
    assert found.weight_variance.value == pytest.approx(weight, rel=1e-14)
    assert found.best.bend.value > 0


@pytest.mark.parametrize("name", ["sigmoid", "exp", "squared_relu", "cos", "gaussian"])
def test_the_semi_critical_point_lies_on_the_edge_of_chaos(name):
    found = critical_init(name)
    assert (found.kind, found.best.kind) == ("none", "semi-critical")
    assert found.bias_variance.value >= 0.0
    assert found.best.chi_perp.value == 1.0
    assert 0.0 < found.best.depth_scale < math.inf


def test_homogeneous_functions_of_higher_degree_have_chi_parallel_three_halves():
    """For the squared rectifier h is 1/2 at every variance."""
    assert critical_init("squared_relu").best.chi_parallel.value == pytest.approx(1.5, rel=1e-13)


@pytest.mark.parametrize(("fn", "parallel"), [(lambda z: jnp.maximum(z, 0.0) ** 2, 1.5), (lambda z: z**3, 5 / 3)])
def test_of_equal_semi_critical_points_the_one_nearest_variance_one_is_taken(fn, parallel):
    r"""For $z^p$ the scan is level: $\chi_\parallel = p\,m_0/(Km_1)$ does not depend on K."""
    act = activation(fn, kinks=(0.0,))
    found = critical_init(act)
    assert found.best.chi_parallel.value == pytest.approx(parallel, rel=1e-12)
    assert found.variance.value == pytest.approx(1.0, rel=1e-9)
    assert "border" not in repr(found)
    assert "border" in repr(critical_init(act, search=(2.0, 10.0)))


def test_sigmoid_is_best_where_the_bias_variance_ends():
    found = critical_init("sigmoid")
    assert found.bias_variance.value < 1e-6
    assert found.best.side == "both"


def test_softplus_has_no_point_at_all():
    found = critical_init("softplus")
    assert (found.kind, found.points) == ("none", ())
    assert "none" in repr(found)
    with pytest.raises(ValueError, match=r"'softplus'.*no critical point"):
        found.network()


def test_catalogue_agrees_with_the_solver():
    """The defaults of MLP are the points that are found."""
    for act in ACTIVATIONS.values():
        if act.critical is not None and act.name in ("abs", "gelu", "silu", "mish", "tanh"):
            found = critical_init(act)
            assert found.weight_variance.value == pytest.approx(act.critical[0], abs=1e-11)
            assert found.bias_variance.value == pytest.approx(act.critical[1], abs=1e-11)


@pytest.mark.parametrize(("inner", "outer"), [(2.0, 0.5), (1.0, 3.0)])
def test_scaling_laws(inner, outer):
    r"""$s(\beta z)c$ has $C_w/(c\beta)^2$, and $K_*$ and $C_b$ divided by $\beta^2$."""
    plain = critical_init("mish")
    scaled = critical_init(activation(lambda z: outer * jax.nn.mish(inner * z), kinks=()))
    factor = (inner * outer) ** 2
    assert scaled.weight_variance.value == pytest.approx(plain.weight_variance.value / factor, rel=1e-12)
    assert scaled.variance.value == pytest.approx(plain.variance.value / inner**2, rel=1e-11)
    assert scaled.bias_variance.value == pytest.approx(plain.bias_variance.value / inner**2, rel=1e-10)


def test_errors_are_true():
    """GELU's point in closed form lies within the errors that are told, and these are small."""
    best = critical_init("gelu").best
    K = 0.5 * (3 + math.sqrt(17))
    arc, r = math.asin(K / (1 + K)) / (2 * math.pi), math.sqrt(1 + 2 * K)
    kappa = (1 - K * K) / (1 + K) ** 2
    N = K * K * (1 + kappa)
    slope = 0.25 + arc + (K * (1 + 2 * kappa) / r + K * N / r**3) / (2 * math.pi)
    square = K * (0.25 + arc) + N / (2 * math.pi * r)
    for part, value in zip(
        (best.variance, best.weight_variance, best.bias_variance), (K, 1 / slope, K - square / slope), strict=True
    ):
        assert abs(part.value - value) <= part.error + 4e-16 * abs(value)
        assert part.error < 1e-12


def test_expansion_of_tanh():
    act = ACTIVATIONS["tanh"]
    found = origin(act)
    assert (found.leading, found.angle) == (-2.0, -2.0)
    assert second_term(act) == pytest.approx(17 / 3, rel=1e-14)
    assert decay_logarithm(act) == pytest.approx(-5 / 6, rel=1e-14)


def test_network_at_the_point():
    found = critical_init("gelu")
    mlp = found.network(width=32, depth=7)
    assert (mlp.width, mlp.depth) == (32, 7)
    assert mlp.variances == (found.weight_variance.value, found.bias_variance.value)
    with pytest.raises(ValueError, match="depth"):
        found.network(depth=0)


def test_it_prints_well():
    lines = repr(critical_init("gelu")).splitlines()
    assert lines[0].startswith("gelu: half-stable")
    assert any("1.98305825744 ±" in line for line in lines)


BAD = [
    ("nothing", "nothing"),
    (lambda z: jnp.zeros_like(z) + 3.0, "slope is zero"),
    (lambda z: jnp.sum(z), "shape"),
    (lambda z: jnp.stack([z, z]), "shape"),
    (lambda z: z.astype(jnp.complex128), "makes complex128"),
    (lambda z: jnp.log(z), "finite"),
    (lambda z: z - jnp.mean(z), "depends on the others"),
    ("sign", "jumps at 0"),
    (lambda z: jnp.where(z > 1.0, z + 1.0, z), "jumps at 1"),
]


@pytest.mark.parametrize(("wanted", "told"), BAD, ids=range(len(BAD)))
def test_what_is_no_activation_is_refused(wanted, told):
    with pytest.raises(ValueError, match=told):
        critical_init(wanted)


@pytest.mark.parametrize("search", [(0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0), (1.0,), (1.0, 2.0, 3.0)])
def test_empty_ranges_are_refused(search):
    with pytest.raises(ValueError, match="search"):
        critical_init("tanh", search=search)


def test_what_cannot_be_resolved_is_refused():
    with pytest.raises(ValueError, match="not known to 4 digits"):
        critical_init("exp", search=(1e4, 1e6))  # it overflows there


def test_a_point_beyond_the_default_range_is_found_in_another():
    tiny = activation(lambda z: jax.nn.mish(300.0 * z) / 300.0, kinks=())
    found = critical_init(tiny, search=(1e-7, 1.0))
    assert found.kind == "half-stable"
    assert found.variance.value == pytest.approx(1.67016913248 / 300**2, rel=1e-8)
    assert np.isclose(found.weight_variance.value, 2.01352406972, rtol=1e-9)
