"""Empirical kernels against the general Jacobian, and width studies against exact laws."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import Deviation, alignment, empirical_nngp, empirical_ntk, narrowed, width_study
from widthwise.networks import MLP, kernel, sample
from widthwise.operators import entk

X = np.random.default_rng(0).normal(size=(6, 4))
WIDTHS = (8, 16, 32, 64)


@pytest.mark.parametrize("parameterisation", ["ntk", "standard"])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_layerwise_ntk_equals_the_one_of_the_jacobian(parameterisation, bias):
    spec = MLP(width=7, depth=3, activation="tanh", bias_variance=bias, parameterisation=parameterisation)
    model = sample(spec.network(outputs=3), jr.key(0), in_size=4)
    np.testing.assert_allclose(empirical_ntk(model, jnp.asarray(X)), entk(model, X, outputs="trace"), rtol=1e-12)


def test_ntk_of_any_other_model_is_that_of_its_jacobian():
    model = jax.tree_util.Partial(lambda w, x: jnp.sin(w @ x), jr.normal(jr.key(0), (2, 4)))
    np.testing.assert_allclose(empirical_ntk(model, jnp.asarray(X)), entk(model, X, outputs="trace"), rtol=1e-12)


def test_nngp_is_the_covariance_of_a_redrawn_readout():
    network = MLP(width=9, depth=1, activation="relu").network()
    model = sample(network, jr.key(0), in_size=4)
    hidden = np.maximum(np.asarray(jax.vmap(model.pieces[0])(X)), 0)
    np.testing.assert_allclose(empirical_nngp(network, model, jnp.asarray(X)), hidden @ hidden.T / 9, rtol=1e-13)


@pytest.fixture(scope="module")
def linear():
    """One hidden layer of a linear network: its empirical NNGP kernel is a Wishart matrix."""
    spec = MLP(depth=1, activation="identity", weight_variance=1.3)
    exact = kernel(spec.network(), X)
    return exact, width_study(lambda width: spec.at_width(width).network(), lambda _: exact, X, WIDTHS, 60, jr.key(1))


@pytest.mark.slow
def test_deviation_of_a_linear_network_is_that_of_a_wishart_matrix(linear):
    r"""$E\|\hat K - K\|_F^2 = (\|K\|_F^2 + (\mathrm{tr} K)^2)/n$, and no bias."""
    exact, study = linear
    for width, found in zip(WIDTHS, study.nngp, strict=True):
        predicted = (1 + np.trace(exact.nngp) ** 2 / np.sum(exact.nngp**2)) / width
        assert abs(found.squared.value - predicted) < 5 * found.squared.error
        assert found.squared.error < 0.15 * predicted
        assert abs(found.squared_bias.value) < 5 * found.squared_bias.error


@pytest.mark.slow
def test_rates_of_a_linear_network(linear):
    _, study = linear
    for name in ("nngp", "ntk"):
        rate = study.rate(name)
        assert abs(rate.value + 0.5) < 5 * rate.error
        assert rate.error < 0.1
        law, misfit = study.bias(name)
        assert abs(law.value) < 5 * law.error
        assert misfit < 5


def test_narrow_networks_are_seen_more_often(linear):
    _, study = linear
    assert [len(found.gram) for found in study.ntk] == [60 * 64 // width for width in WIDTHS]


def test_squared_bias_is_unbiased():
    """Draws with a known shift: the estimate finds its square, though the scatter is ten times as large."""
    rng = np.random.default_rng(0)
    shift = np.array([0.3, -0.1, 0.2])
    draws = shift + rng.normal(size=(4000, 3)) * 0.7
    found = Deviation(draws @ draws.T)
    assert abs(found.squared_bias.value - shift @ shift) < 5 * found.squared_bias.error
    assert found.squared_bias.error < 0.15 * (shift @ shift)
    assert abs(found.squared.value - (shift @ shift + 3 * 0.49)) < 5 * found.squared.error


@pytest.mark.parametrize("parameterisation", ["ntk", "standard"])
def test_a_network_cut_out_of_a_wide_one_has_the_variances_of_its_own_width(parameterisation):
    spec = MLP(width=64, depth=2, weight_variance=1.7, bias_variance=0.2, parameterisation=parameterisation)
    wide = sample(spec.network(), jr.key(0), in_size=4)
    small = sample(spec.at_width(16).network(), jr.key(1), in_size=4)
    cut = [narrowed(wide, small, block) for block in range(4)]
    for layer in (0, 2, 4):
        both = [part.pieces[layer].weight_scale * part.pieces[layer].weight for part in cut]
        assert both[0].shape == small.pieces[layer].weight.shape
        variance = np.mean(np.square(both)) * both[0].shape[1]
        count = np.size(both)
        exact = 1.0 if layer == 4 else 1.7
        # The mean square of `count` normal numbers is right to sqrt(2 / count).
        assert abs(variance / exact - 1) < 5 * np.sqrt(2 / count)
    assert not np.any(cut[0].pieces[2].weight == cut[1].pieces[2].weight)


def test_the_whole_cut_out_is_the_whole():
    wide = sample(MLP(width=8, bias_variance=0.1).network(), jr.key(0), in_size=4)
    np.testing.assert_array_equal(narrowed(wide, wide)(jnp.asarray(X[0])), wide(jnp.asarray(X[0])))


def test_two_draws_are_refused():
    with pytest.raises(ValueError, match="at least three draws"):
        width_study(lambda width: MLP(width=width).network(), lambda _: None, X, WIDTHS, 2, jr.key(0))


def test_alignment_ignores_scale_and_constants_and_sees_orthogonality():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(9, 2))
    K = rng.normal(size=(9, 9))
    K = K @ K.T
    assert alignment(3 * K + 5, 2 * T - 1) == pytest.approx(alignment(K, T), rel=1e-12)
    apart = np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, -1.0])
    assert alignment(np.outer(apart[0], apart[0]), apart[1][:, None]) == pytest.approx(0.0, abs=1e-15)
    assert np.isnan(alignment(K, np.ones((9, 1))))
