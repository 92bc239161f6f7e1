"""The law of an infinitely wide network in training, against references and against linear Gaussian models."""

import math

import jax.random as jr
import numpy as np
import pytest
import scipy.linalg

from widthwise.networks import MLP, kernel
from widthwise.numerics import Steps
from widthwise.theory.infinite_width import ensemble

# The printed digits of the references end here; the kernels themselves are right to a few ulps.
PRINTED = 1e-12


def circle(*degrees):
    return np.sqrt(2) * np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)])


@pytest.fixture(scope="module")
def reference():
    """ReLU, three hidden layers, C_w = 2, readout C_w = 1, no bias; three training and two test angles."""
    train, test = circle(0, 60, 150), circle(30, 100)
    network = MLP(depth=3, activation="relu").network()
    K, cross, own = kernel(network, train), kernel(network, test, train), kernel(network, test)
    return ensemble(K.ntk, K.nngp, [[1.0], [-1.0], [0.5]], loss="half-sum"), K, cross, own


@pytest.mark.parametrize(
    ("time", "mean", "variance"),
    [
        (0.1, (0.022833057262, -0.051780120253), (0.365285441233, 0.491494309416)),
        (1.0, (-0.007592489678, -0.344969789838), (0.06307885655, 0.173107801951)),
        (math.inf, (-0.018266675984, -0.401875069028), (0.06212607851, 0.168290903791)),
    ],
)
def test_reference_numbers(reference, time, mean, variance):
    law, _, cross, own = reference
    np.testing.assert_allclose(law.test_mean(time, cross.ntk)[:, 0], mean, atol=PRINTED)
    covariance = law.test_covariance(time, cross.ntk, cross.nngp, own.nngp)
    np.testing.assert_allclose(np.diag(covariance), variance, atol=PRINTED)
    alone = law.test_variance(time, cross.ntk, cross.nngp, np.diag(own.nngp))
    np.testing.assert_allclose(alone, np.diag(covariance), atol=PRINTED)
    if time == math.inf:
        assert covariance[0, 1] == pytest.approx(-0.026652284141, abs=PRINTED)


def test_the_reference_kernels(reference):
    _, K, _, _ = reference
    upper = np.triu_indices(3, 1)
    np.testing.assert_allclose(K.nngp[upper], [0.738128192301, 0.498229768488, 0.604825720113], atol=PRINTED)
    np.testing.assert_allclose(K.ntk[upper], [1.737844679215, 0.655922096534, 1.060388106803], atol=PRINTED)


def test_one_slower_clock_is_the_mean_loss(reference):
    law, K, cross, _ = reference
    mean = ensemble(K.ntk, K.nngp, law.y, loss="half-mean")
    np.testing.assert_allclose(mean.test_mean(3 * 0.7, cross.ntk), law.test_mean(0.7, cross.ntk), rtol=1e-13)
    assert mean.risk(3 * 0.7) == pytest.approx(law.risk(0.7) / 3, rel=1e-13)
    assert mean.risk_spread(3 * 0.7) == pytest.approx(law.risk_spread(0.7) / 3, rel=1e-13)


def linear_gaussian(seed=0, n=4, m=2, p=40):
    """A model linear in Gaussian parameters: its law is exact at any width."""
    rng = np.random.default_rng(seed)
    features, root = rng.normal(size=(n + m, p)), rng.normal(size=(p, p)) / 4
    return features, root @ root.T, rng.normal(size=(n, 1)), n


def test_the_law_of_a_linear_gaussian_model_is_exact():
    features, prior, y, n = linear_gaussian()
    time = 0.013
    ntk, nngp = features @ features.T, features @ prior @ features.T
    law = ensemble(ntk[:n, :n], nngp[:n, :n], y, loss="half-sum")
    X = features[:n]
    gain = X.T @ np.linalg.solve(ntk[:n, :n], np.eye(n) - scipy.linalg.expm(-ntk[:n, :n] * time))
    stays = np.eye(features.shape[1]) - gain @ X
    covariance = features @ stays @ prior @ stays.T @ features.T
    rounding = 1e4 * np.finfo(float).eps * np.abs(nngp).max()
    np.testing.assert_allclose(law.test_mean(time, ntk[n:, :n]), features[n:] @ gain @ y, atol=rounding)
    np.testing.assert_allclose(law.mean(time), X @ gain @ y, atol=rounding)
    np.testing.assert_allclose(law.covariance(time), covariance[:n, :n], atol=rounding)
    own = law.test_covariance(time, ntk[n:, :n], nngp[n:, :n], nngp[n:, n:])
    np.testing.assert_allclose(own, covariance[n:, n:], atol=rounding)


def test_steps_are_gradient_descent_on_that_model():
    features, prior, y, n = linear_gaussian()
    X, ntk, nngp = features[:n], features @ features.T, features @ prior @ features.T
    size, weights = 0.005, np.zeros((features.shape[1], 1))
    for _ in range(7):
        weights = weights - size * X.T @ (X @ weights - y)
    law = ensemble(ntk[:n, :n], nngp[:n, :n], y, loss="half-sum")
    rounding = 1e4 * np.finfo(float).eps * np.abs(y).max()
    np.testing.assert_allclose(law.mean(Steps(7, size)), X @ weights, atol=rounding)
    np.testing.assert_allclose(law.test_mean(Steps(7, size), ntk[n:, :n]), features[n:] @ weights, atol=rounding)


@pytest.mark.parametrize("moment", [0.0, 0.3, Steps(4, 0.2)])
def test_mean_and_spread_of_the_loss_are_those_of_draws(reference, moment):
    _, K, _, _ = reference
    y = np.array([[1.0, 0.2], [-1.0, 0.3], [0.5, -2.0]])
    law = ensemble(K.ntk, K.nngp, y, loss="half-mean")
    draws = 40_000
    root = np.linalg.cholesky(K.nngp)
    start = np.einsum("ij,sjk->sik", root, np.asarray(jr.normal(jr.key(0), (draws, 3, 2))))
    left = law.ntk.vectors * law._left(moment) @ law.ntk.vectors.T
    losses = 0.5 * np.mean(np.sum(np.einsum("ij,sjk->sik", left, start - y) ** 2, axis=2), axis=1)
    error = losses.std() / math.sqrt(draws)
    assert abs(losses.mean() - law.risk(moment)) < 5 * error
    assert error < 0.01 * law.risk(moment)
    # The standard error of a standard deviation is s sqrt((kurtosis - 1)/4 draws).
    kurtosis = np.mean((losses - losses.mean()) ** 4) / losses.std() ** 4
    assert abs(losses.std() - law.risk_spread(moment)) < 5 * losses.std() * math.sqrt((kurtosis - 1) / (4 * draws))


def test_what_the_kernel_does_not_see_stays(reference):
    y = np.array([[1.0], [3.0], [0.0]])
    ntk = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])  # the first two inputs are equal
    law = ensemble(ntk, ntk, y, loss="half-sum")
    np.testing.assert_allclose(law.mean(math.inf)[:, 0], [2.0, 2.0, 0.0], atol=1e-15)
    assert law.risk(math.inf) == pytest.approx(1.0, abs=1e-15)
    assert law.mean(Steps(10**6, 0.1))[:, 0] == pytest.approx([2.0, 2.0, 0.0], abs=1e-15)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"y\[:, None\]"):
        ensemble(np.eye(2), np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        ensemble(np.eye(2), np.eye(3), np.ones((2, 1)))
    with pytest.raises(ValueError, match="'half-mean'"):
        ensemble(np.eye(2), np.eye(2), np.ones((2, 1)), loss="mean")
