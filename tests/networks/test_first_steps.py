"""What a newcomer types: networks, inputs and keys that are almost right, and progress of long work."""

import inspect

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise import measure
from widthwise.networks import (
    MLP,
    Apply,
    Attention,
    Chain,
    Conv,
    Dense,
    GlobalPool,
    Parallel,
    check_inputs,
    kernel,
    ntk_by_layer,
    pair_kernel,
    sample,
)
from widthwise.networks.inputs import Directions
from widthwise.networks.pairwise import pairwise
from widthwise.numerics import nearest

RELU = MLP(depth=1, activation="relu").network()
X = np.random.default_rng(0).normal(size=(5, 3))


def typed(function):
    """A function as users have it: without the checks of types that the tests put around it."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: typed(pair_kernel)(MLP(), X[0], X[1]), r"type MLP\. A network is a layer\. Call \.network\(\) on it"),
        (lambda: typed(sample)([Dense()], jr.key(0), 3), "type list.* Build a Chain"),
        (lambda: typed(measure.sampled_kernel)(MLP(), X), "type MLP"),
        (lambda: typed(ntk_by_layer)(MLP(), X), "type MLP"),
        (lambda: typed(sample)(Dense, jr.key(0), 3), "Build a Chain"),
        (lambda: Chain(Dense(), Apply("relu")), r"Chain\(Dense\(\), Apply.*Write Chain\(\[Dense\(\), Apply"),
        (lambda: Chain(Dense()), "stand in one tuple or list"),
        (lambda: Parallel(Dense()), r"Write Parallel\(\[one, other\], join\)"),
        (lambda: typed(sample)(RELU, 0, 3), r"key=0.*jax\.random\.key\(0\)"),
        (lambda: typed(sample)(RELU, jr.key(0), 3.0), "in_size=3.0"),
        (lambda: sample(RELU, jr.key(0), 3, width=0), "width=0"),
        (lambda: typed(measure.sampled_kernel)(RELU, X, key=3), "key=3"),
        (lambda: measure.sampled_kernel(RELU, X, width=0), "width=0"),
        (lambda: typed(measure.sampled_kernel)(RELU, X, most=8.5), "most=8.5"),
        (lambda: typed(measure.sampled_kernel)(RELU, X, precision="fine"), "precision='fine'"),
        (lambda: pair_kernel(RELU, [1j, 0.0], [1.0, 0.0]), "complex x"),
        (lambda: pair_kernel(RELU, 1.0, 2.0), r"shape \(\) and \(\)"),
        (lambda: kernel(RELU, X, tolerance=1e-20), r"an error of .* by rounding\. The tolerance is 1\.0e-20"),
    ],
)
def test_what_is_almost_right_is_refused_with_the_way_out(use, message):
    with pytest.raises(ValueError, match=message):
        use()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0, 2.0], [3.0]], r"no array can be made.* as many numbers as the others"),
        (None, "X of type NoneType"),
        ({"a": 1.0}, "X of type dict"),
        (np.ma.masked_array(X, X > 0), "masked entries"),
        (np.array([[1, 2]], dtype="m8[s]"), "timedelta64"),
    ],
)
def test_inputs_that_are_no_numbers_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        check_inputs("X", given)


def test_small_floats_and_masks_of_nothing_are_inputs():
    np.testing.assert_array_equal(check_inputs("X", jnp.array([[0.5, 2.0]], jnp.bfloat16)), [[0.5, 2.0]])
    np.testing.assert_array_equal(check_inputs("X", np.ma.masked_array(X)), X)


def test_inputs_too_large_for_their_square_are_refused_without_a_warning():
    with pytest.raises(ValueError, match="not finite"):
        kernel(RELU, [[1e200, 1e200]])


def test_sizes_may_be_whole_numbers_of_numpy():
    assert typed(sample)(RELU, jr.key(0), np.int64(3))(jnp.ones(3)).shape == (1,)


def test_a_pair_may_be_lists_and_whole_numbers():
    expected = kernel(RELU, [[1, 2]], [[3, -1]])
    nngp, ntk = pair_kernel(RELU, [1, 2], [3, -1])
    np.testing.assert_allclose([nngp, ntk], [expected.nngp[0, 0], expected.ntk[0, 0]], rtol=expected.error)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pair_with_an_input_that_is_not_finite_has_no_kernel(bad):
    values = jax.jit(lambda x, y: pair_kernel(RELU, x, y))(jnp.array([bad, 1.0]), jnp.ones(2))
    assert np.all(np.isnan(values))
    assert np.all(np.isfinite(jax.grad(lambda x: pair_kernel(RELU, x, x)[1])(jnp.ones(2))))


@pytest.mark.parametrize("rectangular", [False, True])
def test_pairs_tell_of_every_tile(rectangular):
    flat = Directions.of(np.random.default_rng(1).normal(size=(300, 2)))  # more than one tile
    told = []
    pairwise(RELU, flat, flat[:9] if rectangular else None, 1e-10, lambda *one: told.append(one))
    count = 2 if rectangular else 3
    assert told == [(done, count) for done in range(1, count + 1)]


def test_what_is_no_word_has_no_nearest():
    assert nearest(None, ["auto"]) == ""


@pytest.mark.slow
def test_drawn_attention_may_be_pooled():
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4))  # rounding leaves 3e-10, and the draws 1e-1
    network = Chain((Conv(1), Attention("softmax", "root", draws=8), GlobalPool(), Dense()))
    found = kernel(network, tokens)
    assert 1e-3 < found.error < 1.0
    assert np.all(np.isfinite(found.ntk))
