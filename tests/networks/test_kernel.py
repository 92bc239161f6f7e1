"""Kernels of infinitely wide networks against independent references."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kinds import one_of_each_kind
from oracles.reference import rectifier_kernels
from widthwise.activations import ACTIVATIONS, hermite, leaky_relu, rectified_monomial
from widthwise.networks import (
    MLP,
    Apply,
    Attention,
    Chain,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    LayerNorm,
    Pool,
    Residual,
    kernel,
)

# The name of the module is that of its function, which the package exports.
MODULE = sys.modules["widthwise.networks.pairwise"]
ORACLES = Path(__file__).parents[1] / "oracles"
CASES = json.loads((ORACLES / "kernels.json").read_text())
NUMBERS = dict(np.load(ORACLES / "kernels.npz"))
# Its Hermite case is that of one variance only: it has a test of its own.
COVERED = sorted({*CASES} - {"fc_hermite2"})


PLAIN = {"layer_norm": LayerNorm, "global_avg_pool": GlobalPool, "flatten": Flatten}
FAMILIES = {"leaky_relu": leaky_relu, "hermite": hermite, "rectified_monomial": rectified_monomial}


def build(part, parameterisation, width):
    kind = part[0]
    if kind == "serial":
        return Chain([build(layer, parameterisation, width) for layer in part[1:]])
    if kind == "conv":
        options = part[1]
        sizes = (tuple(options["filter"]), options["w_var"], options["b_var"])
        return Conv(*sizes, strides=tuple(options["strides"]), padding=options["padding"])
    if kind == "avg_pool":
        return Pool(tuple(part[1]["window"]), tuple(part[1]["strides"]), part[1]["padding"])
    if kind == "global_self_attention":
        variances = [part[1][f"w_{name}_var"] for name in ("query", "key", "value", "out")]
        return Attention("identity", "linear", *variances)
    if kind in PLAIN:
        return PLAIN[kind]()
    if kind == "dense":
        return Dense(part[1], part[2], width if parameterisation == "standard" else None, parameterisation)
    if kind == "residual":
        return Residual(Chain([build(layer, parameterisation, width) for layer in part[1]]))
    return Apply(FAMILIES[kind](part[1]) if kind in FAMILIES else kind)


def near(rows, columns):
    """Pairs whose directions differ by less than 1e-6 without being equal, where the oracle loses digits."""
    left, right = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (rows, columns))
    distance = np.linalg.norm(left[:, None] - right[None], axis=2)
    return (distance > 0) & (distance < 1e-6)


def parallel(rows, columns):
    """Pairs whose lines differ by less than 1e-6."""
    left, right = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (rows, columns))
    return 1 - np.abs(left @ right.T) < 1e-12


def uncertain(case, X, Y):
    """Where the oracle recovers a small angle from a covariance: near inputs, and an image with itself."""
    if X.ndim == 2:
        return near(X, X if Y is None else Y)
    equal = np.all(X[:, None] == (X if Y is None else Y)[None], axis=(2, 3, 4))
    return equal & (case == "conv_same_flatten")


def test_the_oracle_has_all_cases():
    assert len(COVERED) == 18


# Networks on images take seconds to compile, so most are among the slow tests.
LONG = {name for name in COVERED if name.startswith(("conv", "attention"))}


@pytest.mark.parametrize("case", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in COVERED])
@pytest.mark.parametrize("batch", ["11", "12"])
def test_kernels_equal_the_oracle_to_1e_12(case, batch):
    entry = CASES[case]
    network = build(entry["architecture"], entry["parameterization"], entry["hidden_width_in_standard"])
    inputs = entry["inputs"]
    X, Y = NUMBERS[f"{inputs}1"], NUMBERS[f"{inputs}2"] if batch == "12" else None
    result = kernel(network, X, Y)
    loose = uncertain(case, X, Y)
    for name in ("nngp", "ntk"):
        wanted, got = NUMBERS[f"{case}.{name}{batch}"], getattr(result, name)
        # The oracle has no number for powers of rectifiers at equal and opposite inputs.
        hole = np.isnan(wanted)
        assert not np.any(hole) or ("rectified" in case and not np.any(hole & ~parallel(X, X if Y is None else Y)))
        wanted = np.where(hole, got, wanted)
        deviation = np.abs(got - wanted) / np.abs(wanted).max()
        assert deviation[~loose].max() < 1e-12
        # The oracle recovers a small angle from a covariance: sqrt(eps) for each of up to ten layers.
        assert deviation[loose].max(initial=0.0) < 1e-8


@pytest.mark.parametrize("batch", ["11", "12"])
def test_hermite_kernels_equal_the_oracle_on_the_unit_sphere(batch):
    """The oracle has c^n for every norm, which is the kernel at variance one only: its numbers over the norms."""
    X, Y = NUMBERS["flat1"], NUMBERS["flat2" if batch == "12" else "flat1"]
    sizes = [np.sqrt(np.mean(Z**2, axis=1, keepdims=True)) for Z in (X, Y)]
    entry = CASES["fc_hermite2"]
    network = build(entry["architecture"], entry["parameterization"], entry["hidden_width_in_standard"])
    result = kernel(network, X / sizes[0], Y / sizes[1])
    for name in ("nngp", "ntk"):
        wanted = NUMBERS[f"fc_hermite2.{name}{batch}"] / (sizes[0] @ sizes[1].T) ** 2
        np.testing.assert_allclose(getattr(result, name), wanted, rtol=0, atol=1e-12 * wanted.max())


DISTANCES = (0.0, 1e-12, 1e-7, 1e-3, 0.5)


@pytest.mark.parametrize("slope", [0.0, *(pytest.param(slope, marks=pytest.mark.slow) for slope in (-1.0, 0.3))])
@pytest.mark.parametrize(("depth", "bias"), [(1, 0.0), (4, 0.1), pytest.param(20, 0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["pairs", "profile"])
def test_equal_opposite_and_near_inputs_agree_with_sixty_digits(slope, depth, bias, method):
    x, step = np.random.default_rng(3).normal(size=(2, 6))
    Y = np.stack([sign * (x + distance * step) for distance in DISTANCES for sign in (1.0, -1.0)])  # the first is x
    if method == "profile" and bias:  # such a network has a profile only where the norms are equal
        x, Y = x / np.linalg.norm(x), Y / np.linalg.norm(Y, axis=1, keepdims=True)
    layers = [(1.7, bias)] * depth + [(1.0, 0.0)]
    parts = [part for weight, b in layers for part in (Dense(weight, b), Apply(leaky_relu(slope)))][:-1]
    result = kernel(Chain(parts), x[None], Y, method=method)
    wanted = np.array([rectifier_kernels(x, y, layers, slope) for y in Y]).T
    # In units of the kernels at equal inputs: an opposite pair may have covariance zero.
    np.testing.assert_allclose(result.nngp[0] / result.nngp[0, 0], wanted[0] / result.nngp[0, 0], atol=1e-12, rtol=0)
    np.testing.assert_allclose(result.ntk[0] / result.ntk[0, 0], wanted[1] / result.ntk[0, 0], atol=1e-12, rtol=0)


def test_zero_inputs_have_the_kernel_of_the_bias_alone():
    X = np.array([[0.0, 0.0], [1.0, 2.0]])
    with_bias = kernel(Chain([Dense(2.0, 0.5), Apply("relu"), Dense(2.0, 0.0)]), X)
    np.testing.assert_allclose(with_bias.nngp[0, 0], 0.5, rtol=1e-15)
    without = kernel(Chain([Dense(2.0), Apply("relu"), Dense(2.0)]), X)
    assert np.all(without.nngp[0] == 0) and np.all(without.ntk[0] == 0)
    assert np.all(np.isfinite(without.ntk))


@pytest.mark.parametrize("name", one_of_each_kind(default=("relu", "gelu", "tanh")))
def test_zero_inputs_give_no_nan(name):
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    result = kernel(MLP(activation=name, weight_variance=1.0, bias_variance=0.0).network(), X)
    assert np.all(np.isfinite(result.nngp)) and np.all(np.isfinite(result.ntk))
    assert np.array_equal(result.nngp[0], result.nngp[1])


@pytest.mark.parametrize("name", one_of_each_kind(default=("relu", "gelu", "tanh")))
def test_symmetric_and_cross_kernels_are_the_same_kernel(name):
    X = np.random.default_rng(0).normal(size=(7, 3))
    network = MLP(activation=name).network()
    own, cross = kernel(network, X), kernel(network, X, X.copy())
    assert np.array_equal(own.ntk, own.ntk.T) and np.array_equal(own.nngp, own.nngp.T)
    np.testing.assert_allclose(cross.ntk, own.ntk, rtol=1e-9)
    off = ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(cross.ntk[off], own.ntk[off], rtol=1e-12)


@pytest.mark.parametrize("name", ["gelu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_tiles_change_nothing(monkeypatch, name):
    X = np.random.default_rng(0).normal(size=(11, 3))
    network = MLP(activation=name).network()
    whole = kernel(network, X)
    monkeypatch.setattr(MODULE, "_TILE", 4)
    parts = kernel(network, X)
    # Each tile has as many series terms as it needs, so numerical duals agree to their error.
    np.testing.assert_allclose(parts.ntk, whole.ntk, rtol=0, atol=(whole.error + parts.error) * whole.ntk.max())


@pytest.mark.slow
@settings(max_examples=60)
@given(
    X=hnp.arrays(float, (6, 3), elements=st.floats(-3, 3, width=16)),
    name=st.sampled_from(sorted({*ACTIVATIONS} - {"exp"})),  # its kernel of such inputs leaves the range of float64
    bias=st.sampled_from([0.0, 0.3]),
)
def test_kernels_are_positive_semidefinite(X, name, bias):
    X = np.concatenate([X, X[:1], -X[:1]])
    result = kernel(MLP(activation=name, weight_variance=1.5, bias_variance=bias).network(), X)
    for matrix in (result.nngp, result.ntk):
        values = np.linalg.eigvalsh(matrix)
        # The tolerance of numerical duals (1e-10) bounds each entry, so n times it bounds the spectrum.
        floor = 1e-12 if ACTIVATIONS[name].closed else len(X) * max(result.error, 1e-14)
        assert values[0] >= -floor * max(values[-1], 1e-300)


def test_residual_equals_the_sum_of_its_parts():
    X = np.random.default_rng(5).normal(size=(4, 3))
    stem, branch = Dense(1.3, 0.2), Chain([Apply("erf"), Dense(0.8, 0.1)])
    skip, inner = kernel(stem, X), kernel(Chain([stem, branch]), X)
    both = kernel(Chain([stem, Residual(branch, scale=0.6)]), X)
    np.testing.assert_allclose(both.nngp, skip.nngp + 0.36 * inner.nngp, rtol=1e-14)
    np.testing.assert_allclose(both.ntk, skip.ntk + 0.36 * inner.ntk, rtol=1e-14)


@pytest.mark.slow
def test_large_pre_activations_get_more_terms_or_a_clear_refusal(monkeypatch):
    monkeypatch.setattr(MODULE, "MAX_DEGREE", 512)
    network = MLP(activation="tanh", weight_variance=4.0).network()
    X = np.array([[1.0, 0.5], [0.3, -1.0]])
    few = kernel(network, X)
    assert few.error < 1e-10
    with pytest.raises(ValueError, match="series terms"):
        kernel(network, 100 * X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, np.nan]], "row 0, column 1"),
        ([[np.inf, 1.0]], "row 0, column 0"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (np.empty((0, 3)), r"shape \(0, 3\)"),
        ([["a", "b"]], "real numbers"),
        ([[1j]], "complex"),
    ],
)
def test_bad_inputs_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        kernel(MLP().network(), X)


def test_inputs_with_different_features_are_refused():
    with pytest.raises(ValueError, match="2 features and Y with 3"):
        kernel(MLP().network(), np.ones((1, 2)), np.ones((1, 3)))


def test_extreme_scales_neither_overflow_nor_vanish():
    network = Chain([Dense(2.0), Apply("relu"), Dense(1.0)])
    X = np.array([[3.0, 4.0], [1.0, -1.0]])
    for scale in (1e-120, 1e120):
        np.testing.assert_allclose(kernel(network, scale * X).ntk / scale**2, kernel(network, X).ntk, rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tolerance": 0}, r"tolerance=0\. .*positive"),
        ({"tolerance": -1.0}, r"tolerance=-1.0.*positive"),
        ({"tolerance": float("nan")}, r"tolerance=nan.*positive"),
        ({"tolerance": "x"}, r"tolerance='x'.*positive"),
        ({"dtype": "flot32"}, r"dtype='flot32' .*float32"),
        ({"progress": True}, r"progress=True.*progress\(done, total\)"),
        ({"out": 3}, r"out=3.*folder"),
        ({"out": "k.npz"}, r"out='k.npz'.*folder"),
    ],
)
def test_options_that_are_none_are_named(words, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(kernel)(MLP(depth=1).network(), [[1.0, 2.0]], **words)


@pytest.mark.parametrize("network", [MLP(), [], None, np.tanh])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(ValueError, match=r"A network is a layer"):
        inspect.unwrap(kernel)(network, [[1.0, 2.0]])


def test_progress_is_told_tile_by_tile():
    told = []
    kernel(MLP(depth=1).network(), np.eye(3), method="pairs", progress=lambda *now: told.append(now))
    assert told and told[-1][0] == told[-1][1]
