"""Convolutions by displacements against the propagation of every pair of positions."""

import jax
import numpy as np
import pytest

from widthwise.activations import leaky_relu
from widthwise.networks import Apply, Chain, Conv, Dense, Flatten, GlobalPool, Residual, Scale, kernel


def network(head, *options: dict, function="relu", bias: float = 0.1) -> Chain:
    """A convolution with an activation for each set of options, a head and a readout."""
    layers = [
        layer for one in options for layer in (Conv(one.get("filter", 3), 1.7, bias, **rest(one)), Apply(function))
    ]
    return Chain((*layers, head, Dense(1.3, 0.05)))


def rest(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "filter"}


def images(count: int, shape: tuple[int, ...] = (6, 5, 2), seed: int = 0) -> np.ndarray:
    """Random images with equal, opposite, zero and nearly equal ones, and with black borders, among them."""
    X = np.random.default_rng(seed).normal(size=(count, *shape))
    bordered = X[:2].copy()
    bordered[:, :2] = 0.0
    bordered[:, :, -1:] = 0.3
    return np.concatenate([X, bordered, X[:1], -X[1:2], 0.0 * X[:1], X[2:3] * (1 + 1e-9)])


SAME, VALID, CIRCULAR = ({"padding": one} for one in ("SAME", "VALID", "CIRCULAR"))
CASES = {
    "small": (network(GlobalPool(), SAME), (3, 3, 1)),
    "same": (network(GlobalPool(), SAME, SAME), (6, 5, 2)),
    "flat": (network(Flatten(), SAME, VALID), (6, 5, 2)),
    "sum, strides": (network(GlobalPool("sum"), {"strides": 2}, SAME, {"strides": (1, 2)}), (7, 5, 1)),
    "valid": (network(GlobalPool(), VALID, SAME, {"padding": "VALID", "filter": (2, 3)}), (7, 6, 2)),
    "valid, strides": (network(GlobalPool(), VALID, {"padding": "VALID", "strides": 2}), (8, 7, 2)),
    "circular": (network(GlobalPool(), CIRCULAR, {"padding": "CIRCULAR", "filter": (2, 4)}), (4, 5, 2)),
    "circular, strides": (network(GlobalPool(), {"padding": "CIRCULAR", "strides": 2}, CIRCULAR), (6, 4, 2)),
    "dilation": (network(GlobalPool(), {"dilation": 2}, {"filter": (5, 4)}), (5, 6, 2)),
    "without biases": (network(GlobalPool(), SAME, SAME, bias=0.0), (6, 5, 1)),
    "abs": (network(GlobalPool(), SAME, SAME, function="abs"), (4, 5, 2)),
    "leaky": (network(GlobalPool(), SAME, SAME, function=leaky_relu(0.8), bias=0.0), (4, 4, 2)),
    "erf": (network(GlobalPool(), SAME, SAME, function="erf"), (3, 4, 2)),
    "sequence": (network(GlobalPool(), SAME, {"strides": 2}), (9, 12)),
    "volume": (network(GlobalPool(), VALID, SAME), (4, 3, 4, 1)),
    "residual": (
        Chain(
            (
                Conv(3, 1.5, 0.1),
                Residual(Chain((Apply("relu"), Dense(1.2), Apply("relu"), Conv(3, 1.5))), 0.7),
                Scale(0.9),
                Apply("relu"),
                GlobalPool(),
                Dense(),
                Apply("relu"),
                Dense(1.0, 0.1),
            )
        ),
        (4, 5, 2),
    ),
    "standard": (
        Chain((Conv(3, 1.5, 0.1, 64, parameterisation="standard"), Apply("relu"), GlobalPool(), Dense())),
        (4, 5, 2),
    ),
}


def largest(matrix: np.ndarray) -> float:
    return float(np.abs(matrix).max())


