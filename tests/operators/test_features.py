"""Projected gradients: both algorithms, the mean, the spread and the measured error."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial

from widthwise.networks import MLP, sample
from widthwise.numerics import exponent
from widthwise.operators import jacobian_matrix, parameters
from widthwise.operators.features import _cheapest, _forward, _reverse, _Sketch, projected_gradients

MODEL = sample(MLP(width=8, depth=1, bias_variance=0.3).network(outputs=2), jr.key(0), in_size=3)
X = jr.normal(jr.key(1), (7, 3))
J = np.asarray(jacobian_matrix(MODEL, X))
K = {"all": np.einsum("ikp,jlp->ikjl", J, J).reshape(14, 14), "trace": np.einsum("ikp,jkp->ij", J, J) / 2}
BOTH = pytest.mark.parametrize(("kind", "outputs"), [("signs", "trace"), ("normal", "all")])


def grams(features, groups):
    """Of groups of columns, which are independent: as many draws with fewer columns."""
    rows = features.reshape(-1, groups, features.shape[-1] // groups) * groups**0.5
    return np.einsum("agm,bgm->gab", rows, rows)


@BOTH
def test_both_algorithms_and_any_batch_give_the_same(kind, outputs):
    options = {"kind": kind, "outputs": outputs, "pairs": 0}
    first = projected_gradients(MODEL, X, 40, jr.key(5), algorithm="forward", **options).features
    second = projected_gradients(MODEL, X, 40, jr.key(5), algorithm="reverse", batch=3, **options).features
    assert first.shape == ((7, 2, 40) if outputs == "all" else (7, 40))
    np.testing.assert_allclose(first, second, atol=1e-13)
    apart = projected_gradients(MODEL, X[4:], 40, jr.key(5), algorithm="reverse", batch=3, **options).features
    np.testing.assert_allclose(first[4:], apart, atol=1e-13)


@BOTH
def test_the_mean_is_the_kernel(kind, outputs):
    """A lost 1/m, 1/k or root would be far outside."""
    found = projected_gradients(MODEL, X, 8000, jr.key(2), kind=kind, outputs=outputs, pairs=0, algorithm="forward")
    draws = grams(found.features, 80)
    error, diagonal = draws.std(axis=0, ddof=1) / np.sqrt(80), np.diag(K[outputs])
    scale = np.sqrt(np.outer(diagonal, diagonal))
    assert np.max(np.abs(draws.mean(axis=0) - K[outputs]) / error) < 5 and np.max(error / scale) < 0.04
    if kind == "normal":
        # The stated spread; in the mean over entries eighty draws tell the variance to a few per cent.
        assert np.mean(draws.var(axis=0, ddof=1) / (scale**2 + K[outputs] ** 2)) == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("outputs", ["all", "trace"])
def test_the_error_is_measured_and_falls_with_the_root(outputs):
    found = projected_gradients(MODEL, X, 4096, jr.key(1), outputs=outputs, pairs=400, algorithm="forward")
    size, errors, sizes = np.linalg.norm(K[outputs]), [], [64, 128, 256, 512, 4096]
    for m in sizes:
        off = grams(found.features, 4096 // m) - K[outputs]
        errors.append(np.sqrt(np.mean(np.sum(off**2, axis=(1, 2)))) / size)
    assert abs(found.error.value - errors[-1]) < 5 * found.error.error and found.error.error < 0.2 * errors[-1]
    # From 64 down to 8 draws; the squared norm of each spreads by less than its mean.
    assert exponent(sizes[:4], errors[:4]) == pytest.approx(-0.5, abs=0.3)
    assert errors[0] / errors[3] == pytest.approx(8**0.5, rel=0.5)


def test_convolutions_go_by_gradients_and_dense_layers_forward():
    conv = eqx.nn.Sequential([eqx.nn.Conv2d(1, 4, 3, key=jr.key(0)), eqx.nn.Lambda(lambda a: a.mean(axis=(1, 2)))])
    for model, x, way in ((conv, jnp.ones((1, 12, 12)), "reverse"), (MODEL, X[0], "forward")):
        leaves, _ = parameters(model)
        assert _cheapest(model, x, leaves, len(model(x)), 64) == way


def test_random_columns_are_never_held_together():
    """Memory of the compiled program for 10^6 parameters and 2000 columns: 16 GB of numbers would be S."""
    model = Partial(lambda w, x: w @ x, jnp.zeros((1, 1_000_000)))
    for algorithm in (_forward, _reverse):
        built = algorithm.lower(model, jr.key(0), _Sketch(2000, "signs", "all"), jnp.zeros((2, 1_000_000))).compile()
        assert built.compiled.memory_analysis().temp_size_in_bytes < 6e8


def test_progress_and_precision():
    leaves, rebuild = parameters(MODEL)
    model = rebuild(tuple(leaf.astype(jnp.float32) for leaf in leaves))
    seen = []
    found = projected_gradients(
        model, X.astype(jnp.float32), 33, jr.key(0), batch=3, progress=lambda *at: seen.append(at), pairs=0
    )
    assert seen == [(3, 7), (6, 7), (7, 7)] and found.features.dtype == np.float32
    exact = projected_gradients(MODEL, X, 33, jr.key(0), pairs=0).features
    np.testing.assert_allclose(found.features, exact, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0. It is a whole number of at least 1"),
        ({"batch": 0}, "batch=0"),
        ({"pairs": -1}, "at least 0"),
        ({"kind": "sign"}, "did you mean 'signs'"),
        ({"outputs": "some"}, "Known are 'all', 'trace'"),
        ({"algorithm": "backward"}, "Known are 'auto', 'forward', 'reverse'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        projected_gradients(MODEL, X, **({"size": 4, "key": jr.key(0)} | options))
