"""Layers on images, sequences and graphs: references, finite networks, exactness and refusals."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from networks.architectures import ALL, EVERY_LAYER, GRAPH, IMAGES, inputs
from widthwise.networks import (
    AbstractLayer,
    Apply,
    Attention,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    LayerNorm,
    MaxPool,
    Mix,
    Padded,
    Parallel,
    Pool,
    PositionalEmbedding,
    Residual,
    Resize,
    RMSNorm,
    Scale,
    Slice,
    kernel,
    sample,
)
from widthwise.networks.norm import NormedActivation
from widthwise.numerics import mean_and_sem
from widthwise.operators import flatten


def subclasses(kind):
    return {found for one in kind.__subclasses__() for found in (one, *subclasses(one))}


def test_every_layer_of_the_package_is_among_the_architectures():
    flat = {Apply, Chain, Dense, LayerNorm, NormedActivation, Padded, RMSNorm, Residual}
    unsolved = {BatchNorm, MaxPool}
    ours = {layer for layer in subclasses(AbstractLayer) if layer.__module__.startswith("widthwise.")}
    assert ours == {*EVERY_LAYER} | flat | unsolved


# Numbers of an independent implementation, on inputs that are a formula (index i, then positions, then channels).
i, h, w, c = np.indices((3, 6, 5, 2))
IMAGE = np.sin(1.0 + i + 2 * h + 3 * w + 5 * c + i * h)
CONVOLUTIONS = [
    ("relu", "SAME", 1, GlobalPool(), 0.36602701629893, 0.58631401894963),
    ("relu", "SAME", 1, Flatten(), 0.37317553217022, 0.58684731744909),
    ("relu", "SAME", 2, GlobalPool(), 0.30024471822426, 0.4626009646511),
    ("relu", "CIRCULAR", 1, GlobalPool(), 0.49573351663471, 0.81276232005924),
    ("relu", "VALID", 2, Flatten(), 0.28921076102572, 0.41284833838626),
    ("erf", "SAME", 1, GlobalPool(), 0.24792069883175, 0.52456851093689),
    ("erf", "CIRCULAR", 2, Flatten(), 0.22448159077798, 0.47371659246126),
]


def first_quick(cases, count):
    """Compilation takes seconds for each architecture, so most are among the slow tests."""
    return [pytest.param(*case, marks=[pytest.mark.slow] * (place >= count)) for place, case in enumerate(cases)]


@pytest.mark.parametrize(("name", "padding", "stride", "head", "nngp", "ntk"), first_quick(CONVOLUTIONS[::-1], 1))
def test_convolutions_have_the_reference_numbers(name, padding, stride, head, nngp, ntk):
    second = "SAME" if padding == "VALID" else padding
    layers = (Conv(3, 1.7, 0.2, strides=stride, padding=padding), Apply(name), Conv(3, 1.7, 0.2, padding=second))
    found = kernel(Chain((*layers, Apply(name), head, Dense(1.3, 0.05))), IMAGE)
    np.testing.assert_allclose([found.nngp[0, 1], found.ntk[0, 1]], [nngp, ntk], rtol=0, atol=2e-14)


i, a, k = np.indices((2, 4, 5))
TOKENS = np.sin(1.0 + i + 2 * a + 3 * k + i * a * k)


@pytest.mark.parametrize(
    ("weights", "scaling", "nngp", "ntk"),
    [
        ("softmax", "linear", 0.28380755297355, 0.55413842608806),
        ("identity", "root", 0.16004552584257, 0.38352704171006),
    ],
)
def test_attention_has_the_reference_numbers(weights, scaling, nngp, ntk):
    attention = Attention(weights, scaling, 1.3**2, 1.0, 1.1**2, 1.0, 0.3**2)
    found = kernel(Chain((Conv(1, 1.44, 0.04), Apply("relu"), attention)), TOKENS)
    assert found.nngp.shape == (2, 2, 4, 4)
    np.testing.assert_allclose([found.nngp[0, 1, 0, 1], found.ntk[0, 1, 0, 1]], [nngp, ntk], rtol=0, atol=2e-14)


def test_residual_layer_norm_has_the_reference_numbers():
    i, j = np.indices((4, 7))
    block = Residual(Chain((Apply("relu"), Dense(2.0, 0.01))), 0.7)
    network = Chain((Dense(1.0, 0.01), block, block, block, LayerNorm(), Apply("relu"), Dense()))
    found = kernel(network, np.sin(1.0 + i + 3 * j + i * j))
    numbers = [found.nngp[0, 1], found.ntk[0, 1], found.nngp[0, 0], found.ntk[0, 0]]
    # The reference has an epsilon of 1e-12 of its own, as ours.
    np.testing.assert_allclose(
        numbers, [0.23219378308576713, 0.32507820920175, 0.5, 1.48748533856414], rtol=0, atol=2e-12
    )


def brute_force(layer, x, y):
    """The linear layer's covariance by its finite piece: apply it to all positions as channels of unit signals."""
    piece = layer.sample(jr.key(0), x.shape, 1)[0]
    positions = x.shape[:-1]
    count = int(np.prod(positions))
    unit = jnp.eye(count).reshape(*positions, count)
    matrix = np.asarray(piece(unit)).reshape(-1, count)
    return matrix @ (x.reshape(count, -1) @ y.reshape(count, -1).T / x.shape[-1]) @ matrix.T


