"""A compiled network is the network: profiles against propagation of every pair."""

import sys

import numpy as np
import pytest

from widthwise.networks import MLP, Apply, Chain, Dense, Residual, kernel
from widthwise.networks.profile import compile_profile

GRAM, SERIES = (sys.modules[f"widthwise.networks.{name}"] for name in ("gram", "series"))
BIASED = {"weight_variance": 1.5, "bias_variance": 0.1}
NETWORKS = {
    "relu": MLP(depth=3, activation="relu").network(),
    "abs": MLP(depth=2, activation="abs").network(),
    "gelu": MLP(depth=1, activation="gelu").network(),
    "tanh": MLP(depth=2, activation="tanh", **BIASED).network(),
    "sin": MLP(depth=1, activation="sin").network(),
    "residual": Chain(
        [Dense(2.0), Residual(Chain([Apply("gelu"), Dense(1.0, 0.1)]), scale=0.7), Apply("erf"), Dense(1.0)]
    ),
    "standard": MLP(width=50, depth=2, activation="relu", parameterisation="standard").network(),
}


# The first test is quick with a smooth activation too.
FIRST = [pytest.param(name, marks=[] if name in ("relu", "gelu") else pytest.mark.slow) for name in NETWORKS]
ALL = [pytest.param(name, marks=[] if name == "relu" else pytest.mark.slow) for name in NETWORKS]


def awkward(seed: int = 0, count: int = 40) -> np.ndarray:
    """Inputs with equal, opposite, nearly equal, scaled and zero ones among them."""
    X = np.random.default_rng(seed).normal(size=(count, 8))
    X[5], X[6], X[7], X[8], X[9] = X[3], -X[3], X[3] + 1e-7 * X[4], 2 * X[3], -X[4] + 1e-3 * X[3]
    X[10] = X[11] = 0.0
    return X


