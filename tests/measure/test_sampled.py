"""Kernels of finite networks, averaged until they are precise."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import sampled_kernel
from widthwise.networks import (
    Apply,
    Attention,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    kernel,
)

X = np.random.default_rng(0).normal(size=(3, 4, 2))
NETWORK = Chain((Conv(3, 1.5, 0.1), Apply("relu"), Flatten(), Dense(size=8)))


def test_draws_end_when_they_are_precise_enough():
    seen = []
    found = sampled_kernel(NETWORK, X, width=64, precision=0.04, progress=lambda *now: seen.append(now))
    assert found.reached and len(seen) == found.draws < 1000
    assert seen[-1][1] <= 0.04 < seen[-2][1]
    limit = kernel(NETWORK, X)
    for one, other in ((found.nngp, limit.nngp), (found.ntk, limit.ntk)):
        # one hidden layer: both kernels are right on average at every width
        assert np.all(np.abs(one.value - other) < 5 * one.error)


def test_rectangular_kernels_are_blocks_of_the_square_ones():
    key = jr.key(3)
    whole = sampled_kernel(NETWORK, X, width=8, precision=1e9, key=key)
    block = sampled_kernel(NETWORK, X[:1], X[1:], width=8, precision=1e9, key=key)
    assert whole.draws == block.draws == 8
    np.testing.assert_allclose(block.ntk.value, whole.ntk.value[:1, 1:], rtol=1e-12)
    np.testing.assert_allclose(block.nngp.error, whole.nngp.error[:1, 1:], rtol=1e-12)


def test_too_few_draws_are_said():
    assert not sampled_kernel(NETWORK, X, width=4, precision=1e-6, most=8).reached


def test_the_largest_of_two_channels_in_one_position_is_itself():
    """A window of one position changes nothing."""
    key = jr.key(1)
    plain, pooled = (
        sampled_kernel(Chain((Conv(3), *layer, Apply("relu"), Flatten(), Dense(size=2))), X, width=8, most=8, key=key)
        for layer in ((), (MaxPool(1),))
    )
    assert plain.nngp.value.shape == pooled.nngp.value.shape


def test_max_pooling_takes_the_largest():
    piece, shape = MaxPool((2, 2), 1, "SAME").sample(jr.key(0), (2, 2, 1))
    x = jnp.asarray([[1.0, -2.0], [-3.0, -4.0]])[..., None]
    assert shape == (2, 2, 1)
    np.testing.assert_array_equal(np.asarray(piece(x))[..., 0], [[1.0, -2.0], [-3.0, -4.0]])


@pytest.mark.slow
def test_batch_norm_makes_inputs_of_every_scale_alike():
    """Nothing but epsilon remembers the scale of a set of inputs."""
    network, key = Chain((Conv(3), BatchNorm(0.0), Apply("relu"), Flatten(), Dense(size=2))), jr.key(2)
    one, other = (sampled_kernel(network, scale * X, width=8, most=8, key=key) for scale in (1.0, 1e3))
    np.testing.assert_allclose(one.nngp.value, other.nngp.value, rtol=1e-9)
    both = Chain((Dense(), BatchNorm()))
    found = sampled_kernel(both, X.reshape(3, 8), width=64, precision=0.2)
    # every channel has mean zero and mean square one over the set
    np.testing.assert_allclose(found.nngp.value.sum(), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.trace(found.nngp.value), 3.0, rtol=1e-3)


@pytest.mark.slow
def test_softmax_attention_with_gaussian_logits_agrees_with_finite_networks():
    layers = (Conv(1, 1.44, 0.1), Attention("softmax", "root", 1.5, 1.2, 0.9, 1.1, 0.2, draws=2000))
    network = Chain((*layers, Flatten(), Dense(size=1)))
    limit = kernel(network, X[:2])
    assert 0 < limit.error < 0.03
    found = sampled_kernel(network, X[:2], width=32, precision=0.03, most=500)
    for one, other in ((found.nngp, limit.nngp), (found.ntk, limit.ntk)):
        # 1/width corrections have a relative constant of a few units
        assert np.all(np.abs(one.value - other) < 5 * one.error + (limit.error + 3 / 32) * other.max())


@pytest.mark.slow
def test_drawn_attention_without_logits_is_a_mean():
    """Without variance the logits are equal, the softmax is a mean, and nothing is left to draw."""
    drawn, mean = (
        kernel(Chain((Conv(1), Attention("softmax", scaling, 0.0, draws=8), Flatten())), X)
        for scaling in ("root", "linear")
    )
    np.testing.assert_allclose(drawn.nngp, mean.nngp, rtol=1e-12)
    np.testing.assert_allclose(drawn.ntk, mean.ntk, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kernel(Chain((Conv(3), MaxPool(2))), X), "no closed form for the maximum"),
        (lambda: kernel(Chain((Conv(3), BatchNorm())), X), "no closed form for a norm over"),
        (lambda: sampled_kernel(NETWORK, X, precision=0.0), "precision=0.0"),
        (lambda: sampled_kernel(NETWORK, X, most=3), "most=3"),
        (lambda: sampled_kernel(NETWORK, X, X[:, :3]), "must have the same shape"),
        (lambda: sampled_kernel(Conv(3), X), "End it in GlobalPool"),
        (lambda: MaxPool(0), "filter=0"),
        (lambda: BatchNorm(-1.0), "epsilon=-1.0"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