LINEAR = [
    (Pool(2), (6, 3)),
    (Pool((3, 2), (1, 2), "SAME"), (5, 4, 3)),
    (Pool(3, 2, "SAME", "average", normalise_edges=True), (5, 4, 3)),
    (Pool(3, 1, "CIRCULAR", "sum"), (5, 3)),
    (GlobalPool(), (4, 3, 2)),
    (GlobalPool("sum"), (4, 2)),
    (Resize((7, 2), "cubic"), (4, 3, 2)),
    (Resize((3,), "nearest"), (6, 2)),
    (Mix(GRAPH), (5, 2)),
    (Mix(GRAPH[:2], axis=1), (3, 5, 2)),
    (Slice((slice(1, None), -1)), (4, 3, 2)),
    (Slice(slice(None, None, -2)), (5, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), first_quick(LINEAR[1::2] + LINEAR[::2], 3), ids=itertools.count())
def test_linear_layers_equal_their_matrices(layer, shape):
    x, y = np.random.default_rng(1).normal(size=(2, *shape))
    found = kernel(layer, x[None], y[None]).nngp[0, 0]
    wanted = brute_force(layer, x, y).reshape(found.shape)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14 * np.abs(x).max() ** 2 * 30)


def entk(f, X):
    vector, rebuild = flatten(f)
    J = jax.jacrev(lambda v: jax.vmap(rebuild(v))(X)[:, 0])(vector)
    return J @ J.T


QUICK = ("slice",)
FINITE = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in ALL]


@pytest.mark.parametrize("name", FINITE)
def test_finite_networks_have_the_kernel_on_average(name):
    """The mean over draws is off by O(1/width) and the standard error; both are seen here."""
    network, X = ALL[name], jnp.asarray(inputs(name, 2))
    width, draws = (48, 100) if "attention" in name else (96, 100)
    limit = kernel(network, X).ntk
    empirical = jax.jit(lambda key: entk(sample(network, key, X.shape[1:], width), X))
    measured = mean_and_sem(np.stack([empirical(key) for key in jr.split(jr.key(7), draws)]))
    scale = limit.max()
    assert np.all(measured.error < (0.15 if "attention" in name else 0.06) * scale)
    # 1/width corrections have relative constants of a few units; attention multiplies three matrices.
    correction = (10 if "attention" in name else 5) / width
    assert np.all(np.abs(measured.value - limit) < 5 * measured.error + correction * scale)


EXACT = [pytest.param(name, marks=[pytest.mark.slow] * (name != "attention, linear")) for name in ALL]


@pytest.mark.parametrize("name", EXACT)
def test_kernels_are_symmetric_positive_and_those_of_pairs(name):
    """Equal, opposite, zero and nearly equal inputs among them."""
    X = inputs(name, 3)
    X = np.concatenate([X, X[:1], -X[1:2], 0.0 * X[:1], X[2:] * (1 + 1e-9)])
    found, pairs = kernel(ALL[name], X), kernel(ALL[name], X, X.copy())
    for matrix, other in ((found.nngp, pairs.nngp), (found.ntk, pairs.ntk)):
        assert np.array_equal(matrix, matrix.T)
        np.testing.assert_array_max_ulp(matrix[0], matrix[3], 4)
        largest = np.abs(matrix).max()
        assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * largest
        # Sums of correlated signals are known to half the digits of their angle, at inputs that are nearly equal.
        np.testing.assert_allclose(
            matrix, other, rtol=0, atol=(1e-13 + found.error + 1e-7 * ("pool" in name)) * largest
        )