def on_sphere(X: np.ndarray) -> np.ndarray:
    """The inputs at norm one, without the zero ones."""
    X = X[np.any(X != 0, axis=1)]
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def deviation(one, other, left, right) -> float:
    """The largest difference, in units of the geometric mean of the two kernels of the inputs with themselves."""
    unit = np.sqrt(np.outer(left, right))
    return float(np.max(np.abs(one - other) / np.where(unit == 0, 1.0, unit)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FIRST)
def test_a_profile_is_the_kernel_to_its_stated_error(name, dtype):
    X = awkward()
    exact, fast = kernel(NETWORKS[name], X, method="pairs"), kernel(NETWORKS[name], X, method="profile", dtype=dtype)
    assert fast.nngp.dtype == fast.ntk.dtype == dtype
    assert "angle" in fast.method
    for part in ("nngp", "ntk"):
        wanted, got = getattr(exact, part), getattr(fast, part)
        own = np.diag(wanted)
        assert deviation(got, wanted, own, own) <= exact.error + fast.error
        assert np.array_equal(got, got.T)


@pytest.mark.parametrize("name", ALL)
def test_profiles_are_exact_to_1e_12(name):
    """As the stated error is a bound with room, the values themselves are held to what is promised."""
    X = awkward(1)
    exact, fast = (kernel(NETWORKS[name], X, method=how) for how in ("pairs", "profile"))
    for part in ("nngp", "ntk"):
        wanted, got = getattr(exact, part), getattr(fast, part)
        assert deviation(got, wanted, np.diag(wanted), np.diag(wanted)) < 1e-12


@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.slow
def test_two_sets_of_inputs(name):
    X, Y = awkward(0), awkward(2, 30)
    Y[0], Y[1] = X[3], -X[3] + 1e-9 * X[4]
    exact, fast = (kernel(NETWORKS[name], X, Y, method=how) for how in ("pairs", "profile"))
    own = [kernel(NETWORKS[name], Z, method="pairs") for Z in (X, Y)]
    for part in ("nngp", "ntk"):
        left, right = (np.diag(getattr(one, part)) for one in own)
        assert deviation(getattr(fast, part), getattr(exact, part), left, right) < 1e-12


@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.slow
def test_neither_tiles_nor_groups_of_terms_change_anything(name, monkeypatch):
    X = awkward()
    whole = kernel(NETWORKS[name], X, method="profile")
    monkeypatch.setattr(GRAM, "_SIDE", 20)
    monkeypatch.setattr(SERIES, "_TOGETHER", 64)
    parts = kernel(NETWORKS[name], X, method="profile")
    np.testing.assert_allclose(parts.ntk, whole.ntk, rtol=0, atol=1e-13 * whole.ntk.max())
    assert np.array_equal(parts.ntk, parts.ntk.T)


@pytest.mark.parametrize("name", ALL)
def test_no_negative_eigenvalue(name):
    X = awkward(3)
    found = kernel(NETWORKS[name], np.concatenate([X, X[:5]]), method="profile")
    for matrix in (found.nngp, found.ntk):
        values = np.linalg.eigvalsh(matrix)
        assert values[0] > -1e-12 * values[-1]


@pytest.mark.parametrize(
    "name", ["relu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("relu after layers", "abs", "tanh"))]
)
def test_on_a_sphere_every_network_is_a_function_of_the_angle(name):
    X = on_sphere(awkward())
    stem = Chain([Dense(1.3, 0.2), Apply("erf")])
    network = Chain([stem, NETWORKS["relu"]]) if "after" in name else MLP(depth=3, activation=name, **BIASED).network()
    exact, fast = (kernel(network, X, method=how) for how in ("pairs", "profile"))
    assert "mean square" not in fast.method
    for part in ("nngp", "ntk"):
        wanted, got = getattr(exact, part), getattr(fast, part)
        assert deviation(got, wanted, np.diag(wanted), np.diag(wanted)) < 1e-12


def test_kinks_with_biases_and_unequal_norms_make_a_cone_and_no_profile():
    biased = MLP(depth=2, activation="relu", **BIASED).network()
    with pytest.raises(ValueError, match="No profile"):
        kernel(biased, awkward(), method="profile")
    X = np.random.default_rng(0).normal(size=(510, 2))
    assert kernel(biased, X).method == "pair by pair"


def test_norms_matter_only_where_they_do():
    def degrees(network, low, high):
        return compile_profile(network, 8, low, high, 1e-10).degrees

    deep = MLP(depth=20, activation="relu").network()
    assert degrees(deep, 0.5, 2.0)[1] == 1
    assert degrees(deep, 0.5, 2.0)[0] <= 56  # what the specification's table needs for 1e-12
    assert degrees(NETWORKS["gelu"], 1.0, 1.0)[1] == 1
    assert degrees(NETWORKS["gelu"], 0.5, 2.0)[1] > 1


def test_the_user_need_not_choose():
    X = np.random.default_rng(0).normal(size=(600, 3))
    many, few = kernel(NETWORKS["relu"], X), kernel(NETWORKS["relu"], X[:5])
    assert "degree" in many.method
    assert few.method == "pair by pair"
    np.testing.assert_allclose(many.ntk[:5, :5], few.ntk, rtol=1e-12, atol=1e-13)


def test_what_no_profile_can_hold_is_done_pair_by_pair_or_refused():
    X = np.random.default_rng(0).normal(size=(4, 3)) * np.array([1e-9, 1.0, 1e4, 1e9])[:, None]
    with pytest.raises(ValueError, match="No profile of this network reaches"):
        kernel(NETWORKS["gelu"], X, method="profile")


def test_zero_inputs_alone_have_no_profile():
    with pytest.raises(ValueError, match="No profile"):
        kernel(NETWORKS["relu"], np.zeros((3, 2)), method="profile")


@pytest.mark.parametrize(
    ("words", "message"), [({"method": "pair"}, "method='pair' .*pairs"), ({"dtype": "float16"}, "float16")]
)
def test_unknown_ways_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        kernel(NETWORKS["relu"], np.ones((2, 2)), **words)
