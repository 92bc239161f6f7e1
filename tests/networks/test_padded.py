"""Networks on sequences of different lengths, padded with zeros."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import (
    Apply,
    Attention,
    Chain,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    LayerNorm,
    Padded,
    Parallel,
    Pool,
    PositionalEmbedding,
    Residual,
    Slice,
    kernel,
    pair_kernel,
    sample,
)
from widthwise.numerics import mean_and_sem
from widthwise.operators import flatten


def conv(**options):
    return Conv((3,), 1.5, 0.3, **options)


HEAD = (GlobalPool(), Dense(size=1))
NETWORKS = {
    "biases": Chain((Dense(1.5, 0.3), Apply("relu"), Dense(1.2, 0.2), Apply("erf"), *HEAD)),
    "convolution": Chain((conv(), Apply("relu"), conv(), Apply("relu"), *HEAD)),
    "attention": Chain(
        (Dense(1.5, 0.3), Attention("softmax", "linear", 1.2, 1.1, 0.9, 1.3, 0.1), Apply("relu"), *HEAD)
    ),
    "entrywise": Chain((Dense(1.0, 0.3), Attention("relu", "root", 0.5, 0.6, 0.7, 1.1, 0.1), Apply("relu"), *HEAD)),
    "branches": Chain(
        (
            conv(),
            Residual(Chain((Apply("relu"), Attention(bias_variance=0.2)))),
            Parallel((Dense(), Chain((Apply("relu"), LayerNorm(), conv())))),
            *HEAD,
        )
    ),
    "embedding": Chain((Dense(1.0, 0.3), PositionalEmbedding(0.5, 2.0), Apply("relu"), *HEAD)),
}
DRAW = np.random.default_rng(0).normal(size=(3, 5, 2))


def padded(X, *lengths):
    """The inputs with zeros after so many positions."""
    kept = np.arange(X.shape[1]) < np.array(lengths)[:, None]
    return np.where(kept[:, :, None], X, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_amount_of_padding_does_not_matter(name):
    network = Padded(NETWORKS[name])
    short, long = kernel(network, DRAW[:2, :3]), kernel(network, padded(DRAW[:2], 3, 3))
    plain = kernel(NETWORKS[name], DRAW[:2, :3])
    for found in (short, long):
        np.testing.assert_allclose(found.nngp, plain.nngp, rtol=0, atol=1e-14 * plain.nngp.max())
        np.testing.assert_allclose(found.ntk, plain.ntk, rtol=0, atol=1e-14 * plain.ntk.max())


@pytest.mark.slow
def test_drawn_attention_leaves_padding_out():
    network = Chain((Dense(), Attention("softmax", "root", draws=2048), *HEAD))
    plain = kernel(network, DRAW[:2, :3], tolerance=1e-8)
    long = kernel(Padded(network), padded(DRAW[:2], 3, 3), tolerance=1e-8)
    assert np.all(np.abs(plain.ntk - long.ntk) < (plain.error + long.error) * plain.ntk.max())


def test_a_finite_network_does_not_see_padding_either():
    for name in ("attention", "branches"):
        network = Padded(NETWORKS[name])
        short, long = (sample(network, jr.key(0), (length, 2), width=6) for length in (3, 5))
        x = padded(DRAW[:1], 3)[0]
        assert float(short(jnp.asarray(x[:3]))[0]) == pytest.approx(float(long(jnp.asarray(x))[0]), rel=1e-12)


FINITE = {**NETWORKS, "flatten": Chain((conv(), Apply("relu"), Flatten(), Dense(1.0, 0.2, 1)))}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FINITE if name != "entrywise"])
def test_finite_networks_have_the_kernel_on_average(name):
    """Inputs of three lengths."""
    network, X, width = Padded(FINITE[name]), jnp.asarray(padded(DRAW, 5, 3, 2)), 96
    limit = kernel(network, X).ntk

    @jax.jit
    def empirical(key):
        vector, rebuild = flatten(sample(network, key, (5, 2), width))
        jacobian = jax.jacrev(lambda v: jax.vmap(rebuild(v))(X)[:, 0])(vector)
        return jacobian @ jacobian.T

    measured = mean_and_sem(np.stack([empirical(key) for key in jr.split(jr.key(7), 100)]))
    assert np.all(measured.error < 0.06 * limit.max())
    correction = (10 if name in ("attention", "branches") else 5) / width
    assert np.all(np.abs(measured.value - limit) < 5 * measured.error + correction * limit.max())


@pytest.mark.slow
def test_nothing_but_padding():
    network = Padded(NETWORKS["attention"])
    X = padded(DRAW, 5, 0, 1)
    found = kernel(network, X)
    assert np.all(np.isfinite(found.ntk)) and np.linalg.eigvalsh(found.ntk)[0] > -1e-12 * found.ntk.max()
    assert found.nngp[1, 1] == 0.0
    slope = jax.grad(lambda x: pair_kernel(network, x, jnp.asarray(X[0]))[1])
    assert all(np.all(np.isfinite(slope(jnp.asarray(x)))) for x in X)
    model = sample(network, jr.key(0), (5, 2), width=4)
    assert float(model(jnp.asarray(X[1]))[0]) == 0.0


REFUSED = [
    (Chain((Pool(2), Dense())), DRAW, r"Pool\(filter=2\) on padded inputs, from positions \(5,\) to \(2,\)"),
    (Chain((conv(strides=2), Dense())), DRAW, "strides of 1"),
    (Dense(), DRAW[:, 0], "without positions"),
]


@pytest.mark.parametrize(("network", "X", "message"), REFUSED, ids=["pool", "strides", "flat"])
def test_refusals(network, X, message):
    with pytest.raises(ValueError, match=message):
        kernel(Padded(network), X)
    with pytest.raises(ValueError, match=r"on padded inputs|without positions"):
        sample(Padded(network), jr.key(0), X.shape[1:], width=3)(jnp.asarray(X[0]))


@pytest.mark.slow
def test_one_position_may_be_taken():
    network = Padded(Chain((Dense(1.0, 0.3), Apply("relu"), Attention(), Slice(0), Dense())))
    short, long = kernel(network, DRAW[:2, :3]), kernel(network, padded(DRAW[:2], 3, 3))
    np.testing.assert_allclose(long.ntk, short.ntk, rtol=1e-14)