def test_a_small_kernel_is_that_of_pairs():
    architecture, shape = CASES["small"]
    X = images(1, shape)
    wanted, found = kernel(architecture, X, method="pairs"), kernel(architecture, X)
    assert found.method == "displacement by displacement"
    np.testing.assert_allclose(found.ntk, wanted.ntk, rtol=0, atol=(found.error + wanted.error) * largest(wanted.ntk))
    np.testing.assert_allclose(found.nngp, wanted.nngp, rtol=0, atol=(found.error + wanted.error))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_kernels_are_those_of_pairs(name):
    architecture, shape = CASES[name]
    X, Y = images(3, shape), np.concatenate([images(3, shape, seed=1)[:4], images(3, shape)[::-1]])
    for sets in [(X,)] * (name in ("same", "flat")) + [(X, Y)]:  # each compiles much
        wanted, found = kernel(architecture, *sets, method="pairs"), kernel(architecture, *sets)
        single = kernel(architecture, *sets, dtype="float32")
        assert found.method in ("displacement by displacement", "position by position")
        for one, other, short in zip(
            (wanted.nngp, wanted.ntk), (found.nngp, found.ntk), (single.nngp, single.ntk), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=0, atol=(found.error + wanted.error) * largest(one))
            np.testing.assert_allclose(short, one, rtol=0, atol=single.error * largest(one))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_kernels_are_symmetric_and_positive(name):
    architecture, shape = CASES[name]
    found = kernel(architecture, images(3, shape))
    for matrix in (found.nngp, found.ntk):
        assert np.array_equal(matrix, matrix.T)
        np.testing.assert_array_max_ulp(matrix[0], matrix[5], 4)
        assert np.linalg.eigvalsh(matrix)[0] > -1e-13 * largest(matrix)


@pytest.mark.parametrize("name", ["same", "flat"])
@pytest.mark.slow
def test_batches_change_nothing(monkeypatch, name):
    architecture, shape = CASES[name]
    X, Y = images(4, shape), images(3, shape, seed=1)
    whole = kernel(architecture, X), kernel(architecture, X, Y)
    monkeypatch.setattr("widthwise.networks.convolutions._ENTRIES", 2000 if name == "same" else 150)
    parts = kernel(architecture, X), kernel(architecture, X, Y)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.ntk, other.ntk, rtol=0, atol=1e-14 * largest(one.ntk))
        np.testing.assert_allclose(one.nngp, other.nngp, rtol=0, atol=1e-14 * largest(one.nngp))


@pytest.mark.slow
def test_nearly_equal_images_keep_their_distance():
    """The slopes differ by the angle, which a covariance would know to half its digits."""
    X = images(2, (4, 4, 2))[:1]
    near = X + 1e-7 * np.random.default_rng(3).normal(size=X.shape)
    architecture = network(Flatten(), SAME, SAME, bias=0.0)
    found, wanted = (kernel(architecture, X, near, method=method) for method in ("auto", "pairs"))
    np.testing.assert_allclose(found.ntk, wanted.ntk, rtol=1e-14)


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param((Conv(3), Apply("tanh"), GlobalPool()), marks=pytest.mark.slow),  # a numerical dual
        pytest.param((Conv(3, padding="VALID"), Conv(3, padding="CIRCULAR"), GlobalPool()), marks=pytest.mark.slow),
        (Conv(3), Apply("relu")),
    ],
)
def test_other_networks_go_pair_by_pair(layers):
    assert kernel(Chain(layers), np.ones((1, 4, 4, 1)), tolerance=1e-3).method == "pair by pair"


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.slow
def test_sizes_beyond_float32_are_computed_in_float64(scale):
    X, architecture = images(2, (4, 4, 2)), network(Flatten(), SAME, bias=0.0)
    found = kernel(Chain((Scale(1.0 / scale), *architecture.layers)), scale * X, dtype="float32")
    np.testing.assert_allclose(found.ntk, kernel(architecture, X).ntk, rtol=1e-6)


@pytest.mark.parametrize("head", [GlobalPool(), Flatten()])
@pytest.mark.slow
def test_matrices_on_disk_are_the_same(tmp_path, head):
    X, architecture, seen = images(2, (4, 4, 2)), network(head, SAME), []
    kept = kernel(architecture, X, out=tmp_path / "kernels", progress=lambda *done: seen.append(done))
    found = kernel(architecture, X, progress=lambda *done: seen.append(done))
    assert seen[0] == (1, 1) and seen[-1][0] == seen[-1][1]
    np.testing.assert_allclose(kept.ntk, found.ntk, rtol=1e-14)


def test_double_precision_does_not_hang_on_the_caller(monkeypatch):
    """Batches are done in threads, and JAX is told its precision for each."""
    monkeypatch.setattr("widthwise.networks.convolutions._ENTRIES", 60)
    architecture, shape = CASES["small"]
    X = images(1, shape)
    with jax.enable_x64(False):
        found = kernel(architecture, X)
    np.testing.assert_allclose(found.ntk, kernel(architecture, X, method="pairs").ntk, rtol=0, atol=1e-13)
