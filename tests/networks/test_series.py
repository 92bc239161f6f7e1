"""Folded series are the series, and lose no digits however deep the network is."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.networks import MLP, kernel
from widthwise.networks.profile import Profile, clenshaw
from widthwise.networks.series import Factors, fold, summed

x = np.linspace(-1.0, 1.0, 201)


def value(parts: np.ndarray) -> np.ndarray:
    """Of folded coefficients (m, l)."""
    folds = len(parts)
    chebyshev = np.polynomial.chebyshev.chebvander(x, folds)
    return sum(
        chebyshev[:, r] * np.polynomial.polynomial.polyval(chebyshev[:, folds], part) for r, part in enumerate(parts)
    )


@pytest.mark.parametrize("count", [1, 2, 7, 30])
@pytest.mark.parametrize("folds", [2, 4, 8, 64])
def test_folding_keeps_the_polynomial(count, folds):
    coefficients = np.random.default_rng(count).normal(size=count) * 3.0 ** -np.arange(count)
    found = value(fold(coefficients[:, None], folds)[:, :, 0])
    np.testing.assert_allclose(found, clenshaw(coefficients, x), rtol=0, atol=1e-14)


def test_a_slow_series_is_folded_until_its_powers_are_small():
    """Powers of a series that falls slowly would sum to 1e4 times its value: so many digits would be gone."""
    coefficients = 1.3 ** -np.arange(60.0)
    flat = fold(coefficients[:, None], 2)
    assert np.abs(flat).sum() > 1e4
    rough = 1.1 ** -np.arange(200.0)[:, None, None]
    steep = Profile(1.0, 1.0, rough, rough, np.zeros((2, 1)), 0.0)
    assert Factors.of(steep, rough, 1e-13, np.inf).folds == 2
    chosen = Factors.of(steep, rough, 1e-13, 64.0)
    assert chosen.folds > 2
    assert max(np.abs(powers).sum() for powers in chosen.powers) < 64.0 / np.abs(chosen.columns[0, 0])


@pytest.mark.parametrize("size", [1, 3])
def test_the_compiled_expression_is_the_series(size):
    rng = np.random.default_rng(size)
    terms, folds = 2, 4
    powers, combinations, scale = (
        rng.normal(size=(terms * folds * size, 5)),
        rng.normal(size=(terms, 7)),
        rng.normal(size=5),
    )
    at = rng.uniform(-1.0, 1.0, (5, 7))
    start = jnp.asarray(rng.normal(size=(5, 7)))
    found = summed(start, at, powers, combinations, scale, sizes=(size,) * terms, folds=folds)
    chebyshev = np.polynomial.chebyshev.chebvander(at, folds)
    y = chebyshev[..., folds, None] ** np.arange(size)
    parts = powers.reshape(terms, folds, size, 5)
    wanted = np.einsum("srki,ijr,ijk,sj,i->ij", parts, chebyshev[..., :folds], y, combinations, scale)
    np.testing.assert_allclose(found, start + wanted, rtol=0, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_depth_costs_no_digits(dtype):
    network, X = MLP(depth=50, activation="relu").network(), np.random.default_rng(0).normal(size=(30, 5))
    exact, fast = kernel(network, X, method="pairs"), kernel(network, X, method="profile", dtype=dtype)
    own = np.sqrt(np.diag(exact.ntk))
    assert np.max(np.abs(fast.ntk - exact.ntk) / np.outer(own, own)) < fast.error