@pytest.mark.parametrize(
    "name", ["valid, strides", *(pytest.param(n, marks=pytest.mark.slow) for n in ("pool", "image"))]
)
@pytest.mark.slow
def test_tiles_change_nothing(monkeypatch, name):
    X, Y = inputs(name, 7), inputs(name, 5, seed=1)
    whole = kernel(ALL[name], X, tolerance=1e-13), kernel(ALL[name], X, Y, tolerance=1e-13)
    monkeypatch.setattr("widthwise.networks.pairwise._ENTRIES", 3**2 * (5 if "valid" in name else 16**2))
    tiled = kernel(ALL[name], X, tolerance=1e-13), kernel(ALL[name], X, Y, tolerance=1e-13)
    for one, other in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(one.ntk, other.ntk, rtol=0, atol=2e-13 * one.ntk.max())
        np.testing.assert_allclose(one.nngp, other.nngp, rtol=0, atol=2e-13 * one.nngp.max())


@pytest.mark.slow
def test_positions_that_are_kept_are_positions_of_the_kernel():
    """The kernel of (y, x) is that of (x, y) with inputs and positions exchanged, and readouts are means of it."""
    body = (Conv(3, 1.5, 0.1), Apply("relu"))
    X, Y = inputs("same", 3), inputs("same", 2, seed=1)
    found, back = kernel(Chain(body), X, Y), kernel(Chain(body), Y, X)
    assert found.ntk.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(found.ntk, back.ntk.transpose(1, 0, 3, 2), rtol=1e-13)
    pooled, flat = (kernel(Chain((*body, head)), X, Y).nngp for head in (GlobalPool(), Flatten()))
    np.testing.assert_allclose(pooled, found.nngp.mean((2, 3)), rtol=1e-13)
    np.testing.assert_allclose(flat, np.trace(found.nngp, axis1=2, axis2=3) / 5, rtol=1e-13)
    itself = kernel(Chain(body), X)
    assert np.array_equal(itself.nngp, itself.nngp.transpose(1, 0, 3, 2))


def test_dropout_adds_to_the_diagonal_alone():
    X = np.random.default_rng(0).normal(size=(4, 3))
    with_mask, without = (kernel(Chain((Dense(), *extra, Dense())), X) for extra in ((Dropout(0.8),), ()))
    for one, other in ((with_mask.nngp, without.nngp), (with_mask.ntk, without.ntk)):
        # the readout sees the mask; both layers pass it on
        wanted = other + np.diag(np.diag(other)) * (1 / 0.8 - 1)
        np.testing.assert_allclose(one, wanted, rtol=1e-13)


@pytest.mark.slow
def test_dropout_of_positions_spares_different_positions():
    X = inputs("same", 2)
    dropped = kernel(Chain((Conv(1), Dropout(0.5), GlobalPool())), X).nngp
    plain, equal = (kernel(Chain((Conv(1), head)), X).nngp for head in (GlobalPool(), Flatten()))
    np.testing.assert_allclose(dropped, plain + np.diag(np.diag(equal)) / 5, rtol=1e-13)


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_finite_dropout_has_the_stated_moments(keep):
    piece = Dropout(keep).sample(jr.key(0), (4000,))[0](jnp.ones(4000))
    spread = np.sqrt((1 / keep - 1) / 4000)
    assert abs(float(jnp.mean(piece)) - 1) <= 5 * spread
    assert set(np.unique(piece)) <= {0.0, 1 / keep}


def test_standard_convolutions_weigh_by_their_fan_in():
    """The tangent kernel of layer l in the standard parameterisation is n/C_w times that in the NTK one."""
    X, n = inputs("same", 2), 16

    def network(parameterisation, rate):
        options = {"size": n, "parameterisation": parameterisation}
        return Chain((Conv(3, 1.5, **options), Apply("relu"), Conv(3, 1.2, weight_rate=rate, **options), Flatten()))

    second = [kernel(network(kind, 1.0), X).ntk - kernel(network(kind, 0.0), X).ntk for kind in ("ntk", "standard")]
    np.testing.assert_allclose(second[1], second[0] * 3 * n / 1.2, rtol=1e-12)


BAD = [
    (lambda: kernel(Conv((3, 3)), np.ones((2, 5, 3))), r"positions of shape \(5,\)"),
    (lambda: kernel(Conv(3), np.ones((2, 5))), "no positions"),
    (lambda: kernel(Conv(7, padding="VALID"), np.ones((2, 5, 3))), "a window of 7 needs"),
    (lambda: Conv(0), "filter=0"),
    (lambda: Conv((3, 0)), "filter="),
    (lambda: Conv(3, padding="SAEM"), "did you mean 'SAME'"),
    (lambda: Conv(3, -1.0), "weight_variance=-1.0"),
    (lambda: Conv(3, weight_rate=-1.0), "weight_rate=-1.0"),
    (lambda: Conv(3, strides=(1, 0)), "strides="),
    (lambda: kernel(Conv(3, strides=(1, 2)), np.ones((2, 5, 3))), "strides="),
    (lambda: kernel(GlobalPool(), np.ones((2, 5))), "without positions"),
    (lambda: kernel(Flatten(), np.ones((2, 5))), "without positions"),
    (lambda: Pool(2, kind="max"), "no closed kernel"),
    (lambda: Pool(2, kind="mean"), "kind='mean'"),
    (lambda: kernel(LayerNorm(), np.ones((2, 5))), "not Gaussian in the limit"),
    (
        lambda: kernel(Chain((Conv(3), Apply("relu"), Pool(2), LayerNorm())), np.ones((2, 5, 1))),
        "not Gaussian in the limit",
    ),
    (lambda: kernel(Chain((Dense(), Dropout(0.5), Apply("relu"))), np.ones((2, 5))), "not Gaussian in the limit"),
    (lambda: Attention(scaling="square"), "scaling='square'"),
    (lambda: Attention("sofmax"), "did you mean 'softmax'"),
    (lambda: kernel(Attention(), np.ones((2, 5))), "without positions"),
    (lambda: Parallel((Dense(),)), "two layers or more"),
    (lambda: Parallel((Dense(), Dense()), "add"), "join='add'"),
    (lambda: Parallel((Apply("relu"), Apply("relu"))), "must be independent"),
    (lambda: Parallel((Dense(), Apply("relu")), "product"), "must be independent"),
    (lambda: kernel(Parallel((Dense(), Dense()), "concatenate"), np.ones((2, 5))), "unknown size"),
    (lambda: kernel(Parallel((Conv(3), Conv(3, strides=2))), np.ones((2, 5, 1))), r"\(5,\) and \(3,\)"),
    (lambda: kernel(Residual(Conv(3, strides=2)), np.ones((2, 5, 1))), r"from positions \(5,\) to \(3,\)"),
    (lambda: sample(Parallel((Dense(size=2), Dense(size=3))), jr.key(0), 4), "2 coordinates and 3 coordinates"),
    (lambda: Dropout(0.0), "keep=0.0"),
    (lambda: Dropout(1.5), "keep=1.5"),
    (lambda: Slice(True), "index="),
    (lambda: kernel(Slice(5), np.ones((2, 5, 1))), r"positions of shape \(5,\)"),
    (lambda: kernel(Slice(slice(3, 3)), np.ones((2, 5, 1))), "choose positions that exist"),
    (lambda: Resize((0,)), r"shape=\(0,\)"),
    (lambda: Resize((4,), "linaer"), "did you mean 'linear'"),
    (lambda: kernel(Resize((4, 4)), np.ones((2, 5, 1))), "one number for each axis"),
    (lambda: Mix([1.0, 2.0]), r"a matrix of shape \(2,\)"),
    (lambda: Mix([[np.nan]]), "finite entries"),
    (lambda: kernel(Mix(GRAPH), np.ones((2, 4, 1))), "a Mix of 5 positions"),
    (lambda: PositionalEmbedding(-1.0), "variance=-1.0"),
    (lambda: kernel(PositionalEmbedding(), np.ones((2, 4))), "without positions"),
    (lambda: kernel(Conv(3), np.ones((2, 5, 3)), np.ones((2, 4, 3))), r"inputs of shape \(5, 3\)"),
    (lambda: kernel(Conv(3), np.full((2, 5, 3), np.nan)), r"index \(0, 0, 0\)"),
    (lambda: kernel(GlobalPool(), np.ones((2, 5, 3)), method="profile"), "flat inputs"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=itertools.count())
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_scale_multiplies_kernels_by_its_square():
    X = inputs("same", 2)
    np.testing.assert_allclose(kernel(Chain((Conv(3), Scale(3.0))), X).ntk, 9 * kernel(Conv(3), X).ntk, rtol=1e-14)


def test_images_are_among_the_architectures():
    assert all(inputs(name).ndim == 4 for name in IMAGES)
